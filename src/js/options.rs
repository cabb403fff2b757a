//! What an embedder hands over beside its settings: another `fetch`, stores for keys and tokens, and what lets work outlive
//! a request.

use js_sys::{Error, Promise};
use wasm_bindgen::{JsValue, prelude::wasm_bindgen};

use crate::{
    MAX_JWKS, Secret, Unavailable,
    web::{self, project::Shelf, within},
};

/// How long the store of tokens may take, in milliseconds.
const TIMEOUT: f64 = 5000.0;

/// Where in it they are, as in the Worker's KV.
const KEY: &str = "worker_auth_token";

/// For what stands in a record beside the keys, in characters.
const BESIDE: usize = 64;

#[wasm_bindgen(module = "/src/js/options.js")]
extern "C" {
    #[wasm_bindgen(extends = js_sys::Object)]
    #[derive(Clone)]
    pub(crate) type Options;

    #[wasm_bindgen(constructor, catch)]
    pub(super) fn new(given: &JsValue) -> Result<Options, Error>;

    /// Those for one request, which has a context by which work outlives it.
    #[wasm_bindgen(method)]
    pub(super) fn during(this: &Options, context: &JsValue) -> Options;

    #[wasm_bindgen(method, getter)]
    pub(super) fn fetch(this: &Options) -> JsValue;

    #[wasm_bindgen(method, getter)]
    fn tokens(this: &Options) -> JsValue;

    #[wasm_bindgen(method, getter)]
    fn places(this: &Options) -> u32;

    #[wasm_bindgen(method, js_name = find)]
    fn find_in(this: &Options, place: u32, name: &str, limit: u32) -> Promise;

    #[wasm_bindgen(method, js_name = leave)]
    fn leave_in_all(this: &Options, name: &str, record: &str, seconds: f64) -> Promise;

    #[wasm_bindgen(method)]
    fn token(this: &Options, key: &str) -> Promise;

    #[wasm_bindgen(method, js_name = outlive)]
    fn wait_until(this: &Options, work: &Promise);
}

impl Options {
    pub(super) fn keeps_tokens(&self) -> bool {
        !self.tokens().is_undefined()
    }

    /// The static token, or a list of them, as the store has it.
    pub(super) async fn read_tokens(&self) -> Result<Option<Secret>, Unavailable> {
        let value = within(&self.token(KEY), TIMEOUT).await.ok().and_then(|value| value.as_string()).map(Secret::new);
        let Some(value) = value else {
            web::warn("The store of tokens cannot be used");
            return Err(Unavailable);
        };
        Ok(Some(value).filter(|value| !value.reveal().trim().is_empty()))
    }
}

impl Shelf for Options {
    async fn find<T>(&self, name: &str, patience: f64, mut usable: impl FnMut(&str) -> Option<T>) -> Option<T> {
        let places = self.places();
        // All of them together may take as long as two.
        let patience = patience.min(2.0 * patience / f64::from(places));
        for place in 0..places {
            let record = within(&self.find_in(place, name, (MAX_JWKS + BESIDE) as u32), patience).await;
            let record = record.ok().and_then(|record| record.as_string());
            if let Some(found) = record.as_deref().and_then(&mut usable) {
                return Some(found);
            }
        }
        None
    }

    /// A store that takes nothing only makes the others slower.
    fn leave(&self, name: &str, record: &str, seconds: u64) {
        self.outlive(&self.leave_in_all(name, record, seconds as f64));
    }

    fn outlive(&self, work: &Promise) {
        self.wait_until(work);
    }
}
