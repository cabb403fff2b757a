//! `nodetool-auth explain`: what would become of a request, and why, by the very code that the server runs.

mod described;
#[cfg(test)]
mod tests;

use std::{io, process::ExitCode, sync::Arc};

use clap::{Arg, ArgAction, ArgMatches, Command};
use hyper::{HeaderMap, header::HeaderValue};
use nodetool_edge_auth::{
    Action, Answer, Destination, Facts, Finding, Gate, Identity, Settings, SettingsErrors, Tokens, Verdict, Witness, begin,
    drive, explain as tell, mask_token, trace,
};
use serde_json::{Map, Value, json};
use tokio::runtime;

use super::{
    EXIT_MISCONFIGURED, Given, flags,
    output::{one_line, print},
};
use crate::{
    clock,
    judge::Host,
    plan,
    project::{self, Project},
    request,
    store::{self, Found, StoreError, TokenSource},
};
use described::{Described, masked};

/// The request would be refused.
const EXIT_REFUSED: u8 = 2;

pub(super) fn command() -> Command {
    Command::new("explain")
        .about("Tell what would become of a request, step by step, and why")
        .after_help(
            "Takes the settings of `serve`, and asks the Supabase project like it. No token is generated or saved.\n\n\
             Exit status: 0 if the request would pass, 2 if it would be refused, 1 if that cannot be told, 78 if a setting is wrong.",
        )
        .args(flags())
        .args(described::flags())
        .arg(Arg::new("json").long("json").action(ArgAction::SetTrue).help("Print one JSON object"))
}

