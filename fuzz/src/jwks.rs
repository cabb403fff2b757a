use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use nodetool_edge_auth::{Algorithm, Jwks, Key, MAX_JWKS, Material};
use serde_json::Value;

use crate::json::strict;

/// A document of the key server. Accepted is one with a key that can verify something.
pub fn jwks(data: &[u8]) -> bool {
    let parsed = Jwks::parse(data);
    assert_eq!(parsed, Jwks::parse(data), "the same document, read twice");
    let document = strict(data).filter(|_| data.len() <= MAX_JWKS);
    let listed =
        document.as_ref().and_then(|document| document.as_object()?.get("keys")?.as_array()).filter(|keys| keys.len() <= 64);
    // Not one key of a document is used if any of it could be read in two ways.
    assert_eq!(parsed.is_some(), listed.is_some(), "whether it is a key set");
    let (Some(keys), Some(listed)) = (parsed, listed) else { return false };

    // In their order: each key must be one that is listed, after the one before.
    let mut rest = listed.iter();
    for key in keys.iter() {
        assert!(rest.any(|jwk| is_listed(key, jwk)), "no key of the document: {key:?}");
        check_size(key);
        check_round_trip(key);
    }
    for (index, one) in keys.iter().enumerate() {
        for other in keys.iter().skip(index) {
            let same = (one.algorithm, &one.material) == (other.algorithm, &other.material);
            assert_eq!(one.thumbprint == other.thumbprint, same, "hosts keep keys by their thumbprint: {one:?} {other:?}");
        }
    }
    !keys.is_empty()
}

/// Whether this is the key that a JWK (RFC 7517, section 4) describes, and one for verifying.
fn is_listed(key: &Key, jwk: &Value) -> bool {
    let is = |name: &str, expected: &str| jwk.get(name).and_then(Value::as_str) == Some(expected);
    let absent_or_is = |name: &str, expected: &str| jwk.get(name).is_none() || is(name, expected);
    let bytes = |name: &str| BASE64_URL_SAFE_NO_PAD.decode(jwk.get(name)?.as_str()?).ok();
    let number = |name: &str| bytes(name).map(|bytes| bytes.into_iter().skip_while(|byte| *byte == 0).collect::<Vec<_>>());
    let operations = jwk.get("key_ops").map(|operations| operations.as_array().into_iter().flatten().any(|one| one == "verify"));
    let is_same = match &key.material {
        Material::P256 { x, y } => {
            is("kty", "EC") && is("crv", "P-256") && bytes("x").as_ref() == Some(x) && bytes("y").as_ref() == Some(y)
        }
        Material::Rsa { n, e } => is("kty", "RSA") && number("n").as_ref() == Some(n) && number("e").as_ref() == Some(e),
        Material::Ed25519 { x } => is("kty", "OKP") && is("crv", "Ed25519") && bytes("x").as_ref() == Some(x),
        _ => false,
    };
    is_same && absent_or_is("use", "sig") && absent_or_is("alg", key.algorithm.name()) && operations != Some(false)
}

/// No key takes longer to check, or less to break, than an honest one; and a public key is never a shared secret.
fn check_size(key: &Key) {
    let fits = match &key.material {
        Material::P256 { x, y } => key.algorithm == Algorithm::Es256 && x.len() == 32 && y.len() == 32,
        Material::Ed25519 { x } => key.algorithm == Algorithm::EdDsa && x.len() == 32,
        Material::Rsa { n, e } => {
            let is_rsa = matches!(key.algorithm, Algorithm::Rs256 | Algorithm::Rs384 | Algorithm::Rs512 | Algorithm::Ps256);
            // A modulus of 256 bytes has 2048 bits only if its first one is set.
            let is_large = n.len() > 256 || n.len() == 256 && n.first().is_some_and(|first| *first >= 0x80);
            let is_odd = e.last().is_some_and(|last| last % 2 == 1);
            is_rsa && is_large && n.len() <= 1024 && is_odd && e[..] != [1] && e.len() <= 5
        }
        _ => false,
    };
    assert!(fits, "{key:?}");
}

/// WebCrypto imports a key as the JWK that is made of it: that must be the same key, and nothing but it.
fn check_round_trip(key: &Key) {
    let mut jwk: Value = serde_json::from_str(&key.to_jwk()).unwrap();
    let members = jwk.as_object_mut().unwrap();
    assert!(members.keys().all(|name| ["kty", "crv", "x", "y", "n", "e"].contains(&name.as_str())), "{members:?}");
    members.insert("alg".to_owned(), key.algorithm.name().into());
    let again = Jwks::parse(format!(r#"{{"keys":[{jwk}]}}"#).as_bytes()).unwrap();
    let again: Vec<_> = again.iter().map(|key| (key.algorithm, &key.material, key.thumbprint)).collect();
    assert_eq!(again, [(key.algorithm, &key.material, key.thumbprint)]);
}
