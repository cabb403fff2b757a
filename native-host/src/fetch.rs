//! Sends a request that may pass to the upstream.

use std::{future::Future, io, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body::Body as _;
use hyper::{
    HeaderMap, Method, Request, Response, StatusCode, Uri, Version,
    body::Incoming,
    header::{self, HeaderName, HeaderValue},
    http::{request::Parts, uri::PathAndQuery},
    upgrade,
};
use nodetool_edge_auth::{Answer, Finish, Forward, Reason};
use tokio::time::{Instant, timeout};

use crate::{
    body::{Progress, RequestBody, ResponseBody},
    clock,
    metrics::{Counters, Present, Source, UpstreamError},
    pool::{Lease, Pauses, Pool, Reach},
    respond, upgrade as tunnels,
};

/// The API behind the gateway, as one thread reaches it.
pub(crate) struct Fetch {
    pool: Arc<Pool>,
    counters: Arc<Counters>,
    authority: HeaderValue,
    response_timeout: Option<Duration>,
    pauses: Pauses,
}

/// What of a request goes on: settled while its headers were still being looked at.
pub(crate) struct Plan {
    dropped: Vec<HeaderName>,
    set: Vec<(HeaderName, HeaderValue)>,
    /// Path and query, if not as they came.
    target: Option<String>,
    is_websocket: bool,
    /// When an upgraded connection ends with the token of the client.
    until: Option<Instant>,
    finish: Finish,
}

impl Plan {
    pub(crate) fn new(forward: &Forward<'_>, headers: &HeaderMap, is_websocket: bool) -> Self {
        let dropped = headers.keys().filter(|name| !forward.keeps(name.as_str())).cloned().collect();
        // Values that no header can carry were refused before; should one appear, the header is missing, not forged.
        let set = forward
            .sets()
            .filter_map(|(name, value)| Some((HeaderName::from_static(name), HeaderValue::from_str(value).ok()?)))
            .collect();
        let target = forward.rewritten_target().map(str::to_owned);
        let now = clock::now();
        let until = forward.until(now).map(|until| Instant::now() + Duration::from_millis(until.millis_since(now)));
        Self { dropped, set, target, is_websocket, until, finish: forward.finish() }
    }

    /// Path and query for the upstream: the very bytes that were judged, but for a token. Nothing if they are no target.
    fn target(&mut self, uri: Uri) -> Option<PathAndQuery> {
        match self.target.take() {
            Some(rewritten) => PathAndQuery::from_maybe_shared(Bytes::from(rewritten)).ok(),
            None => Some(uri.into_parts().path_and_query.unwrap_or(PathAndQuery::from_static("/"))),
        }
    }

    /// Makes the headers of the client those that the upstream sees.
    pub(crate) fn apply(&mut self, headers: &mut HeaderMap, authority: &HeaderValue) {
        for name in &self.dropped {
            headers.remove(name);
        }
        for (name, value) in self.set.drain(..) {
            headers.insert(name, value);
        }
        headers.insert(header::HOST, authority.clone());
        if self.is_websocket {
            announce_websocket(headers);
        }
        join_cookies(headers);
    }
}

enum Failure {
    Unavailable,
    TimedOut,
    /// The client's own body broke off.
    Client,
}

impl Fetch {
    /// Nothing without an upstream.
    pub(crate) fn new(reach: &Reach, counters: Arc<Counters>) -> Option<Self> {
        let upstream = reach.upstream()?;
        Some(Self {
            counters,
            pool: Pool::new(reach.clone()),
            // The parser of settings lets nothing else through than what a header may carry.
            authority: HeaderValue::from_str(&upstream.authority).unwrap_or(HeaderValue::from_static("")),
            response_timeout: reach.response_timeout(),
            pauses: reach.pauses(),
        })
    }

    pub(crate) async fn upstream(&self, mut parts: Parts, body: Incoming, mut plan: Plan) -> (Response<ResponseBody>, Source) {
        let client = parts.extensions.remove().filter(|_| plan.is_websocket);
        // HTTP/2 has no upgrades of this kind.
        plan.is_websocket = client.is_some();
        plan.apply(&mut parts.headers, &self.authority);
        let (body, progress) = RequestBody::new(body, self.pauses.client);
        let mut outgoing = Request::new(body);
        let Some(target) = plan.target(parts.uri) else {
            return (respond::answer(Answer::refusal(Reason::MalformedRequest)), Source::Gateway);
        };
        *outgoing.uri_mut() = target.into();
        *outgoing.method_mut() = parts.method;
        *outgoing.headers_mut() = parts.headers;
        frame(&mut outgoing);
        let is_reusable = !may_be_left_unread(&outgoing);
        if !is_reusable {
            outgoing.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }

        let began = Instant::now();
        let answer = match self.send(outgoing, progress).await {
            Ok((response, mut lease)) => {
                self.counters.upstream_times.add(began.elapsed());
                lease.is_reusable = is_reusable;
                match self.answer(response, lease, client, &plan) {
                    Some(answer) => return (answer, Source::Upstream),
                    None => Answer::upstream_unavailable(),
                }
            }
            Err(Failure::Unavailable) => Answer::upstream_unavailable(),
            Err(Failure::TimedOut) => Answer::upstream_timed_out(),
            Err(Failure::Client) => Answer::refusal(Reason::MalformedRequest),
        };
        (respond::answer(answer.shared(plan.finish.sharing.as_ref())), Source::Gateway)
    }

    /// The upstream's answer as the client gets it; nothing if it cannot be passed on.
    fn answer(
        &self,
        response: Response<Incoming>,
        lease: Lease,
        client: Option<upgrade::OnUpgrade>,
        plan: &Plan,
    ) -> Option<Response<ResponseBody>> {
        let (mut parts, body) = response.into_parts();
        // HTTP/1.0 upstreams are answered for in our own version.
        parts.version = Version::HTTP_11;
        if parts.status == StatusCode::SWITCHING_PROTOCOLS {
            let client = client.filter(|_| is_to_websocket(&parts.headers));
            let (Some(client), Some(upstream)) = (client, parts.extensions.remove()) else {
                self.counters.upstream_errors.add(UpstreamError::Protocol);
                tracing::warn!("the upstream switched protocols without being asked, or to another one");
                return None;
            };
            drop_hop_by_hop(&mut parts.headers);
            announce_websocket(&mut parts.headers);
            // The connection belongs to the tunnel from here on, and never goes back to the pool.
            let present = Present::new(&self.counters, |counters| &counters.websockets);
            tunnels::tunnel(client, upstream, plan.until, present);
            if let Some(subprotocol) = plan.finish.subprotocol {
                parts.headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(subprotocol));
            }
            share(&mut parts.headers, &plan.finish);
            return Some(Response::from_parts(parts, ResponseBody::own(Bytes::new())));
        }
        drop_hop_by_hop(&mut parts.headers);
        say_length_once(parts.status, &mut parts.headers);
        share(&mut parts.headers, &plan.finish);
        Some(Response::from_parts(parts, ResponseBody::upstream(body, lease, self.pauses.upstream)))
    }

    async fn send(
        &self,
        mut request: Request<RequestBody>,
        progress: Option<Progress>,
    ) -> Result<(Response<Incoming>, Lease), Failure> {
        let mut kept = self.pool.take();
        loop {
            let mut lease = match kept.take() {
                Some(lease) => lease,
                // Apart, since it is rare, and needs more room than all the rest.
                None => Box::pin(self.pool.connect()).await.map_err(|error| {
                    let is_late = error.kind() == io::ErrorKind::TimedOut;
                    self.counters.upstream_errors.add(if is_late {
                        UpstreamError::ConnectTimeout
                    } else {
                        UpstreamError::Connect
                    });
                    tracing::warn!(%error, "the upstream cannot be reached");
                    Failure::Unavailable
                })?,
            };
            // The upstream may close a kept connection just as it is used again.
            let spare = if lease.is_reused { spare(&request) } else { None };
            let sent = within(self.response_timeout, progress.as_ref(), lease.sender.try_send_request(request)).await;
            let Some(sent) = sent else {
                self.counters.upstream_errors.add(UpstreamError::Timeout);
                return Err(Failure::TimedOut);
            };
            match sent {
                Ok(response) => return Ok((response, lease)),
                Err(mut failed) => match failed.take_message().or(spare) {
                    // Nothing of it was sent, or it does no harm twice. The next try goes over a new connection: a request
                    // that makes the upstream close would otherwise cost all that are kept.
                    Some(unsent) if lease.is_reused => request = unsent,
                    _ if progress.as_ref().is_some_and(Progress::has_failed) => return Err(Failure::Client),
                    _ => {
                        self.counters.upstream_errors.add(UpstreamError::Reset);
                        tracing::warn!(error = %failed.error(), "the upstream broke off before it answered");
                        return Err(Failure::Unavailable);
                    }
                },
            }
        }
    }
}

