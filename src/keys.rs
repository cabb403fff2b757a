//! The public keys of a project as far as they are known: how long they hold, and when others are asked for.

mod jwks;
mod key;

use alloc::sync::Arc;

use crate::time::UnixTime;

pub(crate) use jwks::SelectedKey;
pub use jwks::{Jwks, MAX_JWKS};
#[cfg(feature = "rustcrypto")]
pub(crate) use key::MAX_RSA_BITS;
pub use key::{Algorithm, Key, Material, Thumbprint};

/// Between two refetches because of a key that the known set lacks, in milliseconds.
pub const MISS_COOLDOWN: u64 = 30_000;

/// After a fetch that failed, in milliseconds: what `Retry-After` tells clients.
pub const FAILURE_COOLDOWN: u64 = 5_000;

/// How long keys hold at most, in milliseconds.
const MAX_AGE: u64 = 600_000;

/// For how long keys past their age stand in for a server that does not answer, in milliseconds.
pub const USABLE_FOR: u64 = 3_600_000;

/// The keys of a project as far as they are known.
#[derive(Clone, Debug, Default)]
pub(crate) struct KnownKeys {
    held: Option<Held>,
    /// When keys were last asked for, and whether any came.
    attempt: Option<(UnixTime, bool)>,
    /// When they were last asked for although the known ones were fresh.
    missed_at: Option<UnixTime>,
}

/// What an attempt to fetch keys came to.
#[derive(Clone, Debug)]
pub(crate) struct KeyNews {
    /// The keys and their `max-age` in seconds, if any came.
    pub(crate) keys: Option<(Arc<Jwks>, Option<u64>)>,
    pub(crate) at: UnixTime,
    /// Whether it was for a key that fresh keys lacked.
    pub(crate) for_missing: bool,
}

#[derive(Clone, Debug)]
struct Held {
    keys: Arc<Jwks>,
    /// When they were fetched; never, if they were pinned.
    at: Option<UnixTime>,
    /// Milliseconds.
    max_age: u64,
}

/// What is known about the key that a token names.
pub(crate) enum Lookup {
    /// Here it is. If it should be fresher than it is, that is said.
    Found { key: SelectedKey, is_stale: bool },
    /// It may be among newer keys. Perhaps one past its age would do.
    Ask { has_stand_in: bool },
    /// There is no such key.
    Unknown,
    /// Nobody can say.
    Unavailable,
}

impl KnownKeys {
    /// Keys that hold for good.
    pub(crate) fn pinned(keys: Jwks) -> Self {
        Self { held: Some(Held { keys: Arc::new(keys), at: None, max_age: u64::MAX }), ..Self::default() }
    }

    /// When the keys were fetched, if there are any that were.
    pub(crate) fn fetched_at(&self) -> Option<UnixTime> {
        self.held.as_ref().and_then(|held| held.at)
    }

    /// `may_ask` is false once keys were asked for on behalf of this very request.
    pub(crate) fn look_up(&self, algorithm: Algorithm, id: Option<&str>, now: UnixTime, may_ask: bool) -> Lookup {
        let Some(held) = self.held.as_ref().filter(|held| held.at.is_none()) else {
            return self.look_up_fetched(algorithm, id, now, may_ask);
        };
        held.keys.select(algorithm, id).map_or(Lookup::Unknown, |key| Lookup::Found { key, is_stale: false })
    }

    fn look_up_fetched(&self, algorithm: Algorithm, id: Option<&str>, now: UnixTime, may_ask: bool) -> Lookup {
        let age = |held: &Held| held.at.map_or(0, |at| now.millis_since(at));
        let is_fresh = self.is_fresh(now);
        let usable = self.held.as_ref().filter(|held| age(held) < held.max_age.saturating_add(USABLE_FOR));
        let found = usable.and_then(|held| held.keys.select(algorithm, id));
        let has_failed = self.attempt.is_some_and(|(_, succeeded)| !succeeded);
        let may_ask = may_ask
            && !(has_failed && self.attempt.is_some_and(|(at, _)| now.millis_since(at) < FAILURE_COOLDOWN))
            && !(is_fresh && self.missed_at.is_some_and(|at| now.millis_since(at) < MISS_COOLDOWN));
        match found {
            Some(key) if is_fresh => Lookup::Found { key, is_stale: false },
            found if may_ask => Lookup::Ask { has_stand_in: found.is_some() },
            Some(key) => Lookup::Found { key, is_stale: true },
            None if is_fresh && !has_failed => Lookup::Unknown,
            None => Lookup::Unavailable,
        }
    }

    pub(crate) fn is_fresh(&self, now: UnixTime) -> bool {
        self.held.as_ref().is_some_and(|held| held.at.is_none_or(|at| now.millis_since(at) < held.max_age))
    }

    /// Newer keys, or the failure to get any, which leaves the known ones as they are.
    pub(crate) fn learn(&mut self, news: KeyNews) {
        let KeyNews { keys, at, for_missing } = news;
        // Requests overlap: an older answer must not undo a newer one. Keys that somebody else fetched before an attempt
        // failed here are none the worse for it.
        if self.attempt.is_none_or(|(known, _)| known <= at) {
            self.attempt = Some((at, keys.is_some()));
            if for_missing && keys.is_some() {
                self.missed_at = Some(at);
            }
        }
        if let Some((keys, max_age)) = keys
            && self.fetched_at().is_none_or(|known| known <= at)
        {
            self.held = Some(Held { keys, at: Some(at), max_age: lifetime(max_age) });
        }
    }

