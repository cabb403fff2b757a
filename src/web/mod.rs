//! Requests and responses of the Fetch standard, as the Worker and JavaScript embedders have them.
//!
//! Lists cross into JavaScript as one text with an item a line: each crossing costs more than what it carries, and no
//! header holds a line feed.

pub(crate) mod crypto;
pub(crate) mod project;
pub(crate) mod promise;
pub(crate) mod request;
pub(crate) mod respond;

use js_sys::{Promise, futures::JsFuture};
use wasm_bindgen::{JsValue, prelude::wasm_bindgen};

use crate::{Facts, Finish, Forward, UnixTime};
use request::Snapshot;

#[wasm_bindgen]
extern "C" {
    /// The log of the platform.
    #[cfg(not(feature = "worker"))]
    #[wasm_bindgen(js_namespace = console)]
    pub(crate) fn warn(text: &str);
}

#[cfg(feature = "worker")]
pub(crate) use crate::worker::log::warn;

#[wasm_bindgen(module = "/src/web/platform.js")]
extern "C" {
    #[wasm_bindgen(js_name = within)]
    fn race(promise: &Promise, milliseconds: f64) -> Promise;
}

/// Headers that the platform itself keeps right on both of its connections. To drop them would lose the length of a body.
const PLATFORM_OWNED: [&str; 3] = ["host", "connection", "content-length"];

/// A text that no setting accepts, not even one that is a secret.
const UNREADABLE: &str = "\0not a text";

/// A setting as JavaScript has it: a text, number or boolean. Any other kind is as wrong as can be, and so is one that
/// throws when it is read.
pub(crate) fn setting(settings: &JsValue, name: &str) -> Option<String> {
    let Ok(value) = js_sys::Reflect::get(settings, &JsValue::from_str(name)) else {
        return Some(UNREADABLE.to_owned());
    };
    if value.is_undefined() || value.is_null() {
        return None;
    }
    let number = || value.as_f64().map(|number| number.to_string());
    let boolean = || value.as_bool().map(|boolean| boolean.to_string());
    Some(value.as_string().or_else(number).or_else(boolean).unwrap_or_else(|| UNREADABLE.to_owned()))
}

/// The clock of the platform. At the edge it stands still between I/O.
pub(crate) fn now() -> UnixTime {
    // Whole and positive.
    UnixTime::from_millis(js_sys::Date::now() as u64)
}

/// What a promise comes to.
pub(crate) async fn resolved(promise: Promise) -> Result<JsValue, JsValue> {
    JsFuture::from(promise).await
}

/// What it comes to in so many milliseconds, or `undefined`.
pub(crate) async fn within(promise: &Promise, milliseconds: f64) -> Result<JsValue, JsValue> {
    resolved(race(promise, milliseconds)).await
}

/// Waits for so many milliseconds.
pub(crate) async fn pause(milliseconds: f64) {
    let never = Promise::new(&mut |_, _| {});
    let _ = within(&never, milliseconds).await;
}

/// The names of the headers that do not go on.
pub(crate) fn dropped(snapshot: &Snapshot, facts: &Facts<'_>, plan: &Forward<'_>) -> String {
    lines(snapshot.headers().map(|(name, _)| name).filter(|name| !plan.keeps(name) && !is_platform_owned(name, facts)))
}

/// Whether a header, its name in lower case, is the platform's own affair. `Upgrade` is what makes a WebSocket of a request here,
/// and a GET of any other.
pub(crate) fn is_platform_owned(name: &str, facts: &Facts<'_>) -> bool {
    PLATFORM_OWNED.contains(&name) || (name == "upgrade" && facts.is_websocket())
}

/// The names and values of the headers that the gateway sets.
pub(crate) fn set(plan: &Forward<'_>) -> String {
    lines(plan.sets().flat_map(|(name, value)| [name, value]))
}

/// What becomes of the answer: the subprotocol of an upgrade, whether the gateway says who may read it, and who; a line each.
/// Nothing if all stays as it is.
pub(crate) fn finish(finish: &Finish) -> String {
    match finish {
        Finish { sharing: None, subprotocol: None } => String::new(),
        Finish { sharing, subprotocol } => {
            let origin = sharing.as_ref().and_then(|sharing| sharing.allow_origin.as_deref());
            let owner = if sharing.is_some() { "gateway" } else { "" };
            lines([subprotocol.unwrap_or_default(), owner, origin.unwrap_or_default()].into_iter())
        }
    }
}

pub(crate) fn lines<'a>(items: impl Iterator<Item = &'a str>) -> String {
    let mut lines = String::new();
    for (index, item) in items.enumerate() {
        if index > 0 {
            lines.push('\n');
        }
        lines.push_str(item);
    }
    lines
}
