//! `nodetool-auth serve`: settings become a running server.

use std::{
    io::{self, IsTerminal},
    path::Path,
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
    pool::Reach,
    project::Project,
    server::{self, Listening, Serving},
    store::{self, Found, TokenSource},
    tls::{self, Certificate, Renewal},
    watch::{TokenFile, Watch},
};

pub(super) fn run(given: Given, inherited: Option<Listening>) -> Result<(), Failure> {
    log_to_stderr(&given.settings);
    if let Err(error) = server::raise_limit() {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
    for warning in &given.settings.warnings {
        tracing::warn!("{warning}");
    }

    let found = given.found(store::find_or_generate)?;
    let settings = given.settings;
    let tokens = found.as_ref().map_or(Ok(Tokens::default()), Found::tokens)?;
    let reach = Reach::new(&settings);
    let certificate = settings.server.tls.as_ref().map(Certificate::new);
    let loaded = certificate.as_ref().map(Certificate::load).transpose();
    let (reach, loaded) = tls::both(reach, loaded)?;
    let listening = match inherited {
        Some(listening) => listening,
        None => server::listen(settings.server.listen, settings.server.reuse_port)?,
    };
    let banner = Banner { policy: &settings.policy, found: found.as_ref(), shows_token: found.as_ref().is_some_and(shows_token) };
    // Nobody to read it is no reason not to serve.
    let _ = banner.print(&mut io::stdout().lock());

    let project = settings.project.as_ref().map(Project::new).transpose()?;
    let (in_force, tokens) = watch::channel(Arc::new(tokens));
    let file = found.as_ref().and_then(Found::path).map(Path::to_owned);
    let mut watches: Vec<Watch> =
        file.map(|file| Watch::new(vec![file.clone()], TokenFile::new(file, in_force))).into_iter().collect();
    let tls = certificate.zip(loaded).map(|(certificate, loaded)| {
        certificate.warn(&loaded);
        let files = certificate.files();
        let (renewal, tls) = Renewal::of(certificate, loaded);
        watches.push(Watch::new(files, renewal));
        tls
    });
    let gateway = Gateway::new(settings.policy, tokens, reach, project);
    Ok(server::run(listening, gateway, Serving { settings: settings.server, tls, watches })?)
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
