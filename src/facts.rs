//! What a host saw of one request, and nothing that it concluded.

use alloc::{borrow::Cow, format, vec::Vec};
use core::{iter, net::IpAddr};

use crate::{
    forward_auth::{self, Description},
    websocket::QueryToken,
};

/// The scheme that the client spoke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Plain HTTP.
    Http,
    /// HTTP over TLS.
    Https,
}

impl Scheme {
    /// `http` or `https`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// A header that may be there once. Whoever judges it must say what more than once means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Field<'a> {
    /// Not sent.
    #[default]
    Absent,
    /// Sent once, with this raw value.
    One(&'a [u8]),
    /// Sent more than once.
    Many,
}

impl<'a> Field<'a> {
    pub(crate) fn add(&mut self, value: &'a [u8]) {
        *self = match self {
            Self::Absent => Self::One(value),
            Self::One(_) | Self::Many => Self::Many,
        };
    }

    /// Whether the header was sent at all.
    pub const fn is_present(self) -> bool {
        !matches!(self, Self::Absent)
    }
}

/// One request as its host received it, borrowed.
///
/// Feed it every header of the request, in any order, by [`header`](Self::header): which of them matter is for the
/// core to know.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// The method, as sent.
    pub(crate) method: &'a str,
    /// The raw path, without the query.
    pub(crate) path: &'a str,
    /// The raw query, without its `?`.
    pub(crate) query: Option<&'a str>,
    pub(crate) scheme: Scheme,
    /// The peer's address, where the host knows it.
    pub(crate) peer: Option<&'a str>,
    pub(crate) host: Field<'a>,
    pub(crate) authorization: Field<'a>,
    pub(crate) admin_token: Field<'a>,
    pub(crate) origin: Field<'a>,
    pub(crate) preflight_method: Field<'a>,
    pub(crate) preflight_headers: Field<'a>,
    pub(crate) referer: Field<'a>,
    pub(crate) upgrade: Field<'a>,
    /// Whether `Connection` announces the upgrade.
    announces_upgrade: bool,
    /// Whether anything follows the headers.
    pub(crate) has_body: bool,
    pub(crate) cross_site: bool,
    /// Whether any header says that somebody forwarded this request.
    pub(crate) forwarded: bool,
    /// Every `X-Forwarded-For`, in order.
    pub(crate) forwarded_for: Vec<&'a [u8]>,
    pub(crate) forwarded_proto: Field<'a>,
    pub(crate) forwarded_host: Field<'a>,
    /// Every `Sec-WebSocket-Protocol`, in order.
    pub(crate) subprotocols: Vec<&'a [u8]>,
    /// Of an upgrade only.
    pub(crate) query_token: QueryToken<'a>,
    /// Values of `Connection` that may name further hop-by-hop headers.
    pub(crate) connection: Vec<&'a [u8]>,
    /// How many names these are.
    connection_names: usize,
    /// What they say of another request: see [`subject`](Self::subject).
    description: Description<'a>,
    pub(crate) asker: Asker,
    /// For how many seconds nobody is asked on behalf of this client.
    pub(crate) wait: Option<u32>,
    /// How this request is called in logs, where the host settled on a name.
    pub(crate) request_id: Option<&'a str>,
}

const MAX_CONNECTION_NAMES: usize = 64;

/// On whose behalf a request is judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Asker {
    /// Its own.
    #[default]
    Client,
    /// A proxy's, which described it and will serve it if it may pass.
    Proxy,
    /// A proxy's that described none, or more than one.
    VagueProxy,
}

impl<'a> Facts<'a> {
    /// A request with this method and target: `path` is everything before the first `?`, `query` all after it.
    pub const fn new(method: &'a str, path: &'a str, query: Option<&'a str>) -> Self {
        Self {
            method,
            path,
            query,
            scheme: Scheme::Http,
            peer: None,
            host: Field::Absent,
            authorization: Field::Absent,
            admin_token: Field::Absent,
            origin: Field::Absent,
            preflight_method: Field::Absent,
            preflight_headers: Field::Absent,
            referer: Field::Absent,
            upgrade: Field::Absent,
            announces_upgrade: false,
            has_body: false,
            cross_site: false,
            forwarded: false,
            forwarded_for: Vec::new(),
            forwarded_proto: Field::Absent,
            forwarded_host: Field::Absent,
            subprotocols: Vec::new(),
            query_token: QueryToken::Absent,
            connection: Vec::new(),
            connection_names: 0,
            description: Description::NONE,
            asker: Asker::Client,
            wait: None,
            request_id: None,
        }
    }