/// A second copy of a request that may be sent twice: without a body, and of a method that changes nothing
/// (RFC 9110, section 9.2.1).
fn spare(request: &Request<RequestBody>) -> Option<Request<RequestBody>> {
    let is_safe = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    if !(is_safe && matches!(request.body(), RequestBody::Empty)) {
        return None;
    }
    let mut copy = Request::new(RequestBody::Empty);
    *copy.uri_mut() = Uri::clone(request.uri());
    *copy.method_mut() = request.method().clone();
    *copy.headers_mut() = request.headers().clone();
    Some(copy)
}

/// Waits for the first byte of an answer. The time runs while nothing of the request's body moves.
async fn within<T>(limit: Option<Duration>, progress: Option<&Progress>, answer: impl Future<Output = T>) -> Option<T> {
    let Some(limit) = limit else { return Some(answer.await) };
    let mut answer = std::pin::pin!(answer);
    let mut seen = progress.map(Progress::count);
    loop {
        if let Ok(answer) = timeout(limit, answer.as_mut()).await {
            return Some(answer);
        }
        let count = progress.map(Progress::count);
        if count == seen {
            return None;
        }
        seen = count;
    }
}

/// What a request for a WebSocket says of its connection, and the answer that grants it (RFC 6455, section 4).
fn announce_websocket(headers: &mut HeaderMap) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
}

