//! One request, step by step: each step is consumed by the only call that may follow it.

use core::future::Future;

use crate::{
    facts::Facts,
    policy::{Judgement, Policy},
    time::UnixTime,
    token::{Digest, Match, StoreError, Tokens},
    verdict::{Identity, Reason, Verdict},
};

/// For how long tokens from a store are used before the store is asked again, in milliseconds.
const TOKENS_FRESH_FOR: u64 = 30_000;

/// For how long remembered tokens stand in for a store that cannot be read, in milliseconds.
const TOKENS_USABLE_FOR: u64 = 3_600_000;

/// A policy with the tokens that it accepts: all that judging a request takes.
#[derive(Clone, Debug)]
pub struct Gate {
    policy: Policy,
    tokens: Source,
}

#[derive(Clone, Debug)]
enum Source {
    Fixed(Tokens),
    Store { remembered: Option<Remembered> },
}

#[derive(Clone, Debug)]
struct Remembered {
    tokens: Tokens,
    at: UnixTime,
}

impl Gate {
    /// A gate that accepts these tokens, and asks for no others.
    pub const fn with_tokens(policy: Policy, tokens: Tokens) -> Self {
        Self { policy, tokens: Source::Fixed(tokens) }
    }

    /// A gate whose tokens are kept in a store, which it asks for when a request needs them.
    pub const fn with_store(policy: Policy) -> Self {
        Self { policy, tokens: Source::Store { remembered: None } }
    }

    /// The rules of this gate.
    pub const fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Keeps what was learned while a request was judged, for the next ones.
    pub fn learn(&mut self, learned: Learned) {
        if let (Source::Store { remembered }, Some(news)) = (&mut self.tokens, learned.0) {
            // Requests overlap: what was asked for earlier must not overwrite what came later.
            if remembered.as_ref().is_none_or(|known| known.at <= news.at) {
                *remembered = Some(news);
            }
        }
    }
}

/// Where the judgement of a request stands.
#[must_use]
#[derive(Debug)]
pub enum Step<'a> {
    /// It is over.
    Decided(Verdict),
    /// It needs the accepted tokens from the store.
    NeedTokens(NeedTokens<'a>),
}

/// What a step asks its host for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fetch {
    /// The value of `worker_auth_token` in the token store.
    Tokens,
}

/// What the host brought, and when.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// The value as it stands in the store; nothing if there is none; an error if the store did not answer.
    pub tokens: Result<Option<crate::Secret>, StoreUnavailable>,
    /// The time after the fetch.
    pub at: UnixTime,
}

/// The store did not answer. Why is for the host to log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreUnavailable;

/// What was learned while a request was judged. The host hands it to [`Gate::learn`].
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Learned(Option<Remembered>);

impl Learned {
    /// Whether there is nothing to keep.
    pub const fn is_nothing(&self) -> bool {
        self.0.is_none()
    }
}

/// How the judgement of a request ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The judgement.
    pub verdict: Verdict,
    /// What to keep for the next requests.
    pub learned: Learned,
    /// What is wrong with the value in the token store, for the log.
    pub store_error: Option<StoreError>,
}

/// A request that hangs on which tokens are in the store.
#[derive(Debug)]
pub struct NeedTokens<'a> {
    policy: &'a Policy,
    facts: &'a Facts<'a>,
    presented: Result<Digest, Reason>,
    remembered: Option<&'a Remembered>,
}

/// Judges a request as far as is possible at once.
pub fn begin<'a>(gate: &'a Gate, facts: &'a Facts<'a>, now: UnixTime) -> Step<'a> {
    let presented = match gate.policy.judge(facts) {
        Judgement::Settled(verdict) => return Step::Decided(verdict),
        Judgement::HangsOn(presented) => presented.map(Digest::of),
    };
    match &gate.tokens {
        Source::Fixed(tokens) => Step::Decided(compare(&gate.policy, facts, &presented, tokens, now)),
        // Whoever brings no token needs no fresh ones to be refused.
        Source::Store { remembered: Some(known) }
            if now.millis_since(known.at) < TOKENS_FRESH_FOR || (presented.is_err() && !known.tokens.is_empty()) =>
        {
            Step::Decided(compare(&gate.policy, facts, &presented, &known.tokens, now))
        }
        Source::Store { remembered } => {
            Step::NeedTokens(NeedTokens { policy: &gate.policy, facts, presented, remembered: remembered.as_ref() })
        }
    }
}

impl NeedTokens<'_> {
    /// What to fetch.
    pub const fn fetch(&self) -> Fetch {
        Fetch::Tokens
    }

    /// Goes on with what the store held.
    #[must_use]
    pub fn provide(self, fetched: Fetched) -> Outcome {
        let now = fetched.at;
        let (failure, store_error) = match fetched.tokens {
            Ok(value) => match value.map_or(Ok(Tokens::default()), |value| Tokens::parse(value.reveal())) {
                Ok(tokens) => {
                    let verdict = compare(self.policy, self.facts, &self.presented, &tokens, now);
                    return Outcome { verdict, learned: Learned(Some(Remembered { tokens, at: now })), store_error: None };
                }
                Err(error) => (Reason::StoreMisconfigured, Some(error)),
            },
            Err(StoreUnavailable) => (Reason::StoreUnavailable, None),
        };
        let verdict = match self.remembered {
            Some(known) if !known.tokens.is_empty() && now.millis_since(known.at) < TOKENS_USABLE_FOR => {
                compare(self.policy, self.facts, &self.presented, &known.tokens, now)
            }
            _ => Verdict::Refuse(self.presented.err().unwrap_or(failure)),
        };
        Outcome { verdict, learned: Learned::default(), store_error }
    }
}

fn compare(policy: &Policy, facts: &Facts<'_>, presented: &Result<Digest, Reason>, tokens: &Tokens, now: UnixTime) -> Verdict {
    if tokens.is_empty() {
        return Verdict::Refuse(Reason::NoTokenConfigured);
    }
    match presented.as_ref().map(|presented| tokens.find(presented, now)) {
        Ok(Match::Accepted) => policy.authorize(facts, Identity::STATIC),
        Ok(Match::Expired) => Verdict::Refuse(Reason::ExpiredStaticToken),
        Ok(Match::Unknown) => Verdict::Refuse(Reason::InvalidToken),
        Err(reason) => Verdict::Refuse(*reason),
    }
}

/// Takes a request from its first step to its end. `fetch` does what a step asks for; whether its future is `Send`
/// is the host's affair.
pub async fn drive<F, Fut>(step: Step<'_>, mut fetch: F) -> Outcome
where
    F: FnMut(Fetch) -> Fut,
    Fut: Future<Output = Fetched>,
{
    match step {
        Step::Decided(verdict) => Outcome { verdict, learned: Learned::default(), store_error: None },
        Step::NeedTokens(need) => {
            let fetched = fetch(need.fetch()).await;
            need.provide(fetched)
        }
    }
}
