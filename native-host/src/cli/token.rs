//! `nodetool-auth token`: a person or a script looks at the static token, or changes it.

use std::{
    io::{self, IsTerminal, Read},
    process::ExitCode,
    time::{Duration, SystemTime},
};

use clap::{Arg, ArgAction, ArgMatches, Command};
use nodetool_edge_auth::{Digest, Secret, Tokens, mask_token};
use serde_json::{Value, json};

use super::{EXIT_MISCONFIGURED, flags, given, output, rotate_kv};
use crate::{
    clock,
    store::{self, Found, StoreError, TokenSource},
};

const STATUS: &str =
    "Exit status: 0 if it was done, 78 if a setting is wrong or stands in the way, 1 if it failed for another reason.";

/// No token needs to be longer.
const MAX_INPUT: u64 = 64 * 1024;

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("there is no token yet in {0}; start the gateway or run `nodetool-auth token rotate`, which make one")]
    NoToken(String),
    #[error("{0} holds no token, and an empty list of accepted tokens; run `nodetool-auth token rotate`, which makes one")]
    NoneAccepted(String),
    #[error("{0} holds only hashes of tokens; ask those who have the tokens, or run `nodetool-auth token rotate` for one more")]
    OnlyHashes(String),
    #[error("WORKER_AUTH_TOKEN is set, so the deployment file is not read; change the variable where it is set, or unset it")]
    InEnvironment,
    #[error(transparent)]
    AtTheEdge(#[from] rotate_kv::Failure),
    #[error("standard input holds no usable token: {0}")]
    Input(String),
    #[error("cannot print: {0}")]
    Output(#[from] io::Error),
}

impl Failure {
    const fn status(&self) -> u8 {
        match self {
            Self::Store(StoreError::Settings(_)) | Self::InEnvironment => EXIT_MISCONFIGURED,
            _ => 1,
        }
    }
}

pub(super) fn command() -> Command {
    let json = Arg::new("json").long("json").action(ArgAction::SetTrue).help("Print JSON, on one line");
    let reveal = Arg::new("reveal").long("reveal").action(ArgAction::SetTrue).help("Print the full token, and nothing else");
    let overlap = Arg::new("overlap")
        .long("overlap")
        .value_name("DURATION")
        .value_parser(|text: &str| humantime::parse_duration(text))
        .help("For how long the old token is still accepted, like 10m or 1h 30m [default: it ends at once]");
    let stdin =
        Arg::new("token-stdin").long("token-stdin").action(ArgAction::SetTrue).help("Hash the token on standard input instead");
    let subcommand =
        |name: &'static str, about: &'static str| Command::new(name).about(about).arg(json.clone()).after_help(STATUS);
    let file = || flags().filter(|flag| flag.get_id() == "NODETOOL_CONFIG_PATH");
    Command::new("token")
        .about("Show, make, hash or replace the static token")
        .after_help(STATUS)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(subcommand("show", "Show the token in use, masked, and where it comes from").arg(reveal.clone()).args(file()))
        .subcommand(subcommand("generate", "Print a new token; nothing is saved"))
        .subcommand(
            subcommand("rotate", "Put a new token into the deployment file; running gateways take it up within seconds")
                .arg(overlap)
                .arg(reveal)
                .args(file())
                .args(rotate_kv::arguments()),
        )
        .subcommand(
            subcommand("hash", "Print the SHA-256 of the token in use, as `accepted_tokens` has it").arg(stdin).args(file()),
        )
        .subcommand(subcommand("path", "Print where the deployment file is, or would be").args(file()))
}

pub(super) fn run(arguments: &ArgMatches) -> ExitCode {
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .without_time()
        .with_target(false)
        .with_ansi(io::stderr().is_terminal())
        .init();
    let done = match arguments.subcommand() {
        Some(("show", arguments)) => show(arguments),
        Some(("generate", arguments)) => generate(arguments),
        Some(("rotate", arguments)) => rotate(arguments),
        Some(("hash", arguments)) => hash(arguments),
        Some(("path", arguments)) => path(arguments),
        // The parser lets no other through.
        _ => Ok(()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("nodetool-auth token: {failure}");
            ExitCode::from(failure.status())
        }
    }
}

fn show(arguments: &ArgMatches) -> Result<(), Failure> {
    let found = in_use(arguments)?;
    let token = token_of(&found)?;
    let is_revealed = arguments.get_flag("reveal");
    let shown = shown(token, is_revealed);
    let source = &found.source;
    let key = found.key.map_or_else(String::new, |key| format!("\nKey: {key}"));
    let text = if is_revealed { shown.clone() } else { format!("Token: {shown}\nSource: {source}{key}") };
    print(arguments, &text, || {
        let kind = if found.path().is_some() { "file" } else { "environment" };
        json!({ "token": shown, "revealed": is_revealed, "source": kind, "path": found.path().map(|path| path.to_string_lossy()),
            "key": found.key, "accepted_tokens": found.accepted.len() })
    })
}

fn generate(arguments: &ArgMatches) -> Result<(), Failure> {
    let token = store::generate_secure_token()?;
    print(arguments, token.reveal(), || json!({ "token": token.reveal() }))
}

fn rotate(arguments: &ArgMatches) -> Result<(), Failure> {
    // Whole seconds, and rather one more: half a second is not none.
    let whole = |overlap: &Duration| overlap.as_secs().saturating_add(u64::from(overlap.subsec_nanos() > 0));
    let overlap = arguments.get_one::<Duration>("overlap").map_or(0, whole);
    if arguments.get_flag("kv") {
        return Ok(rotate_kv::run(arguments, overlap)?);
    }
    let values = given(arguments);
    let get = |name: &str| values.get(name).cloned();
    if store::token_in_environment(get)?.is_some() {
        return Err(Failure::InEnvironment);
    }
    let path = store::config_path(get)?;
    let rotated = store::rotate(&path, overlap, clock::now())?;
    let is_revealed = arguments.get_flag("reveal") || io::stdout().is_terminal();
    let shown = shown(&rotated.token, is_revealed);
    print(arguments, &shown, || {
        let previous = rotated.previous.as_ref().map(|old| json!({ "sha256": old.sha256, "not_after": old.not_after }));
        json!({ "token": shown, "revealed": is_revealed, "path": path.to_string_lossy(), "previous": previous })
    })?;
    let old = match &rotated.previous {
        Some(old) if overlap > 0 => format!("the old one is accepted until {}", moment(old.not_after)),
        Some(_) => "the old one has ended".to_owned(),
        None => "there was none before".to_owned(),
    };
    let hint = if is_revealed { "" } else { "; `nodetool-auth token show --reveal` prints it in full" };
    eprintln!("The new token is in {}, and passes at running gateways within two seconds; {old}{hint}", path.display());
    Ok(())
}

/// A second as RFC 3339 writes it; years of more than four digits have no such form.
pub(super) fn moment(seconds: u64) -> String {
    let moment = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).filter(|_| seconds < 253_402_300_800);
    moment.map_or_else(|| seconds.to_string(), |moment| humantime::format_rfc3339_seconds(moment).to_string())
}

