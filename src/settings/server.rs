//! How the native host serves.

use alloc::{format, string::String, vec::Vec};
use core::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::Reader;

/// How the native host serves.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ServerSettings {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Where it answers probes and gives out metrics, if anywhere.
    pub admin_listen: Option<SocketAddr>,
    /// Its certificate, if it speaks TLS.
    pub tls: Option<TlsSettings>,
    /// What it gives clients time for.
    pub limits: ClientLimits,
    /// Connections of clients at one time: for more, others are closed. Nothing if the host chooses.
    pub max_connections: Option<u32>,
    /// Bytes of memory for all connections without a valid credential together.
    pub memory_budget: usize,
    /// Seconds for requests in flight when it is asked to stop; nothing for no limit.
    pub drain_timeout: Option<u64>,
    /// Whether another process may listen at the same address.
    pub reuse_port: bool,
}

/// The files of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TlsSettings {
    /// The path of its chain, in PEM.
    pub certificate: String,
    /// The path of its private key, in PEM.
    pub key: String,
}

/// Seconds that a client may take; nothing for no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientLimits {
    /// For a TLS handshake, and for the head of a request.
    pub head: Option<u64>,
    /// To pause in the middle of its body, or of reading an answer.
    pub body: Option<u64>,
    /// Between two requests on one connection.
    pub idle: Option<u64>,
}

impl<G: Fn(&str) -> Option<String>> Reader<G> {
    pub(super) fn server(&mut self, warnings: &mut Vec<String>) -> ServerSettings {
        let listen = self.listen();
        ServerSettings {
            listen,
            admin_listen: self.admin_listen(listen, warnings),
            tls: self.tls(),
            limits: ClientLimits {
                head: self.seconds("AUTH_HEADER_TIMEOUT", 30),
                body: self.seconds("AUTH_BODY_TIMEOUT", 60),
                idle: self.seconds("AUTH_IDLE_TIMEOUT", 75),
            },
            max_connections: self.connections("AUTH_MAX_CONNECTIONS"),
            memory_budget: self.memory_budget(),
            drain_timeout: self.seconds("AUTH_DRAIN_TIMEOUT", 30),
            reuse_port: self.boolean("AUTH_REUSE_PORT", false),
        }
    }

    /// A number of bytes, or of the units that people say it in.
    fn memory_budget(&mut self) -> usize {
        const NAME: &str = "AUTH_MEMORY_BUDGET";
        const LEAST: usize = 1 << 20;
        const DEFAULT: usize = 256 << 20;
        let Some(text) = self.text(NAME) else { return DEFAULT };
        let (digits, shift) = [("KB", 10), ("MB", 20), ("GB", 30)]
            .into_iter()
            .find_map(|(unit, shift)| Some((text.strip_suffix(unit)?.trim_end(), shift)))
            .unwrap_or((text.as_str(), 0));
        let bytes = digits.parse::<u32>().ok().and_then(|number| usize::try_from(u64::from(number) << shift).ok());
        bytes.filter(|bytes| *bytes >= LEAST).unwrap_or_else(|| {
            self.wrong(NAME, "must be a number of bytes, or of KB, MB or GB, like 256MB; at least 1MB");
            DEFAULT
        })
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

    fn admin_listen(&mut self, listen: SocketAddr, warnings: &mut Vec<String>) -> Option<SocketAddr> {
        const NAME: &str = "AUTH_ADMIN_LISTEN";
        let text = self.text(NAME)?;
        let Some(address) = address(&text) else {
            self.wrong(
                NAME,
                &format!("`{}` is not an address with a port, like 127.0.0.1:9100 or [::1]:9100", text.escape_debug()),
            );
            return None;
        };
        let (own, public) = (address.ip().to_canonical(), listen.ip().to_canonical());
        let is_same_place = own == public || own.is_unspecified() || public.is_unspecified();
        // Of port 0 there are as many as one likes.
        if address.port() == listen.port() && address.port() != 0 && is_same_place {
            self.wrong(NAME, "must have another port than AUTH_LISTEN: probes and metrics are not for everyone");
        }
        if !own.is_loopback() {
            warnings.push(format!(
                "AUTH_ADMIN_LISTEN shows metrics to everyone who can reach {address}, without asking for a token; let only a private network reach it"
            ));
        }
        Some(address)
    }

    fn listen(&mut self) -> SocketAddr {
        const DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8000);
        let Some(text) = self.text("AUTH_LISTEN") else { return DEFAULT };
        address(&text).unwrap_or_else(|| {
            self.wrong(
                "AUTH_LISTEN",
                &format!("`{}` is not an address with a port, like 127.0.0.1:8000 or [::]:8000", text.escape_debug()),
            );
            DEFAULT
        })
    }
}

/// An address with a port. The name of this machine is the only one that is taken for an address.
fn address(text: &str) -> Option<SocketAddr> {
    let local = text.strip_prefix("localhost:").and_then(|port| port.parse().ok());
    local.map(|port| SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port)).or_else(|| text.parse().ok())
}
