//! Compact JWS (RFC 7515) to claims (RFC 7519): untrusted until a signature was checked, against a time that is passed in.

use alloc::{borrow::ToOwned, string::String, vec::Vec};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use jwt_compact::{
    Algorithm as _, AlgorithmSignature,
    alg::{Hs256, Hs256Key, Hs256Signature},
};
use serde::de::IgnoredAny;

use crate::{json::Json, keys::Algorithm, time::UnixTime, verdict::Reason};

/// What a user's token never reaches, with all its metadata.
const MAX_TOKEN: usize = 16 * 1024;

/// A token that has the shape of a JWT. Nothing in it is to be believed.
#[derive(Clone, Debug)]
pub(crate) struct Untrusted<'a> {
    pub(crate) algorithm: Algorithm,
    pub(crate) key_id: Option<String>,
    /// What the signature is over: the first two segments as they stand.
    pub(crate) message: &'a [u8],
    pub(crate) signature: Vec<u8>,
}

/// What a token must say, and how much clocks may differ.
#[derive(Clone, Debug)]
pub(crate) struct Expected {
    pub(crate) issuer: String,
    pub(crate) allows_missing_issuer: bool,
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

impl Claims {
    /// Those of a user's session, by Supabase's rules, but for its end.
    pub(crate) fn of(claims: &Json<'_>, expected: &Expected, now: UnixTime) -> Option<Self> {
        let latest = seconds(now) + f64::from(expected.leeway);
        let expires = time(claims.get("exp")?)?;
        for name in ["nbf", "iat"] {
            if let Some(value) = claims.get(name) {
                time(value).filter(|value| *value <= latest)?;
            }
        }
        let has_issuer = match claims.get("iss") {
            None => expected.allows_missing_issuer,
            Some(issuer) => issuer.as_str()? == expected.issuer,
        };
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
        let fits = has_issuer && has_audience && (expected.allows_anonymous || !is_anonymous);
        fits.then(|| Self { subject: subject.to_owned(), role: role.to_owned(), expires })
    }

    /// The end of the token, as it says.
    pub(crate) fn expiry(&self) -> UnixTime {
        UnixTime::from_millis((self.expires * 1000.0) as u64)
    }

    /// Whether the token is past its end, and past what clocks may differ.
    pub(crate) fn have_expired(&self, expected: &Expected, now: UnixTime) -> bool {
        seconds(now) >= self.expires + f64::from(expected.leeway)
    }
}

impl<'a> Untrusted<'a> {
    /// Reads a token, and claims that would be those of a user's session if its signature is right.
    ///
    /// # Errors
    /// When it is one that two parsers could read differently, or of an algorithm that is not served, or when its claims are
    /// not acceptable at this time.
    pub(crate) fn read(segments: Segments<'a>, expected: &Expected, now: UnixTime) -> Result<(Self, Claims), Reason> {
        let Segments { header, claims, message, signature, .. } = segments;
        let claims = Json::parse(&claims).filter(|claims| matches!(claims, Json::Object(_))).ok_or(Reason::MalformedToken)?;
        let (algorithm, key_id) = read_header(&header)?;
        let claims = Claims::of(&claims, expected, now).ok_or(Reason::UnacceptableClaims)?;
        if claims.have_expired(expected, now) {
            return Err(Reason::ExpiredToken);
        }
        Ok((Self { algorithm, key_id, message, signature }, claims))
    }

    /// HS256 (RFC 7518, section 3.2) with the project's own secret. The comparison takes the same time for all signatures.
    pub(crate) fn is_signed_with(&self, secret: &[u8]) -> bool {
        // Only the signature is for `jwt-compact` to judge: header and claims were read already. Its length is the caller's
        // to check.
        let has_length = Hs256Signature::LENGTH.is_some_and(|length| length.get() == self.signature.len());
        let signature = has_length.then(|| Hs256Signature::try_from_slice(&self.signature).ok()).flatten();
        signature.is_some_and(|signature| Hs256.verify_signature(&signature, &Hs256Key::new(secret), self.message))
    }
}

/// The three segments of a JWT, decoded, and what its signature is over.
pub(crate) struct Segments<'a> {
    pub(crate) token: &'a [u8],
    pub(crate) header: Vec<u8>,
    pub(crate) claims: Vec<u8>,
    message: &'a [u8],
    signature: Vec<u8>,
}

/// Tells a JWT from a static token, by its structure: three segments of canonical base64url (RFC 7515, section 3.1), of which
/// the first two are JSON objects, whatever is in them.
pub(crate) fn split(token: &[u8]) -> Option<Segments<'_>> {
    if token.len() > MAX_TOKEN {
        return None;
    }
    let mut segments = token.split(|byte| *byte == b'.');
    let (header, claims, signature) = (segments.next()?, segments.next()?, segments.next()?);
    if segments.next().is_some() {
        return None;
    }
    let message = token.get(..header.len() + 1 + claims.len())?;
    // Canonical only: without padding, and with no bits left over.
    let decode = |segment| BASE64_URL_SAFE_NO_PAD.decode(segment).ok();
    let object = |segment| decode(segment).filter(|json| is_object(json));
    Some(Segments { token, header: object(header)?, claims: object(claims)?, message, signature: decode(signature)? })
}

fn is_object(json: &[u8]) -> bool {
    json.trim_ascii_start().starts_with(b"{") && serde_json::from_slice::<IgnoredAny>(json).is_ok()
}

