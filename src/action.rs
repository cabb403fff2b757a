//! From a verdict to what its host does: answer, or forward with these headers.

use alloc::{borrow::Cow, string::String};

use serde::Serialize;

use crate::{
    facts::{Asker, Facts, Scheme, is_spelling_of},
    policy::{ALWAYS_PUBLIC, Policy},
    time::UnixTime,
    verdict::{Destination, Identity, Pass, Reason, Verdict},
};

/// What a host does with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action<'a> {
    /// Answers it.
    Respond(Answer),
    /// Sends it to the upstream.
    Forward(Forward<'a>),
}

impl<'a> Action<'a> {
    /// What follows from a verdict on these facts. `now` is shown by the built-in health answer.
    pub fn of(verdict: &'a Verdict, policy: &Policy, facts: &Facts<'a>, now: UnixTime) -> Self {
        match verdict {
            Verdict::Refuse(reason) if facts.asker != Asker::Client => Self::Respond(Answer::refusal(*reason).for_proxy()),
            Verdict::Pass(pass) if facts.asker != Asker::Client => Self::Respond(Answer::verified(pass.identity.as_ref())),
            Verdict::Refuse(reason) => Self::Respond(Answer::refusal(*reason)),
            Verdict::Pass(Pass { identity: Some(identity), to: Destination::Whoami }) => Self::Respond(Answer::whoami(identity)),
            Verdict::Pass(pass) if policy.has_upstream => Self::Forward(Forward::new(pass.identity.as_ref(), policy, facts)),
            Verdict::Pass(pass) => Self::Respond(Answer::built_in(pass.identity.as_ref(), facts, now)),
        }
    }
}

/// An answer that the gateway itself makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The JSON body. Not sent in answer to `HEAD`.
    pub body: Cow<'static, str>,
    extra: Option<(&'static str, &'static str)>,
    /// Whom a proxy is told that it serves.
    identity: Option<Identity>,
}

