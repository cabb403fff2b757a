//! A user's token, read without belief, claim by claim.

use alloc::{
    borrow::{Cow, ToOwned},
    format,
    string::{String, ToString},
    vec,
    vec::Vec,
};

use crate::{
    json::Json,
    jwt::{self, Claims, Expected},
    time::UnixTime,
    verdict::Reason,
};

/// A claim that is longer than this is cut where it is shown.
const MAX_SHOWN: usize = 200;

/// A user's token, read without belief.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwtTrace {
    /// `alg` as it stands in the header.
    pub algorithm: Option<String>,
    /// `kid` as it stands in the header.
    pub key_id: Option<String>,
    /// Why the token cannot be read or its header is refused.
    pub problem: Option<Reason>,
    /// The claims that count. None at all if they cannot be read.
    pub claims: Vec<ClaimTrace>,
}

/// One claim of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimTrace {
    /// Its name.
    pub name: &'static str,
    /// Its value as it may be shown, if it is there.
    pub value: Option<String>,
    /// What is asked of it.
    pub wanted: String,
    /// Why it is not acceptable.
    pub problem: Option<Reason>,
}

impl JwtTrace {
    pub(super) fn of(token: &[u8], expected: &Expected, now: UnixTime) -> Self {
        let unreadable = Self { algorithm: None, key_id: None, problem: Some(Reason::MalformedToken), claims: Vec::new() };
        let Some(segments) = jwt::split(token) else { return unreadable };
        let header = Json::parse(&segments.header);
        let member = |name: &str| header.as_ref().and_then(|header| header.get(name)).map(shown);
        let claims = Json::parse(&segments.claims).filter(|claims| matches!(claims, Json::Object(_)));
        let of_header = jwt::read_header(&segments.header).err();
        Self {
            algorithm: member("alg"),
            key_id: member("kid"),
            problem: if claims.is_none() { Some(Reason::MalformedToken) } else { of_header },
            claims: claims.map(|claims| trace_claims(&claims, expected, now)).unwrap_or_default(),
        }
    }
}

/// Each claim is judged in a token that is otherwise as it should be: by the one function that judges claims.
fn trace_claims(claims: &Json<'_>, expected: &Expected, now: UnixTime) -> Vec<ClaimTrace> {
    let (latest, leeway) = (now.to_rfc3339(), expected.leeway);
    let not_later = format!("absent, or not later than {latest}, give or take {leeway} s");
    let one_of =
        |wanted: &str, may_be_absent| if may_be_absent { format!("`{wanted}`, or absent") } else { format!("`{wanted}`") };
    let asked_of = [
        ("exp", format!("later than {latest}, give or take {leeway} s")),
        ("nbf", not_later.clone()),
        ("iat", not_later),
        ("iss", one_of(&expected.issuer, expected.allows_missing_issuer)),
        ("aud", one_of(&expected.audience, false)),
        ("sub", "the id of a user: visible ASCII, not `1`".to_owned()),
        ("role", "the role of a user: visible ASCII".to_owned()),
        ("is_anonymous", if expected.allows_anonymous { "absent, false or true" } else { "absent or false" }.to_owned()),
    ];
    let judged = |(name, wanted): (&'static str, String)| {
        let value = claims.get(name);
        let text = |text: &str| Json::String(Cow::Owned(text.to_owned()));
        let future = Json::Number(jwt::seconds(now) + 3600.0);
        let right = vec![
            ("exp", future),
            ("iss", text(&expected.issuer)),
            ("aud", text(&expected.audience)),
            ("sub", text("x")),
            ("role", text("x")),
        ];
        let others = right.into_iter().filter(|(other, _)| *other != name).map(|(other, right)| (Cow::Borrowed(other), right));
        let this = value.map(|value| (Cow::Borrowed(name), value.clone()));
        let problem = match Claims::of(&Json::Object(others.chain(this).collect()), expected, now) {
            None => Some(Reason::UnacceptableClaims),
            Some(claims) => claims.have_expired(expected, now).then_some(Reason::ExpiredToken),
        };
        let is_time = matches!(name, "exp" | "nbf" | "iat");
        ClaimTrace { name, value: value.map(|value| if is_time { shown_time(value) } else { shown(value) }), wanted, problem }
    };
    asked_of.into_iter().map(judged).collect()
}

