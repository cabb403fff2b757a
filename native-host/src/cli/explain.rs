//! `nodetool-auth explain`: what would become of a request, and why, by the very code that the server runs.

use std::{
    cell::RefCell,
    io::{self, Read, Write},
    net::IpAddr,
    process::ExitCode,
};

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use hyper::{
    HeaderMap, Method, Request,
    header::{self, HeaderName, HeaderValue},
    http::request::Parts,
};
use nodetool_edge_auth::{
    Action, Answer, Destination, Effects, Facts, FetchedKeys, Gate, Identity, Jwks, JwtTrace, Outcome, Policy, Presented,
    Project as ProjectSettings, Reason, Rule, Secret, SignatureCheck, Step as Stage, TokenType, Tokens, Trace, Unavailable,
    UnixTime, UserAnswer, Verdict, WantedKeys, begin, drive, mask_token, trace,
};
use serde_json::{Value, json};
use tokio::runtime;

use super::{EXIT_MISCONFIGURED, Failure, Given, check::one_line, flags};
use crate::{
    clock,
    fetch::Plan,
    gateway::Host,
    project::Project,
    request,
    store::{self, TokenSource},
};

/// The request would be refused.
const EXIT_REFUSED: u8 = 2;

/// Larger than any request head that the server takes.
const MAX_INPUT: u64 = 64 * 1024;

/// What a command line must not hold, since every user of a machine can read it.
const SECRET_HEADERS: [&str; 4] = ["authorization", "cookie", "proxy-authorization", "x-admin-token"];

pub(super) fn command() -> Command {
    let switch = |name: &'static str| Arg::new(name).long(name).action(ArgAction::SetTrue);
    Command::new("explain")
        .about("Tell what would become of a request, step by step, and why")
        .after_help(
            "Takes the settings of `serve`, and asks the Supabase project like it. No token is generated or saved.\n\n\
             Exit status: 0 if the request would pass, 2 if it would be refused, 1 if that cannot be told, 78 if a setting is wrong.",
        )
        .args(flags())
        .arg(Arg::new("method").long("method").value_name("METHOD").default_value("GET").help("The method"))
        .arg(Arg::new("path").long("path").value_name("PATH").required(true).help("The path as it is sent, with its query if it has one"))
        .arg(
            Arg::new("header")
                .long("header")
                .value_name("NAME: VALUE")
                .action(ArgAction::Append)
                .help("A header of the request; may be given several times. `Host` is the listen address unless it is given"),
        )
        .arg(
            Arg::new("peer")
                .long("peer")
                .value_name("ADDRESS")
                .value_parser(value_parser!(IpAddr))
                .default_value("127.0.0.1")
                .help("The address that the request comes from"),
        )
        .arg(switch("token-stdin").conflicts_with("headers-stdin").help("Read a bearer token from standard input"))
        .arg(switch("headers-stdin").help("Read further headers from standard input, one a line: those with secrets in them"))
        .arg(switch("json").help("Print one JSON object"))
}

