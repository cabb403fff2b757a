/** The compiled core: for `load` of `nodetool-edge-auth/wasm`, where a runtime or bundler makes a module of such a file. */
declare const module: WebAssembly.Module;
export default module;
