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
///
/// ```
/// use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
/// use nodetool_edge_auth::{Jwks, SignatureCheck};
/// use nodetool_auth::verify_signature;
///
/// // RFC 7515, appendix A.3.
/// let keys = Jwks::parse(br#"{"keys":[{"kty":"EC","crv":"P-256","alg":"ES256",
///     "x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}"#);
/// let token = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ\
///              .DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
///
/// let (message, signature) = token.rsplit_once('.').ok_or("no token")?;
/// let signature = BASE64_URL_SAFE_NO_PAD.decode(signature)?;
/// let keys = keys.ok_or("no key set")?;
/// let key = keys.iter().next().ok_or("no key")?;
/// assert!(verify_signature(SignatureCheck::new(key, message.as_bytes(), &signature)));
/// assert!(!verify_signature(SignatureCheck::new(key, b"something else", &signature)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn verify_signature(SignatureCheck { key, message, signature, .. }: SignatureCheck<'_>) -> bool {
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
