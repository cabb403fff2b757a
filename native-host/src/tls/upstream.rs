//! Whom the gateway trusts when it is the client.

use std::{path::Path, sync::Arc};

use hyper_rustls::ConfigBuilderExt as _;
use nodetool_edge_auth::{ProxySettings, Scheme};
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use tokio_rustls::TlsConnector;

use super::{Unusable, certificates, provider};

/// How an upstream by https is recognized.
#[derive(Clone)]
pub(crate) struct Trust {
    pub(crate) connector: TlsConnector,
    /// Whom its certificate must be for.
    pub(crate) name: ServerName<'static>,
}

impl Trust {
    /// Nothing if the upstream is not one by https.
    pub(crate) fn new(proxy: &ProxySettings) -> Result<Option<Self>, Unusable> {
        let Some(upstream) = proxy.upstream.as_ref().filter(|upstream| upstream.scheme == Scheme::Https) else { return Ok(None) };
        let name = ServerName::try_from(upstream.host().to_owned()).map_err(|_| Unusable {
            setting: "UPSTREAM_URL",
            problem: "names a host that no certificate can be for; use its name as the certificate has it".to_owned(),
        })?;
        let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().map_err(broken)?;
        let builder = match proxy.ca.as_deref().map(Path::new) {
            Some(path) => builder.with_root_certificates(roots(path)?),
            // They come along, so that an empty container can check a certificate.
            None => builder.with_webpki_roots(),
        };
        let mut config = builder.with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Some(Self { connector: Arc::new(config).into(), name }))
    }
}

fn roots(path: &Path) -> Result<RootCertStore, Unusable> {
    const SETTING: &str = "UPSTREAM_CA";
    let mut roots = RootCertStore::empty();
    for certificate in certificates(SETTING, path)? {
        roots.add(certificate).map_err(|error| Unusable {
            setting: SETTING,
            problem: format!("{} holds what is no certificate of an authority: {error}", path.display()),
        })?;
    }
    Ok(roots)
}

fn broken(error: Error) -> Unusable {
    Unusable { setting: "UPSTREAM_URL", problem: format!("https cannot be spoken: {error}") }
}

/// For a look at a gateway on this very machine, whose certificate is for its public name. Nothing secret may be told to
/// whom this connects to.
pub(crate) fn trusting_anybody() -> Result<Arc<ClientConfig>, Error> {
    let provider = provider();
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
    let anybody = Arc::new(Anybody(provider));
    Ok(Arc::new(builder.dangerous().with_custom_certificate_verifier(anybody).with_no_client_auth()))
}

#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
