//! A judgement told to a person: what was looked at, one thing after the other, and what came of it.
//!
//! None of this judges. It puts into words what a [`Trace`] saw, what a [`Witness`] was asked, and what was decided.

mod witness;

use alloc::{
    borrow::{Cow, ToOwned},
    format,
    string::String,
    vec,
    vec::Vec,
};

use crate::{
    policy::{Policy, Provider},
    step::Outcome,
    trace::{ClaimTrace, JwtTrace, Presented, Rule, Trace},
    verdict::{Reason, TokenType, Verdict},
};

pub use witness::Witness;

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it was: `path`, `rule`, `credential`, `header`, `claim.exp`, `keys`, `signature`, …
    pub step: Cow<'static, str>,
    /// What came of it.
    pub status: FindingStatus,
    /// Both in words. Never with a secret in them, but with what clients sent: not to be printed as it is.
    pub detail: String,
    /// The claim that it was, if it was one.
    pub claim: Option<ClaimTrace>,
}

/// What came of looking at something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FindingStatus {
    /// There is nothing to judge.
    Info,
    /// It is as it should be.
    Ok,
    /// It is why the request is refused.
    Refused,
}

impl FindingStatus {
    /// `info`, `ok` or `refused`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Ok => "ok",
            Self::Refused => "refused",
        }
    }
}

impl Finding {
    /// Something that is as it should be, or is not.
    pub fn new(step: impl Into<Cow<'static, str>>, is_right: bool, detail: impl Into<String>) -> Self {
        let status = if is_right { FindingStatus::Ok } else { FindingStatus::Refused };
        Self { step: step.into(), status, detail: detail.into(), claim: None }
    }

    /// Something that is neither right nor wrong.
    pub fn info(step: &'static str, detail: impl Into<String>) -> Self {
        Self { step: Cow::Borrowed(step), status: FindingStatus::Info, detail: detail.into(), claim: None }
    }
}

/// All that is to be told of a judgement. `asked` is what a host had to do for it, as its [`Witness`] tells.
pub fn explain(policy: &Policy, seen: &Trace, asked: Vec<Finding>, outcome: &Outcome) -> Vec<Finding> {
    let mut findings = of_path(seen);
    findings.push(of_rule(seen.rule, policy));
    if seen.rule == Rule::Credential {
        findings.extend(of_credential(seen.credential, policy));
        if let Some(jwt) = seen.jwt.as_ref().filter(|jwt| was_read(jwt, &outcome.verdict)) {
            findings.extend(of_jwt(jwt));
            findings.extend(of_secret(jwt, asked.is_empty(), policy, &outcome.verdict));
        }
    }
    findings.extend(asked);
    if outcome.used_stale_keys {
        findings.push(Finding::info("keys", "keys past their age were used, because newer ones cannot be had"));
    }
    let is_told = findings.iter().any(|finding| finding.status == FindingStatus::Refused);
    findings.extend(of_verdict(&outcome.verdict, is_told, seen, policy));
    findings
}

fn of_path(seen: &Trace) -> Vec<Finding> {
    if seen.restrictions.is_empty() {
        return vec![Finding::info("path", "falls under no restricted place by any reading")];
    }
    let shown = seen.restrictions.iter();
    shown.map(|place| Finding::info("path", format!("falls under {}, read as `{}`", place.area.path(), place.reading))).collect()
}

fn of_rule(rule: Rule, policy: &Policy) -> Finding {
    const NAME: &str = "rule";
    match rule {
        Rule::Malformed => {
            Finding::new(NAME, false, "malformed: the request is such that two programs could read it differently")
        }
        Rule::ForbiddenMethod => Finding::new(NAME, false, "forbidden_method: the method is not for gateways"),
        Rule::Loop => Finding::new(NAME, false, "request_loop: the request has passed this gateway before, or eight others"),
        Rule::ForbiddenOrigin => Finding::new(NAME, false, "forbidden_origin: the page is of none of CORS_ORIGINS"),
        Rule::UntrustedProxy => Finding::new(
            NAME,
            false,
            "untrusted_proxy: the peer is neither loopback nor in AUTH_TRUSTED_PROXIES, and AUTH_VERIFY_OPEN is not set",
        ),
        Rule::Public => Finding::new(NAME, true, "public: no credential is asked for"),
        Rule::Preflight => Finding::new(NAME, true, "preflight: no credential is asked for"),
        Rule::Open => Finding::new(NAME, true, "open: the provider asks for no credential here"),
        Rule::Credential => {
            let public: Vec<&str> = policy.public_paths().collect();
            Finding::info(NAME, format!("credential: one is asked for (public are: {})", public.join(", ")))
        }
    }
}

fn of_credential(credential: Presented, policy: &Policy) -> Vec<Finding> {
    const NAME: &str = "credential";
    let not_local = (policy.provider() == Provider::LocalByDefault).then(|| {
        Finding::info(
            "local",
            "the request does not come straight from this machine (its address, Host, Origin and forwarding headers tell), so the token is asked for",
        )
    });
    let presented = match credential {
        Presented::None => Finding::new(NAME, false, "none"),
        Presented::Malformed => Finding::new(NAME, false, "not exactly one bearer token"),
        Presented::Token => Finding::info(NAME, "a bearer token that is no JWT"),
        Presented::Jwt => Finding::info(NAME, "a bearer token that looks like a JWT"),
    };
    not_local.into_iter().chain([presented]).collect()
}