fn shown(value: &Json<'_>) -> String {
    let text = match value {
        Json::Null => "null".to_owned(),
        Json::Bool(value) => value.to_string(),
        Json::Number(value) => value.to_string(),
        Json::String(text) => text.clone().into_owned(),
        Json::Array(items) => items.iter().map(shown).collect::<Vec<_>>().join(", "),
        Json::Object(_) => "an object".to_owned(),
    };
    if text.chars().nth(MAX_SHOWN).is_some() { text.chars().take(MAX_SHOWN).chain(['…']).collect() } else { text }
}

fn shown_time(value: &Json<'_>) -> String {
    /// The last second of the year 9999.
    const LAST: f64 = 253_402_300_799.0;
    match value {
        Json::Number(seconds) if (0.0..=LAST).contains(seconds) => UnixTime::from_millis((seconds * 1000.0) as u64).to_rfc3339(),
        other => shown(other),
    }
}

#[cfg(test)]
mod tests {
    use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};

    use super::JwtTrace;
    use crate::{
        jwt::{self, Untrusted},
        trace::tests::{NOW, settings},
        verdict::Reason,
    };
    use alloc::{format, string::String, vec::Vec};

    const HEADER: &str = r#"{"alg":"ES256","kid":"k1"}"#;

    fn token(header: &str, claims: &str) -> String {
        format!("{}.{}.AAAA", BASE64_URL_SAFE_NO_PAD.encode(header), BASE64_URL_SAFE_NO_PAD.encode(claims))
    }

    #[test]
    fn claims_are_refused_one_by_one_where_all_of_them_are() {
        let expected = settings(&[("SUPABASE_ALLOW_ANONYMOUS", "no")]).policy.supabase.unwrap().expected;
        let right = [
            ("exp", "1767225700"),
            ("iat", "1767225500"),
            ("iss", r#""http://127.0.0.1:9/auth/v1""#),
            ("aud", r#"["authenticated"]"#),
            ("sub", r#""u1""#),
            ("role", r#""authenticated""#),
        ];
        let spoiled = [
            ("exp", "1767225500", Reason::ExpiredToken),
            ("exp", r#""soon""#, Reason::UnacceptableClaims),
            ("nbf", "1767225700", Reason::UnacceptableClaims),
            ("iat", "-1", Reason::UnacceptableClaims),
            ("iss", r#""https://evil.example""#, Reason::UnacceptableClaims),
            ("aud", r#"["other"]"#, Reason::UnacceptableClaims),
            ("sub", r#""1""#, Reason::UnacceptableClaims),
            ("role", "null", Reason::UnacceptableClaims),
            ("is_anonymous", "true", Reason::UnacceptableClaims),
        ];
        let claims_with = |change: Option<(&str, &str)>| {
            let kept = right.iter().filter(|(name, _)| change.is_none_or(|(changed, _)| changed != *name)).copied();
            let members: Vec<String> = kept.chain(change).map(|(name, value)| format!(r#""{name}":{value}"#)).collect();
            token(HEADER, &format!("{{{}}}", members.join(",")))
        };
        let sound = claims_with(None);
        assert!(Untrusted::read(jwt::split(sound.as_bytes()).unwrap(), &expected, NOW).is_ok());
        let seen = JwtTrace::of(sound.as_bytes(), &expected, NOW);
        assert_eq!((seen.algorithm.as_deref(), seen.key_id.as_deref(), seen.problem), (Some("ES256"), Some("k1"), None));
        assert!(seen.claims.iter().all(|claim| claim.problem.is_none()), "{seen:?}");
        for (name, value, reason) in spoiled {
            let token = claims_with(Some((name, value)));
            assert_eq!(Untrusted::read(jwt::split(token.as_bytes()).unwrap(), &expected, NOW).unwrap_err(), reason, "{name}");
            let seen = JwtTrace::of(token.as_bytes(), &expected, NOW);
            let wrong: Vec<_> = seen.claims.iter().filter_map(|claim| Some((claim.name, claim.problem?))).collect();
            assert_eq!(wrong, [(name, reason)]);
        }
    }

    #[test]
    fn a_token_that_cannot_be_read_is_told_from_a_header_that_is_refused() {
        let expected = settings(&[]).policy.supabase.unwrap().expected;
        for (header, claims, reason) in [
            ("x", "{}", Reason::MalformedToken),
            (HEADER, "[]", Reason::MalformedToken),
            (r#"{"alg":"none"}"#, "{}", Reason::UnsupportedAlgorithm),
            (r#"{"alg":"ES256","jwk":{}}"#, "{}", Reason::ForbiddenTokenHeader),
        ] {
            assert_eq!(JwtTrace::of(token(header, claims).as_bytes(), &expected, NOW).problem, Some(reason), "{header} {claims}");
        }
    }
}
