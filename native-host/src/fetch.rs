//! Sends a request that may pass to the upstream.

use std::{
    future::{Future, poll_fn},
    io,
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use http_body::Body as _;
use hyper::{
    HeaderMap, Method, Request, Response, StatusCode, Version,
    body::Incoming,
    header::{self, HeaderName, HeaderValue},
    http::request::Parts,
    upgrade,
};
use nodetool_edge_auth::{Answer, Forward, Reason};
use tokio::time::Instant;

use crate::{
    alarm::Alarm,
    body::{Progress, RequestBody, ResponseBody},
    client_body::ClientBody,
    gateway::own,
    metrics::{Counters, Present, Source, UpstreamError},
    plan::{self, announce_websocket},
    pool::{Lease, Pauses, Pool, Reach},
    upgrade as tunnels,
};

/// The API behind the gateway, as one thread reaches it.
pub(crate) struct Fetch {
    pool: Arc<Pool>,
    counters: Arc<Counters>,
    authority: HeaderValue,
    response_timeout: Option<Duration>,
    pauses: Pauses,
}

/// A request that may pass.
pub(crate) struct Sent<'a> {
    /// As the client sent it.
    pub(crate) head: &'a Parts,
    pub(crate) forward: &'a Forward<'a>,
    pub(crate) is_websocket: bool,
}

/// An answer, with the connection that it comes over.
type Answered = Result<(Response<Incoming>, Lease), Failure>;

enum Failure {
    Unavailable,
    TimedOut,
    /// The client's body broke off, or the target of its request is none.
    Malformed,
    /// A kept connection was closed just as it was used again. This may be sent over a new one, where that cannot happen.
    Closed(Box<Request<RequestBody>>),
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

    /// Sends it on, with this body. `upgrade`: the client's connection, to become a WebSocket.
    pub(crate) async fn send(
        &self,
        sent: &Sent<'_>,
        body: ClientBody,
        upgrade: Option<upgrade::OnUpgrade>,
    ) -> (Response<ResponseBody>, Source) {
        let (body, progress) = RequestBody::new(body, self.pauses.client);
        let answer = match self.exchange(sent, body, progress.as_ref()).await {
            Ok((response, lease)) => match self.answer(response, lease, sent, upgrade) {
                Some(answer) => return (answer, Source::Upstream),
                None => Answer::upstream_unavailable(),
            },
            Err(Failure::Unavailable | Failure::Closed(_)) => Answer::upstream_unavailable(),
            Err(Failure::TimedOut) => Answer::upstream_timed_out(),
            Err(Failure::Malformed) => Answer::refusal(Reason::MalformedRequest),
        };
        (own(answer.shared(sent.forward.finish().sharing.as_ref())), Source::Gateway)
    }

    /// The request as the upstream gets it; nothing if its target is none.
    fn outgoing(&self, sent: &Sent<'_>, body: RequestBody) -> Option<Request<RequestBody>> {
        let mut outgoing = Request::new(body);
        *outgoing.uri_mut() = plan::target(sent.forward, &sent.head.uri)?.into();
        *outgoing.method_mut() = sent.head.method.clone();
        *outgoing.headers_mut() = plan::for_upstream(sent.forward, &sent.head.headers, &self.authority, sent.is_websocket);
        frame(&mut outgoing);
        if may_be_left_unread(&outgoing) {
            outgoing.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        Some(outgoing)
    }

    /// The upstream's answer as the client gets it; nothing if it cannot be passed on.
    fn answer(
        &self,
        response: Response<Incoming>,
        lease: Lease,
        sent: &Sent<'_>,
        client: Option<upgrade::OnUpgrade>,
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
            tunnels::tunnel(client, upstream, plan::until(sent.forward), present);
            plan::finish(&sent.forward.finish(), &mut parts);
            return Some(Response::from_parts(parts, ResponseBody::own(Bytes::new())));
        }
        drop_hop_by_hop(&mut parts.headers);
        say_length_once(parts.status, &mut parts.headers);
        plan::finish(&sent.forward.finish(), &mut parts);
        Some(Response::from_parts(parts, ResponseBody::upstream(body, lease, self.pauses.upstream)))
    }

