//! The edge host: requests of a Cloudflare Worker, judged with its bindings. Feature `worker`, WebAssembly only.
//!
//! It is a library: [`check`] is called from the `fetch` handler of your own Worker, and nothing is exported beside that.
//! (The Worker of this project is the same with the feature `worker-export`, which adds what its `entry.js` calls.)
//!
//! ```no_run
//! use nodetool_edge_auth::worker::{Decision, check};
//! use worker::{Context, Env, Request, Response, Result, event};
//!
//! #[event(fetch)]
//! async fn fetch(request: Request, env: Env, context: Context) -> Result<Response> {
//!     let admitted = match check(request, &env, &context).await {
//!         Decision::Admit(admitted) => admitted,
//!         Decision::Answer(response) => return Ok(response),
//!     };
//!     let user = admitted.identity.as_ref().map_or("nobody", |identity| &identity.user_id);
//!     let response = Response::ok(format!("{} by {user}", admitted.request.path()))?;
//!     Ok(admitted.finish.apply(response))
//! }
//! ```
//!
//! Settings are those of the README, as `[vars]`, secrets and bindings of your Worker: `AUTH_PROVIDER`, `WORKER_AUTH_TOKEN`,
//! the KV namespace `AUTH_KV`, and so on. Without `ENV` it is production, and without `AUTH_PROVIDER` the static token is
//! asked for. What an isolate remembers between requests is settled data, and nothing under way.

// Its twin is the native host, `native-host/src`. What JavaScript embedders share with it is in `src/web`.

mod analytics;
mod embed;
#[cfg(feature = "worker-export")]
mod export;
mod limiter;
pub(crate) mod log;
mod shelf;
mod store;

use std::{borrow::Cow, cell::RefCell, rc::Rc, sync::Arc, thread::LocalKey};

use wasm_bindgen::JsValue;
use worker::{Env, worker_sys};

use crate::{
    Action, Answer, Effects, Facts, Forward, Gate, Host, Identity, KeysAnswer, MISCONFIGURED, Outcome, Policy, ProxySettings,
    Reason, Secret, Settings, SettingsErrors, SignatureCheck, Tokens, Unavailable, UnixTime, UserAnswer, UserQuestion, Verdict,
    WantedKeys, begin, drive,
    facts::Asker,
    is_request_id,
    web::{self, crypto, project::Project, request::Snapshot, respond},
};
use limiter::Limiter;
use shelf::EdgeShelf;

pub use embed::{Admitted, Decision, Finishing, check};

/// What an isolate keeps between requests: settled data only, never anything pending.
struct Loaded {
    gate: RefCell<Gate>,
    policy: Arc<Policy>,
    limiter: Limiter,
    #[cfg_attr(not(feature = "worker-export"), expect(dead_code, reason = "an embedder serves what may pass by itself"))]
    proxy: ProxySettings,
    project: Option<Rc<Project>>,
    logs_audit: bool,
    has_analytics: bool,
}

/// The settings of an isolate never change: new ones come in a new isolate.
type Slot = RefCell<Option<Result<Rc<Loaded>, SettingsErrors>>>;

/// A way into this host: whose defaults hold there, and where its settings are kept once they are read.
trait Entrance {
    const HOST: Host;
    const LOADED: &LocalKey<Slot>;
}

/// A request that may pass.
struct Passing<'a> {
    snapshot: &'a Snapshot,
    facts: &'a Facts<'a>,
    plan: Forward<'a>,
    identity: Option<&'a Identity>,
    #[cfg_attr(not(feature = "worker-export"), expect(dead_code, reason = "an embedder serves what may pass by itself"))]
    loaded: &'a Loaded,
}

