//! From raw settings to a policy: one parser for environment variables, Worker bindings and the maps of embedders.
//!
//! Every wrong setting is reported in one go, with its name and what would be right, and nothing that is wrong
//! falls back to something weaker.

mod reader;
mod server;
mod supabase;
mod table;
mod upstream;

use alloc::{borrow::ToOwned, format, string::String, vec::Vec};
use core::{fmt, net::SocketAddr};

use crate::{
    cors::Origins,
    hops::Instance,
    path,
    policy::{ALWAYS_PUBLIC, Environment, Policy, Provider},
    proxies::TrustedProxies,
    token::{Digest, Secret},
    websocket::TokenSources,
};
use reader::Reader;

pub use server::{ClientLimits, ServerSettings, TlsSettings};
pub use supabase::Project;
pub use table::{SETTINGS, Setting};
pub use upstream::{ProxySettings, Upstream};

/// Who asks: it decides the defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Host {
    /// The native proxy.
    Native,
    /// The Cloudflare Worker.
    Edge,
    /// Somebody else's program.
    Embedded,
    /// A layer in somebody else's server, which the native library judges for.
    Layer,
}

impl Host {
    /// Whether somebody is there to serve what may pass, whatever the settings say of an upstream.
    const fn serves_itself(self) -> bool {
        matches!(self, Self::Embedded | Self::Layer)
    }

    /// Whether it counts who has failed too often.
    const fn counts_failures(self) -> bool {
        matches!(self, Self::Native | Self::Layer)
    }
}

/// All settings, read and understood.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Settings {
    /// Who may pass.
    pub policy: Policy,
    /// The static token, if the settings hold it; else it comes from a store.
    pub token: Option<Secret>,
    /// How to reach the upstream.
    pub proxy: ProxySettings,
    /// How the native host serves.
    pub server: ServerSettings,
    /// What to log: `error`, `warn`, `info`, `debug` or `trace`.
    pub log_level: &'static str,
    /// Whether the log is JSON.
    pub logs_json: bool,
    /// How to reach the Supabase project, if its users may pass.
    pub project: Option<Project>,
    /// What is allowed but should be known.
    pub warnings: Vec<String>,
}

/// One wrong setting.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SettingError {
    /// Its name.
    pub name: &'static str,
    /// What is wrong with it, and what would be right. A secret value is never repeated.
    pub problem: String,
}