    /// What is to be judged, once all headers are known: this request or, at `/.auth/verify`, the one that a proxy
    /// describes in them. Without this call that path is none.
    #[must_use]
    pub fn subject(mut self) -> Self {
        if self.path == forward_auth::PATH {
            match self.description.read() {
                Some((method, path, query)) if !self.is_two_requests_to_some() => {
                    (self.method, self.path, self.query, self.asker) = (method, path, query, Asker::Proxy);
                }
                _ => self.asker = Asker::VagueProxy,
            }
        }
        if let Some(query) = self.query.filter(|_| self.is_websocket()) {
            self.query_token = QueryToken::of(query);
        }
        self
    }

    /// The scheme of the client's connection; `http` unless said.
    pub const fn scheme(&mut self, scheme: Scheme) -> &mut Self {
        self.scheme = scheme;
        self
    }

    /// The address of the client, as the connection (never as a header that anyone can send) tells it.
    pub const fn peer(&mut self, address: &'a str) -> &mut Self {
        self.peer = Some(address);
        self
    }

    /// How the host calls this request in its log. The upstream is told so in `x-request-id`, in place of what the client said.
    pub const fn request_id(&mut self, id: &'a str) -> &mut Self {
        self.request_id = Some(id);
        self
    }

    /// Says that a body follows, where the framing of the request tells it and not a header.
    pub const fn body_follows(&mut self) -> &mut Self {
        self.has_body = true;
        self
    }

    /// Says that the client has failed too often of late to prove who it is, and has to wait for so many seconds: what it
    /// brings is still judged, but nobody else is asked about it. See [`Failures`](crate::Failures).
    pub const fn must_wait(&mut self, seconds: u32) -> &mut Self {
        self.wait = Some(seconds);
        self
    }

    /// Says that somebody else sent this request on, for a reason that no header tells.
    pub const fn came_forwarded(&mut self) -> &mut Self {
        self.forwarded = true;
        self
    }

    /// Takes note of one header line. Names are compared without regard to case.
    pub fn header(&mut self, name: &str, value: &'a [u8]) -> &mut Self {
        // The length decides first: most headers of a request concern nobody here.
        match name.len() {
            4 if is(name, "host") => self.host.add(value),
            6 if is(name, "origin") => self.origin.add(value),
            7 if is(name, "upgrade") => self.upgrade.add(value),
            7 if is(name, "referer") => self.referer.add(value),
            10 if is(name, "connection") => self.connection(value),
            13 if is(name, "authorization") => self.authorization.add(value),
            13 if is(name, "x-admin-token") => self.admin_token.add(value),
            14 if is(name, "content-length") => self.has_body |= value != b"0",
            14 if is(name, "sec-fetch-site") => self.cross_site |= value == b"cross-site",
            17 if is(name, "transfer-encoding") => self.has_body = true,
            22 if is(name, "sec-websocket-protocol") => self.subprotocols.push(value),
            29 if is(name, "access-control-request-method") => self.preflight_method.add(value),
            30 if is(name, "access-control-request-headers") => self.preflight_headers.add(value),
            _ if tells_of_forwarding(name) => self.forwarding(name, value),
            _ => {}
        }
        self
    }

    fn forwarding(&mut self, name: &str, value: &'a [u8]) {
        self.forwarded = true;
        match name.len() {
            15 if is(name, "x-forwarded-for") => self.forwarded_for.push(value),
            16 if is(name, "x-forwarded-host") => self.forwarded_host.add(value),
            17 if is(name, "x-forwarded-proto") => self.forwarded_proto.add(value),
            _ => self.description.header(name, value),
        }
    }

    fn connection(&mut self, value: &'a [u8]) {
        let mut names = value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        self.announces_upgrade |= names.any(|name| name.eq_ignore_ascii_case(b"upgrade"));
        if !names_no_other(value) {
            self.connection.push(value);
            self.connection_names += value.split(|byte| *byte == b',').count();
        }
    }

