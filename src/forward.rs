//! How a request goes on to the upstream.

use alloc::{borrow::ToOwned, format, string::String, vec::Vec};

use crate::{
    cors::Sharing,
    credential::Credential,
    facts::{Facts, Field, is_spelling_of},
    hops::{self, HOPS},
    policy::Policy,
    proxies::Provenance,
    time::UnixTime,
    token::Secret,
    verdict::Identity,
    websocket::{Offer, SUBPROTOCOL},
};

/// How a request goes on to the upstream: its method and body as they are, its target and headers as said here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forward<'a> {
    identity: Option<&'a Identity>,
    /// Whether the client's credentials go on.
    keeps_credentials: bool,
    /// Whether `Authorization` is the gateway's own, or missing, whatever the client sent.
    owns_authorization: bool,
    authorization: Option<Secret>,
    /// What `Connection` names beyond itself.
    connection: Vec<&'a [u8]>,
    provenance: Provenance<'a>,
    rewritten_target: Option<String>,
    /// Those beside a token that was among them.
    other_subprotocols: Option<String>,
    sharing: Option<Sharing>,
    /// When the token ends, and when it is no longer taken either.
    expires: Option<[UnixTime; 2]>,
    request_id: Option<&'a str>,
    /// The gateways that it has passed, this one included.
    hops: Option<String>,
}

/// What becomes of the upstream's answer on its way to the client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finish {
    /// What it says of who may read it, if that is the gateway's affair.
    pub sharing: Option<Sharing>,
    /// The subprotocol that an upgrade is answered with, if the token was among those that the client offered.
    pub subprotocol: Option<&'static str>,
}

impl<'a> Forward<'a> {
    pub(crate) fn new(identity: Option<&'a Identity>, policy: &Policy, facts: &Facts<'a>) -> Self {
        let (mut rewritten_target, mut other_subprotocols, mut expires) = (None, None, None);
        if facts.is_websocket() {
            let sources = policy.websocket_tokens;
            if let Some(query) = facts.query.filter(|_| sources.query).and_then(|query| facts.query_token.removed_from(query)) {
                let is_empty = query.is_empty();
                rewritten_target = Some(if is_empty { facts.path.to_owned() } else { format!("{}?{query}", facts.path) });
            }
            if sources.protocol {
                other_subprotocols = Offer::of(&facts.subprotocols).without_token();
            }
            if policy.closes_expired {
                let leeway = u64::from(policy.leeway().unwrap_or(0)) * 1000;
                expires = identity.and_then(|identity| identity.expires).map(|end| [end, end.after(leeway)]);
            }
        }
        let authorization = identity.and_then(|_| authorization(policy, facts));
        Self {
            identity,
            keeps_credentials: policy.forwards_credentials,
            owns_authorization: authorization.is_some() || policy.upstream_authorization.is_some(),
            authorization,
            connection: facts.connection.clone(),
            provenance: Provenance::of(facts, &policy.trusted_proxies),
            rewritten_target,
            other_subprotocols,
            sharing: policy.sharing(facts),
            expires,
            request_id: facts.request_id,
            hops: policy.instance.map(|instance| hops::with(facts.hops, instance)),
        }
    }

    /// Path and query without the token that was in the query of an upgrade. If there was none, they go on as they are.
    pub fn rewritten_target(&self) -> Option<&str> {
        self.rewritten_target.as_deref()
    }

    /// When to close a WebSocket whose token ends: at its `exp`, or with the leeway where that is over already. Nothing if it
    /// is not to be closed.
    pub fn until(&self, now: UnixTime) -> Option<UnixTime> {
        let [exactly, at_last] = self.expires?;
        Some(if exactly > now { exactly } else { at_last })
    }

    /// Whether nobody showed a credential for it: it goes to a public path, or is a preflight.
    pub const fn is_anonymous(&self) -> bool {
        self.identity.is_none()
    }

    /// What becomes of the answer.
    pub fn finish(&self) -> Finish {
        let subprotocol = self.other_subprotocols.as_ref().map(|_| SUBPROTOCOL);
        Finish { sharing: self.sharing.clone(), subprotocol }
    }

