//! The surface for JavaScript: the same judgement, on a `Request` of the Fetch standard.
//!
//! What programs get of it, and its types, are in `package`.
#![expect(unreachable_pub, reason = "what JavaScript reaches, Rust does not")]

#[cfg(feature = "explain")]
mod explain;
mod options;
#[cfg(feature = "explain")]
mod told;

use std::{cell::RefCell, rc::Rc, sync::Arc};

use js_sys::{Error, Object, Promise};
use wasm_bindgen::{JsCast, JsValue, prelude::wasm_bindgen};

use crate::{
    Action, Answer, Effects, Facts, Host, KeysAnswer, Outcome, Policy, Reason, Secret, Settings, SignatureCheck, Tokens,
    Unavailable, UnixTime, UserAnswer, UserQuestion, Verdict, WantedKeys, begin, drive,
    web::{
        self, crypto,
        project::{Project, Shelf},
        promise::value_or_promise,
        request::Snapshot,
        respond,
    },
};
use options::Options;

#[wasm_bindgen(module = "/src/web/platform.js")]
extern "C" {
    fn identity(allowed: bool, known: &str, response: Option<web_sys::Response>) -> JsValue;

    #[wasm_bindgen(js_name = withHeaders, catch)]
    fn with_headers(
        identity: JsValue,
        request: &web_sys::Request,
        target: &str,
        dropped: &str,
        set: &str,
        finish: &str,
    ) -> Result<JsValue, JsValue>;

    #[wasm_bindgen(js_name = onCloudflare)]
    fn on_cloudflare() -> bool;
}

/// Decides who may pass, by the settings that it was made with.
#[wasm_bindgen]
pub struct Gate(Rc<Inner>);

/// What all judgements of a gate share, and the options for this one.
#[derive(Clone)]
struct Inner {
    gate: Rc<RefCell<crate::Gate>>,
    policy: Arc<Policy>,
    project: Option<Rc<Project>>,
    options: Options,
}

#[wasm_bindgen]
impl Gate {
    /// `new Gate({ AUTH_PROVIDER: "static", WORKER_AUTH_TOKEN: "…" }, { fetch, store, tokens, waitUntil })`. Throws one error
    /// that names every wrong setting.
    #[wasm_bindgen(constructor)]
    pub fn new(settings: &Object, options: &JsValue) -> Result<Self, Error> {
        let options = Options::new(options)?;
        let settings = Settings::parse(Host::Embedded, |name| web::setting(settings, name))
            .map_err(|errors| Error::new(&errors.to_string()))?;
        for warning in &settings.warnings {
            web::warn(warning);
        }
        let token = settings.token.as_ref().map_or("", Secret::reveal);
        let gate = match Tokens::single(token) {
            Ok(tokens) => crate::Gate::with_tokens(settings.policy, tokens),
            Err(_) if settings.token.is_none() && options.keeps_tokens() => crate::Gate::with_store(settings.policy),
            Err(_) if !settings.policy.needs_token() => crate::Gate::with_tokens(settings.policy, Tokens::default()),
            Err(error) => return Err(Error::new(&format!("WORKER_AUTH_TOKEN: {error}"))),
        };
        let policy = Arc::clone(gate.policy());
        let project = settings.project.map(|project| Project::new(project, options.fetch()));
        Ok(Self(Rc::new(Inner { gate: Rc::new(RefCell::new(gate)), policy, project, options })))
    }

    /// Judges a request. Its body is left alone. What has to be asked for goes on, by the context's `waitUntil`, if the client
    /// leaves meanwhile.
    pub fn check(&self, request: &web_sys::Request, context: &JsValue) -> Promise {
        let (inner, request) = (self.0.during(context), Clone::clone(request));
        Rc::clone(&inner).outlived(async move { inner.check(&request).await })
    }

    /// Judges a bearer token alone, for whoever got it in another way than in a header: in the first message of a
    /// WebSocket, say.
    pub fn verify(&self, token: String, context: &JsValue) -> Promise {
        let inner = self.0.during(context);
        Rc::clone(&inner).outlived(async move { inner.verify(&token).await })
    }
}

impl Inner {
    /// The same with the options for one request.
    fn during(self: &Rc<Self>, context: &JsValue) -> Rc<Self> {
        if context.is_object() {
            Rc::new(Self { options: self.options.during(context), ..(**self).clone() })
        } else {
            Rc::clone(self)
        }
    }