/// What a header says of the signature: its algorithm, and the key that it means.
pub(crate) fn read_header(header: &[u8]) -> Result<(Algorithm, Option<String>), Reason> {
    let header = Json::parse(header).ok_or(Reason::MalformedToken)?;
    // A key that a token brings along is no key, and an extension that is critical is not understood.
    if ["crit", "jwk", "jku", "x5u", "x5c", "b64", "zip", "enc"].iter().any(|name| header.get(name).is_some()) {
        return Err(Reason::ForbiddenTokenHeader);
    }
    let member = |name: &str| header.get(name).map(|value| value.as_str().ok_or(Reason::MalformedToken)).transpose();
    member("typ")?;
    let key_id = member("kid")?.map(str::to_owned);
    let algorithm = member("alg")?.ok_or(Reason::MalformedToken)?;
    Ok((Algorithm::named(algorithm).ok_or(Reason::UnsupportedAlgorithm)?, key_id))
}

pub(crate) fn seconds(time: UnixTime) -> f64 {
    time.as_millis() as f64 / 1000.0
}

/// A NumericDate: finite, not negative, and exact.
fn time(value: &Json<'_>) -> Option<f64> {
    const LIMIT: f64 = (1_u64 << 53) as f64;
    match value {
        Json::Number(time) if (0.0..LIMIT).contains(time) => Some(*time),
        _ => None,
    }
}

/// A text that can stand in a header as it is.
fn text<'a>(value: &'a Json<'_>) -> Option<&'a str> {
    const MAX: usize = 255;
    value.as_str().filter(|text| !text.is_empty() && text.len() <= MAX && text.bytes().all(|byte| byte.is_ascii_graphic()))
}

#[cfg(test)]
mod tests {
    use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};

    use super::{Segments, Untrusted, read_header, split};
    use crate::{keys::Algorithm, verdict::Reason};
    use alloc::format;

    /// RFC 7515, appendix A.1, which is the example of RFC 7519, section 3.1, too.
    const KEY: &str = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
    const HS256: &str = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";

    /// RFC 7519, section 6.1.
    const UNSECURED: &str =
        "eyJhbGciOiJub25lIn0.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.";

    /// Whatever it claims.
    fn read(token: &str) -> Result<Untrusted<'_>, Reason> {
        let Segments { header, message, signature, .. } = split(token.as_bytes()).ok_or(Reason::MalformedToken)?;
        let (algorithm, key_id) = read_header(&header)?;
        Ok(Untrusted { algorithm, key_id, message, signature })
    }

    #[test]
    fn the_example_with_a_secret_and_every_flipped_bit_of_its_signature() {
        let key = BASE64_URL_SAFE_NO_PAD.decode(KEY).unwrap();
        let is_signed = |token: &str| read(token).unwrap().is_signed_with(&key);
        assert!(is_signed(HS256));
        let jwt = read(HS256).unwrap();
        assert!(jwt.algorithm == Algorithm::Hs256 && !jwt.is_signed_with(&key[1..]));
        let (message, signature) = HS256.rsplit_once('.').unwrap();
        let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap();
        for bit in 0..signature.len() * 8 {
            let mut flipped = signature.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(!is_signed(&format!("{message}.{}", BASE64_URL_SAFE_NO_PAD.encode(flipped))), "bit {bit}");
        }
        for wrong in [&[][..], &signature[..31], &[signature.as_slice(), &[0]].concat()] {
            assert!(!is_signed(&format!("{message}.{}", BASE64_URL_SAFE_NO_PAD.encode(wrong))), "{wrong:?}");
        }
    }

    #[test]
    fn a_jwt_is_told_by_its_structure_and_not_by_its_first_letters() {
        let encode = |text: &str| BASE64_URL_SAFE_NO_PAD.encode(text);
        let of = |header: &str, claims: &str| format!("{}.{}.", encode(header), encode(claims));
        let is_jwt = |token: &str| split(token.as_bytes()).is_some();
        for (header, claims) in
            [("{}", "{}"), ("{\n  \"alg\": \"ES256\"\n}", " {}\r\n"), ("\t{\"alg\":1,\"alg\":2}", "{\"a\":[{}]}")]
        {
            assert!(is_jwt(&of(header, claims)), "{header} {claims}");
            assert!(is_jwt(&format!("{}c2ln", of(header, claims))), "{header} {claims}");
        }
        for (header, claims) in
            [("[]", "{}"), ("{}", "[]"), ("{", "{}"), ("{}", "{}{}"), ("{a:1}", "{}"), ("{}", "\"{}\""), ("", "")]
        {
            assert!(!is_jwt(&of(header, claims)), "{header} {claims}");
        }
        let sound = of("{}", "{}");
        for token in ["eyJ.eyJ.eyJ", "eyJhbGciOiJIUzI1NiJ9", "one.two.three", ".."] {
            assert!(!is_jwt(token), "{token}");
        }
        for other in
            [format!("{sound}."), format!("{sound}_"), format!("{sound}AB"), format!("{sound}AA=="), sound.replacen('.', "=.", 1)]
        {
            assert!(!is_jwt(&other), "{other}");
        }
    }

    #[test]
    fn a_token_that_nobody_signed_is_none() {
        assert_eq!(read(UNSECURED).unwrap_err(), Reason::UnsupportedAlgorithm);
    }
}
