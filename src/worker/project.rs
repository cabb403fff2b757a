//! The Supabase project: its keys, from the memory of the isolate, of the data centre, of KV, or from itself; and its
//! user endpoint.

use std::cell::{Cell, RefCell};

use js_sys::{Array, Promise, Uint8Array};
use wasm_bindgen::{JsCast, prelude::wasm_bindgen};
use worker::{Context, Delay, Env, console_warn};

use super::{resolved, store::NAMESPACE};
use crate::{
    FetchedKeys, Jwks, MAX_JWKS, Project as Settings, Secret, Unavailable, UnixTime, UserAnswer, lifetime, max_age,
    web::{lines, now},
};

#[wasm_bindgen(module = "/src/web/platform.js")]
extern "C" {
    fn exchange(url: &str, headers: &str, timeout: f64, limit: f64) -> Promise;
    fn recall(name: &str) -> Promise;
    fn remember(name: &str, value: &str, seconds: f64) -> Promise;
}

/// A user is a page of JSON at most.
const MAX_USER: usize = 256 * 1024;

/// Questions about users at one time, in one isolate.
const MAX_QUESTIONS: usize = 32;

/// Between two looks at whether another request has brought the keys, in milliseconds.
const LOOK_EVERY: u64 = 10;

thread_local! {
    /// The last keys that any request of this isolate came by.
    static LATEST: RefCell<Option<(FetchedKeys, UnixTime)>> = const { RefCell::new(None) };
    /// When a request set out for new keys, unless it is back. It may have been cut off, so this counts for a while only.
    static UNDER_WAY: Cell<Option<UnixTime>> = const { Cell::new(None) };
    /// When the questions began that are not known to be answered.
    static QUESTIONS: RefCell<Vec<UnixTime>> = const { RefCell::new(Vec::new()) };
}

pub(super) struct Project<'a> {
    pub(super) settings: &'a Settings,
    pub(super) env: &'a Env,
    pub(super) context: &'a Context,
}

