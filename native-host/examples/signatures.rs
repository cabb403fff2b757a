//! For tests in JavaScript, as lines of JSON: the signatures that `tests/signatures.rs` checks, by key, and tokens that
//! were signed in Rust.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "only tests run it")]

use std::io::{BufWriter, Write, stdout};

use jwt_compact::{
    Algorithm, AlgorithmExt, Claims, Header,
    alg::{Ed25519, Es256, Hs256, Hs256Key, SigningKey},
    jwk::JsonWebKey,
};
use serde_json::{Value, json};
use wycheproof::{Group, encode};

#[path = "../tests/wycheproof/mod.rs"]
mod wycheproof;

fn main() -> std::io::Result<()> {
    use wycheproof::{ed25519, es256, es256_as_der, ps256, rsa};
    let mut out = BufWriter::new(stdout().lock());
    for group in [es256(), es256_as_der(), rsa(), ps256(), ed25519()].iter().flatten() {
        writeln!(out, "{}", checks(group))?;
    }
    for token in tokens() {
        writeln!(out, "{token}")?;
    }
    out.flush()
}

/// The key as the Worker hands it to the platform.
fn checks(group: &Group) -> Value {
    let keys = group.keys();
    let key = keys.iter().next().unwrap();
    let check = |vector: &wycheproof::Vector| {
        json!({
            "id": vector.id, "message": encode(&vector.message), "signature": encode(&vector.signature), "is_right": vector.is_right,
        })
    };
    let checks: Vec<Value> = group.vectors.iter().map(check).collect();
    json!({"set": group.set, "algorithm": key.algorithm.name(), "jwk": key.to_jwk(), "checks": checks})
}

fn tokens() -> [Value; 3] {
    let es256 = <Es256 as Algorithm>::SigningKey::from_slice(&[7; 32]).unwrap();
    let ed25519 = <Ed25519 as Algorithm>::SigningKey::from_bytes(&[7; 32]);
    let hs256 = Hs256Key::new([7; 32]);
    [
        token(&Es256, &es256, &JsonWebKey::from(&es256.to_verifying_key())),
        token(&Ed25519, &ed25519, &JsonWebKey::from(&ed25519.to_verifying_key())),
        token(&Hs256, &hs256, &JsonWebKey::from(&hs256)),
    ]
}

fn token<A: Algorithm>(algorithm: &A, key: &A::SigningKey, jwk: &JsonWebKey<'_>) -> Value {
    let claims = Claims::new(json!({"sub": "signed in Rust"}));
    json!({"algorithm": algorithm.name(), "jwk": jwk, "token": algorithm.token(&Header::empty(), &claims, key).unwrap()})
}
