//! One public key (RFC 7517, RFC 8037): its strict reading, and the one algorithm that it verifies.

use alloc::{borrow::ToOwned, format, string::String, vec::Vec};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use sha2::{Digest as _, Sha256};

use crate::json::Json;

/// What takes longer to check than anyone's key is worth.
pub(crate) const MAX_RSA_BITS: usize = 8192;

/// 3, 17, 37 and 65537: those that WebCrypto takes in workerd. Others nobody uses, and the hosts are to agree.
const EXPONENTS: [&[u8]; 4] = [&[3], &[17], &[37], &[1, 0, 1]];

/// An algorithm of RFC 7518, section 3.1, or RFC 8037.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
#[non_exhaustive]
pub enum Algorithm {
    Hs256,
    Es256,
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    EdDsa,
}

impl Algorithm {
    /// The name in a header.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Es256 => "ES256",
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::EdDsa => "EdDSA",
        }
    }

    /// By the name in a header. `none` is not an algorithm.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "HS256" => Self::Hs256,
            "ES256" => Self::Es256,
            "RS256" => Self::Rs256,
            "RS384" => Self::Rs384,
            "RS512" => Self::Rs512,
            "PS256" => Self::Ps256,
            "EdDSA" => Self::EdDsa,
            _ => return None,
        })
    }
}

/// A digest of all that makes a key and what it is for.
pub type Thumbprint = [u8; 32];

/// A public key, with the one algorithm that it verifies.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Key {
    pub(super) id: Option<String>,
    /// The algorithm that this key is for. What a token says has no say in it.
    pub algorithm: Algorithm,
    /// The key itself.
    pub material: Material,
    /// By which hosts keep what they made of it.
    pub thumbprint: Thumbprint,
}

/// The public part of a key, decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Material {
    /// A point on P-256.
    P256 {
        /// 32 bytes.
        x: Vec<u8>,
        /// 32 bytes.
        y: Vec<u8>,
    },
    /// RSA of 2048 to 8192 bits.
    Rsa {
        /// The modulus, big-endian.
        n: Vec<u8>,
        /// The exponent, big-endian.
        e: Vec<u8>,
    },
    /// Ed25519.
    Ed25519 {
        /// 32 bytes.
        x: Vec<u8>,
    },
}

