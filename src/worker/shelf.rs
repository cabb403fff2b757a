//! What the isolates leave for each other: in the Cache API of the data centre, and in KV for all of them.

use js_sys::Promise;
use wasm_bindgen::{JsValue, prelude::wasm_bindgen};
use worker::{Env, worker_sys::Context};

use super::store::NAMESPACE;
use crate::web::{project::Shelf, within};

#[wasm_bindgen(module = "/src/worker/shelf.js")]
extern "C" {
    #[wasm_bindgen(js_name = findNearby)]
    fn find_nearby(name: &str) -> Promise;
    #[wasm_bindgen(js_name = findEverywhere)]
    fn find_everywhere(namespace: &JsValue, name: &str) -> Promise;
    fn leave(namespace: &JsValue, name: &str, record: &str, seconds: f64) -> Promise;
}

pub(super) struct EdgeShelf {
    pub(super) env: Env,
    pub(super) context: Context,
}

impl EdgeShelf {
    /// The KV namespace, if one is bound.
    fn namespace(&self) -> JsValue {
        js_sys::Reflect::get(&self.env, &JsValue::from_str(NAMESPACE)).unwrap_or_default()
    }
}

impl Shelf for EdgeShelf {
    async fn find<T>(&self, name: &str, patience: f64, mut usable: impl FnMut(&str) -> Option<T>) -> Option<T> {
        let nearby = record(&find_nearby(name), patience).await;
        if let Some(found) = nearby.as_deref().and_then(&mut usable) {
            return Some(found);
        }
        usable(&record(&find_everywhere(&self.namespace(), name), patience).await?)
    }

    /// A place that takes nothing only makes the others slower.
    fn leave(&self, name: &str, record: &str, seconds: u64) {
        self.outlive(&leave(&self.namespace(), name, record, seconds as f64));
    }

    fn outlive(&self, work: &Promise) {
        // It fails only where there is no request any more.
        let _ = self.context.wait_until(work);
    }
}

async fn record(promise: &Promise, patience: f64) -> Option<String> {
    within(promise, patience).await.ok()?.as_string()
}
