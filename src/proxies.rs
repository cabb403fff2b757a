//! Proxies in front of the gateway, and what they say of whom they speak for.

use alloc::{borrow::Cow, format, string::String, vec::Vec};
use core::net::IpAddr;

use ipnet::IpNet;

use crate::facts::{Facts, Field};

/// Whose `X-Forwarded-*` is believed, as `AUTH_TRUSTED_PROXIES` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TrustedProxies(Vec<IpNet>);

impl TrustedProxies {
    /// Adds a network like `10.0.0.0/8`, or one address.
    pub(crate) fn add(&mut self, network: &str) -> bool {
        let parsed = network.parse().ok().or_else(|| network.parse::<IpAddr>().ok().map(IpNet::from));
        self.0.extend(parsed);
        parsed.is_some()
    }

    /// Whether everybody is believed, and so anyone could say to be anyone.
    pub(crate) fn includes_everybody(&self) -> bool {
        self.0.iter().any(|network| network.prefix_len() == 0)
    }

    pub(crate) fn sent(&self, facts: &Facts<'_>) -> bool {
        !self.0.is_empty() && facts.peer.is_some_and(|peer| self.contain(peer))
    }

    fn contain(&self, address: &str) -> bool {
        parsed(address).is_some_and(|address| self.0.iter().any(|network| network.contains(&address)))
    }

    /// The address of whoever the request comes from: the last one in `X-Forwarded-For` that is no trusted proxy, since
    /// each of these added the one that it saw. What stands before that one, its sender made up.
    pub(crate) fn client<'a>(&self, facts: &Facts<'a>) -> Option<&'a str> {
        let mut client = facts.peer?;
        if !self.sent(facts) {
            return Some(client);
        }
        let hops = facts.forwarded_for.iter().rev().flat_map(|line| line.rsplit(|byte| *byte == b','));
        for hop in hops {
            let Some(hop) = core::str::from_utf8(hop).ok().map(str::trim).filter(|hop| parsed(hop).is_some()) else { break };
            client = hop;
            if !self.contain(hop) {
                break;
            }
        }
        Some(client)
    }
}

/// An address as proxies write it, perhaps with a port.
pub(crate) fn parsed(address: &str) -> Option<IpAddr> {
    let bare = match address.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((bare, _)) => bare,
        None => match address.split_once(':') {
            Some((bare, port)) if !port.contains(':') => bare,
            _ => address,
        },
    };
    bare.parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

/// What the upstream is told of the way that a request came. Of an untrusted sender nothing is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Provenance<'a> {
    /// Whether a trusted proxy sent it.
    pub(crate) is_trusted: bool,
    pub(crate) forwarded_for: Option<Cow<'a, str>>,
    pub(crate) proto: &'a str,
    pub(crate) host: Option<&'a str>,
}

impl<'a> Provenance<'a> {
    pub(crate) fn of(facts: &Facts<'a>, trusted: &TrustedProxies) -> Self {
        let is_trusted = trusted.sent(facts);
        let kept = |field: Field<'a>| one(field).filter(|_| is_trusted);
        let peer = facts.peer.map(Cow::Borrowed);
        Self {
            is_trusted,
            forwarded_for: if is_trusted { chain(facts).map(Cow::Owned).or(peer) } else { peer },
            proto: kept(facts.forwarded_proto).unwrap_or(facts.scheme.as_str()),
            host: kept(facts.forwarded_host).or_else(|| one(facts.host)),
        }
    }
}

/// The addresses that a trusted proxy named, and its own.
fn chain(facts: &Facts<'_>) -> Option<String> {
    let named: Option<Vec<&str>> = facts.forwarded_for.iter().map(|line| core::str::from_utf8(line).ok()).collect();
    let named = named?.join(", ");
    let is_plain = !named.is_empty() && named.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
    is_plain.then(|| format!("{named}, {}", facts.peer.unwrap_or_default()))
}

fn one(field: Field<'_>) -> Option<&str> {
    let Field::One(value) = field else { return None };
    core::str::from_utf8(value).ok().filter(|value| !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_graphic()))
}

#[cfg(test)]
mod tests {
    use super::{Facts, Provenance, TrustedProxies, parsed};

