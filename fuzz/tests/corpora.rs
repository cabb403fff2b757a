//! What the fuzzer found on its way, replayed without it.
#![expect(clippy::unwrap_used, reason = "a test that panics has failed, as it should")]

use std::{fs, panic, path::Path};

use nodetool_edge_auth_fuzz::{headers, jwks, path, proxy, settings, token};

fn replay(name: &str, target: fn(&[u8]) -> bool) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let (mut accepted, mut refused, mut findings) = (0_usize, 0_usize, Vec::new());
    for file in fs::read_dir(&folder).unwrap().map(Result::unwrap) {
        let input = fs::read(file.path()).unwrap();
        match panic::catch_unwind(|| target(&input)) {
            Ok(true) => accepted += 1,
            Ok(false) => refused += 1,
            Err(_) => findings.push(file.path()),
        }
    }
    assert!(findings.is_empty(), "what is wrong stands above; the inputs are {findings:#?}");
    // A corpus that no longer gets past the first check proves nothing.
    assert!(accepted > 9 && refused > 9, "of the corpus {accepted} inputs are accepted and {refused} refused");
}

#[test]
fn tokens() {
    replay("token", token);
}

#[test]
fn key_sets() {
    replay("jwks", jwks);
}

#[test]
fn environments() {
    replay("settings", settings);
}

#[test]
fn paths() {
    replay("path", path);
}

#[test]
fn requests() {
    replay("headers", headers);
}

#[test]
fn connections() {
    replay("proxy", proxy);
}
