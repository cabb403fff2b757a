//! The Supabase project: its keys, from the memory of the isolate, from where other isolates left them, or from itself;
//! and its user endpoint.

use std::cell::{Cell, RefCell};

use js_sys::{Array, Promise, Uint8Array};
use wasm_bindgen::{JsCast, prelude::wasm_bindgen};

use super::{lines, now, resolved, warn};
use crate::{FetchedKeys, Jwks, MAX_JWKS, Project as Settings, Secret, Unavailable, UnixTime, UserAnswer, lifetime, max_age};

#[wasm_bindgen(module = "/src/web/platform.js")]
extern "C" {
    fn exchange(url: &str, headers: &str, timeout: f64, limit: f64) -> Promise;
    fn pause(milliseconds: f64) -> Promise;
}

/// A user is a page of JSON at most.
const MAX_USER: usize = 256 * 1024;

/// Questions about users at one time, in one isolate.
const MAX_QUESTIONS: usize = 32;

/// Between two looks at whether another request has brought the keys, in milliseconds.
const LOOK_EVERY: f64 = 10.0;

/// Where isolates leave records for each other.
pub(crate) trait Shelf {
    /// The first record of this name, nearest place first, that is of use.
    async fn find<T>(&self, name: &str, usable: impl Fn(&str) -> Option<T>) -> Option<T>;

    /// Leaves a record there for so many seconds, without making the request wait.
    fn leave(&self, name: String, record: String, seconds: u64);
}

/// A Supabase project, with what was heard of it: settled data only, never anything pending.
pub(crate) struct Project {
    settings: Settings,
    /// The last keys that any request came by.
    latest: RefCell<Option<(FetchedKeys, UnixTime)>>,
    /// When a request set out for new keys, unless it is back. It may have been cut off, so this counts for a while only.
    under_way: Cell<Option<UnixTime>>,
    /// When the questions began that are not known to be answered.
    questions: RefCell<Vec<UnixTime>>,
}

impl Project {
    pub(crate) fn new(settings: Settings) -> Self {
        Self { settings, latest: RefCell::default(), under_way: Cell::default(), questions: RefCell::default() }
    }

    /// No request awaits what another has under way: those that come meanwhile look from time to time whether it is back.
    pub(crate) async fn keys(
        &self,
        newer_than: Option<UnixTime>,
        shelf: &impl Shelf,
    ) -> (Result<FetchedKeys, Unavailable>, UnixTime) {
        let is_news = |at: UnixTime| newer_than.is_none_or(|limit| at > limit);
        let limit = self.settings.timeout * 1000;
        let mut waited = false;
        while self.under_way.get().is_some_and(|began| now().millis_since(began) < limit) {
            waited = true;
            let _ = resolved(pause(LOOK_EVERY)).await;
        }
        let latest = self.latest.borrow().clone().filter(|(_, at)| is_news(*at));
        if let Some((keys, at)) = latest.filter(|(keys, at)| is_fresh(keys, *at)) {
            return (Ok(keys), at);
        }
        if waited {
            // The other one came back with nothing, a moment ago.
            return (Err(Unavailable), now());
        }
        self.under_way.set(Some(now()));
        let brought = self.bring(&is_news, shelf).await;
        self.under_way.set(None);
        match brought {
            Ok((keys, at)) => {
                self.latest.replace(Some((keys.clone(), at)));
                (Ok(keys), at)
            }
            Err(problem) => {
                warn(&format!("The keys of the Supabase project could not be fetched: {problem}"));
                (Err(Unavailable), now())
            }
        }
    }

    async fn bring(&self, is_news: &impl Fn(UnixTime) -> bool, shelf: &impl Shelf) -> Result<(FetchedKeys, UnixTime), String> {
        let url = self.settings.jwks_url();
        let usable = |record: &str| unpack(record).filter(|(keys, at)| is_news(*at) && is_fresh(keys, *at));
        if let Some(found) = shelf.find(&url, usable).await {
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
        if let Some(record) = pack(&keys, at) {
            shelf.leave(url, record, lifetime(keys.max_age) / 1000);
        }
        Ok((keys, at))
    }

    /// What the project says of a token. Nothing of the client's goes there but the token itself.
    pub(crate) async fn user(&self, token: &Secret) -> Result<UserAnswer, Unavailable> {
        let (began, limit) = (now(), self.settings.timeout * 1000);
        {
            let mut questions = self.questions.borrow_mut();
            questions.retain(|earlier| began.millis_since(*earlier) < limit);
            if questions.len() >= MAX_QUESTIONS {
                warn("Too many questions about users at once");
                return Err(Unavailable);
            }
            questions.push(began);
        }
        let bearer = format!("Bearer {}", token.reveal());
        let headers = lines(["apikey", self.settings.key.reveal(), "authorization", &bearer].into_iter());
        let answer = self.get(&self.settings.user_url(), &headers, MAX_USER).await;
        let mut questions = self.questions.borrow_mut();
        if let Some(at) = questions.iter().position(|earlier| *earlier == began) {
            questions.swap_remove(at);
        }
        match answer {
            Ok((status, _, body)) => Ok(UserAnswer { status, body }),
            Err(problem) => {
                warn(&format!("The user endpoint of the Supabase project could not be asked: {problem}"));
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
    now().millis_since(at) < lifetime(keys.max_age)
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