    /// The promise of what the work comes to, which goes on even if the client leaves: what it waits for would never be let
    /// go of.
    fn outlived(&self, work: impl Future<Output = JsValue> + 'static) -> Promise {
        let value = value_or_promise(work);
        if let Some(promise) = value.dyn_ref::<Promise>() {
            self.options.outlive(promise);
        }
        Promise::resolve(&value)
    }

    async fn check(&self, request: &web_sys::Request) -> JsValue {
        let snapshot = Snapshot::of(request);
        let Some(facts) = snapshot.facts(on_cloudflare()) else { return unreadable(request) };
        let verdict = self.judge(&facts).await;
        let decision = match Action::of(&verdict, &self.policy, &facts, web::now()) {
            Action::Respond(answer) => with_headers(told(&verdict, Some(&answer), facts.method()), request, "", "", "", ""),
            Action::Forward(plan) => {
                let (dropped, finish) = (web::dropped(&snapshot, &facts, &plan), web::finish(&plan.finish()));
                let target = plan.rewritten_target().unwrap_or_default();
                with_headers(told(&verdict, None, ""), request, target, &dropped, &web::set(&plan), &finish)
            }
        };
        decision.unwrap_or_else(|_| unreadable(request))
    }

    async fn verify(&self, token: &str) -> JsValue {
        let authorization = format!("Bearer {token}");
        // Of what no setting makes public: nothing but the token may open it.
        let mut facts = Facts::new("POST", "/", None);
        facts.header("authorization", authorization.as_bytes());
        let verdict = self.judge(&facts).await;
        let answer = match verdict {
            Verdict::Pass(_) => None,
            Verdict::Refuse(reason) => Some(Answer::refusal(reason)),
        };
        told(&verdict, answer.as_ref(), facts.method())
    }

    async fn judge(&self, facts: &Facts<'_>) -> Verdict {
        let now = web::now();
        let step = begin(&mut self.gate.borrow_mut(), facts, now);
        let Outcome { verdict, learned, used_stale_keys, store_error, .. } = drive(step, self).await;
        if !learned.is_nothing() {
            self.gate.borrow_mut().learn(learned);
        }
        if used_stale_keys {
            web::warn("A token was checked with keys past their age, because newer ones cannot be had");
        }
        if let Some(error) = store_error {
            web::warn(&format!("The store of tokens holds something unusable: {error}"));
        }
        verdict
    }
}

/// What there is to say of a request that is none.
fn unreadable(request: &web_sys::Request) -> JsValue {
    let answer = Answer::refusal(Reason::MalformedRequest);
    let refusal = identity(false, "", Some(respond::answer(&answer, "")));
    with_headers(refusal, request, "", "", "", "").unwrap_or_default()
}

/// A verdict as JavaScript is told it.
fn told(verdict: &Verdict, answer: Option<&Answer>, method: &str) -> JsValue {
    let known = match verdict {
        Verdict::Pass(pass) => pass.identity.as_ref(),
        Verdict::Refuse(_) => None,
    };
    let known = known.map_or(String::new(), |known| {
        web::lines([&*known.user_id, known.token_type.as_str(), known.role.as_deref().unwrap_or_default()].into_iter())
    });
    let response = answer.map(|answer| respond::answer(answer, method));
    identity(matches!(verdict, Verdict::Pass(_)), &known, response)
}

impl Effects for Inner {
    fn now(&self) -> UnixTime {
        web::now()
    }

    async fn tokens(&self) -> Result<Option<Secret>, Unavailable> {
        self.options.read_tokens().await
    }

    async fn keys(&self, wanted: WantedKeys) -> KeysAnswer {
        match &self.project {
            Some(project) => project.keys(wanted, Rc::new(self.options.clone())).await,
            None => KeysAnswer::Failed(web::now()),
        }
    }

    async fn signature(&self, check: SignatureCheck<'_>) -> Result<bool, Unavailable> {
        crypto::is_right(check).await
    }

    async fn user(&self, question: &UserQuestion) -> Result<UserAnswer, Unavailable> {
        match &self.project {
            Some(project) => project.user(question).await,
            None => Err(Unavailable),
        }
    }
}

/// A new static token: 256 random bits in 43 characters.
#[wasm_bindgen(js_name = generateToken)]
pub fn generate_token() -> Result<String, Error> {
    let mut entropy = [0; 32];
    getrandom::fill(&mut entropy).map_err(|error| Error::new(&format!("no random bytes: {error}")))?;
    Ok(crate::generate_token(entropy).reveal().to_owned())
}

/// A token as it may be shown: `abcdefgh...wxyz`.
#[wasm_bindgen(js_name = maskToken)]
pub fn mask_token(token: &str) -> String {
    crate::mask_token(token)
}
