//! Who may pass: the gate, what it learns, and what it asks others for. The server's requests and those of the layer are judged
//! here.

use std::sync::{Arc, Mutex, MutexGuard};

use nodetool_edge_auth::{
    Effects, Facts, Failures, Gate, KeysAnswer, Outcome, Policy, Reason, Secret, SignatureCheck, Step, Unavailable, UnixTime,
    UserAnswer, UserQuestion, Verdict, WantedKeys, begin, drive,
};
use tokio::sync::watch;

use crate::{clock, crypto, follow::InForce, lock::locked, project::Project};

/// Judges requests, of one thread or of all.
pub(crate) struct Judge {
    known: Arc<Mutex<Known>>,
    policy: Arc<Policy>,
    /// Of all threads, where they are counted.
    failures: Option<Arc<Mutex<Failures>>>,
    host: Host,
}

/// A gate, and where it hears of other tokens than its own.
#[derive(Clone)]
struct Known {
    gate: Gate,
    in_force: watch::Receiver<InForce>,
}

impl Known {
    /// The gate with the tokens that are in force now. As long as they stay the same, that costs one atomic read.
    fn gate(&mut self) -> &mut Gate {
        if matches!(self.in_force.has_changed(), Ok(true)) {
            match &*self.in_force.borrow_and_update() {
                Ok(tokens) => self.gate.replace_tokens(Arc::clone(tokens)),
                Err(failure) => self.gate.lose_tokens(*failure),
            }
        }
        &mut self.gate
    }
}

impl Judge {
    /// `in_force` has the tokens that it accepts, now and later.
    pub(crate) fn new(policy: Policy, in_force: watch::Receiver<InForce>, project: Option<Arc<Project>>) -> Self {
        let gate = Gate::with_tokens(policy, in_force.borrow().clone().unwrap_or_default());
        let policy = Arc::clone(gate.policy());
        let failures = policy.failure_limit().map(|limit| Arc::new(Mutex::new(Failures::new(limit))));
        Self { known: Arc::new(Mutex::new(Known { gate, in_force })), policy, failures, host: Host { project } }
    }

    /// The same judge for another thread. Where there is something to learn, keys and users, all learn it together; where
    /// there is not, no thread waits for another.
    pub(crate) fn for_thread(&self) -> Self {
        let known = match self.host.project {
            Some(_) => Arc::clone(&self.known),
            None => Arc::new(Mutex::new(self.known().clone())),
        };
        Self { known, policy: Arc::clone(&self.policy), failures: self.failures.clone(), host: self.host.clone() }
    }

    pub(crate) fn policy(&self) -> &Policy {
        &self.policy
    }

    /// What goes on beside the requests, if anything does.
    pub(crate) fn background(&self) -> Option<impl Future<Output = ()> + Send + 'static> {
        let project = self.host.project.clone().filter(|_| self.policy.fetches_keys())?;
        Some(project.keep_fresh())
    }

    /// How it ended, and when.
    pub(crate) async fn judge(&self, facts: &mut Facts<'_>) -> (Outcome, UnixTime) {
        // Read once for a request that waits for nothing.
        let mut now = clock::now();
        let accountable = self.failures.as_ref().map(|failures| (failures, self.policy.accountable(facts)));
        if let Some((failures, client)) = accountable
            && let Some(seconds) = locked(failures).wait(client, now)
        {
            facts.must_wait(seconds);
        }
        let step = begin(self.known().gate(), facts, now);
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
        (outcome, now)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        locked(&self.known)
    }
}

/// What the core cannot do by itself.
#[derive(Clone)]
pub(crate) struct Host {
    pub(crate) project: Option<Arc<Project>>,
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

    async fn signature(&self, check: SignatureCheck<'_>) -> Result<bool, Unavailable> {
        Ok(crypto::verify_signature(check))
    }

    async fn user(&self, question: &UserQuestion) -> Result<UserAnswer, Unavailable> {
        match &self.project {
            Some(project) => project.user(question).await,
            None => Err(Unavailable),
        }
    }
}
