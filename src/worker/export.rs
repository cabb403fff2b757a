//! What `entry.js` calls, which makes a Worker of its own of this host: requests that may pass go to the upstream.

use std::{borrow::Cow, cell::RefCell, thread::LocalKey};

use js_sys::Function;
use wasm_bindgen::{JsValue, prelude::wasm_bindgen};
use worker::{Env, worker_sys};

use super::{Entrance, Passing, Slot, handle, log};
use crate::{
    Answer, Host,
    web::{self, promise::value_or_promise, respond},
};

#[wasm_bindgen(module = "/src/web/platform.js")]
extern "C" {
    fn forward(request: &web_sys::Request, url: &str, dropped: &str, set: &str, finish: &str, timeout: f64) -> Function;
}

thread_local! {
    static LOADED: Slot = const { RefCell::new(None) };
}

struct Export;

impl Entrance for Export {
    const HOST: Host = Host::Edge;
    const LOADED: &LocalKey<Slot> = &LOADED;
}

/// What `entry.js` calls for each request. It comes to a response, or to a function that sends the request on; at once if
/// nobody needs to be asked.
#[wasm_bindgen]
#[expect(unreachable_pub, reason = "what JavaScript reaches, Rust does not")]
pub fn judge(incoming: web_sys::Request, env: Env, context: worker_sys::Context) -> JsValue {
    value_or_promise(async move {
        let judged = handle::<Export, _>(&incoming, env, context, |passing| upstream(&incoming, passing)).await;
        judged.unwrap_or_else(JsValue::from)
    })
}

/// What sends it. The judgement ends here: how long the upstream takes, or the client waits, is nothing to it.
fn upstream(incoming: &web_sys::Request, Passing { snapshot, facts, plan, loaded, .. }: Passing<'_>) -> JsValue {
    let proxy = &loaded.proxy;
    let Some(upstream) = &proxy.upstream else {
        return respond::answer(&Answer::upstream_unavailable(), facts.method()).into();
    };
    let target = plan.rewritten_target().map_or_else(|| facts.target(), Cow::Borrowed);
    let url = upstream.origin() + &target;
    let timeout = proxy.response_timeout.unwrap_or(0) as f64 * 1000.0;
    let finish = web::finish(&plan.finish());
    forward(incoming, &url, &web::dropped(snapshot, facts, &plan), &web::set(&plan), &finish, timeout).into()
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
