//! Signatures in portable Rust, for embedders that have neither AWS-LC nor WebCrypto, and for tests.
//!
//! Several times slower than either: the hosts of this project do without it.

use jwt_compact::{
    Algorithm as _, AlgorithmSignature,
    alg::{Ed25519, Es256, Rsa, VerifyingKey},
};
use rsa::{BigUint, RsaPublicKey};

use crate::{
    keys::{Algorithm, MAX_RSA_BITS, Material},
    step::SignatureCheck,
};

/// Whether a signature is right. The algorithm is the key's; what does not go together is wrong.
///
/// For [`Effects::signature`](crate::Effects::signature) of a host of your own. `nodetool-auth` has the same on AWS-LC.
///
/// ```
/// use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
/// use nodetool_edge_auth::{Jwks, SignatureCheck, verify_signature};
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
pub fn verify_signature(check: SignatureCheck<'_>) -> bool {
    verify(check).unwrap_or(false)
}

fn verify(SignatureCheck { key, message, signature }: SignatureCheck<'_>) -> Option<bool> {
    Some(match (&key.material, key.algorithm) {
        (Material::P256 { x, y }, Algorithm::Es256) => {
            // An uncompressed point (SEC 1, section 2.3.3).
            let key = VerifyingKey::<Es256>::from_slice(&[&[4], x.as_slice(), y].concat()).ok()?;
            Es256.verify_signature(&AlgorithmSignature::try_from_slice(signature).ok()?, &key, message)
        }
        (Material::Ed25519 { x }, Algorithm::EdDsa) => {
            let key = VerifyingKey::<Ed25519>::from_slice(x).ok()?;
            Ed25519.verify_signature(&AlgorithmSignature::try_from_slice(signature).ok()?, &key, message)
        }
        (Material::Rsa { n, e }, algorithm) => {
            let rsa = match algorithm {
                Algorithm::Rs256 => Rsa::rs256(),
                Algorithm::Rs384 => Rsa::rs384(),
                Algorithm::Rs512 => Rsa::rs512(),
                Algorithm::Ps256 => Rsa::ps256(),
                _ => return None,
            };
            let (n, e) = (BigUint::from_bytes_be(n), BigUint::from_bytes_be(e));
            let key = RsaPublicKey::new_with_max_size(n, e, MAX_RSA_BITS).ok()?;
            rsa.verify_signature(&AlgorithmSignature::try_from_slice(signature).ok()?, &key, message)
        }
        _ => return None,
    })
}
