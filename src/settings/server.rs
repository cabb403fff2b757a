//! How the native host serves.

use alloc::{format, string::String, vec::Vec};
use core::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::Reader;

/// How the native host serves.
#[derive(Clone, Debug)]
pub struct ServerSettings {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Where it answers probes and gives out metrics, if anywhere.
    pub admin_listen: Option<SocketAddr>,
}

impl<G: Fn(&str) -> Option<String>> Reader<G> {
    pub(super) fn server(&mut self, warnings: &mut Vec<String>) -> ServerSettings {
        let listen = self.listen();
        ServerSettings { listen, admin_listen: self.admin_listen(listen, warnings) }
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
