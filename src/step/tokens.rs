//! A request that hangs on the static tokens, which may have to come from a store.

use alloc::{sync::Arc, vec};

use super::{Outcome, Step, authorized, decided};
use crate::{
    effects::Unavailable,
    facts::Facts,
    gate::{Gate, Learned, Lesson, Remembered, Source, StoreFailure, StoreNews},
    policy::{Policy, Provider},
    time::UnixTime,
    token::{Digest, Match, Secret, StoreError, Tokens},
    verdict::{Identity, Reason, Verdict},
};

pub(super) fn begin_static<'a>(gate: &Gate, facts: &'a Facts<'a>, presented: Result<Digest, Reason>, now: UnixTime) -> Step<'a> {
    match (gate.tokens.known(now), &gate.tokens) {
        (Some(known), _) => Step::Decided(compare(&gate.policy, facts, &presented, known, now)),
        (None, Source::Lost(failure)) => Step::Decided(decided(Verdict::Refuse(presented.err().unwrap_or(failure.reason())))),
        (None, source) => {
            let remembered = source.remembered().cloned();
            Step::NeedTokens(NeedTokens { policy: Arc::clone(&gate.policy), facts, presented, remembered })
        }
    }
}

/// A request that hangs on which tokens are in the store.
#[derive(Debug)]
pub struct NeedTokens<'a> {
    policy: Arc<Policy>,
    facts: &'a Facts<'a>,
    presented: Result<Digest, Reason>,
    remembered: Option<Remembered>,
}

impl<'a> NeedTokens<'a> {
    /// Goes on with what the store held: the value of `worker_auth_token`, or nothing if there is none.
    pub fn provide(self, value: Result<Option<Secret>, Unavailable>, now: UnixTime) -> Step<'a> {
        let (failure, store_error) =
            match value.map(|value| value.map_or(Ok(Tokens::default()), |value| Tokens::parse(value.reveal()))) {
                Ok(Ok(tokens)) => {
                    let outcome = compare(&self.policy, self.facts, &self.presented, &tokens, now);
                    return learned(StoreNews::Read(Remembered { tokens: Arc::new(tokens), at: now }), None, outcome);
                }
                Ok(Err(error)) => (StoreFailure::Unusable, Some(error)),
                Err(Unavailable) => (StoreFailure::Unreadable, None),
            };
        let outcome = match self.remembered.filter(|known| known.is_usable(now)) {
            Some(known) => compare(&self.policy, self.facts, &self.presented, &known.tokens, now),
            None => decided(Verdict::Refuse(self.presented.err().unwrap_or(failure.reason()))),
        };
        learned(StoreNews::Failed(now), store_error, outcome)
    }
}

fn learned<'a>(news: StoreNews, store_error: Option<StoreError>, outcome: Outcome) -> Step<'a> {
    Step::Decided(Outcome { learned: Learned(vec![Lesson::Tokens(news)]), store_error, ..outcome })
}

fn compare(policy: &Policy, facts: &Facts<'_>, presented: &Result<Digest, Reason>, tokens: &Tokens, now: UnixTime) -> Outcome {
    // Under `supabase` users bring tokens of their own: that there is no static one is no fault.
    if tokens.is_empty() && policy.provider != Provider::Supabase {
        return decided(Verdict::Refuse(Reason::NoTokenConfigured));
    }
    match presented.as_ref().map(|presented| tokens.find(presented, now)) {
        Ok(Match::Accepted) => authorized(policy, facts, Identity::STATIC),
        Ok(Match::Expired) => decided(Verdict::Refuse(Reason::ExpiredStaticToken)),
        Ok(Match::Unknown) => decided(Verdict::Refuse(Reason::InvalidToken)),
        Err(reason) => decided(Verdict::Refuse(*reason)),
    }
}
