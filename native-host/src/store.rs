//! Where the token is kept natively: `deployment.yaml`, a file that others read and write too.

mod file;
mod yaml;

use std::{
    env, fmt,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

use nodetool_edge_auth::{Digest, Host, Secret, Settings, SettingsErrors, Tokens, UnixTime, generate_token};

use file::Written;
pub(crate) use file::loose_mode;
#[cfg(feature = "cli")]
pub(crate) use file::{is_writable, mode_of};
use yaml::{Content, Problem, Replaced};

/// How often a file may change between the reading and the writing of it.
const MAX_TRIES: usize = 5;

/// A deployment file: what it says about authentication, and the rest of it as it stands.
#[derive(Clone, Default)]
pub struct DeploymentConfig {
    text: Secret,
    content: Content,
}

/// Nothing of the file is shown, since all of it may be secret.
impl fmt::Debug for DeploymentConfig {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("DeploymentConfig").field("token", &self.token()).finish_non_exhaustive()
    }
}

impl DeploymentConfig {
    /// The value of `worker_auth_token`, as it is written: what YAML would take for a number is a token all the same.
    pub const fn token(&self) -> Option<&Secret> {
        self.content.token.as_ref()
    }

    /// The list under `accepted_tokens`.
    pub const fn accepted(&self) -> &Tokens {
        &self.content.accepted
    }

    /// The same file with this token in it, and not a byte of the rest changed.
    ///
    /// # Errors
    /// When it is written in a way that leaves no place for it.
    pub fn with_token(&self, token: &Secret) -> Result<Self, CannotEdit> {
        yaml::with_token(self.text.reveal(), token).and_then(Self::parsed).ok_or(CannotEdit)
    }

    /// The same file with this token in it, the old one accepted as long as `overlap` says in seconds, and without the
    /// entries of earlier rotations that have come to their end.
    fn rotated(&self, token: &Secret, overlap: u64, now: UnixTime) -> Result<(Self, Option<Previous>), CannotEdit> {
        let now = now.as_secs();
        let old = self.token().map(|old| Digest::of(old.reveal().as_bytes()).to_string());
        let not_after = now.saturating_add(overlap);
        let kept = old.clone().filter(|_| overlap > 0).map(|sha256| Replaced { sha256, at: now, not_after });
        let changed = yaml::rotated(self.text.reveal(), token, kept.as_ref(), now).and_then(Self::parsed).ok_or(CannotEdit)?;
        Ok((changed, old.map(|sha256| Previous { sha256, not_after })))
    }

    fn parsed(text: String) -> Option<Self> {
        let content = yaml::parse(&text).ok()?;
        Some(Self { text: Secret::new(text), content })
    }

    fn has_tokens(&self) -> bool {
        self.token().is_some() || !self.accepted().is_empty()
    }
}

/// A deployment file is written in a way that leaves no place for a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a token cannot be added to it; write the line `worker_auth_token: TOKEN` into it yourself, or set WORKER_AUTH_TOKEN")]
pub struct CannotEdit;

/// The token that a rotation replaced.
#[derive(Clone, Debug)]
pub(crate) struct Previous {
    pub(crate) sha256: String,
    /// The last second at which it passes.
    pub(crate) not_after: u64,
}

/// What a rotation did.
#[derive(Clone, Debug)]
pub(crate) struct Rotated {
    pub(crate) token: Secret,
    pub(crate) previous: Option<Previous>,
}

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
}

impl Found {
    pub(crate) fn in_environment(token: Secret) -> Self {
        Self { token: Some(token), accepted: Tokens::default(), source: TokenSource::Environment }
    }

    fn in_file(config: DeploymentConfig, source: TokenSource) -> Self {
        Self { token: config.content.token, accepted: config.content.accepted, source }
    }

