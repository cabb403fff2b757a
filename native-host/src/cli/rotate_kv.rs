//! `nodetool-auth token rotate --kv`: a new token for the Worker, in three steps of which none shuts anyone out.
//!
//! 1. The new token is accepted beside the old one.
//! 2. It is tried from outside, until it passes everywhere. Only then is it handed out.
//! 3. The old one is given its end.
//!
//! Whatever goes wrong in between, the old token has no end yet, and the whole can be begun again.

mod probe;
mod value;
mod wrangler;

use std::{
    io,
    time::{Duration, Instant},
};

use clap::{Arg, ArgAction, ArgMatches};
use nodetool_edge_auth::{Digest, Secret};
use serde_json::json;
use tokio::{runtime, time::sleep};

use super::output;
use crate::{
    clock,
    store::{self, StoreError},
};
use probe::{Probe, Told};
use value::{Accepted, NameError};
use wrangler::{Wrangler, WranglerError, quote};

/// After this, other data centres have the new value (a minute or somewhat more), and every isolate has read it again (half a
/// minute).
const SETTLE: &str = "2m";

/// How many times in a row the new token must pass.
const IN_A_ROW: u32 = 5;

const BETWEEN_TRIES: Duration = Duration::from_secs(1);

/// Stands for an end that the shell computes.
const LATER: u64 = u64::MAX;

#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("--url {url}: {problem}")]
    Url { url: String, problem: &'static str },
    #[error("{url} is not ready for this: {problem}. Nothing was changed")]
    NotReady { url: String, problem: String },
    #[error("worker_auth_token in KV: {0}. Put a token or a list there that the Worker takes; nothing was changed")]
    Unusable(nodetool_edge_auth::StoreError),
    #[error("{0}. Nothing was changed")]
    Name(#[from] NameError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{0}\nNothing was changed")]
    Read(WranglerError),
    #[error("{0}\nThe old token goes on; run the same command again")]
    Add(WranglerError),
    #[error(
        "{url} did not accept the new token in time ({problem}). The old one goes on. If the Worker has a secret WORKER_AUTH_TOKEN, KV is not \
         read: delete the secret, or rotate it instead. Else run the same command again, with a longer --timeout"
    )]
    NotLive { url: String, problem: String },
    #[error("{0}\nThe new token is accepted, and the old one has no end yet: run `{1}`")]
    Retire(WranglerError, String),
    #[error(
        "somebody else has changed the tokens in KV meanwhile, and the new one is no longer there. The old ones were left as they are; run the same command again"
    )]
    Overtaken,
    #[error("cannot print: {0}. The old token goes on")]
    Output(#[from] io::Error),
    #[error("the program cannot wait: {0}")]
    Runtime(io::Error),
}

pub(super) fn arguments() -> impl Iterator<Item = Arg> {
    let text = |name: &'static str, value: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(value).help(help).requires("kv").help_heading("At the edge")
    };
    let flag = |name: &'static str, help: &'static str| {
        Arg::new(name).long(name).action(ArgAction::SetTrue).help(help).requires("kv").help_heading("At the edge")
    };
    let duration = |arg: Arg| arg.value_parser(|text: &str| humantime::parse_duration(text));
    [
        Arg::new("kv")
            .long("kv")
            .action(ArgAction::SetTrue)
            .requires("url")
            .conflicts_with_all(["NODETOOL_CONFIG_PATH", "reveal"])
            .help("Replace the token of the Worker, in KV: print the commands, or run them with --run")
            .help_heading("At the edge"),
        text("url", "URL", "Where the Worker answers its clients, like https://api.example.com"),
        flag("run", "Run the commands; the new token is printed once it passes, and is kept nowhere else"),
        text("name", "NAME", "Which of several tokens to replace"),
        text("binding", "NAME", "The binding of the namespace in wrangler.toml").default_value("AUTH_KV"),
        text("namespace-id", "ID", "The namespace itself, instead of a binding").conflicts_with("binding"),
        text("env", "NAME", "The environment in wrangler.toml"),
        text("config", "FILE", "Another wrangler.toml"),
        flag("local", "The KV of `wrangler dev`"),
        text("persist-to", "FOLDER", "Where `wrangler dev` keeps it").requires("local"),
        duration(text("settle", "DURATION", "How long a change may take to be seen everywhere")).default_value(SETTLE),
        duration(text("timeout", "DURATION", "For how long to wait for the new token to pass")).default_value("10m"),
    ]
    .into_iter()
}