impl Key {
    /// The key as a JWK, with nothing but what makes it.
    pub fn to_jwk(&self) -> String {
        let text = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        match &self.material {
            Material::P256 { x, y } => format!(r#"{{"kty":"EC","crv":"P-256","x":"{}","y":"{}"}}"#, text(x), text(y)),
            Material::Rsa { n, e } => format!(r#"{{"kty":"RSA","n":"{}","e":"{}"}}"#, text(n), text(e)),
            Material::Ed25519 { x } => format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{}"}}"#, text(x)),
        }
    }

    pub(super) fn parse(json: &Json<'_>) -> Option<Self> {
        let member = |name: &str| json.get(name).map_or(Some(None), |value| value.as_str().map(Some));
        let is_for_verifying = matches!(member("use")?, None | Some("sig"))
            && json.get("key_ops").is_none_or(|operations| {
                operations
                    .as_array()
                    .is_some_and(|operations| operations.iter().any(|operation| operation.as_str() == Some("verify")))
            });
        if !is_for_verifying {
            return None;
        }
        let bytes = |name: &str| BASE64_URL_SAFE_NO_PAD.decode(json.get(name)?.as_str()?).ok();
        let coordinate = |name: &str| bytes(name).filter(|bytes| bytes.len() == 32);
        let (default, allowed, material): (_, &[Algorithm], _) = match (member("kty")??, member("crv")?) {
            ("EC", Some("P-256")) => {
                (Algorithm::Es256, &[Algorithm::Es256], Material::P256 { x: coordinate("x")?, y: coordinate("y")? })
            }
            ("OKP", Some("Ed25519")) => {
                let x = coordinate("x").filter(|x| is_sound_ed25519(x))?;
                (Algorithm::EdDsa, &[Algorithm::EdDsa], Material::Ed25519 { x })
            }
            ("RSA", None) => {
                let number = |name: &str| bytes(name).map(without_leading_zeros);
                let (n, e) = (number("n")?, number("e")?);
                let bits = bit_length(&n);
                if !(2048..=MAX_RSA_BITS).contains(&bits) || !EXPONENTS.contains(&e.as_slice()) {
                    return None;
                }
                // Without a word of its own an RSA key is for the algorithm that everybody means by it.
                (
                    Algorithm::Rs256,
                    &[Algorithm::Rs256, Algorithm::Rs384, Algorithm::Rs512, Algorithm::Ps256],
                    Material::Rsa { n, e },
                )
            }
            _ => return None,
        };
        let algorithm = match member("alg")? {
            None => default,
            Some(name) => Algorithm::named(name).filter(|named| allowed.contains(named))?,
        };
        Some(Self { id: member("kid")?.map(str::to_owned), algorithm, thumbprint: thumbprint(algorithm, &material), material })
    }
}

/// Some issuers write them (RFC 7518, section 6.3.1.1, forbids it), and not every implementation reads them.
fn without_leading_zeros(mut number: Vec<u8>) -> Vec<u8> {
    number.drain(..number.iter().take_while(|byte| **byte == 0).count());
    number
}

/// Whether a point of Ed25519 is written as RFC 8032, section 5.1.3, has it, and is not among the eight for which anyone
/// can sign. What comes of others differs from one implementation to the next.
fn is_sound_ed25519(point: &[u8]) -> bool {
    const ONE: [u8; 32] = {
        let mut one = [0; 32];
        one[31] = 1;
        one
    };
    /// p is 2^255 - 19.
    const P_LESS_1: [u8; 32] = {
        let mut number = [0xff; 32];
        number[0] = 0x7f;
        number[31] = 0xec;
        number
    };
    /// The y of the points of order 8. Those of the others are 0, 1 and p - 1.
    const OF_ORDER_8: [&[u8; 32]; 2] = [
        b"\x05\xfc\x53\x6d\x88\x02\x38\xb1\x39\x33\xc6\xd3\x05\xac\xdf\xd5\xf0\x98\xef\xf2\x89\xf4\xc3\x45\xb0\x27\xb2\xc2\x8f\x95\xe8\x26",
        b"\x7a\x03\xac\x92\x77\xfd\xc7\x4e\xc6\xcc\x39\x2c\xfa\x53\x20\x2a\x0f\x67\x10\x0d\x76\x0b\x3c\xba\x4f\xd8\x4d\x3d\x70\x6a\x17\xc7",
    ];
    // y, its highest byte first, and without the sign of x.
    let mut y: Vec<u8> = point.iter().rev().copied().collect();
    if let Some(highest) = y.first_mut() {
        *highest &= 0x7f;
    }
    y.as_slice() > ONE.as_slice() && y.as_slice() < P_LESS_1.as_slice() && !OF_ORDER_8.iter().any(|other| y == other.as_slice())
}

fn bit_length(number: &[u8]) -> usize {
    number.first().map_or(0, |first| number.len() * 8 - first.leading_zeros() as usize)
}

fn thumbprint(algorithm: Algorithm, material: &Material) -> Thumbprint {
    let mut digest = Sha256::new();
    digest.update([algorithm as u8]);
    let parts: [&[u8]; 2] = match material {
        Material::P256 { x, y } => [x, y],
        Material::Rsa { n, e } => [n, e],
        Material::Ed25519 { x } => [x, &[]],
    };
    for part in parts {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    digest.finalize().into()
}

#[cfg(test)]
mod tests {
    use crate::keys::Jwks;
    use alloc::format;
    use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};

    #[test]
    fn exponents_that_only_one_host_takes_are_none() {
        let modulus = BASE64_URL_SAFE_NO_PAD.encode([0xff; 256]);
        let taken = |exponent: &[u8]| {
            let e = BASE64_URL_SAFE_NO_PAD.encode(exponent);
            Jwks::parse(format!(r#"{{"keys":[{{"kty":"RSA","n":"{modulus}","e":"{e}"}}]}}"#).as_bytes()).unwrap()
                != Jwks::default()
        };
        for exponent in [&[3][..], &[17], &[37], &[1, 0, 1], &[0, 1, 0, 1]] {
            assert!(taken(exponent), "{exponent:?}");
        }
        for exponent in
            [&[][..], &[0], &[1], &[2], &[5], &[1, 1], &[1, 0, 0], &[1, 0, 3], &[0x80, 0, 0, 1], &[1, 0, 0, 0, 1], &[0xff; 256]]
        {
            assert!(!taken(exponent), "{exponent:?}");
        }
    }

    #[test]
    fn points_that_anyone_can_sign_for_or_that_are_spelled_otherwise_are_none() {
        let taken = |point: &[u8]| {
            let x = BASE64_URL_SAFE_NO_PAD.encode(point);
            Jwks::parse(format!(r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","x":"{x}"}}]}}"#).as_bytes()).unwrap()
                != Jwks::default()
        };
        let point = |lowest: u8, middle: u8, highest: u8| [&[lowest][..], &[middle; 30], &[highest]].concat();
        let of_order_8 = |name: &str| BASE64_URL_SAFE_NO_PAD.decode(name).unwrap();
        let small = [
            point(0, 0, 0),
            point(1, 0, 0),
            point(0xec, 0xff, 0x7f),
            of_order_8("JuiVj8KyJ7BFw_SJ8u-Y8NXfrAXTxjM5sTgCiG1T_AU"),
            of_order_8("xxdqcD1N2E-6PAt2DRBnDyogU_osOczGTsf9d5KsA3o"),
            // From p on.
            point(0xed, 0xff, 0x7f),
            point(0xee, 0xff, 0x7f),
            point(0xff, 0xff, 0x7f),
        ];
        for mut point in small {
            assert!(!taken(&point), "{point:?}");
            point[31] |= 0x80;
            assert!(!taken(&point), "{point:?}");
        }
        for point in [point(2, 0, 0), point(0, 1, 0), point(0xeb, 0xff, 0x7f), point(0xff, 0xff, 0x7e), point(0xec, 0xff, 0xfe)] {
            assert!(taken(&point), "{point:?}");
        }
    }
}
