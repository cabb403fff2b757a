//! How a request was judged, and why.

use alloc::{borrow::Cow, string::String};

use crate::time::UnixTime;

/// The judgement of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The request may pass.
    Pass(Pass),
    /// It may not.
    Refuse(Reason),
}

/// A request that may pass: as whom, and to where.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pass {
    /// Who sent it; nobody for public paths and preflights.
    pub identity: Option<Identity>,
    /// Who serves it.
    pub to: Destination,
    /// Whether it goes to `/admin` or below, by any reading of its path.
    pub is_admin: bool,
}

/// Who serves a request that may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Destination {
    /// The API behind the gateway or, without one, the gateway's built-in answer.
    Upstream,
    /// `/health` and `/ping`, which the gateway answers itself.
    Health,
    /// `/.auth/whoami`.
    Whoami,
    /// A CORS preflight that the gateway answers itself.
    Preflight,
}

/// Whom the upstream is told that it serves.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Identity {
    /// `x-user-id`.
    pub user_id: Cow<'static, str>,
    /// `x-auth-token-type`.
    pub token_type: TokenType,
    /// `x-auth-role`: the role of a JWT. Static tokens have none.
    pub role: Option<String>,
    /// The `exp` of a JWT.
    pub expires: Option<UnixTime>,
}

impl Identity {
    /// The one user of a gateway with a static token.
    pub const STATIC: Self = Self { user_id: Cow::Borrowed("1"), token_type: TokenType::Static, role: None, expires: None };
    /// The one user of a gateway that asks for nothing.
    pub const OPEN: Self = Self { user_id: Cow::Borrowed("1"), token_type: TokenType::None, role: None, expires: None };

    /// The user whom a JWT is about: its `sub`, `role` and `exp`.
    pub const fn user(subject: String, role: String, expires: UnixTime) -> Self {
        Self { user_id: Cow::Owned(subject), token_type: TokenType::User, role: Some(role), expires: Some(expires) }
    }
}

/// The kind of credential that an identity was proven by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenType {
    /// None was asked for.
    None,
    /// The pre-shared bearer token.
    Static,
    /// A JWT.
    User,
}

impl TokenType {
    /// As the upstream and `/.auth/whoami` see it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Static => "static",
            Self::User => "user",
        }
    }
}

/// Why a request was refused. The client learns less than this: see [`Answer`](crate::Answer).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// A path with bytes or escapes, or a `Host`, that two programs could read differently.
    MalformedRequest,
    /// A proxy that asks whether a request may pass, and describes none, or more than one.
    NoSubject,
    /// A page of an origin that is not in `CORS_ORIGINS`, and asks for a preflight or a WebSocket.
    ForbiddenOrigin,
    /// A client that has failed too often of late to prove who it is.
    TooManyFailures,
    /// `CONNECT`, `TRACE` or `TRACK`, which are not for gateways.
    ForbiddenMethod,
    /// A request without a credential where one is needed.
    NoCredential,
    /// Something other than exactly one bearer token.
    MalformedCredential,
    /// A static token that is not the right one.
    InvalidToken,
    /// A static token past its `not_after`.
    ExpiredStaticToken,
    /// There is no token that could be the right one.
    NoTokenConfigured,
    /// The token store could not be reached, and nothing usable is remembered.
    StoreUnavailable,
    /// The token store holds something that is neither a token nor a list of them.
    StoreMisconfigured,
    /// Three segments that are no JWT, or one that two parsers could read differently.
    MalformedToken,
    /// A JWT that brings a key along, or asks for an extension (RFC 8725, section 3.10).
    ForbiddenTokenHeader,
    /// A JWT of an algorithm that is not served; `none` is one.
    UnsupportedAlgorithm,
    /// Claims that are not those of a user's session.
    UnacceptableClaims,
    /// A genuine JWT whose time is over.
    ExpiredToken,
    /// A JWT that nobody signed who could.
    BadSignature,
    /// A JWT of a key that does not exist.
    UnknownKey,
    /// The project does not know the user or the session.
    UserRefused,
    /// `SUPABASE_KEY` was refused by the project.
    ApiKeyRefused,
    /// Keys could not be fetched, and none that would do are remembered.
    KeysUnavailable,
    /// The user endpoint gave no usable answer.
    UserUnavailable,
    /// The role of the user is not in `AUTH_ADMIN_ROLES`.
    NotAnAdmin,
    /// `X-Admin-Token` is needed and missing.
    NoAdminToken,
    /// `X-Admin-Token` is wrong.
    InvalidAdminToken,
    /// `/terminal`, which is not served here.
    TerminalNotServed,
    /// A path under `/.auth/` that is none of the gateway's.
    NoSuchOwnPath,
    /// One of the gateway's own paths with a method that it does not know.
    OwnPathMethod,
    /// `/.auth/verify`, asked by a peer that is neither this machine nor a trusted proxy.
    UntrustedProxy,
    /// The request has passed this gateway before, or too many others.
    RequestLoop,
}