/// What was asked for.
struct Rotation<'a> {
    arguments: &'a ArgMatches,
    url: &'a str,
    asked: Option<&'a str>,
    overlap: u64,
    wrangler: Wrangler,
}

pub(super) fn run(arguments: &ArgMatches, overlap: u64) -> Result<(), Failure> {
    let text = |name: &str| arguments.get_one::<String>(name).map(String::as_str);
    let url = text("url").unwrap_or_default().trim_end_matches('/');
    let probe = Probe::new(url).map_err(|problem| Failure::Url { url: url.to_owned(), problem })?;
    let rotation = Rotation { arguments, url, asked: text("name"), overlap, wrangler: Wrangler { options: options(arguments) } };
    if !arguments.get_flag("run") {
        return rotation.print_commands();
    }
    let runtime = runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::Runtime)?;
    runtime.block_on(rotation.run(&probe))
}

fn options(arguments: &ArgMatches) -> Vec<String> {
    let option = |name: &str| arguments.get_one::<String>(name).map(|value| format!("--{name}={value}"));
    let namespace = option("namespace-id").or_else(|| option("binding"));
    let place = if arguments.get_flag("local") { "--local" } else { "--remote" };
    let further = ["env", "config", "persist-to"].map(option).into_iter().flatten();
    // Else `wrangler` asks which of two is meant, where a namespace has a preview beside it.
    namespace.into_iter().chain([place.to_owned(), "--preview=false".to_owned()]).chain(further).collect()
}

