//! How the native host serves.

use alloc::{format, string::String};
use core::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::Reader;

/// How the native host serves.
#[derive(Clone, Debug)]
pub struct ServerSettings {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Its certificate, if it speaks TLS.
    pub tls: Option<TlsSettings>,
    /// What it gives clients time for.
    pub limits: ClientLimits,
    /// Connections of clients at one time; more of them wait. Nothing if the host chooses.
    pub max_connections: Option<u32>,
    /// Seconds for requests in flight when it is asked to stop; nothing for no limit.
    pub drain_timeout: Option<u64>,
    /// Whether another process may listen at the same address.
    pub reuse_port: bool,
}

/// The files of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSettings {
    /// The path of its chain, in PEM.
    pub certificate: String,
    /// The path of its private key, in PEM.
    pub key: String,
}

/// Seconds that a client may take; nothing for no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientLimits {
    /// For a TLS handshake, and for the head of a request.
    pub head: Option<u64>,
    /// To pause in the middle of its body, or of reading an answer.
    pub body: Option<u64>,
    /// Between two requests on one connection.
    pub idle: Option<u64>,
}

impl<G: Fn(&str) -> Option<String>> Reader<G> {
    pub(super) fn server(&mut self) -> ServerSettings {
        ServerSettings {
            listen: self.listen(),
            tls: self.tls(),
            limits: ClientLimits {
                head: self.seconds("AUTH_HEADER_TIMEOUT", 30),
                body: self.seconds("AUTH_BODY_TIMEOUT", 60),
                idle: self.seconds("AUTH_IDLE_TIMEOUT", 75),
            },
            max_connections: self.max_connections(),
            drain_timeout: self.seconds("AUTH_DRAIN_TIMEOUT", 30),
            reuse_port: self.boolean("AUTH_REUSE_PORT", false),
        }
    }

    fn max_connections(&mut self) -> Option<u32> {
        const NAME: &str = "AUTH_MAX_CONNECTIONS";
        const MOST: u32 = 1_000_000;
        let text = self.text(NAME)?;
        let most = text.parse().ok().filter(|most| (1..=MOST).contains(most));
        if most.is_none() {
            self.wrong(NAME, &format!("must be a whole number from 1 to {MOST}"));
        }
        most
    }

    /// One without the other is no TLS, which whoever set it would not expect.
    fn tls(&mut self) -> Option<TlsSettings> {
        const CERTIFICATE: &str = "AUTH_TLS_CERT";
        const KEY: &str = "AUTH_TLS_KEY";
        match (self.text(CERTIFICATE), self.text(KEY)) {
            (Some(certificate), Some(key)) => return Some(TlsSettings { certificate, key }),
            (None, None) => {}
            (Some(_), None) => self.wrong(CERTIFICATE, "needs AUTH_TLS_KEY, the file of its private key; set both, or unset it"),
            (None, Some(_)) => self.wrong(KEY, "needs AUTH_TLS_CERT, the file of its certificate; set both, or unset it"),
        }
        None
    }

    fn listen(&mut self) -> SocketAddr {
        const DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8000);
        let Some(text) = self.text("AUTH_LISTEN") else { return DEFAULT };
        let named =
            text.strip_prefix("localhost:").and_then(|port| port.parse().ok()).map(|port| SocketAddr::new(DEFAULT.ip(), port));
        named.or_else(|| text.parse().ok()).unwrap_or_else(|| {
            self.wrong(
                "AUTH_LISTEN",
                &format!("`{}` is not an address with a port, like 127.0.0.1:8000 or [::]:8000", text.escape_debug()),
            );
            DEFAULT
        })
    }
}
