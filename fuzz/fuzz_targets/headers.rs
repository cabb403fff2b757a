//! libFuzzer's way into `nodetool_edge_auth_fuzz::headers`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    nodetool_edge_auth_fuzz::headers(data);
});
