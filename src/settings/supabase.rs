//! The Supabase project, and what its tokens must be.

use alloc::{borrow::ToOwned, format, string::String, vec::Vec};

use super::{Reader, Upstream};
use crate::{
    facts::{Scheme, is_loopback_authority},
    jwt::Expected,
    keys::Jwks,
    policy::{Provider, Supabase},
    token::Secret,
};

/// Bytes of a secret for HS256 that nobody guesses.
const SAFE_SECRET: usize = 32;

/// How to reach a Supabase project.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Project {
    /// Its URL, without a trailing slash.
    pub url: String,
    /// Its API key.
    pub key: Secret,
    /// Seconds for one call.
    pub timeout: u64,
}

impl Project {
    /// Where its public keys are.
    pub fn jwks_url(&self) -> String {
        format!("{}/auth/v1/.well-known/jwks.json", self.url)
    }

    /// Where it tells whose a token is.
    pub fn user_url(&self) -> String {
        format!("{}/auth/v1/user", self.url)
    }
}

impl<G: Fn(&str) -> Option<String>> Reader<G> {
    pub(super) fn supabase(
        &mut self,
        provider: Provider,
        is_strict: bool,
        warnings: &mut Vec<String>,
    ) -> Option<(Supabase, Project)> {
        let leeway = self.number("AUTH_LEEWAY", 30, 300);
        let ttl_name = if self.text("AUTH_CACHE_TTL").is_some() { "AUTH_CACHE_TTL" } else { "REMOTE_AUTH_CACHE_TTL" };
        let max_name = if self.text("AUTH_CACHE_MAX").is_some() { "AUTH_CACHE_MAX" } else { "REMOTE_AUTH_CACHE_MAX" };
        let (cache_ttl, cache_max) = (self.number(ttl_name, 30, 86_400), self.number(max_name, 1000, 1_000_000));
        let timeout = self.number("AUTH_FETCH_TIMEOUT", 5, 300);
        if timeout == 0 {
            self.wrong("AUTH_FETCH_TIMEOUT", "must be at least 1 second");
        }
        let allows_anonymous = self.boolean("SUPABASE_ALLOW_ANONYMOUS", true);
        let allows_missing_issuer = self.boolean("SUPABASE_ALLOW_MISSING_ISSUER", false);
        let allows_hs256 = self.boolean("SUPABASE_ALLOW_HS256", true);
        if !allows_hs256 && self.text("SUPABASE_JWT_SECRET").is_some() {
            self.wrong(
                "SUPABASE_ALLOW_HS256",
                "is no, but SUPABASE_JWT_SECRET is set, which checks HS256 tokens; unset the secret, or say yes",
            );
        }
        let roles = self.list("AUTH_ADMIN_ROLES");
        if roles.is_empty() && self.text("AUTH_ADMIN_ROLES").is_some() {
            self.wrong("AUTH_ADMIN_ROLES", "names no role; unset it, or say * if every user may use /admin");
        }
        let admin_roles = (!roles.is_empty() && !roles.iter().any(|role| role == "*")).then_some(roles);
        let pinned = self.text("SUPABASE_JWKS").and_then(|document| {
            let keys = Jwks::parse(document.as_bytes()).filter(|keys| !keys.is_empty());
            if keys.is_none() {
                self.wrong(
                    "SUPABASE_JWKS",
                    "must be a JSON Web Key Set with at least one public key of ES256, RS256, PS256 or EdDSA",
                );
            }
            keys
        });
        if provider != Provider::Supabase {
            return None;
        }
        let url = self.project_url(is_strict, warnings);
        let key = self.secret("SUPABASE_KEY");
        if key.is_none() {
            self.wrong(
                "SUPABASE_KEY",
                "needed for AUTH_PROVIDER=supabase: an API key of the project, the publishable one will do",
            );
        }
        if admin_roles.is_none() && is_strict {
            warnings.push("AUTH_ADMIN_ROLES is not set: every user of the project may use /admin".to_owned());
        }
        let jwt_secret = self.text("SUPABASE_JWT_SECRET");
        if jwt_secret.as_ref().is_some_and(|secret| secret.len() < SAFE_SECRET) {
            warnings.push(format!(
                "SUPABASE_JWT_SECRET is shorter than {SAFE_SECRET} bytes: whoever has one token can guess it (RFC 7518, section 3.2)"
            ));
        }
        let (url, key) = (url?, key?);
        let issuer = self.text("SUPABASE_ISSUER").unwrap_or_else(|| format!("{url}/auth/v1"));
        let audience = self.text("SUPABASE_AUDIENCE").unwrap_or_else(|| "authenticated".to_owned());
        let supabase = Supabase {
            expected: Expected {
                issuer,
                allows_missing_issuer,
                audience,
                allows_anonymous,
                leeway: u32::try_from(leeway).unwrap_or(0),
            },
            jwt_secret: jwt_secret.map(Secret::new),
            allows_hs256,
            pinned,
            admin_roles,
            cache_ttl,
            cache_max: usize::try_from(cache_max).unwrap_or(0),
        };
        Some((supabase, Project { url, key, timeout }))
    }

    fn project_url(&mut self, is_strict: bool, warnings: &mut Vec<String>) -> Option<String> {
        let Some(url) = self.text("SUPABASE_URL") else {
            self.wrong("SUPABASE_URL", "needed for AUTH_PROVIDER=supabase, like https://PROJECT.supabase.co");
            return None;
        };
        let Some(origin) = Upstream::parse(&url) else {
            self.wrong("SUPABASE_URL", "must be the URL of a project, like https://PROJECT.supabase.co, without a path");
            return None;
        };
        if origin.scheme == Scheme::Http && !is_loopback_authority(origin.authority.as_bytes()) {
            if is_strict {
                self.wrong("SUPABASE_URL", "must be https in production, and where other machines reach the gateway: keys that come over http can be forged on the way");
            } else {
                warnings.push(
                    "SUPABASE_URL is http: SUPABASE_KEY and tokens travel in clear, and keys can be forged on the way; use https"
                        .to_owned(),
                );
            }
        }
        // The project calls itself so in `iss`, however its URL is written here (RFC 3986, section 6.2.2.1).
        Some(origin.origin().to_ascii_lowercase())
    }
}
