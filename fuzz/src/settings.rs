use std::{collections::BTreeMap, net::SocketAddr};

use nodetool_edge_auth::{
    Action, Environment, Facts, Gate, Host, Pass, Provider, SETTINGS, Secret, Settings, SettingsErrors, Tokens, Verdict,
};

use crate::{
    NOW, STATIC, judge, parts,
    second_opinion::{is_under, readings},
};

/// Named here once more: a setting that is no longer known as a secret must not go unnoticed.
const SECRETS: [&str; 5] = ["WORKER_AUTH_TOKEN", "SERVER_AUTH_TOKEN", "SUPABASE_KEY", "SUPABASE_JWT_SECRET", "ADMIN_TOKEN"];

/// An environment, as `NAME=value` parts. Accepted is one that is right on some host.
pub fn settings(data: &[u8]) -> bool {
    let text = String::from_utf8_lossy(data);
    let given: Given<'_> =
        parts(text.as_bytes()).into_iter().filter_map(|part| str::from_utf8(part).ok()?.split_once('=')).collect();
    // No short-circuit: every host reads them.
    [Host::Native, Host::Edge, Host::Embedded, Host::Layer].map(|host| is_right(host, &given)).contains(&true)
}

type Given<'a> = BTreeMap<&'a str, &'a str>;

/// White space does not count, and a blank value is none.
fn asked<'a>(given: &Given<'a>, name: &str) -> Option<&'a str> {
    given.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
}

fn is_right(host: Host, given: &Given<'_>) -> bool {
    let parsed = Settings::parse(host, |name| given.get(name).map(ToString::to_string));
    check_secrecy(host, given, &parsed);
    match &parsed {
        Ok(settings) => check_meaning(host, given, settings),
        Err(errors) => check_errors(given, errors),
    }
    parsed.is_ok()
}

/// Nothing that is said depends on what a secret is: other secrets of the same kind lead to the same words.
fn check_secrecy(host: Host, given: &Given<'_>, parsed: &Result<Settings, SettingsErrors>) {
    let other = Settings::parse(host, |name| {
        let value = given.get(name)?;
        Some(if SECRETS.contains(&name) { value.chars().map(next_letter).collect() } else { value.to_string() })
    });
    let said = |parsed: &Result<Settings, SettingsErrors>| match parsed {
        Ok(settings) => format!("{:?} {:?} {:?}", settings.token, settings.project, settings.warnings),
        Err(errors) => errors.to_string(),
    };
    assert_eq!(said(parsed), said(&other), "{host:?} tells something of a secret");
}

fn next_letter(letter: char) -> char {
    match letter {
        'z' => 'a',
        'Z' => 'A',
        '9' => '0',
        'a'..='y' | 'A'..='Y' | '0'..='8' => char::from(letter as u8 + 1),
        other => other,
    }
}

fn check_errors(given: &Given<'_>, errors: &SettingsErrors) {
    assert!(!errors.0.is_empty());
    for error in &errors.0 {
        assert!(SETTINGS.iter().any(|known| known.name == error.name), "{error}");
        let is_missing =
            ["SUPABASE_URL", "SUPABASE_KEY"].contains(&error.name) && asked(given, "AUTH_PROVIDER") == Some("supabase");
        assert!(asked(given, error.name).is_some() || is_missing, "not set: {error}");
    }
}

