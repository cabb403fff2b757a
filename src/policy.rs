//! Which request needs what.

use alloc::{string::String, vec::Vec};
use core::net::{IpAddr, Ipv4Addr};

use crate::{
    cors::{self, Origins, Sharing},
    credential::Credential,
    facts::{Asker, Facts, Field},
    hops::{self, Instance},
    jwt::Expected,
    keys::Jwks,
    path::{self, Areas},
    proxies::{self, TrustedProxies},
    time::UnixTime,
    token::{Digest, Secret},
    verdict::{Destination, Identity, Pass, Reason, Verdict},
    websocket::TokenSources,
};

/// Where this gateway runs, as `ENV` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Environment {
    /// A developer's machine.
    Development,
    /// Automated tests.
    Test,
    /// Like production, for trying out.
    Staging,
    /// The real thing.
    Production,
}

impl Environment {
    /// Whether conveniences of a developer's machine are in order.
    pub const fn is_for_developers(self) -> bool {
        matches!(self, Self::Development | Self::Test)
    }
}

/// How callers prove who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provider {
    /// Not at all.
    None,
    /// Not at all: everyone is the local user.
    Local,
    /// Like [`Local`](Self::Local) because nobody said otherwise: holds only for requests that come straight from
    /// this machine. All others are judged as by [`Static`](Self::Static).
    LocalByDefault,
    /// By one pre-shared bearer token.
    Static,
    /// By the JWT of a Supabase user, or the static token.
    Supabase,
}

/// The rules of one gateway. Made by [`Settings::parse`](crate::Settings::parse).
#[derive(Clone, Debug)]
pub struct Policy {
    pub(crate) environment: Environment,
    pub(crate) provider: Provider,
    pub(crate) public_paths: Vec<String>,
    pub(crate) supabase: Option<Supabase>,
    pub(crate) admin_token: Option<Digest>,
    pub(crate) serves_terminal: bool,
    /// Whether the upstream sees the client's credentials.
    pub(crate) forwards_credentials: bool,
    /// The gateway's own credential for the upstream: a whole value of `Authorization`.
    pub(crate) upstream_authorization: Option<Secret>,
    /// Whether `/health` and `/ping` are answered here, and not by the upstream.
    pub(crate) answers_health: bool,
    /// Whether every peer may ask at `/.auth/verify`.
    pub(crate) opens_verify: bool,
    pub(crate) trusted_proxies: TrustedProxies,
    pub(crate) websocket_tokens: TokenSources,
    pub(crate) failure_limit: Option<u32>,
    /// Whether a WebSocket ends with the token that opened it.
    pub(crate) closes_expired: bool,
    /// Nothing if CORS is the upstream's affair.
    pub(crate) origins: Option<Origins>,
    /// How this gateway is called among others, where it forwards by itself.
    pub(crate) instance: Option<Instance>,
    /// Whether somebody else serves what may pass. Otherwise the gateway answers with the caller's identity.
    pub(crate) has_upstream: bool,
}

/// The Supabase project whose users may pass.
#[derive(Clone, Debug)]
pub(crate) struct Supabase {
    pub(crate) expected: Expected,
    pub(crate) jwt_secret: Option<Secret>,
    /// Whether HS256 tokens are checked at all.
    pub(crate) allows_hs256: bool,
    pub(crate) pinned: Option<Jwks>,
    /// Roles that may use `/admin`; nothing for all.
    pub(crate) admin_roles: Option<Vec<String>>,
    /// Seconds for which a verified user is remembered.
    pub(crate) cache_ttl: u64,
    /// How many are.
    pub(crate) cache_max: usize,
}

impl Supabase {
    /// Until when something is remembered that was found out now.
    pub(crate) fn remembered_until(&self, now: UnixTime) -> UnixTime {
        UnixTime::from_millis(now.as_millis().saturating_add(self.cache_ttl.saturating_mul(1000)))
    }
}

/// A request judged as far as can be without knowing the tokens.
pub(crate) enum Judgement<'a> {
    Settled(Verdict),
    /// All hangs on whether this bearer token is accepted. Without one it is refused for that reason, unless
    /// there is no token that anyone could have brought.
    HangsOn(Result<&'a [u8], Reason>),
}

impl Policy {
    /// Where this gateway runs.
    pub const fn environment(&self) -> Environment {
        self.environment
    }

    /// How callers prove who they are.
    pub const fn provider(&self) -> Provider {
        self.provider
    }