    /// Whether a header that the client sent goes on to the upstream. A name counts in every spelling that some
    /// server reads as the same: in any case, and with `_` or another sign for `-`.
    ///
    /// `Content-Length` and `Transfer-Encoding` are not kept, because whoever sends the body frames it anew.
    pub fn keeps(&self, name: &str) -> bool {
        if self.connection.iter().any(|value| is_listed(value, name)) {
            return false;
        }
        if self.provenance.is_trusted && KEPT_OF_PROXIES.iter().any(|kept| name.eq_ignore_ascii_case(kept)) {
            return true;
        }
        if self.other_subprotocols.is_some() && is_spelling_of(name, SUBPROTOCOLS) {
            return false;
        }
        if is_spelling_of(name, "authorization") {
            return self.keeps_credentials && !self.owns_authorization;
        }
        // Judged under this name only: another spelling could carry another token.
        if name.eq_ignore_ascii_case("x-admin-token") {
            return self.keeps_credentials;
        }
        if self.hops.is_some() && is_spelling_of(name, HOPS) {
            return false;
        }
        if self.request_id.is_some() && is_spelling_of(name, "x-request-id") {
            return false;
        }
        let is_override = || self.identity.is_none() && METHOD_OVERRIDES.iter().any(|known| is_spelling_of(name, known));
        !(is_dropped(name) || is_override())
    }

    /// The headers that the gateway itself sets, after those of the client were dropped.
    pub fn sets(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let Provenance { forwarded_for, proto, host, .. } = &self.provenance;
        let others = self.other_subprotocols.as_deref().filter(|others| !others.is_empty());
        let set = [
            ("authorization", self.authorization.as_ref().map(Secret::reveal)),
            ("x-forwarded-for", forwarded_for.as_deref()),
            ("x-forwarded-proto", Some(*proto)),
            ("x-forwarded-host", *host),
            (SUBPROTOCOLS, others),
            ("x-request-id", self.request_id),
            (HOPS, self.hops.as_deref()),
        ];
        identity_headers(self.identity).chain(set.into_iter().filter_map(|(name, value)| value.map(|value| (name, value))))
    }
}

/// `Authorization` for a request of a known caller, unless the one of the client goes on as it is: the gateway's own credential,
/// or the token of the client in the form that every upstream reads, wherever the client had put it.
fn authorization(policy: &Policy, facts: &Facts<'_>) -> Option<Secret> {
    if policy.upstream_authorization.is_some() {
        return policy.upstream_authorization.clone();
    }
    let Credential::Bearer(token) = policy.credential(facts) else { return None };
    let is_sent_so = matches!(facts.authorization, Field::One(value) if value.strip_prefix(b"Bearer ") == Some(token));
    if is_sent_so || !policy.forwards_credentials {
        return None;
    }
    // It is ASCII by its parser.
    Some(Secret::new(format!("Bearer {}", core::str::from_utf8(token).ok()?)))
}

/// Who somebody is, in the words that upstreams read.
pub(crate) fn identity_headers(identity: Option<&Identity>) -> impl Iterator<Item = (&'static str, &str)> {
    let set = [
        ("x-user-id", identity.map(|identity| &*identity.user_id)),
        ("x-auth-token-type", identity.map(|identity| identity.token_type.as_str())),
        ("x-auth-role", identity.and_then(|identity| identity.role.as_deref())),
    ];
    set.into_iter().filter_map(|(name, value)| value.map(|value| (name, value)))
}

const SUBPROTOCOLS: &str = "sec-websocket-protocol";

/// What trusted proxies say, and the gateway has no word of its own for.
const KEPT_OF_PROXIES: [&str; 11] = [
    "cf-connecting-ip",
    "cf-connecting-ipv6",
    "client-ip",
    "fastly-client-ip",
    "forwarded",
    "true-client-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-forwarded-port",
    "x-original-forwarded-for",
    "x-real-ip",
];

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
                "x-client-ip",
                "x-cluster-client-ip",
                "x-original-forwarded-for",
                "x-original-url",
                "x-original-uri",
                "x-original-method",
                "x-rewrite-url",
            ]
        }
        Some(b'c') => &["connection", "content-length", "cf-connecting-ip", "cf-connecting-ipv6", "client-ip"],
        Some(b'e') => &["expect"],
        Some(b'f') => &["forwarded", "fastly-client-ip"],
        Some(b'h') => &["host", "http2-settings"],
        Some(b'k') => &["keep-alive"],
        Some(b'p') => &["proxy-connection", "proxy-authorization", "proxy-authenticate"],
        Some(b't') => &["te", "trailer", "transfer-encoding", "true-client-ip"],
        Some(b'u') => &["upgrade"],
        _ => &[],
    };
    candidates.iter().any(|candidate| is_spelling_of(name, candidate))
}

fn is_listed(connection: &[u8], name: &str) -> bool {
    connection.split(|byte| *byte == b',').any(|listed| listed.trim_ascii().eq_ignore_ascii_case(name.as_bytes()))
}
