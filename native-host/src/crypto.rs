//! Signatures, by AWS-LC: for ES256 and RS256 several times as fast as portable code.

use std::{cell::RefCell, collections::BTreeMap};

use aws_lc_rs::{
    error::KeyRejected,
    signature::{
        ECDSA_P256_SHA256_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384,
        RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256, RsaPublicKeyComponents,
    },
};
use nodetool_edge_auth::{Algorithm, Key, Material, SignatureCheck, Thumbprint};

/// More keys than any project has at once. Beyond these one starts anew.
const MAX_KEYS: usize = 64;

thread_local! {
    /// Keys as AWS-LC has them, by thumbprint, for each thread its own: to share them would take a lock.
    static PARSED: RefCell<BTreeMap<Thumbprint, ParsedPublicKey>> = const { RefCell::new(BTreeMap::new()) };
}

/// Whether a signature is right. The algorithm is the key's; what does not go together is wrong.
pub fn verify_signature(SignatureCheck { key, message, signature }: SignatureCheck<'_>) -> bool {
    PARSED.with_borrow_mut(|keys| {
        if let Some(known) = keys.get(&key.thumbprint) {
            return known.verify_sig(message, signature).is_ok();
        }
        let Some(Ok(parsed)) = parse(key) else { return false };
        let is_right = parsed.verify_sig(message, signature).is_ok();
        if keys.len() >= MAX_KEYS {
            keys.clear();
        }
        keys.insert(key.thumbprint, parsed);
        is_right
    })
}

/// Nothing if the kind of key does not go with its algorithm.
fn parse(key: &Key) -> Option<Result<ParsedPublicKey, KeyRejected>> {
    Some(match (&key.material, key.algorithm) {
        (Material::P256 { x, y }, Algorithm::Es256) => {
            // An uncompressed point (SEC 1, section 2.3.3).
            ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, [&[4], x.as_slice(), y].concat())
        }
        (Material::Ed25519 { x }, Algorithm::EdDsa) => ParsedPublicKey::new(&ED25519, x),
        (Material::Rsa { n, e }, algorithm) => {
            let parameters = match algorithm {
                Algorithm::Rs256 => &RSA_PKCS1_2048_8192_SHA256,
                Algorithm::Rs384 => &RSA_PKCS1_2048_8192_SHA384,
                Algorithm::Rs512 => &RSA_PKCS1_2048_8192_SHA512,
                Algorithm::Ps256 => &RSA_PSS_2048_8192_SHA256,
                _ => return None,
            };
            RsaPublicKeyComponents { n, e }.to_parsed_public_key(parameters)
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::verify_signature;
    use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
    use nodetool_edge_auth::{Jwks, SignatureCheck};

    /// Key, signing input and signature: RFC 7515, appendix A.3, and RFC 8037, appendix A.4.
    const EXAMPLES: [(&str, &str, &str); 2] = [
        (
            r#"{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#,
            "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ",
            "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
        ),
        (
            r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#,
            "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc",
            "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg",
        ),
    ];

    #[test]
    fn the_examples_of_the_rfcs_and_every_flipped_bit_of_them() {
        for (key, message, signature) in EXAMPLES {
            let keys = Jwks::parse(format!(r#"{{"keys":[{key}]}}"#).as_bytes()).unwrap();
            let key = keys.iter().next().unwrap();
            let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap();
            let check = |message: &[u8], signature: &[u8]| verify_signature(SignatureCheck { key, message, signature });
            assert!(check(message.as_bytes(), &signature));
            assert!(!check(b"another message", &signature));
            for bit in 0..signature.len() * 8 {
                let mut flipped = signature.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                assert!(!check(message.as_bytes(), &flipped), "bit {bit}");
            }
            for wrong in [&[][..], &signature[1..], &[0; 64], &[0xff; 64], &[signature.as_slice(), &[0]].concat()] {
                assert!(!check(message.as_bytes(), wrong));
            }
        }
    }
}
