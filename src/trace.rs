//! What a judgement rests on, as data: for programs that explain one to a person.
//!
//! Nothing here judges anything. Each answer is had from the very functions that judge, so that an explanation cannot
//! disagree with a gateway.

use alloc::{
    borrow::{Cow, ToOwned},
    format,
    string::{String, ToString},
    vec,
    vec::Vec,
};

use crate::{
    credential::Credential,
    facts::Facts,
    json::Json,
    jwt::{self, Claims, Expected},
    keys::Jwks,
    path::{self, Area, Areas, Rewriting},
    policy::{Judgement, Policy},
    time::UnixTime,
    verdict::{Pass, Reason, Verdict},
};

/// A claim that is longer than this is cut where it is shown.
const MAX_SHOWN: usize = 200;

/// What a policy sees in a request before anybody is asked about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// The rule that the request falls under.
    pub rule: Rule,
    /// The path as it was sent, and as others could read it, those of the fewest rewritings first. Nothing if there are more of
    /// them than are followed.
    pub readings: Vec<Reading>,
    /// The restricted places that the path falls under by any reading, each with the simplest such reading.
    pub restrictions: Vec<Restriction>,
    /// What it carries to prove who sent it, whether or not that is asked for.
    pub credential: Presented,
    /// The credential read as a user's token, if it looks like one and users may pass.
    pub jwt: Option<JwtTrace>,
}

/// What decides about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// It is malformed, whoever sent it.
    Malformed,
    /// Its method is not for gateways.
    ForbiddenMethod,
    /// A page of a foreign origin asks.
    ForbiddenOrigin,
    /// A public path: no credential is asked for.
    Public,
    /// A CORS preflight: it cannot carry a credential.
    Preflight,
    /// The provider lets this request pass without one.
    Open,
    /// It needs a credential.
    Credential,
}

/// A path as somebody could read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The path.
    pub path: String,
    /// The reading, by its place among all, of which the rewriting made this one. Nothing for the path as it was sent.
    pub by: Option<(usize, Rewriting)>,
    /// The restricted places that it falls under.
    pub areas: Vec<Area>,
}

/// A restricted place, and how a path comes to fall under it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restriction {
    /// The place.
    pub area: Area,
    /// The path as somebody could read it.
    pub reading: String,
}

/// A credential, without the credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presented {
    /// None.
    None,
    /// Something that is not exactly one bearer token.
    Malformed,
    /// A bearer token that does not look like a JWT.
    Token,
    /// A bearer token that looks like one.
    Jwt,
}

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

/// What a policy sees in a request before anybody is asked about it. The verdict is had from [`begin`](crate::begin).
pub fn trace<'a>(policy: &Policy, facts: &'a Facts<'a>, now: UnixTime) -> Trace {
    let rule = match policy.judge(facts) {
        Judgement::HangsOn(_) => Rule::Credential,
        Judgement::Settled(Verdict::Refuse(Reason::MalformedRequest | Reason::NoSubject)) => Rule::Malformed,
        Judgement::Settled(Verdict::Refuse(Reason::ForbiddenMethod)) => Rule::ForbiddenMethod,
        Judgement::Settled(Verdict::Refuse(Reason::ForbiddenOrigin)) => Rule::ForbiddenOrigin,
        Judgement::Settled(Verdict::Pass(Pass { identity: None, .. })) if policy.is_public(facts) => Rule::Public,
        Judgement::Settled(_) if facts.is_preflight() => Rule::Preflight,
        Judgement::Settled(_) => Rule::Open,
    };
    let readings = Reading::all(facts.path.as_bytes());
    let restrictions = [Area::Admin, Area::Terminal, Area::Own].into_iter().filter_map(|area| Restriction::of(area, &readings));
    let restrictions = restrictions.collect();
    let credential = policy.credential(facts);
    let jwt = match (credential, &policy.supabase) {
        (Credential::Bearer(token), Some(supabase)) if jwt::looks_like_jwt(token) => {
            Some(JwtTrace::of(token, &supabase.expected, now))
        }
        _ => None,
    };
    let credential = match credential {
        Credential::None => Presented::None,
        Credential::Malformed => Presented::Malformed,
        Credential::Bearer(token) if jwt::looks_like_jwt(token) => Presented::Jwt,
        Credential::Bearer(_) => Presented::Token,
    };
    Trace { rule, readings, restrictions, credential, jwt }
}

impl Reading {
    fn all(path: &[u8]) -> Vec<Self> {
        let all =
            if path::is_plain(path) { vec![path::Reading::unchanged(path)] } else { path::readings(path).unwrap_or_default() };
        all.into_iter().map(Self::of).collect()
    }

    fn of(reading: path::Reading) -> Self {
        let mut areas = Areas::default();
        areas.add(&reading.path);
        Self { path: String::from_utf8_lossy(&reading.path).into_owned(), by: reading.by, areas: areas.list() }
    }
}

impl Restriction {
    /// By the simplest reading that brings the path there.
    fn of(area: Area, readings: &[Reading]) -> Option<Self> {
        let reading = readings.iter().find(|reading| reading.areas.contains(&area))?;
        Some(Self { area, reading: reading.path.clone() })
    }
}

