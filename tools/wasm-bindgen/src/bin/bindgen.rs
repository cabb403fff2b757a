//! `wasm-bindgen` itself: makes a JavaScript module of a compiled WebAssembly file. (A crate may not take that name: rustc
//! warns of old versions by it.)

fn main() {
    if let Err(error) = wasm_bindgen_cli::wasm_bindgen::run_cli_with_args(std::env::args_os()) {
        eprintln!("wasm-bindgen: {error:#}");
        std::process::exit(1);
    }
}
