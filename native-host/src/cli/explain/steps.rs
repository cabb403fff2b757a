//! What was looked at, one thing after the other. None of this judges: it tells what the core saw, and what it decided.

use nodetool_edge_auth::{JwtTrace, Outcome, Policy, Presented, Provider, Reason, Rule, TokenType, Trace, Verdict, mask_token};

use crate::store::{Found, TokenSource};

/// One thing that was looked at.
pub(super) struct Step {
    pub(super) step: String,
    pub(super) status: Status,
    pub(super) detail: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    /// There is nothing to judge.
    Info,
    Ok,
    Refused,
}

impl Status {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Ok => "ok",
            Self::Refused => "refused",
        }
    }
}

impl Step {
    pub(super) fn new(step: impl Into<String>, is_right: bool, detail: impl Into<String>) -> Self {
        let status = if is_right { Status::Ok } else { Status::Refused };
        Self { step: step.into(), status, detail: detail.into() }
    }

    fn info(step: &'static str, detail: impl Into<String>) -> Self {
        Self { step: step.to_owned(), status: Status::Info, detail: detail.into() }
    }
}

/// All that is to be told of a judgement. `asked` is what a host had to do for it.
pub(super) fn tell(found: Option<&Found>, policy: &Policy, seen: &Trace, asked: Vec<Step>, outcome: &Outcome) -> Vec<Step> {
    let mut steps: Vec<Step> = found.map(of_source).into_iter().collect();
    steps.extend(of_path(seen));
    steps.push(of_rule(seen.rule, policy));
    if seen.rule == Rule::Credential {
        steps.extend(of_credential(seen.credential, policy));
        if let Some(jwt) = seen.jwt.as_ref().filter(|jwt| was_read(jwt, &outcome.verdict)) {
            steps.extend(of_jwt(jwt));
            steps.extend(of_secret(jwt, asked.is_empty(), policy, &outcome.verdict));
        }
    }
    steps.extend(asked);
    if outcome.used_stale_keys {
        steps.push(Step::info("keys", "keys past their age were used, because newer ones cannot be had"));
    }
    let is_told = steps.iter().any(|step| step.status == Status::Refused);
    steps.extend(of_verdict(&outcome.verdict, is_told, seen, policy));
    steps
}

fn of_source(found: &Found) -> Step {
    let what = match (&found.token, &found.source) {
        (_, TokenSource::Generated(path)) => {
            format!("there is no static token yet: a server would generate one, and save it to {}", path.display())
        }
        (Some(token), source) => format!("the static token is {}, from: {source}", mask_token(token.reveal())),
        (None, source) => format!("static tokens are known by their hashes, from: {source}"),
    };
    Step::info("token", what)
}

fn of_path(seen: &Trace) -> Vec<Step> {
    if seen.restrictions.is_empty() {
        return vec![Step::info("path", "falls under no restricted place by any reading")];
    }
    let shown = seen.restrictions.iter();
    shown.map(|place| Step::info("path", format!("falls under {}, read as `{}`", place.area.path(), place.reading))).collect()
}

fn of_rule(rule: Rule, policy: &Policy) -> Step {
    const NAME: &str = "rule";
    match rule {
        Rule::Malformed => Step::new(NAME, false, "malformed: the request is such that two programs could read it differently"),
        Rule::ForbiddenMethod => Step::new(NAME, false, "forbidden_method: the method is not for gateways"),
        Rule::ForbiddenOrigin => Step::new(NAME, false, "forbidden_origin: the page is of none of CORS_ORIGINS"),
        Rule::Public => Step::new(NAME, true, "public: no credential is asked for"),
        Rule::Preflight => Step::new(NAME, true, "preflight: no credential is asked for"),
        Rule::Open => Step::new(NAME, true, "open: the provider asks for no credential here"),
        Rule::Credential => {
            let public: Vec<&str> = policy.public_paths().collect();
            Step::info(NAME, format!("credential: one is asked for (public are: {})", public.join(", ")))
        }
    }
}

fn of_credential(credential: Presented, policy: &Policy) -> Vec<Step> {
    const NAME: &str = "credential";
    let not_local = (policy.provider() == Provider::LocalByDefault).then(|| {
        Step::info(
            "local",
            "the request does not come straight from this machine (its address, Host, Origin and forwarding headers tell), so the token is asked for",
        )
    });
    let presented = match credential {
        Presented::None => Step::new(NAME, false, "none"),
        Presented::Malformed => Step::new(NAME, false, "not exactly one bearer token"),
        Presented::Token => Step::info(NAME, "a bearer token that is no JWT"),
        Presented::Jwt => Step::info(NAME, "a bearer token that looks like a JWT"),
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
fn of_jwt(jwt: &JwtTrace) -> Vec<Step> {
    let shown = |text: &Option<String>| text.as_ref().map_or_else(|| "absent".to_owned(), |text| format!("`{text}`"));
    let why = |problem: Option<Reason>| problem.map(|reason| format!(" ({})", reason.code())).unwrap_or_default();
    let header = format!("alg {}, kid {}{}", shown(&jwt.algorithm), shown(&jwt.key_id), why(jwt.problem));
    let claims = jwt.claims.iter().map(|claim| {
        let detail = format!("{}; wanted: {}{}", shown(&claim.value), claim.wanted, why(claim.problem));
        Step::new(format!("claim.{}", claim.name), claim.problem.is_none(), detail)
    });
    [Step::new("header", jwt.problem.is_none(), header)].into_iter().chain(claims).collect()
}

/// A signature that the core itself checks, by the project's legacy secret.
fn of_secret(jwt: &JwtTrace, nobody_was_asked: bool, policy: &Policy, verdict: &Verdict) -> Option<Step> {
    let is_by_secret = nobody_was_asked && policy.knows_jwt_secret() && jwt.algorithm.as_deref() == Some("HS256");
    let is_read = jwt.problem.is_none() && jwt.claims.iter().all(|claim| claim.problem.is_none());
    let is_right = *verdict != Verdict::Refuse(Reason::BadSignature);
    let detail = if is_right { "made with SUPABASE_JWT_SECRET" } else { "not made with SUPABASE_JWT_SECRET" };
    (is_by_secret && is_read).then(|| Step::new("signature", is_right, detail))
}

/// What the other steps do not tell of the end.
fn of_verdict(verdict: &Verdict, is_told: bool, seen: &Trace, policy: &Policy) -> Option<Step> {
    let reason = match verdict {
        Verdict::Pass(_) if is_static(verdict) => return Some(Step::new("static_token", true, "it is the static token")),
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
    Some(Step::new(step, false, why))
}