/// The answer to every request while the settings are wrong.
pub const MISCONFIGURED: Answer = Answer::new(500, r#"{"detail":"Authentication is misconfigured"}"#);

impl Answer {
    const fn new(status: u16, body: &'static str) -> Self {
        Self { status, body: Cow::Borrowed(body), extra: None, identity: None }
    }

    const fn with(mut self, name: &'static str, value: &'static str) -> Self {
        self.extra = Some((name, value));
        self
    }

    /// The header lines, with names in lower case. The length of the body is for the host to say.
    pub fn headers(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let content_type = (!self.body.is_empty()).then_some(("content-type", "application/json"));
        let own = content_type.into_iter().chain([("cache-control", "no-store")]).chain(self.extra);
        own.chain(identity_headers(self.identity.as_ref()))
    }

    /// The yes to a proxy. Nothing but a 200 is one for all of them.
    fn verified(identity: Option<&Identity>) -> Self {
        Self { identity: identity.cloned(), ..Self::new(200, "") }
    }

    /// The same refusal to a proxy, which takes any other status for a fault of the gateway.
    pub(crate) const fn for_proxy(mut self) -> Self {
        self.status = match self.status {
            401 | 403 | 503 => return self,
            500.. => 503,
            _ => 403,
        };
        // What it says there is about a status that it no longer has.
        self.extra = None;
        self
    }

    /// 502: the upstream cannot be reached, or broke off before it answered.
    pub const fn upstream_unavailable() -> Self {
        Self::new(502, r#"{"detail":"Upstream unavailable"}"#)
    }

    /// 504: the upstream took longer than `UPSTREAM_TIMEOUT` to begin its answer.
    pub const fn upstream_timed_out() -> Self {
        Self::new(504, r#"{"detail":"Upstream timed out"}"#)
    }

    /// What the client is told of a refusal: no more than it can act on.
    pub const fn refusal(reason: Reason) -> Self {
        const CHALLENGE: &str = "www-authenticate";
        match reason {
            Reason::MalformedRequest | Reason::NoSubject => Self::new(400, r#"{"detail":"Malformed request"}"#),
            Reason::ForbiddenMethod => {
                Self::new(405, r#"{"detail":"Method Not Allowed"}"#).with("allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")
            }
            Reason::NoCredential => {
                Self::new(401, r#"{"detail":"Authorization header required. Use 'Authorization: Bearer YOUR_TOKEN'"}"#)
                    .with(CHALLENGE, "Bearer")
            }
            Reason::MalformedCredential => {
                Self::new(401, r#"{"detail":"Invalid authorization header format. Use 'Authorization: Bearer YOUR_TOKEN'"}"#)
                    .with(CHALLENGE, r#"Bearer error="invalid_request""#)
            }
            Reason::ExpiredToken => Self::new(401, r#"{"detail":"Invalid authentication token"}"#)
                .with(CHALLENGE, r#"Bearer error="invalid_token", error_description="The access token expired""#),
            Reason::InvalidToken
            | Reason::ExpiredStaticToken
            | Reason::MalformedToken
            | Reason::ForbiddenTokenHeader
            | Reason::UnsupportedAlgorithm
            | Reason::UnacceptableClaims
            | Reason::BadSignature
            | Reason::UnknownKey
            | Reason::UserRefused => {
                Self::new(401, r#"{"detail":"Invalid authentication token"}"#).with(CHALLENGE, r#"Bearer error="invalid_token""#)
            }
            Reason::NoTokenConfigured => Self::new(503, r#"{"detail":"No authentication token is configured"}"#),
            Reason::StoreUnavailable | Reason::KeysUnavailable | Reason::UserUnavailable | Reason::ApiKeyRefused => {
                Self::new(503, r#"{"detail":"Authentication service unavailable"}"#).with("retry-after", "5")
            }
            Reason::StoreMisconfigured => MISCONFIGURED,
            Reason::NotAnAdmin => {
                Self::new(403, r#"{"detail":"Admin access required"}"#).with(CHALLENGE, r#"Bearer error="insufficient_scope""#)
            }
            Reason::NoAdminToken => Self::new(403, r#"{"detail":"Admin token required. Use X-Admin-Token header."}"#)
                .with(CHALLENGE, r#"Bearer error="insufficient_scope""#),
            Reason::InvalidAdminToken => {
                Self::new(403, r#"{"detail":"Invalid admin token."}"#).with(CHALLENGE, r#"Bearer error="insufficient_scope""#)
            }
            Reason::TerminalNotServed | Reason::NoSuchOwnPath => Self::new(404, r#"{"detail":"Not Found"}"#),
            Reason::OwnPathMethod => Self::new(405, r#"{"detail":"Method Not Allowed"}"#).with("allow", "GET"),
        }
    }

    fn whoami(identity: &Identity) -> Self {
        Self::json(&Whoami {
            user_id: &identity.user_id,
            token_type: identity.token_type.as_str(),
            role: identity.role.as_deref(),
        })
    }

    /// What the gateway answers when there is no API behind it.
    fn built_in(identity: Option<&Identity>, facts: &Facts<'_>, now: UnixTime) -> Self {
        if identity.is_none() && ALWAYS_PUBLIC.contains(&facts.path) {
            return Self::json(&Health { status: "healthy", timestamp: now.to_rfc3339() });
        }
        Self::json(&Echo {
            user_id: identity.map(|identity| &*identity.user_id),
            token_type: identity.map(|identity| identity.token_type.as_str()),
            role: identity.and_then(|identity| identity.role.as_deref()),
            method: facts.method,
            path: facts.path,
        })
    }

    fn json(body: &impl Serialize) -> Self {
        // Structs of strings cannot fail to serialize; if they did, nobody would be let in by it.
        serde_json::to_string(body).map_or(MISCONFIGURED, |body| Self { body: Cow::Owned(body), ..Self::new(200, "") })
    }
}

#[derive(Serialize)]
struct Whoami<'a> {
    user_id: &'a str,
    token_type: &'a str,
    role: Option<&'a str>,
}

#[derive(Serialize)]
struct Health {
    status: &'static str,
    timestamp: String,
}

#[derive(Serialize)]
struct Echo<'a> {
    user_id: Option<&'a str>,
    token_type: Option<&'a str>,
    role: Option<&'a str>,
    method: &'a str,
    path: &'a str,
}

/// How a request goes on to the upstream: its method, path, query and body as they are, its headers as said here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forward<'a> {
    identity: Option<&'a Identity>,
    keeps_authorization: bool,
    /// What `Connection` names beyond itself.
    connection: alloc::vec::Vec<&'a [u8]>,
    peer: Option<&'a str>,
    scheme: Scheme,
    host: Option<&'a str>,
}

impl<'a> Forward<'a> {
    fn new(identity: Option<&'a Identity>, policy: &Policy, facts: &Facts<'a>) -> Self {
        let host = match facts.host {
            crate::Field::One(host) => {
                core::str::from_utf8(host).ok().filter(|host| host.bytes().all(|byte| byte.is_ascii_graphic()))
            }
            _ => None,
        };
        Self {
            identity,
            keeps_authorization: policy.forwards_authorization,
            connection: facts.connection.clone(),
            peer: facts.peer,
            scheme: facts.scheme,
            host: host.filter(|host| !host.is_empty()),
        }
    }

    /// Whether a header that the client sent goes on to the upstream. A name counts in every spelling that some
    /// server reads as the same: in any case, and with `_` or another sign for `-`.
    ///
    /// `Content-Length` and `Transfer-Encoding` are not kept, because whoever sends the body frames it anew.
    pub fn keeps(&self, name: &str) -> bool {
        if self.connection.iter().any(|value| is_listed(value, name)) {
            return false;
        }
        if is_spelling_of(name, "authorization") {
            return self.keeps_authorization;
        }
        let is_override = || self.identity.is_none() && METHOD_OVERRIDES.iter().any(|known| is_spelling_of(name, known));
        !(is_dropped(name) || is_override())
    }

    /// The headers that the gateway itself sets, after those of the client were dropped.
    pub fn sets(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let set =
            [("x-forwarded-for", self.peer), ("x-forwarded-proto", Some(self.scheme.as_str())), ("x-forwarded-host", self.host)];
        identity_headers(self.identity).chain(set.into_iter().filter_map(|(name, value)| value.map(|value| (name, value))))
    }
}

/// Who somebody is, in the words that upstreams read.
fn identity_headers(identity: Option<&Identity>) -> impl Iterator<Item = (&'static str, &str)> {
    let set = [
        ("x-user-id", identity.map(|identity| &*identity.user_id)),
        ("x-auth-token-type", identity.map(|identity| identity.token_type.as_str())),
        ("x-auth-role", identity.and_then(|identity| identity.role.as_deref())),
    ];
    set.into_iter().filter_map(|(name, value)| value.map(|value| (name, value)))
}

/// Headers that tell an upstream to take one method for another: a request that nobody vouches for is what it says it is.
const METHOD_OVERRIDES: [&str; 3] = ["x-http-method-override", "x-http-method", "x-method-override"];

/// What never goes on: what the gateway says itself, what names another path or client than the one that was judged,
/// and what concerns this connection only (RFC 9110, section 7.6.1).
fn is_dropped(name: &str) -> bool {
    // By the first letter: most headers of a request are none of these.
    let candidates: &[&str] = match name.as_bytes().first().map(u8::to_ascii_lowercase) {
        Some(b'x') => {
            if name.get(..12).is_some_and(|start| is_spelling_of(start, "x-forwarded-")) {
                return true;
            }
            &[
                "x-user-id",
                "x-auth-token-type",
                "x-auth-role",
                "x-admin-token",
                "x-real-ip",
                "x-original-url",
                "x-original-uri",
                "x-original-method",
                "x-rewrite-url",
            ]
        }
        Some(b'c') => &["connection", "content-length"],
        Some(b'e') => &["expect"],
        Some(b'f') => &["forwarded"],
        Some(b'h') => &["host", "http2-settings"],
        Some(b'k') => &["keep-alive"],
        Some(b'p') => &["proxy-connection", "proxy-authorization", "proxy-authenticate"],
        Some(b't') => &["te", "trailer", "transfer-encoding"],
        Some(b'u') => &["upgrade"],
        _ => &[],
    };
    candidates.iter().any(|candidate| is_spelling_of(name, candidate))
}

fn is_listed(connection: &[u8], name: &str) -> bool {
    connection.split(|byte| *byte == b',').any(|listed| listed.trim_ascii().eq_ignore_ascii_case(name.as_bytes()))
}
