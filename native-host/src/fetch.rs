//! Sends a request that may pass to the upstream.

mod hop_by_hop;

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
    Method, Request, Response, StatusCode, Version,
    body::Incoming,
    header::{self, HeaderValue},
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
    headers::size_of_head,
    loan::Loan,
    metrics::{Counters, Present, Source, UpstreamError},
    plan::{self, announce_websocket},
    pool::{Busy, ConnectError, Lease, Pauses, Place, Pool, Reach},
    upgrade as tunnels,
};
use hop_by_hop::{drop_hop_by_hop, is_to_websocket, say_length_once};

/// The API behind the gateway, as one thread reaches it.
pub(crate) struct Fetch {
    reach: Reach,
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
    /// There are as many connections as there may be.
    Busy,
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
            reach: reach.clone(),
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
        let turn = match sent.forward.is_anonymous() {
            true => self.reach.places().anonymous_turn(size_of_head(sent.head)).await.map(Some),
            false => Ok(None),
        };
        // On the heap, since a request that waits for its turn has no need of it yet.
        Box::pin(self.send_in_turn(sent, body, upgrade, turn)).await
    }

    async fn send_in_turn(
        &self,
        sent: &Sent<'_>,
        body: ClientBody,
        upgrade: Option<upgrade::OnUpgrade>,
        turn: Result<Option<Place>, Busy>,
    ) -> (Response<ResponseBody>, Source) {
        let (body, progress) = RequestBody::new(body, self.pauses.client);
        let answered = match turn {
            Ok(turn) => self.exchange(sent, body, progress.as_ref(), turn).await,
            Err(Busy) => Err(self.busy()),
        };
        let answer = match answered {
            Ok((response, lease)) => match self.answer(response, lease, sent, upgrade) {
                Some(answer) => return (answer, Source::Upstream),
                None => Answer::upstream_unavailable(),
            },
            Err(Failure::Unavailable | Failure::Closed(_)) => Answer::upstream_unavailable(),
            Err(Failure::Busy) => Answer::upstream_busy(),
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
        let body = ResponseBody::upstream(body, lease, self.pauses.upstream);
        let is_lent = sent.forward.is_anonymous() && !body.is_end_stream();
        let body = if is_lent { ResponseBody::Lent(Loan::new(body, self.reach.places())) } else { body };
        Some(Response::from_parts(parts, body))
    }

    /// Asks over a kept connection, or over a new one where there is none that is still open.
    async fn exchange(&self, sent: &Sent<'_>, body: RequestBody, progress: Option<&Progress>, turn: Option<Place>) -> Answered {
        let began = Instant::now();
        let request = self.outgoing(sent, body).ok_or(Failure::Malformed)?;
        let answered = match self.pool.take(may_be_sent_twice(&request), began) {
            Some(lease) => match self.ask(lease, request, sent, progress, began).await {
                // Not over another one that was kept: a request that makes the upstream close would cost them all.
                Err(Failure::Closed(unsent)) => self.ask_anew(*unsent, sent, progress).await,
                answered => answered,
            },
            None => self.ask_anew(request, sent, progress).await,
        };
        let (response, mut lease) = answered?;
        self.counters.upstream_times.add(began.elapsed());
        lease.turn = turn;
        Ok((response, lease))
    }

    fn busy(&self) -> Failure {
        self.counters.upstream_errors.add(UpstreamError::Busy);
        Failure::Busy
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
                let ConnectError::Io(error) = error else { return self.busy() };
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
        if lease.is_reused() && !is_repeatable {
            lease.check();
        }
        lease.read_little(sent.forward.is_anonymous());
        let (sender, alarm) = lease.sender();
        let answer = pin!(sender.try_send_request(request));
        let Some(answered) = within(self.response_timeout, since, progress, alarm, answer).await else {
            self.counters.upstream_errors.add(UpstreamError::Timeout);
            return Err(Failure::TimedOut);
        };
        let mut failed = match answered {
            Ok(response) => {
                lease.answered(&response);
                return Ok((response, lease));
            }
            Err(failed) => failed,
        };
        let client_failed = progress.is_some_and(Progress::has_failed);
        if lease.is_reused() && !client_failed {
            lease.was_closed();
            // Nothing of it was sent, or it does no harm twice.
            let again = || self.outgoing(sent, RequestBody::Empty).filter(|_| is_repeatable);
            if let Some(unsent) = failed.take_message().or_else(again) {
                return Err(Failure::Closed(Box::new(unsent)));
            }
        }
        if client_failed {
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
