//! Recognizes an upstream that is the gateway itself, before the first request goes in a circle.

use std::net::{SocketAddr, ToSocketAddrs, UdpSocket};

use nodetool_edge_auth::{SettingError, Upstream};

/// An error if the upstream is the gateway that listens at this address. A longer circle shows by its first request only.
pub(crate) fn check(listen: SocketAddr, upstream: Option<&Upstream>) -> Result<(), SettingError> {
    let Some(upstream) = upstream else { return Ok(()) };
    let address = upstream.address();
    // Of another port its name need not be looked up.
    if address.rsplit_once(':').and_then(|(_, port)| port.parse().ok()) != Some(listen.port()) {
        return Ok(());
    }
    // An upstream whose name has no address yet may have one later.
    let mut addresses = address.to_socket_addrs().into_iter().flatten();
    if addresses.any(|address| is_reached(listen, address)) {
        let problem = format!(
            "{} is a request loop: the gateway itself listens on {listen}; name the address of the API, or choose another with --listen or AUTH_LISTEN",
            upstream.origin()
        );
        return Err(SettingError::new("UPSTREAM_URL", problem));
    }
    Ok(())
}

/// Whether a connection to this address comes to who listens there.
fn is_reached(listen: SocketAddr, address: SocketAddr) -> bool {
    let (own, there) = (listen.ip().to_canonical(), address.ip().to_canonical());
    if listen.port() != address.port() {
        return false;
    }
    // A connection to no address in particular goes to this machine.
    let is_this_machine = || there.is_unspecified() || there.is_loopback() || UdpSocket::bind((there, 0)).is_ok();
    if own.is_unspecified() {
        // A listener of IPv6 usually takes connections of IPv4 as well.
        return (own.is_ipv6() || there.is_ipv4()) && is_this_machine();
    }
    own == there || (there.is_unspecified() && own.is_loopback() && own.is_ipv4() == there.is_ipv4())
}

#[cfg(test)]
mod tests {
    use super::is_reached;

    #[test]
    fn an_address_is_reached_by_all_its_names() {
        for (listen, address, reached) in [
            ("127.0.0.1:8000", "127.0.0.1:8000", true),
            ("127.0.0.1:8000", "[::ffff:127.0.0.1]:8000", true),
            ("127.0.0.1:8000", "0.0.0.0:8000", true),
            ("127.0.0.1:8000", "127.0.0.1:8001", false),
            ("127.0.0.1:8000", "127.0.0.2:8000", false),
            ("127.0.0.1:8000", "[::1]:8000", false),
            ("0.0.0.0:8000", "127.0.0.1:8000", true),
            ("0.0.0.0:8000", "127.9.9.9:8000", true),
            ("0.0.0.0:8000", "0.0.0.0:8000", true),
            ("0.0.0.0:8000", "[::1]:8000", false),
            ("0.0.0.0:8000", "192.0.2.1:8000", false),
            ("[::]:8000", "127.0.0.1:8000", true),
            ("[::]:8000", "[::1]:8000", true),
            ("[::]:8000", "[2001:db8::1]:8000", false),
            ("[::1]:8000", "[::1]:8000", true),
            ("[::1]:8000", "127.0.0.1:8000", false),
        ] {
            assert_eq!(is_reached(listen.parse().unwrap(), address.parse().unwrap()), reached, "{listen} {address}");
        }
    }
}
