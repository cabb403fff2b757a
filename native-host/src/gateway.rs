//! One request: read, judged by the core, answered or forwarded. The twin of the Worker's `mod.rs`.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use http_body::Body;
use hyper::{Request, Response, body::Incoming, http::request::Parts};
use nodetool_edge_auth::{Action, Answer, Escaped, Reason, Scheme};

use crate::{
    body::{self, Observed, ResponseBody},
    clock,
    fetch::{Fetch, Sent},
    judge::Judge,
    metrics::{Counters, Metrics, Present, Source},
    observe::{self, RequestId},
    pool::Reach,
    request, respond,
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

    pub(crate) async fn handle(&self, request: Request<Incoming>, peer: &str, scheme: Scheme) -> Response<Observed> {
        let in_flight = body::in_flight(&self.seen.counters);
        let (parts, body) = request.into_parts();
        let id = RequestId::of(&parts.headers);
        // The request itself goes on; only who wants every detail pays for a copy.
        let line =
            tracing::enabled!(tracing::Level::DEBUG).then(|| (parts.method.clone(), parts.uri.path().to_owned(), Instant::now()));
        let (response, source) = self.answer(parts, body, &id, peer, scheme).await;
        let status = response.status().as_u16();
        self.seen.counters.answered(status, source);
        if let Some((method, path, began)) = line {
            let (method, path) = (Escaped::new(method.as_str(), observe::MAX_METHOD), Escaped::new(&path, observe::MAX_PATH));
            let (request_id, seconds) = (id.as_str(), began.elapsed().as_secs_f64());
            tracing::debug!(%method, %path, status, source = source.word(), seconds, peer, request_id, "answered");
        }
        let (mut head, body) = response.into_parts();
        id.tell(&mut head.headers);
        Response::from_parts(head, Observed::new(body, in_flight))
    }

    async fn answer(
        &self,
        mut parts: Parts,
        body: Incoming,
        id: &RequestId,
        peer: &str,
        scheme: Scheme,
    ) -> (Response<ResponseBody>, Source) {
        // HTTP/2 has no upgrades of this kind.
        let upgrade = parts.extensions.remove();
        let held = parts.extensions.remove();
        let Some(mut facts) = request::facts(&parts, !body.is_end_stream(), Some(peer)) else {
            observe::unreadable(&parts, id, peer, &self.seen.counters);
            return (own(Answer::refusal(Reason::MalformedRequest)), Source::Gateway);
        };
        facts.scheme(scheme).request_id(id.as_str());
        let outcome = self.judge.judge(&mut facts).await;
        // Behind trusted proxies it is not who connected.
        let client = self.judge.policy().client(&facts).unwrap_or(peer);
        observe::judged(&outcome, &facts, id, client, &self.seen.counters);
        match (Action::of(&outcome.verdict, self.judge.policy(), &facts, clock::now()), &self.upstream) {
            (Action::Respond(answer), _) => (own(answer), Source::Gateway),
            (Action::Forward(forward), Some(upstream)) => {
                let upgrade = upgrade.filter(|_| facts.is_websocket());
                let sent = Sent { head: &parts, forward: &forward, is_websocket: upgrade.is_some() };
                upstream.send(&sent, (body, held), upgrade).await
            }
            // Nothing is forwarded where there is none.
            (Action::Forward(_), None) => (own(Answer::upstream_unavailable()), Source::Gateway),
        }
    }
}

/// An answer of the gateway itself.
pub(crate) fn own(answer: Answer) -> Response<ResponseBody> {
    respond::answer(answer).map(ResponseBody::Own)
}
