//! Sends a request that may pass to the upstream.

use std::borrow::Cow;

use js_sys::Function;
use wasm_bindgen::{JsValue, prelude::wasm_bindgen};

use super::log;
use crate::{Answer, Facts, Forward, ProxySettings};

use crate::web::{self, request::Snapshot, respond};

#[wasm_bindgen(module = "/src/web/platform.js")]
extern "C" {
    fn forward(request: &web_sys::Request, url: &str, dropped: &str, set: &str, finish: &str, timeout: f64) -> Function;
}

/// What sends it. The judgement ends here: how long the upstream takes, or the client waits, is nothing to it.
pub(super) fn upstream(
    incoming: &web_sys::Request,
    snapshot: &Snapshot,
    facts: &Facts<'_>,
    plan: &Forward<'_>,
    proxy: &ProxySettings,
) -> JsValue {
    let Some(upstream) = &proxy.upstream else {
        return respond::answer(&Answer::upstream_unavailable(), facts.method()).into();
    };
    let target = plan.rewritten_target().map_or_else(|| facts.target(), Cow::Borrowed);
    let url = upstream.origin() + &target;
    let timeout = proxy.response_timeout.unwrap_or(0) as f64 * 1000.0;
    let finish = web::finish(&plan.finish());
    forward(incoming, &url, &web::dropped(snapshot, facts, plan), &web::set(plan), &finish, timeout).into()
}

/// What `entry.js` answers if that failed.
#[wasm_bindgen(js_name = upstreamUnavailable)]
#[expect(unreachable_pub, reason = "what JavaScript reaches, Rust does not")]
pub fn upstream_unavailable(method: &str, error: &str) -> web_sys::Response {
    log::error(&std::format!("The upstream cannot be reached: {error}"));
    respond::answer(&Answer::upstream_unavailable(), method)
}

/// What `entry.js` answers if it took too long.
#[wasm_bindgen(js_name = upstreamTimedOut)]
#[expect(unreachable_pub, reason = "what JavaScript reaches, Rust does not")]
pub fn upstream_timed_out(method: &str) -> web_sys::Response {
    respond::answer(&Answer::upstream_timed_out(), method)
}
