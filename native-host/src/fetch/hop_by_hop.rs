//! The header lines of an upstream's answer that concern its connection only.

use hyper::{
    HeaderMap, StatusCode,
    header::{self, HeaderName},
};

/// True if the upstream switches to the protocol that was asked for, which is WebSocket (RFC 9110, section 7.8).
pub(super) fn is_to_websocket(headers: &HeaderMap) -> bool {
    let mut protocols = headers.get_all(header::UPGRADE).iter();
    matches!((protocols.next(), protocols.next()), (Some(one), None) if one.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// Drops what concerns the upstream's connection only (RFC 9110, section 7.6.1). The length of the body stays, unless
/// the upstream contradicts it (RFC 9112, section 6.3).
pub(super) fn drop_hop_by_hop(headers: &mut HeaderMap) {
    let mut dropped = Vec::new();
    for (name, value) in &*headers {
        if !HOP_BY_HOP.contains(name) {
            continue;
        }
        dropped.push(name.clone());
        if *name == header::CONNECTION && !value.as_bytes().eq_ignore_ascii_case(b"keep-alive") {
            let named = value.as_bytes().split(|byte| *byte == b',');
            dropped.extend(named.filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok()));
        } else if *name == header::TRANSFER_ENCODING {
            dropped.push(header::CONTENT_LENGTH);
        }
    }
    for name in dropped {
        headers.remove(name);
    }
}

/// Those of the largest length that can be.
const MAX_DIGITS: usize = u64::MAX.ilog10() as usize + 1;

/// An upstream may say the same length several times, with zeros before it, or to `HEAD` one that no number of bytes has. To pass
/// that on would leave it to the next reader what it takes it for (RFC 9110, section 8.6).
pub(super) fn say_length_once(status: StatusCode, headers: &mut HeaderMap) {
    let mut lengths = headers.iter().filter(|(name, _)| **name == header::CONTENT_LENGTH).map(|(_, value)| value.as_bytes());
    let Some(length) = lengths.next() else { return };
    // A number with fewer digits than the largest one is smaller.
    let is_plain = length.iter().all(u8::is_ascii_digit) && !matches!(length, [] | [b'0', _, ..]) && length.len() < MAX_DIGITS;
    if is_plain && lengths.next().is_none() && status != StatusCode::NO_CONTENT {
        return;
    }
    let first = length.split(|byte| *byte == b',').next().and_then(|first| str::from_utf8(first.trim_ascii()).ok());
    let digits = first.filter(|first| first.bytes().all(|byte| byte.is_ascii_digit()));
    match digits.and_then(|digits| digits.parse::<u64>().ok()).filter(|_| status != StatusCode::NO_CONTENT) {
        Some(length) => _ = headers.insert(header::CONTENT_LENGTH, length.into()),
        None => _ = headers.remove(header::CONTENT_LENGTH),
    }
}

/// To look for each of them in all headers takes less than to look each of them up.
static HOP_BY_HOP: [HeaderName; 7] = [
    header::CONNECTION,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::TE,
    header::PROXY_AUTHENTICATE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];