/// Whether a switch is to what was asked for (RFC 9110, section 7.8).
fn is_to_websocket(headers: &HeaderMap) -> bool {
    let mut protocols = headers.get_all(header::UPGRADE).iter();
    matches!((protocols.next(), protocols.next()), (Some(one), None) if one.as_bytes().eq_ignore_ascii_case(b"websocket"))
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

/// Says how the body ends where hyper would say nothing, or would leave the body out.
fn frame(request: &mut Request<RequestBody>) {
    let (name, value) = match (request.method(), request.body().size_hint().exact()) {
        (&Method::POST | &Method::PUT | &Method::PATCH, Some(0)) => (header::CONTENT_LENGTH, "0"),
        (_, None) => (header::TRANSFER_ENCODING, "chunked"),
        _ => return,
    };
    request.headers_mut().insert(name, HeaderValue::from_static(value));
}

/// Whether a server may take the body for the next request, since it expects none (RFC 9110, section 9.3.1). Such a
/// connection serves nobody else.
fn may_be_left_unread(request: &Request<RequestBody>) -> bool {
    !matches!(request.body(), RequestBody::Empty) && !matches!(*request.method(), Method::POST | Method::PUT | Method::PATCH)
}

/// Drops what concerns the upstream's connection only (RFC 9110, section 7.6.1). The length of the body stays, unless
/// the upstream contradicts it (RFC 9112, section 6.3).
fn drop_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .collect();
    for name in named {
        headers.remove(name);
    }
    if headers.remove(header::TRANSFER_ENCODING).is_some() {
        headers.remove(header::CONTENT_LENGTH);
    }
    for name in [header::CONNECTION, header::UPGRADE, header::TE, header::PROXY_AUTHENTICATE, KEEP_ALIVE, PROXY_CONNECTION] {
        headers.remove(name);
    }
}

/// An upstream may say the same length several times, or with zeros before it. To pass that on would leave it to the next
/// reader what it takes it for (RFC 9110, section 8.6).
fn say_length_once(status: StatusCode, headers: &mut HeaderMap) {
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter().map(HeaderValue::as_bytes);
    let Some(length) = lengths.next() else { return };
    let is_plain = length.iter().all(u8::is_ascii_digit) && !matches!(length, [] | [b'0', _, ..]);
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

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
