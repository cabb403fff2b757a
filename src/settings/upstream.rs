//! How to reach the API being fronted.

use alloc::{borrow::ToOwned, format, string::String};

use super::{Host, Reader};
use crate::facts::Scheme;

/// How to reach the upstream.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ProxySettings {
    /// The API being fronted.
    pub upstream: Option<Upstream>,
    /// Seconds to connect; nothing for no limit.
    pub connect_timeout: Option<u64>,
    /// Seconds to the first byte of the answer; nothing for no limit.
    pub response_timeout: Option<u64>,
    /// Seconds that it may pause within its answer; nothing for no limit.
    pub idle_timeout: Option<u64>,
    /// Connections to it at one time; more requests wait. Nothing if the host chooses.
    pub max_connections: Option<u32>,
    /// The path of the certificates, in PEM, that alone are trusted to vouch for it.
    pub ca: Option<String>,
}

/// The origin of the API being fronted.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Upstream {
    /// Its scheme.
    pub scheme: Scheme,
    /// `host[:port]`, as `Host` carries it.
    pub authority: String,
}

impl Upstream {
    /// The host, without the brackets of an address.
    pub fn host(&self) -> &str {
        let host = match self.authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => host,
            _ => &self.authority,
        };
        host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
    }

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
        let upstream = self.upstream();
        ProxySettings {
            ca: self.upstream_ca(host, upstream.as_ref()),
            upstream,
            connect_timeout: self.seconds("UPSTREAM_CONNECT_TIMEOUT", 5),
            response_timeout: self.seconds("UPSTREAM_TIMEOUT", 300),
            idle_timeout: self.seconds("UPSTREAM_IDLE_TIMEOUT", 0),
            max_connections: self.connections("UPSTREAM_MAX_CONNECTIONS"),
        }
    }

    fn upstream(&mut self) -> Option<Upstream> {
        let url = self.text("UPSTREAM_URL")?;
        let upstream = Upstream::parse(&url);
        if upstream.is_none() {
            // The value is not repeated: it may hold a password, which is one of the things wrong with it.
            self.wrong("UPSTREAM_URL", "must be an origin like http://127.0.0.1:8080: a scheme of http or https, a host, maybe a port, and no path, query or user");
        }
        upstream
    }

    /// Where nobody would look at it, whoever set it would rely on a check that is not made.
    fn upstream_ca(&mut self, host: Host, upstream: Option<&Upstream>) -> Option<String> {
        const NAME: &str = "UPSTREAM_CA";
        let path = self.text(NAME)?;
        if host == Host::Edge {
            self.wrong(NAME, "is for the native host, since Cloudflare decides whom a Worker trusts; unset it");
        } else if upstream.is_none_or(|upstream| upstream.scheme != Scheme::Https) {
            self.wrong(NAME, "is for an https upstream, which UPSTREAM_URL does not name; correct that, or unset it");
        }
        Some(path)
    }
}

#[cfg(test)]
mod tests {
    use super::Upstream;

    #[test]
    fn an_origin_without_a_port_has_that_of_its_scheme() {
        for (url, address, host) in [
            ("http://a.example", "a.example:80", "a.example"),
            ("https://a.example/", "a.example:443", "a.example"),
            ("http://a.example:8080", "a.example:8080", "a.example"),
            ("http://[::1]", "[::1]:80", "::1"),
            ("https://[::1]:9", "[::1]:9", "::1"),
        ] {
            let upstream = Upstream::parse(url).unwrap();
            assert_eq!((&*upstream.address(), upstream.host()), (address, host));
        }
    }
}