pub(super) fn run(arguments: &ArgMatches) -> ExitCode {
    match explain(arguments) {
        Ok(explanation) => {
            // Nobody to read it changes nothing about the verdict.
            let _ = print(arguments, &explanation.lines().join("\n"), || explanation.json());
            if explanation.passes() { ExitCode::SUCCESS } else { ExitCode::from(EXIT_REFUSED) }
        }
        Err(Problem::Settings(errors)) => {
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
    Settings(#[from] SettingsErrors),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Project(#[from] project::Unusable),
    #[error("{0}")]
    Request(String),
    #[error("standard input: {0}")]
    Input(#[from] io::Error),
    #[error("the system refused an event queue: {0}")]
    Runtime(io::Error),
}

fn explain(arguments: &ArgMatches) -> Result<Explanation, Problem> {
    let given = Given::by(arguments)?;
    let found = given.found(store::look)?;
    let request = Described::by(arguments, given.settings.server.listen)?;
    let runtime = runtime::Builder::new_current_thread().enable_all().build().map_err(Problem::Runtime)?;
    runtime.block_on(judge(given.settings, found.as_ref(), &request))
}

/// Judges a request as a server does that has just started with these settings and tokens, and keeps what it saw.
async fn judge(settings: Settings, found: Option<&Found>, request: &Described) -> Result<Explanation, Problem> {
    let Described { parts, peer } = request;
    let facts = request::facts(parts, false, Some(peer)).ok_or_else(|| Problem::Request("the request has no Host".to_owned()))?;
    let project = settings.project.as_ref().map(|project| Project::new(project, Arc::default())).transpose()?;
    let witness = Witness::new(Host { project }, settings.project, "`nodetool-auth check` tells why");
    let mut gate = Gate::with_tokens(settings.policy, tokens(found)?);
    let policy = gate.policy().clone();
    let now = clock::now();

    let seen = trace(&policy, &facts, now);
    let outcome = drive(begin(&mut gate, &facts, now), &witness).await;
    let upstream = settings.proxy.upstream.map(|upstream| upstream.authority);
    let follows = Follows::from(&Action::of(&outcome.verdict, &policy, &facts, now), &facts, &parts.headers, upstream);
    let mut steps: Vec<Finding> = found.map(of_source).into_iter().collect();
    steps.extend(tell(&policy, &seen, witness.into_findings(), &outcome));
    let (method, path) = (facts.method().to_owned(), facts.path().to_owned());
    Ok(Explanation { method, path, steps, verdict: outcome.verdict, follows })
}

/// Those that a server would start with.
fn tokens(found: Option<&Found>) -> Result<Tokens, StoreError> {
    let Some(found) = found else { return Ok(Tokens::default()) };
    if let TokenSource::Generated(_) = found.source {
        // One that nobody knows, like the one that a server would make.
        let token = store::generate_secure_token()?;
        return Found { token: Some(token), ..found.clone() }.tokens();
    }
    found.tokens()
}

fn of_source(found: &Found) -> Finding {
    let what = match (&found.token, &found.source) {
        (_, TokenSource::Generated(path)) => {
            format!("there is no static token yet: a server would generate one, and save it to {}", path.display())
        }
        (Some(token), source) => format!("the static token is {}, from: {source}", mask_token(token.reveal())),
        (None, source) => format!("static tokens are known by their hashes, from: {source}"),
    };
    Finding::info("token", what)
}

struct Explanation {
    method: String,
    /// Without the query, in which there may be secrets.
    path: String,
    steps: Vec<Finding>,
    verdict: Verdict,
    follows: Follows,
}

/// What a server would do.
enum Follows {
    Answer(Answer),
    /// Headers as the upstream would see them, but for secrets.
    Forward {
        authority: String,
        headers: Vec<(String, String)>,
    },
}

impl Follows {
    fn from(action: &Action<'_>, facts: &Facts<'_>, headers: &HeaderMap, upstream: Option<String>) -> Self {
        let forward = match action {
            Action::Respond(answer) => return Self::Answer(answer.clone()),
            Action::Forward(forward) => forward,
        };
        let authority = upstream.unwrap_or_default();
        let host = HeaderValue::from_str(&authority).unwrap_or(HeaderValue::from_static(""));
        let headers = plan::for_upstream(forward, headers, &host, facts.is_websocket());
        let headers = headers.iter().map(|(name, value)| (name.to_string(), masked(name, value))).collect();
        Self::Forward { authority, headers }
    }
}

impl Explanation {
    const fn passes(&self) -> bool {
        matches!(self.verdict, Verdict::Pass(_))
    }

    fn lines(&self) -> Vec<String> {
        let mut lines: Vec<_> =
            self.steps.iter().map(|step| format!("{:<8} {}: {}", step.status.name(), step.step, step.detail)).collect();
        lines.push(String::new());
        lines.push(match &self.verdict {
            Verdict::Refuse(reason) => format!("refused: {}", reason.code()),
            Verdict::Pass(pass) => {
                let whom = pass.identity.as_ref().map_or_else(
                    || "without an identity".to_owned(),
                    |identity| format!("as {} ({})", identity.user_id, identity.token_type.as_str()),
                );
                let place = match pass.to {
                    Destination::Whoami => ", to the gateway's own whoami",
                    Destination::Health => ", to the gateway's own health answer",
                    _ => "",
                };
                format!("passes {whom}{place}")
            }
        });
        match &self.follows {
            Follows::Answer(answer) => {
                lines.push(format!("the answer would be: {} {}", answer.status, answer.body));
                lines.extend(answer.headers().map(|(name, value)| format!("    {name}: {value}")));
            }
            Follows::Forward { authority, headers } => {
                lines.push(format!("the upstream {authority} would see:"));
                lines.extend(headers.iter().map(|(name, value)| format!("    {name}: {value}")));
            }
        }
        lines.iter().map(|line| one_line(line)).collect()
    }

    fn json(&self) -> Value {
        let step = |step: &Finding| json!({ "step": step.step, "status": step.status.name(), "detail": step.detail });
        let mut object = Map::new();
        let mut tell = |name: &str, value: Value| object.insert(name.to_owned(), value);
        tell("method", json!(self.method));
        tell("path", json!(self.path));
        tell("steps", self.steps.iter().map(step).collect());
        match &self.verdict {
            Verdict::Refuse(reason) => {
                tell("verdict", json!("refuse"));
                tell("reason", json!(reason.code()));
            }
            Verdict::Pass(pass) => {
                let who = |identity: &Identity| json!({ "user_id": identity.user_id, "token_type": identity.token_type.as_str(), "role": identity.role });
                tell("verdict", json!("pass"));
                tell("identity", pass.identity.as_ref().map(who).into());
            }
        }
        match &self.follows {
            Follows::Answer(answer) => {
                let body: Value = serde_json::from_str(&answer.body).unwrap_or_default();
                let headers: Map<_, _> = answer.headers().map(|(name, value)| (name.to_owned(), json!(value))).collect();
                tell("answer", json!({ "status": answer.status, "detail": body.get("detail"), "headers": headers }))
            }
            Follows::Forward { authority, headers } => tell("upstream", json!({ "authority": authority, "headers": headers })),
        };
        object.into()
    }
}
