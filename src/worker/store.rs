//! Where the token is kept at the edge: a Secrets Store binding, else Workers KV.

use std::cell::RefCell;

use wasm_bindgen::JsValue;
use worker::{Env, Error, SecretStore, console_error, console_log};

use crate::{Secret, Unavailable, generate_token};

const SECRET: &str = "WORKER_AUTH_TOKEN";
pub(super) const NAMESPACE: &str = "AUTH_KV";
const KEY: &str = "worker_auth_token";

thread_local! {
    /// The token that this isolate generated. KV remembers for a while that it had none, and two requests may find
    /// that out at once: both must end with the same token.
    static GENERATED: RefCell<Option<Secret>> = const { RefCell::new(None) };
}

/// Whether a binding is a secret of the Secrets Store, which is read when it is needed.
pub(super) fn is_secrets_store(env: &Env, name: &str) -> bool {
    name == SECRET && secret_binding(env).is_some()
}

fn secret_binding(env: &Env) -> Option<SecretStore> {
    let binding = js_sys::Reflect::get(env, &JsValue::from_str(SECRET)).ok().filter(JsValue::is_object)?;
    let get = js_sys::Reflect::get(&binding, &JsValue::from_str("get")).ok()?;
    // KV and services have such a method too, but then also others.
    let has_put = js_sys::Reflect::has(&binding, &JsValue::from_str("put")).unwrap_or(true);
    (get.is_function() && !has_put).then(|| SecretStore::from(binding))
}

pub(super) async fn read(env: &Env, may_generate: bool) -> Result<Option<Secret>, Unavailable> {
    let tokens = match stored(env).await {
        Ok(None) if may_generate => generate(env).await,
        other => other,
    };
    tokens.map_err(|error| {
        console_error!("The token store cannot be read: {}", error);
        Unavailable
    })
}

async fn stored(env: &Env) -> Result<Option<Secret>, Error> {
    let value = match (secret_binding(env), env.kv(NAMESPACE)) {
        (Some(secret), _) => secret.get().await?,
        (None, Ok(namespace)) => namespace.get(KEY).text().await?,
        // Without the namespace there is no store, and so no token in it.
        (None, Err(_)) => None,
    };
    Ok(value.filter(|value| !value.trim().is_empty()).map(Secret::new))
}

/// For developers: makes a token, saves it and shows it.
async fn generate(env: &Env) -> Result<Option<Secret>, Error> {
    let Ok(namespace) = env.kv(NAMESPACE) else { return Ok(None) };
    let known = GENERATED.with_borrow(Clone::clone);
    if known.is_some() {
        return Ok(known);
    }
    let mut entropy = [0; 32];
    getrandom::fill(&mut entropy).map_err(|error| Error::RustError(std::format!("no random bytes: {error}")))?;
    let token = generate_token(entropy);
    GENERATED.set(Some(token.clone()));
    if let Err(error) = namespace.put(KEY, token.reveal())?.execute().await {
        GENERATED.set(None);
        return Err(error.into());
    }
    let shown: &str = token.reveal();
    console_log!("Generated a token and saved it to {}:\n\n   Authorization: Bearer {}\n", NAMESPACE, shown);
    Ok(Some(token))
}
