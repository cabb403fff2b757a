//! What is told of requests: the id of each, what became of it, and who was refused or let into `/admin`.

use hyper::{HeaderMap, header::HeaderValue, http::request::Parts};
use nodetool_edge_auth::{Escaped, Facts, Identity, Outcome, Reason, TokenType, Verdict, is_request_id};

use crate::{
    headers::X_REQUEST_ID,
    metrics::{Counters, Lookup},
};

/// The target of lines that are always taken: an audit with gaps is none. Only those who may pass can cause them.
pub(crate) const UNLIMITED: &str = "nodetool_auth::audit";

/// Of what strangers say, no more than this stands in one line, in characters.
pub(crate) const MAX_METHOD: usize = 32;
pub(crate) const MAX_PATH: usize = 512;
const MAX_USER: usize = 128;

/// How one request is called in the log, at the upstream and by the client.
pub(crate) struct RequestId(HeaderValue);

impl RequestId {
    /// That of the client, or of a proxy in front, if it is harmless; else a new one, which is no secret.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        // To look at every name takes less than to look this one up.
        let mut given = headers.iter().filter(|(name, _)| **name == X_REQUEST_ID).map(|(_, value)| value);
        match (given.next(), given.next()) {
            (Some(one), None) if is_request_id(one.as_bytes()) => Self(one.clone()),
            _ => Self::random(),
        }
    }

    /// 128 bits in hexadecimal digits, as W3C's trace ids, from a generator that each thread has and that the standard library
    /// seeds from the system's random bytes.
    fn random() -> Self {
        let bytes = fastrand::u128(..).to_le_bytes();
        let digit = |value: u8| if value < 10 { b'0' + value } else { b'a' + value - 10 };
        let mut digits = [0; 32];
        for (digits, byte) in digits.as_chunks_mut().0.iter_mut().zip(bytes) {
            *digits = [digit(byte >> 4), digit(byte & 15)];
        }
        Self(HeaderValue::from_bytes(&digits).unwrap_or(HeaderValue::from_static("0")))
    }

    pub(crate) fn as_str(&self) -> &str {
        // It is visible ASCII, whoever made it.
        self.0.to_str().unwrap_or("0")
    }

    /// Tells it to the client, in place of what the upstream calls the request.
    pub(crate) fn tell(self, headers: &mut HeaderMap) {
        headers.insert(&X_REQUEST_ID, self.0);
    }
}

/// Counts how a request was judged, and says so where somebody should hear of it.
pub(crate) fn judged(outcome: &Outcome, facts: &Facts<'_>, id: &RequestId, peer: &str, counters: &Counters) {
    if let Some(was_remembered) = outcome.was_remembered {
        counters.lookups.add(if was_remembered { Lookup::Hit } else { Lookup::Miss });
    }
    if outcome.used_stale_keys {
        counters.stale_keys.add(0_usize);
        tracing::warn!(
            request_id = id.as_str(),
            "a token was checked with keys past their age, because newer ones cannot be had"
        );
    }
    match &outcome.verdict {
        Verdict::Pass(pass) => {
            counters.passed.add(0_usize);
            // A preflight does nothing there, and nobody sent it.
            if let (true, Some(who)) = (pass.is_admin, &pass.identity) {
                admitted(who, facts, id, peer);
            }
        }
        Verdict::Refuse(reason) => {
            counters.refused.add(*reason as usize);
            // A health check asks so, again and again, and is content with the refusal.
            if !(*reason == Reason::NoCredential && facts.path() == "/.auth/whoami") {
                refused(*reason, outcome.refused.as_ref(), facts, id, peer);
            }
        }
    }
}

/// A request that is none by HTTP itself, and is refused before anything else.
pub(crate) fn unreadable(parts: &Parts, id: &RequestId, peer: &str, counters: &Counters) {
    counters.refused.add(Reason::MalformedRequest as usize);
    refused(Reason::MalformedRequest, None, &Facts::new(parts.method.as_str(), parts.uri.path(), None), id, peer);
}

fn refused(reason: Reason, who: Option<&Identity>, facts: &Facts<'_>, id: &RequestId, peer: &str) {
    macro_rules! tell {
        ($level:ident) => {
            tracing::$level!(
                reason = reason.code(),
                method = %Escaped::new(facts.method(), MAX_METHOD),
                path = %Escaped::new(facts.path(), MAX_PATH),
                peer,
                request_id = id.as_str(),
                user_id = who.map(|who| tracing::field::display(Escaped::new(&who.user_id, MAX_USER))),
                role = who.and_then(|who| who.role.as_deref()).map(|role| tracing::field::display(Escaped::new(role, MAX_USER))),
                remedy = reason.remedy(),
                "refused"
            )
        };
    }
    // A refusal that a setting may be behind is for the operator to look at.
    if reason.remedy().is_some() { tell!(warn) } else { tell!(info) }
}

fn admitted(who: &Identity, facts: &Facts<'_>, id: &RequestId, peer: &str) {
    macro_rules! tell {
        ($target:expr) => {
            tracing::info!(
                target: $target,
                method = %Escaped::new(facts.method(), MAX_METHOD),
                path = %Escaped::new(facts.path(), MAX_PATH),
                peer,
                request_id = id.as_str(),
                token_type = who.token_type.as_str(),
                user_id = %Escaped::new(&who.user_id, MAX_USER),
                role = who.role.as_deref().map(|role| tracing::field::display(Escaped::new(role, MAX_USER))),
                "admitted to /admin"
            )
        };
    }
    match who.token_type {
        // Anyone can cause these.
        TokenType::None => tell!(module_path!()),
        TokenType::Static | TokenType::User => tell!(UNLIMITED),
    }
}

#[cfg(test)]
mod tests {
    use super::{RequestId, X_REQUEST_ID};
    use hyper::{HeaderMap, header::HeaderValue};

    #[test]
    fn ids_of_our_own_are_hexadecimal_and_differ() {
        let ids: std::collections::BTreeSet<String> =
            (0..1000).map(|_| RequestId::of(&HeaderMap::new()).as_str().to_owned()).collect();
        assert_eq!(ids.len(), 1000);
        assert!(ids.iter().all(|id| id.len() == 32 && id.bytes().all(|byte| b"0123456789abcdef".contains(&byte))));
    }

    #[test]
    fn one_harmless_id_is_taken_and_two_are_none() {
        let mut headers = HeaderMap::new();
        headers.append(&X_REQUEST_ID, HeaderValue::from_static("abc-1"));
        assert_eq!(RequestId::of(&headers).as_str(), "abc-1");
        headers.append(&X_REQUEST_ID, HeaderValue::from_static("abc-2"));
        assert_eq!(RequestId::of(&headers).as_str().len(), 32);
    }
}
