//! The log of the Worker: a JSON object in each line, which Workers Logs takes apart into fields.

use serde::Serialize;
use wasm_bindgen::prelude::wasm_bindgen;

use crate::{Escaped, Facts, Identity, Outcome, Reason, TokenType, Verdict};

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_namespace = console, js_name = log)]
    fn console_log(line: &str);
    #[wasm_bindgen(js_namespace = console, js_name = warn)]
    fn console_warn(line: &str);
    #[wasm_bindgen(js_namespace = console, js_name = error)]
    fn console_error(line: &str);
}

/// Of what strangers say, no more than this stands in one line, in characters.
const MAX_METHOD: usize = 32;
const MAX_PATH: usize = 512;
const MAX_USER: usize = 128;

#[derive(Default, Serialize)]
struct Line<'a> {
    level: &'static str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<&'static str>,
}

pub(crate) fn warn(message: &str) {
    console_warn(&text(&Line { level: "warn", message, ..Line::default() }));
}

pub(crate) fn error(message: &str) {
    console_error(&text(&Line { level: "error", message, ..Line::default() }));
}

/// What somebody should hear of: a refusal, or who was let into `/admin`.
pub(super) fn audit(outcome: &Outcome, facts: &Facts<'_>, client: Option<&str>) {
    match &outcome.verdict {
        // That is how a health check asks whether the gateway answers.
        Verdict::Refuse(Reason::NoCredential) if facts.path() == "/.auth/whoami" => {}
        Verdict::Refuse(reason) => tell("refused", Some(*reason), outcome.refused.as_ref(), facts, client),
        // A preflight does nothing there, and nobody sent it.
        Verdict::Pass(pass) if pass.is_admin && pass.identity.is_some() => {
            tell("admitted to /admin", None, pass.identity.as_ref(), facts, client);
        }
        Verdict::Pass(_) => {}
    }
}

/// A request that is none by what the platform lets through.
pub(super) fn unreadable() {
    let reason = Some(Reason::MalformedRequest.code());
    console_log(&text(&Line { level: "info", message: "refused", reason, ..Line::default() }));
}

fn tell(message: &str, reason: Option<Reason>, who: Option<&Identity>, facts: &Facts<'_>, client: Option<&str>) {
    let escaped = |text: &str, limit| Escaped::new(text, limit).to_string();
    let remedy = reason.and_then(Reason::remedy);
    let line = Line {
        level: if remedy.is_some() { "warn" } else { "info" },
        message,
        reason: reason.map(Reason::code),
        method: Some(escaped(facts.method, MAX_METHOD)),
        path: Some(escaped(facts.path, MAX_PATH)),
        peer: client,
        request_id: facts.request_id,
        token_type: who.map(|who| TokenType::as_str(who.token_type)),
        user_id: who.map(|who| escaped(&who.user_id, MAX_USER)),
        role: who.and_then(|who| who.role.as_deref()).map(|role| escaped(role, MAX_USER)),
        remedy,
    };
    // A refusal that a setting may be behind is for the operator to look at.
    if remedy.is_some() { console_warn(&text(&line)) } else { console_log(&text(&line)) }
}

fn text(line: &Line<'_>) -> String {
    // Texts cannot fail to become JSON.
    serde_json::to_string(line).unwrap_or_default()
}
