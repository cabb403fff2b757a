//! `wasm-bindgen` for this project's builds: makes an ES module of a compiled WebAssembly file.
//!
//! `bindgen [--reset-state] [--omit-default-module-path] [--strip] OUT_NAME OUT_DIR WASM_FILE`

use std::process::ExitCode;

use wasm_bindgen_cli_support::Bindgen;

fn main() -> ExitCode {
    let (flags, files): (Vec<_>, Vec<_>) = std::env::args().skip(1).partition(|word| word.starts_with("--"));
    let [name, folder, wasm] = files.as_slice() else {
        eprintln!("bindgen takes OUT_NAME OUT_DIR WASM_FILE");
        return ExitCode::FAILURE;
    };
    let mut bindgen = Bindgen::new();
    bindgen.input_path(wasm).out_name(name).typescript(false);
    for flag in flags {
        match flag.as_str() {
            "--reset-state" => bindgen.reset_state_function(true),
            "--omit-default-module-path" => bindgen.omit_default_module_path(true),
            "--strip" => bindgen.remove_name_section(true).remove_producers_section(true),
            _ => {
                eprintln!("bindgen does not know {flag}");
                return ExitCode::FAILURE;
            }
        };
    }
    match bindgen.web(true).and_then(|bindgen| bindgen.generate(folder)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bindgen: {error:#}");
            ExitCode::FAILURE
        }
    }
}