    /// All of them.
    pub(crate) fn tokens(&self) -> Result<Tokens, StoreError> {
        let single = self.token.as_ref().map(|token| Tokens::single(token.reveal())).transpose();
        let single = single.map_err(|error| StoreError::Token { place: self.source.to_string(), problem: error.to_string() })?;
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

/// A deployment file that cannot be used. It is left as it is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// There is no home folder to look for it in.
    #[error("there is no home folder for deployment.yaml; set NODETOOL_CONFIG_PATH or WORKER_AUTH_TOKEN")]
    NoHome,
    /// It cannot be read.
    #[error("cannot read {path}: {error}; set WORKER_AUTH_TOKEN to do without it", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It is not YAML.
    #[error("{path}, line {line}, column {column}: {problem}; the file was left as it is", path = path.display())]
    Yaml {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// Counted from 1.
        column: usize,
        /// What the parser did not understand.
        problem: String,
    },
    /// It is YAML, but not what a deployment file holds.
    #[error("{path}: {problem}; the file was left as it is", path = path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// It cannot be written.
    #[error("cannot save a token to {path}: {error}; {remedy}, or set WORKER_AUTH_TOKEN", path = path.display(), remedy = remedy(error))]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A token that no request can carry.
    #[error("worker_auth_token in {place}: {problem}")]
    Token {
        /// Where it is.
        place: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The settings that name a token are wrong.
    #[error(transparent)]
    Settings(#[from] SettingsErrors),
    /// The system's random source failed.
    #[error("the system has no random bytes for a token: {0}")]
    Random(io::Error),
}

/// The deployment file of this user, unless `NODETOOL_CONFIG_PATH` names another.
///
/// # Errors
/// When the user has no home folder.
pub fn deployment_path() -> Result<PathBuf, StoreError> {
    usual_path(cfg!(windows), env::var_os("APPDATA").map(PathBuf::from), env::home_dir()).ok_or(StoreError::NoHome)
}

fn usual_path(is_windows: bool, app_data: Option<PathBuf>, home: Option<PathBuf>) -> Option<PathBuf> {
    let is_there = |folder: &PathBuf| !folder.as_os_str().is_empty();
    let folder = if is_windows { app_data.filter(is_there)? } else { home.filter(is_there)?.join(".config") };
    Some(folder.join("nodetool").join("deployment.yaml"))
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => "free some space",
        _ => "make the folder writable",
    }
}

/// Reads a deployment file; one that does not exist is empty.
///
/// # Errors
/// When it cannot be read, or is not a mapping of settings.
pub fn load_deployment_config(path: &Path) -> Result<DeploymentConfig, StoreError> {
    let bytes = file::read(path).map_err(|error| StoreError::Read { path: path.to_owned(), error })?;
    let text = String::from_utf8(bytes).map_err(|error| yaml::not_utf8(&error));
    let parsed = text.and_then(|text| yaml::parse(&text).map(|content| DeploymentConfig { text: Secret::new(text), content }));
    parsed.map_err(|problem| match problem {
        Problem::Yaml { line, column, problem } => StoreError::Yaml { path: path.to_owned(), line, column, problem },
        Problem::Content(problem) => StoreError::Content { path: path.to_owned(), problem },
    })
}

/// Writes a deployment file: byte for byte what was loaded, but for the token if [`DeploymentConfig::with_token`] set one.
/// Its folder is made if it is not there.
///
/// # Errors
/// When it cannot be written, or when what is there now is no deployment file, which is never overwritten.
pub fn save_deployment_config(path: &Path, config: &DeploymentConfig) -> Result<(), StoreError> {
    update(path, |_| Ok(Some(config.clone()))).map(drop)
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

/// The deployment file that the settings name, else the one of this user.
pub(crate) fn config_path(get: impl Fn(&str) -> Option<String>) -> Result<PathBuf, StoreError> {
    let named = get("NODETOOL_CONFIG_PATH").map(|path| path.trim().to_owned()).filter(|path| !path.is_empty());
    named.map_or_else(deployment_path, |path| Ok(PathBuf::from(path)))
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
    // A file that could only be written in place has the mode that it had.
    warn_of_others(path);
    Ok(found)
}

fn generate(path: &Path) -> Result<Found, StoreError> {
    let token = generate_secure_token()?;
    let saved = update(path, |config| {
        // Another process may have been faster.
        if config.has_tokens() { Ok(None) } else { edited(path, config.with_token(&token)).map(Some) }
    })?;
    let is_ours = saved.token() == Some(&token);
    let source = if is_ours { TokenSource::Generated } else { TokenSource::File };
    Ok(Found::in_file(saved, source(path.to_owned())))
}

/// Says so if others can read a deployment file.
pub(crate) fn warn_of_others(path: &Path) {
    if let Some(loose) = loose_mode(path) {
        tracing::warn!("{loose}; run: {}", loose.remedy());
    }
}

/// What [`find_or_generate`] would find. Nothing is written: of what would be generated there is only the source.
pub(crate) fn look(path: &Path) -> Result<Found, StoreError> {
    let config = load_deployment_config(path)?;
    let source = if config.has_tokens() { TokenSource::File } else { TokenSource::Generated };
    Ok(Found::in_file(config, source(path.to_owned())))
}

/// The tokens that are in a deployment file now.
pub(crate) fn find(path: &Path) -> Result<Found, StoreError> {
    let found = look(path)?;
    if let TokenSource::Generated(_) = found.source {
        let problem = format!("there is no {} in it", yaml::KEY);
        return Err(StoreError::Content { path: path.to_owned(), problem });
    }
    Ok(found)
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

fn edited<T>(path: &Path, result: Result<T, CannotEdit>) -> Result<T, StoreError> {
    result.map_err(|error| StoreError::Content { path: path.to_owned(), problem: error.to_string() })
}

/// Writes what `edit` makes of a file, unless it makes nothing of it. Gives what the file holds in the end.
fn update(
    path: &Path,
    mut edit: impl FnMut(&DeploymentConfig) -> Result<Option<DeploymentConfig>, StoreError>,
) -> Result<DeploymentConfig, StoreError> {
    let cannot_write = |error| StoreError::Write { path: path.to_owned(), error };
    // Before anything is made beside it.
    load_deployment_config(path)?;
    let target = file::behind_links(path).map_err(cannot_write)?;
    file::create_private_folder_of(&target).map_err(cannot_write)?;
    let _lock = file::lock(&target).map_err(cannot_write)?;
    for _ in 0..MAX_TRIES {
        let before = load_deployment_config(path)?;
        let Some(after) = edit(&before)? else { return Ok(before) };
        match file::replace(&target, before.text.reveal(), after.text.reveal()).map_err(cannot_write)? {
            Written::Done => return Ok(after),
            Written::Outdated => {}
        }
    }
    Err(cannot_write(io::Error::other("others keep changing it")))
}

#[cfg(test)]
mod tests {
    use super::{
        DeploymentConfig, generate_secure_token, load_deployment_config, save_deployment_config, token_source, usual_path,
        worker_auth_token,
    };
    use crate::TokenSource;
    use nodetool_edge_auth::Secret;
    use std::{fs, path::PathBuf};

    #[test]
    fn the_usual_path_of_each_system() {
        let app_data = PathBuf::from(r"C:\Users\me\AppData\Roaming");
        let (home, none) = (PathBuf::from("/home/me"), PathBuf::new());
        let of_unix = home.join(".config/nodetool/deployment.yaml");
        assert_eq!(usual_path(false, Some(app_data.clone()), Some(home.clone())), Some(of_unix));
        let of_windows = app_data.join("nodetool").join("deployment.yaml");
        assert_eq!(usual_path(true, Some(app_data.clone()), Some(home.clone())), Some(of_windows));
        for missing in [None, Some(none)] {
            assert_eq!(usual_path(false, Some(app_data.clone()), missing.clone()), None);
            assert_eq!(usual_path(true, missing, Some(home.clone())), None);
        }
    }

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
    fn what_is_saved_is_what_was_loaded_and_no_other_file_is_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deployment.yaml");
        let config = DeploymentConfig::default().with_token(&Secret::new("abc".to_owned())).unwrap();
        save_deployment_config(&path, &config).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "worker_auth_token: abc\n");
        for (other, place) in [
            (&b"a: ["[..], "line 2, column 1: "),
            (b"a: 1\n# f\xc3\xbcr f\xfcr\n", "line 2, column 8: not UTF-8"),
            // As Windows calls Unicode.
            (b"\xff\xfea\0:\0", "line 1, column 1: not UTF-8"),
        ] {
            fs::write(&path, other).unwrap();
            let problem = save_deployment_config(&path, &config).unwrap_err().to_string();
            assert!(problem.contains(place), "{problem}");
            assert_eq!(fs::read(&path).unwrap(), other);
        }
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
