//! Signatures, by AWS-LC: for ES256 and RS256 several times as fast as portable code.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512,
    RSA_PSS_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use nodetool_edge_auth::{Algorithm, Material, SignatureCheck};

/// Whether a signature is right. The algorithm is the key's; what does not go together is wrong.
pub fn verify_signature(check: SignatureCheck<'_>) -> bool {
    let SignatureCheck { key, message, signature } = check;
    let result = match (&key.material, key.algorithm) {
        (Material::P256 { x, y }, Algorithm::Es256) => {
            // An uncompressed point (SEC 1, section 2.3.3).
            let point = [&[4], x.as_slice(), y].concat();
            UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, signature)
        }
        (Material::Ed25519 { x }, Algorithm::EdDsa) => UnparsedPublicKey::new(&ED25519, x).verify(message, signature),
        (Material::Rsa { n, e }, algorithm) => {
            let parameters = match algorithm {
                Algorithm::Rs256 => &RSA_PKCS1_2048_8192_SHA256,
                Algorithm::Rs384 => &RSA_PKCS1_2048_8192_SHA384,
                Algorithm::Rs512 => &RSA_PKCS1_2048_8192_SHA512,
                Algorithm::Ps256 => &RSA_PSS_2048_8192_SHA256,
                _ => return false,
            };
            RsaPublicKeyComponents { n, e }.verify(parameters, message, signature)
        }
        _ => return false,
    };
    result.is_ok()
}
