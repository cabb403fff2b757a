//! From raw settings to a policy: one parser for environment variables, Worker bindings and the maps of embedders.
//!
//! Every wrong setting is reported in one go, with its name and what would be right, and nothing that is wrong
//! falls back to something weaker.

mod table;

use alloc::{
    borrow::ToOwned,
    format,
    string::{String, ToString},
    vec::Vec,
};
use core::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use crate::{
    facts::{Scheme, is_loopback_authority},
    jwt::Expected,
    keys::Jwks,
    path,
    policy::{ALWAYS_PUBLIC, Environment, Policy, Provider, Supabase},
    token::{Digest, Secret, Tokens},
};

pub use table::{NOT_YET, SETTINGS, Setting};

/// Bytes of a secret for HS256 that nobody guesses.
const SAFE_SECRET: usize = 32;

/// Who asks: it decides the defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Host {
    /// The native proxy.
    Native,
    /// The Cloudflare Worker.
    Edge,
    /// Somebody else's program.
    Embedded,
}

/// All settings, read and understood.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Who may pass.
    pub policy: Policy,
    /// The static token, if the settings hold it; else it comes from a store.
    pub token: Option<Secret>,
    /// How to reach the upstream.
    pub proxy: ProxySettings,
    /// Where the native host listens.
    pub listen: SocketAddr,
    /// What to log: `error`, `warn`, `info`, `debug` or `trace`.
    pub log_level: &'static str,
    /// Whether the log is JSON.
    pub logs_json: bool,
    /// How to reach the Supabase project, if its users may pass.
    pub project: Option<Project>,
    /// What is allowed but should be known.
    pub warnings: Vec<String>,
}

/// How to reach a Supabase project.
#[derive(Clone, Debug)]
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

/// How to reach the upstream.
#[derive(Clone, Debug)]
pub struct ProxySettings {
    /// The API being fronted.
    pub upstream: Option<Upstream>,
    /// Seconds to connect; nothing for no limit.
    pub connect_timeout: Option<u64>,
    /// Seconds to the first byte of the answer; nothing for no limit.
    pub response_timeout: Option<u64>,
}

/// The origin of the API being fronted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// Its scheme.
    pub scheme: Scheme,
    /// `host[:port]`, as `Host` carries it.
    pub authority: String,
}

impl Upstream {
    /// The origin, as in `http://127.0.0.1:8080`.
    pub fn origin(&self) -> String {
        format!("{}://{}", self.scheme.as_str(), self.authority)
    }

    /// `host:port`, to connect to. Where the origin names no port, it is the one of its scheme.
    pub fn address(&self) -> String {
        let has_port = self.authority.rsplit_once(':').is_some_and(|(_, port)| !port.ends_with(']'));
        let port = match self.scheme {
            _ if has_port => "",
            Scheme::Http => ":80",
            Scheme::Https => ":443",
        };
        format!("{}{port}", self.authority)
    }

    fn parse(url: &str) -> Option<Self> {
        let (scheme, rest) = match url.split_once("://")? {
            (scheme, rest) if scheme.eq_ignore_ascii_case("http") => (Scheme::Http, rest),
            (scheme, rest) if scheme.eq_ignore_ascii_case("https") => (Scheme::Https, rest),
            _ => return None,
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
            _ => (authority, None),
        };
        let is_name =
            |host: &str| !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
        let is_address = |host: &str| {
            let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
            address.is_some_and(|address| address.parse::<core::net::Ipv6Addr>().is_ok())
        };
        let is_port =
            |port: &str| port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0);
        let fits = (is_name(host) || is_address(host)) && port.is_none_or(is_port);
        fits.then(|| Self { scheme, authority: authority.to_owned() })
    }
}

/// One wrong setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingError {
    /// Its name.
    pub name: &'static str,
    /// What is wrong with it, and what would be right. A secret value is never repeated.
    pub problem: String,
}

impl fmt::Display for SettingError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.name, self.problem)
    }
}

/// Every wrong setting of one configuration. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingsErrors(pub Vec<SettingError>);

