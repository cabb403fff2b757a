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
