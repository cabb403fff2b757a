//! One request: read, judged by the core, answered or forwarded. The twin of the Worker's `mod.rs`.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use http_body::Body;
use hyper::{Request, Response, body::Incoming, http::request::Parts};
use nodetool_edge_auth::{
    Action, Answer, Effects, Escaped, Failures, Gate, KeysAnswer, Policy, Reason, Scheme, Secret, SignatureCheck, Step, Tokens,
    Unavailable, UnixTime, UserAnswer, Verdict, WantedKeys, begin, drive,
};

use crate::{
    body::ResponseBody,
    clock, crypto,
    fetch::{Fetch, Plan},
    metrics::{Counters, Metrics, Present, Source},
    observe::{self, Observed, RequestId},
    pool::Reach,
    project::Project,
    request, respond,
};
use tokio::sync::watch;

/// The gateway as one thread runs it.
pub(crate) struct Gateway {
    known: Arc<Mutex<Known>>,
    policy: Arc<Policy>,
    /// Of all threads, where they are counted.
    failures: Option<Arc<Mutex<Failures>>>,
    reach: Reach,
    upstream: Option<Fetch>,
    host: Host,
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

/// A gate, and where it hears of other tokens than its own.
#[derive(Clone)]
struct Known {
    gate: Gate,
    in_force: watch::Receiver<Arc<Tokens>>,
}

impl Known {
    /// The gate with the tokens that are in force now. As long as they stay the same, that costs one atomic read.
    fn gate(&mut self) -> &mut Gate {
        if matches!(self.in_force.has_changed(), Ok(true)) {
            self.gate.replace_tokens(Arc::clone(&self.in_force.borrow_and_update()));
        }
        &mut self.gate
    }
}

/// What the core cannot do by itself.
#[derive(Clone)]
pub(crate) struct Host {
    pub(crate) project: Option<Arc<Project>>,
}

impl Gateway {
    /// `in_force` has the tokens that it accepts, now and later.
    pub(crate) fn new(
        policy: Policy,
        in_force: watch::Receiver<Arc<Tokens>>,
        reach: Reach,
        project: Option<Arc<Project>>,
        metrics: &Arc<Metrics>,
    ) -> Self {
        let seen = Seen { metrics: Arc::clone(metrics), counters: metrics.counters(), is_draining: Arc::default() };
        let gate = Gate::with_tokens(policy, Arc::clone(&in_force.borrow()));
        let policy = Arc::clone(gate.policy());
        let failures = policy.failure_limit().map(|limit| Arc::new(Mutex::new(Failures::new(limit))));
        Self::with(policy, Arc::new(Mutex::new(Known { gate, in_force })), failures, reach, Host { project }, seen)
    }

    fn with(
        policy: Arc<Policy>,
        known: Arc<Mutex<Known>>,
        failures: Option<Arc<Mutex<Failures>>>,
        reach: Reach,
        host: Host,
        seen: Seen,
    ) -> Self {
        let upstream = Fetch::new(&reach, Arc::clone(&seen.counters));
        Self { known, policy, failures, reach, upstream, host, seen }
    }

    /// The same gateway for another thread, with connections of its own. Where there is something to learn, keys and
    /// users, all learn it together; where there is not, no thread waits for another.
    pub(crate) fn for_thread(&self) -> Self {
        let known = match self.host.project {
            Some(_) => Arc::clone(&self.known),
            None => Arc::new(Mutex::new(self.known().clone())),
        };
        let seen = Seen { counters: self.seen.metrics.counters(), ..self.seen.clone() };
        Self::with(Arc::clone(&self.policy), known, self.failures.clone(), self.reach.clone(), self.host.clone(), seen)
    }

    /// What goes on beside the requests, if anything does.
    pub(crate) fn background(&self) -> Option<impl Future<Output = ()> + Send + 'static> {
        let project = self.host.project.clone().filter(|_| self.policy.fetches_keys())?;
        Some(project.keep_fresh())
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
        let in_flight = observe::in_flight(&self.seen.counters);
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
        parts: Parts,
        body: Incoming,
        id: &RequestId,
        peer: &str,
        scheme: Scheme,
    ) -> (Response<ResponseBody>, Source) {
        let plan = {
            let Some(mut facts) = request::facts(&parts, !body.is_end_stream(), peer) else {
                observe::unreadable(&parts, id, peer, &self.seen.counters);
                return (respond::answer(Answer::refusal(Reason::MalformedRequest)), Source::Gateway);
            };
            facts.scheme(scheme).request_id(id.as_str());
            // Read as seldom as will do: it is a good part of what a judgement takes.
            let mut now = clock::now();
            let accountable = self.failures.as_ref().and_then(|failures| Some((failures, self.policy.accountable(&facts)?)));
            if let Some((failures, client)) = accountable
                && let Some(seconds) = locked(failures).wait(client, now)
            {
                facts.must_wait(seconds);
            }
            let step = begin(self.known().gate(), &facts, now);
            let mut outcome = match step {
                Step::Decided(outcome) => outcome,
                // Apart, since most requests do without, and all would have to make room for it.
                step => {
                    let outcome = Box::pin(drive(step, &self.host)).await;
                    now = clock::now();
                    outcome
                }
            };
            let learned = std::mem::take(&mut outcome.learned);
            if !learned.is_nothing() {
                self.known().gate.learn(learned);
            }
            if let (Verdict::Refuse(reason), Some((failures, client))) = (&outcome.verdict, accountable)
                && reason.is_failed_credential()
                && let Some(seconds) = locked(failures).count(client, now)
            {
                facts.must_wait(seconds);
                outcome.verdict = Verdict::Refuse(Reason::TooManyFailures);
            }
            // Behind trusted proxies it is not who connected.
            let client = self.policy.client(&facts).unwrap_or(peer);
            observe::judged(&outcome, &facts, id, client, &self.seen.counters);
            match Action::of(&outcome.verdict, &self.policy, &facts, now) {
                Action::Respond(answer) => return (respond::answer(answer), Source::Gateway),
                Action::Forward(forward) => Plan::new(&forward, &parts.headers, facts.is_websocket()),
            }
        };
        match &self.upstream {
            Some(upstream) => upstream.upstream(parts, body, plan).await,
            // Nothing is forwarded where there is none.
            None => (respond::answer(Answer::upstream_unavailable()), Source::Gateway),
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        locked(&self.known)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Effects for Host {
    fn now(&self) -> UnixTime {
        clock::now()
    }

    /// The gate always has its tokens.
    async fn tokens(&self) -> Result<Option<Secret>, Unavailable> {
        Err(Unavailable)
    }

    async fn keys(&self, wanted: WantedKeys) -> KeysAnswer {
        match &self.project {
            Some(project) => project.keys(wanted).await,
            None => KeysAnswer::Failed(clock::now()),
        }
    }

    async fn signature(&self, check: SignatureCheck<'_>) -> bool {
        crypto::verify_signature(check)
    }

    async fn user(&self, token: &Secret) -> Result<UserAnswer, Unavailable> {
        match &self.project {
            Some(project) => project.user(token).await,
            None => Err(Unavailable),
        }
    }
}