    /// Whether public keys have to be fetched.
    pub fn fetches_keys(&self) -> bool {
        self.supabase.as_ref().is_some_and(|supabase| supabase.pinned.is_none())
    }

    /// Whether the upstream gets the token by which a user passed.
    pub const fn forwards_user_token(&self) -> bool {
        self.forwards_credentials && self.upstream_authorization.is_none()
    }

    /// Whether any request is judged by a token.
    pub const fn needs_token(&self) -> bool {
        matches!(self.provider, Provider::Static | Provider::LocalByDefault)
    }

    /// Gives this gateway a name among others, by which it recognizes a request that it has forwarded before. Each process has its
    /// own, so that gateways can stand one behind the other.
    pub const fn identify(&mut self, instance: u64) {
        self.instance = Some(Instance::new(instance));
    }

    /// The paths that need no credential for `GET` and `HEAD`.
    pub fn public_paths(&self) -> impl Iterator<Item = &str> {
        ALWAYS_PUBLIC.into_iter().chain(self.public_paths.iter().map(String::as_str))
    }

    /// The first half: everything that goes before the comparison of tokens.
    pub(crate) fn judge<'a>(&self, facts: &'a Facts<'a>) -> Judgement<'a> {
        let path = facts.path.as_bytes();
        if facts.asker != Asker::Client && !self.may_verify(facts) {
            return Judgement::Settled(Verdict::Refuse(Reason::UntrustedProxy));
        }
        if facts.asker == Asker::VagueProxy {
            return Judgement::Settled(Verdict::Refuse(Reason::NoSubject));
        }
        // The proxy would hand the upgrade on, and all that follows on the connection.
        if facts.asker == Asker::Proxy && facts.asks_for_other_protocol() {
            return Judgement::Settled(Verdict::Refuse(Reason::MalformedRequest));
        }
        let is_clear = facts.names_one_host() && facts.has_one_framing();
        if path::is_malformed(path) || !is_clear || facts.is_two_requests_to_some() || facts.names_too_much() {
            return Judgement::Settled(Verdict::Refuse(Reason::MalformedRequest));
        }
        // What a proxy describes is not sent on from here.
        if facts.asker == Asker::Client && hops::is_loop(facts.hops, self.instance) {
            return Judgement::Settled(Verdict::Refuse(Reason::RequestLoop));
        }
        if matches!(facts.method, "CONNECT" | "TRACE" | "TRACK") {
            return Judgement::Settled(Verdict::Refuse(Reason::ForbiddenMethod));
        }
        if self.is_public(facts) {
            let is_answered = self.answers_health && ALWAYS_PUBLIC.contains(&facts.path);
            let to = if is_answered { Destination::Health } else { Destination::Upstream };
            return Judgement::Settled(Verdict::Pass(Pass { identity: None, to, is_admin: false }));
        }
        if let Some(origins) = &self.origins {
            // No preflight goes before a WebSocket, and no page is kept from reading what comes over it.
            if (facts.is_preflight() || facts.is_websocket()) && !origins.admits(facts) {
                return Judgement::Settled(Verdict::Refuse(Reason::ForbiddenOrigin));
            }
            if facts.is_preflight() && facts.asker == Asker::Client {
                let to = Destination::Preflight;
                return Judgement::Settled(match cors::requested(facts) {
                    Some(_) => Verdict::Pass(Pass { identity: None, to, is_admin: false }),
                    None => Verdict::Refuse(Reason::MalformedRequest),
                });
            }
        }
        let is_open = match self.provider {
            Provider::None | Provider::Local => true,
            Provider::LocalByDefault => facts.is_from_this_machine(),
            Provider::Static | Provider::Supabase => false,
        };
        // A page that any browser on this machine may have open must not become the one user.
        let opens_much = || facts.upgrade.is_present() || Areas::of(path).is_none_or(|areas| areas.terminal);
        if is_open && self.is_foreign_page(facts) && opens_much() {
            return Judgement::Settled(Verdict::Refuse(Reason::ForbiddenOrigin));
        }
        if facts.is_preflight() {
            return Judgement::Settled(match self.place(facts, None) {
                Ok((to, is_admin)) => Verdict::Pass(Pass { identity: None, to, is_admin }),
                Err(reason) => Verdict::Refuse(reason),
            });
        }
        if is_open {
            return Judgement::Settled(self.authorize(facts, Identity::OPEN).0);
        }
        Judgement::HangsOn(match self.credential(facts) {
            Credential::Bearer(token) => Ok(token),
            Credential::None => Err(Reason::NoCredential),
            Credential::Malformed => Err(Reason::MalformedCredential),
        })
    }

