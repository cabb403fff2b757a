//! One request: read, judged by the core, answered or forwarded. The twin of the Worker's `mod.rs`.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http_body::Body;
use hyper::{Request, Response, body::Incoming};
use nodetool_edge_auth::{
    Action, Answer, Effects, Failures, Gate, KeysAnswer, Outcome, Policy, Reason, Scheme, Secret, SignatureCheck, Step, Tokens,
    Unavailable, UnixTime, UserAnswer, Verdict, WantedKeys, begin, drive,
};

use crate::{
    body::ResponseBody,
    clock, crypto,
    fetch::{Fetch, Plan},
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
    ) -> Self {
        let gate = Gate::with_tokens(policy, Arc::clone(&in_force.borrow()));
        let policy = Arc::clone(gate.policy());
        let failures = policy.failure_limit().map(|limit| Arc::new(Mutex::new(Failures::new(limit))));
        Self::with(policy, Arc::new(Mutex::new(Known { gate, in_force })), failures, reach, Host { project })
    }

    fn with(
        policy: Arc<Policy>,
        known: Arc<Mutex<Known>>,
        failures: Option<Arc<Mutex<Failures>>>,
        reach: Reach,
        host: Host,
    ) -> Self {
        let upstream = Fetch::new(&reach);
        Self { known, policy, failures, reach, upstream, host }
    }

    /// The same gateway for another thread, with connections of its own. Where there is something to learn, keys and
    /// users, all learn it together; where there is not, no thread waits for another.
    pub(crate) fn for_thread(&self) -> Self {
        let known = match self.host.project {
            Some(_) => Arc::clone(&self.known),
            None => Arc::new(Mutex::new(self.known().clone())),
        };
        Self::with(Arc::clone(&self.policy), known, self.failures.clone(), self.reach.clone(), self.host.clone())
    }

    /// What goes on beside the requests, if anything does.
    pub(crate) fn background(&self) -> Option<impl Future<Output = ()> + Send + 'static> {
        let project = self.host.project.clone().filter(|_| self.policy.fetches_keys())?;
        Some(project.keep_fresh())
    }

    pub(crate) async fn handle(&self, request: Request<Incoming>, peer: &str, scheme: Scheme) -> Response<ResponseBody> {
        let (parts, body) = request.into_parts();
        let plan = {
            let Some(mut facts) = request::facts(&parts, !body.is_end_stream(), peer) else {
                return respond::answer(Answer::refusal(Reason::MalformedRequest));
            };
            facts.scheme(scheme);
            let accountable = self.failures.as_ref().and_then(|failures| Some((failures, self.policy.accountable(&facts)?)));
            if let Some((failures, client)) = accountable
                && let Some(seconds) = locked(failures).wait(client, clock::now())
            {
                facts.must_wait(seconds);
            }
            let step = begin(self.known().gate(), &facts, clock::now());
            let Outcome { mut verdict, learned, used_stale_keys, .. } = match step {
                Step::Decided(outcome) => outcome,
                // Apart, since most requests do without, and all would have to make room for it.
                step => Box::pin(drive(step, &self.host)).await,
            };
            if !learned.is_nothing() {
                self.known().gate.learn(learned);
            }
            if used_stale_keys {
                tracing::warn!("a token was checked with keys past their age, because newer ones cannot be had");
            }
            if let (Verdict::Refuse(reason), Some((failures, client))) = (&verdict, accountable)
                && reason.is_failed_credential()
                && let Some(seconds) = locked(failures).count(client, clock::now())
            {
                verdict = Verdict::Refuse(Reason::TooManyFailures(seconds));
            }
            match &verdict {
                // A health check asks so, again and again, and is content with the refusal.
                Verdict::Refuse(Reason::NoCredential) if facts.path() == "/.auth/whoami" => {}
                Verdict::Refuse(reason) => {
                    let client = self.policy.client(&facts);
                    tracing::info!(reason = reason.code(), method = facts.method(), path = ?facts.path(), peer = client, "refused");
                }
                _ => {}
            }
            match Action::of(&verdict, &self.policy, &facts, clock::now()) {
                Action::Respond(answer) => return respond::answer(answer),
                Action::Forward(forward) => Plan::new(&forward, &parts.headers, facts.is_websocket()),
            }
        };
        match &self.upstream {
            Some(upstream) => upstream.upstream(parts, body, plan).await,
            // Nothing is forwarded where there is none.
            None => respond::answer(Answer::upstream_unavailable()),
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