impl Rotation<'_> {
    async fn run(&self, probe: &Probe) -> Result<(), Failure> {
        let not_ready = |problem: &str| Failure::NotReady { url: self.url.to_owned(), problem: problem.to_owned() };
        match probe.ask(None).await {
            Told::Refused | Told::HasNone => {}
            Told::Accepted => return Err(not_ready("it lets in whoever brings no token")),
            Told::Other(problem) => return Err(not_ready(&problem)),
        }
        say("reading the tokens in KV");
        let (before, name) = self.read()?;
        let token = store::generate_secure_token()?;
        let digest = Digest::of(token.reveal().as_bytes());
        let both = before.with(&name, &digest, now());
        say(&format!("1/3 adding the new token, named {name:?}"));
        self.wrangler.put(&both.to_json()).map_err(Failure::Add)?;
        say(&format!("2/3 waiting until {} accepts it, everywhere (some two minutes)", self.url));
        self.wait_until_live(probe, &token).await?;

        let end = now().saturating_add(self.overlap);
        let old = both.others(&name, &digest, now());
        self.print(&name, &token, &digest, &old, end)?;
        if old.is_empty() {
            say("there was none before");
            return Ok(());
        }
        let moment = super::token::moment(end);
        say(&format!(
            "3/3 the new token passes; the old one {}",
            if self.overlap > 0 { format!("ends at {moment}") } else { "ends".to_owned() }
        ));
        self.retire(&before, &both, &name, &digest, end)
    }

    fn read(&self) -> Result<(Accepted, String), Failure> {
        let value = self.wrangler.get().map_err(Failure::Read)?;
        let before = Accepted::parse(value.as_ref().map(Secret::reveal), self.asked).map_err(Failure::Unusable)?;
        let name = before.name(self.asked)?;
        Ok((before, name))
    }

    /// One answer is that of one isolate in one place. That it passes everywhere takes time, and several answers.
    async fn wait_until_live(&self, probe: &Probe, token: &Secret) -> Result<(), Failure> {
        let began = Instant::now();
        let duration = |name: &str| self.arguments.get_one::<Duration>(name).copied().unwrap_or_default();
        let (settle, patience) = (duration("settle"), duration("timeout"));
        let mut in_a_row = 0;
        loop {
            let told = probe.ask(Some(token)).await;
            in_a_row = if told == Told::Accepted { in_a_row + 1 } else { 0 };
            if in_a_row >= IN_A_ROW && began.elapsed() >= settle {
                return Ok(());
            }
            if began.elapsed() >= patience.max(settle) {
                let problem = match told {
                    Told::Accepted => "not every time".to_owned(),
                    Told::Refused => "it answers 401".to_owned(),
                    Told::HasNone => "it says that it has none".to_owned(),
                    Told::Other(problem) => problem,
                };
                return Err(Failure::NotLive { url: self.url.to_owned(), problem });
            }
            sleep(BETWEEN_TRIES).await;
        }
    }

    /// In full, whoever reads it: only its hash is in KV.
    fn print(&self, name: &str, token: &Secret, digest: &Digest, old: &[String], end: u64) -> Result<(), Failure> {
        Ok(output::print(self.arguments, token.reveal(), || {
            let previous: Vec<_> = old.iter().map(|sha256| json!({ "sha256": sha256, "not_after": end })).collect();
            json!({ "token": token.reveal(), "name": name, "sha256": digest.to_string(), "previous": previous })
        })?)
    }

    fn retire(&self, before: &Accepted, both: &Accepted, name: &str, digest: &Digest, end: u64) -> Result<(), Failure> {
        let ended = |accepted: &Accepted| accepted.replaced_by(name, digest, end, (self.overlap > 0).then_some(end));
        let by_hand = |error| Failure::Retire(error, self.wrangler.put_command(&quote(&ended(both).to_json())));
        // Others may have added theirs while this one waited.
        let value = self.wrangler.get().map_err(by_hand)?;
        let current = Accepted::parse(value.as_ref().map(Secret::reveal), self.asked).map_err(|_| Failure::Overtaken)?;
        // KV may still tell what was there before.
        let current = if current == *before { both.clone() } else { current };
        if !current.has(digest) {
            return Err(Failure::Overtaken);
        }
        self.wrangler.put(&ended(&current).to_json()).map_err(by_hand)
    }

    /// A script that does the same. Nothing is written, and no secret but the new token itself is in it.
    fn print_commands(&self) -> Result<(), Failure> {
        let (before, name) = self.read()?;
        let token = store::generate_secure_token()?;
        let digest = Digest::of(token.reveal().as_bytes());
        let both = before.with(&name, &digest, now());
        let settle = self.arguments.get_one::<Duration>("settle").copied().unwrap_or_default().as_secs();
        let limit = now().saturating_add(settle).saturating_add(self.overlap);
        let after = both.replaced_by(&name, &digest, limit, (self.overlap > 0).then_some(LATER));
        let (both, after) = (quote(&both.to_json()), quote(&after.to_json()).replace(&LATER.to_string(), "'\"$END\"'"));
        let (add, retire) = (self.wrangler.put_command(&both), self.wrangler.put_command(&after));
        let (whoami, overlap, token) = (quote(&format!("{}/.auth/whoami", self.url)), self.overlap, token.reveal());
        let script = format!(
            "set -e\n\
             # The new token. It is kept nowhere else: KV has its hash.\n\
             TOKEN='{token}'\n\n\
             # 1. The new token is accepted beside the old one.\n\
             {add}\n\n\
             # 2. Wait until it passes everywhere: other places have the change a minute later, isolates half a minute after that.\n\
             sleep {settle}\n\
             until printf 'Authorization: Bearer %s' \"$TOKEN\" | curl -fsS -H @- {whoami}; do sleep 1; done\n\n\
             # 3. Give it to the clients. The old one ends {overlap} seconds after this.\n\
             END=$(($(date +%s) + {overlap}))\n\
             {retire}"
        );
        output::print(
            self.arguments,
            &script,
            || json!({ "token": token, "name": name, "sha256": digest.to_string(), "script": script }),
        )?;
        say("nothing was changed. This is a script for sh; --run does the same, and looks more closely");
        Ok(())
    }
}

fn now() -> u64 {
    clock::now().as_secs()
}

fn say(text: &str) {
    eprintln!("nodetool-auth token: {text}");
}
