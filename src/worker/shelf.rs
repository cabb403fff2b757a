//! What the isolates leave for each other: in the Cache API of the data centre, and in KV for all of them.

use js_sys::Promise;
use wasm_bindgen::prelude::wasm_bindgen;
use worker::{Context, Env};

use super::store::NAMESPACE;
use crate::web::{project::Shelf, resolved};

#[wasm_bindgen(module = "/src/worker/cache.js")]
extern "C" {
    fn recall(name: &str) -> Promise;
    fn remember(name: &str, record: &str, seconds: f64) -> Promise;
}

/// KV keeps nothing for less than this, in seconds.
const SHORTEST: u64 = 60;

pub(super) struct EdgeShelf {
    pub(super) env: Env,
    pub(super) context: Context,
}

impl Shelf for EdgeShelf {
    async fn find<T>(&self, name: &str, mut usable: impl FnMut(&str) -> Option<T>) -> Option<T> {
        let nearby = resolved(recall(name)).await.ok().and_then(|record| record.as_string());
        if let Some(found) = nearby.as_deref().and_then(&mut usable) {
            return Some(found);
        }
        let record = self.env.kv(NAMESPACE).ok()?.get(&in_kv(name)).text().await.ok()??;
        usable(&record)
    }

    /// A place that takes nothing only makes the others slower.
    fn leave(&self, name: String, record: String, seconds: u64) {
        let namespace = self.env.kv(NAMESPACE).ok();
        self.context.wait_until(async move {
            let _ = resolved(remember(&name, &record, seconds as f64)).await;
            if let Some(Ok(put)) = namespace.map(|namespace| namespace.put(&in_kv(&name), &record)) {
                let _ = put.expiration_ttl(seconds.max(SHORTEST)).execute().await;
            }
        });
    }

    fn outlive(&self, work: &Promise) {
        let work = work.clone();
        self.context.wait_until(async move {
            let _ = resolved(work).await;
        });
    }
}

fn in_kv(name: &str) -> String {
    format!("jwks:{name}")
}
