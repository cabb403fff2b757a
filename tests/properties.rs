//! What must hold for every input, not only for those that somebody thought of.
#![cfg(not(target_arch = "wasm32"))]
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that panics has failed, as it should")]

mod cases;
mod second_opinion;

use std::collections::{BTreeMap, BTreeSet};

use nodetool_edge_auth::{
    Action, Facts, Gate, Host, Pass, Policy, Provider, Reason, SETTINGS, Secret, Settings, Step, Tokens, Unavailable, UnixTime,
    Verdict, begin, mask_token,
};
use proptest::{collection::vec, option, prelude::*, sample::select};
use second_opinion::{is_under, readings};

const TOKEN: &str = "test-token-0123456789-abcdefgh";
const ADMIN_TOKEN: &str = "test-admin-0123456789-abcdefgh";
const NOW: UnixTime = UnixTime::from_secs(1_767_225_600);
const IDENTITY: [&str; 3] = ["x-user-id", "x-auth-token-type", "x-auth-role"];
const BEARER: &str = "Bearer test-token-0123456789-abcdefgh";

fn settings(pairs: &[(&str, &str)]) -> Result<Settings, nodetool_edge_auth::SettingsErrors> {
    let pairs: BTreeMap<&str, &str> = pairs.iter().copied().collect();
    Settings::parse(Host::Native, |name| pairs.get(name).map(ToString::to_string))
}

fn gate(more: &[(&str, &str)]) -> Gate {
    let fixed = [("AUTH_PROVIDER", "static"), ("UPSTREAM_URL", "http://upstream.test")];
    let settings = settings(&[&fixed, more].concat()).unwrap();
    Gate::with_tokens(settings.policy, Tokens::single(TOKEN).unwrap())
}

fn judge(gate: &Gate, facts: &Facts<'_>) -> Verdict {
    decided(begin(&mut gate.clone(), facts, NOW))
}

fn decided(step: Step<'_>) -> Verdict {
    let Step::Decided(outcome) = step else { unreachable!("undecided: {step:?}") };
    outcome.verdict
}

/// Paths of the kind that attackers write.
fn nasty_path() -> impl Strategy<Value = String> {
    const PIECES: &[&str] = &[
        "/", "/", "/", "admin", "ADMIN", "health", "ping", "terminal", ".auth", "docs", "v1", "x", ".", "..", ";", ";a=b", "\\",
        "//", "%2f", "%2F", "%5c", "%252f", "%255c", "%2e", "%2e%2e", "%252e", "%3b", "%253b", "%61", "%2561", "%25", "%00",
        "%2500", "%0a", "%20", "%23", "%3f", "#", " ", "*", "é", "%", "%zz", "+", "~", "%c0%af", "@", ":", "&", "=", ",",
    ];
    vec(select(PIECES), 0..9).prop_map(|pieces| format!("/{}", pieces.concat()))
}

/// One way to write a path that every server which decodes twice and normalizes finds below `/admin`.
fn disguised_admin() -> impl Strategy<Value = String> {
    let noise = select(&["", "", "/x/..", "/.", "/", "/;a", "/v1/y/../..", "/x;b=1/.."][..]);
    let tail = select(&["", "/", "/x", "/collections/y", ";v=1", ";v=1/x", "//x", "/./x", "/x/../y"][..]);
    let plain = (noise, any::<[bool; 5]>(), tail).prop_map(|(noise, capitals, tail)| {
        let name: String =
            "admin".chars().zip(capitals).map(|(letter, up)| if up { letter.to_ascii_uppercase() } else { letter }).collect();
        format!("{noise}/{name}{tail}")
    });
    (plain, vec((0..8_u8, any::<bool>()), 64)).prop_map(|(plain, choices)| {
        let disguised: String = plain
            .chars()
            .zip(choices)
            .map(|(letter, (how, backslash))| {
                let letter = if letter == '/' && backslash && (3..=6).contains(&how) { '\\' } else { letter };
                match how {
                    3 => format!("%{:02x}", u32::from(letter)),
                    4 => format!("%{:02X}", u32::from(letter)),
                    5 => format!("%25{:02x}", u32::from(letter)),
                    6 => format!(
                        "%25{}",
                        format!("{:02x}", u32::from(letter)).bytes().map(|b| format!("%{b:02x}")).collect::<String>()
                    ),
                    _ => letter.to_string(),
                }
            })
            .collect();
        // The first slash is what makes it a path at all.
        format!("/{}", disguised.trim_start_matches('/'))
    })
}

