//! Where the token is kept natively: `deployment.yaml`, a file that others read and write too.

use std::{
    env, fmt,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, ErrorKind, Write},
    path::{Path, PathBuf},
};

use nodetool_edge_auth::{Secret, Tokens, generate_token};
use saphyr::{MarkedYaml, ScalarStyle, YamlData, YamlLoader};
use saphyr_parser::{Parser, ScanError};
use tempfile::NamedTempFile;

const KEY: &str = "worker_auth_token";
const ACCEPTED: &str = "accepted_tokens";

/// What is larger is not a page of settings.
const MAX_SIZE: u64 = 1 << 20;

/// A deployment file, as far as it concerns authentication. The rest of it is kept as it stands.
#[derive(Clone, Debug, Default)]
pub struct DeploymentConfig {
    text: String,
    /// The value of `worker_auth_token`, as it is written: what YAML would take for a number is a token all the same.
    pub token: Option<Secret>,
    /// The list under `accepted_tokens`.
    pub accepted: Tokens,
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

/// The tokens that a gateway starts with.
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
        Self { token: config.token, accepted: config.accepted, source }
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
    #[error("cannot save a token to {path}: {error}; make the folder writable, or set WORKER_AUTH_TOKEN", path = path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The system's random source failed.
    #[error("the system has no random bytes for a token: {0}")]
    Random(getrandom::Error),
}

/// The deployment file of this user, unless `NODETOOL_CONFIG_PATH` names another.
///
/// # Errors
/// When the user has no home folder.
pub fn deployment_path() -> Result<PathBuf, StoreError> {
    let folder = if cfg!(windows) {
        env::var_os("APPDATA").map(PathBuf::from)
    } else {
        env::home_dir().filter(|home| !home.as_os_str().is_empty()).map(|home| home.join(".config"))
    };
    Ok(folder.ok_or(StoreError::NoHome)?.join("nodetool").join("deployment.yaml"))
}

/// Reads a deployment file; one that does not exist is empty.
///
/// # Errors
/// When it cannot be read, or is not a mapping of settings.
pub fn load_deployment_config(path: &Path) -> Result<DeploymentConfig, StoreError> {
    match read(path) {
        Ok(text) => parse(path, text),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(DeploymentConfig::default()),
        Err(error) => Err(StoreError::Read { path: path.to_owned(), error }),
    }
}

/// A new token of 256 random bits, 43 characters.
///
/// # Errors
/// When the system's random source fails.
pub fn generate_secure_token() -> Result<Secret, StoreError> {
    loop {
        let mut entropy = [0; 32];
        getrandom::fill(&mut entropy).map_err(StoreError::Random)?;
        let token = generate_token(entropy);
        // A leading hyphen would make an option of it on a command line.
        if !token.reveal().starts_with('-') {
            return Ok(token);
        }
    }
}

/// The tokens of a deployment file. Where it has none, one is generated and saved: the one and only, however many
/// processes start at once.
pub(crate) fn find_or_generate(path: &Path) -> Result<Found, StoreError> {
    let config = load_deployment_config(path)?;
    if config.has_tokens() {
        warn_of_loose_permissions(path);
        return Ok(Found::in_file(config, TokenSource::File(path.to_owned())));
    }
    let cannot_write = |error| StoreError::Write { path: path.to_owned(), error };
    // Through a link the file behind it is meant. The new file goes beside that one.
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    create_private_folder(folder).map_err(cannot_write)?;
    let _lock = lock(&target).map_err(cannot_write)?;

    // Another process may have been faster.
    let config = load_deployment_config(&target)?;
    if config.has_tokens() {
        return Ok(Found::in_file(config, TokenSource::File(path.to_owned())));
    }
    let saved = with_token(path, &config, &generate_secure_token()?)?;
    replace(&target, folder, &saved.text).map_err(cannot_write)?;
    Ok(Found::in_file(saved, TokenSource::Generated(path.to_owned())))
}

impl DeploymentConfig {
    fn has_tokens(&self) -> bool {
        self.token.is_some() || !self.accepted.is_empty()
    }
}

fn read(path: &Path) -> io::Result<String> {
    if fs::metadata(path)?.len() > MAX_SIZE {
        return Err(io::Error::other("it is larger than 1 MiB"));
    }
    fs::read_to_string(path)
}

fn parse(path: &Path, text: String) -> Result<DeploymentConfig, StoreError> {
    let (token, accepted) = tokens(path, &text)?;
    Ok(DeploymentConfig { text, token, accepted })
}

fn tokens(path: &Path, text: &str) -> Result<(Option<Secret>, Tokens), StoreError> {
    let wrong = |problem: &str| StoreError::Content { path: path.to_owned(), problem: problem.to_owned() };
    let documents = documents(text).map_err(|error| {
        let marker = error.marker();
        StoreError::Yaml {
            path: path.to_owned(),
            line: marker.line(),
            column: marker.col() + 1,
            problem: error.info().to_owned(),
        }
    })?;
    let (token, accepted) = match documents.as_slice() {
        [] => (None, Tokens::default()),
        [root] if is_null(root) => (None, Tokens::default()),
        [root] => match &root.data {
            YamlData::Mapping(settings) => {
                let value = |name: &str| settings.iter().find(|(key, _)| scalar(key) == Some(name)).map(|(_, value)| value);
                let token = value(KEY).filter(|value| !is_null(value));
                let token = token
                    .map(|value| scalar(value).ok_or_else(|| wrong("worker_auth_token is not a single value")))
                    .transpose()?;
                let accepted = value(ACCEPTED)
                    .filter(|value| !is_null(value))
                    .map(|value| accepted(value).map_err(|problem| wrong(&problem)));
                (token.map(|token| Secret::new(token.trim().to_owned())), accepted.transpose()?.unwrap_or_default())
            }
            _ => return Err(wrong("not a mapping of settings (`name: value`)")),
        },
        _ => return Err(wrong("holds several YAML documents")),
    };
    Ok((token.filter(|token| !token.reveal().is_empty()), accepted))
}

