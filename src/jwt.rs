//! Compact JWS (RFC 7515) to claims (RFC 7519): untrusted until a signature was checked, against a time that is passed in.

use alloc::{borrow::ToOwned, string::String, vec::Vec};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};

use crate::{json::Json, keys::Algorithm, time::UnixTime, verdict::Reason};

/// What a user's token never reaches, with all its metadata.
const MAX_TOKEN: usize = 16 * 1024;

/// A token that has the shape of a JWT. Nothing in it is to be believed.
#[derive(Clone, Debug)]
pub(crate) struct Untrusted {
    pub(crate) algorithm: Algorithm,
    pub(crate) key_id: Option<String>,
    /// What the signature is over: the first two segments as they stand.
    pub(crate) message: Vec<u8>,
    pub(crate) signature: Vec<u8>,
    claims: Json,
}

/// What a token must say, and how much clocks may differ.
#[derive(Clone, Debug)]
pub(crate) struct Expected {
    pub(crate) issuer: String,
    pub(crate) audience: String,
    pub(crate) allows_anonymous: bool,
    /// Seconds.
    pub(crate) leeway: u32,
}

/// The claims of a token, checked. Whether they are true depends on its signature.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Claims {
    pub(crate) subject: String,
    pub(crate) role: String,
    /// Seconds since the epoch.
    pub(crate) expires: f64,
}

/// What is wrong with the claims of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClaimsError {
    /// Nothing but its age.
    Expired,
    Unacceptable,
}

/// Whether this looks like a JWT at all: a static token is found without asking anyone for keys.
pub(crate) fn looks_like_jwt(token: &[u8]) -> bool {
    token.starts_with(b"eyJ") && token.iter().filter(|byte| **byte == b'.').count() == 2
}

impl Untrusted {
    /// # Errors
    /// When it is no JWT, or one that two parsers could read differently, or of an algorithm that is not served.
    pub(crate) fn parse(token: &[u8]) -> Result<Self, Reason> {
        Self::read(token).ok_or(Reason::MalformedToken)?
    }

    fn read(token: &[u8]) -> Option<Result<Self, Reason>> {
        if token.len() > MAX_TOKEN {
            return None;
        }
        let mut segments = token.split(|byte| *byte == b'.');
        let (header, claims, signature) = (segments.next()?, segments.next()?, segments.next()?);
        if segments.next().is_some() {
            return None;
        }
        let message = token.get(..header.len() + 1 + claims.len())?.to_vec();
        // Canonical only: without padding, and with no bits left over.
        let decode = |segment| BASE64_URL_SAFE_NO_PAD.decode(segment).ok();
        let header = Json::parse(&decode(header)?)?;
        let claims = Json::parse(&decode(claims)?).filter(|claims| matches!(claims, Json::Object(_)))?;
        let signature = decode(signature)?;
        // A key that a token brings along is no key, and an extension that is critical is not understood.
        if ["crit", "jwk", "jku", "x5u", "x5c", "b64", "zip", "enc"].iter().any(|name| header.get(name).is_some()) {
            return Some(Err(Reason::ForbiddenTokenHeader));
        }
        if !matches!(header.get("typ"), None | Some(Json::String(_))) {
            return None;
        }
        let key_id = match header.get("kid") {
            None => None,
            Some(key_id) => Some(key_id.as_str()?.to_owned()),
        };
        Some(match Algorithm::named(header.get("alg")?.as_str()?) {
            Some(algorithm) => Ok(Self { algorithm, key_id, message, signature, claims }),
            None => Err(Reason::UnsupportedAlgorithm),
        })
    }

    /// The claims of a user's session, by Supabase's rules.
    pub(crate) fn check(&self, expected: &Expected, now: UnixTime) -> Result<Claims, ClaimsError> {
        let acceptable = self.acceptable(expected, now).ok_or(ClaimsError::Unacceptable)?;
        let leeway = f64::from(expected.leeway);
        if seconds(now) >= acceptable.expires + leeway { Err(ClaimsError::Expired) } else { Ok(acceptable) }
    }