    /// Asks over a kept connection, or over a new one where there is none that is still open.
    async fn exchange(&self, sent: &Sent<'_>, body: RequestBody, progress: Option<&Progress>) -> Answered {
        let began = Instant::now();
        let request = self.outgoing(sent, body).ok_or(Failure::Malformed)?;
        let answered = match self.pool.take(began) {
            Some(lease) => match self.ask(lease, request, sent, progress, began).await {
                // Not over another one that was kept: a request that makes the upstream close would cost them all.
                Err(Failure::Closed(unsent)) => self.ask_anew(*unsent, sent, progress).await,
                answered => answered,
            },
            None => self.ask_anew(request, sent, progress).await,
        };
        answered.inspect(|_| self.counters.upstream_times.add(began.elapsed()))
    }

    /// Asks over a new connection.
    fn ask_anew<'a>(
        &'a self,
        request: Request<RequestBody>,
        sent: &'a Sent<'_>,
        progress: Option<&'a Progress>,
    ) -> Pin<Box<dyn Future<Output = Answered> + Send + 'a>> {
        // Apart, since it is rare, and needs more room than all the rest.
        Box::pin(async move {
            let lease = self.pool.connect().await.map_err(|error| {
                let is_late = error.kind() == io::ErrorKind::TimedOut;
                self.counters.upstream_errors.add(if is_late { UpstreamError::ConnectTimeout } else { UpstreamError::Connect });
                tracing::warn!(%error, "the upstream cannot be reached");
                Failure::Unavailable
            })?;
            self.ask(lease, request, sent, progress, Instant::now()).await
        })
    }

    /// Asks over this connection. The upstream has its time for the answer from `since`.
    async fn ask(
        &self,
        mut lease: Lease,
        request: Request<RequestBody>,
        sent: &Sent<'_>,
        progress: Option<&Progress>,
        since: Instant,
    ) -> Answered {
        lease.is_reusable = !may_be_left_unread(&request);
        let is_repeatable = may_be_sent_twice(&request);
        let answer = pin!(lease.sender.try_send_request(request));
        let Some(answered) = within(self.response_timeout, since, progress, &mut lease.alarm, answer).await else {
            self.counters.upstream_errors.add(UpstreamError::Timeout);
            return Err(Failure::TimedOut);
        };
        let mut failed = match answered {
            Ok(response) => return Ok((response, lease)),
            Err(failed) => failed,
        };
        if lease.is_reused {
            // Nothing of it was sent, or it does no harm twice.
            let again = || self.outgoing(sent, RequestBody::Empty).filter(|_| is_repeatable);
            if let Some(unsent) = failed.take_message().or_else(again) {
                return Err(Failure::Closed(Box::new(unsent)));
            }
        }
        if progress.is_some_and(Progress::has_failed) {
            return Err(Failure::Malformed);
        }
        self.counters.upstream_errors.add(UpstreamError::Reset);
        tracing::warn!(error = %failed.error(), "the upstream broke off before it answered");
        Err(Failure::Unavailable)
    }
}

/// Whether to send a request twice does no harm: without a body, and of a method that changes nothing (RFC 9110, section 9.2.1).
fn may_be_sent_twice(request: &Request<RequestBody>) -> bool {
    matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS) && matches!(request.body(), RequestBody::Empty)
}

/// Waits for the first byte of an answer. The time runs while nothing of the request's body moves.
async fn within<T>(
    limit: Option<Duration>,
    began: Instant,
    progress: Option<&Progress>,
    alarm: &mut Alarm,
    mut answer: Pin<&mut impl Future<Output = T>>,
) -> Option<T> {
    let Some(limit) = limit else { return Some(answer.await) };
    let (mut end, mut seen) = (began + limit, progress.map(Progress::count));
    poll_fn(|context| {
        if let Poll::Ready(answer) = answer.as_mut().poll(context) {
            return Poll::Ready(Some(answer));
        }
        while alarm.is_over(end, context) {
            let count = progress.map(Progress::count);
            if count == seen {
                return Poll::Ready(None);
            }
            (end, seen) = (Instant::now() + limit, count);
        }
        Poll::Pending
    })
    .await
}

/// Whether a switch is to what was asked for (RFC 9110, section 7.8).
fn is_to_websocket(headers: &HeaderMap) -> bool {
    let mut protocols = headers.get_all(header::UPGRADE).iter();
    matches!((protocols.next(), protocols.next()), (Some(one), None) if one.as_bytes().eq_ignore_ascii_case(b"websocket"))
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
fn say_length_once(status: StatusCode, headers: &mut HeaderMap) {
    let mut lengths = headers.iter().filter(|(name, _)| **name == header::CONTENT_LENGTH).map(|(_, value)| value.as_bytes());
    let Some(length) = lengths.next() else { return };
    // What has fewer digits than the largest number is no larger.
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
