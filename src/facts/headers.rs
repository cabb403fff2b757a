//! Which headers of a request matter, and what is kept of each.

use core::iter;

use super::{Facts, Field};
use crate::hops::HOPS;

impl<'a> Facts<'a> {
    pub(super) fn take_note(&mut self, name: &str, value: &'a [u8]) {
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
            // Part of an upgrade to h2c (RFC 7540, section 3.2.1), which a proxy may keep where it drops `Upgrade` as hop-by-hop.
            14 if is_spelling_of(name, "http2-settings") => self.upgrade = Field::Many,
            14 if is(name, "sec-fetch-site") => self.cross_site |= value == b"cross-site",
            17 if is(name, "transfer-encoding") => {
                self.has_body = true;
                self.transfer_encoding.add(value);
            }
            20 if is(name, HOPS) => {
                self.forwarded = true;
                self.hops.add(value);
            }
            22 if is(name, "sec-websocket-protocol") => self.subprotocols.push(value),
            29 if is(name, "access-control-request-method") => self.preflight_method.add(value),
            30 if is(name, "access-control-request-headers") => self.preflight_headers.add(value),
            _ if tells_of_forwarding(name) => self.forwarding(name, value),
            _ => {}
        }
    }

    /// Whether the body is framed in the one way that every server reads alike: by a length, or by the transfer coding `chunked`,
    /// applied once (RFC 9112, section 6.1).
    pub(crate) fn has_one_framing(&self) -> bool {
        match self.transfer_encoding {
            Field::Absent => true,
            Field::One(coding) => coding.trim_ascii().eq_ignore_ascii_case(b"chunked"),
            Field::Many => false,
        }
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

    /// Whether the client asks for another protocol than WebSocket, which would carry requests that are not judged.
    pub(crate) fn asks_for_other_protocol(&self) -> bool {
        self.upgrade.is_present() && !self.names_websocket()
    }

    /// Whether `Upgrade` names WebSocket and nothing else. Names of protocols are case-insensitive (RFC 9110, section 7.8).
    pub(super) fn names_websocket(&self) -> bool {
        matches!(self.upgrade, Field::One(value) if value.trim_ascii().eq_ignore_ascii_case(b"websocket"))
    }
}

fn is(name: &str, expected: &str) -> bool {
    name.eq_ignore_ascii_case(expected)
}

/// Headers by which proxies, tunnels and content networks say that they stand between.
fn tells_of_forwarding(name: &str) -> bool {
    let starts = |prefix: &str| name.get(..prefix.len()).is_some_and(|start| is_spelling_of(start, prefix));
    match name.as_bytes().first().map(u8::to_ascii_lowercase) {
        Some(b'x') => BY_PROXIES.into_iter().any(starts),
        Some(b'a') => ["akamai-", "ali-cdn-"].into_iter().any(starts),
        Some(b'c') => ["cf-", "cdn-", "client-ip", "cluster-client-ip", "cloudfront-"].into_iter().any(starts),
        Some(b'f') => ["forwarded", "fly-", "fastly-", "front-end-https"].into_iter().any(starts),
        Some(b'i') => ["incap-"].into_iter().any(starts),
        Some(b'm') => is(name, "max-forwards"),
        Some(b'p') => ["proxy-", "px-"].into_iter().any(starts),
        Some(b'r') => ["remote-addr", "real-ip"].into_iter().any(starts),
        Some(b's') => ["surrogate-", "ssl-client-"].into_iter().any(starts),
        Some(b't') => ["true-client-ip", "tailscale-"].into_iter().any(starts),
        Some(b'v') => is(name, "via"),
        Some(b'w') => ["wl-proxy-"].into_iter().any(starts),
        _ => false,
    }
}

/// What proxies, balancers and hosting platforms begin the names of their own headers with.
const BY_PROXIES: [&str; 34] = [
    "x-amz-cf-",
    "x-amzn-",
    "x-appengine-",
    "x-appgw-",
    "x-arr-",
    "x-azure-",
    "x-cache",
    "x-cdn",
    "x-client-",
    "x-cloud-trace-context",
    "x-cluster-",
    "x-coming-from",
    "x-envoy-",
    "x-forward",
    "x-from",
    "x-haproxy-",
    "x-host",
    "x-https",
    "x-nf-",
    "x-nginx-",
    "x-original-",
    "x-originating-",
    "x-proxy",
    "x-queue-start",
    "x-real-",
    "x-remote-",
    "x-request-start",
    "x-rewrite-",
    "x-scheme",
    "x-ssl-",
    "x-sucuri-",
    "x-true-",
    "x-url-scheme",
    "x-varnish",
];

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

#[cfg(test)]
mod tests {
    use super::Facts;

    #[test]
    fn connection_values_that_name_nothing_else_are_not_kept() {
        let mut facts = Facts::new("GET", "/", None);
        facts.header("Connection", b"keep-alive").header("connection", b"Upgrade");
        assert!(facts.connection.is_empty());
        facts.header("CONNECTION", b"keep-alive, x-user-id");
        assert_eq!(facts.connection, [&b"keep-alive, x-user-id"[..]]);
    }
}
