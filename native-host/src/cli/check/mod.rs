//! `nodetool-auth check`: all that can be known before a start to go wrong after it. Looks, and changes nothing.

mod network;
mod project;
mod settings;
mod tls;
mod token;

use std::{io, process::ExitCode};

use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::{Value, json};
use tokio::runtime;

use super::{
    EXIT_MISCONFIGURED, Given, flags,
    output::{one_line, print},
};

pub(super) fn command() -> Command {
    let json =
        Arg::new("json").long("json").action(ArgAction::SetTrue).help("Print a JSON array of {check, status, detail, remedy?}");
    Command::new("check")
        .about("Check the settings, the token, the Supabase project, the upstream and the port, without changing anything")
        .after_help("Takes the settings of `serve`. Exit status: 0 if no check failed (warnings are no failures), 1 if one did, 78 if a setting is wrong.")
        .args(flags())
        .arg(json)
}

pub(super) fn run(arguments: &ArgMatches) -> ExitCode {
    let (findings, status) = match Given::by(arguments).map(|given| all(&given)) {
        Ok(Ok(findings)) => {
            let has_failed = findings.iter().any(|finding| finding.status == Status::Failed);
            (findings, if has_failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
        }
        Ok(Err(error)) => {
            eprintln!("nodetool-auth cannot check anything: {error}");
            return ExitCode::FAILURE;
        }
        Err(errors) => {
            let wrong = errors.0.iter().map(|error| failed("settings", error.to_string(), format!("correct {}", error.name)));
            (wrong.collect(), ExitCode::from(EXIT_MISCONFIGURED))
        }
    };
    let lines: Vec<_> = findings.iter().map(Finding::line).collect();
    // Nobody to read it changes nothing about what was found.
    let _ = print(arguments, &lines.join("\n"), || findings.iter().map(Finding::json).collect());
    status
}

fn all(given: &Given) -> io::Result<Vec<Finding>> {
    let settings = &given.settings;
    let mut findings = settings::of_settings(settings);
    findings.extend(token::of_token(given));
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let (project, upstream, listener, admin) = runtime.block_on(async {
        tokio::join!(
            project::of_project(settings),
            network::of_upstream(settings),
            network::of_listener(&settings.server),
            network::of_admin_listener(settings.server.admin_listen)
        )
    });
    findings.extend(project);
    findings.extend(tls::of_certificate(&settings.server));
    findings.extend([upstream, listener].into_iter().chain(admin));
    Ok(findings)
}

/// What one check came to.
struct Finding {
    check: &'static str,
    status: Status,
    detail: String,
    remedy: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Status {
    Ok,
    Warning,
    Failed,
}

fn ok(check: &'static str, detail: impl Into<String>) -> Finding {
    Finding { check, status: Status::Ok, detail: detail.into(), remedy: None }
}

fn warning(check: &'static str, detail: impl Into<String>, remedy: impl Into<String>) -> Finding {
    Finding { check, status: Status::Warning, detail: detail.into(), remedy: Some(remedy.into()) }
}

fn failed(check: &'static str, detail: impl Into<String>, remedy: impl Into<String>) -> Finding {
    Finding { check, status: Status::Failed, detail: detail.into(), remedy: Some(remedy.into()) }
}

impl Finding {
    fn line(&self) -> String {
        let remedy = self.remedy.as_ref().map(|remedy| format!(" ({})", one_line(remedy))).unwrap_or_default();
        format!("{:<8} {}: {}{remedy}", self.status.name(), self.check, one_line(&self.detail))
    }

    fn json(&self) -> Value {
        let mut object = json!({ "check": self.check, "status": self.status.name(), "detail": self.detail });
        if let (Some(remedy), Some(members)) = (&self.remedy, object.as_object_mut()) {
            members.insert("remedy".to_owned(), remedy.as_str().into());
        }
        object
    }
}

impl Status {
    const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failed => "failed",
        }
    }
}
