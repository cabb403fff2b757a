//! Where the token is kept natively: `deployment.yaml`, a file that others read and write too. How it is found, made and
//! rotated there.

mod config;
mod error;
mod file;
mod location;
mod open;
mod path;
mod rights;
mod yaml;

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use nodetool_edge_auth::{Host, Secret, Settings, Tokens, UnixTime, generate_token};

use config::{Previous, edited, update};

pub use config::{CannotEdit, DeploymentConfig, load_deployment_config, save_deployment_config};
pub use error::StoreError;
pub(crate) use file::loose_mode;
#[cfg(feature = "cli")]
pub(crate) use file::{is_writable, mode_of};
pub(crate) use location::config_path;
pub use location::deployment_path;
#[cfg(feature = "cli")]
pub(crate) use location::path_of_nodetool;

/// What an operator does about a file without a token.
const MAKE_ONE: &str = "run `nodetool-auth token rotate` to make one";

/// Where a token came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenSource {
    /// The settings.
    Environment,
    /// A deployment file that had it.
    File(PathBuf),
    /// A deployment file that had none, until now.
    Generated(PathBuf),
}

impl fmt::Display for TokenSource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Environment => formatter.write_str("Environment variable (WORKER_AUTH_TOKEN)"),
            Self::File(path) => write!(formatter, "Config file ({})", path.display()),
            Self::Generated(path) => write!(formatter, "Auto-generated and saved to {}", path.display()),
        }
    }
}

/// The tokens of a gateway, and where they came from.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) token: Option<Secret>,
    pub(crate) accepted: Tokens,
    pub(crate) source: TokenSource,
    /// Under which key of the deployment file the token stands.
    pub(crate) key: Option<&'static str>,
    /// The key of a token beside it that differs, and is not accepted.
    pub(crate) ignored: Option<&'static str>,
}

impl Found {
    pub(crate) fn in_environment(token: Secret) -> Self {
        let (accepted, source) = (Tokens::default(), TokenSource::Environment);
        Self { token: Some(token), accepted, source, key: None, ignored: None }
    }

    fn in_file(config: DeploymentConfig, source: TokenSource) -> Self {
        let DeploymentConfig { content, .. } = config;
        let (key, token) = content.token().map(|(key, token)| (key, token.clone())).unzip();
        Self { token, ignored: content.ignored(), accepted: content.accepted, source, key }
    }

    /// Says what an operator should change, though the tokens can be used.
    pub(crate) fn warn(&self) {
        let Some(path) = self.path() else { return };
        if let Some(loose) = loose_mode(path) {
            tracing::warn!("{loose}; run: {}", loose.remedy());
        }
        if let Some(conflict) = self.conflict() {
            tracing::warn!("{conflict}; remove one of them, or make them equal");
        }
        if self.is_empty() {
            let problem = if path.exists() { "there is no token in it" } else { "the file is gone" };
            tracing::warn!("{}: {problem}; no static token is accepted; {MAKE_ONE}", path.display());
        }
    }

    /// Whether no token is accepted.
    pub(crate) fn is_empty(&self) -> bool {
        self.token.is_none() && self.accepted.is_empty()
    }

    /// That two keys hold different tokens, of which only one is accepted.
    pub(crate) fn conflict(&self) -> Option<String> {
        let (key, ignored, path) = (self.key?, self.ignored?, self.path()?);
        Some(format!("{key} and {ignored} in {} differ: {key} is accepted, {ignored} is not", path.display()))
    }

    /// All of them.
    pub(crate) fn tokens(&self) -> Result<Tokens, StoreError> {
        let single = self.token.as_ref().map(|token| Tokens::single(token.reveal())).transpose();
        let place = || self.key.map_or_else(|| self.source.to_string(), |key| format!("{key} in {}", self.source));
        let single = single.map_err(|error| StoreError::Token { place: place(), problem: error.to_string() })?;
        Ok(single.unwrap_or_default().and(self.accepted.clone()))
    }

    /// The deployment file, if they are in one.
    pub(crate) fn path(&self) -> Option<&Path> {
        match &self.source {
            TokenSource::Environment => None,
            TokenSource::File(path) | TokenSource::Generated(path) => Some(path),
        }
    }
}

/// What a rotation did.
#[derive(Clone, Debug)]
pub(crate) struct Rotated {
    pub(crate) token: Secret,
    pub(crate) previous: Option<Previous>,
}

/// The token by the rules of the gateway: `WORKER_AUTH_TOKEN` or `SERVER_AUTH_TOKEN`, which `get` knows the values of; else
/// the one in the deployment file, which `NODETOOL_CONFIG_PATH` may name; else a new one, which is saved there.
/// Nothing if the file holds only hashes of tokens.
///
/// # Errors
/// When a setting is wrong, or the file cannot be used or written.
pub fn worker_auth_token(get: impl Fn(&str) -> Option<String>) -> Result<Option<Secret>, StoreError> {
    match token_in_environment(&get)? {
        Some(token) => Ok(Some(token)),
        None => Ok(find_or_generate(&config_path(get)?)?.token),
    }
}

