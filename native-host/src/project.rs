//! The Supabase project: its keys, fetched once for all threads and refreshed before they run out, and its user endpoint.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{HeaderMap, Request, Uri, header, header::HeaderValue};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use nodetool_edge_auth::{
    FAILURE_COOLDOWN, FetchedKeys, KeysAnswer, MAX_JWKS, MISS_COOLDOWN, Project as Settings, USABLE_FOR, Unavailable, UnixTime,
    UserAnswer, UserQuestion, WantedKeys, lifetime,
};
use tokio::{
    sync::{Mutex, Semaphore},
    time::{sleep, timeout},
};

use crate::{
    clock,
    lock::locked,
    metrics::{Counters, Fetch, Question},
    questions::Questions,
};

/// A user is a page of JSON at most.
const MAX_USER: usize = 256 * 1024;

/// Requests that wait for keys at one time. Each holds its head, and needs no valid credential to wait.
const MAX_WAITING: usize = 1024;

/// Why a question got no place in time.
const TOO_MANY: &str = "too many questions at once";

/// A Supabase project, as all threads share it.
pub(crate) struct Project {
    client: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
    jwks: Uri,
    user: Uri,
    key: HeaderValue,
    timeout: Duration,
    keys: Arc<Mutex<Keys>>,
    waiting: Semaphore,
    /// When the last good ones were fetched, and for how long they are fresh. Can be read while others are fetched.
    held: std::sync::Mutex<Option<(UnixTime, u64)>>,
    counters: Arc<Counters>,
    questions: Questions,
}

#[derive(Default)]
struct Keys {
    good: Option<(FetchedKeys, UnixTime)>,
    /// When they were last asked for in vain.
    failed_at: Option<UnixTime>,
    /// When fresh ones were replaced, for a key that they lacked.
    missed_at: Option<UnixTime>,
}

impl Keys {
    fn is_fresh(&self, now: UnixTime) -> bool {
        self.good.as_ref().is_some_and(|(keys, at)| now.millis_since(*at) < lifetime(keys.max_age))
    }

    /// Takes note that the clock may have been set back. Then nobody knows how old keys from the future are, and
    /// cooldowns begin anew.
    fn set_back(&mut self, now: UnixTime) {
        self.good.take_if(|(_, at)| *at > now);
        for at in [&mut self.failed_at, &mut self.missed_at].into_iter().flatten() {
            *at = now.min(*at);
        }
    }
}

/// The settings name a URL or key that no request can carry.
#[derive(Debug, thiserror::Error)]
#[error("SUPABASE_URL or SUPABASE_KEY cannot stand in a request")]
pub(crate) struct Unusable;

impl Project {
    pub(crate) fn new(settings: &Settings, counters: Arc<Counters>) -> Result<Arc<Self>, Unusable> {
        // The roots of Mozilla come along, so that an empty container can check a certificate.
        let connector = HttpsConnectorBuilder::new().with_webpki_roots().https_or_http().enable_http1().build();
        let mut key = HeaderValue::from_str(settings.key.reveal()).map_err(|_| Unusable)?;
        key.set_sensitive(true);
        Ok(Arc::new(Self {
            client: Client::builder(TokioExecutor::new()).pool_idle_timeout(Duration::from_secs(20)).build(connector),
            jwks: settings.jwks_url().parse().map_err(|_| Unusable)?,
            user: settings.user_url().parse().map_err(|_| Unusable)?,
            key,
            timeout: Duration::from_secs(settings.timeout),
            keys: Arc::default(),
            waiting: Semaphore::new(MAX_WAITING),
            held: std::sync::Mutex::default(),
            counters,
            questions: Questions::default(),
        }))
    }

