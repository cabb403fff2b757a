//! The names of all settings, and what each of them means.

/// One setting, for help texts and tables.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Setting {
    /// The name of the variable.
    pub name: &'static str,
    /// What it may be.
    pub values: &'static str,
    /// What it does.
    pub help: &'static str,
    /// Whether its value must not be shown, nor stand on a command line.
    pub is_secret: bool,
    /// Whether only the native host knows it.
    pub is_native: bool,
}

const fn setting(name: &'static str, values: &'static str, help: &'static str) -> Setting {
    Setting { name, values, help, is_secret: false, is_native: false }
}

const fn secret(name: &'static str, values: &'static str, help: &'static str) -> Setting {
    Setting { name, values, help, is_secret: true, is_native: false }
}

const fn native(name: &'static str, values: &'static str, help: &'static str) -> Setting {
    Setting { name, values, help, is_secret: false, is_native: true }
}

/// Every setting that there is.
pub const SETTINGS: &[Setting] = &[
    setting(
        "ENV",
        "development|test|staging|production",
        "Where this runs [default: development natively, production at the edge]",
    ),
    setting(
        "AUTH_PROVIDER",
        "none|local|static|supabase",
        "How callers prove who they are [default: local for development on loopback, else static]",
    ),
    secret("WORKER_AUTH_TOKEN", "TOKEN", "The static bearer token [default: from the store, else generated]"),
    secret("SERVER_AUTH_TOKEN", "TOKEN", "Another name for WORKER_AUTH_TOKEN"),
    native(
        "NODETOOL_CONFIG_PATH",
        "FILE",
        "The deployment file [default: deployment.yaml in the user's nodetool configuration folder]",
    ),
    setting("SUPABASE_URL", "URL", "The Supabase project whose users may pass"),
    secret("SUPABASE_KEY", "KEY", "An API key of the project; the publishable one will do"),
    secret("SUPABASE_JWT_SECRET", "SECRET", "Its legacy HS256 secret [default: HS256 tokens are checked by the project]"),
    setting("SUPABASE_JWKS", "JSON", "Its public keys, pinned: then nothing is fetched or asked"),
    setting(
        "SUPABASE_ALLOW_HS256",
        "BOOL",
        "Whether tokens of the legacy secret pass; no refuses them without asking [default: yes]",
    ),
    setting("SUPABASE_ALLOW_ANONYMOUS", "BOOL", "Whether anonymous users pass [default: yes]"),
    setting("SUPABASE_AUDIENCE", "TEXT", "The expected aud [default: authenticated]"),
    setting("SUPABASE_ISSUER", "TEXT", "The expected iss [default: SUPABASE_URL/auth/v1]"),
    setting("SUPABASE_ALLOW_MISSING_ISSUER", "BOOL", "Whether a token without iss passes, as hooks can make them [default: no]"),
    setting(
        "AUTH_CACHE_TTL",
        "SECONDS",
        "For how long a verified token is remembered, 0 = never [default: REMOTE_AUTH_CACHE_TTL, else 30]",
    ),
    setting("AUTH_CACHE_MAX", "COUNT", "How many are, 0 = none [default: REMOTE_AUTH_CACHE_MAX, else 1000]"),
    setting("REMOTE_AUTH_CACHE_TTL", "SECONDS", "The former name of AUTH_CACHE_TTL"),
    setting("REMOTE_AUTH_CACHE_MAX", "COUNT", "The former name of AUTH_CACHE_MAX"),
    setting("AUTH_LEEWAY", "SECONDS", "Clock skew allowed on exp, nbf and iat, 0 to 300 [default: 30]"),
    setting("AUTH_FETCH_TIMEOUT", "SECONDS", "For one call to Supabase [default: 5]"),
    setting("AUTH_ADMIN_ROLES", "ROLE,...", "JWT roles that may use /admin, * = all [default: *]"),
    setting("AUTH_PUBLIC_PATHS", "PATH,...", "Further public paths, exact; /health and /ping always are"),
    secret("ADMIN_TOKEN", "TOKEN", "When set, /admin and below also need it in X-Admin-Token"),
    setting(
        "AUTH_FORWARD_AUTHORIZATION",
        "keep|strip",
        "Whether the upstream sees the client's credentials: Authorization, X-Admin-Token [default: keep]",
    ),
    secret(
        "UPSTREAM_AUTHORIZATION",
        "VALUE",
        "The gateway's own credential for the upstream, like `Bearer TOKEN`, in place of the client's Authorization",
    ),
    setting(
        "AUTH_WS_TOKEN_SOURCES",
        "header,protocol,query",
        "Where a WebSocket upgrade may carry its token, some of these [default: header]",
    ),
    native(
        "AUTH_WS_CLOSE_ON_EXPIRY",
        "BOOL",
        "Whether a WebSocket is closed, with 4401, when the JWT that opened it ends [default: no]",
    ),
    native(
        "AUTH_FAILURE_LIMIT",
        "COUNT",
        "Wrong credentials a minute from one address; beyond it they get 429, 0 = no limit [default: 0]",
    ),
    setting(
        "CORS_ORIGINS",
        "ORIGIN,...",
        "Whose pages may read answers and open WebSockets, * = all [default: unset, CORS is the upstream's affair]",
    ),
    setting(
        "AUTH_VERIFY_OPEN",
        "BOOL",
        "Whether every peer may ask at /.auth/verify [default: no, loopback and trusted proxies]",
    ),
    setting("AUTH_HEALTH", "upstream|self", "Who answers /health and /ping [default: upstream, where there is one]"),
    setting("NODETOOL_ENV", "TEXT", "NodeTool's own name of ENV: read only to warn when ENV is not set"),
    setting("AUTH_TRUSTED_PROXIES", "CIDR,...", "Whose X-Forwarded-* headers are believed and appended to [default: nobody's]"),
    setting(
        "NODETOOL_ENABLE_TERMINAL_WS",
        "BOOL",
        "Whether /terminal and /ws/terminal are served; never in production [default: no]",
    ),
    setting("UPSTREAM_URL", "URL", "The API being fronted [default: none, the gateway answers with the caller's identity]"),
    setting("UPSTREAM_CONNECT_TIMEOUT", "SECONDS", "To connect to the upstream, 0 = no limit [default: 5]"),
    setting("UPSTREAM_TIMEOUT", "SECONDS", "To the first byte of the upstream's answer, 0 = no limit [default: 300]"),
    native(
        "UPSTREAM_IDLE_TIMEOUT",
        "SECONDS",
        "For pauses within the upstream's answer, 0 = no limit, since event streams pause [default: 0]",
    ),
    native(
        "UPSTREAM_MAX_CONNECTIONS",
        "COUNT",
        "Connections to the upstream at one time; more requests wait, then get 503 [default: half of the limit of open files]",
    ),
    native("UPSTREAM_CA", "FILE", "PEM certificates that alone are trusted to vouch for an https upstream [default: Mozilla's]"),
    setting("AUTH_ALLOW_INSECURE", "1", "Lets none and local run with ENV=production"),
    native("AUTH_LISTEN", "ADDR:PORT", "Where to listen [default: 127.0.0.1:8000]"),
    native(
        "AUTH_ADMIN_LISTEN",
        "ADDR:PORT",
        "Where to answer probes and give out metrics, apart from everything else [default: nowhere]",
    ),
    native("AUTH_TLS_CERT", "FILE", "PEM certificate chain: then clients are served by TLS [default: none]"),
    native("AUTH_TLS_KEY", "FILE", "PEM private key of that certificate"),
    native("AUTH_HEADER_TIMEOUT", "SECONDS", "For a TLS handshake, and for a request head, 0 = no limit [default: 30]"),
    native(
        "AUTH_BODY_TIMEOUT",
        "SECONDS",
        "For pauses of a client within its body, or in reading an answer, 0 = no limit [default: 60]",
    ),
    native("AUTH_IDLE_TIMEOUT", "SECONDS", "Between two requests on one connection, 0 = no limit [default: 75]"),
    native("AUTH_DRAIN_TIMEOUT", "SECONDS", "For requests in flight at a stop, 0 = no limit [default: 30]"),
    native(
        "AUTH_MAX_CONNECTIONS",
        "COUNT",
        "Connections of clients at one time; for more, idle ones and those without a valid credential are closed [default: 16384]",
    ),
    native(
        "AUTH_MEMORY_BUDGET",
        "SIZE",
        "Memory for all connections without a valid credential together, such as 256MB; at the limit the longest idle are closed [default: 256MB]",
    ),
    native("AUTH_REUSE_PORT", "BOOL", "Whether another process may listen at the same address, to take over [default: no]"),
    setting("LOG_LEVEL", "error|warn|info|debug|trace", "What to log [default: info]"),
    native("AUTH_LOG_FORMAT", "text|json", "How to log [default: text]"),
];
