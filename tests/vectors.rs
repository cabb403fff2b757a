//! Every vector against the core: settings, facts and time in, answer or forwarded request out.
//!
//! The same files are run over HTTP against both hosts by `http/vectors.test.mjs`. Here they run without a network,
//! natively under `cargo test` and as WebAssembly under `wasm-bindgen-test`.

use std::{collections::BTreeMap, fmt::Write as _};

use nodetool_edge_auth::{
    Action, Answer, Environment, Facts, Forward, Gate, Host, Outcome, Provider, Scheme, Secret, Settings, SettingsErrors, Step,
    Tokens, Unavailable, UnixTime, Upstream, Verdict, begin,
};
use serde::Deserialize;
use serde_json::{Value, json};

/// Embedded, because WebAssembly has no files.
const FILES: [(&str, &str); 16] = [
    ("admin", include_str!("vectors/admin.json")),
    ("cors", include_str!("vectors/cors.json")),
    ("credentials", include_str!("vectors/credentials.json")),
    ("forward-auth", include_str!("vectors/forward-auth.json")),
    ("identity", include_str!("vectors/identity.json")),
    ("loops", include_str!("vectors/loops.json")),
    ("methods", include_str!("vectors/methods.json")),
    ("paths", include_str!("vectors/paths.json")),
    ("preflight", include_str!("vectors/preflight.json")),
    ("providers", include_str!("vectors/providers.json")),
    ("proxies", include_str!("vectors/proxies.json")),
    ("public", include_str!("vectors/public.json")),
    ("settings", include_str!("vectors/settings.json")),
    ("terminal-and-own", include_str!("vectors/terminal-and-own.json")),
    ("tokens", include_str!("vectors/tokens.json")),
    ("websocket", include_str!("vectors/websocket.json")),
];

/// 2026-01-01T00:00:00Z, for cases that do not say when they happen.
const DEFAULT_NOW: u64 = 1_767_225_600;

const IDENTITY: [&str; 3] = ["x-user-id", "x-auth-token-type", "x-auth-role"];

type Headers = BTreeMap<String, String>;
type Failure = String;

