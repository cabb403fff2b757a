//! The Supabase project: its keys, from the memory of the isolate, from where other isolates left them, or from itself;
//! and its user endpoint.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use js_sys::{Array, Promise, Uint8Array};
use wasm_bindgen::{JsCast, JsValue, prelude::wasm_bindgen};

use super::{lines, now, pause, promise::promise, resolved, warn, within};
use crate::{
    FAILURE_COOLDOWN, FetchedKeys, Jwks, KeysAnswer, MAX_JWKS, MISS_COOLDOWN, Project as Settings, Questions, USABLE_FOR,
    Unavailable, UnixTime, UserAnswer, UserQuestion, WantedKeys, lifetime,
};

#[wasm_bindgen(module = "/src/web/platform.js")]
extern "C" {
    fn exchange(fetch: &JsValue, url: &str, headers: &str, timeout: f64, limit: f64) -> Promise;
}

/// A user is a page of JSON at most.
const MAX_USER: usize = 256 * 1024;

/// Between two looks at whether another request has brought the keys, in milliseconds.
const LOOK_EVERY: f64 = 10.0;

/// Between two looks at whether there is a place for a question, in milliseconds.
const LOOK_FOR_PLACE_EVERY: f64 = 50.0;

/// For how long all the looking at what others left may take, in milliseconds.
const LOOKING: u64 = 1000;

/// How far the clocks of isolates may be apart, in milliseconds.
const SKEW: u64 = 1000;

/// Where isolates leave records for each other.
pub(crate) trait Shelf: 'static {
    /// The first record of this name, nearest place first, that is of use. No place may take more than so many milliseconds.
    async fn find<T>(&self, name: &str, patience: f64, usable: impl FnMut(&str) -> Option<T>) -> Option<T>;

    /// Leaves a record there for so many seconds, without making the request wait.
    fn leave(&self, name: &str, record: &str, seconds: u64);

    /// Lets something go on although the request for which it began is no more.
    fn outlive(&self, work: &Promise);
}

/// A Supabase project, with what was heard of it: settled data only, never anything pending.
pub(crate) struct Project {
    settings: Settings,
    /// What asks it: a function in place of the platform's own `fetch`, or nothing.
    fetch: JsValue,
    /// The last keys that any request came by.
    latest: RefCell<Option<Found>>,
    /// As of when the shelf has them, if it does.
    on_shelf: Cell<Option<UnixTime>>,
    /// When a request set out for new keys, unless it is back. It may never come back, so this counts for a while only.
    under_way: Cell<Option<UnixTime>>,
    /// When one came back with nothing.
    failed_at: Cell<Option<UnixTime>>,
    /// When fresh ones were replaced, for a key that they lacked.
    missed_at: Cell<Option<UnixTime>>,
    /// The questions that are not known to be answered.
    questions: RefCell<Questions>,
}

/// Keys, and when they were fetched.
type Found = (FetchedKeys, UnixTime);

impl Project {
    /// It is asked by that function, which does what `fetch` does, or by the platform's own.
    pub(crate) fn new(settings: Settings, fetch: JsValue) -> Rc<Self> {
        Rc::new(Self {
            settings,
            fetch,
            latest: RefCell::default(),
            on_shelf: Cell::default(),
            under_way: Cell::default(),
            failed_at: Cell::default(),
            missed_at: Cell::default(),
            questions: RefCell::default(),
        })
    }