/// Any name that somebody could read as this one.
fn spelled(names: &'static [&'static str]) -> impl Strategy<Value = String> {
    (select(names), vec((any::<bool>(), any::<bool>()), 40)).prop_map(|(name, choices)| {
        let letters = name.chars().zip(choices).map(|(letter, (up, underscore))| match letter {
            '-' if underscore => '_',
            letter if up => letter.to_ascii_uppercase(),
            letter => letter,
        });
        letters.collect()
    })
}

/// What makes a request more than a plain `GET`, which a public one must be.
fn is_more_than_a_get(name: &str) -> bool {
    ["upgrade", "content-length", "transfer-encoding"].iter().any(|known| name.eq_ignore_ascii_case(known))
}

proptest! {
    #![proptest_config(cases::config(4000))]

    #[test]
    fn a_public_path_has_one_reading(paths in vec(prop_oneof![nasty_path(), "/[a-zA-Z0-9._~:@!$&'()+=/-]{0,12}", ".{0,12}"], 1..4)) {
        let listed = paths.join(",");
        let Ok(settings) = settings(&[("AUTH_PUBLIC_PATHS", &listed), ("AUTH_PROVIDER", "static")]) else { return Ok(()) };
        for public in settings.policy.public_paths() {
            prop_assert_eq!(readings(public), BTreeSet::from([public.as_bytes().to_vec()]));
            for area in ["/admin", "/terminal", "/ws/terminal", "/.auth"] {
                prop_assert!(!is_under(public.as_bytes(), area), "{public} is below {area}");
            }
        }
    }

    #[test]
    fn nothing_passes_without_a_credential_but_what_is_public(
        path in nasty_path(), query in option::of(".{0,8}"), method in select(&["GET", "HEAD", "POST", "OPTIONS", "get"][..]),
        headers in vec(prop_oneof![
            (select(&["X-Original-URL", "X-Forwarded-Uri", "Origin", "Upgrade", "X-User-Id", "Connection", "Cookie"][..]), ".{0,8}"),
            (Just("Host"), "[a-z]{0,4}(:[0-9]{0,2})?"),
        ], 0..4),
    ) {
        let gate = gate(&[("AUTH_PUBLIC_PATHS", "/docs,/")]);
        let mut facts = Facts::new(method, &path, query.as_deref());
        for (name, value) in &headers {
            facts.header(name, value.as_bytes());
        }
        let is_public = ["/health", "/ping", "/docs", "/"].contains(&path.as_str())
            && ["GET", "HEAD"].contains(&method)
            && !headers.iter().any(|(name, _)| *name == "Upgrade")
            && headers.iter().filter(|(name, _)| *name == "Host").count() < 2;
        match judge(&gate, &facts) {
            Verdict::Pass(pass) => {
                prop_assert!(is_public, "{method} {path} passed");
                prop_assert_eq!(pass.identity, None);
            }
            Verdict::Refuse(reason) => {
                prop_assert!(!is_public, "{reason:?}");
                prop_assert!(matches!(reason, Reason::NoCredential | Reason::MalformedRequest), "{reason:?}");
            }
        }
    }

    #[test]
    fn no_disguise_leads_around_the_admin_token(path in disguised_admin(), query in option::of("[a-z=&/]{0,8}")) {
        let gate = gate(&[("ADMIN_TOKEN", ADMIN_TOKEN)]);
        let mut facts = Facts::new("GET", &path, query.as_deref());
        facts.header("Authorization", BEARER.as_bytes());
        let verdict = judge(&gate, &facts);
        prop_assert!(matches!(verdict, Verdict::Refuse(Reason::NoAdminToken | Reason::MalformedRequest)), "{path}: {verdict:?}");
        // Not because such paths were malformed altogether: with the admin token they pass, unless they hold a backslash.
        facts.header("X-Admin-Token", ADMIN_TOKEN.as_bytes());
        let verdict = judge(&gate, &facts);
        prop_assert_eq!(matches!(verdict, Verdict::Pass(_)), !path.contains('\\'), "{}: {:?}", path, verdict);
    }

    #[test]
    fn what_a_second_opinion_finds_restricted_is_restricted(path in nasty_path()) {
        let gate = gate(&[("ADMIN_TOKEN", ADMIN_TOKEN)]);
        let mut facts = Facts::new("POST", &path, None);
        facts.header("Authorization", BEARER.as_bytes());
        if let Verdict::Pass(_) = judge(&gate, &facts) {
            for reading in readings(&path) {
                for area in ["/admin", "/terminal", "/.auth"] {
                    prop_assert!(!is_under(&reading, area), "{path} may be read as {}", reading.escape_ascii());
                }
            }
        }
    }

    #[test]
    fn one_well_formed_credential_passes_and_nothing_else(
        values in vec(vec(select(&["Bearer", "bearer", "BEARER", "Basic", " ", " ", "\t", ",", TOKEN, TOKEN, "x", "\0", "é", "=", "\u{a0}", "\r\n"][..]), 0..6), 0..3),
    ) {
        let values: Vec<String> = values.iter().map(|pieces| pieces.concat()).collect();
        let mut facts = Facts::new("GET", "/v1/models", None);
        for value in &values {
            facts.header("authorization", value.as_bytes());
        }
        let passes = matches!(judge(&gate(&[]), &facts), Verdict::Pass(_));
        let [value] = &values[..] else {
            prop_assert!(!passes, "{values:?}");
            return Ok(());
        };
        let words: Vec<&str> = value.trim_matches([' ', '\t']).split(' ').filter(|word| !word.is_empty()).collect();
        let is_right = matches!(words[..], [scheme, TOKEN] if scheme.eq_ignore_ascii_case("bearer"));
        prop_assert_eq!(passes, is_right, "{:?}", value);
    }

    #[test]
    fn no_spelling_of_an_identity_goes_on(
        name in spelled(&["x-user-id", "x-auth-token-type", "x-auth-role", "x-admin-token", "forwarded", "x-real-ip", "x-forwarded-for",
            "x-forwarded-host", "x-forwarded-proto", "x-forwarded-uri", "x-original-url", "x-rewrite-url", "connection",
            "transfer-encoding", "content-length", "host", "upgrade", "keep-alive", "te", "trailer", "proxy-authorization"]),
        connection in ".{0,20}",
        public in any::<bool>(),
    ) {
        let gate = gate(&[]);
        let (method, path) = if public { ("GET", "/health") } else { ("POST", "/v1/models") };
        let mut facts = Facts::new(method, path, None);
        // Any other transfer coding is malformed.
        let value: &[u8] = if name.eq_ignore_ascii_case("transfer-encoding") { b"chunked" } else { b"attacker" };
        facts.header("Authorization", BEARER.as_bytes()).header(&name, value).header("Connection", connection.as_bytes());
        let verdict = judge(&gate, &facts);
        // Two values of a header that is judged, such as Authorization, would be refused; none of these is.
        let Action::Forward(forward) = Action::of(&verdict, gate.policy(), &facts, NOW) else {
            prop_assert!(public && is_more_than_a_get(&name), "refused: {verdict:?}");
            return Ok(());
        };
        // Under `keep` the admin token goes on, by the name under which it is judged.
        prop_assert_eq!(forward.keeps(&name), name.eq_ignore_ascii_case("x-admin-token"), "{}", name);
        let set: Vec<_> = forward.sets().collect();
        // The host that the client named is passed on, but as what it is.
        prop_assert!(set.iter().all(|(name, value)| *value != "attacker" || *name == "x-forwarded-host"));
        let identity: Vec<_> = set.iter().filter(|(name, _)| IDENTITY.contains(name)).collect();
        let expected: &[(&str, &str)] = if public && !is_more_than_a_get(&name) { &[] } else { &[("x-user-id", "1"), ("x-auth-token-type", "static")] };
        prop_assert_eq!(identity, expected.iter().collect::<Vec<_>>());
    }

    #[test]
    fn connection_takes_away_only_what_is_the_clients(listed in vec(spelled(&["x-user-id", "authorization", "x-auth-token-type", "x-custom", "close"]), 0..5)) {
        let gate = gate(&[]);
        let listed = listed.join(" , ");
        let mut facts = Facts::new("GET", "/v1/models", None);
        facts.header("Connection", listed.as_bytes()).header("Authorization", BEARER.as_bytes());
        let verdict = judge(&gate, &facts);
        let Action::Forward(forward) = Action::of(&verdict, gate.policy(), &facts, NOW) else { panic!("refused: {verdict:?}") };
        let names: Vec<_> = forward.sets().map(|(name, _)| name).filter(|name| IDENTITY.contains(name)).collect();
        prop_assert_eq!(names, ["x-user-id", "x-auth-token-type"]);
        let lower = listed.to_ascii_lowercase();
        prop_assert_eq!(forward.keeps("x-custom"), !lower.split(" , ").any(|name| name == "x-custom"));
    }

    #[test]
    fn what_is_judged_is_what_goes_on(path in nasty_path(), query in option::of(".{0,12}")) {
        let facts = Facts::new("GET", &path, query.as_deref());
        let target = query.as_ref().map_or_else(|| path.clone(), |query| format!("{path}?{query}"));
        prop_assert_eq!(facts.target(), target);
    }

    #[test]
    fn no_request_makes_it_panic(
        method in ".{0,6}", path in prop_oneof![nasty_path(), ".{0,20}"], query in option::of(".{0,8}"), peer in option::of(".{0,8}"),
        headers in vec((prop_oneof![
            ".{0,14}",
            spelled(&["host", "origin", "upgrade", "connection", "authorization", "x-admin-token", "sec-fetch-site", "access-control-request-method"]),
        ], vec(any::<u8>(), 0..24)), 0..6),
        token in option::of(".{0,12}"), store_fails in any::<bool>(), open in any::<bool>(),
    ) {
        let provider = if open { "" } else { "static" };
        let settings = settings(&[("AUTH_PROVIDER", provider), ("ADMIN_TOKEN", ADMIN_TOKEN)]).unwrap();
        let mut gate = Gate::with_store(settings.policy);
        let mut facts = Facts::new(&method, &path, query.as_deref());
        if let Some(peer) = &peer {
            facts.peer(peer);
        }
        for (name, value) in &headers {
            facts.header(name, value);
        }
        let verdict = decided(match begin(&mut gate, &facts, NOW) {
            Step::NeedTokens(need) => {
                let tokens = if store_fails { Err(Unavailable) } else { Ok(token.map(Secret::new)) };
                need.provide(tokens, NOW)
            }
            step => step,
        });
        match Action::of(&verdict, gate.policy(), &facts, NOW) {
            Action::Respond(answer) => {
                prop_assert!(serde_json::from_str::<serde_json::Value>(&answer.body).is_ok());
                prop_assert!(answer.headers().any(|header| header == ("cache-control", "no-store")));
            }
            Action::Forward(_) => panic!("there is no upstream"),
        }
    }

    #[test]
    fn a_mask_never_shows_a_token(token in ".{0,60}") {
        let masked = mask_token(&token);
        prop_assert!(masked.chars().count() <= 15);
        if token.chars().count() < 24 {
            prop_assert_eq!(masked, "***");
        }
    }

    #[test]
    fn a_store_never_accepts_what_it_does_not_hold(value in prop_oneof![".{0,40}", r#"\{"tokens":\[.{0,20}\]\}"#, "[!-~]{1,12}"]) {
        let mut gate = Gate::with_store(Policy::clone(gate(&[]).policy()));
        let mut facts = Facts::new("GET", "/v1/models", None);
        facts.header("Authorization", BEARER.as_bytes());
        let Step::NeedTokens(need) = begin(&mut gate, &facts, NOW) else { panic!("decided without the store") };
        let verdict = decided(need.provide(Ok(Some(Secret::new(value.clone()))), NOW));
        prop_assert!(matches!(verdict, Verdict::Refuse(_)), "{value:?}");
    }

    #[test]
    fn settings_are_never_weaker_than_asked(
        host in select(&[Host::Native, Host::Edge, Host::Embedded, Host::Layer][..]),
        values in vec(option::of(prop_oneof![
            ".{0,12}",
            select(&["", "1", "0", "true", "none", "local", "static", "development", "production", "/docs", "/admin", "http://x", "127.0.0.1:80", "0.0.0.0:80", "x"][..])
                .prop_map(str::to_owned),
        ]), SETTINGS.len()),
    ) {
        let given: BTreeMap<&str, String> =
            SETTINGS.iter().zip(values).filter_map(|(setting, value)| Some((setting.name, value?))).collect();
        let asked = |name: &str| given.get(name).map(|value| value.trim()).filter(|value| !value.is_empty());
        // Total: whatever was given, there are settings or there is a list of what is wrong.
        let settings = match Settings::parse(host, |name| given.get(name).cloned()) {
            Ok(settings) => settings,
            Err(errors) => {
                prop_assert!(!errors.0.is_empty());
                for error in &errors.0 {
                    prop_assert!(asked(error.name).is_some(), "{} was not set: {}", error.name, error);
                }
                return Ok(());
            }
        };
        let policy = &settings.policy;
        let in_production = asked("ENV").map_or(host != Host::Native, |env| env == "production");
        match (policy.provider(), asked("AUTH_PROVIDER")) {
            (Provider::Static, None | Some("static")) => {}
            (Provider::None, Some("none")) | (Provider::Local, Some("local")) => {
                prop_assert!(!in_production || asked("AUTH_ALLOW_INSECURE") == Some("1"));
            }
            (Provider::LocalByDefault, None) => prop_assert!(!in_production),
            (got, asked) => prop_assert!(false, "asked for {asked:?}, got {got:?}"),
        }
        let token = asked("WORKER_AUTH_TOKEN").or(asked("SERVER_AUTH_TOKEN"));
        prop_assert_eq!(settings.token.as_ref().map(Secret::reveal), token);
        if asked("ADMIN_TOKEN").is_some() && policy.provider() == Provider::None {
            let gate = Gate::with_store(policy.clone());
            let facts = Facts::new("GET", "/admin", None);
            prop_assert_eq!(judge(&gate, &facts), Verdict::Refuse(Reason::NoAdminToken));
        }
        let listed = asked("AUTH_PUBLIC_PATHS").unwrap_or_default();
        for public in policy.public_paths().skip(2) {
            prop_assert!(listed.split(',').any(|path| path.trim() == public));
        }
    }
}

#[test]
fn an_own_path_never_reaches_the_upstream() {
    let gate = gate(&[]);
    for path in ["/.auth", "/.auth/whoami", "/.auth/verify", "/%2Eauth/x", "/x/..%2f.AUTH/whoami"] {
        for method in ["GET", "POST", "HEAD", "OPTIONS"] {
            let mut facts = Facts::new(method, path, None);
            facts.header("Authorization", BEARER.as_bytes());
            let verdict = judge(&gate, &facts);
            let action = Action::of(&verdict, gate.policy(), &facts, NOW);
            assert!(matches!(action, Action::Respond(_)), "{method} {path}");
        }
    }
}

#[test]
fn a_pass_names_nobody_only_where_nobody_was_asked() {
    let gate = gate(&[]);
    let mut facts = Facts::new("GET", "/v1/models", None);
    facts.header("Authorization", BEARER.as_bytes());
    assert!(matches!(judge(&gate, &facts), Verdict::Pass(Pass { identity: Some(_), .. })));
}