/// Where [`worker_auth_token`] takes the token from. Nothing is written: [`TokenSource::Generated`] is where one would be.
///
/// # Errors
/// When a setting is wrong, or the file cannot be used.
pub fn token_source(get: impl Fn(&str) -> Option<String>) -> Result<TokenSource, StoreError> {
    if token_in_environment(&get)?.is_some() {
        return Ok(TokenSource::Environment);
    }
    Ok(look(&config_path(get)?)?.source)
}

/// The token that the settings hold, whatever else is wrong with them.
pub(crate) fn token_in_environment(get: impl Fn(&str) -> Option<String>) -> Result<Option<Secret>, StoreError> {
    let names_token = |name: &&str| ["WORKER_AUTH_TOKEN", "SERVER_AUTH_TOKEN"].contains(name);
    Ok(Settings::parse(Host::Native, |name| Some(name).filter(names_token).and_then(&get))?.token)
}

/// A new token of 256 random bits, 43 characters. Nothing, from YAML to a command line, reads it as anything but a text.
///
/// # Errors
/// When the system's random source fails.
pub fn generate_secure_token() -> Result<Secret, StoreError> {
    loop {
        let mut entropy = [0; 32];
        getrandom::fill(&mut entropy).map_err(|error| StoreError::Random(io::Error::other(error)))?;
        let token = generate_token(entropy);
        if yaml::is_plain_text(token.reveal()) {
            return Ok(token);
        }
    }
}

/// The tokens of a deployment file. Where it has none, one is generated and saved: the one and only, however many
/// processes start at once.
pub(crate) fn find_or_generate(path: &Path) -> Result<Found, StoreError> {
    let found = match look(path)? {
        found if matches!(found.source, TokenSource::File(_)) => found,
        _ => generate(path)?,
    };
    found.warn();
    Ok(found)
}

fn generate(path: &Path) -> Result<Found, StoreError> {
    let token = generate_secure_token()?;
    let saved = update(path, |config| {
        // Another process may have been faster.
        if config.names_tokens() { Ok(None) } else { edited(path, config.with_token(&token)).map(Some) }
    })?;
    let is_ours = saved.token() == Some(&token);
    let source = if is_ours { TokenSource::Generated } else { TokenSource::File };
    Ok(Found::in_file(saved, source(path.to_owned())))
}

/// What [`find_or_generate`] would find. Nothing is written: of what would be generated there is only the source.
pub(crate) fn look(path: &Path) -> Result<Found, StoreError> {
    let config = load_deployment_config(path)?;
    let source = if config.names_tokens() { TokenSource::File } else { TokenSource::Generated };
    Ok(Found::in_file(config, source(path.to_owned())))
}

/// Puts a new token into a deployment file. The old one is accepted for `overlap` seconds more.
pub(crate) fn rotate(path: &Path, overlap: u64, now: UnixTime) -> Result<Rotated, StoreError> {
    let token = generate_secure_token()?;
    let mut replaced = None;
    update(path, |config| {
        let (changed, previous) = edited(path, config.rotated(&token, overlap, now))?;
        replaced = previous;
        Ok(Some(changed))
    })?;
    Ok(Rotated { token, previous: replaced })
}

#[cfg(test)]
mod tests {
    use super::{TokenSource, generate_secure_token, load_deployment_config, token_source, worker_auth_token};

    #[test]
    fn the_rules_of_where_a_token_comes_from() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new").join("deployment.yaml");
        let with = |variables: &'static [(&'static str, &'static str)]| {
            let path = path.to_str().unwrap().to_owned();
            move |name: &str| {
                let set = variables.iter().find(|(set, _)| *set == name).map(|(_, value)| (*value).to_owned());
                set.or_else(|| (name == "NODETOOL_CONFIG_PATH").then(|| path.clone()))
            }
        };
        let set = with(&[("SERVER_AUTH_TOKEN", "from-the-environment")]);
        assert_eq!(worker_auth_token(&set).unwrap().unwrap().reveal(), "from-the-environment");
        assert_eq!(token_source(&set).unwrap(), TokenSource::Environment);
        assert!(worker_auth_token(with(&[("WORKER_AUTH_TOKEN", "two words")])).is_err());
        assert!(!path.exists());

        // Wrong settings of other kinds are none of its business.
        let unset = with(&[("AUTH_PROVIDER", "jwt")]);
        assert_eq!(token_source(&unset).unwrap(), TokenSource::Generated(path.clone()));
        assert!(!path.exists());
        let token = worker_auth_token(&unset).unwrap().unwrap();
        assert_eq!(token_source(&unset).unwrap(), TokenSource::File(path.clone()));
        assert_eq!(worker_auth_token(&unset).unwrap(), Some(token.clone()));
        let config = load_deployment_config(&path).unwrap();
        assert_eq!(config.token(), Some(&token));
        assert!(!format!("{config:?}").contains(token.reveal()));
    }

    #[test]
    fn a_generated_token_is_a_text_to_a_parser_that_guesses() {
        use saphyr::{LoadableYamlNode, Yaml};
        for _ in 0..2000 {
            let token = generate_secure_token().unwrap();
            assert_eq!(token.reveal().len(), 43);
            let line = format!("t: {}", token.reveal());
            let documents = Yaml::load_from_str(&line).unwrap();
            assert_eq!(documents[0]["t"].as_str(), Some(token.reveal()));
        }
    }
}
