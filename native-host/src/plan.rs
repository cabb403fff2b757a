//! What of a request goes on, and what becomes of the answer: settled while the headers of the request were looked at.

use std::time::Duration;

use bytes::Bytes;
use hyper::{
    HeaderMap, StatusCode, Uri,
    header::{self, HeaderName, HeaderValue},
    http::{response, uri::PathAndQuery},
};
use nodetool_edge_auth::{Finish, Forward, Sharing};
use tokio::time::Instant;

use crate::clock;

pub(crate) struct Plan {
    dropped: Vec<HeaderName>,
    set: Vec<(HeaderName, HeaderValue)>,
    /// Path and query, if not as they came.
    target: Option<String>,
    pub(crate) is_websocket: bool,
    /// When an upgraded connection ends with the token of the client.
    pub(crate) until: Option<Instant>,
    finish: Finish,
}

/// What the connection of a client says to its own server, which frames nothing anew within one process.
const OWN_CONNECTION: [HeaderName; 3] = [header::HOST, header::CONTENT_LENGTH, header::TRANSFER_ENCODING];

/// What makes a WebSocket of a request.
const UPGRADE: [HeaderName; 2] = [header::CONNECTION, header::UPGRADE];

impl Plan {
    /// For an upstream that is reached over a connection of its own.
    pub(crate) fn new(forward: &Forward<'_>, headers: &HeaderMap, is_websocket: bool) -> Self {
        let dropped = headers.keys().filter(|name| !forward.keeps(name.as_str())).cloned().collect();
        Self::with(forward, dropped, is_websocket)
    }

    /// For a service that answers the client over the very connection.
    pub(crate) fn within(forward: &Forward<'_>, headers: &HeaderMap, is_websocket: bool) -> Self {
        let is_own = |name: &HeaderName| OWN_CONNECTION.contains(name) || (is_websocket && UPGRADE.contains(name));
        let dropped = headers.keys().filter(|name| !is_own(name) && !forward.keeps(name.as_str())).cloned().collect();
        Self::with(forward, dropped, is_websocket)
    }

    fn with(forward: &Forward<'_>, dropped: Vec<HeaderName>, is_websocket: bool) -> Self {
        // Values that no header can carry were refused before; should one appear, the header is missing, not forged.
        let set = forward
            .sets()
            .filter_map(|(name, value)| Some((HeaderName::from_static(name), HeaderValue::from_str(value).ok()?)))
            .collect();
        let target = forward.rewritten_target().map(str::to_owned);
        let until = is_websocket.then(clock::now).and_then(|now| {
            let end = forward.until(now)?;
            Some(Instant::now() + Duration::from_millis(end.millis_since(now)))
        });
        Self { dropped, set, target, is_websocket, until, finish: forward.finish() }
    }

    /// Path and query as they go on: the very bytes that were judged, but for a token. Nothing if they are no target.
    pub(crate) fn target(&mut self, uri: Uri) -> Option<PathAndQuery> {
        match self.target.take() {
            Some(rewritten) => PathAndQuery::from_maybe_shared(Bytes::from(rewritten)).ok(),
            None => Some(uri.into_parts().path_and_query.unwrap_or(PathAndQuery::from_static("/"))),
        }
    }

    /// The whole URI with that target.
    pub(crate) fn uri(&mut self, uri: Uri) -> Option<Uri> {
        if self.target.is_none() {
            return Some(uri);
        }
        let mut parts = uri.into_parts();
        parts.path_and_query = Some(self.target(Uri::default())?);
        Uri::from_parts(parts).ok()
    }

    /// Makes the headers of the client those that go on.
    pub(crate) fn apply(&mut self, headers: &mut HeaderMap) {
        for name in &self.dropped {
            headers.remove(name);
        }
        for (name, value) in self.set.drain(..) {
            headers.insert(name, value);
        }
    }

    /// The same for an upstream of this authority.
    pub(crate) fn apply_for(&mut self, authority: &HeaderValue, headers: &mut HeaderMap) {
        self.apply(headers);
        headers.insert(header::HOST, authority.clone());
        if self.is_websocket {
            announce_websocket(headers);
        }
        join_cookies(headers);
    }

    /// Makes an answer what the client gets.
    pub(crate) fn finish(&self, answer: &mut response::Parts) {
        if let (StatusCode::SWITCHING_PROTOCOLS, Some(subprotocol)) = (answer.status, self.finish.subprotocol) {
            answer.headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(subprotocol));
        }
        share(&mut answer.headers, &self.finish);
    }

    /// Who may read an answer, if that is the gateway's affair.
    pub(crate) const fn sharing(&self) -> Option<&Sharing> {
        self.finish.sharing.as_ref()
    }
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
