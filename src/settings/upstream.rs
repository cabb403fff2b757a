//! How to reach the API being fronted.

use alloc::{borrow::ToOwned, format, string::String};

use super::{Host, Reader};
use crate::facts::Scheme;

/// How to reach the upstream.
#[derive(Clone, Debug)]
pub struct ProxySettings {
    /// The API being fronted.
    pub upstream: Option<Upstream>,
    /// Seconds to connect; nothing for no limit.
    pub connect_timeout: Option<u64>,
    /// Seconds to the first byte of the answer; nothing for no limit.
    pub response_timeout: Option<u64>,
}

/// The origin of the API being fronted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// Its scheme.
    pub scheme: Scheme,
    /// `host[:port]`, as `Host` carries it.
    pub authority: String,
}

impl Upstream {
    /// The origin, as in `http://127.0.0.1:8080`.
    pub fn origin(&self) -> String {
        format!("{}://{}", self.scheme.as_str(), self.authority)
    }

    /// `host:port`, to connect to. Where the origin names no port, it is the one of its scheme.
    pub fn address(&self) -> String {
        let has_port = self.authority.rsplit_once(':').is_some_and(|(_, port)| !port.ends_with(']'));
        let port = match self.scheme {
            _ if has_port => "",
            Scheme::Http => ":80",
            Scheme::Https => ":443",
        };
        format!("{}{port}", self.authority)
    }

    pub(super) fn parse(url: &str) -> Option<Self> {
        let (scheme, rest) = match url.split_once("://")? {
            (scheme, rest) if scheme.eq_ignore_ascii_case("http") => (Scheme::Http, rest),
            (scheme, rest) if scheme.eq_ignore_ascii_case("https") => (Scheme::Https, rest),
            _ => return None,
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
            _ => (authority, None),
        };
        let is_name =
            |host: &str| !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
        let is_address = |host: &str| {
            let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
            address.is_some_and(|address| address.parse::<core::net::Ipv6Addr>().is_ok())
        };
        let is_port =
            |port: &str| port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0);
        let fits = (is_name(host) || is_address(host)) && port.is_none_or(is_port);
        fits.then(|| Self { scheme, authority: authority.to_owned() })
    }
}

impl<G: Fn(&str) -> Option<String>> Reader<G> {
    pub(super) fn proxy(&mut self, host: Host) -> ProxySettings {
        ProxySettings {
            upstream: self.upstream(host),
            connect_timeout: self.seconds("UPSTREAM_CONNECT_TIMEOUT", 5),
            response_timeout: self.seconds("UPSTREAM_TIMEOUT", 300),
        }
    }

    fn upstream(&mut self, host: Host) -> Option<Upstream> {
        let url = self.text("UPSTREAM_URL")?;
        let upstream = Upstream::parse(&url);
        match &upstream {
            // The value is not repeated: it may hold a password, which is one of the things wrong with it.
            None => self.wrong("UPSTREAM_URL", "must be an origin like http://127.0.0.1:8080: a scheme of http or https, a host, maybe a port, and no path, query or user"),
            Some(upstream) if host == Host::Native && upstream.scheme == Scheme::Https => {
                self.wrong("UPSTREAM_URL", "https upstreams are not supported by this version of the native host; use http over a private network");
            }
            Some(_) => {}
        }
        upstream
    }
}

#[cfg(test)]
mod tests {
    use super::Upstream;

    #[test]
    fn an_origin_without_a_port_has_that_of_its_scheme() {
        for (url, address) in [
            ("http://a.example", "a.example:80"),
            ("https://a.example/", "a.example:443"),
            ("http://a.example:8080", "a.example:8080"),
            ("http://[::1]", "[::1]:80"),
            ("https://[::1]:9", "[::1]:9"),
        ] {
            assert_eq!(Upstream::parse(url).unwrap().address(), address);
        }
    }
}
