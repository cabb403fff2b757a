//! A deployment file as it is read, changed and written again.

use std::{fmt, io, path::Path};

use nodetool_edge_auth::{Digest, Secret, Tokens, UnixTime};

use super::{
    StoreError,
    file::{self, Written},
    path,
    rights::Lowered,
    yaml::{self, Content, Problem, Replaced},
};

/// How often a file may change between the reading and the writing of it.
const MAX_TRIES: usize = 5;

/// A deployment file: what it says about authentication, and the rest of it as it stands.
#[derive(Clone, Default)]
pub struct DeploymentConfig {
    text: Secret,
    pub(super) content: Content,
}

/// Nothing of the file is shown, since all of it may be secret.
impl fmt::Debug for DeploymentConfig {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("DeploymentConfig").field("token", &self.token()).finish_non_exhaustive()
    }
}

impl DeploymentConfig {
    /// The value of `worker_auth_token`, or where that is missing or blank of `server_auth_token`, as it is written: what YAML
    /// would take for a number is a token all the same.
    pub fn token(&self) -> Option<&Secret> {
        self.content.token().map(|(_, token)| token)
    }

    /// The list under `accepted_tokens`.
    pub const fn accepted(&self) -> &Tokens {
        &self.content.accepted
    }

    /// The same file with this token in it, under each key that held one, and not a byte of the rest changed.
    ///
    /// # Errors
    /// When it is written in a way that leaves no place for it.
    pub fn with_token(&self, token: &Secret) -> Result<Self, CannotEdit> {
        yaml::with_token(self.text.reveal(), token).and_then(Self::parsed).ok_or(CannotEdit)
    }

    /// The same file with this token in it, the old one accepted as long as `overlap` says in seconds, and without the
    /// entries of earlier rotations that have come to their end.
    pub(super) fn rotated(&self, token: &Secret, overlap: u64, now: UnixTime) -> Result<(Self, Option<Previous>), CannotEdit> {
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

    /// Whether it says which tokens are accepted, if only by an empty list: then none is generated.
    pub(super) fn names_tokens(&self) -> bool {
        self.token().is_some() || self.content.has_list
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

/// Reads a deployment file; one that does not exist is empty.
///
/// # Errors
/// When it cannot be read, or is not a mapping of settings.
pub fn load_deployment_config(path: &Path) -> Result<DeploymentConfig, StoreError> {
    let bytes = file::read(path).map_err(|error| StoreError::Read { path: path.to_owned(), error })?;
    parsed(path, bytes)
}

fn parsed(path: &Path, bytes: Vec<u8>) -> Result<DeploymentConfig, StoreError> {
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

pub(super) fn edited<T>(path: &Path, result: Result<T, CannotEdit>) -> Result<T, StoreError> {
    result.map_err(|error| StoreError::Content { path: path.to_owned(), problem: error.to_string() })
}

/// Writes what `edit` makes of a file, unless it makes nothing of it. Gives what the file holds in the end.
pub(super) fn update(
    path: &Path,
    mut edit: impl FnMut(&DeploymentConfig) -> Result<Option<DeploymentConfig>, StoreError>,
) -> Result<DeploymentConfig, StoreError> {
    let cannot_write = |error| StoreError::Write { path: path.to_owned(), error };
    // As root, so that links are followed that only root may read.
    let target = path::behind_links(path).map_err(cannot_write)?;
    let lowered = Lowered::to_owner_of(file::folder_of(&target)).map_err(cannot_write)?;
    let cannot_write = |error| cannot_write(Lowered::said_of(lowered.as_ref(), error));
    let load = || {
        let cannot_read = |error| StoreError::Read { path: path.to_owned(), error: Lowered::said_of(lowered.as_ref(), error) };
        parsed(path, file::read(&target).map_err(cannot_read)?)
    };
    // Before anything is made beside it.
    load()?;
    path::create_private_folder(file::folder_of(&target)).map_err(cannot_write)?;
    let _lock = file::lock(&target).map_err(cannot_write)?;
    for _ in 0..MAX_TRIES {
        let before = load()?;
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
    use super::{DeploymentConfig, save_deployment_config};
    use nodetool_edge_auth::Secret;
    use std::fs;

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
}