/// Judges a request. It comes to the answer of the gateway itself, or to what `pass` makes of it.
async fn handle<E: Entrance, T>(
    incoming: &web_sys::Request,
    env: Env,
    context: worker_sys::Context,
    pass: impl FnOnce(Passing<'_>) -> T,
) -> Result<T, web_sys::Response> {
    let snapshot = Snapshot::of(incoming);
    let Some(mut facts) = snapshot.facts(true) else {
        log::unreadable();
        return Err(respond::answer(&Answer::refusal(Reason::MalformedRequest), ""));
    };
    let Ok(loaded) = load::<E>(&env) else {
        let answer = if facts.asker == Asker::Client { MISCONFIGURED } else { MISCONFIGURED.for_proxy() };
        return Err(respond::answer(&answer, facts.method()));
    };

    let id = request_id(&snapshot);
    if let Some(id) = &id {
        facts.request_id(id);
    }
    loaded.limiter.remind(&loaded.policy, &mut facts);

    let host = EdgeHost { loaded: &loaded, incoming, shelf: Rc::new(EdgeShelf { env, context }) };
    let step = begin(&mut loaded.gate.borrow_mut(), &facts, web::now());
    let mut outcome = drive(step, &host).await;
    let learned = core::mem::take(&mut outcome.learned);
    if !learned.is_nothing() {
        loaded.gate.borrow_mut().learn(learned);
    }
    if let Some(seconds) = loaded.limiter.count(&host.shelf.env, &loaded.policy, &facts, &outcome.verdict).await {
        facts.must_wait(seconds);
        outcome.verdict = Verdict::Refuse(Reason::TooManyFailures);
    }
    tell(&loaded, &host.shelf.env, &outcome, &facts);
    match Action::of(&outcome.verdict, &loaded.policy, &facts, web::now()) {
        Action::Respond(answer) => Err(respond::answer(&answer, facts.method())),
        Action::Forward(plan) => {
            let identity = match &outcome.verdict {
                Verdict::Pass(pass) => pass.identity.as_ref(),
                Verdict::Refuse(_) => None,
            };
            Ok(pass(Passing { snapshot: &snapshot, facts: &facts, plan, identity, loaded: &loaded }))
        }
    }
}

fn load<E: Entrance>(env: &Env) -> Result<Rc<Loaded>, ()> {
    E::LOADED.with_borrow_mut(|slot| {
        let loaded = slot.get_or_insert_with(|| {
            let value = |name: &str| if store::is_secrets_store(env, name) { None } else { web::setting(env, name) };
            let settings = Settings::parse(E::HOST, value);
            if let Err(errors) = &settings {
                log::error(&std::format!("Authentication is misconfigured, every request is answered with 500:\n{errors}"));
            }
            settings.map(|settings| Rc::new(Loaded::new(settings, analytics::is_bound(env))))
        });
        loaded.clone().map_err(drop)
    })
}

impl Loaded {
    fn new(settings: Settings, has_analytics: bool) -> Self {
        for warning in &settings.warnings {
            log::warn(warning);
        }
        let gate = match settings.token.and_then(|token| Tokens::single(token.reveal()).ok()) {
            Some(tokens) => Gate::with_tokens(settings.policy, tokens),
            None => Gate::with_store(settings.policy),
        };
        Self {
            policy: Arc::clone(gate.policy()),
            limiter: Limiter::new(),
            gate: RefCell::new(gate),
            proxy: settings.proxy,
            project: settings.project.map(|project| Project::new(project, JsValue::UNDEFINED)),
            logs_audit: matches!(settings.log_level, "info" | "debug" | "trace"),
            has_analytics,
        }
    }
}

/// What the core cannot do by itself, for one request.
struct EdgeHost<'a> {
    loaded: &'a Loaded,
    incoming: &'a web_sys::Request,
    shelf: Rc<EdgeShelf>,
}

impl Effects for EdgeHost<'_> {
    fn now(&self) -> UnixTime {
        web::now()
    }

    async fn tokens(&self) -> Result<Option<Secret>, Unavailable> {
        let is_for_developers = self.loaded.policy.environment().is_for_developers();
        store::read(&self.shelf.env, is_for_developers.then_some(self.incoming)).await
    }

    async fn keys(&self, wanted: WantedKeys) -> KeysAnswer {
        match &self.loaded.project {
            Some(project) => project.keys(wanted, Rc::clone(&self.shelf)).await,
            None => KeysAnswer::Failed(web::now()),
        }
    }

    async fn signature(&self, check: SignatureCheck<'_>) -> Result<bool, Unavailable> {
        crypto::is_right(check).await
    }

    async fn user(&self, question: &UserQuestion) -> Result<UserAnswer, Unavailable> {
        match &self.loaded.project {
            Some(project) => project.user(question).await,
            None => Err(Unavailable),
        }
    }
}

/// How this request is called here and at the upstream: as Cloudflare calls it, in its own logs and to the client, so
/// that there is one name for it everywhere. Without Cloudflare's network it is what the client says, if that is harmless.
fn request_id(snapshot: &Snapshot) -> Option<Cow<'_, str>> {
    let header = |wanted| snapshot.headers().find(|(name, _)| *name == wanted).map(|(_, value)| value);
    let is_id = |value: &&str| is_request_id(value.as_bytes());
    if let Some(ray) = header("cf-ray").filter(is_id) {
        return Some(Cow::Borrowed(ray));
    }
    let given = header("x-request-id")?;
    if is_id(&given) {
        return Some(Cow::Borrowed(given));
    }
    // What is no id must not go on as one.
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).ok()?;
    Some(Cow::Owned(bytes.iter().map(|byte| std::format!("{byte:02x}")).collect()))
}

/// Tells of what was judged, where somebody should hear of it.
fn tell(loaded: &Loaded, env: &Env, outcome: &Outcome, facts: &Facts<'_>) {
    if let Some(error) = &outcome.store_error {
        log::error(&std::format!("The token store holds something unusable: {error}"));
    }
    if outcome.used_stale_keys {
        log::warn("A token was checked with keys past their age, because newer ones cannot be had");
    }
    if outcome.verdict == Verdict::Refuse(Reason::NoTokenConfigured) {
        log::error("No token is configured. Set one with: npx wrangler secret put WORKER_AUTH_TOKEN");
    } else if loaded.logs_audit {
        log::audit(outcome, facts, loaded.policy.client(facts));
    }
    if loaded.has_analytics {
        analytics::judged(env, &outcome.verdict, outcome.refused.as_ref(), facts.method());
    }
}
