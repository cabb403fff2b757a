//! Gives the gateway's own answers.

use wasm_bindgen::prelude::wasm_bindgen;

use crate::Answer;

use super::lines;

#[wasm_bindgen(module = "/src/web/platform.js")]
extern "C" {
    fn respond(status: u16, headers: &str, body: Option<&str>) -> web_sys::Response;
}

pub(crate) fn answer(answer: &Answer, method: &str) -> web_sys::Response {
    let headers = lines(answer.headers().flat_map(|(name, value)| [name, value]));
    let body = Some(&*answer.body).filter(|body| !body.is_empty() && method != "HEAD");
    respond(answer.status, &headers, body)
}
