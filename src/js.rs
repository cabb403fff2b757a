//! The surface for JavaScript: the same judgement, on a `Request` of the Fetch standard.
#![expect(unreachable_pub, reason = "what JavaScript reaches, Rust does not")]

#[cfg(feature = "explain")]
mod explain;
#[cfg(feature = "explain")]
mod told;

use std::{cell::RefCell, rc::Rc, sync::Arc};

use js_sys::{Error, Object, Promise};
use wasm_bindgen::{JsValue, prelude::wasm_bindgen};

use crate::{
    Action, Answer, Effects, Facts, Host, KeysAnswer, Outcome, Policy, Reason, Secret, Settings, SignatureCheck, Tokens,
    Unavailable, UnixTime, UserAnswer, Verdict, WantedKeys, begin, drive,
    web::{
        self, crypto,
        project::{Project, Shelf},
        promise::promise,
        request::Snapshot,
        respond,
    },
};

#[wasm_bindgen(typescript_custom_section)]
const TYPES: &str = r#"
/** Who a token belongs to. */
export interface Identity {
  /** Whether it is accepted. */
  allowed: boolean;
  /** Whose it is: the `sub` of a JWT, or `"1"` for the static token; `null` for public paths and preflights. */
  userId: string | null;
  /** How that was proven. */
  tokenType: "static" | "user" | "none" | null;
  /** The role of a JWT. */
  role: string | null;
  /** What to answer: a refusal, or one of the gateway's own pages. `null` if all is well. */
  response: Response | null;
}

/** How a request was judged. */
export interface Decision extends Identity {
  /** The headers for the upstream: the client's, without what it must not say, and with its identity. */
  headers: Headers;
  /** The request's URL, without a token that was in its query (`AUTH_WS_TOKEN_SOURCES`). */
  url: string;
  /** The upstream's response as the client gets it: with `CORS_ORIGINS` the gateway says who may read it. */
  finish(response: Response): Response;
}
"#;

#[wasm_bindgen(module = "/src/web/platform.js")]
extern "C" {
    fn identity(allowed: bool, known: &str, response: Option<web_sys::Response>) -> JsValue;

    #[wasm_bindgen(js_name = withHeaders)]
    fn with_headers(
        identity: JsValue,
        request: &web_sys::Request,
        target: &str,
        dropped: &str,
        set: &str,
        finish: &str,
    ) -> JsValue;

    #[wasm_bindgen(js_name = onCloudflare)]
    fn on_cloudflare() -> bool;
}

/// Decides who may pass, by the settings that it was made with.
#[wasm_bindgen]
pub struct Gate(Rc<Inner>);

struct Inner {
    gate: RefCell<crate::Gate>,
    policy: Arc<Policy>,
    project: Option<Rc<Project>>,
}

#[wasm_bindgen]
impl Gate {
    /// `new Gate({ AUTH_PROVIDER: "static", WORKER_AUTH_TOKEN: "…" })`. Throws one error that names every wrong setting.
    #[wasm_bindgen(constructor)]
    pub fn new(settings: &Object) -> Result<Self, Error> {
        let settings = Settings::parse(Host::Embedded, |name| web::setting(settings, name))
            .map_err(|errors| Error::new(&errors.to_string()))?;
        let token = settings.token.as_ref().map_or("", Secret::reveal);
        let tokens = match Tokens::single(token) {
            Ok(tokens) => tokens,
            Err(_) if !settings.policy.needs_token() => Tokens::default(),
            Err(error) => return Err(Error::new(&format!("WORKER_AUTH_TOKEN: {error}"))),
        };
        let gate = crate::Gate::with_tokens(settings.policy, tokens);
        let policy = Arc::clone(gate.policy());
        Ok(Self(Rc::new(Inner { gate: RefCell::new(gate), policy, project: settings.project.map(Project::new) })))
    }

    /// Judges a request. Its body is left alone.
    #[wasm_bindgen(unchecked_return_type = "Promise<Decision>")]
    pub fn check(&self, request: &web_sys::Request) -> Promise {
        let (inner, request) = (Rc::clone(&self.0), Clone::clone(request));
        promise(async move { inner.check(&request).await })
    }

    /// Judges a bearer token alone, for whoever got it in another way than in a header: in the first message of a
    /// WebSocket, say.
    #[wasm_bindgen(unchecked_return_type = "Promise<Identity>")]
    pub fn verify(&self, token: String) -> Promise {
        let inner = Rc::clone(&self.0);
        promise(async move { inner.verify(&token).await })
    }
}

impl Inner {
    async fn check(&self, request: &web_sys::Request) -> JsValue {
        let snapshot = Snapshot::of(request);
        let Some(facts) = snapshot.facts(on_cloudflare()) else {
            let answer = Answer::refusal(Reason::MalformedRequest);
            let refusal = identity(false, "", Some(respond::answer(&answer, "")));
            return with_headers(refusal, request, "", "", "", "");
        };
        let verdict = self.judge(&facts).await;
        match Action::of(&verdict, &self.policy, &facts, web::now()) {
            Action::Respond(answer) => with_headers(told(&verdict, Some(&answer), facts.method()), request, "", "", "", ""),
            Action::Forward(plan) => {
                let (dropped, finish) = (web::dropped(&snapshot, &facts, &plan), web::finish(&plan.finish()));
                let target = plan.rewritten_target().unwrap_or_default();
                with_headers(told(&verdict, None, ""), request, target, &dropped, &web::set(&plan), &finish)
            }
        }
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
        let Outcome { verdict, learned, used_stale_keys, .. } = drive(step, self).await;
        if !learned.is_nothing() {
            self.gate.borrow_mut().learn(learned);
        }
        if used_stale_keys {
            web::warn("A token was checked with keys past their age, because newer ones cannot be had");
        }
        verdict
    }
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

    /// They were given with the settings.
    async fn tokens(&self) -> Result<Option<Secret>, Unavailable> {
        Err(Unavailable)
    }

    async fn keys(&self, wanted: WantedKeys) -> KeysAnswer {
        match &self.project {
            Some(project) => project.keys(wanted, Rc::new(NoShelf)).await,
            None => KeysAnswer::Failed(web::now()),
        }
    }

    async fn signature(&self, check: SignatureCheck<'_>) -> bool {
        crypto::is_right(check).await
    }

    async fn user(&self, token: &Secret) -> Result<UserAnswer, Unavailable> {
        match &self.project {
            Some(project) => project.user(token).await,
            None => Err(Unavailable),
        }
    }
}

/// Every gate fetches its keys itself.
struct NoShelf;

impl Shelf for NoShelf {
    async fn find<T>(&self, _name: &str, _patience: f64, _usable: impl FnMut(&str) -> Option<T>) -> Option<T> {
        None
    }

    fn leave(&self, _name: &str, _record: &str, _seconds: u64) {}

    fn outlive(&self, _work: &Promise) {}
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
