//! What a host saw of one request, and nothing that it concluded.

mod authority;
mod headers;

use alloc::{borrow::Cow, format, vec::Vec};
use core::net::IpAddr;

use crate::{
    forward_auth::{self, Description},
    websocket::QueryToken,
};
use authority::{is_authority, is_loopback_origin, is_loopback_page};

pub(crate) use authority::is_loopback_authority;
pub(crate) use headers::is_spelling_of;

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
    pub(crate) method: &'a str,
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
    transfer_encoding: Field<'a>,
    /// Whether `Connection` announces the upgrade.
    announces_upgrade: bool,
    pub(crate) has_body: bool,
    pub(crate) cross_site: bool,
    /// Whether any header says that somebody forwarded this request.
    pub(crate) forwarded: bool,
    /// Every `X-Forwarded-For`, in order.
    pub(crate) forwarded_for: Vec<&'a [u8]>,
    pub(crate) forwarded_proto: Field<'a>,
    pub(crate) forwarded_host: Field<'a>,
    /// The gateways that it has passed.
    pub(crate) hops: Field<'a>,
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
            transfer_encoding: Field::Absent,
            announces_upgrade: false,
            has_body: false,
            cross_site: false,
            forwarded: false,
            forwarded_for: Vec::new(),
            forwarded_proto: Field::Absent,
            forwarded_host: Field::Absent,
            hops: Field::Absent,
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
    pub fn subject(&mut self) -> &mut Self {
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

    /// The address of the peer, as the connection (never as a header that any client can send) tells it. Without it the peer is
    /// unknown, and counts neither as this machine nor as a trusted proxy.
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
        self.take_note(name, value);
        self
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
        self.method == "GET" && (self.announces_upgrade || self.asker == Asker::Proxy) && self.names_websocket()
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

    /// Whether the request came straight from a program on this machine, and not through a proxy or a foreign web page: the
    /// requests that a provider of `local` holds for by default.
    pub(crate) fn is_from_this_machine(&self) -> bool {
        let host_is_local = matches!(self.host, Field::One(host) if is_loopback_authority(host));
        self.has_loopback_peer() && host_is_local && self.has_loopback_page() && !self.forwarded
    }

    /// Whether the peer is known to be on this machine.
    pub(crate) fn has_loopback_peer(&self) -> bool {
        self.peer.is_some_and(|peer| peer.parse::<IpAddr>().is_ok_and(|peer| peer.to_canonical().is_loopback()))
    }

    /// Whether no web page but one of this machine is named as the initiator.
    pub(crate) fn has_loopback_page(&self) -> bool {
        match self.origin {
            // Without an origin only what the browser says of the initiator remains (Fetch Metadata).
            Field::Absent => {
                !self.cross_site
                    && match self.referer {
                        Field::Absent => true,
                        Field::One(page) => is_loopback_page(page),
                        Field::Many => false,
                    }
            }
            Field::One(origin) => is_loopback_origin(origin),
            Field::Many => false,
        }
    }
}