impl Project<'_> {
    /// No request awaits what another has under way: those that come meanwhile look from time to time whether it is back.
    pub(super) async fn keys(&self, newer_than: Option<UnixTime>) -> (Result<FetchedKeys, Unavailable>, UnixTime) {
        let is_news = |at: UnixTime| newer_than.is_none_or(|limit| at > limit);
        let limit = self.settings.timeout * 1000;
        let mut waited = false;
        while UNDER_WAY.get().is_some_and(|began| began <= now() && now().millis_since(began) < limit) {
            waited = true;
            Delay::from(std::time::Duration::from_millis(LOOK_EVERY)).await;
        }
        let latest = LATEST.with_borrow(Clone::clone).filter(|(_, at)| is_news(*at));
        if let Some((keys, at)) = latest.filter(|(keys, at)| is_fresh(keys, *at)) {
            return (Ok(keys), at);
        }
        if waited {
            // The other one came back with nothing, a moment ago.
            return (Err(Unavailable), now());
        }
        UNDER_WAY.set(Some(now()));
        let brought = self.bring(&is_news).await;
        UNDER_WAY.set(None);
        match brought {
            Ok((keys, at)) => {
                LATEST.set(Some((keys.clone(), at)));
                (Ok(keys), at)
            }
            Err(problem) => {
                console_warn!("The keys of the Supabase project could not be fetched: {}", problem);
                (Err(Unavailable), now())
            }
        }
    }

    async fn bring(&self, is_news: &impl Fn(UnixTime) -> bool) -> Result<(FetchedKeys, UnixTime), String> {
        let url = self.settings.jwks_url();
        let usable = |record: String| unpack(&record).filter(|(keys, at)| is_news(*at) && is_fresh(keys, *at));
        if let Some(found) = resolved(recall(&url)).await.ok().and_then(|record| record.as_string()).and_then(usable) {
            return Ok(found);
        }
        let name = format!("jwks:{url}");
        if let Ok(namespace) = self.env.kv(NAMESPACE)
            && let Ok(Some(record)) = namespace.get(&name).text().await
            && let Some(found) = usable(record)
        {
            return Ok(found);
        }
        let (status, cache_control, document) = self.get(&url, "", MAX_JWKS).await?;
        if status != 200 {
            return Err(format!("the server answered {status}"));
        }
        if Jwks::parse(&document).is_none() {
            return Err("the answer is not a key set".to_owned());
        }
        let keys = FetchedKeys { document, max_age: cache_control.as_deref().and_then(max_age) };
        let at = now();
        self.keep(url, name, &keys, at);
        Ok((keys, at))
    }

    /// For the other isolates, after the answer.
    fn keep(&self, url: String, name: String, keys: &FetchedKeys, at: UnixTime) {
        let Some(record) = pack(keys, at) else { return };
        let seconds = lifetime(keys.max_age) / 1000;
        let namespace = self.env.kv(NAMESPACE).ok();
        self.context.wait_until(async move {
            // A cache that takes nothing is only slower.
            let _ = resolved(remember(&url, &record, seconds as f64)).await;
            if let Some(Ok(put)) = namespace.map(|namespace| namespace.put(&name, &record)) {
                let _ = put.expiration_ttl(seconds.max(60)).execute().await;
            }
        });
    }

    /// What the project says of a token. Nothing of the client's goes there but the token itself.
    pub(super) async fn user(&self, token: &Secret) -> Result<UserAnswer, Unavailable> {
        let (began, limit) = (now(), self.settings.timeout * 1000);
        let is_admitted = QUESTIONS.with_borrow_mut(|questions| {
            questions.retain(|earlier| began.millis_since(*earlier) < limit);
            let is_admitted = questions.len() < MAX_QUESTIONS;
            if is_admitted {
                questions.push(began);
            }
            is_admitted
        });
        if !is_admitted {
            console_warn!("Too many questions about users at once");
            return Err(Unavailable);
        }
        let bearer = format!("Bearer {}", token.reveal());
        let headers = lines(["apikey", self.settings.key.reveal(), "authorization", &bearer].into_iter());
        let answer = self.get(&self.settings.user_url(), &headers, MAX_USER).await;
        QUESTIONS.with_borrow_mut(|questions| {
            if let Some(at) = questions.iter().position(|earlier| *earlier == began) {
                questions.swap_remove(at);
            }
        });
        match answer {
            Ok((status, _, body)) => Ok(UserAnswer { status, body }),
            Err(problem) => {
                console_warn!("The user endpoint of the Supabase project could not be asked: {}", problem);
                Err(Unavailable)
            }
        }
    }

    async fn get(&self, url: &str, headers: &str, limit: usize) -> Result<(u16, Option<String>, Vec<u8>), String> {
        let timeout = self.settings.timeout as f64 * 1000.0;
        let answer = resolved(exchange(url, headers, timeout, limit as f64)).await.map_err(|error| format!("{error:?}"))?;
        let answer: Array = answer.dyn_into().map_err(|_| "no answer".to_owned())?;
        let status = answer.get(0).as_f64().unwrap_or(0.0) as u16;
        let body: Uint8Array = answer.get(2).dyn_into().map_err(|_| "no body".to_owned())?;
        Ok((status, answer.get(1).as_string(), body.to_vec()))
    }
}

fn is_fresh(keys: &FetchedKeys, at: UnixTime) -> bool {
    let now = now();
    // Whoever wrote a record from the future, its age cannot be told, and it could stay fresh for as long.
    at <= now && now.millis_since(at) < lifetime(keys.max_age)
}

/// Time of the fetch, `max-age`, and the document, a line each (and the rest).
fn pack(keys: &FetchedKeys, at: UnixTime) -> Option<String> {
    let document = core::str::from_utf8(&keys.document).ok()?;
    let max_age = keys.max_age.map_or(String::new(), |seconds| seconds.to_string());
    Some(format!("{}\n{max_age}\n{document}", at.as_millis()))
}

fn unpack(record: &str) -> Option<(FetchedKeys, UnixTime)> {
    let mut parts = record.splitn(3, '\n');
    let at = UnixTime::from_millis(parts.next()?.parse().ok()?);
    let max_age = parts.next()?.parse().ok();
    let document = parts.next()?.as_bytes().to_vec();
    Jwks::parse(&document)?;
    Some((FetchedKeys { document, max_age }, at))
}