#[derive(Deserialize)]
#[serde(untagged)]
enum Case {
    Request(Box<RequestCase>),
    Settings(SettingsCase),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RequestCase {
    name: String,
    hosts: Option<Vec<HostName>>,
    settings: Headers,
    store: Option<String>,
    #[serde(default)]
    store_fails: bool,
    now: Option<u64>,
    scheme: Option<String>,
    peer: Option<String>,
    request: Request,
    expect: Expect,
    /// What differs over HTTP at the edge.
    #[serde(rename = "edge")]
    _edge: Option<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SettingsCase {
    name: String,
    host: HostName,
    settings: Headers,
    /// The names of the wrong settings, sorted, one for each problem.
    errors: Vec<String>,
    means: Option<BTreeMap<String, Value>>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum HostName {
    Native,
    Edge,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    method: String,
    target: String,
    #[serde(default)]
    headers: Vec<(String, String)>,
    /// Over HTTP its length goes into a header; here it is enough that it is there.
    body: Option<String>,
    #[serde(default)]
    no_host: bool,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Expect {
    Forward { forward: ExpectForward },
    Answer(ExpectAnswer),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExpectAnswer {
    status: u16,
    json: Value,
    headers: Headers,
    reason: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExpectForward {
    /// If not that of the request.
    target: Option<String>,
    set: Headers,
    #[serde(default)]
    kept: Headers,
    #[serde(default)]
    dropped: Vec<String>,
}

impl From<HostName> for Host {
    fn from(name: HostName) -> Self {
        match name {
            HostName::Native => Self::Native,
            HostName::Edge => Self::Edge,
        }
    }
}

#[cfg_attr(not(target_arch = "wasm32"), test)]
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test::wasm_bindgen_test)]
fn vectors() {
    let mut count = 0_usize;
    let mut report = String::new();
    for (file, text) in FILES {
        let cases: Vec<Case> = serde_json::from_str(text).unwrap_or_else(|error| panic!("{file}.json: {error}"));
        for case in &cases {
            for (host, outcome) in run(case) {
                count += 1;
                if let Err(failure) = outcome {
                    let _ = writeln!(report, "{file}: {} [{host:?}]\n    {failure}", case.name());
                }
            }
        }
    }
    assert!(report.is_empty(), "of {count} runs, these failed:\n{report}");
    assert!(count > 1000, "only {count} runs: vectors are missing");
}

#[cfg_attr(not(target_arch = "wasm32"), test)]
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test::wasm_bindgen_test)]
fn names_are_unique() {
    let mut seen = BTreeMap::new();
    for (file, text) in FILES {
        let cases: Vec<Case> = serde_json::from_str(text).unwrap_or_else(|error| panic!("{file}.json: {error}"));
        for case in &cases {
            assert_eq!(seen.insert(case.name().to_owned(), file), None, "{file}: `{}` is there twice", case.name());
        }
    }
}

impl Case {
    fn name(&self) -> &str {
        match self {
            Self::Request(case) => &case.name,
            Self::Settings(case) => &case.name,
        }
    }
}

fn run(case: &Case) -> Vec<(HostName, Result<(), Failure>)> {
    match case {
        Case::Settings(case) => vec![(case.host, check_settings(case))],
        Case::Request(case) => {
            let both = [HostName::Native, HostName::Edge];
            // A case that runs on no host over HTTP is still one for the core.
            let hosts = case.hosts.as_deref().filter(|hosts| !hosts.is_empty()).unwrap_or(&both);
            hosts.iter().map(|host| (*host, check_request(case, *host))).collect()
        }
    }
}

fn parse(settings: &Headers, host: HostName) -> Result<Settings, SettingsErrors> {
    Settings::parse(host.into(), |name| settings.get(name).cloned())
}

fn check_settings(case: &SettingsCase) -> Result<(), Failure> {
    let (errors, means) = match parse(&case.settings, case.host) {
        Ok(settings) => (Vec::new(), Some(meaning(&settings))),
        Err(SettingsErrors(errors)) => {
            let mut names: Vec<String> = errors.iter().map(|error| error.name.to_owned()).collect();
            names.sort();
            (names, None)
        }
    };
    same("wrong settings", &case.errors, &errors)?;
    for (name, expected) in case.means.iter().flatten() {
        let got = means.as_ref().and_then(|means| means.get(name)).unwrap_or(&Value::Null);
        same(name, expected, got)?;
    }
    Ok(())
}

fn meaning(settings: &Settings) -> Value {
    let policy = &settings.policy;
    json!({
        "environment": match policy.environment() {
            Environment::Development => "development",
            Environment::Test => "test",
            Environment::Staging => "staging",
            Environment::Production => "production",
        },
        "provider": match policy.provider() {
            Provider::None => "none",
            Provider::Local => "local",
            Provider::LocalByDefault => "local_by_default",
            Provider::Static => "static",
            Provider::Supabase => "supabase",
        },
        "public_paths": policy.public_paths().collect::<Vec<_>>(),
        "token": settings.token.as_ref().map(Secret::reveal),
        "upstream": settings.proxy.upstream.as_ref().map(Upstream::origin),
        "project": settings.project.as_ref().map(|project| &project.url),
        "connect_timeout": settings.proxy.connect_timeout,
        "response_timeout": settings.proxy.response_timeout,
        "idle_timeout": settings.proxy.idle_timeout,
        "ca": settings.proxy.ca,
        "listen": settings.server.listen.to_string(),
        "admin_listen": settings.server.admin_listen.map(|address| address.to_string()),
        "tls": settings.server.tls.as_ref().map(|tls| [&tls.certificate, &tls.key]),
        "limits": [settings.server.limits.head, settings.server.limits.body, settings.server.limits.idle],
        "drain_timeout": settings.server.drain_timeout,
        "max_connections": settings.server.max_connections,
        "upstream_max_connections": settings.proxy.max_connections,
        "memory_budget": settings.server.memory_budget,
        "reuse_port": settings.server.reuse_port,
        "log_level": settings.log_level,
        "logs_json": settings.logs_json,
    })
}

fn check_request(case: &RequestCase, host: HostName) -> Result<(), Failure> {
    let settings = parse(&case.settings, host).map_err(|errors| format!("settings: {errors}"))?;
    let now = UnixTime::from_secs(case.now.unwrap_or(DEFAULT_NOW));
    let mut gate = match &settings.token {
        Some(token) => {
            Gate::with_tokens(settings.policy, Tokens::single(token.reveal()).map_err(|error| format!("token: {error}"))?)
        }
        None => Gate::with_store(settings.policy),
    };
    let peer = case.peer.as_deref().unwrap_or("127.0.0.1");
    let facts = facts(case, peer);
    let step = match begin(&mut gate, &facts, now) {
        Step::NeedTokens(need) => {
            let tokens = if case.store_fails { Err(Unavailable) } else { Ok(case.store.clone().map(Secret::new)) };
            need.provide(tokens, now)
        }
        step => step,
    };
    let Step::Decided(Outcome { verdict, .. }) = step else { return Err("undecided".to_owned()) };
    let action = Action::of(&verdict, gate.policy(), &facts, now);
    match (&case.expect, &action) {
        (Expect::Answer(expected), Action::Respond(answer)) => {
            let reason = match verdict {
                Verdict::Refuse(reason) => Some(reason.code()),
                Verdict::Pass(_) => None,
            };
            same("reason", &expected.reason.as_deref(), &reason)?;
            check_answer(expected, answer, now)
        }
        (Expect::Forward { forward }, Action::Forward(got)) => {
            same("target", case.request.target.as_str(), &facts.target())?;
            same(
                "rewritten target",
                &forward.target.as_deref().filter(|target| *target != case.request.target),
                &got.rewritten_target(),
            )?;
            check_forward(forward, got, peer, host_header(case))
        }
        (Expect::Answer(expected), Action::Forward(_)) => Err(format!("expected {}, got forwarded", expected.status)),
        (Expect::Forward { .. }, Action::Respond(answer)) => {
            Err(format!("expected forward, got {} {}", answer.status, answer.body))
        }
    }
}

fn facts<'a>(case: &'a RequestCase, peer: &'a str) -> Facts<'a> {
    let (path, query) = match case.request.target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (case.request.target.as_str(), None),
    };
    let mut facts = Facts::new(&case.request.method, path, query);
    facts.peer(peer).scheme(if case.scheme.as_deref() == Some("https") { Scheme::Https } else { Scheme::Http });
    if host_header(case) == DEFAULT_HOST && !case.request.no_host {
        facts.header("Host", DEFAULT_HOST.as_bytes());
    }
    if case.request.body.as_ref().is_some_and(|body| !body.is_empty()) {
        facts.body_follows();
    }
    for (name, value) in &case.request.headers {
        facts.header(name, value.as_bytes());
    }
    facts.subject();
    facts
}

/// What a client sends that was told nothing else.
const DEFAULT_HOST: &str = "127.0.0.1:8000";

fn host_header(case: &RequestCase) -> &str {
    let host = case.request.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("host"));
    host.map_or(DEFAULT_HOST, |(_, value)| value)
}

