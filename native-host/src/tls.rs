//! TLS on both sides: the gateway's own certificate, and whose certificate an upstream may show.

mod certificate;
mod upstream;

use std::{fs, io, path::Path, sync::Arc};

use nodetool_edge_auth::{SettingError, SettingsErrors};
use rustls::{
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, pem::PemObject},
};

pub(crate) use certificate::{Certificate, Ending, Renewal};
pub(crate) use upstream::{Trust, trusting_anybody};

/// What is wrong with a file that a setting names, and what to do about it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{setting}: {problem}")]
pub(crate) struct Unusable {
    pub(crate) setting: &'static str,
    pub(crate) problem: String,
}

impl From<Unusable> for SettingsErrors {
    fn from(unusable: Unusable) -> Self {
        Self(vec![SettingError::new(unusable.setting, unusable.problem)])
    }
}

/// Both, or all that is wrong with either.
pub(crate) fn both<A, B>(one: Result<A, Unusable>, other: Result<B, Unusable>) -> Result<(A, B), SettingsErrors> {
    match (one, other) {
        (Ok(one), Ok(other)) => Ok((one, other)),
        (one, other) => {
            let errors = [one.err(), other.err()].into_iter().flatten();
            Err(SettingsErrors(errors.flat_map(|error| SettingsErrors::from(error).0).collect()))
        }
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn read(setting: &'static str, path: &Path) -> Result<Vec<u8>, Unusable> {
    fs::read(path).map_err(|error| {
        let remedy = match error.kind() {
            io::ErrorKind::NotFound => "correct the path, or make the file",
            io::ErrorKind::PermissionDenied => "let the user of this process read it",
            _ => "correct the path",
        };
        Unusable { setting, problem: format!("{} cannot be read: {error}; {remedy}", path.display()) }
    })
}

/// All certificates of a file, of which there is at least one.
fn certificates(setting: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, Unusable> {
    let text = read(setting, path)?;
    let unusable = |what: &str| Unusable {
        setting,
        problem: format!("{} {what}; it must be PEM, with -----BEGIN CERTIFICATE----- before each of them", path.display()),
    };
    let found: Vec<_> = CertificateDer::pem_slice_iter(&text).collect::<Result<_, _>>().map_err(|error| {
        tracing::debug!(%error, "not PEM");
        unusable("holds a certificate that cannot be read")
    })?;
    if found.is_empty() { Err(unusable("holds no certificate")) } else { Ok(found) }
}
