//! Why a deployment file, or a token for one, cannot be had.

use std::{
    io::{self, ErrorKind},
    path::PathBuf,
};

use nodetool_edge_auth::SettingsErrors;

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
    #[error("{place}: {problem}")]
    Token {
        /// Where it is: the key and the file.
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

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => "free some space",
        _ => "make the folder writable",
    }
}
