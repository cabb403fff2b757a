//! Where the token is kept at the edge: a Secrets Store binding, else Workers KV.

use std::cell::RefCell;

use js_sys::{Object, Promise, Reflect};
use wasm_bindgen::{JsValue, prelude::wasm_bindgen};
use worker::console_log;

use super::log;
use crate::{
    Secret, Unavailable, UnixTime, generate_token,
    web::{self, within},
};

const SECRET: &str = "WORKER_AUTH_TOKEN";
pub(super) const NAMESPACE: &str = "AUTH_KV";
const ARBITER: &str = "AUTH_ARBITER";
const KEY: &str = "worker_auth_token";

/// How long the store may take, in milliseconds. An outage is not always an error.
const TIMEOUT: f64 = 5000.0;

/// For how long an isolate holds on to a token that it generated though KV shows none, in milliseconds. KV remembers for a
/// minute that there was none; later it was deleted.
const GENERATED_FOR: u64 = 300_000;

#[wasm_bindgen(module = "/src/worker/store.js")]
extern "C" {
    fn find(secret: &JsValue, namespace: &JsValue, key: &str) -> Promise;
    fn keep(namespace: &JsValue, key: &str, value: &str) -> Promise;
    fn settle(arbiter: &JsValue, key: &str, candidate: &str) -> Promise;
}

thread_local! {
    /// The token that this isolate generated, and when. Two requests may find at once that there is none: both must end
    /// with the same token.
    static GENERATED: RefCell<Option<(Secret, UnixTime)>> = const { RefCell::new(None) };
}

/// Whether a binding is a secret of the Secrets Store, which is read when it is needed.
pub(super) fn is_secrets_store(env: &JsValue, name: &str) -> bool {
    name == SECRET && !secret_binding(env).is_undefined()
}

/// The platform makes such a secret of a service, which seems to have every method. Should it be another service, or none
/// at all, then nothing comes of asking it, and nobody is let in.
fn secret_binding(env: &JsValue) -> JsValue {
    let binding = binding(env, SECRET);
    let has = |name: &str| Reflect::get(&binding, &JsValue::from_str(name)).is_ok_and(|method| method.is_function());
    let is_service = Object::try_from(&binding).is_some_and(|object| object.constructor().name() == "Fetcher");
    if has("get") && (is_service || !has("put")) { binding } else { JsValue::UNDEFINED }
}

/// Nothing unless it is an object: a binding of the platform, not a setting.
pub(super) fn binding(env: &JsValue, name: &str) -> JsValue {
    Reflect::get(env, &JsValue::from_str(name)).ok().filter(JsValue::is_object).unwrap_or(JsValue::UNDEFINED)
}

/// The value in the store, if it holds one. For developers, whose request it takes to tell, one is made if it does not.
pub(super) async fn read(env: &JsValue, for_developers: Option<&web_sys::Request>) -> Result<Option<Secret>, Unavailable> {
    let found = in_time(&find(&secret_binding(env), &binding(env, NAMESPACE), KEY)).await;
    let tokens = match (found, for_developers) {
        (Ok(value), Some(incoming)) if value.reveal().trim().is_empty() => generate(env, incoming).await,
        (found, _) => found.map(|value| Some(value).filter(|value| !value.reveal().trim().is_empty())),
    };
    tokens.map_err(|error| {
        log::error(&std::format!("The token store cannot be used: {error:?}"));
        Unavailable
    })
}

/// Makes a token, saves it and shows it.
async fn generate(env: &JsValue, incoming: &web_sys::Request) -> Result<Option<Secret>, JsValue> {
    let (namespace, arbiter) = (binding(env, NAMESPACE), binding(env, ARBITER));
    if namespace.is_undefined() {
        return Ok(None);
    }
    let mut entropy = [0; 32];
    getrandom::fill(&mut entropy).map_err(|error| JsValue::from_str(&std::format!("no random bytes: {error}")))?;
    let candidate = generate_token(entropy);
    let token = if arbiter.is_undefined() {
        // Only Cloudflare's network marks its requests so. There are many isolates, and each would have a token of its own;
        // `wrangler dev` has one isolate.
        if incoming.headers().has("cf-ray").unwrap_or(true) {
            log::error(&std::format!("No token is generated here without the Durable Object {ARBITER}: see wrangler.toml"));
            return Ok(None);
        }
        keep_mine(&namespace, candidate.clone()).await?
    } else {
        in_time(&settle(&arbiter, KEY, candidate.reveal())).await?
    };
    if token == candidate {
        let shown: &str = token.reveal();
        // For a person, who looks for it on a screen.
        console_log!("Generated a token and saved it to {}:\n\n   Authorization: Bearer {}\n", NAMESPACE, shown);
    }
    Ok(Some(token))
}

/// The token of this isolate, which is the only one.
async fn keep_mine(namespace: &JsValue, candidate: Secret) -> Result<Secret, JsValue> {
    let now = web::now();
    let holds = |at: UnixTime| at <= now && now.millis_since(at) < GENERATED_FOR;
    if let Some((known, _)) = GENERATED.with_borrow(Clone::clone).filter(|(_, at)| holds(*at)) {
        return Ok(known);
    }
    GENERATED.set(Some((candidate.clone(), now)));
    let kept = in_time(&keep(namespace, KEY, candidate.reveal())).await;
    if kept.is_err() {
        GENERATED.set(None);
    }
    kept
}

/// The text that a promise comes to, if it does so in time.
async fn in_time(promise: &Promise) -> Result<Secret, JsValue> {
    let value = within(promise, TIMEOUT).await?;
    value.as_string().map(Secret::new).ok_or_else(|| JsValue::from_str("no answer in time"))
}