impl JwtTrace {
    fn of(token: &[u8], expected: &Expected, now: UnixTime) -> Self {
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

impl Policy {
    /// Seconds by which clocks may differ, where tokens with times in them may pass.
    pub fn leeway(&self) -> Option<u32> {
        self.supabase.as_ref().map(|supabase| supabase.expected.leeway)
    }

    /// Whether the gateway knows the project's legacy secret.
    pub fn knows_jwt_secret(&self) -> bool {
        self.supabase.as_ref().is_some_and(|supabase| supabase.jwt_secret.is_some())
    }

    /// The key set that the settings hold.
    pub fn pinned_keys(&self) -> Option<&Jwks> {
        self.supabase.as_ref().and_then(|supabase| supabase.pinned.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};

    use super::{Facts, JwtTrace, Presented, Reading, Rewriting, Rule, UnixTime, trace};
    use crate::{
        jwt::Untrusted,
        path::Area,
        settings::{Host, Settings},
        verdict::Reason,
    };
    use alloc::{
        format,
        string::{String, ToString},
        vec::Vec,
    };

    const NOW: UnixTime = UnixTime::from_secs(1_767_225_600);
    const HEADER: &str = r#"{"alg":"ES256","kid":"k1"}"#;

    fn settings(given: &[(&str, &str)]) -> Settings {
        let project =
            [("AUTH_PROVIDER", "supabase"), ("SUPABASE_URL", "http://127.0.0.1:9"), ("SUPABASE_KEY", "sb_publishable_x")];
        let get = |name: &str| given.iter().chain(&project).find(|(known, _)| *known == name).map(|(_, value)| value.to_string());
        Settings::parse(Host::Native, get).unwrap()
    }

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
        assert!(Untrusted::read(sound.as_bytes(), &expected, NOW).is_ok());
        let seen = JwtTrace::of(sound.as_bytes(), &expected, NOW);
        assert_eq!((seen.algorithm.as_deref(), seen.key_id.as_deref(), seen.problem), (Some("ES256"), Some("k1"), None));
        assert!(seen.claims.iter().all(|claim| claim.problem.is_none()), "{seen:?}");
        for (name, value, reason) in spoiled {
            let token = claims_with(Some((name, value)));
            assert_eq!(Untrusted::read(token.as_bytes(), &expected, NOW).unwrap_err(), reason, "{name}");
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

    #[test]
    fn readings_tell_how_one_comes_to_them() {
        let policy = settings(&[]).policy;
        let readings = |path: &str| {
            let seen = trace(&policy, &Facts::new("GET", path, None), NOW);
            let by = |reading: &Reading| reading.by.map(|(from, rewriting)| (seen.readings[from].path.clone(), rewriting));
            seen.readings.iter().map(|reading| (reading.path.clone(), by(reading), reading.areas.clone())).collect::<Vec<_>>()
        };
        assert_eq!(
            readings("/health/..%2fadmin"),
            [
                ("/health/..%2fadmin".into(), None, Vec::new()),
                ("/health/../admin".into(), Some(("/health/..%2fadmin".into(), Rewriting::PercentDecoded)), Vec::new()),
                ("/admin".into(), Some(("/health/../admin".into(), Rewriting::DotSegmentsRemoved)), [Area::Admin].into()),
            ]
        );
        // However long it is, what every program reads alike has one reading; of what has too many, none are told.
        let long = format!("/admin/{}", "x".repeat(5000));
        assert_eq!(readings(&long), [(long.clone(), None, [Area::Admin].into())]);
        assert_eq!(readings(&long.replace("admin", "admin;")), []);
    }

    #[test]
    fn rules_and_restrictions() {
        let policy = settings(&[("AUTH_PROVIDER", "static"), ("WORKER_AUTH_TOKEN", "x")]).policy;
        for (method, path, rule, area) in [
            ("GET", "/health", Rule::Public, None),
            ("POST", "/health", Rule::Credential, None),
            ("TRACE", "/", Rule::ForbiddenMethod, None),
            ("GET", "/%00", Rule::Malformed, None),
            ("GET", "/x/..%2f%61dmin", Rule::Credential, Some(Area::Admin)),
            ("GET", "//terminal", Rule::Credential, Some(Area::Terminal)),
            ("GET", "/.AUTH/x", Rule::Credential, Some(Area::Own)),
        ] {
            let seen = trace(&policy, &Facts::new(method, path, None), NOW);
            assert_eq!(seen.rule, rule, "{method} {path}");
            assert_eq!(seen.restrictions.first().map(|restriction| restriction.area), area, "{method} {path}");
            assert_eq!((seen.credential, seen.jwt), (Presented::None, None));
        }
        let mut preflight = Facts::new("OPTIONS", "/v1", None);
        preflight.header("Origin", b"http://a.example").header("Access-Control-Request-Method", b"PUT");
        assert_eq!(trace(&policy, &preflight, NOW).rule, Rule::Preflight);
        let open = settings(&[("AUTH_PROVIDER", "none")]).policy;
        assert_eq!(trace(&open, &Facts::new("GET", "/.auth/nothing", None), NOW).rule, Rule::Open);
    }
}
