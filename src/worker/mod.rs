//! The edge host: a Cloudflare Worker. It reads a request, lets the core judge it, and does what the core says.
//!
//! Its twin is the native host, `native-host/src`. What JavaScript embedders share with it is in `src/web`.

mod fetch;
mod limiter;
mod shelf;
mod store;

use std::{cell::RefCell, rc::Rc, sync::Arc};

use wasm_bindgen::{JsValue, prelude::wasm_bindgen};
use worker::{Env, console_error, console_log, console_warn, worker_sys};

use crate::{
    Action, Answer, Effects, Gate, Host, KeysAnswer, MISCONFIGURED, Outcome, Policy, ProxySettings, Reason, Secret, Settings,
    SettingsErrors, SignatureCheck, Tokens, Unavailable, UnixTime, UserAnswer, Verdict, WantedKeys, begin, drive,
    facts::Asker,
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
    logs_refusals: bool,
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
    let Some(mut facts) = snapshot.facts() else {
        return respond::answer(&Answer::refusal(Reason::MalformedRequest), "").into();
    };
    let Ok(loaded) = load(&env) else {
        let answer = if facts.asker == Asker::Client { MISCONFIGURED } else { MISCONFIGURED.for_proxy() };
        return respond::answer(&answer, facts.method()).into();
    };

    loaded.limiter.remind(&loaded.policy, &mut facts);
    let host = EdgeHost { loaded: &loaded, incoming, shelf: Rc::new(EdgeShelf { env, context }) };
    let step = begin(&mut loaded.gate.borrow_mut(), &facts, web::now());
    let Outcome { verdict, learned, store_error, used_stale_keys } = drive(step, &host).await;
    if !learned.is_nothing() {
        loaded.gate.borrow_mut().learn(learned);
    }
    if let Some(error) = store_error {
        console_error!("The token store holds something unusable: {}", error);
    }
    if used_stale_keys {
        console_warn!("A token was checked with keys past their age, because newer ones cannot be had");
    }
    let verdict = loaded.limiter.count(&host.shelf.env, &loaded.policy, &facts, verdict).await;
    if let Verdict::Refuse(reason) = &verdict {
        log_refusal(&loaded, *reason, facts.method(), facts.path());
    }
    match Action::of(&verdict, &loaded.policy, &facts, web::now()) {
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
                console_error!("Authentication is misconfigured, every request is answered with 500:\n{}", errors);
            }
            settings.map(|settings| Rc::new(Loaded::new(settings)))
        });
        loaded.clone().map_err(drop)
    })
}

impl Loaded {
    fn new(settings: Settings) -> Self {
        for warning in &settings.warnings {
            console_warn!("{}", warning);
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
            project: settings.project.map(Project::new),
            logs_refusals: matches!(settings.log_level, "info" | "debug" | "trace"),
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

fn log_refusal(loaded: &Loaded, reason: Reason, method: &str, path: &str) {
    if reason == Reason::NoTokenConfigured {
        console_error!("No token is configured. Set one with: npx wrangler secret put WORKER_AUTH_TOKEN");
    } else if loaded.logs_refusals {
        console_log!("{}", format!("refused reason={} method={method} path={path:?}", reason.code()));
    }
}
