//! The gateway's own certificate: read from its two files, and read anew when they change.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use aws_lc_rs::digest::{self, Digest};
use nodetool_edge_auth::TlsSettings;
use rustls::{
    Error, InconsistentKeys, ServerConfig,
    crypto::aws_lc_rs::Ticketer,
    pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject},
};
use tokio::sync::watch;
use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert, KeyUsage};

use super::{Unusable, certificates, provider, read};
use crate::{store::mode_of, watch::Reread};

const CERTIFICATE: &str = "AUTH_TLS_CERT";
const KEY: &str = "AUTH_TLS_KEY";

/// For somebody to notice before clients do.
const NOTICE: Duration = Duration::from_secs(14 * 86_400);

/// Where a certificate and its key are.
#[derive(Clone, Debug)]
pub(crate) struct Certificate {
    chain: PathBuf,
    key: PathBuf,
}

/// A certificate that fits its key.
#[derive(Clone)]
pub(crate) struct Loaded {
    /// What connections are accepted with.
    pub(crate) config: Arc<ServerConfig>,
    /// Nothing if that cannot be told.
    pub(crate) ending: Option<Ending>,
    /// Of all that both files hold.
    digest: Digest,
}

/// How it goes to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Expired(SystemTime),
    Soon(SystemTime),
    Later(SystemTime),
}

impl fmt::Display for Ending {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (tense, at) = match self {
            Self::Expired(at) => ("expired", at),
            Self::Soon(at) | Self::Later(at) => ("expires", at),
        };
        write!(formatter, "{tense} at {}", humantime::format_rfc3339_seconds(*at))
    }
}

impl Certificate {
    pub(crate) fn new(settings: &TlsSettings) -> Self {
        Self { chain: settings.certificate.clone().into(), key: settings.key.clone().into() }
    }

    pub(crate) fn files(&self) -> Vec<PathBuf> {
        vec![self.chain.clone(), self.key.clone()]
    }

    /// The file of the certificate itself.
    pub(crate) fn chain(&self) -> &Path {
        &self.chain
    }

    /// What is wrong with the mode of the key, and the command that mends it. A group may read it, as Debian's
    /// `ssl-cert` does.
    pub(crate) fn exposure(&self) -> Option<(String, String)> {
        let mode = mode_of(&self.key).filter(|mode| mode & 0o007 != 0)?;
        let key = self.key.display().to_string();
        let quoted = key.replace('\'', r"'\''");
        Some((
            format!("every user of this machine can read the key in {key}, whose mode is {mode:04o}"),
            format!("chmod o= '{quoted}'"),
        ))
    }

    pub(crate) fn load(&self) -> Result<Loaded, Unusable> {
        let chain = certificates(CERTIFICATE, &self.chain)?;
        let key = self.read_key()?;
        let mut digest = digest::Context::new(&digest::SHA256);
        chain.iter().for_each(|certificate| digest.update(certificate));
        digest.update(key.secret_der());
        let digest = digest.finish();
        let ending = chain.first().and_then(|certificate| Ending::of(certificate, SystemTime::now()));
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
            .map_err(|error| self.unusable(&error))?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        // Clients that come back keep what was agreed, sealed by a key that only this process has; nothing is kept here.
        config.ticketer = Ticketer::new().map_err(|error| self.unusable(&error))?;
        Ok(Loaded { config: Arc::new(config), ending, digest })
    }

