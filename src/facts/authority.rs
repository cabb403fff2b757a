//! `host[:port]`: what names one host, and what names this machine.

use core::net::IpAddr;

/// `host[:port]` (RFC 3986, section 3.2.2), but for the comma, which separates values.
pub(super) fn is_authority(authority: &[u8]) -> bool {
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

/// `host[:port]` where the host is this machine.
pub(crate) fn is_loopback_authority(authority: &[u8]) -> bool {
    let (host, port) = split_port(authority.trim_ascii());
    port.iter().all(u8::is_ascii_digit) && is_loopback_host(host)
}

fn is_loopback_host(host: &[u8]) -> bool {
    let Ok(host) = core::str::from_utf8(host) else { return false };
    if host.eq_ignore_ascii_case("localhost") {
        return true;
    }
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// `scheme://authority` with a loopback authority.
pub(super) fn is_loopback_origin(origin: &[u8]) -> bool {
    [&b"http://"[..], b"https://"].iter().any(|scheme| origin.strip_prefix(*scheme).is_some_and(is_loopback_authority))
}

/// A URL below a loopback origin.
pub(super) fn is_loopback_page(url: &[u8]) -> bool {
    let end = url.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at).nth(2);
    is_loopback_origin(url.get(..end.unwrap_or(url.len())).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::{is_authority, is_loopback_authority, is_loopback_origin};

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
}
