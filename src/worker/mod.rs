//! The edge host: a Cloudflare Worker. It reads a request, lets the core judge it, and does what the core says.
//!
//! Its twin is the native host, `native-host/src`. What JavaScript embedders share with it is in `src/web`.

mod analytics;
mod fetch;
mod limiter;
pub(crate) mod log;
mod shelf;
mod store;

use std::{borrow::Cow, cell::RefCell, rc::Rc, sync::Arc};

use wasm_bindgen::{JsValue, prelude::wasm_bindgen};
use worker::{Env, worker_sys};

use crate::{
    Action, Answer, Effects, Facts, Gate, Host, KeysAnswer, MISCONFIGURED, Outcome, Policy, ProxySettings, Reason, Secret,
    Settings, SettingsErrors, SignatureCheck, Tokens, Unavailable, UnixTime, UserAnswer, Verdict, WantedKeys, begin, drive,
    facts::Asker,
    is_request_id,
    web::{self, crypto, project::Project, promise::value_or_promise, request::Snapshot, respond},
};
use limiter::Limiter;
use shelf::EdgeShelf;

/// What an isolate keeps between requests: settled data only, never anything pending.
struct Loaded {
    gate: RefCell<Gate>,
    policy: Arc<Policy>,
    limiter: Limiter,
    proxy: ProxySettings,
    project: Option<Rc<Project>>,
    logs_audit: bool,
    has_analytics: bool,
}

thread_local! {
    /// The settings of an isolate never change: new ones come in a new isolate.
    static LOADED: RefCell<Option<Result<Rc<Loaded>, SettingsErrors>>> = const { RefCell::new(None) };
}

/// What `entry.js` calls for each request. It comes to a response, or to a function that sends the request on; at once if
/// nobody needs to be asked.
#[wasm_bindgen]
#[expect(unreachable_pub, reason = "what JavaScript reaches, Rust does not")]
pub fn judge(incoming: web_sys::Request, env: Env, context: worker_sys::Context) -> JsValue {
    value_or_promise(async move { handle(&incoming, env, context).await })
}

async fn handle(incoming: &web_sys::Request, env: Env, context: worker_sys::Context) -> JsValue {
    let snapshot = Snapshot::of(incoming);
    let Some(mut facts) = snapshot.facts(true) else {
        log::unreadable();
        return respond::answer(&Answer::refusal(Reason::MalformedRequest), "").into();
    };
    let Ok(loaded) = load(&env) else {
        let answer = if facts.asker == Asker::Client { MISCONFIGURED } else { MISCONFIGURED.for_proxy() };
        return respond::answer(&answer, facts.method()).into();
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
        Action::Respond(answer) => respond::answer(&answer, facts.method()).into(),
        Action::Forward(forward) => fetch::upstream(incoming, &snapshot, &facts, &forward, &loaded.proxy),
    }
}

fn load(env: &Env) -> Result<Rc<Loaded>, ()> {
    LOADED.with_borrow_mut(|slot| {
        let loaded = slot.get_or_insert_with(|| {
            let value = |name: &str| if store::is_secrets_store(env, name) { None } else { web::setting(env, name) };
            let settings = Settings::parse(Host::Edge, value);
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

    async fn signature(&self, check: SignatureCheck<'_>) -> bool {
        crypto::is_right(check).await
    }

    async fn user(&self, token: &Secret) -> Result<UserAnswer, Unavailable> {
        match &self.loaded.project {
            Some(project) => project.user(token).await,
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