impl SettingError {
    /// A setting of this name that a host cannot use, and why; for what only it can tell, as that a file is not there.
    pub const fn new(name: &'static str, problem: String) -> Self {
        Self { name, problem }
    }
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

impl<G: Fn(&str) -> Option<String>> Reader<G> {
    fn settings(&mut self, host: Host) -> Settings {
        let mut warnings = Vec::new();
        let server = self.server(&mut warnings);
        let environment = self.environment(host);
        let is_exposed = host == Host::Native && !server.listen.ip().to_canonical().is_loopback();
        let token = self.token();
        let provider = self.provider(host, environment, (server.listen, is_exposed), token.is_some(), &mut warnings);
        self.warn_of_environment(environment, is_exposed, &mut warnings);
        let proxy = self.proxy(host);
        let is_strict = environment == Environment::Production || is_exposed;
        let (supabase, project) = self.supabase(provider, is_strict, &mut warnings).unzip();
        let instance = (host == Host::Edge && proxy.upstream.is_some()).then(|| Instance::of_deployment(&self.get));
        let has_upstream = proxy.upstream.is_some() || host.serves_itself();
        Settings {
            token,
            server,
            log_level: self.choice(
                "LOG_LEVEL",
                "info",
                &[("error", "error"), ("warn", "warn"), ("info", "info"), ("debug", "debug"), ("trace", "trace")],
            ),
            logs_json: self.choice("AUTH_LOG_FORMAT", false, &[("text", false), ("json", true)]),
            proxy,
            policy: Policy {
                environment,
                provider,
                public_paths: self.public_paths(),
                supabase,
                admin_token: self.secret("ADMIN_TOKEN").map(|token| Digest::of(token.reveal().as_bytes())),
                serves_terminal: self.boolean("NODETOOL_ENABLE_TERMINAL_WS", false) && environment != Environment::Production,
                trusted_proxies: self.trusted_proxies(&mut warnings),
                websocket_tokens: self.websocket_tokens(),
                failure_limit: self.failure_limit(host),
                closes_expired: self.closes_expired(host),
                origins: self.origins(),
                forwards_credentials: self.choice("AUTH_FORWARD_AUTHORIZATION", true, &[("keep", true), ("strip", false)]),
                upstream_authorization: self.upstream_authorization(has_upstream),
                answers_health: self.choice("AUTH_HEALTH", false, &[("upstream", false), ("self", true)]) || !has_upstream,
                opens_verify: self.boolean("AUTH_VERIFY_OPEN", false),
                instance,
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

    /// An environment that is only the default is not meant for a listener that other machines reach.
    fn warn_of_environment(&self, environment: Environment, is_exposed: bool, warnings: &mut Vec<String>) {
        if self.text("ENV").is_some() {
            return;
        }
        if let Some(other) = self.text("NODETOOL_ENV") {
            warnings.push(format!(
                "NODETOOL_ENV is `{}`, but this gateway reads ENV, which is not set; set ENV to the same",
                other.escape_debug()
            ));
        } else if is_exposed && environment != Environment::Production {
            warnings.push(
                "ENV is not set, so this is a development gateway, and other machines can reach it; set ENV=production"
                    .to_owned(),
            );
        }
    }

    fn provider(
        &mut self,
        host: Host,
        environment: Environment,
        (listen, is_exposed): (SocketAddr, bool),
        has_token: bool,
        warnings: &mut Vec<String>,
    ) -> Provider {
        let insecure = match self.text("AUTH_ALLOW_INSECURE").as_deref() {
            None => false,
            Some("1") => true,
            Some(_) => {
                self.wrong("AUTH_ALLOW_INSECURE", "must be exactly 1, or unset");
                false
            }
        };
        if self.text("AUTH_PROVIDER").is_none() {
            if has_token || is_exposed || !environment.is_for_developers() {
                return Provider::Static;
            }
            if matches!(host, Host::Native | Host::Layer) {
                warnings.push(
                    "AUTH_PROVIDER is not set: requests straight from this machine pass without a token; set AUTH_PROVIDER=static \
                     if a reverse proxy runs on it, since not every one can be told from a local program"
                        .to_owned(),
                );
            }
            return Provider::LocalByDefault;
        }
        if self.text("AUTH_PROVIDER").as_deref() == Some("multi_user") {
            self.wrong(
                "AUTH_PROVIDER",
                "`multi_user` is a mode of NodeTool's own server, whose tokens only that server can check; use supabase, or static in \
                 front of a server for one user",
            );
            return Provider::Static;
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
            if is_exposed {
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

    /// A whole value of `Authorization`, since the scheme is the upstream's choice.
    fn upstream_authorization(&mut self, has_upstream: bool) -> Option<Secret> {
        const NAME: &str = "UPSTREAM_AUTHORIZATION";
        let value = self.text(NAME)?;
        let (scheme, credentials) = value.split_once(' ').unwrap_or(("", ""));
        let is_scheme = !scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        let is_value = credentials.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
        if !(is_scheme && is_value && !credentials.is_empty()) {
            self.wrong(NAME, "must be a scheme, a space and the credentials in visible ASCII, like `Bearer TOKEN`");
        } else if !has_upstream {
            self.wrong(NAME, "is for an upstream, and UPSTREAM_URL is not set; set that, or unset this");
        }
        Some(Secret::new(value))
    }

    fn trusted_proxies(&mut self, warnings: &mut Vec<String>) -> TrustedProxies {
        let mut trusted = TrustedProxies::default();
        for network in self.list("AUTH_TRUSTED_PROXIES") {
            if !trusted.add(&network) {
                let problem = format!("`{}` is neither a network like 10.0.0.0/8 nor an address", network.escape_debug());
                self.wrong("AUTH_TRUSTED_PROXIES", &problem);
            }
        }
        if trusted.includes_everybody() {
            warnings.push("AUTH_TRUSTED_PROXIES includes everybody: anyone can say to come from any address".to_owned());
        }
        trusted
    }

    fn websocket_tokens(&mut self) -> TokenSources {
        const NAME: &str = "AUTH_WS_TOKEN_SOURCES";
        let mut sources = TokenSources { header: false, protocol: false, query: false };
        if self.text(NAME).is_none() {
            return TokenSources { header: true, ..sources };
        }
        for source in self.list(NAME) {
            match source.as_str() {
                "header" => sources.header = true,
                "protocol" => sources.protocol = true,
                "query" => sources.query = true,
                other => self.wrong(NAME, &format!("`{}` is none of header, protocol, query", other.escape_debug())),
            }
        }
        if self.list(NAME).is_empty() {
            self.wrong(NAME, "names nothing; unset it, or name some of header, protocol, query");
        }
        sources
    }

    fn failure_limit(&mut self, host: Host) -> Option<u32> {
        const NAME: &str = "AUTH_FAILURE_LIMIT";
        let limit = u32::try_from(self.number(NAME, 0, 1_000_000)).ok().filter(|limit| *limit > 0);
        if limit.is_some() && !host.counts_failures() {
            self.wrong(NAME, "only the native host counts by itself; unset it, and at the edge bind AUTH_RATE_LIMITER");
        }
        limit
    }

    fn closes_expired(&mut self, host: Host) -> bool {
        const NAME: &str = "AUTH_WS_CLOSE_ON_EXPIRY";
        let closes = self.boolean(NAME, false);
        if closes && host != Host::Native {
            self.wrong(NAME, "only the native host can close a connection that it has passed on; unset it");
        }
        closes
    }

    fn origins(&mut self) -> Option<Origins> {
        const NAME: &str = "CORS_ORIGINS";
        self.text(NAME)?;
        let mut origins = Origins::default();
        for origin in self.list(NAME) {
            if !origins.add(&origin) {
                let problem = format!(
                    "`{}` is no origin like https://app.example, without a path; nor is it * for all, or null",
                    origin.escape_debug()
                );
                self.wrong(NAME, &problem);
            }
        }
        if self.list(NAME).is_empty() {
            self.wrong(NAME, "names no origin; unset it if the API answers preflights itself");
        }
        Some(origins)
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
                "is in /admin, /terminal, /ws/terminal or /.auth, which are never public"
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
}
