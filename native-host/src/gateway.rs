//! One request: read, judged by the core, answered or forwarded. The twin of the Worker's `mod.rs`.

use std::{
    future::poll_fn,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
    time::Instant,
};

use bytes::Bytes;
use http_body::Body;
use hyper::{
    Response,
    header::{self, HeaderValue},
    http::request::Parts,
};
use nodetool_edge_auth::{Action, Answer, Escaped, Reason, Scheme, Verdict};

use crate::{
    body::{self, Observed, ResponseBody},
    client_body::ClientBody,
    fetch::{Fetch, Sent},
    judge::Judge,
    metrics::{Counters, Metrics, Present, Source},
    observe::{self, RequestId},
    pool::Reach,
    request, respond,
    standing::Standing,
};

/// The gateway as one thread runs it.
pub(crate) struct Gateway {
    judge: Judge,
    reach: Reach,
    upstream: Option<Fetch>,
    seen: Seen,
}

/// Where it is told what happens here.
#[derive(Clone)]
struct Seen {
    metrics: Arc<Metrics>,
    /// This thread's own.
    counters: Arc<Counters>,
    is_draining: Arc<AtomicBool>,
}

impl Gateway {
    pub(crate) fn new(judge: Judge, reach: Reach, metrics: &Arc<Metrics>) -> Self {
        Self::with(judge, reach, Seen { metrics: Arc::clone(metrics), counters: metrics.counters(), is_draining: Arc::default() })
    }

    fn with(judge: Judge, reach: Reach, seen: Seen) -> Self {
        let upstream = Fetch::new(&reach, Arc::clone(&seen.counters));
        Self { judge, reach, upstream, seen }
    }

    /// The same gateway for another thread, with connections of its own.
    pub(crate) fn for_thread(&self) -> Self {
        let seen = Seen { counters: self.seen.metrics.counters(), ..self.seen.clone() };
        Self::with(self.judge.for_thread(), self.reach.clone(), seen)
    }

    /// Connections to the upstream at one time, at most.
    pub(crate) fn upstream_connections(&self) -> usize {
        self.upstream.as_ref().map_or(0, |_| self.reach.places().most())
    }

    /// What goes on beside the requests, if anything does.
    pub(crate) fn background(&self) -> Option<impl Future<Output = ()> + Send + 'static> {
        self.judge.background()
    }

    /// Says to whoever asks that no request should come here any more.
    pub(crate) fn drain(&self) {
        self.seen.is_draining.store(true, Ordering::Relaxed);
    }

    /// Whether that was said.
    pub(crate) fn is_draining(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.seen.is_draining)
    }

    /// A client's connection, for as long as the answer is held.
    pub(crate) fn connected(&self) -> Present {
        Present::new(&self.seen.counters, |counters| &counters.connections)
    }

    /// Answers a request. Its head is borrowed, since moving it would cost more than judging it. A valid credential is recorded in
    /// `standing` before the request is forwarded. If `is_excess`, the request is forwarded with a valid credential only: without one it
    /// gets a refusal without a body, or `None`.
    pub(crate) async fn handle(
        &self,
        parts: &mut Parts,
        body: ClientBody,
        (peer, scheme): (&str, Scheme),
        (standing, is_excess): (&Standing, bool),
    ) -> Option<Response<Observed>> {
        let in_flight = body::in_flight(&self.seen.counters);
        let id = RequestId::of(&parts.headers);
        let began = tracing::enabled!(tracing::Level::DEBUG).then(Instant::now);
        let (remainder, mut body) = (body.remainder(parts), Some(body));
        let (mut response, source) = self.answer(parts, &mut body, &id, (peer, scheme), (standing, is_excess)).await?;
        if let (Source::Gateway, Some(remainder)) = (source, remainder)
            && !remainder.discarded(body).await
        {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        let status = response.status().as_u16();
        self.seen.counters.answered(status, source);
        if let Some(began) = began {
            let method = Escaped::new(parts.method.as_str(), observe::MAX_METHOD);
            let path = Escaped::new(parts.uri.path(), observe::MAX_PATH);
            let (request_id, seconds) = (id.as_str(), began.elapsed().as_secs_f64());
            tracing::debug!(%method, %path, status, source = source.word(), seconds, peer, request_id, "answered");
        }
        id.tell(response.headers_mut());
        Some(response.map(|body| Observed::new(body, in_flight)))
    }

    async fn answer(
        &self,
        parts: &mut Parts,
        body: &mut Option<ClientBody>,
        id: &RequestId,
        (peer, scheme): (&str, Scheme),
        (standing, is_excess): (&Standing, bool),
    ) -> Option<(Response<ResponseBody>, Source)> {
        // HTTP/2 has no upgrades of this kind.
        let upgrade = parts.extensions.remove();
        let parts = &*parts;
        let Some(mut facts) = request::facts(parts, body.as_ref().is_some_and(|body| !body.is_end_stream()), Some(peer)) else {
            observe::unreadable(parts, id, peer, &self.seen.counters);
            return Some((own(Answer::refusal(Reason::MalformedRequest)), Source::Gateway));
        };
        facts.scheme(scheme).request_id(id.as_str());
        let (outcome, now) =
            if is_excess { at_once(self.judge.judge(&mut facts)).await? } else { self.judge.judge(&mut facts).await };
        let is_known = matches!(&outcome.verdict, Verdict::Pass(pass) if pass.identity.is_some());
        if is_known {
            standing.authenticate();
        }
        let is_excess = is_excess && !is_known;
        // Behind trusted proxies it is not who connected.
        let client = self.judge.policy().client(&facts).unwrap_or(peer);
        observe::judged(&outcome, &facts, id, client, &self.seen.counters);
        let forward = match Action::of(&outcome.verdict, self.judge.policy(), &facts, now) {
            Action::Respond(answer) if is_excess => return Some((without_body(own(answer)), Source::Gateway)),
            Action::Respond(answer) => return Some((own(answer), Source::Gateway)),
            Action::Forward(_) if is_excess => return None,
            Action::Forward(forward) => forward,
        };
        // Nothing is forwarded where there is none.
        let (Some(upstream), Some(body)) = (&self.upstream, body.take()) else {
            return Some((own(Answer::upstream_unavailable()), Source::Gateway));
        };
        let upgrade = upgrade.filter(|_| facts.is_websocket());
        let sent = Sent { head: parts, forward: &forward, is_websocket: upgrade.is_some() };
        Some(upstream.send(&sent, body, upgrade).await)
    }
}

/// An answer that waits for nothing: a body would wait for the client to have room for it.
fn without_body(mut response: Response<ResponseBody>) -> Response<ResponseBody> {
    response.headers_mut().remove(header::CONTENT_TYPE);
    response.headers_mut().remove(header::CONTENT_LENGTH);
    response.map(|_| ResponseBody::own(Bytes::new()))
}

/// The output of a future that is ready when it is first polled; `None` if it has to wait.
async fn at_once<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    poll_fn(|context| {
        Poll::Ready(match future.as_mut().poll(context) {
            Poll::Ready(given) => Some(given),
            Poll::Pending => None,
        })
    })
    .await
}

/// An answer of the gateway itself.
pub(crate) fn own(answer: Answer) -> Response<ResponseBody> {
    respond::answer(answer).map(ResponseBody::Own)
}
