//! From settings to what all clones of a layer share.

use std::{
    io,
    path::Path,
    sync::{Arc, Mutex, OnceLock, mpsc::Sender},
};

use nodetool_edge_auth::{Host, Provider, Settings, SettingsErrors, Tokens};
use tokio::{sync::watch, task::AbortHandle};

use crate::{
    follow::TokenFile,
    judge::Judge,
    metrics::Counters,
    project::Project,
    store::{self, Found, StoreError, TokenSource},
    watch::Watch,
};

/// Why there is no layer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SetupError {
    /// Settings are wrong.
    #[error(transparent)]
    Settings(#[from] SettingsErrors),
    /// The deployment file cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no static token, and nothing else by which anyone could pass.
    #[error("there is no token; set WORKER_AUTH_TOKEN, or make one with `nodetool-auth token rotate`")]
    NoToken,
    /// No request can carry the API key, or go to the URL, of the Supabase project.
    #[error("SUPABASE_URL or SUPABASE_KEY cannot stand in a request")]
    Project,
    /// The system has no thread to follow the deployment file.
    #[error("the deployment file cannot be followed: {0}")]
    Watch(io::Error),
}

/// What all clones of a layer have together.
pub(super) struct Shared {
    pub(super) judge: Judge,
    pub(super) counters: Arc<Counters>,
    beside: OnceLock<Option<Beside>>,
    /// As long as it is there, the deployment file is followed.
    _watch: Option<Mutex<Sender<()>>>,
}

/// What goes on beside the requests, until the last clone is gone.
struct Beside(AbortHandle);

impl Drop for Beside {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Shared {
    pub(super) fn new(get: impl Fn(&str) -> Option<String>) -> Result<Self, SetupError> {
        let settings = Settings::parse(Host::Layer, &get)?;
        for warning in &settings.warnings {
            tracing::warn!("{warning}");
        }
        let found = found(&settings, get)?;
        let tokens = found.as_ref().map_or(Ok(Tokens::default()), Found::tokens)?;
        if settings.policy.provider() == Provider::Static && found.is_none() {
            return Err(SetupError::NoToken);
        }
        let counters = Arc::<Counters>::default();
        let project = settings.project.as_ref().map(|project| Project::new(project, Arc::clone(&counters)));
        let project = project.transpose().map_err(|_| SetupError::Project)?;
        let (in_force, tokens) = watch::channel(Ok(Arc::new(tokens)));
        let file = found.as_ref().and_then(Found::path).map(Path::to_owned);
        let watch =
            file.map(|file| Watch::new(vec![file.clone()], TokenFile::new(file, in_force, Arc::clone(&counters))).start());
        let watch = watch.transpose().map_err(SetupError::Watch)?.map(Mutex::new);
        Ok(Self { judge: Judge::new(settings.policy, tokens, project), counters, beside: OnceLock::new(), _watch: watch })
    }

    /// Begins what goes on beside the requests, with the first one: before, there may be no runtime.
    pub(super) fn go_on_beside(&self) {
        self.beside.get_or_init(|| {
            let background = self.judge.background()?;
            Some(Beside(tokio::spawn(background).abort_handle()))
        });
    }
}

/// The tokens that are there, if anybody is asked for one.
fn found(settings: &Settings, get: impl Fn(&str) -> Option<String>) -> Result<Option<Found>, StoreError> {
    if let Some(token) = &settings.token {
        return Ok(Some(Found::in_environment(token.clone())));
    }
    if matches!(settings.policy.provider(), Provider::None | Provider::Local) {
        return Ok(None);
    }
    let path = match store::config_path(get) {
        // Where nobody lives there is no file either.
        Err(StoreError::NoHome) => return Ok(None),
        path => path?,
    };
    let found = store::look(&path)?;
    if let TokenSource::Generated(_) = found.source {
        return Ok(None);
    }
    found.warn();
    Ok(Some(found))
}
