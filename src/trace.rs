//! What a judgement rests on, as data: for programs that explain one to a person.
//!
//! Nothing here judges anything. Each answer is had from the very functions that judge, so that an explanation cannot
//! disagree with a gateway.

mod token;

use alloc::{string::String, vec, vec::Vec};

use crate::{
    credential::Credential,
    facts::Facts,
    jwt,
    keys::Jwks,
    path::{self, Area, Areas, Rewriting},
    policy::{Judgement, Policy},
    time::UnixTime,
    verdict::{Pass, Reason, Verdict},
};

pub use token::{ClaimTrace, JwtTrace};

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
    /// It has passed this gateway before, or too many others.
    Loop,
    /// A page of a foreign origin asks.
    ForbiddenOrigin,
    /// A peer that may not ask at `/.auth/verify`.
    UntrustedProxy,
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
    /// A bearer token that does not have the structure of a JWT.
    Token,
    /// A bearer token that has it.
    Jwt,
}

/// What a policy sees in a request before anybody is asked about it. The verdict is had from [`begin`](crate::begin).
pub fn trace<'a>(policy: &Policy, facts: &'a Facts<'a>, now: UnixTime) -> Trace {
    let rule = match policy.judge(facts) {
        Judgement::HangsOn(_) => Rule::Credential,
        Judgement::Settled(Verdict::Refuse(Reason::MalformedRequest | Reason::NoSubject)) => Rule::Malformed,
        Judgement::Settled(Verdict::Refuse(Reason::ForbiddenMethod)) => Rule::ForbiddenMethod,
        Judgement::Settled(Verdict::Refuse(Reason::RequestLoop)) => Rule::Loop,
        Judgement::Settled(Verdict::Refuse(Reason::ForbiddenOrigin)) => Rule::ForbiddenOrigin,
        Judgement::Settled(Verdict::Refuse(Reason::UntrustedProxy)) => Rule::UntrustedProxy,
        Judgement::Settled(Verdict::Pass(Pass { identity: None, .. })) if policy.is_public(facts) => Rule::Public,
        Judgement::Settled(_) if facts.is_preflight() => Rule::Preflight,
        Judgement::Settled(_) => Rule::Open,
    };
    let readings = Reading::all(facts.path.as_bytes());
    let restrictions = [Area::Admin, Area::Terminal, Area::Own].into_iter().filter_map(|area| Restriction::of(area, &readings));
    let restrictions = restrictions.collect();
    let credential = policy.credential(facts);
    let jwt = match (credential, &policy.supabase) {
        (Credential::Bearer(token), Some(supabase)) if jwt::split(token).is_some() => {
            Some(JwtTrace::of(token, &supabase.expected, now))
        }
        _ => None,
    };
    let credential = match credential {
        Credential::None => Presented::None,
        Credential::Malformed => Presented::Malformed,
        Credential::Bearer(token) if jwt::split(token).is_some() => Presented::Jwt,
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
    use super::{Facts, Presented, Reading, Rewriting, Rule, UnixTime, trace};
    use crate::{
        path::Area,
        settings::{Host, Settings},
    };
    use alloc::{format, string::ToString, vec::Vec};

    pub(super) const NOW: UnixTime = UnixTime::from_secs(1_767_225_600);

    pub(super) fn settings(given: &[(&str, &str)]) -> Settings {
        let project =
            [("AUTH_PROVIDER", "supabase"), ("SUPABASE_URL", "http://127.0.0.1:9"), ("SUPABASE_KEY", "sb_publishable_x")];
        let get = |name: &str| given.iter().chain(&project).find(|(known, _)| *known == name).map(|(_, value)| value.to_string());
        Settings::parse(Host::Native, get).unwrap()
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
