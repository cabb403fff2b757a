//! `nodetool-auth serve`: settings become a running server.

use std::{
    io::{self, IsTerminal},
    path::Path,
    sync::Arc,
};

use nodetool_edge_auth::{Provider, SettingsErrors, Tokens};
use tokio::sync::watch;

use super::{Failure, Given};
use crate::{
    admin::Admin,
    banner::Banner,
    follow::TokenFile,
    gateway::Gateway,
    judge::Judge,
    log, loops,
    metrics::Metrics,
    pool::Reach,
    project::Project,
    server::{self, Listening, Serving, StartError},
    store::{self, Found, TokenSource},
    tls::{self, Certificate, Renewal},
    watch::Watch,
};

pub(super) fn run(given: Given, inherited: Option<Listening>) -> Result<(), Failure> {
    let metrics = Metrics::new();
    let counters = metrics.counters();
    let _flush = log::to_stderr(&given.settings, Arc::clone(&counters)).map_err(StartError::from)?;
    if let Err(error) = server::raise_limit() {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
    for warning in &given.settings.warnings {
        tracing::warn!("{warning}");
    }

    let found = given.found(store::find_or_generate)?;
    let mut settings = given.settings;
    settings.policy.identify(fastrand::u64(..));
    let tokens = found.as_ref().map_or(Ok(Tokens::default()), Found::tokens)?;
    let reach = Reach::new(&settings);
    let certificate = settings.server.tls.as_ref().map(Certificate::new);
    let loaded = certificate.as_ref().map(Certificate::load).transpose();
    let (reach, loaded) = tls::both(reach, loaded)?;
    let listening = match inherited {
        Some(listening) => listening,
        None => server::listen(settings.server.listen, settings.server.reuse_port, PUBLIC)?,
    };
    loops::check(listening.address(), settings.proxy.upstream.as_ref()).map_err(|error| SettingsErrors(vec![error]))?;
    let admin = settings.server.admin_listen.map(|address| server::listen(address, false, "AUTH_ADMIN_LISTEN")).transpose()?;
    let banner = Banner { policy: &settings.policy, found: found.as_ref(), shows_token: found.as_ref().is_some_and(shows_token) };
    // Nobody to read it is no reason not to serve.
    let _ = banner.print(&mut io::stdout().lock());

    let project = settings.project.as_ref().map(|project| Project::new(project, Arc::clone(&counters))).transpose()?;
    let (in_force, tokens) = watch::channel(Ok(Arc::new(tokens)));
    let file = found.as_ref().and_then(Found::path).map(Path::to_owned);
    let mut watches: Vec<Watch> =
        file.map(|file| Watch::new(vec![file.clone()], TokenFile::new(file, in_force, counters))).into_iter().collect();
    let tls = certificate.zip(loaded).map(|(certificate, loaded)| {
        certificate.warn(&loaded);
        let files = certificate.files();
        let (renewal, tls) = Renewal::of(certificate, loaded);
        watches.push(Watch::new(files, renewal));
        tls
    });
    let (asks_for_token, fetches_keys) = (settings.policy.provider() == Provider::Static, settings.policy.fetches_keys());
    let gateway = Gateway::new(Judge::new(settings.policy, tokens.clone(), project.clone()), reach, &metrics);
    if let Some(listening) = admin {
        let admin = Admin {
            metrics,
            tokens: asks_for_token.then_some(tokens),
            keys: project.filter(|_| fetches_keys),
            is_draining: gateway.is_draining(),
        };
        admin.start(listening).map_err(StartError::from)?;
    }
    Ok(server::run(listening, gateway, Serving { settings: settings.server, tls, watches })?)
}

/// What decides where everyone else is served.
pub(super) const PUBLIC: &str = "--listen or AUTH_LISTEN";

/// The full token is shown to a person, or once when it was made, and never goes into a log at every start.
fn shows_token(found: &Found) -> bool {
    matches!(found.source, TokenSource::Generated(_)) || io::stdout().is_terminal()
}