    /// The method, as sent.
    pub const fn method(&self) -> &'a str {
        self.method
    }

    /// The raw path, without the query.
    pub const fn path(&self) -> &'a str {
        self.path
    }

    /// The raw query, without its `?`.
    pub const fn query(&self) -> Option<&'a str> {
        self.query
    }

    /// Path and query as one, as they stand in a request line: the very bytes that are judged.
    pub fn target(&self) -> Cow<'a, str> {
        match self.query {
            Some(query) => Cow::Owned(format!("{}?{query}", self.path)),
            None => Cow::Borrowed(self.path),
        }
    }

    /// Whether the client asks for a WebSocket (RFC 6455, section 4.1). Of one that a proxy describes, `Connection` is the
    /// proxy's own.
    pub fn is_websocket(&self) -> bool {
        self.method == "GET"
            && (self.announces_upgrade || self.asker == Asker::Proxy)
            && matches!(self.upgrade, Field::One(value) if value.trim_ascii().eq_ignore_ascii_case(b"websocket"))
    }

    /// A CORS preflight by the Fetch standard: `OPTIONS` with `Origin` and `Access-Control-Request-Method`.
    pub(crate) fn is_preflight(&self) -> bool {
        self.method == "OPTIONS"
            && matches!(self.origin, Field::One(origin) if !origin.trim_ascii().is_empty())
            && matches!(self.preflight_method, Field::One(method) if !method.trim_ascii().is_empty())
            && self.is_bare()
    }

    /// `GET`, `HEAD` or `OPTIONS` with a body: a server that ignores it reads it as the next request, which nobody judged (RFC 9110,
    /// section 9.3.1, allows to refuse it for that reason).
    pub(crate) fn is_two_requests_to_some(&self) -> bool {
        self.has_body && matches!(self.method, "GET" | "HEAD" | "OPTIONS")
    }

    /// Whether `Host` names one host, and nothing beside it that somebody could take for it (RFC 9112, section 3.2).
    pub(crate) fn names_one_host(&self) -> bool {
        match self.host {
            Field::Absent => true,
            Field::One(host) => is_authority(host.trim_ascii()),
            Field::Many => false,
        }
    }

    /// Whether `Connection` names more than anyone has reason to: each header is compared with each of them.
    pub(crate) const fn names_too_much(&self) -> bool {
        self.connection_names > MAX_CONNECTION_NAMES
    }

    /// Neither an upgrade nor a body: nothing that an upstream could take for more than the request it seems to be.
    pub(crate) fn is_bare(&self) -> bool {
        !self.upgrade.is_present() && !self.has_body
    }

    /// Whether the request came straight from a program on this machine, and not through a proxy or a
    /// foreign web page: what a provider of `local` that nobody asked for by name holds for.
    pub(crate) fn is_from_this_machine(&self) -> bool {
        let peer_is_local =
            self.peer.is_none_or(|peer| peer.parse::<IpAddr>().is_ok_and(|peer| peer.to_canonical().is_loopback()));
        let host_is_local = matches!(self.host, Field::One(host) if is_loopback_authority(host));
        let page_is_local = match self.origin {
            // Without an origin only what the browser says of the initiator remains (Fetch Metadata).
            Field::Absent => !self.cross_site && !matches!(self.referer, Field::One(page) if !is_loopback_page(page)),
            Field::One(origin) => is_loopback_origin(origin),
            Field::Many => false,
        };
        peer_is_local && host_is_local && page_is_local && !self.forwarded
    }
}

fn is(name: &str, expected: &str) -> bool {
    name.eq_ignore_ascii_case(expected)
}

/// Headers by which proxies, tunnels and content networks say that they stand between.
fn tells_of_forwarding(name: &str) -> bool {
    let starts = |prefix: &str| name.get(..prefix.len()).is_some_and(|start| is_spelling_of(start, prefix));
    match name.as_bytes().first().map(u8::to_ascii_lowercase) {
        Some(b'x') => ["x-forwarded", "x-original-", "x-envoy-", "x-amzn-", "x-azure-", "x-client-", "x-cluster-", "x-real-"]
            .into_iter()
            .any(starts),
        Some(b'c') => ["cf-", "cdn-loop", "client-ip"].into_iter().any(starts),
        Some(b'f') => ["forwarded", "fly-", "fastly-"].into_iter().any(starts),
        Some(b't') => ["true-client-ip", "tailscale-"].into_iter().any(starts),
        Some(b'v') => is(name, "via"),
        _ => false,
    }
}

/// Whether some server reads a header of this name as one of that name: case does not count, and CGI and its heirs make
/// one character of every other that is neither letter nor digit.
pub(crate) fn is_spelling_of(name: &str, expected: &str) -> bool {
    name.len() == expected.len()
        && iter::zip(name.bytes(), expected.bytes())
            .all(|(byte, expected)| byte.eq_ignore_ascii_case(&expected) || (expected == b'-' && !byte.is_ascii_alphanumeric()))
}

/// The usual values of `Connection`, which name no header but those that are never forwarded anyway.
fn names_no_other(value: &[u8]) -> bool {
    [&b"keep-alive"[..], b"close", b"upgrade"].iter().any(|usual| value.eq_ignore_ascii_case(usual))
}

