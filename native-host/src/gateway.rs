//! One request: read, judged by the core, answered or forwarded. The twin of the Worker's `mod.rs`.

use std::sync::{Arc, Mutex, PoisonError};

use hyper::{Request, Response, body::Incoming};
use nodetool_edge_auth::{
    Action, Answer, Effects, FetchedKeys, Gate, Outcome, Policy, ProxySettings, Reason, Secret, SignatureCheck, Step,
    Unavailable, UnixTime, UserAnswer, Verdict, WantedKeys, begin, drive,
};

use crate::{
    body::ResponseBody,
    clock, crypto,
    fetch::{Fetch, Plan},
    project::Project,
    request, respond,
};

/// The gateway as one thread runs it.
pub(crate) struct Gateway {
    gate: Arc<Mutex<Gate>>,
    policy: Arc<Policy>,
    proxy: ProxySettings,
    upstream: Option<Fetch>,
    host: Host,
}

/// What the core cannot do by itself.
#[derive(Clone)]
struct Host {
    project: Option<Arc<Project>>,
}

impl Gateway {
    pub(crate) fn new(gate: Gate, proxy: ProxySettings, project: Option<Arc<Project>>) -> Self {
        let upstream = proxy.upstream.as_ref().map(|upstream| Fetch::new(upstream, &proxy));
        Self { policy: Arc::clone(gate.policy()), gate: Arc::new(Mutex::new(gate)), proxy, upstream, host: Host { project } }
    }

    /// The same gateway for another thread, with connections of its own. Where there is something to learn, keys and
    /// users, all learn it together; where there is not, no thread waits for another.
    pub(crate) fn for_thread(&self) -> Self {
        let mut copy = Self::new(self.gate().clone(), self.proxy.clone(), self.host.project.clone());
        if self.host.project.is_some() {
            copy.gate = Arc::clone(&self.gate);
        }
        copy
    }

    /// What goes on beside the requests, if anything does.
    pub(crate) fn background(&self) -> Option<impl Future<Output = ()> + Send + 'static> {
        let project = self.host.project.clone().filter(|_| self.policy.fetches_keys())?;
        Some(project.keep_fresh())
    }

    pub(crate) async fn handle(&self, request: Request<Incoming>, peer: &str) -> Response<ResponseBody> {
        let (parts, body) = request.into_parts();
        let plan = {
            let Some(facts) = request::facts(&parts, &body, peer) else {
                return respond::answer(Answer::refusal(Reason::MalformedRequest));
            };
            let step = begin(&mut self.gate(), &facts, clock::now());
            let Outcome { verdict, learned, used_stale_keys, .. } = match step {
                Step::Decided(outcome) => outcome,
                step => drive(step, &self.host).await,
            };
            if !learned.is_nothing() {
                self.gate().learn(learned);
            }
            if used_stale_keys {
                tracing::warn!("a token was checked with keys past their age, because newer ones cannot be had");
            }
            if let Verdict::Refuse(reason) = &verdict {
                tracing::info!(reason = reason.code(), method = facts.method(), path = ?facts.path(), peer, "refused");
            }
            match Action::of(&verdict, &self.policy, &facts, clock::now()) {
                Action::Respond(answer) => return respond::answer(answer),
                Action::Forward(forward) => Plan::new(&forward, &parts.headers, facts.is_websocket()),
            }
        };
        match &self.upstream {
            Some(upstream) => upstream.upstream(parts, body, plan).await,
            None => respond::answer(Answer::upstream_unavailable()),
        }
    }

    fn gate(&self) -> std::sync::MutexGuard<'_, Gate> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Effects for Host {
    fn now(&self) -> UnixTime {
        clock::now()
    }

    /// The tokens are in the gate from the start.
    async fn tokens(&self) -> Result<Option<Secret>, Unavailable> {
        Err(Unavailable)
    }

    async fn keys(&self, wanted: WantedKeys) -> (Result<FetchedKeys, Unavailable>, UnixTime) {
        match &self.project {
            Some(project) => project.keys(wanted).await,
            None => (Err(Unavailable), clock::now()),
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