fn hash(arguments: &ArgMatches) -> Result<(), Failure> {
    let token = if arguments.get_flag("token-stdin") {
        let mut text = String::new();
        let read =
            io::stdin().take(MAX_INPUT + 1).read_to_string(&mut text).map_err(|error| Failure::Input(error.to_string()))?;
        // The hash of its beginning would let nobody in.
        if read as u64 > MAX_INPUT {
            return Err(Failure::Input("it is longer than 64 KiB".to_owned()));
        }
        let token = Secret::new(text.trim().to_owned());
        // No request could carry what this refuses.
        Tokens::single(token.reveal()).map_err(|error| Failure::Input(error.to_string()))?;
        token
    } else {
        token_of(&in_use(arguments)?)?.clone()
    };
    let sha256 = Digest::of(token.reveal().as_bytes()).to_string();
    print(arguments, &sha256, || json!({ "sha256": sha256 }))
}

fn path(arguments: &ArgMatches) -> Result<(), Failure> {
    let values = given(arguments);
    let path = store::config_path(|name| values.get(name).cloned())?;
    print(arguments, &path.to_string_lossy(), || {
        // A file that cannot be used has a place all the same.
        let key = store::look(&path).ok().and_then(|found| found.key);
        json!({ "path": path.to_string_lossy(), "exists": path.exists(), "key": key })
    })
}

/// The token that a gateway would start with. Nothing is written.
fn in_use(arguments: &ArgMatches) -> Result<Found, Failure> {
    let values = given(arguments);
    let get = |name: &str| values.get(name).cloned();
    if let Some(token) = store::token_in_environment(get)? {
        return Ok(Found::in_environment(token));
    }
    let found = store::look(&store::config_path(get)?)?;
    match &found.source {
        TokenSource::Generated(path) => Err(Failure::NoToken(path.display().to_string())),
        _ => {
            if let Some(conflict) = found.conflict() {
                tracing::warn!("{conflict}");
            }
            Ok(found)
        }
    }
}

fn token_of(found: &Found) -> Result<&Secret, Failure> {
    let place = || found.path().map(|path| path.display().to_string()).unwrap_or_default();
    found.tokens()?;
    found.token.as_ref().ok_or_else(
        || {
            if found.is_empty() { Failure::NoneAccepted(place()) } else { Failure::OnlyHashes(place()) }
        },
    )
}

fn shown(token: &Secret, is_revealed: bool) -> String {
    if is_revealed { token.reveal().to_owned() } else { mask_token(token.reveal()) }
}

fn print(arguments: &ArgMatches, text: &str, json: impl FnOnce() -> Value) -> Result<(), Failure> {
    Ok(output::print(arguments, text, json)?)
}