/// `scheme://authority` with a loopback authority.
fn is_loopback_origin(origin: &[u8]) -> bool {
    [&b"http://"[..], b"https://"].iter().any(|scheme| origin.strip_prefix(*scheme).is_some_and(is_loopback_authority))
}

/// A URL below a loopback origin.
fn is_loopback_page(url: &[u8]) -> bool {
    let end = url.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at).nth(2);
    is_loopback_origin(url.get(..end.unwrap_or(url.len())).unwrap_or_default())
}

/// `host[:port]` where the host is this machine.
pub(crate) fn is_loopback_authority(authority: &[u8]) -> bool {
    let (host, port) = split_port(authority.trim_ascii());
    port.iter().all(u8::is_ascii_digit) && is_loopback_host(host)
}

/// `host[:port]` (RFC 3986, section 3.2.2), but for the comma, which separates values.
fn is_authority(authority: &[u8]) -> bool {
    let (host, port) = split_port(authority);
    let is_host = match host.strip_prefix(b"[").and_then(|host| host.strip_suffix(b"]")) {
        Some(address) => address.iter().all(|byte| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.')),
        None => host.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+;=".contains(byte)),
    };
    is_host && port.iter().all(u8::is_ascii_digit)
}

/// What is before the colon of the port, and what after it.
fn split_port(authority: &[u8]) -> (&[u8], &[u8]) {
    // A colon inside brackets belongs to the address.
    let after_brackets = authority.iter().rposition(|byte| *byte == b']').map_or(0, |end| end + 1);
    let colon = authority.iter().skip(after_brackets).position(|byte| *byte == b':').map(|colon| after_brackets + colon);
    colon.and_then(|colon| Some((authority.get(..colon)?, authority.get(colon + 1..)?))).unwrap_or((authority, &[]))
}

fn is_loopback_host(host: &[u8]) -> bool {
    let Ok(host) = core::str::from_utf8(host) else { return false };
    if host.eq_ignore_ascii_case("localhost") {
        return true;
    }
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::{Facts, is_authority, is_loopback_authority, is_loopback_origin};

    #[test]
    fn loopback_authorities() {
        for local in ["localhost", "LOCALHOST:8000", "127.0.0.1", "127.9.9.9:1", "[::1]", "[::1]:8000"] {
            assert!(is_loopback_authority(local.as_bytes()), "{local}");
        }
        for foreign in [
            "",
            "example.com",
            "localhost.example.com",
            "localhost.",
            "127.0.0.1.nip.io",
            "127.0.0.1@evil.example",
            "10.0.0.1:8000",
            "0.0.0.0",
            "[::2]",
            "[::1].evil.example",
            "localhost:8000:1",
            "localhost:x",
            "[::ffff:127.0.0.1]:80",
            "2130706433",
            "127.1",
        ] {
            assert!(!is_loopback_authority(foreign.as_bytes()), "{foreign}");
        }
    }

    #[test]
    fn authorities() {
        for one in [
            "",
            "x",
            "api.example.com:8000",
            "a_b.example",
            "xn--bcher-kva.example",
            "127.0.0.1:",
            "[::1]:80",
            "[::ffff:1.2.3.4]",
        ] {
            assert!(is_authority(one.as_bytes()), "{one}");
        }
        for none in [
            "a, b",
            "a,b",
            "a b",
            "u@evil.example",
            "evil.example/x",
            "a?b",
            "a#b",
            "a\\b",
            "a:b",
            "a:1:2",
            "a\"b",
            "b\u{fc}cher.example",
            "[::1",
            "::1]",
            "[::1]x",
            "[x]",
            "a[::1]",
            "a\u{0}",
        ] {
            assert!(!is_authority(none.as_bytes()), "{none}");
        }
    }

    #[test]
    fn loopback_origins() {
        assert!(is_loopback_origin(b"http://localhost:3000") && is_loopback_origin(b"https://127.0.0.1"));
        for foreign in
            ["null", "", "http://evil.example", "localhost", "file://", "http://localhost.evil.example", "http://localhost/evil"]
        {
            assert!(!is_loopback_origin(foreign.as_bytes()), "{foreign}");
        }
    }

    #[test]
    fn connection_values_that_name_nothing_else_are_not_kept() {
        let mut facts = Facts::new("GET", "/", None);
        facts.header("Connection", b"keep-alive").header("connection", b"Upgrade");
        assert!(facts.connection.is_empty());
        facts.header("CONNECTION", b"keep-alive, x-user-id");
        assert_eq!(facts.connection, [&b"keep-alive, x-user-id"[..]]);
    }
}
