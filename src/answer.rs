//! The answers that the gateway itself makes.

use alloc::{
    borrow::{Cow, ToOwned},
    string::{String, ToString},
    vec::Vec,
};

use serde::Serialize;

use crate::{
    cors::{self, Sharing},
    facts::{Asker, Facts},
    forward::identity_headers,
    time::UnixTime,
    verdict::{Destination, Identity, Pass, Reason, Verdict},
};

/// An answer that the gateway itself makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The JSON body. Not sent in answer to `HEAD`.
    pub body: Cow<'static, str>,
    extra: Option<(&'static str, &'static str)>,
    /// What is said in words of the moment.
    more: Vec<(&'static str, String)>,
    /// Whom a proxy is told that it serves.
    identity: Option<Identity>,
}

/// The answer to every request while the settings are wrong.
pub const MISCONFIGURED: Answer = Answer::new(500, r#"{"detail":"Authentication is misconfigured"}"#);

impl Answer {
    const fn new(status: u16, body: &'static str) -> Self {
        Self { status, body: Cow::Borrowed(body), extra: None, more: Vec::new(), identity: None }
    }

    /// What the gateway itself says to a verdict.
    pub(crate) fn to(verdict: &Verdict, facts: &Facts<'_>, now: UnixTime) -> Self {
        match verdict {
            Verdict::Pass(pass) if facts.asker != Asker::Client => Self::verified(pass.identity.as_ref()),
            Verdict::Refuse(reason) => {
                let refusal = match reason {
                    Reason::TooManyFailures => Self::too_many_failures(facts),
                    reason => Self::refusal(*reason),
                };
                if facts.asker == Asker::Client { refusal } else { refusal.for_proxy() }
            }
            Verdict::Pass(Pass { to: Destination::Preflight, .. }) => Self::preflight(facts),
            Verdict::Pass(Pass { identity: Some(identity), to: Destination::Whoami, .. }) => Self::whoami(identity),
            Verdict::Pass(Pass { to: Destination::Health, .. }) => {
                Self::json(&Health { status: "healthy", timestamp: now.to_rfc3339() })
            }
            Verdict::Pass(pass) => Self::built_in(pass.identity.as_ref(), facts),
        }
    }

    const fn with(mut self, name: &'static str, value: &'static str) -> Self {
        self.extra = Some((name, value));
        self
    }

    /// The header lines, with names in lower case. The length of the body is for the host to say.
    pub fn headers(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let content_type = (!self.body.is_empty()).then_some(("content-type", "application/json"));
        let own = content_type.into_iter().chain([("cache-control", "no-store")]).chain(self.extra);
        let own = own.chain(self.more.iter().map(|(name, value)| (*name, &**value)));
        own.chain(identity_headers(self.identity.as_ref()))
    }

    /// The yes to a proxy. Nothing but a 200 is one for all of them.
    fn verified(identity: Option<&Identity>) -> Self {
        Self { identity: identity.cloned(), ..Self::new(200, "") }
    }

    /// The same answer as a page may read it, or not. Of a refusal it may read why.
    #[must_use]
    pub fn shared(mut self, sharing: Option<&Sharing>) -> Self {
        let Some(sharing) = sharing else { return self };
        self.more.push(("vary", "Origin".to_owned()));
        if let Some(origin) = &sharing.allow_origin {
            self.more.push(("access-control-allow-origin", origin.clone()));
            if self.status >= 400 {
                let says_when = self.headers().any(|(name, _)| name == "retry-after");
                let exposed = if says_when { "WWW-Authenticate, Retry-After" } else { "WWW-Authenticate" };
                self.more.push(("access-control-expose-headers", exposed.to_owned()));
            }
        }
        self
    }

    /// The answer to a preflight of a page that may do what it asks for.
    fn preflight(facts: &Facts<'_>) -> Self {
        let mut answer = Self::new(204, "");
        if let Some((method, headers)) = cors::requested(facts) {
            answer.more.push(("access-control-allow-methods", method.to_owned()));
            answer.more.extend(headers.map(|headers| ("access-control-allow-headers", headers.to_owned())));
            answer.more.push(("access-control-max-age", "600".to_owned()));
        }
        answer
    }

    /// The same refusal to a proxy, which takes any other status for a fault of the gateway.
    pub(crate) fn for_proxy(mut self) -> Self {
        self.status = match self.status {
            401 | 403 | 503 => return self,
            429 => 401,
            500.. => 503,
            _ => 403,
        };
        // What is said beside it is about a status that it no longer has, but for when to come again.
        self.extra = None;
        self.more.retain(|(name, _)| *name == "retry-after");
        self
    }

    /// 502: the upstream cannot be reached, or broke off before it answered.
    pub const fn upstream_unavailable() -> Self {
        Self::new(502, r#"{"detail":"Upstream unavailable"}"#)
    }

    /// 503: there are as many connections to the upstream as there may be, and none became free in time.
    pub const fn upstream_busy() -> Self {
        Self::new(503, r#"{"detail":"Upstream busy"}"#).with("retry-after", "1")
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
            Reason::ForbiddenOrigin => Self::new(403, r#"{"detail":"Origin not allowed"}"#),
            Reason::TooManyFailures => Self::new(429, r#"{"detail":"Too many failed authentication attempts"}"#),
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
            Reason::UntrustedProxy => Self::new(403, r#"{"detail":"Not a trusted proxy"}"#),
            Reason::RequestLoop => Self::new(508, r#"{"detail":"Request loop detected"}"#),
            Reason::OwnPathMethod => Self::new(405, r#"{"detail":"Method Not Allowed"}"#).with("allow", "GET"),
        }
    }

    fn too_many_failures(facts: &Facts<'_>) -> Self {
        let mut answer = Self::refusal(Reason::TooManyFailures);
        answer.more.extend(facts.wait.map(|seconds| ("retry-after", seconds.to_string())));
        answer
    }

    fn whoami(identity: &Identity) -> Self {
        Self::json(&Whoami {
            user_id: &identity.user_id,
            token_type: identity.token_type.as_str(),
            role: identity.role.as_deref(),
        })
    }

    /// What the gateway answers when there is no API behind it.
    fn built_in(identity: Option<&Identity>, facts: &Facts<'_>) -> Self {
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
