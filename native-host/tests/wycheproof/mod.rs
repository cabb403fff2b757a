//! Signatures and whether they are right, of Project Wycheproof, with keys as a key server would publish them.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use nodetool_edge_auth::{Algorithm, Jwks};
use wycheproof::{HashFunction, Mgf, TestResult, ecdsa, eddsa, rsa_pkcs1_verify as pkcs1, rsa_pss_verify as pss};

/// Signatures by one key.
pub(crate) struct Group {
    pub(crate) set: String,
    pub(crate) algorithm: Algorithm,
    /// Without `alg`, and without its closing brace.
    pub(crate) jwk: String,
    pub(crate) vectors: Vec<Vector>,
}

pub(crate) struct Vector {
    pub(crate) id: usize,
    pub(crate) message: Vec<u8>,
    pub(crate) signature: Vec<u8>,
    pub(crate) is_right: bool,
}

impl Group {
    /// The key as the core reads it, or an empty set if it does not take it.
    pub(crate) fn keys(&self) -> Jwks {
        keys(&self.jwk, self.algorithm)
    }
}

/// A set of one key, as a key server publishes it. `jwk` lacks its closing brace.
pub(crate) fn keys(jwk: &str, algorithm: Algorithm) -> Jwks {
    let document = format!(r#"{{"keys":[{jwk},"use":"sig","alg":"{}"}}]}}"#, algorithm.name());
    Jwks::parse(document.as_bytes()).unwrap_or_default()
}

pub(crate) fn es256() -> Vec<Group> {
    ecdsa_set(ecdsa::TestName::EcdsaSecp256r1Sha256P1363)
}

/// The same as ASN.1, which no JWS is (RFC 7518, section 3.4), so that none of them is right.
pub(crate) fn es256_as_der() -> Vec<Group> {
    let mut groups = ecdsa_set(ecdsa::TestName::EcdsaSecp256r1Sha256);
    for vector in groups.iter_mut().flat_map(|group| &mut group.vectors) {
        vector.is_right = false;
    }
    groups
}

fn ecdsa_set(name: ecdsa::TestName) -> Vec<Group> {
    let groups = ecdsa::TestSet::load(name).unwrap().test_groups;
    let make = |group: ecdsa::TestGroup| {
        // An uncompressed point (SEC 1, section 2.3.3).
        let (x, y) = group.key.key[1..].split_at(32);
        let jwk = format!(r#"{{"kty":"EC","crv":"P-256","x":"{}","y":"{}""#, encode(x), encode(y));
        let vectors = group.tests.into_iter().map(|test| vector(test.tc_id, &test.msg, &test.sig, test.result));
        Group { set: format!("{name:?}"), algorithm: Algorithm::Es256, jwk, vectors: vectors.collect() }
    };
    groups.into_iter().map(make).collect()
}

/// RSASSA-PKCS1-v1_5.
pub(crate) fn rsa() -> Vec<Group> {
    let groups = pkcs1::TestName::all().into_iter().flat_map(|name| {
        let groups = pkcs1::TestSet::load(name).unwrap().test_groups;
        groups.into_iter().map(move |group| (name, group))
    });
    let make = |(name, group): (pkcs1::TestName, pkcs1::TestGroup)| {
        let algorithm = match group.hash {
            HashFunction::Sha2_256 => Algorithm::Rs256,
            HashFunction::Sha2_384 => Algorithm::Rs384,
            HashFunction::Sha2_512 => Algorithm::Rs512,
            _ => return None,
        };
        let vectors = group.tests.into_iter().map(|test| vector(test.tc_id, &test.msg, &test.sig, test.result));
        Some(Group { set: format!("{name:?}"), algorithm, jwk: rsa_jwk(&group.key), vectors: vectors.collect() })
    };
    groups.filter_map(make).collect()
}

/// RSASSA-PSS. PS256 is SHA-256 in both places and a salt as long as that (RFC 7518, section 3.5), so that everything
/// else is wrong, however right it would be by its own parameters.
pub(crate) fn ps256() -> Vec<Group> {
    let groups = pss::TestName::all().into_iter().flat_map(|name| {
        let groups = pss::TestSet::load(name).unwrap().test_groups;
        groups.into_iter().map(move |group| (name, group))
    });
    let make = |(name, group): (pss::TestName, pss::TestGroup)| {
        let hashes = (group.hash, group.mgf, group.mgf_hash);
        let has_our_hashes = hashes == (HashFunction::Sha2_256, Mgf::Mgf1, Some(HashFunction::Sha2_256));
        let vectors = group.tests.into_iter().map(|test| {
            let vector = vector(test.tc_id, &test.msg, &test.sig, test.result);
            // Sets with other salts have a vector each with ours, which is wrong there and right here.
            let is_right = if group.salt_size == 32 { vector.is_right } else { test.comment == "s_len changed to 32" };
            Vector { is_right: has_our_hashes && is_right, ..vector }
        });
        Group { set: format!("{name:?}"), algorithm: Algorithm::Ps256, jwk: rsa_jwk(&group.key), vectors: vectors.collect() }
    };
    groups.map(make).collect()
}

fn rsa_jwk(key: &wycheproof::RsaPublic) -> String {
    format!(r#"{{"kty":"RSA","n":"{}","e":"{}""#, encode(&key.n), encode(&key.e))
}

pub(crate) fn ed25519() -> Vec<Group> {
    let groups = eddsa::TestSet::load(eddsa::TestName::Ed25519).unwrap().test_groups;
    let make = |group: eddsa::TestGroup| {
        let jwk = format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{}""#, encode(&group.key.pk));
        let vectors = group.tests.into_iter().map(|test| vector(test.tc_id, &test.msg, &test.sig, test.result));
        Group { set: "Ed25519".into(), algorithm: Algorithm::EdDsa, jwk, vectors: vectors.collect() }
    };
    groups.into_iter().map(make).collect()
}

fn vector(id: usize, message: &[u8], signature: &[u8], result: TestResult) -> Vector {
    // What is merely acceptable is PKCS #1 without the NULL after the name of the hash. Verifying is encoding anew and
    // comparing (RFC 8017, section 8.2.2), and that encoding has the NULL (section 9.2, note 1).
    let is_right = result == TestResult::Valid;
    Vector { id, message: message.to_vec(), signature: signature.to_vec(), is_right }
}

pub(crate) fn encode(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}