    /// The key set: the one that is here if it is new enough, else a new one. However many ask at once, one of them
    /// fetches. No request awaits what another has under way: the others look from time to time whether it is back, and
    /// one of them sets out again if it never comes.
    pub(crate) async fn keys(self: &Rc<Self>, wanted: WantedKeys, shelf: Rc<impl Shelf>) -> KeysAnswer {
        let came = now();
        // Requests that come between such a fetch and what the gate learns of it would ask once more.
        let has_just_missed = || self.missed_at.get().is_some_and(|at| is_within(at, MISS_COOLDOWN));
        let suits = |found: &Found| is_news(found, wanted) || (has_just_missed() && is_fresh(found));
        let news = || self.latest.borrow().clone().filter(suits);
        while !news().is_some_and(|found| is_fresh(&found)) {
            if self.is_under_way() {
                if wanted.has_stand_in {
                    return KeysAnswer::UnderWay;
                }
                if !is_within(came, 2 * self.patience()) {
                    break;
                }
                pause(LOOK_EVERY).await;
                continue;
            }
            if !self.failed_at.get().is_some_and(|at| is_within(at, FAILURE_COOLDOWN)) {
                let began = now();
                self.under_way.set(Some(began));
                let work = promise(Rc::clone(self).refresh(wanted, Rc::clone(&shelf), began));
                shelf.outlive(&work);
                let _ = within(&work, self.patience() as f64).await;
            }
            break;
        }
        match news() {
            Some((keys, at)) => KeysAnswer::Fetched(keys, at),
            None => KeysAnswer::Failed(now()),
        }
    }

    /// In milliseconds, for one call.
    fn timeout(&self) -> u64 {
        self.settings.timeout * 1000
    }

    /// In milliseconds, for keys, wherever they come from.
    fn patience(&self) -> u64 {
        self.timeout() + LOOKING
    }

    fn is_under_way(&self) -> bool {
        self.under_way.get().is_some_and(|began| is_within(began, self.patience()))
    }

    async fn refresh(self: Rc<Self>, wanted: WantedKeys, shelf: Rc<impl Shelf>, began: UnixTime) -> JsValue {
        let was_fresh = self.latest.borrow().as_ref().is_some_and(is_fresh);
        let mut stand_in = None;
        match self.find(wanted, &*shelf, &mut stand_in).await {
            Ok(found) => {
                if was_fresh {
                    self.missed_at.set(Some(now()));
                }
                self.keep(found);
            }
            Err(problem) => {
                warn(&format!("The keys of the Supabase project could not be fetched: {problem}"));
                self.failed_at.set(Some(now()));
                // What other isolates knew is better than nothing.
                if let Some(found) = stand_in {
                    self.keep(found);
                }
            }
        }
        // Unless it took so long that another one has set out.
        if self.under_way.get() == Some(began) {
            self.under_way.set(None);
        }
        JsValue::UNDEFINED
    }

    /// Unless newer ones came meanwhile.
    fn keep(&self, found: Found) {
        let mut latest = self.latest.borrow_mut();
        if latest.as_ref().is_none_or(|(_, at)| *at <= found.1 || *at > now()) {
            *latest = Some(found);
        }
    }

    async fn find(&self, wanted: WantedKeys, shelf: &impl Shelf, stand_in: &mut Option<Found>) -> Result<Found, String> {
        let url = self.settings.jwks_url();
        // What must be newer than the last second is not worth the look: somebody would have had to leave it just now.
        if wanted.newer_than.is_none_or(|limit| !is_within(limit, LOOKING)) {
            let usable = |record: &str| {
                let found = unpack(record).filter(|found| is_news(found, wanted))?;
                if is_fresh(&found) {
                    return Some(found);
                }
                if stand_in.as_ref().is_none_or(|(_, at)| *at < found.1) {
                    *stand_in = Some(found);
                }
                None
            };
            if let Some(found) = shelf.find(&url, LOOKING as f64 / 2.0, usable).await {
                self.on_shelf.set(Some(found.1));
                return Ok(found);
            }
        }
        let (status, cache_control, document) = self.get(&url, "", MAX_JWKS).await?;
        let found = (FetchedKeys::in_answer(status, cache_control.as_deref(), document)?, now());
        self.leave(url, &found, shelf);
        Ok(found)
    }

