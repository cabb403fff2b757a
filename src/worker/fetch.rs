//! Sends a request that may pass to the upstream.

use wasm_bindgen::{JsCast, prelude::wasm_bindgen};
use worker::console_error;

use crate::{Answer, Facts, Forward, ProxySettings};

use crate::web::{self, request::Snapshot, respond};

#[wasm_bindgen(module = "/src/web/platform.js")]
extern "C" {
    fn forward(request: &web_sys::Request, url: &str, dropped: &str, set: &str, timeout: f64) -> js_sys::Promise;
}

pub(super) async fn upstream(
    incoming: &web_sys::Request,
    snapshot: &Snapshot,
    facts: &Facts<'_>,
    plan: &Forward<'_>,
    proxy: &ProxySettings,
) -> web_sys::Response {
    let Some(upstream) = &proxy.upstream else {
        return respond::answer(&Answer::upstream_unavailable(), facts.method());
    };
    let url = upstream.origin() + &facts.target();
    let timeout = proxy.response_timeout.unwrap_or(0) as f64 * 1000.0;
    let outcome = web::resolved(forward(incoming, &url, &web::dropped(snapshot, facts, plan), &web::set(plan), timeout)).await;
    match outcome.map(JsCast::dyn_into::<web_sys::Response>) {
        Ok(Ok(response)) => response,
        Ok(Err(_)) => respond::answer(&Answer::upstream_timed_out(), facts.method()),
        Err(error) => {
            console_error!("The upstream {} cannot be reached: {:?}", upstream.authority, error);
            respond::answer(&Answer::upstream_unavailable(), facts.method())
        }
    }
}