    fn read_key(&self) -> Result<PrivateKeyDer<'static>, Unusable> {
        let text = zeroize::Zeroizing::new(read(KEY, &self.key)?);
        PrivateKeyDer::from_pem_slice(&text).map_err(|_| {
            let is_encrypted = text.windows(9).any(|part| part == b"ENCRYPTED");
            let problem = if is_encrypted {
                "is encrypted, and nobody can be asked for its password; decrypt it with `openssl pkey -in FILE -out NEW`"
            } else {
                "holds no private key; it must be PEM: PKCS#8 (BEGIN PRIVATE KEY), PKCS#1 (BEGIN RSA PRIVATE KEY) or SEC1 (BEGIN EC PRIVATE KEY)"
            };
            Unusable { setting: KEY, problem: format!("{} {problem}", self.key.display()) }
        })
    }

    /// Says in the log what somebody should do something about.
    pub(crate) fn warn(&self, loaded: &Loaded) {
        if let Some((exposure, remedy)) = self.exposure() {
            tracing::warn!("{exposure}; run: {remedy}");
        }
        if let Some(ending @ (Ending::Expired(_) | Ending::Soon(_))) = loaded.ending {
            let chain = self.chain.display();
            tracing::warn!("the certificate in {chain} {ending}; renew it, and it is taken up without a restart");
        }
    }

    fn unusable(&self, error: &Error) -> Unusable {
        let (chain, key) = (self.chain.display(), self.key.display());
        match error {
            Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => Unusable {
                setting: KEY,
                problem: format!(
                    "{key} is not the key of the first certificate in {chain}; name the key that it was made for, and put the server's own certificate first"
                ),
            },
            Error::InvalidCertificate(_) => Unusable {
                setting: CERTIFICATE,
                problem: format!(
                    "{chain} holds what is no certificate: {error}; it must be an X.509 v3 certificate, the server's own first"
                ),
            },
            error => Unusable {
                setting: KEY,
                problem: format!(
                    "{key} cannot be used: {error}; it must be RSA of 2048 to 8192 bits, ECDSA on P-256, P-384 or P-521, or Ed25519"
                ),
            },
        }
    }
}

impl Ending {
    /// Of a certificate, told by who checks certificates: at the end of time it says that, and since when, it is over.
    fn of(certificate: &CertificateDer<'_>, now: SystemTime) -> Option<Self> {
        const FAR: UnixTime = UnixTime::since_unix_epoch(Duration::from_secs(253_402_300_799));
        let parsed = EndEntityCert::try_from(certificate).ok()?;
        let checked = parsed.verify_for_usage(ALL_VERIFICATION_ALGS, &[], &[], FAR, KeyUsage::server_auth(), None, None);
        let Err(webpki::Error::CertExpired { not_after, .. }) = checked else { return None };
        let at = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(not_after.as_secs()))?;
        Some(match at.duration_since(now) {
            Err(_) => Self::Expired(at),
            Ok(left) if left < NOTICE => Self::Soon(at),
            Ok(_) => Self::Later(at),
        })
    }
}

/// Puts a changed certificate in force. Connections that are open keep the one that they began with.
pub(crate) struct Renewal {
    certificate: Certificate,
    digest: Digest,
    in_force: watch::Sender<Arc<ServerConfig>>,
    /// What was wrong with it the last time, so that it is said once.
    problem: Option<Unusable>,
}

impl Renewal {
    /// And what is in force, now and later.
    pub(crate) fn of(certificate: Certificate, loaded: Loaded) -> (Self, watch::Receiver<Arc<ServerConfig>>) {
        let (in_force, hears) = watch::channel(loaded.config);
        (Self { certificate, digest: loaded.digest, in_force, problem: None }, hears)
    }
}

impl Reread for Renewal {
    fn read(&mut self, is_asked: bool) -> bool {
        let file = self.certificate.chain.display();
        let loaded = self.certificate.load();
        let is_usable = loaded.is_ok();
        match loaded {
            Ok(loaded) => {
                self.problem = None;
                let is_news = loaded.digest.as_ref() != self.digest.as_ref();
                let ending = loaded.ending.map(|ending| format!(", and {ending}")).unwrap_or_default();
                if is_news {
                    self.digest = loaded.digest;
                    self.in_force.send_replace(loaded.config);
                    tracing::info!(%file, "the certificate has changed{ending}");
                } else if is_asked {
                    tracing::info!(%file, "the certificate is the same as before{ending}");
                }
            }
            Err(error) => {
                if is_asked || self.problem.as_ref() != Some(&error) {
                    tracing::error!("{error}; the certificate from before stays in force");
                }
                self.problem = Some(error);
            }
        }
        is_usable
    }
}
