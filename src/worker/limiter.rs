//! Who has failed too often to prove who it is: the rate limiting binding counts, and an isolate remembers what it said.

use core::net::IpAddr;
use std::cell::RefCell;

use js_sys::{Promise, Reflect};
use wasm_bindgen::{JsValue, prelude::wasm_bindgen};
use worker::Env;

use crate::{
    Facts, Failures, Policy, Verdict,
    web::{self, within},
};

#[wasm_bindgen(module = "/src/worker/limiter.js")]
extern "C" {
    fn count(binding: &JsValue, key: &str) -> Promise;
}

const BINDING: &str = "AUTH_RATE_LIMITER";

/// The refusal waits for it, in milliseconds.
const PATIENCE: f64 = 1000.0;

/// Everyone who is in it has failed too often.
pub(super) struct Limiter(RefCell<Failures>);

impl Limiter {
    pub(super) const fn new() -> Self {
        Self(RefCell::new(Failures::new(0)))
    }

    /// Takes note of a client that has to wait.
    pub(super) fn remind(&self, policy: &Policy, facts: &mut Facts<'_>) {
        if self.0.borrow().is_empty() {
            return;
        }
        if let Some(seconds) = self.0.borrow().wait(policy.accountable(facts), web::now()) {
            facts.must_wait(seconds);
        }
    }

    /// For how many seconds the client has to wait, if this was one failure too many.
    pub(super) async fn count(&self, env: &Env, policy: &Policy, facts: &Facts<'_>, verdict: &Verdict) -> Option<u32> {
        let Verdict::Refuse(reason) = verdict else { return None };
        if !reason.is_failed_credential() {
            return None;
        }
        let client = policy.accountable(facts);
        let known = self.0.borrow().wait(client, web::now());
        match known {
            None if is_within_limit(env, client).await => None,
            None => self.0.borrow_mut().count(client, web::now()),
            known => known,
        }
    }
}

/// Where nothing is bound, or nothing answers, there is no limit.
async fn is_within_limit(env: &Env, client: IpAddr) -> bool {
    let binding = Reflect::get(env, &JsValue::from_str(BINDING)).unwrap_or_default();
    if !binding.is_object() {
        return true;
    }
    let key = Failures::key(client).to_string();
    within(&count(&binding, &key), PATIENCE).await.ok().and_then(|within| within.as_bool()).unwrap_or(true)
}