/// Scalars stay as they are written: no number, boolean or date is made of a token.
fn documents(text: &str) -> Result<Vec<MarkedYaml<'_>>, ScanError> {
    let mut loader = YamlLoader::default();
    loader.early_parse(false);
    Parser::new_from_str(text).load(&mut loader, true)?;
    match loader.error() {
        Some(error) => Err(error.clone()),
        None => Ok(loader.into_documents()),
    }
}

fn scalar<'a>(node: &'a MarkedYaml<'_>) -> Option<&'a str> {
    match &node.data {
        YamlData::Representation(text, ..) => Some(text),
        _ => None,
    }
}

fn is_null(node: &MarkedYaml<'_>) -> bool {
    matches!(&node.data, YamlData::Representation(text, ScalarStyle::Plain, _) if ["", "~", "null", "Null", "NULL"].contains(&&**text))
}

/// The list in the one form that the core reads.
fn accepted(list: &MarkedYaml<'_>) -> Result<Tokens, String> {
    let YamlData::Sequence(entries) = &list.data else { return Err("accepted_tokens is not a list".to_owned()) };
    let entry = |entry: &MarkedYaml<'_>| {
        let YamlData::Mapping(members) = &entry.data else { return None };
        let member = |(name, value): (&MarkedYaml<'_>, &MarkedYaml<'_>)| {
            let (name, value) = (scalar(name)?, scalar(value)?);
            let number = (name == "not_after").then(|| value.parse::<u64>().ok()).flatten();
            Some((name.to_owned(), number.map_or_else(|| value.into(), serde_json::Value::from)))
        };
        members.iter().map(member).collect::<Option<serde_json::Map<_, _>>>()
    };
    let entries: Option<Vec<_>> = entries.iter().map(entry).collect();
    let entries = entries.ok_or("accepted_tokens is not a list of `name`, `sha256` and `not_after`")?;
    Tokens::parse(&serde_json::json!({ "tokens": entries }).to_string()).map_err(|error| format!("accepted_tokens: {error}"))
}

/// The same file with a token in it, and not a byte of the rest changed.
fn with_token(path: &Path, config: &DeploymentConfig, token: &Secret) -> Result<DeploymentConfig, StoreError> {
    let cannot = |problem: &str| StoreError::Content {
        path: path.to_owned(),
        problem: format!("{problem}; write the line `worker_auth_token: TOKEN` into it yourself, or set WORKER_AUTH_TOKEN"),
    };
    let mut lines: Vec<String> = config.text.split_inclusive('\n').map(str::to_owned).collect();
    // A key without a value gets one; otherwise the line goes to the end.
    let blank = lines.iter_mut().find(|line| line.strip_prefix(KEY).is_some_and(|rest| rest.starts_with(':')));
    if let Some(line) = blank {
        *line = format!("{KEY}: {}\n", token.reveal());
    } else {
        if let Some(last) = lines.last_mut().filter(|last| !last.ends_with('\n')) {
            last.push('\n');
        }
        lines.push(format!("{KEY}: {}\n", token.reveal()));
    }
    // The proof that the file says what was meant, before anything is written.
    let changed = parse(path, lines.concat()).map_err(|_| cannot("a token cannot be added to it"))?;
    let says_so = changed.token.as_ref() == Some(token) && same_but_for_token(&config.text, &changed.text);
    says_so.then_some(changed).ok_or_else(|| cannot("a token cannot be added to it"))
}

fn same_but_for_token(before: &str, after: &str) -> bool {
    let rest = |text| {
        let mut documents = documents(text).ok()?;
        let settings = match documents.pop().map(|root| root.data) {
            Some(YamlData::Mapping(settings)) => settings,
            _ => return Some(Vec::new()),
        };
        Some(settings.into_iter().filter(|(key, _)| scalar(key) != Some(KEY)).collect::<Vec<_>>())
    };
    matches!((rest(before), rest(after)), (Some(before), Some(after)) if before == after)
}

/// One process at a time. The lock is a file beside the other, since that one is replaced. It ends with the process.
fn lock(path: &Path) -> io::Result<File> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(PathBuf::from(name))?;
    file.lock()?;
    Ok(file)
}

/// Written beside, synced, then renamed: nobody ever sees half a file, nor one that others may read.
fn replace(target: &Path, folder: &Path, text: &str) -> io::Result<()> {
    // Made with mode 0600, whatever the umask.
    let mut file = NamedTempFile::with_prefix_in(".deployment-", folder)?;
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    file.persist(target)?;
    #[cfg(unix)]
    File::open(folder)?.sync_all()?;
    Ok(())
}

fn create_private_folder(folder: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

#[cfg(unix)]
fn warn_of_loose_permissions(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let Ok(metadata) = fs::metadata(path) else { return };
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        tracing::warn!("others can read the token in {}, whose mode is {mode:04o}; run: chmod 600 {0:?}", path.display());
    }
}

#[cfg(not(unix))]
const fn warn_of_loose_permissions(_: &Path) {}
