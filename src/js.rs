//! The surface for JavaScript: the same judgement, on a `Request` of the Fetch standard.
#![expect(unreachable_pub, reason = "what JavaScript reaches, Rust does not")]

use std::cell::RefCell;

use js_sys::{Error, Object, Promise};
use wasm_bindgen::{JsValue, prelude::wasm_bindgen};

use crate::{
    Action, Host, Settings, Step, Tokens, Verdict, begin,
    web::{self, request::Snapshot, respond},
};

#[wasm_bindgen(typescript_custom_section)]
const TYPES: &str = r#"
/** How a request was judged. */
export interface Decision {
  /** Whether it may pass. */
  allowed: boolean;
  /** Who sent it: `"1"` for the static token; `null` for public paths and preflights. */
  userId: string | null;
  /** How that was proven. */
  tokenType: "static" | "none" | null;
  /** The role of a JWT. */
  role: string | null;
  /** The headers for the upstream: the client's, without what it must not say, and with its identity. */
  headers: Headers;
  /** What to answer: a refusal, or one of the gateway's own pages. `null` if the request goes on. */
  response: Response | null;
}
"#;

#[wasm_bindgen(module = "/src/web/platform.js")]
extern "C" {
    fn decision(
        request: &web_sys::Request,
        allowed: bool,
        user_id: Option<&str>,
        token_type: Option<&str>,
        role: Option<&str>,
        dropped: &str,
        set: &str,
        response: Option<web_sys::Response>,
    ) -> JsValue;
}

/// Decides who may pass, by the settings that it was made with.
#[wasm_bindgen]
pub struct Gate(RefCell<crate::Gate>);

#[wasm_bindgen]
impl Gate {
    /// `new Gate({ AUTH_PROVIDER: "static", WORKER_AUTH_TOKEN: "…" })`. Throws one error that names every wrong setting.
    #[wasm_bindgen(constructor)]
    pub fn new(settings: &Object) -> Result<Self, Error> {
        let settings = Settings::parse(Host::Embedded, |name| web::setting(settings, name))
            .map_err(|errors| Error::new(&errors.to_string()))?;
        if settings.project.is_some() {
            return Err(Error::new(
                "AUTH_PROVIDER: supabase is for the Worker and the native host; this surface does not serve it yet",
            ));
        }
        let token = settings.token.as_ref().map_or("", crate::Secret::reveal);
        let tokens = match Tokens::single(token) {
            Ok(tokens) => tokens,
            Err(_) if !settings.policy.needs_token() => Tokens::default(),
            Err(error) => return Err(Error::new(&format!("WORKER_AUTH_TOKEN: {error}"))),
        };
        Ok(Self(RefCell::new(crate::Gate::with_tokens(settings.policy, tokens))))
    }

    /// Judges a request. Its body is left alone.
    #[wasm_bindgen(unchecked_return_type = "Promise<Decision>")]
    pub fn check(&self, request: &web_sys::Request) -> Promise {
        Promise::resolve(&self.judge(request))
    }

    fn judge(&self, request: &web_sys::Request) -> JsValue {
        let snapshot = Snapshot::of(request);
        let Some(facts) = snapshot.facts() else {
            let answer = crate::Answer::refusal(crate::Reason::MalformedRequest);
            return decision(request, false, None, None, None, "", "", Some(respond::answer(&answer, "")));
        };
        let now = web::now();
        let mut gate = self.0.borrow_mut();
        let verdict = match begin(&mut gate, &facts, now) {
            Step::Decided(outcome) => outcome.verdict,
            // The tokens were given with the settings: nothing is ever asked for.
            _ => Verdict::Refuse(crate::Reason::StoreUnavailable),
        };
        let identity = match &verdict {
            Verdict::Pass(pass) => pass.identity.as_ref(),
            Verdict::Refuse(_) => None,
        };
        let (dropped, set, response) = match Action::of(&verdict, gate.policy(), &facts, now) {
            Action::Respond(answer) => (String::new(), String::new(), Some(respond::answer(&answer, facts.method()))),
            Action::Forward(plan) => (web::dropped(&snapshot, &facts, &plan), web::set(&plan), None),
        };
        let user_id = identity.map(|identity| &*identity.user_id);
        let token_type = identity.map(|identity| identity.token_type.as_str());
        let role = identity.and_then(|identity| identity.role.as_deref());
        decision(request, matches!(verdict, Verdict::Pass(_)), user_id, token_type, role, &dropped, &set, response)
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