    /// The key set: the one that is here if it is new enough, else a new one. However many ask at once, one of them fetches;
    /// the others wait for it, unless they can do without.
    pub(crate) async fn keys(self: &Arc<Self>, wanted: WantedKeys) -> KeysAnswer {
        let mut keys = match Arc::clone(&self.keys).try_lock_owned() {
            Ok(keys) => keys,
            Err(_) if wanted.has_stand_in => return KeysAnswer::UnderWay,
            Err(_) => {
                let Ok(_waiting) = self.waiting.try_acquire() else { return KeysAnswer::UnderWay };
                Arc::clone(&self.keys).lock_owned().await
            }
        };
        let now = clock::now();
        keys.set_back(now);
        let is_fresh = keys.is_fresh(now);
        // Requests that come between such a fetch and what the gate learns of it would ask once more.
        let has_just_missed = keys.missed_at.is_some_and(|at| now.millis_since(at) < MISS_COOLDOWN);
        let suits = |at: UnixTime| has_just_missed || wanted.newer_than.is_none_or(|limit| at > limit);
        if let Some((good, at)) = keys.good.as_ref().filter(|(_, at)| is_fresh && suits(*at)) {
            return KeysAnswer::Fetched(good.clone(), *at);
        }
        if keys.failed_at.is_some_and(|at| now.millis_since(at) < FAILURE_COOLDOWN) {
            return KeysAnswer::Failed(now);
        }
        // On its own, since the client may go away before the answer comes. Then the next one would ask again, however
        // often: what came of it must be noted.
        let project = Arc::clone(self);
        let fetch = tokio::spawn(async move {
            let answer = project.refresh(&mut keys).await;
            if let KeysAnswer::Fetched(_, at) = answer
                && is_fresh
            {
                keys.missed_at = Some(at);
            }
            answer
        });
        fetch.await.unwrap_or(KeysAnswer::Failed(now))
    }

    async fn refresh(&self, keys: &mut Keys) -> KeysAnswer {
        let fetched = self.fetch_keys().await;
        let now = clock::now();
        keys.failed_at = None;
        match fetched {
            Ok(fetched) => {
                self.counters.key_fetches.add(Fetch::Success);
                *self.held() = Some((now, lifetime(fetched.max_age)));
                keys.good = Some((fetched.clone(), now));
                KeysAnswer::Fetched(fetched, now)
            }
            Err(problem) => {
                self.counters.key_fetches.add(Fetch::Failure);
                keys.failed_at = Some(now);
                tracing::warn!(problem, "the keys of the Supabase project could not be fetched");
                KeysAnswer::Failed(now)
            }
        }
    }

    /// How old the keys in use are, in milliseconds, if there are any. How old those from the future are, nobody knows.
    pub(crate) fn key_age(&self) -> Option<u64> {
        let (now, held) = (clock::now(), *self.held());
        held.filter(|(at, _)| *at <= now).map(|(at, _)| now.millis_since(at))
    }