    fn acceptable(&self, expected: &Expected, now: UnixTime) -> Option<Claims> {
        let claims = &self.claims;
        let latest = seconds(now) + f64::from(expected.leeway);
        let expires = time(claims.get("exp")?)?;
        for name in ["nbf", "iat"] {
            if let Some(value) = claims.get(name) {
                time(value).filter(|value| *value <= latest)?;
            }
        }
        let issuer = claims.get("iss")?.as_str()?;
        let audience = claims.get("aud")?;
        let has_audience = match audience {
            Json::String(one) => *one == expected.audience,
            Json::Array(all) => {
                all.iter().all(|one| one.as_str().is_some()) && all.iter().any(|one| one.as_str() == Some(&expected.audience))
            }
            _ => false,
        };
        let subject = text(claims.get("sub")?).filter(|subject| *subject != "1")?;
        // ID tokens of the project's OAuth server have no role, and the keys of a project, which are JWTs too, no subject.
        let role = text(claims.get("role")?)?;
        let is_anonymous = match claims.get("is_anonymous") {
            None => false,
            Some(Json::Bool(is_anonymous)) => *is_anonymous,
            Some(_) => return None,
        };
        let fits = issuer == expected.issuer && has_audience && (expected.allows_anonymous || !is_anonymous);
        fits.then(|| Claims { subject: subject.to_owned(), role: role.to_owned(), expires })
    }
}

/// HS256 (RFC 7518, section 3.2) with the project's own secret.
pub(crate) fn is_signed_with(secret: &[u8], jwt: &Untrusted) -> bool {
    use jwt_compact::{
        Algorithm as _, AlgorithmSignature,
        alg::{Hs256, Hs256Key, Hs256Signature},
    };
    // `try_from_slice` takes no other length, and would panic. What header and claims say is not for it to judge.
    jwt.signature.len() == 32
        && Hs256Signature::try_from_slice(&jwt.signature)
            .is_ok_and(|signature| Hs256.verify_signature(&signature, &Hs256Key::new(secret), &jwt.message))
}

fn seconds(time: UnixTime) -> f64 {
    time.as_millis() as f64 / 1000.0
}

/// A NumericDate: finite, not negative, and exact.
fn time(value: &Json) -> Option<f64> {
    const LIMIT: f64 = (1_u64 << 53) as f64;
    match value {
        Json::Number(time) if (0.0..LIMIT).contains(time) => Some(*time),
        _ => None,
    }
}

/// A text that can stand in a header as it is.
fn text(value: &Json) -> Option<&str> {
    const MAX: usize = 255;
    value.as_str().filter(|text| !text.is_empty() && text.len() <= MAX && text.bytes().all(|byte| byte.is_ascii_graphic()))
}

#[cfg(test)]
mod tests {
    use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};

    use super::{Untrusted, is_signed_with, looks_like_jwt};
    use crate::{keys::Algorithm, verdict::Reason};

    /// RFC 7515, appendix A.1, which is the example of RFC 7519, section 3.1, too.
    const KEY: &str = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
    const HS256: &str = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";

    /// RFC 7519, section 6.1.
    const UNSECURED: &str =
        "eyJhbGciOiJub25lIn0.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.";

    #[test]
    fn the_example_with_a_secret_and_every_flipped_bit_of_its_signature() {
        let key = BASE64_URL_SAFE_NO_PAD.decode(KEY).unwrap();
        let jwt = Untrusted::parse(HS256.as_bytes()).unwrap();
        assert_eq!(jwt.algorithm, Algorithm::Hs256);
        assert!(is_signed_with(&key, &jwt));
        assert!(!is_signed_with(&key[1..], &jwt));
        let is_right = |signature: &[u8]| is_signed_with(&key, &Untrusted { signature: signature.to_vec(), ..jwt.clone() });
        for bit in 0..jwt.signature.len() * 8 {
            let mut flipped = jwt.signature.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(!is_right(&flipped), "bit {bit}");
        }
        for wrong in [&[], &jwt.signature[1..], &jwt.signature[..31], &[jwt.signature.as_slice(), &[0]].concat()] {
            assert!(!is_right(wrong), "{wrong:?}");
        }
    }

    #[test]
    fn a_token_that_nobody_signed_is_none() {
        assert!(looks_like_jwt(UNSECURED.as_bytes()));
        assert_eq!(Untrusted::parse(UNSECURED.as_bytes()).unwrap_err(), Reason::UnsupportedAlgorithm);
    }
}
