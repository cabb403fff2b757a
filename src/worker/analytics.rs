//! Analytics Engine, where it is bound as `AUTH_ANALYTICS`: a data point for each judgement.

use wasm_bindgen::{JsValue, prelude::wasm_bindgen};

use super::store::binding;
use crate::{Identity, Reason, TokenType, Verdict};

const DATASET: &str = "AUTH_ANALYTICS";

/// A method is no longer, but those that somebody made up.
const MAX_METHOD: usize = 32;

#[wasm_bindgen(module = "/src/worker/analytics.js")]
extern "C" {
    fn record(env: &JsValue, judgement: &str);
}

/// Whether anything is bound. An isolate asks once.
pub(super) fn is_bound(env: &JsValue) -> bool {
    !binding(env, DATASET).is_undefined()
}

/// What became of a request, in one crossing: nothing by which a user or a place could be told.
pub(super) fn judged(env: &JsValue, verdict: &Verdict, who: Option<&Identity>, method: &str) {
    let (verdict, reason, identity) = match verdict {
        Verdict::Pass(pass) => ("pass", "none", pass.identity.as_ref()),
        Verdict::Refuse(reason) => ("refuse", Reason::code(*reason), who),
    };
    let token_type = identity.map_or("", |identity| TokenType::as_str(identity.token_type));
    let method = if method.len() > MAX_METHOD { "other" } else { method };
    record(env, &[verdict, reason, token_type, method].join("\n"));
}