impl fmt::Display for SettingsErrors {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            write!(formatter, "{}{error}", if index == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

impl core::error::Error for SettingsErrors {}

impl Settings {
    /// Reads all settings through `get`, which knows the value of a name if it was set. White space around a value
    /// does not count, and a blank value is none.
    ///
    /// # Errors
    /// All that is wrong, at once.
    pub fn parse(host: Host, get: impl Fn(&str) -> Option<String>) -> Result<Self, SettingsErrors> {
        let mut reader = Reader { get, errors: Vec::new() };
        let settings = reader.settings(host);
        if reader.errors.is_empty() { Ok(settings) } else { Err(SettingsErrors(reader.errors)) }
    }
}

/// Reads one setting after the other, and remembers what was wrong. What it returns after an error is never used.
struct Reader<G> {
    get: G,
    errors: Vec<SettingError>,
}

impl<G: Fn(&str) -> Option<String>> Reader<G> {
    fn settings(&mut self, host: Host) -> Settings {
        for name in NOT_YET {
            if self.text(name).is_some() {
                self.wrong(name, "not supported by this version; unset it");
            }
        }
        let listen = self.listen();
        let environment = self.environment(host);
        let mut warnings = Vec::new();
        let provider = self.provider(host, environment, listen, &mut warnings);
        let upstream = self.upstream(host);
        let (supabase, project) = self.supabase(provider, environment, &mut warnings).unzip();
        let has_upstream = upstream.is_some() || host == Host::Embedded;
        Settings {
            token: self.token(),
            listen,
            log_level: self.choice(
                "LOG_LEVEL",
                "info",
                &[("error", "error"), ("warn", "warn"), ("info", "info"), ("debug", "debug"), ("trace", "trace")],
            ),
            logs_json: self.choice("AUTH_LOG_FORMAT", false, &[("text", false), ("json", true)]),
            proxy: ProxySettings {
                upstream,
                connect_timeout: self.seconds("UPSTREAM_CONNECT_TIMEOUT", 5),
                response_timeout: self.seconds("UPSTREAM_TIMEOUT", 300),
            },
            policy: Policy {
                environment,
                provider,
                public_paths: self.public_paths(),
                supabase,
                admin_token: self.secret("ADMIN_TOKEN").map(|token| Digest::of(token.reveal().as_bytes())),
                serves_terminal: self.boolean("NODETOOL_ENABLE_TERMINAL_WS", false) && environment != Environment::Production,
                forwards_authorization: self.choice("AUTH_FORWARD_AUTHORIZATION", true, &[("keep", true), ("strip", false)]),
                has_upstream,
            },
            project,
            warnings,
        }
    }

    fn environment(&mut self, host: Host) -> Environment {
        let default = if host == Host::Native { Environment::Development } else { Environment::Production };
        self.choice(
            "ENV",
            default,
            &[
                ("development", Environment::Development),
                ("test", Environment::Test),
                ("staging", Environment::Staging),
                ("production", Environment::Production),
            ],
        )
    }

    fn provider(&mut self, host: Host, environment: Environment, listen: SocketAddr, warnings: &mut Vec<String>) -> Provider {
        let insecure = match self.text("AUTH_ALLOW_INSECURE").as_deref() {
            None => false,
            Some("1") => true,
            Some(_) => {
                self.wrong("AUTH_ALLOW_INSECURE", "must be exactly 1, or unset");
                false
            }
        };
        let is_loopback = host != Host::Native || listen.ip().to_canonical().is_loopback();
        if self.text("AUTH_PROVIDER").is_none() {
            if !(environment.is_for_developers() && is_loopback) {
                return Provider::Static;
            }
            if host == Host::Native {
                warnings.push(
                    "AUTH_PROVIDER is not set: requests straight from this machine pass without a token; set AUTH_PROVIDER=static \
                     if a reverse proxy runs on it, since not every one can be told from a local program"
                        .to_owned(),
                );
            }
            return Provider::LocalByDefault;
        }
        let provider = self.choice(
            "AUTH_PROVIDER",
            Provider::Static,
            &[
                ("none", Provider::None),
                ("local", Provider::Local),
                ("static", Provider::Static),
                ("supabase", Provider::Supabase),
            ],
        );
        if matches!(provider, Provider::None | Provider::Local) {
            if environment == Environment::Production && !insecure {
                self.wrong(
                    "AUTH_PROVIDER",
                    "lets everyone in, which ENV=production refuses; use static, or set AUTH_ALLOW_INSECURE=1 if another guard stands in front",
                );
            }
            if host == Host::Native && !is_loopback {
                warnings.push(format!(
                    "AUTH_PROVIDER lets everyone in who can reach {listen}; use AUTH_PROVIDER=static beyond this machine"
                ));
            } else if host != Host::Native && !environment.is_for_developers() {
                warnings.push("AUTH_PROVIDER lets everyone in; use AUTH_PROVIDER=static".to_owned());
            }
        }
        provider
    }

    fn token(&mut self) -> Option<Secret> {
        let token = self.secret("WORKER_AUTH_TOKEN");
        let alias = self.secret("SERVER_AUTH_TOKEN");
        match (token, alias) {
            (Some(token), Some(alias)) if token != alias => {
                self.wrong("SERVER_AUTH_TOKEN", "differs from WORKER_AUTH_TOKEN, which is another name for it; set only one");
                None
            }
            (token, alias) => token.or(alias),
        }
    }

    fn supabase(
        &mut self,
        provider: Provider,
        environment: Environment,
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
        let url = self.project_url(environment);
        let key = self.secret("SUPABASE_KEY");
        if key.is_none() {
            self.wrong(
                "SUPABASE_KEY",
                "needed for AUTH_PROVIDER=supabase: an API key of the project, the publishable one will do",
            );
        }
        if admin_roles.is_none() && environment == Environment::Production {
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
            pinned,
            admin_roles,
            cache_ttl,
            cache_max: usize::try_from(cache_max).unwrap_or(0),
        };
        Some((supabase, Project { url, key, timeout }))
    }

    fn project_url(&mut self, environment: Environment) -> Option<String> {
        let Some(url) = self.text("SUPABASE_URL") else {
            self.wrong("SUPABASE_URL", "needed for AUTH_PROVIDER=supabase, like https://PROJECT.supabase.co");
            return None;
        };
        let Some(origin) = Upstream::parse(&url) else {
            self.wrong("SUPABASE_URL", "must be the URL of a project, like https://PROJECT.supabase.co, without a path");
            return None;
        };
        if environment == Environment::Production
            && origin.scheme == Scheme::Http
            && !is_loopback_authority(origin.authority.as_bytes())
        {
            self.wrong("SUPABASE_URL", "must be https in production: keys that came over http could be anyone's");
        }
        Some(origin.origin())
    }

    fn public_paths(&mut self) -> Vec<String> {
        let mut paths = Vec::new();
        for path in self.list("AUTH_PUBLIC_PATHS") {
            let problem = if !path.starts_with('/') {
                "must begin with /"
            } else if path.contains('*') {
                "has a wildcard; name each path exactly"
            } else if !path::is_plain(path.as_bytes()) {
                "could be read as another path; only letters, digits and -._~:@!$&'()+= in segments that are neither empty nor dots"
            } else if !path::Areas::of(path.as_bytes()).is_some_and(path::Areas::is_none) {
                "is in /admin, /terminal or /.auth, which are never public"
            } else {
                if !ALWAYS_PUBLIC.contains(&path.as_str()) {
                    paths.push(path);
                }
                continue;
            };
            self.wrong("AUTH_PUBLIC_PATHS", &format!("`{}` {problem}", path.escape_debug()));
        }
        paths
    }

    fn upstream(&mut self, host: Host) -> Option<Upstream> {
        let url = self.text("UPSTREAM_URL")?;
        let upstream = Upstream::parse(&url);
        match &upstream {
            // The value is not repeated: it may hold a password, which is one of the things wrong with it.
            None => self.wrong("UPSTREAM_URL", "must be an origin like http://127.0.0.1:8080: a scheme of http or https, a host, maybe a port, and no path, query or user"),
            Some(upstream) if host == Host::Native && upstream.scheme == Scheme::Https => {
                self.wrong("UPSTREAM_URL", "https upstreams are not supported by this version of the native host; use http over a private network");
            }
            Some(_) => {}
        }
        upstream
    }

    fn listen(&mut self) -> SocketAddr {
        const DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8000);
        let Some(text) = self.text("AUTH_LISTEN") else { return DEFAULT };
        let named =
            text.strip_prefix("localhost:").and_then(|port| port.parse().ok()).map(|port| SocketAddr::new(DEFAULT.ip(), port));
        named.or_else(|| text.parse().ok()).unwrap_or_else(|| {
            self.wrong(
                "AUTH_LISTEN",
                &format!("`{}` is not an address with a port, like 127.0.0.1:8000 or [::]:8000", text.escape_debug()),
            );
            DEFAULT
        })
    }

    /// A time limit, or none.
    fn seconds(&mut self, name: &'static str, default: u64) -> Option<u64> {
        const DAY: u64 = 86_400;
        Some(self.number(name, default, DAY)).filter(|seconds| *seconds > 0)
    }

    fn number(&mut self, name: &'static str, default: u64, max: u64) -> u64 {
        match self.text(name).map(|text| text.parse::<u64>()) {
            None => default,
            Some(Ok(number)) if number <= max => number,
            Some(_) => {
                self.wrong(name, &format!("must be a whole number from 0 to {max}"));
                default
            }
        }
    }

    fn boolean(&mut self, name: &'static str, default: bool) -> bool {
        let Some(text) = self.text(name) else { return default };
        match text.to_ascii_lowercase().as_str() {
            "1" | "true" | "yes" | "on" => true,
            "0" | "false" | "no" | "off" => false,
            _ => {
                self.wrong(name, "must be one of 1, true, yes, on, 0, false, no, off");
                default
            }
        }
    }

    /// One of a few words. Without a value, and after an error, it is `default`.
    fn choice<T: Copy>(&mut self, name: &'static str, default: T, choices: &[(&'static str, T)]) -> T {
        let Some(text) = self.text(name) else { return default };
        if let Some((_, choice)) = choices.iter().find(|(choice, _)| *choice == text) {
            return *choice;
        }
        let known: Vec<&str> = choices.iter().map(|(choice, _)| *choice).collect();
        self.wrong(name, &format!("`{}` is none of {}", text.escape_debug(), known.join(", ")));
        default
    }

    fn list(&self, name: &'static str) -> Vec<String> {
        let text = self.text(name).unwrap_or_default();
        text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(ToString::to_string).collect()
    }

    /// A token that a client has to send in a header.
    fn secret(&mut self, name: &'static str) -> Option<Secret> {
        let token = self.text(name)?;
        if let Err(error) = Tokens::single(&token) {
            self.wrong(name, &error.to_string());
        }
        Some(Secret::new(token))
    }

    fn text(&self, name: &str) -> Option<String> {
        let text = (self.get)(name)?;
        let trimmed = text.trim();
        (!trimmed.is_empty()).then(|| trimmed.to_owned())
    }

    fn wrong(&mut self, name: &'static str, problem: &str) {
        self.errors.push(SettingError { name, problem: problem.to_owned() });
    }
}

#[cfg(test)]
mod tests {
    use super::Upstream;

    #[test]
    fn an_origin_without_a_port_has_that_of_its_scheme() {
        for (url, address) in [
            ("http://a.example", "a.example:80"),
            ("https://a.example/", "a.example:443"),
            ("http://a.example:8080", "a.example:8080"),
            ("http://[::1]", "[::1]:80"),
            ("https://[::1]:9", "[::1]:9"),
        ] {
            assert_eq!(Upstream::parse(url).unwrap().address(), address);
        }
    }
}
