//! For the `fetch` handler of somebody else's Worker: judges a request, and hands it back as it may go on.

use std::{cell::RefCell, rc::Rc, thread::LocalKey};

use js_sys::Promise;
use wasm_bindgen::{JsCast, JsValue, prelude::wasm_bindgen};
use worker::{Context, Env, Request, Response, worker_sys};

use super::{Entrance, Passing, Slot, handle};
use crate::{
    Answer, Host, Identity, MISCONFIGURED, Reason,
    web::{self, promise::value_or_promise, resolved, respond},
};

#[wasm_bindgen(module = "/src/web/platform.js")]
extern "C" {
    #[wasm_bindgen(catch)]
    fn onward(request: &web_sys::Request, url: &str, dropped: &str, set: &str) -> Result<web_sys::Request, JsValue>;
    fn finished(response: &web_sys::Response, finish: &str) -> web_sys::Response;
}

thread_local! {
    static LOADED: Slot = const { RefCell::new(None) };
}

struct Embed;

impl Entrance for Embed {
    /// There is always somebody who serves what may pass: whoever called.
    const HOST: Host = Host::Embedded;
    const LOADED: &LocalKey<Slot> = &LOADED;
}

/// How a request was judged.
#[derive(Debug)]
pub enum Decision {
    /// It may pass.
    Admit(Box<Admitted>),
    /// It is answered with this: a refusal, or what the gateway itself has to say (`/.auth/whoami`, `/.auth/verify`, a
    /// preflight under `CORS_ORIGINS`).
    Answer(Response),
}

/// A request that may pass.
#[derive(Debug)]
#[non_exhaustive]
pub struct Admitted {
    /// The request as it goes on: without what no client may say, with `x-user-id`, `x-auth-token-type` and `x-auth-role`, and
    /// without a token that was in its query. Serve it yourself, or send it to another server.
    pub request: Request,
    /// Who sent it; nobody for public paths and preflights.
    pub identity: Option<Identity>,
    /// What becomes of the answer.
    pub finish: Finishing,
}

/// What becomes of an answer on its way to the client. Without it, pages of the origins in `CORS_ORIGINS` cannot read the
/// answer, and WebSockets whose token was a subprotocol do not open.
#[derive(Clone, Debug)]
pub struct Finishing(String);

impl Finishing {
    /// The answer as the client gets it.
    #[must_use]
    pub fn apply(&self, response: Response) -> Response {
        if self.0.is_empty() { response } else { finished(&response.into(), &self.0).into() }
    }
}

/// Judges a request by the settings and bindings of this Worker. Wrong settings are an answer of 500 to every request, with
/// the reasons in the log.
pub async fn check(request: Request, env: &Env, context: &Context) -> Decision {
    let decided = Rc::new(RefCell::new(None));
    let judged = {
        let (decided, env) = (Rc::clone(&decided), Env::clone(env));
        let context = copied(context);
        // Not by the caller's executor: there, one request may go on in the turn of another, whose end would be its own.
        value_or_promise(async move {
            let incoming = request.inner();
            let judged = handle::<Embed, _>(incoming, env, context, |passing| admitted(incoming, &passing)).await;
            let judged = judged.and_then(std::convert::identity);
            decided.replace(Some(judged.map_or_else(|answer| Decision::Answer(answer.into()), Decision::Admit)));
            JsValue::UNDEFINED
        })
    };
    if let Ok(promise) = judged.dyn_into::<Promise>() {
        // It goes to its end even if the client leaves: what it waits for would never be let go of.
        let _ = AsRef::<worker_sys::Context>::as_ref(context).wait_until(&promise);
        let _ = resolved(promise).await;
    }
    decided.take().unwrap_or_else(|| Decision::Answer(respond::answer(&MISCONFIGURED, "").into()))
}

/// A request that the platform makes no other of goes nowhere: one whose body was read before, say.
fn admitted(incoming: &web_sys::Request, passing: &Passing<'_>) -> Result<Box<Admitted>, web_sys::Response> {
    let Passing { snapshot, facts, plan, identity, .. } = passing;
    let url = snapshot.url_with(plan.rewritten_target());
    let onward = onward(incoming, &url, &web::dropped(snapshot, facts, plan), &web::set(plan));
    let request = onward.map_err(|_| respond::answer(&Answer::refusal(Reason::MalformedRequest), facts.method()))?;
    let finish = Finishing(web::finish(&plan.finish()));
    Ok(Box::new(Admitted { request: request.into(), identity: identity.cloned(), finish }))
}

/// Another handle of the same object.
fn copied(context: &Context) -> worker_sys::Context {
    let context: &worker_sys::Context = context.as_ref();
    JsValue::clone(context).unchecked_into()
}