    /// Not the same ones again and again: strangers can make the gateway look for keys that there are not, and to write
    /// to the shelf may cost money.
    fn leave(&self, url: String, found: &Found, shelf: &impl Shelf) {
        let (keys, at) = found;
        let lifetime = lifetime(keys.max_age);
        let is_known = self.latest.borrow().as_ref().is_some_and(|(known, _)| known.document == keys.document);
        if is_known && self.on_shelf.get().is_some_and(|since| is_within(since, lifetime / 2)) {
            return;
        }
        if let Some(record) = pack(keys, *at) {
            self.on_shelf.set(Some(*at));
            shelf.leave(&url, &record, (lifetime + USABLE_FOR) / 1000);
        }
    }

    /// What the project says of a token. Nothing of the client's goes there but the token itself.
    pub(crate) async fn user(&self, question: &UserQuestion) -> Result<UserAnswer, Unavailable> {
        let Some(number) = self.place(question).await else {
            warn("Too many questions about users at once");
            return Err(Unavailable);
        };
        let bearer = format!("Bearer {}", question.token.reveal());
        let headers = lines(["apikey", self.settings.key.reveal(), "authorization", &bearer].into_iter());
        let answer = self.get(&self.settings.user_url(), &headers, MAX_USER).await;
        self.questions.borrow_mut().end(number);
        match answer {
            Ok((status, _, body)) => Ok(UserAnswer { status, body }),
            Err(problem) => {
                warn(&format!("The user endpoint of the Supabase project could not be asked: {problem}"));
                Err(Unavailable)
            }
        }
    }

    /// A place among the questions, as soon as there is one. No request can await the end of another's, so it looks from time
    /// to time.
    async fn place(&self, question: &UserQuestion) -> Option<u64> {
        let came = now();
        loop {
            let number = self.begin(question);
            if number.is_some() || !is_within(came, self.timeout()) {
                return number;
            }
            pause(LOOK_FOR_PLACE_EVERY).await;
        }
    }

    fn begin(&self, question: &UserQuestion) -> Option<u64> {
        let mut questions = self.questions.borrow_mut();
        questions.forget(self.timeout(), now());
        questions.begin(question, now())
    }

    async fn get(&self, url: &str, headers: &str, limit: usize) -> Result<(u16, Option<String>, Vec<u8>), String> {
        let exchange = exchange(&self.fetch, url, headers, self.timeout() as f64, limit as f64);
        let answer = resolved(exchange).await.map_err(|error| format!("{error:?}"))?;
        let answer: Array = answer.dyn_into().map_err(|_| "no answer".to_owned())?;
        let status = answer.get(0).as_f64().unwrap_or(0.0) as u16;
        let body: Uint8Array = answer.get(2).dyn_into().map_err(|_| "no body".to_owned())?;
        Ok((status, answer.get(1).as_string(), body.to_vec()))
    }
}

fn is_news((_, at): &Found, wanted: WantedKeys) -> bool {
    wanted.newer_than.is_none_or(|limit| *at > limit)
}

fn is_fresh((keys, at): &Found) -> bool {
    is_within(*at, lifetime(keys.max_age))
}

/// Whether this was so many milliseconds ago at most. What is in the future was written by another clock or before this
/// one was set back: its age cannot be told, and it could count for as long.
fn is_within(at: UnixTime, milliseconds: u64) -> bool {
    let now = now();
    at <= now && now.millis_since(at) < milliseconds
}

/// Time of the fetch, `max-age`, and the document, a line each (and the rest).
fn pack(keys: &FetchedKeys, at: UnixTime) -> Option<String> {
    let document = core::str::from_utf8(&keys.document).ok()?;
    let max_age = keys.max_age.map_or(String::new(), |seconds| seconds.to_string());
    Some(format!("{}\n{max_age}\n{document}", at.as_millis()))
}

fn unpack(record: &str) -> Option<Found> {
    let mut parts = record.splitn(3, '\n');
    let (at, now) = (UnixTime::from_millis(parts.next()?.parse().ok()?), now());
    if at.millis_since(now) > SKEW {
        return None;
    }
    let at = at.min(now);
    let max_age = parts.next()?.parse().ok();
    let document = parts.next()?.as_bytes().to_vec();
    Jwks::parse(&document)?;
    Some((FetchedKeys { document, max_age }, at))
}