impl Reason {
    /// Whether a credential was brought that is not the right one, by chance or by trial. A token that ended is none of these:
    /// whoever sleeps over its end is no attacker.
    pub const fn is_failed_credential(self) -> bool {
        matches!(
            self,
            Self::MalformedCredential
                | Self::InvalidToken
                | Self::ExpiredStaticToken
                | Self::MalformedToken
                | Self::ForbiddenTokenHeader
                | Self::UnsupportedAlgorithm
                | Self::UnacceptableClaims
                | Self::BadSignature
                | Self::UnknownKey
                | Self::UserRefused
                | Self::InvalidAdminToken
        )
    }

    /// Every reason, in the order of their numbers (`reason as usize`): for tables of counters.
    pub const ALL: [Self; 31] = [
        Self::MalformedRequest,
        Self::NoSubject,
        Self::ForbiddenOrigin,
        Self::TooManyFailures,
        Self::ForbiddenMethod,
        Self::NoCredential,
        Self::MalformedCredential,
        Self::InvalidToken,
        Self::ExpiredStaticToken,
        Self::NoTokenConfigured,
        Self::StoreUnavailable,
        Self::StoreMisconfigured,
        Self::MalformedToken,
        Self::ForbiddenTokenHeader,
        Self::UnsupportedAlgorithm,
        Self::UnacceptableClaims,
        Self::ExpiredToken,
        Self::BadSignature,
        Self::UnknownKey,
        Self::UserRefused,
        Self::ApiKeyRefused,
        Self::KeysUnavailable,
        Self::UserUnavailable,
        Self::NotAnAdmin,
        Self::NoAdminToken,
        Self::InvalidAdminToken,
        Self::TerminalNotServed,
        Self::NoSuchOwnPath,
        Self::OwnPathMethod,
        Self::UntrustedProxy,
        Self::RequestLoop,
    ];

    /// A stable code for logs and metrics.
    pub const fn code(self) -> &'static str {
        match self {
            Self::MalformedRequest => "malformed_request",
            Self::NoSubject => "no_subject",
            Self::ForbiddenOrigin => "forbidden_origin",
            Self::TooManyFailures => "too_many_failures",
            Self::ForbiddenMethod => "forbidden_method",
            Self::NoCredential => "no_credential",
            Self::MalformedCredential => "malformed_credential",
            Self::InvalidToken => "invalid_token",
            Self::ExpiredStaticToken => "expired_static_token",
            Self::NoTokenConfigured => "no_token_configured",
            Self::StoreUnavailable => "store_unavailable",
            Self::StoreMisconfigured => "store_misconfigured",
            Self::MalformedToken => "malformed_token",
            Self::ForbiddenTokenHeader => "forbidden_token_header",
            Self::UnsupportedAlgorithm => "unsupported_algorithm",
            Self::UnacceptableClaims => "unacceptable_claims",
            Self::ExpiredToken => "expired_token",
            Self::BadSignature => "bad_signature",
            Self::UnknownKey => "unknown_key",
            Self::UserRefused => "user_refused",
            Self::ApiKeyRefused => "api_key_refused",
            Self::KeysUnavailable => "keys_unavailable",
            Self::UserUnavailable => "user_unavailable",
            Self::NotAnAdmin => "not_an_admin",
            Self::NoAdminToken => "no_admin_token",
            Self::InvalidAdminToken => "invalid_admin_token",
            Self::TerminalNotServed => "terminal_not_served",
            Self::NoSuchOwnPath => "no_such_own_path",
            Self::OwnPathMethod => "own_path_method",
            Self::UntrustedProxy => "untrusted_proxy",
            Self::RequestLoop => "request_loop",
        }
    }

    /// What an operator may want to change, where a setting is behind the refusal. The log says it in a warning.
    pub const fn remedy(self) -> Option<&'static str> {
        match self {
            Self::UntrustedProxy => Some(
                "/.auth/verify answers loopback peers and AUTH_TRUSTED_PROXIES; add the proxy there, or set AUTH_VERIFY_OPEN=1",
            ),
            Self::ForbiddenOrigin => Some("add the origin to CORS_ORIGINS if its pages are to be served"),
            Self::RequestLoop => Some(
                "request loop: it has passed this gateway before, or eight others; correct UPSTREAM_URL, which leads back here, unless the client made up x-nodetool-auth-hops",
            ),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Reason;

    #[test]
    fn all_reasons_stand_in_the_order_of_their_numbers() {
        for (index, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index, "{}", reason.code());
        }
        // A new reason has the next number, and no place in the table yet.
        assert_eq!(Reason::RequestLoop as usize + 1, Reason::ALL.len());
    }
}