fn is_static(verdict: &Verdict) -> bool {
    match verdict {
        Verdict::Pass(pass) => pass.identity.as_ref().is_some_and(|identity| identity.token_type == TokenType::Static),
        Verdict::Refuse(reason) => *reason == Reason::ExpiredStaticToken,
    }
}

/// A static token may look like a user's, and is not read then: whatever is wrong with it is not what it was refused for.
fn was_read(jwt: &JwtTrace, verdict: &Verdict) -> bool {
    let mut problems = jwt.problem.into_iter().chain(jwt.claims.iter().filter_map(|claim| claim.problem)).peekable();
    !is_static(verdict) && (problems.peek().is_none() || problems.any(|problem| *verdict == Verdict::Refuse(problem)))
}

/// What a user's token says of itself.
fn of_jwt(jwt: &JwtTrace) -> Vec<Finding> {
    let shown = |text: &Option<String>| text.as_ref().map_or_else(|| "absent".to_owned(), |text| format!("`{text}`"));
    let why = |problem: Option<Reason>| problem.map(|reason| format!(" ({})", reason.code())).unwrap_or_default();
    let header = format!("alg {}, kid {}{}", shown(&jwt.algorithm), shown(&jwt.key_id), why(jwt.problem));
    let claims = jwt.claims.iter().map(|claim| {
        let detail = format!("{}; wanted: {}{}", shown(&claim.value), claim.wanted, why(claim.problem));
        let told = Finding::new(format!("claim.{}", claim.name), claim.problem.is_none(), detail);
        Finding { claim: Some(claim.clone()), ..told }
    });
    [Finding::new("header", jwt.problem.is_none(), header)].into_iter().chain(claims).collect()
}

/// A signature that the core itself checks, by the project's legacy secret.
fn of_secret(jwt: &JwtTrace, nobody_was_asked: bool, policy: &Policy, verdict: &Verdict) -> Option<Finding> {
    let is_by_secret = nobody_was_asked && policy.knows_jwt_secret() && jwt.algorithm.as_deref() == Some("HS256");
    let is_read = jwt.problem.is_none() && jwt.claims.iter().all(|claim| claim.problem.is_none());
    let is_right = *verdict != Verdict::Refuse(Reason::BadSignature);
    let detail = if is_right { "made with SUPABASE_JWT_SECRET" } else { "not made with SUPABASE_JWT_SECRET" };
    (is_by_secret && is_read).then(|| Finding::new("signature", is_right, detail))
}

/// What the other steps do not tell of the end.
fn of_verdict(verdict: &Verdict, is_told: bool, seen: &Trace, policy: &Policy) -> Option<Finding> {
    let reason = match verdict {
        Verdict::Pass(_) if is_static(verdict) => return Some(Finding::new("static_token", true, "it is the static token")),
        Verdict::Pass(_) => return None,
        Verdict::Refuse(Reason::ApiKeyRefused) => Reason::ApiKeyRefused,
        Verdict::Refuse(_) if is_told => return None,
        Verdict::Refuse(reason) => *reason,
    };
    let (step, why) = match reason {
        Reason::InvalidToken if seen.credential == Presented::Jwt && policy.provider() != Provider::Supabase => {
            ("static_token", "it is not the static token; the tokens of users pass with AUTH_PROVIDER=supabase only")
        }
        Reason::InvalidToken => ("static_token", "it is not the static token"),
        Reason::ExpiredStaticToken => ("static_token", "it was a static token until its not_after"),
        Reason::UnknownKey if policy.pinned_keys().is_some() => {
            ("key", "SUPABASE_JWKS has not exactly one key of that alg and kid")
        }
        Reason::UnknownKey => ("key", "the project's key set has not exactly one key of that alg and kid"),
        Reason::UserRefused => ("user", "the token is of another user than the project says"),
        Reason::ApiKeyRefused => ("user", "the project refused SUPABASE_KEY, not the token"),
        Reason::NotAnAdmin => ("admin", "the role of the user is not in AUTH_ADMIN_ROLES"),
        Reason::NoAdminToken => ("admin", "ADMIN_TOKEN is set, and the request has no X-Admin-Token"),
        Reason::InvalidAdminToken => ("admin", "X-Admin-Token is not ADMIN_TOKEN"),
        Reason::TerminalNotServed => {
            ("terminal", "it is not served: never in production, else with NODETOOL_ENABLE_TERMINAL_WS=1")
        }
        Reason::NoSuchOwnPath => ("own_path", "the gateway has no such path, and leaves none of its own to the upstream"),
        Reason::OwnPathMethod => ("own_path", "only GET is answered there"),
        Reason::MalformedRequest => ("path", "it has more readings than anyone needs who means well"),
        other => ("verdict", other.code()),
    };
    Some(Finding::new(step, false, why))
}
