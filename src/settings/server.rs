//! How the native host serves.

use alloc::{format, string::String};
use core::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::Reader;

/// How the native host serves.
#[derive(Clone, Debug)]
pub struct ServerSettings {
    /// Where it listens.
    pub listen: SocketAddr,
}

impl<G: Fn(&str) -> Option<String>> Reader<G> {
    pub(super) fn server(&mut self) -> ServerSettings {
        ServerSettings { listen: self.listen() }
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