fn check_meaning(host: Host, given: &Given<'_>, settings: &Settings) {
    let asked = |name: &str| asked(given, name);
    let policy = &settings.policy;

    let environment = match asked("ENV") {
        Some("development") => Environment::Development,
        None if host == Host::Native => Environment::Development,
        Some("test") => Environment::Test,
        Some("staging") => Environment::Staging,
        Some("production") | None => Environment::Production,
        Some(other) => unreachable!("ENV={other}"),
    };
    assert_eq!(policy.environment(), environment);
    let in_production = environment == Environment::Production;

    let listen = asked("AUTH_LISTEN").map_or("127.0.0.1:8000".to_owned(), |text| text.replacen("localhost:", "127.0.0.1:", 1));
    assert_eq!(listen.parse::<SocketAddr>(), Ok(settings.server.listen));

    match (policy.provider(), asked("AUTH_PROVIDER")) {
        (Provider::Static, None | Some("static")) | (Provider::Supabase, Some("supabase")) => {}
        (Provider::None, Some("none")) | (Provider::Local, Some("local")) => {
            assert!(!in_production || asked("AUTH_ALLOW_INSECURE") == Some("1"), "open in production");
        }
        (Provider::LocalByDefault, None) => {
            assert!(environment.is_for_developers());
            assert!(settings.token.is_none(), "open although there is a token");
            assert!(host != Host::Native || settings.server.listen.ip().to_canonical().is_loopback(), "open beyond this machine");
        }
        (got, asked) => unreachable!("asked for {asked:?}, got {got:?}"),
    }

    let token = settings.token.as_ref().map(Secret::reveal);
    assert_eq!(token, asked("WORKER_AUTH_TOKEN").or(asked("SERVER_AUTH_TOKEN")));
    assert_eq!(token, asked("SERVER_AUTH_TOKEN").or(asked("WORKER_AUTH_TOKEN")), "two tokens");
    for name in ["WORKER_AUTH_TOKEN", "SERVER_AUTH_TOKEN", "ADMIN_TOKEN", "SUPABASE_KEY"] {
        let is_visible = |token: &str| token.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',');
        assert!(
            name == "SUPABASE_KEY" && settings.project.is_none() || asked(name).is_none_or(is_visible),
            "{name} fits no header"
        );
    }

    for (name, limit) in
        [("AUTH_LEEWAY", 300), ("AUTH_CACHE_TTL", 86_400), ("AUTH_FETCH_TIMEOUT", 300), ("UPSTREAM_TIMEOUT", 86_400)]
    {
        let is_within = |text: &str| text.parse::<u64>().is_ok_and(|number| number <= limit);
        assert!(asked(name).is_none_or(is_within), "{name}={:?}", asked(name));
    }
    match (&settings.proxy.upstream, asked("UPSTREAM_URL")) {
        (None, None) => {}
        (Some(upstream), Some(url)) => assert!(is_origin(&upstream.origin(), url), "{upstream:?} for {url}"),
        (got, asked) => unreachable!("asked for {asked:?}, got {got:?}"),
    }

    assert_eq!(settings.project.is_some(), policy.provider() == Provider::Supabase);
    if let Some(project) = &settings.project {
        assert!(asked("SUPABASE_URL").is_some_and(|url| is_origin(&project.url, url)), "{project:?}");
        assert_eq!(asked("SUPABASE_KEY"), Some(project.key.reveal()));
        assert!((1..=300).contains(&project.timeout));
        let is_local = ["//localhost", "//127.", "//[::1]"].iter().any(|local| project.url.to_ascii_lowercase().contains(local));
        let is_exposed = host == Host::Native && !settings.server.listen.ip().to_canonical().is_loopback();
        assert!(!(in_production || is_exposed) || project.url.starts_with("https:") || is_local, "keys over http: {project:?}");
        assert_eq!(policy.fetches_keys(), asked("SUPABASE_JWKS").is_none());
    }
    check_behaviour(given, settings, in_production);
}

/// Whether this origin is the URL that was given, and no more than an origin.
fn is_origin(origin: &str, url: &str) -> bool {
    let authority = origin.split_once("://").map_or("", |(_, authority)| authority);
    url.strip_suffix('/').unwrap_or(url).eq_ignore_ascii_case(origin)
        && authority.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte))
}

/// What requests come to under these settings.
fn check_behaviour(given: &Given<'_>, settings: &Settings, in_production: bool) {
    let policy = &settings.policy;
    let gate = Gate::with_tokens(policy.clone(), Tokens::single(STATIC).unwrap());
    let passes = |facts: &Facts<'_>| matches!(judge(&gate, facts).verdict, Verdict::Pass(_));
    let bearer = format!("Bearer {STATIC}");
    let with_token = |path| {
        let mut facts = Facts::new("GET", path, None);
        facts.header("Authorization", bearer.as_bytes());
        facts
    };

    let listed: Vec<&str> =
        asked(given, "AUTH_PUBLIC_PATHS").into_iter().flat_map(|list| list.split(',')).map(str::trim).collect();
    for public in policy.public_paths() {
        assert!(["/health", "/ping"].contains(&public) || listed.contains(&public), "{public} is public");
        let readings = readings(public);
        assert!(readings.iter().eq([public.as_bytes()]), "{public} has several readings");
        assert!(
            ["/admin", "/terminal", "/ws/terminal", "/.auth"].iter().all(|area| !is_under(public.as_bytes(), area)),
            "{public} is public"
        );
        let verdict = judge(&gate, &Facts::new("GET", public, None)).verdict;
        assert!(matches!(verdict, Verdict::Pass(Pass { identity: None, .. })), "{public} is not public");
    }

    let mut stranger = Facts::new("POST", "/v1/models", None);
    stranger.header("Host", b"api.example.com");
    assert_eq!(passes(&stranger), matches!(policy.provider(), Provider::None | Provider::Local), "a stranger");
    assert_eq!(passes(&with_token("/admin/x")), asked(given, "ADMIN_TOKEN").is_none(), "/admin");
    let wants_terminal = asked(given, "NODETOOL_ENABLE_TERMINAL_WS")
        .is_some_and(|text| ["1", "true", "yes", "on"].iter().any(|yes| text.eq_ignore_ascii_case(yes)));
    for path in ["/terminal", "/ws/terminal"] {
        assert_eq!(passes(&with_token(path)), wants_terminal && !in_production, "{path}");
    }

    let facts = with_token("/v1/models");
    let outcome = judge(&gate, &facts);
    if let Action::Forward(forward) = Action::of(&outcome.verdict, policy, &facts, NOW) {
        let keeps = asked(given, "AUTH_FORWARD_AUTHORIZATION") != Some("strip");
        let own = asked(given, "UPSTREAM_AUTHORIZATION");
        assert_eq!(forward.keeps("authorization"), keeps && own.is_none());
        assert_eq!(forward.keeps("x-admin-token"), keeps);
        assert_eq!(forward.sets().find(|(name, _)| *name == "authorization").map(|(_, value)| value), own);
    }
}