    /// What a request carries to prove who sent it.
    pub(crate) fn credential<'a>(&self, facts: &'a Facts<'a>) -> Credential<'a> {
        if facts.is_websocket() { self.websocket_tokens.credential(facts) } else { Credential::parse(facts.authorization) }
    }

    /// The address of the client of a request: of whoever connected or, behind trusted proxies, of whom they say.
    pub fn client<'a>(&self, facts: &Facts<'a>) -> Option<&'a str> {
        self.trusted_proxies.client(facts)
    }

    /// The address by which failures of the client count. A proxy that is not trusted, or does not name its client, counts as one
    /// client, and so do all clients whose address the host does not know: they are `0.0.0.0`.
    pub fn accountable(&self, facts: &Facts<'_>) -> IpAddr {
        self.client(facts).and_then(proxies::parsed).unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
    }

    /// Whether the peer may ask at `/.auth/verify`: there a client could try tokens on behalf of others.
    fn may_verify(&self, facts: &Facts<'_>) -> bool {
        self.opens_verify || facts.has_loopback_peer() || self.trusted_proxies.sent(facts)
    }

    /// Whether a browser sent the request for a page that is neither of this machine nor of `CORS_ORIGINS`.
    fn is_foreign_page(&self, facts: &Facts<'_>) -> bool {
        let is_allowed = || facts.origin.is_present() && self.origins.as_ref().is_some_and(|origins| origins.admits(facts));
        !facts.has_loopback_page() && !is_allowed()
    }

    /// How many times a minute a client may fail to prove who it is; nothing for no limit.
    pub const fn failure_limit(&self) -> Option<u32> {
        self.failure_limit
    }

    /// What every answer to a request says of who may read it, if that is the gateway's affair.
    pub fn sharing(&self, facts: &Facts<'_>) -> Option<Sharing> {
        self.origins.as_ref().map(|origins| origins.sharing(facts))
    }

    /// The second half: whether this caller may do this. Who may not is named beside the verdict, for the log.
    pub(crate) fn authorize(&self, facts: &Facts<'_>, identity: Identity) -> (Verdict, Option<Identity>) {
        match self.place(facts, Some(&identity)) {
            Ok((to, is_admin)) => (Verdict::Pass(Pass { identity: Some(identity), to, is_admin }), None),
            Err(reason) => (Verdict::Refuse(reason), Some(identity)),
        }
    }

    pub(crate) fn is_public(&self, facts: &Facts<'_>) -> bool {
        matches!(facts.method, "GET" | "HEAD") && facts.is_bare() && self.public_paths().any(|public| public == facts.path)
    }

    /// What the place that the path names asks for, by any of its readings: who serves it, and whether it is for admins.
    fn place(&self, facts: &Facts<'_>, identity: Option<&Identity>) -> Result<(Destination, bool), Reason> {
        let Some(areas) = Areas::of(facts.path.as_bytes()) else {
            return Err(Reason::MalformedRequest);
        };
        let mut to = Destination::Upstream;
        if areas.own {
            match (facts.path, facts.method, facts.asker) {
                ("/.auth/whoami", "GET", Asker::Client) => to = Destination::Whoami,
                ("/.auth/whoami", _, Asker::Client) => return Err(Reason::OwnPathMethod),
                // What a proxy would serve in the gateway's place is none of the gateway's.
                _ => return Err(Reason::NoSuchOwnPath),
            }
        }
        if areas.terminal && !self.serves_terminal {
            return Err(Reason::TerminalNotServed);
        }
        if let (true, Some(Identity { role: Some(role), .. }), Some(supabase)) = (areas.admin, identity, &self.supabase)
            && supabase.admin_roles.as_ref().is_some_and(|roles| !roles.contains(role))
        {
            return Err(Reason::NotAnAdmin);
        }
        // A preflight carries no credentials by its nature, and does nothing.
        if let (true, Some(_), Some(expected)) = (areas.admin, identity, &self.admin_token) {
            match facts.admin_token {
                Field::Absent => return Err(Reason::NoAdminToken),
                Field::One(token) if Digest::of(token.trim_ascii()).matches(expected) => {}
                Field::One(_) | Field::Many => return Err(Reason::InvalidAdminToken),
            }
        }
        Ok((to, areas.admin))
    }
}

/// Public under every setting.
pub(crate) const ALWAYS_PUBLIC: [&str; 2] = ["/health", "/ping"];
