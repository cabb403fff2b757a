//! The same verdict on every signature by AWS-LC, which the native host verifies with, and by RustCrypto, which embedders
//! may: vectors of Project Wycheproof, and the examples of the RFCs. (That of RFC 7515, appendix A.1, is where HS256 is.)
//!
//! WebCrypto, which verifies at the edge, is held to the same vectors by `tests/http/signatures.test.mjs`.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that panics has failed, as it should")]

use std::collections::BTreeMap;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use nodetool_edge_auth::{Algorithm, Key, Material, SignatureCheck};
use wycheproof::{Group, encode, keys};

mod wycheproof;

type Verifier = fn(SignatureCheck<'_>) -> bool;

const VERIFIERS: [(&str, Verifier); 2] =
    [("AWS-LC", nodetool_auth::verify_signature), ("RustCrypto", nodetool_edge_auth::verify_signature)];

/// Checks every vector with both verifiers. `counts`: for each kind of key, how many vectors there are at least, and how
/// many of them are right, so that nothing is left out unnoticed.
fn agree(groups: &[Group], counts: &[(&str, usize, usize)]) {
    let mut found = BTreeMap::<String, (usize, usize)>::new();
    let mut deviations = Vec::new();
    for group in groups {
        let keys = group.keys();
        let key = keys.iter().next().unwrap();
        let (run, right) = found.entry(kind(key)).or_default();
        for vector in &group.vectors {
            *run += 1;
            *right += usize::from(vector.is_right);
            let check = SignatureCheck::new(key, &vector.message, &vector.signature);
            for (name, verify) in VERIFIERS {
                if verify(check) != vector.is_right {
                    deviations.push(format!("{name}: {} {}, which is {}", group.set, vector.id, vector.is_right));
                }
            }
        }
    }
    assert!(deviations.is_empty(), "{deviations:#?}");
    assert_eq!(found.len(), counts.len(), "{found:?}");
    for (kind, run, right) in counts {
        assert!(found[*kind].0 >= *run && found[*kind].1 >= *right, "{kind}: {:?}", found[*kind]);
    }
}

/// The algorithm, and the size of an RSA key.
fn kind(key: &Key) -> String {
    match &key.material {
        Material::Rsa { n, .. } => format!("{} {}", key.algorithm.name(), n.len() * 8),
        _ => key.algorithm.name().into(),
    }
}

#[test]
fn es256() {
    agree(&wycheproof::es256(), &[("ES256", 262, 173)]);
}

#[test]
fn es256_is_never_asn_1() {
    agree(&wycheproof::es256_as_der(), &[("ES256", 484, 0)]);
}

#[test]
fn rs256_rs384_rs512() {
    let counts = [
        [("RS256 2048", 259, 9), ("RS256 3072", 259, 8), ("RS256 4096", 258, 7), ("RS256 8192", 258, 7)],
        [("RS384 2048", 258, 7), ("RS384 3072", 259, 7), ("RS384 4096", 259, 7), ("RS384 8192", 259, 7)],
        [("RS512 2048", 259, 8), ("RS512 3072", 260, 8), ("RS512 4096", 259, 7), ("RS512 8192", 259, 7)],
    ];
    agree(&wycheproof::rsa(), &counts.concat());
}

#[test]
fn ps256() {
    agree(&wycheproof::ps256(), &[("PS256 2048", 1838, 130), ("PS256 3072", 514, 126), ("PS256 4096", 1145, 63)]);
}

#[test]
fn ed25519() {
    agree(&wycheproof::ed25519(), &[("EdDSA", 151, 88)]);
}

#[test]
fn a_signature_is_right_for_the_algorithm_of_its_key_only() {
    const ALL: [Algorithm; 4] = [Algorithm::Rs256, Algorithm::Rs384, Algorithm::Rs512, Algorithm::Ps256];
    let mut run = 0;
    for group in wycheproof::rsa().iter().chain(&wycheproof::ps256()) {
        // The smallest keys will do: those of other sizes are checked the same way.
        let Some(vector) = group.vectors.iter().find(|vector| vector.is_right && vector.signature.len() == 256) else { continue };
        for algorithm in ALL {
            let keys = keys(&group.jwk, algorithm);
            let check = SignatureCheck::new(keys.iter().next().unwrap(), &vector.message, &vector.signature);
            for (name, verify) in VERIFIERS {
                run += 1;
                assert_eq!(verify(check), algorithm == group.algorithm, "{name}: {} as {algorithm:?}", group.set);
            }
        }
    }
    assert!(run >= 60, "{run}");
}

#[test]
fn rsa_keys_of_other_sizes_are_none() {
    let taken = |bits: usize| {
        let mut modulus = vec![0xff; bits.div_ceil(8)];
        modulus[0] >>= modulus.len() * 8 - bits;
        let jwk = format!(r#"{{"kty":"RSA","n":"{}","e":"AQAB""#, encode(&modulus));
        keys(&jwk, Algorithm::Rs256).iter().count() == 1
    };
    for bits in [1, 512, 1024, 2040, 2047, 8193, 8200, 16_384] {
        assert!(!taken(bits), "{bits}");
    }
    for bits in [2048, 2049, 3000, 8192] {
        assert!(taken(bits), "{bits}");
    }
}

/// RFC, algorithm, key, signing input and signature.
const EXAMPLES: [(&str, Algorithm, &str, &str, &str); 4] = [
    (
        "RFC 7515, appendix A.2",
        Algorithm::Rs256,
        r#"{"kty":"RSA","n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ","e":"AQAB""#,
        "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ",
        "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw",
    ),
    (
        "RFC 7515, appendix A.3",
        Algorithm::Es256,
        r#"{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0""#,
        "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ",
        "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
    ),
    (
        "RFC 7520, section 4.1",
        Algorithm::Rs256,
        r#"{"kty":"RSA","n":"n4EPtAOCc9AlkeQHPzHStgAbgs7bTZLwUBZdR8_KuKPEHLd4rHVTeT-O-XV2jRojdNhxJWTDvNd7nqQ0VEiZQHz_AJmSCpMaJMRBSFKrKb2wqVwGU_NsYOYL-QtiWN2lbzcEe6XC0dApr5ydQLrHqkHHig3RBordaZ6Aj-oBHqFEHYpPe7Tpe-OfVfHd1E6cS6M1FZcD1NNLYD5lFHpPI9bTwJlsde3uhGqC0ZCuEHg8lhzwOHrtIQbS0FVbb9k3-tVTU4fg_3L_vniUFAKwuCLqKnS2BYwdq_mzSnbLY7h_qixoR7jig3__kRhuaxwUkRz5iaiQkqgc5gHdrNP5zw","e":"AQAB""#,
        "eyJhbGciOiJSUzI1NiIsImtpZCI6ImJpbGJvLmJhZ2dpbnNAaG9iYml0b24uZXhhbXBsZSJ9.SXTigJlzIGEgZGFuZ2Vyb3VzIGJ1c2luZXNzLCBGcm9kbywgZ29pbmcgb3V0IHlvdXIgZG9vci4gWW91IHN0ZXAgb250byB0aGUgcm9hZCwgYW5kIGlmIHlvdSBkb24ndCBrZWVwIHlvdXIgZmVldCwgdGhlcmXigJlzIG5vIGtub3dpbmcgd2hlcmUgeW91IG1pZ2h0IGJlIHN3ZXB0IG9mZiB0by4",
        "MRjdkly7_-oTPTS3AXP41iQIGKa80A0ZmTuV5MEaHoxnW2e5CZ5NlKtainoFmKZopdHM1O2U4mwzJdQx996ivp83xuglII7PNDi84wnB-BDkoBwA78185hX-Es4JIwmDLJK3lfWRa-XtL0RnltuYv746iYTh_qHRD68BNt1uSNCrUCTJDt5aAE6x8wW1Kt9eRo4QPocSadnHXFxnt8Is9UzpERV0ePPQdLuW3IS_de3xyIrDaLGdjluPxUAhb6L2aXic1U12podGU0KLUQSE_oI-ZnmKJ3F4uOZDnd6QZWJushZ41Axf_fcIe8u9ipH84ogoree7vjbU5y18kDquDg",
    ),
    (
        "RFC 8037, appendix A.4",
        Algorithm::EdDsa,
        r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo""#,
        "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc",
        "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg",
    ),
];

#[test]
fn the_examples_of_the_rfcs_and_flipped_bits_of_them() {
    for (rfc, algorithm, jwk, message, signature) in EXAMPLES {
        let keys = keys(jwk, algorithm);
        let key = keys.iter().next().unwrap();
        let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap();
        for (name, verify) in VERIFIERS {
            let check = |message: &[u8], signature: &[u8]| verify(SignatureCheck::new(key, message, signature));
            assert!(check(message.as_bytes(), &signature), "{name}: {rfc}");
            assert!(!check(b"another message", &signature), "{name}: {rfc}");
            // Of the many bits of RSA a few from everywhere; of the others all.
            for bit in (0..signature.len() * 8).step_by(if signature.len() > 64 { 37 } else { 1 }) {
                let mut flipped = signature.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                assert!(!check(message.as_bytes(), &flipped), "{name}: {rfc}, bit {bit}");
            }
            let length = signature.len();
            let longer = [signature.as_slice(), &[0]].concat();
            let shifted = [&[0], signature.as_slice()].concat();
            for wrong in
                [&[], &signature[1..], &signature[..length - 1], &vec![0; length], &vec![0xff; length], &longer, &shifted]
            {
                assert!(!check(message.as_bytes(), wrong), "{name}: {rfc}");
            }
        }
    }
}