    /// Whether they will do, past their age if need be.
    pub(crate) fn has_usable_keys(&self) -> bool {
        let lifetime = self.held().map_or(0, |(_, lifetime)| lifetime);
        self.key_age().is_some_and(|age| age < lifetime.saturating_add(USABLE_FOR))
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Option<(UnixTime, u64)>> {
        locked(&self.held)
    }

    async fn fetch_keys(&self) -> Result<FetchedKeys, String> {
        self.ask_for_keys().await.map(|(fetched, _)| fetched)
    }

    /// The key set as it is now, whatever is remembered, with the headers of the answer; or why there is none.
    pub(crate) async fn ask_for_keys(&self) -> Result<(FetchedKeys, HeaderMap), String> {
        let (status, headers, document) = self.get(&self.jwks, HeaderMap::new(), MAX_JWKS).await?;
        // Lines of one name are one list (RFC 9110, section 5.3), as the edge has it anyway.
        let lines = headers.get_all(header::CACHE_CONTROL).iter().filter_map(|line| line.to_str().ok());
        let cache_control = lines.collect::<Vec<_>>().join(",");
        Ok((FetchedKeys::in_answer(status, Some(&cache_control), document)?, headers))
    }

    /// What the user endpoint says to nobody: to the API key alone, without a token.
    pub(crate) async fn ask_without_token(&self) -> Result<(UserAnswer, HeaderMap), String> {
        let headers = [(header::HeaderName::from_static("apikey"), self.key.clone())];
        let (status, headers, body) = self.get(&self.user, headers.into_iter().collect(), MAX_USER).await?;
        Ok((UserAnswer::new(status, body), headers))
    }

    /// Keeps the keys fresh, so that no request waits for them.
    pub(crate) async fn keep_fresh(self: Arc<Self>) {
        loop {
            let rest = {
                let mut keys = self.keys.lock().await;
                keys.set_back(clock::now());
                // The first request may have been faster.
                if keys.good.as_ref().is_none_or(|(good, at)| clock::now().millis_since(*at) > lifetime(good.max_age) / 2) {
                    self.refresh(&mut keys).await;
                }
                match &keys.good {
                    // With a tenth of their time left, to have more than one try.
                    Some((good, at)) => (lifetime(good.max_age) * 9 / 10).saturating_sub(clock::now().millis_since(*at)),
                    None => 0,
                }
            };
            sleep(Duration::from_millis(rest.max(FAILURE_COOLDOWN))).await;
        }
    }

    /// What the project says of a token. Nothing of the client's goes there but the token itself.
    pub(crate) async fn user(&self, question: &UserQuestion) -> Result<UserAnswer, Unavailable> {
        let exchange = async {
            let _place = self.questions.place(question).await.ok_or(TOO_MANY)?;
            let mut bearer =
                HeaderValue::from_str(&format!("Bearer {}", question.token.reveal())).map_err(|error| error.to_string())?;
            bearer.set_sensitive(true);
            let headers = [(header::AUTHORIZATION, bearer), (header::HeaderName::from_static("apikey"), self.key.clone())];
            self.get(&self.user, headers.into_iter().collect(), MAX_USER).await
        };
        let answer = timeout(self.timeout, exchange).await.unwrap_or_else(|_| Err(TOO_MANY.to_owned()));
        match answer {
            Ok((status, _, body)) => {
                let answer = UserAnswer::new(status, body);
                self.counters.questions.add(Question::of(&answer));
                Ok(answer)
            }
            Err(problem) => {
                self.counters.questions.add(Question::Failure);
                tracing::warn!(problem, "the user endpoint of the Supabase project could not be asked");
                Err(Unavailable)
            }
        }
    }

    /// Redirects are not followed: they would carry the token along, or bring somebody else's keys.
    async fn get(&self, uri: &Uri, headers: HeaderMap, limit: usize) -> Result<(u16, HeaderMap, Vec<u8>), String> {
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = uri.clone();
        *request.headers_mut() = headers;
        let exchange = async {
            let response = self.client.request(request).await.map_err(|error| with_causes(&error))?;
            let (parts, body) = response.into_parts();
            let body = Limited::new(body, limit).collect().await.map_err(|error| with_causes(&*error))?;
            Ok((parts.status.as_u16(), parts.headers, body.to_bytes().to_vec()))
        };
        timeout(self.timeout, exchange).await.unwrap_or_else(|_| Err("no answer in time".to_owned()))
    }
}

/// An error with what led to it: a client alone only says that it could not connect.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{FetchedKeys, Keys};
    use nodetool_edge_auth::UnixTime;

    #[test]
    fn a_clock_that_is_set_back_leaves_no_keys_and_no_cooldown_for_later() {
        let (then, before) = (UnixTime::from_secs(5000), UnixTime::from_secs(1400));
        let good = (FetchedKeys::new(Vec::new(), None), then);
        let mut keys = Keys { good: Some(good), failed_at: Some(then), missed_at: Some(then) };
        keys.set_back(then);
        assert!(keys.is_fresh(then) && keys.failed_at == Some(then));
        keys.set_back(before);
        assert!(keys.good.is_none());
        assert_eq!((keys.failed_at, keys.missed_at), (Some(before), Some(before)));
    }
}
