//! `nodetool-auth serve`: settings become a running server.

use std::{
    io::{self, IsTerminal},
    sync::Arc,
};

use nodetool_edge_auth::{Settings, Tokens};
use tokio::sync::watch;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::fmt::time::SystemTime;

use super::{Failure, Given};
use crate::{
    banner::Banner,
    gateway::Gateway,
    project::Project,
    server,
    store::{self, Found, TokenSource},
    watch::Watch,
};

pub(super) fn run(given: Given) -> Result<(), Failure> {
    log_to_stderr(&given.settings);
    for warning in &given.settings.warnings {
        tracing::warn!("{warning}");
    }

    let found = given.found(store::find_or_generate)?;
    let settings = given.settings;
    let tokens = found.as_ref().map_or(Ok(Tokens::default()), Found::tokens)?;
    let listening = server::listen(settings.server.listen)?;
    let banner = Banner { policy: &settings.policy, found: found.as_ref(), shows_token: found.as_ref().is_some_and(shows_token) };
    // Nobody to read it is no reason not to serve.
    let _ = banner.print(&mut io::stdout().lock());

    let project = settings.project.as_ref().map(Project::new).transpose()?;
    let (in_force, tokens) = watch::channel(Arc::new(tokens));
    let file = found.as_ref().and_then(Found::path);
    let watch = file.map(|file| Watch::new(file.to_owned(), in_force));
    let gateway = Gateway::new(settings.policy, tokens, settings.proxy, project);
    Ok(server::run(listening, gateway, watch)?)
}

/// The full token is shown to a person, or once when it was made, and never goes into a log at every start.
fn shows_token(found: &Found) -> bool {
    matches!(found.source, TokenSource::Generated(_)) || io::stdout().is_terminal()
}

fn log_to_stderr(settings: &Settings) {
    let level = settings.log_level.parse().unwrap_or(LevelFilter::INFO);
    let log = tracing_subscriber::fmt().with_max_level(level).with_writer(io::stderr).with_timer(SystemTime).with_target(false);
    if settings.logs_json {
        log.json().flatten_event(true).init();
    } else {
        log.with_ansi(io::stderr().is_terminal()).init();
    }
}