    /// Takes note that the clock may have been set back. Then nobody knows how old keys from the future are: newer ones
    /// are asked for, and these stand in as in an outage. Cooldowns begin anew. Else keys would stay fresh, and nobody
    /// would be asked, until the old time comes again.
    pub(crate) fn set_back(&mut self, now: UnixTime) {
        if let Some(Held { at: Some(at), max_age, .. }) = &mut self.held
            && *at > now
        {
            *at = now.before(*max_age);
        }
        let attempt = self.attempt.as_mut().map(|(at, _)| at);
        for at in [attempt, self.missed_at.as_mut()].into_iter().flatten() {
            *at = now.min(*at);
        }
    }
}

/// How long keys hold, in milliseconds, whose answer had this `max-age`: at most ten minutes, since Supabase's own edge
/// keeps them for ten more, and not so short that every request would fetch them.
pub fn lifetime(max_age: Option<u64>) -> u64 {
    max_age.map_or(MAX_AGE, |seconds| seconds.saturating_mul(1000)).clamp(MISS_COOLDOWN, MAX_AGE)
}

/// The `max-age` of a `Cache-Control` header, in seconds (RFC 9111, section 5.2.2.1); 0 if it must not be kept.
pub(crate) fn max_age(cache_control: &str) -> Option<u64> {
    let directives = || cache_control.split(',').map(str::trim);
    if directives().any(|directive| directive.eq_ignore_ascii_case("no-store") || directive.eq_ignore_ascii_case("no-cache")) {
        return Some(0);
    }
    directives().find_map(|directive| {
        let (name, value) = directive.split_once('=')?;
        if !name.trim().eq_ignore_ascii_case("max-age") {
            return None;
        }
        value.trim().trim_matches('"').parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::{Algorithm, Jwks, KeyNews, KnownKeys, Lookup, max_age};
    use crate::time::UnixTime;
    use alloc::{format, string::String, sync::Arc, vec::Vec};

    pub(super) const POINT: &str =
        r#""x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0""#;

    pub(super) fn set(ids: &[&str]) -> Jwks {
        let keys: Vec<String> = ids.iter().map(|id| format!(r#"{{"kty":"EC","crv":"P-256","kid":"{id}",{POINT}}}"#)).collect();
        Jwks::parse(format!(r#"{{"keys":[{}]}}"#, keys.join(",")).as_bytes()).unwrap()
    }

    fn news(ids: Option<&[&str]>, at: u64, for_missing: bool) -> KeyNews {
        KeyNews { keys: ids.map(|ids| (Arc::new(set(ids)), None)), at: UnixTime::from_secs(at), for_missing }
    }

    fn look(keys: &KnownKeys, id: &str, at: u64) -> &'static str {
        match keys.look_up(Algorithm::Es256, Some(id), UnixTime::from_secs(at), true) {
            Lookup::Found { is_stale: false, .. } => "found",
            Lookup::Found { is_stale: true, .. } => "stale",
            Lookup::Ask { .. } => "ask",
            Lookup::Unknown => "unknown",
            Lookup::Unavailable => "unavailable",
        }
    }

    #[test]
    fn one_refetch_for_a_missing_key_and_no_other_for_thirty_seconds() {
        let mut keys = KnownKeys::default();
        assert_eq!(look(&keys, "a", 1000), "ask");
        keys.learn(news(Some(&["a"]), 1000, false));
        assert_eq!((look(&keys, "a", 1000), look(&keys, "b", 1000)), ("found", "ask"));
        keys.learn(news(Some(&["a"]), 1001, true));
        assert_eq!((look(&keys, "b", 1030), look(&keys, "c", 1030)), ("unknown", "unknown"));
        assert_eq!((look(&keys, "b", 1031), look(&keys, "a", 1031)), ("ask", "found"));
    }

    #[test]
    fn an_outage_costs_no_key_for_an_hour_and_is_never_a_no() {
        let mut keys = KnownKeys::default();
        keys.learn(news(Some(&["a"]), 0, false));
        assert_eq!((look(&keys, "a", 599), look(&keys, "a", 600)), ("found", "ask"));
        keys.learn(news(None, 600, false));
        assert_eq!((look(&keys, "a", 604), look(&keys, "b", 604)), ("stale", "unavailable"));
        assert_eq!(look(&keys, "a", 605), "ask");
        for at in [605, 2000, 4199] {
            keys.learn(news(None, at, false));
            assert_eq!((look(&keys, "a", at), look(&keys, "b", at)), ("stale", "unavailable"), "{at}");
        }
        assert_eq!(look(&keys, "a", 4200), "unavailable");
        keys.learn(news(Some(&["b"]), 4300, false));
        assert_eq!((look(&keys, "b", 4300), look(&keys, "a", 4300)), ("found", "ask"));
    }

    #[test]
    fn what_comes_late_does_not_undo_what_came_before() {
        let mut keys = KnownKeys::default();
        keys.learn(news(Some(&["new"]), 10, false));
        keys.learn(news(Some(&["old"]), 9, false));
        keys.learn(news(None, 8, false));
        assert_eq!(look(&keys, "new", 10), "found");
    }

    #[test]
    fn pinned_keys_are_all_there_is() {
        let keys = KnownKeys::pinned(set(&["a"]));
        assert_eq!((look(&keys, "a", 1 << 40), look(&keys, "b", 0)), ("found", "unknown"));
    }

    #[test]
    fn cache_control() {
        for (header, expected) in [
            ("public, max-age=600", Some(600)),
            ("Max-Age=\"5\"", Some(5)),
            ("no-store", Some(0)),
            ("max-age=60, no-cache", Some(0)),
            ("public", None),
            ("max-age=soon", None),
            ("", None),
        ] {
            assert_eq!(max_age(header), expected, "{header}");
        }
    }
}