fn check_answer(expected: &ExpectAnswer, answer: &Answer, now: UnixTime) -> Result<(), Failure> {
    same("status", &expected.status, &answer.status)?;
    let mut body: Value = match &*answer.body {
        "" => Value::Null,
        body => serde_json::from_str(body).map_err(|error| format!("body is no JSON: {error}"))?,
    };
    if let Some(timestamp) = body.get_mut("timestamp") {
        same("timestamp", &json!(now.to_rfc3339()), timestamp)?;
        *timestamp = json!("$timestamp");
    }
    same("body", &expected.json, &body)?;
    let mut headers = expected.headers.clone();
    headers.insert("cache-control".to_owned(), "no-store".to_owned());
    if !expected.json.is_null() {
        headers.insert("content-type".to_owned(), "application/json".to_owned());
    }
    let got: Headers = answer.headers().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    same("headers", &headers, &got)
}

fn check_forward(expected: &ExpectForward, got: &Forward<'_>, peer: &str, host: &str) -> Result<(), Failure> {
    let set: Vec<(&str, &str)> = got.sets().collect();
    let mut names: Vec<&str> = set.iter().map(|(name, _)| *name).collect();
    names.sort_unstable();
    names.dedup();
    same("number of headers set", &names.len(), &set.len())?;
    let value_of = |wanted: &str| set.iter().find(|(name, _)| *name == wanted).map(|(_, value)| *value);
    same("authorization", &expected.set.get("authorization").map(String::as_str), &value_of("authorization"))?;
    for name in IDENTITY {
        same(name, &expected.set.get(name).map(String::as_str), &value_of(name))?;
        ensure(!got.keeps(name), || format!("{name} of the client goes on"))?;
    }
    for (name, value) in &expected.set {
        let value = match value.as_str() {
            "$peer" => peer,
            "$host" => host,
            value => value,
        };
        same(name, &Some(value), &value_of(name))?;
    }
    for name in expected.kept.keys() {
        ensure(got.keeps(name), || format!("{name} is dropped"))?;
    }
    for name in &expected.dropped {
        ensure(!got.keeps(name), || format!("{name} goes on"))?;
    }
    Ok(())
}

fn same<T: PartialEq + std::fmt::Debug + ?Sized>(what: &str, expected: &T, got: &T) -> Result<(), Failure> {
    ensure(expected == got, || format!("{what}: expected {expected:?}, got {got:?}"))
}

fn ensure(holds: bool, failure: impl FnOnce() -> Failure) -> Result<(), Failure> {
    if holds { Ok(()) } else { Err(failure()) }
}
