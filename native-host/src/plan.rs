//! What of a request goes on, and what becomes of its answer: the word of the core in the types of hyper.

use std::time::Duration;

use bytes::Bytes;
use hyper::{
    HeaderMap, StatusCode, Uri,
    header::{self, HeaderName, HeaderValue},
    http::{response, uri::PathAndQuery},
};
use nodetool_edge_auth::{Finish, Forward};
use tokio::time::Instant;

use crate::{clock, headers};

/// What the connection of a client says to its own server, which frames nothing anew within one process.
const OWN_CONNECTION: [HeaderName; 3] = [header::HOST, header::CONTENT_LENGTH, header::TRANSFER_ENCODING];

/// What makes a WebSocket of a request.
const UPGRADE: [HeaderName; 2] = [header::CONNECTION, header::UPGRADE];

/// For what the gateway adds to the headers of most requests.
const ADDED: usize = 7;

/// The headers for an upstream of this authority, which is reached over a connection of its own.
pub(crate) fn for_upstream(forward: &Forward<'_>, from: &HeaderMap, authority: &HeaderValue, is_websocket: bool) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(from.len() + ADDED);
    headers.insert(header::HOST, authority.clone());
    copy(from, &mut headers, |name| forward.keeps(name.as_str()));
    set(forward, &mut headers);
    if is_websocket {
        announce_websocket(&mut headers);
    }
    join_cookies(&mut headers);
    headers
}

/// The headers for a service that answers the client over the very connection.
pub(crate) fn within(forward: &Forward<'_>, from: &HeaderMap, is_websocket: bool) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(from.len() + ADDED);
    let is_own = |name: &HeaderName| OWN_CONNECTION.contains(name) || (is_websocket && UPGRADE.contains(name));
    copy(from, &mut headers, |name| is_own(name) || forward.keeps(name.as_str()));
    set(forward, &mut headers);
    headers
}

fn copy(from: &HeaderMap, to: &mut HeaderMap, keeps: impl Fn(&HeaderName) -> bool) {
    for (name, value) in from {
        if keeps(name) {
            to.append(name, value.clone());
        }
    }
}

fn set(forward: &Forward<'_>, to: &mut HeaderMap) {
    for (name, value) in forward.sets().filter_map(|(name, value)| headers::own(name, value)) {
        to.insert(name, value);
    }
}

/// Path and query as they go on: the very bytes that were judged, but for a token. Nothing if they are no target.
pub(crate) fn target(forward: &Forward<'_>, uri: &Uri) -> Option<PathAndQuery> {
    match forward.rewritten_target() {
        Some(rewritten) => PathAndQuery::from_maybe_shared(Bytes::from(rewritten.to_owned())).ok(),
        None => Some(uri.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"))),
    }
}

/// The whole URI with that target.
pub(crate) fn uri(forward: &Forward<'_>, uri: &Uri) -> Option<Uri> {
    let mut parts = uri.clone().into_parts();
    if forward.rewritten_target().is_some() {
        parts.path_and_query = Some(target(forward, uri)?);
    }
    Uri::from_parts(parts).ok()
}

/// When an upgraded connection ends with the token of the client.
pub(crate) fn until(forward: &Forward<'_>) -> Option<Instant> {
    let now = clock::now();
    Some(Instant::now() + Duration::from_millis(forward.until(now)?.millis_since(now)))
}

/// Makes an answer what the client gets.
pub(crate) fn finish(finish: &Finish, answer: &mut response::Parts) {
    if let (StatusCode::SWITCHING_PROTOCOLS, Some(subprotocol)) = (answer.status, finish.subprotocol) {
        answer.headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(subprotocol));
    }
    share(&mut answer.headers, finish);
}

/// What a request for a WebSocket says of its connection, and the answer that grants it (RFC 6455, section 4).
pub(crate) fn announce_websocket(headers: &mut HeaderMap) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
}

/// Where the gateway says who may read an answer, the upstream does not.
fn share(headers: &mut HeaderMap, finish: &Finish) {
    let Some(sharing) = &finish.sharing else { return };
    match sharing.allow_origin.as_ref().and_then(|origin| HeaderValue::from_str(origin).ok()) {
        Some(origin) => _ = headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin),
        None => _ = headers.remove(header::ACCESS_CONTROL_ALLOW_ORIGIN),
    }
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
}

/// HTTP/2 may split `Cookie` into several lines, HTTP/1.1 may not (RFC 9113, section 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let mut lines = headers.get_all(header::COOKIE).iter();
    if let (Some(first), Some(second)) = (lines.next(), lines.next()) {
        let mut joined = first.as_bytes().to_vec();
        for line in [second].into_iter().chain(lines) {
            joined.extend_from_slice(b"; ");
            joined.extend_from_slice(line.as_bytes());
        }
        if let Ok(joined) = HeaderValue::from_bytes(&joined) {
            headers.insert(header::COOKIE, joined);
        }
    }
}
