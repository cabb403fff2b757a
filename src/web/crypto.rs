//! Signatures, by WebCrypto: an ES256 signature takes the platform a tenth of what it takes portable code in WebAssembly.

use std::{cell::RefCell, collections::BTreeMap};

use js_sys::Promise;
use wasm_bindgen::{JsValue, prelude::wasm_bindgen};

use super::{resolved, warn};
use crate::{Key, SignatureCheck, Thumbprint, Unavailable};

#[wasm_bindgen(module = "/src/web/platform.js")]
extern "C" {
    #[wasm_bindgen(js_name = importKey)]
    fn import_key(jwk: &str, algorithm: &str) -> Promise;
    fn verify(key: &JsValue, signature: &[u8], message: &[u8]) -> Promise;
}

/// More keys than any project has at once. Beyond these one starts anew.
const MAX_KEYS: usize = 64;

thread_local! {
    /// Imported keys, by thumbprint. They are settled data, and may serve any request.
    static IMPORTED: RefCell<BTreeMap<Thumbprint, JsValue>> = const { RefCell::new(BTreeMap::new()) };
}

/// Whether a signature is right. Where the platform fails, or does not take the key, that is not known.
pub(crate) async fn is_right(check: SignatureCheck<'_>) -> Result<bool, Unavailable> {
    let checked = async {
        let key = imported(check.key).await?;
        // Views of this memory, and no copies: WebCrypto takes its own before it returns.
        let is_right = resolved(verify(&key, check.signature, check.message)).await?;
        is_right.as_bool().ok_or(is_right)
    };
    checked.await.map_err(|error: JsValue| {
        warn(&format!("A signature could not be checked: {error:?}"));
        Unavailable
    })
}

async fn imported(key: &Key) -> Result<JsValue, JsValue> {
    if let Some(known) = IMPORTED.with_borrow(|keys| keys.get(&key.thumbprint).cloned()) {
        return Ok(known);
    }
    let imported = resolved(import_key(&key.to_jwk(), key.algorithm.name())).await?;
    IMPORTED.with_borrow_mut(|keys| {
        if keys.len() >= MAX_KEYS {
            keys.clear();
        }
        keys.insert(key.thumbprint, imported.clone());
    });
    Ok(imported)
}
