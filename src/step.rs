//! One request, step by step: each step is consumed by the only call that may follow it.

mod tokens;
mod users;

use alloc::vec::Vec;

use crate::{
    facts::Facts,
    gate::{Gate, Learned},
    policy::{Judgement, Policy, Provider},
    time::UnixTime,
    token::{Digest, StoreError},
    verdict::{Identity, Verdict},
};
use tokens::begin_static;
use users::begin_with_users;

pub use tokens::NeedTokens;
pub use users::{NeedKeys, NeedSignature, NeedUser, SignatureCheck, WantedKeys};

/// Where the judgement of a request stands. A step that is added is a breaking change: who drives must know what to fetch.
#[must_use]
#[derive(Debug)]
pub enum Step<'a> {
    /// It is over.
    Decided(Outcome),
    /// It needs the accepted static tokens from the store.
    NeedTokens(NeedTokens<'a>),
    /// It needs the public keys of the project.
    NeedKeys(NeedKeys<'a>),
    /// It needs a signature checked.
    NeedSignature(NeedSignature<'a>),
    /// It needs the project's word on a token that cannot be checked here.
    NeedUser(NeedUser<'a>),
}

/// How the judgement of a request ended.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Outcome {
    /// The judgement.
    pub verdict: Verdict,
    /// What to keep for the next requests.
    pub learned: Learned,
    /// What is wrong with the value in the token store, for the log.
    pub store_error: Option<StoreError>,
    /// Whether keys past their age were used, because newer ones could not be had.
    pub used_stale_keys: bool,
    /// Whether a user's token was remembered from before; nothing if none was looked for.
    pub was_remembered: Option<bool>,
    /// Whom a good token was of that may not do this, for the log. Those who pass are in the verdict.
    pub refused: Option<Identity>,
}

const fn decided(verdict: Verdict) -> Outcome {
    Outcome {
        verdict,
        learned: Learned(Vec::new()),
        store_error: None,
        used_stale_keys: false,
        was_remembered: None,
        refused: None,
    }
}

fn authorized(policy: &Policy, facts: &Facts<'_>, identity: Identity) -> Outcome {
    let (verdict, refused) = policy.authorize(facts, identity);
    Outcome { refused, ..decided(verdict) }
}

/// Judges a request as far as is possible at once.
pub fn begin<'a>(gate: &mut Gate, facts: &'a Facts<'a>, now: UnixTime) -> Step<'a> {
    let token = match gate.policy.judge(facts) {
        Judgement::Settled(verdict) => return Step::Decided(decided(verdict)),
        Judgement::HangsOn(token) => token,
    };
    gate.set_back(now);
    match token {
        Ok(token) if gate.policy.supabase.is_some() => begin_with_users(gate, facts, token, now),
        // Under `supabase` there is always something that anyone could bring.
        Err(reason) if gate.policy.provider == Provider::Supabase => Step::Decided(decided(Verdict::Refuse(reason))),
        token => begin_static(gate, facts, token.map(Digest::of), now),
    }
}
