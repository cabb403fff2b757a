//! From a verdict to what its host does: answer, or forward with these headers.

use crate::{
    answer::Answer,
    facts::{Asker, Facts},
    forward::Forward,
    policy::Policy,
    time::UnixTime,
    verdict::{Destination, Verdict},
};

/// What a host does with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action<'a> {
    /// Answers it.
    Respond(Answer),
    /// Sends it to the upstream.
    Forward(Forward<'a>),
}

impl<'a> Action<'a> {
    /// What follows from a verdict on these facts. `now` is shown by the built-in health answer.
    pub fn of(verdict: &'a Verdict, policy: &Policy, facts: &Facts<'a>, now: UnixTime) -> Self {
        match verdict {
            Verdict::Pass(pass) if pass.to == Destination::Upstream && policy.has_upstream && facts.asker == Asker::Client => {
                Self::Forward(Forward::new(pass.identity.as_ref(), policy, facts))
            }
            _ => Self::Respond(Answer::to(verdict, facts, now).shared(policy.sharing(facts).as_ref())),
        }
    }
}