    fn trusted(networks: &[&str]) -> TrustedProxies {
        let mut trusted = TrustedProxies::default();
        for network in networks {
            assert!(trusted.add(network), "{network}");
        }
        trusted
    }

    fn facts<'a>(peer: &'a str, forwarded_for: &[&'a str]) -> Facts<'a> {
        let mut facts = Facts::new("GET", "/", None);
        facts.peer(peer).header("Host", b"gateway.example").header("X-Forwarded-Proto", b"https");
        for value in forwarded_for {
            facts.header("X-Forwarded-For", value.as_bytes());
        }
        facts
    }

    #[test]
    fn the_last_address_that_no_trusted_proxy_has() {
        let proxies = trusted(&["10.0.0.0/8", "192.0.2.7", "fd00::/8"]);
        for (peer, forwarded_for, client) in [
            ("198.51.100.1", &["1.2.3.4"][..], "198.51.100.1"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &["1.2.3.4"], "1.2.3.4"),
            ("10.0.0.1", &["6.6.6.6, 1.2.3.4"], "1.2.3.4"),
            ("10.0.0.1", &["6.6.6.6, 1.2.3.4, 192.0.2.7"], "1.2.3.4"),
            ("10.0.0.1", &["6.6.6.6", "1.2.3.4", "10.9.9.9"], "1.2.3.4"),
            ("10.0.0.1", &["10.2.2.2, 10.3.3.3"], "10.2.2.2"),
            ("10.0.0.1", &["1.2.3.4, unknown"], "10.0.0.1"),
            ("10.0.0.1", &["1.2.3.4, unknown, 10.2.2.2"], "10.2.2.2"),
            ("10.0.0.1", &["1.2.3.4:5678"], "1.2.3.4:5678"),
            ("fd00::1", &["[2001:db8::1]:443"], "[2001:db8::1]:443"),
            ("fd00::1", &["2001:db8::1"], "2001:db8::1"),
            ("10.0.0.1", &[""], "10.0.0.1"),
        ] {
            assert_eq!(proxies.client(&facts(peer, forwarded_for)), Some(client), "{peer} {forwarded_for:?}");
        }
        assert_eq!(trusted(&[]).client(&facts("10.0.0.1", &["1.2.3.4"])), Some("10.0.0.1"));
    }

    #[test]
    fn what_a_trusted_proxy_said_is_kept() {
        let proxies = trusted(&["10.0.0.0/8"]);
        let seen = |facts: &Facts<'_>| {
            let Provenance { is_trusted, forwarded_for, proto, host } = Provenance::of(facts, &proxies);
            alloc::format!("{is_trusted} {} {proto} {}", forwarded_for.unwrap_or_default(), host.unwrap_or_default())
        };
        assert_eq!(
            seen(&facts("10.0.0.1", &["1.1.1.1", "2.2.2.2, 3.3.3.3"])),
            "true 1.1.1.1, 2.2.2.2, 3.3.3.3, 10.0.0.1 https gateway.example"
        );
        assert_eq!(seen(&facts("10.0.0.1", &[])), "true 10.0.0.1 https gateway.example");
        assert_eq!(seen(facts("10.0.0.1", &[]).header("X-Forwarded-Host", b"app.example")), "true 10.0.0.1 https app.example");
        assert_eq!(seen(&facts("11.0.0.1", &["1.1.1.1"])), "false 11.0.0.1 http gateway.example");
        // What comes twice is nobody's word.
        assert_eq!(
            seen(facts("10.0.0.1", &["1\u{e4}"]).header("X-Forwarded-Proto", b"http")),
            "true 10.0.0.1 http gateway.example"
        );
    }

    #[test]
    fn addresses_with_and_without_ports() {
        for (written, address) in
            [("1.2.3.4", "1.2.3.4"), ("1.2.3.4:5", "1.2.3.4"), ("[::1]:5", "::1"), ("::ffff:1.2.3.4", "1.2.3.4")]
        {
            assert_eq!(parsed(written), address.parse().ok());
        }
        for none in ["", "unknown", "_hidden", "1.2.3", "1.2.3.4.5", "for=1.2.3.4"] {
            assert_eq!(parsed(none), None, "{none}");
        }
        assert!(!TrustedProxies::default().add("10.0.0.0/33") && !TrustedProxies::default().add("localhost"));
    }
}