pub(super) fn run(arguments: &ArgMatches) -> ExitCode {
    match explain(arguments) {
        Ok(explanation) => {
            // Nobody to read it changes nothing about the verdict.
            let _ = explanation.print(arguments.get_flag("json"));
            if explanation.passes { ExitCode::SUCCESS } else { ExitCode::from(EXIT_REFUSED) }
        }
        Err(Problem::Cli(Failure::Settings(errors))) => {
            eprintln!("nodetool-auth cannot explain anything, because of its settings:\n{errors}");
            ExitCode::from(EXIT_MISCONFIGURED)
        }
        Err(problem) => {
            eprintln!("nodetool-auth cannot explain this: {problem}");
            ExitCode::FAILURE
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error(transparent)]
    Cli(#[from] Failure),
    #[error("{0}")]
    Request(String),
    #[error("standard input: {0}")]
    Input(#[from] io::Error),
}

impl From<crate::store::StoreError> for Problem {
    fn from(error: crate::store::StoreError) -> Self {
        Self::Cli(error.into())
    }
}

/// One thing that was looked at.
struct Step {
    step: String,
    /// Nothing where there is nothing to judge.
    is_right: Option<bool>,
    detail: String,
}

impl Step {
    fn new(step: &str, is_right: impl Into<Option<bool>>, detail: impl Into<String>) -> Self {
        Self { step: step.to_owned(), is_right: is_right.into(), detail: detail.into() }
    }

    const fn status(&self) -> &'static str {
        match self.is_right {
            None => "info",
            Some(true) => "ok",
            Some(false) => "refused",
        }
    }
}

struct Explanation {
    passes: bool,
    steps: Vec<Step>,
    /// All but the steps, under stable names.
    result: serde_json::Map<String, Value>,
    /// The same in words.
    summary: Vec<String>,
}

impl Explanation {
    fn print(&self, as_json: bool) -> io::Result<()> {
        let mut out = io::stdout().lock();
        if as_json {
            let step = |step: &Step| json!({ "step": step.step, "status": step.status(), "detail": step.detail });
            let mut object = self.result.clone();
            object.insert("steps".to_owned(), self.steps.iter().map(step).collect());
            writeln!(out, "{:#}", Value::from(object))?;
        } else {
            for step in &self.steps {
                writeln!(out, "{:<8} {}: {}", step.status(), step.step, one_line(&step.detail))?;
            }
            writeln!(out)?;
            for line in &self.summary {
                writeln!(out, "{}", one_line(line))?;
            }
        }
        out.flush()
    }
}

fn explain(arguments: &ArgMatches) -> Result<Explanation, Problem> {
    let given = Given::by(arguments)?;
    let mut steps = Vec::new();
    let tokens = known_tokens(&given, &mut steps)?;
    let settings = given.settings;
    let parts = described(arguments, &settings.listen.to_string())?;
    let peer = arguments.get_one::<IpAddr>("peer").map_or_else(String::new, |peer| peer.to_canonical().to_string());
    let facts = request::facts(&parts, false, &peer).ok_or_else(|| Problem::Request("the request has no Host".to_owned()))?;

    let now = clock::now();
    let project = settings.project.as_ref().map(Project::new).transpose().map_err(Failure::from)?;
    let witness = Witness { host: Host { project }, settings: settings.project, seen: RefCell::default() };
    let mut gate = Gate::with_tokens(settings.policy, tokens);
    let policy = gate.policy().clone();
    let seen = trace(&policy, &facts, now);
    let runtime = runtime::Builder::new_current_thread().enable_all().build().map_err(Problem::Input)?;
    let outcome = match begin(&mut gate, &facts, now) {
        Stage::Decided(outcome) => outcome,
        step => runtime.block_on(drive(step, &witness)),
    };

    tell_what_was_seen(&mut steps, &seen, &outcome, &policy);
    tell_what_was_asked(&mut steps, &seen, &outcome, witness, &policy);
    let verdict = outcome.verdict;
    let mut explanation = Explanation { passes: false, steps, result: serde_json::Map::new(), summary: Vec::new() };
    explanation.conclude(&verdict, &facts);
    let upstream = settings.proxy.upstream.as_ref().map(|upstream| upstream.authority.as_str());
    explanation.tell_what_follows(&Action::of(&verdict, &policy, &facts, now), &facts, &parts.headers, upstream);
    Ok(explanation)
}

/// The tokens that a server would start with; but none is made for this.
fn known_tokens(given: &Given, steps: &mut Vec<Step>) -> Result<Tokens, Problem> {
    /// Of no text that anybody knows: in place of the token that a server would generate.
    const UNKNOWN: &str = r#"{"tokens":[{"sha256":"0000000000000000000000000000000000000000000000000000000000000000"}]}"#;
    let settings = &given.settings;
    let unusable =
        |source: &TokenSource, error: &dyn std::fmt::Display| Failure::Token(format!("worker_auth_token in {source}: {error}"));
    let mut tell = |detail: String| steps.push(Step::new("token", None, detail));
    if let Some(token) = &settings.token {
        let source = TokenSource::Environment;
        tell(format!("the static token is {}, from: {source}", mask_token(token.reveal())));
        return Ok(Tokens::single(token.reveal()).map_err(|error| unusable(&source, &error))?);
    }
    if settings.policy.provider() == nodetool_edge_auth::Provider::None {
        return Ok(Tokens::default());
    }
    let path = given.config_path()?;
    let config = store::load_deployment_config(&path)?;
    if config.token.is_none() && config.accepted.is_empty() {
        tell(format!("there is no static token yet: a server would generate one, and save it to {}", path.display()));
        return Ok(Tokens::parse(UNKNOWN).unwrap_or_default());
    }
    let source = TokenSource::File(path);
    let single = config.token.as_ref().map(|token| Tokens::single(token.reveal())).transpose();
    let single = single.map_err(|error| unusable(&source, &error))?;
    let shown = config.token.as_ref().map_or_else(|| "known by its hash".to_owned(), |token| mask_token(token.reveal()));
    tell(format!("the static token is {shown}, from: {source}"));
    Ok(single.unwrap_or_default().and(config.accepted))
}

/// The request as the server would have read it.
fn described(arguments: &ArgMatches, listen: &str) -> Result<Parts, Problem> {
    let text = |name: &str| arguments.get_one::<String>(name).map_or("", String::as_str);
    let method: Method = text("method").parse().map_err(|_| Problem::Request("--method is no method of HTTP".to_owned()))?;
    let path = text("path");
    if !path.starts_with('/') {
        return Err(Problem::Request("--path must begin with /".to_owned()));
    }
    let mut request = Request::new(());
    *request.uri_mut() = path.parse().map_err(|error| {
        Problem::Request(format!("--path cannot stand in a request ({error}): the server answers 400 before anything is judged"))
    })?;
    *request.method_mut() = method;
    let headers = request.headers_mut();
    for line in arguments.get_many::<String>("header").into_iter().flatten() {
        let (name, value) = header_line(line.as_bytes())?;
        if SECRET_HEADERS.contains(&name.as_str()) {
            return Err(Problem::Request(format!(
                "{name} holds a secret, which every user of a machine could read here; use --token-stdin or --headers-stdin"
            )));
        }
        headers.append(name, value);
    }
    if arguments.get_flag("token-stdin") {
        let mut bearer = HeaderValue::from_bytes(&[b"Bearer ", read_input()?.trim_ascii()].concat())
            .map_err(|_| Problem::Request("the token on standard input cannot stand in a header".to_owned()))?;
        bearer.set_sensitive(true);
        headers.append(header::AUTHORIZATION, bearer);
    }
    if arguments.get_flag("headers-stdin") {
        for line in read_input()?.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty()) {
            let (name, mut value) = header_line(line)?;
            value.set_sensitive(true);
            headers.append(name, value);
        }
    }
    if !headers.contains_key(header::HOST) {
        let host = HeaderValue::from_str(listen).map_err(|_| Problem::Request("the listen address is no Host".to_owned()))?;
        headers.insert(header::HOST, host);
    }
    Ok(request.into_parts().0)
}

/// Nothing of the line is repeated where it is wrong: it may hold a secret.
fn header_line(line: &[u8]) -> Result<(HeaderName, HeaderValue), Problem> {
    let wrong = || Problem::Request("a header is not of the form `Name: value`".to_owned());
    let colon = line.iter().position(|byte| *byte == b':').ok_or_else(wrong)?;
    let (name, value) = line.split_at_checked(colon).ok_or_else(wrong)?;
    let name = HeaderName::from_bytes(name).map_err(|_| wrong())?;
    let value = value.strip_prefix(b":").unwrap_or_default().trim_ascii();
    Ok((name, HeaderValue::from_bytes(value).map_err(|_| wrong())?))
}

fn read_input() -> io::Result<Vec<u8>> {
    let mut input = Vec::new();
    let read = io::stdin().lock().take(MAX_INPUT + 1).read_to_end(&mut input)?;
    if read as u64 > MAX_INPUT { Err(io::Error::other("it is longer than 64 KiB")) } else { Ok(input) }
}

/// The host of a server, and what it was asked to do.
struct Witness {
    host: Host,
    settings: Option<ProjectSettings>,
    seen: RefCell<Vec<Step>>,
}

impl Witness {
    fn tell(&self, step: &str, is_right: impl Into<Option<bool>>, detail: impl Into<String>) {
        self.seen.borrow_mut().push(Step::new(step, is_right, detail));
    }

    fn url(&self, of: impl Fn(&ProjectSettings) -> String) -> String {
        self.settings.as_ref().map(of).unwrap_or_default()
    }
}

impl Effects for Witness {
    fn now(&self) -> UnixTime {
        self.host.now()
    }

    async fn tokens(&self) -> Result<Option<Secret>, Unavailable> {
        self.host.tokens().await
    }

    async fn keys(&self, wanted: WantedKeys) -> (Result<FetchedKeys, Unavailable>, UnixTime) {
        let answer = self.host.keys(wanted).await;
        let url = self.url(ProjectSettings::jwks_url);
        match &answer.0 {
            Ok(fetched) => {
                let names: Vec<_> =
                    Jwks::parse(&fetched.document).unwrap_or_default().iter().map(|key| key.algorithm.name()).collect();
                let names = if names.is_empty() { "no usable key".to_owned() } else { format!("keys for {}", names.join(", ")) };
                self.tell("keys", true, format!("{url} has {names}"));
            }
            Err(Unavailable) => self.tell("keys", false, format!("{url} cannot be fetched; `nodetool-auth check` tells why")),
        }
        answer
    }

    async fn signature(&self, check: SignatureCheck<'_>) -> bool {
        let is_right = self.host.signature(check).await;
        self.tell("key", true, format!("the token's key is known; it is for {}", check.key.algorithm.name()));
        self.tell("signature", is_right, if is_right { "right" } else { "not made with that key" });
        is_right
    }

    async fn user(&self, token: &Secret) -> Result<UserAnswer, Unavailable> {
        let answer = self.host.user(token).await;
        let url = self.url(ProjectSettings::user_url);
        match &answer {
            Ok(answer) => self.tell(
                "user",
                answer.status == 200,
                format!("{url} was asked about the token, and answered {}", answer.status),
            ),
            Err(Unavailable) => self.tell("user", false, format!("{url} cannot be asked; `nodetool-auth check` tells why")),
        }
        answer
    }
}

fn tell_what_was_seen(steps: &mut Vec<Step>, seen: &Trace, outcome: &Outcome, policy: &Policy) {
    let (is_right, what) = match seen.rule {
        Rule::Malformed => (Some(false), "the request is malformed: two programs could read it differently"),
        Rule::ForbiddenMethod => (Some(false), "the method is not for gateways"),
        Rule::Public => (Some(true), "a public path: no credential is asked for"),
        Rule::Preflight => (Some(true), "a CORS preflight: no credential is asked for"),
        Rule::Open => (Some(true), "the provider asks for no credential here"),
        Rule::Credential => (None, "a credential is asked for"),
    };
    let rule = match seen.rule {
        Rule::Malformed => "malformed",
        Rule::ForbiddenMethod => "forbidden_method",
        Rule::Public => "public",
        Rule::Preflight => "preflight",
        Rule::Open => "open",
        Rule::Credential => "credential",
    };
    for restriction in &seen.restrictions {
        let detail = format!("falls under {}, read as `{}`", restriction.area.path(), restriction.reading);
        steps.push(Step::new("path", None, detail));
    }
    if seen.restrictions.is_empty() {
        steps.push(Step::new("path", None, "falls under no restricted place by any reading"));
    }
    let public: Vec<&str> = policy.public_paths().collect();
    let what =
        if seen.rule == Rule::Credential { format!("{what} (public are: {})", public.join(", ")) } else { what.to_owned() };
    steps.push(Step::new("rule", is_right, format!("{rule}: {what}")));
    if seen.rule != Rule::Credential {
        return;
    }
    let (is_right, what) = match seen.credential {
        Presented::None => (Some(false), "none"),
        Presented::Malformed => (Some(false), "not exactly one bearer token"),
        Presented::Token => (None, "a bearer token that is no JWT"),
        Presented::Jwt => (None, "a bearer token that looks like a JWT"),
    };
    steps.push(Step::new("credential", is_right, what));
    if let Some(jwt) = seen.jwt.as_ref().filter(|_| !is_static(&outcome.verdict)) {
        tell_what_the_token_says(steps, jwt);
    }
}

/// A static token may look like a JWT, and is not read then.
fn is_static(verdict: &Verdict) -> bool {
    match verdict {
        Verdict::Pass(pass) => pass.identity.as_ref().is_some_and(|identity| identity.token_type == TokenType::Static),
        Verdict::Refuse(reason) => *reason == Reason::ExpiredStaticToken,
    }
}

fn tell_what_the_token_says(steps: &mut Vec<Step>, jwt: &JwtTrace) {
    let shown = |text: &Option<String>| text.as_ref().map_or_else(|| "absent".to_owned(), |text| format!("`{text}`"));
    let reason = jwt.problem.map(|reason| format!(" ({})", reason.code())).unwrap_or_default();
    let detail = format!("alg {}, kid {}{reason}", shown(&jwt.algorithm), shown(&jwt.key_id));
    steps.push(Step::new("header", jwt.problem.is_none(), detail));
    for claim in &jwt.claims {
        let reason = claim.problem.map(|reason| format!(" ({})", reason.code())).unwrap_or_default();
        let detail = format!("{}; wanted: {}{reason}", shown(&claim.value), claim.wanted);
        steps.push(Step::new(&format!("claim.{}", claim.name), claim.problem.is_none(), detail));
    }
}

fn tell_what_was_asked(steps: &mut Vec<Step>, seen: &Trace, outcome: &Outcome, witness: Witness, policy: &Policy) {
    let asked = witness.seen.into_inner();
    let nobody_was = asked.is_empty();
    steps.extend(asked);
    let jwt = seen.jwt.as_ref().filter(|jwt| jwt.problem.is_none() && jwt.claims.iter().all(|claim| claim.problem.is_none()));
    if seen.rule == Rule::Credential
        && !is_static(&outcome.verdict)
        && let Some(jwt) = jwt
    {
        let by_secret = nobody_was && policy.knows_jwt_secret() && jwt.algorithm.as_deref() == Some("HS256");
        match &outcome.verdict {
            // The core does these by itself.
            Verdict::Refuse(Reason::BadSignature) if by_secret => {
                steps.push(Step::new("signature", false, "not made with SUPABASE_JWT_SECRET"))
            }
            Verdict::Refuse(Reason::UnknownKey) => {
                let place = if policy.pinned_keys().is_some() { "SUPABASE_JWKS" } else { "the project's key set" };
                steps.push(Step::new("key", false, format!("{place} has not exactly one key of that alg and kid")));
            }
            _ if by_secret => steps.push(Step::new("signature", true, "made with SUPABASE_JWT_SECRET")),
            _ => {}
        }
    }
    if outcome.used_stale_keys {
        steps.push(Step::new("keys", None, "keys past their age were used, because newer ones cannot be had"));
    }
}

impl Explanation {
    fn conclude(&mut self, verdict: &Verdict, facts: &Facts<'_>) {
        self.tell("method", facts.method().into());
        self.tell("path", facts.path().into());
        match verdict {
            Verdict::Refuse(reason) => {
                self.tell("verdict", "refuse".into());
                self.tell("reason", reason.code().into());
                self.summary.push(format!("refused: {}", reason.code()));
            }
            Verdict::Pass(pass) => {
                self.passes = true;
                self.tell("verdict", "pass".into());
                let who = |identity: &Identity| json!({ "user_id": identity.user_id, "token_type": identity.token_type.as_str(), "role": identity.role });
                self.tell("identity", pass.identity.as_ref().map(who).into());
                let whom = pass.identity.as_ref().map_or_else(
                    || "without an identity".to_owned(),
                    |identity| format!("as {} ({})", identity.user_id, identity.token_type.as_str()),
                );
                let place = if pass.to == Destination::Whoami { ", to the gateway's own whoami" } else { "" };
                self.summary.push(format!("passes {whom}{place}"));
            }
        }
    }

    fn tell(&mut self, name: &str, value: Value) {
        self.result.insert(name.to_owned(), value);
    }

    fn tell_what_follows(&mut self, action: &Action<'_>, facts: &Facts<'_>, headers: &HeaderMap, upstream: Option<&str>) {
        match action {
            Action::Respond(answer) => self.tell_answer(answer),
            Action::Forward(forward) => {
                let mut headers = headers.clone();
                let authority = upstream.and_then(|authority| HeaderValue::from_str(authority).ok());
                let authority = authority.unwrap_or(HeaderValue::from_static(""));
                Plan::new(forward, &headers, facts.is_websocket()).apply(&mut headers, &authority);
                let shown: Vec<(String, String)> =
                    headers.iter().map(|(name, value)| (name.to_string(), masked(name, value))).collect();
                self.summary.push(format!("the upstream {} would see:", upstream.unwrap_or_default()));
                self.summary.extend(shown.iter().map(|(name, value)| format!("    {name}: {value}")));
                self.tell("upstream", json!({ "authority": upstream, "headers": shown }));
            }
        }
    }

    fn tell_answer(&mut self, answer: &Answer) {
        let body: Value = serde_json::from_str(&answer.body).unwrap_or_default();
        let detail = body.get("detail").cloned().unwrap_or_default();
        let headers: serde_json::Map<_, _> =
            answer.headers().map(|(name, value)| (name.to_owned(), Value::from(value))).collect();
        self.summary.push(format!("the answer would be: {} {}", answer.status, answer.body));
        self.summary.extend(answer.headers().map(|(name, value)| format!("    {name}: {value}")));
        self.tell("answer", json!({ "status": answer.status, "detail": detail, "headers": headers }));
    }
}

/// A header as it may be shown.
fn masked(name: &HeaderName, value: &HeaderValue) -> String {
    let is_secret = value.is_sensitive() || SECRET_HEADERS.contains(&name.as_str());
    match (is_secret, name == header::AUTHORIZATION) {
        (true, true) => "Bearer ***".to_owned(),
        (true, false) => "***".to_owned(),
        (false, _) => String::from_utf8_lossy(value.as_bytes()).into_owned(),
    }
}
