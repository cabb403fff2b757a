//! A request that hangs on the static tokens, which may have to come from a store.

use alloc::{sync::Arc, vec};

use super::{Outcome, Step, authorized, decided};
use crate::{
    effects::Unavailable,
    facts::Facts,
    gate::{Gate, Learned, Lesson, Remembered, Source, StoreNews, TOKENS_FRESH_FOR},
    policy::{Policy, Provider},
    time::UnixTime,
    token::{Digest, Match, Secret, StoreError, Tokens},
    verdict::{Identity, Reason, Verdict},
};

pub(super) fn begin_static<'a>(gate: &Gate, facts: &'a Facts<'a>, presented: Result<Digest, Reason>, now: UnixTime) -> Step<'a> {
    let known = match &gate.tokens {
        // Whoever brings no token needs no fresh ones to be refused.
        Source::Store { remembered: Some(known), .. } if presented.is_err() && !known.tokens.is_empty() => Some(&*known.tokens),
        source => source.known(now),
    };
    match known {
        Some(known) => Step::Decided(compare(&gate.policy, facts, &presented, known, now)),
        None => {
            let remembered = gate.tokens.remembered().cloned();
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
                // Whoever empties the list means that nobody is to pass, and nothing that is remembered may stand in for it.
                Ok(Err(error @ StoreError::NoTokens)) => {
                    let nobody = Remembered { tokens: Arc::default(), at: now.before(TOKENS_FRESH_FOR) };
                    let verdict = Verdict::Refuse(self.presented.err().unwrap_or(Reason::StoreMisconfigured));
                    return learned(StoreNews::Read(nobody), Some(error), decided(verdict));
                }
                Ok(Err(error)) => (Reason::StoreMisconfigured, Some(error)),
                Err(Unavailable) => (Reason::StoreUnavailable, None),
            };
        let outcome = match self.remembered.filter(|known| known.is_usable(now)) {
            Some(known) => compare(&self.policy, self.facts, &self.presented, &known.tokens, now),
            None => decided(Verdict::Refuse(self.presented.err().unwrap_or(failure))),
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
