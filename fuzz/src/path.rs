use std::sync::LazyLock;

use nodetool_edge_auth::{Action, Facts, Gate, Verdict};

use crate::{
    NOW, STATIC, gate, judge, policy,
    second_opinion::{is_under, readings},
};

const ADMIN_TOKEN: &str = "the-admin-token-of-a-fuzzed-gate";
const PUBLIC: [&str; 3] = ["/health", "/ping", "/docs/intro"];

static GATE: LazyLock<Gate> = LazyLock::new(|| {
    gate(policy(&[("AUTH_PROVIDER", "static"), ("AUTH_PUBLIC_PATHS", "/docs/intro"), ("ADMIN_TOKEN", ADMIN_TOKEN)]))
});

/// The target of a request: a path, and a query after the first `?`. Accepted is one that passes with a token.
pub fn path(data: &[u8]) -> bool {
    let Ok(target) = str::from_utf8(data) else { return false };
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let bearer = format!("Bearer {STATIC}");
    let is_malformed = is_malformed(path);
    let passes = |method: &str, headers: &[(&str, &str)]| {
        let mut facts = Facts::new(method, path, query);
        for (name, value) in headers {
            facts.header(name, value.as_bytes());
        }
        let verdict = judge(&GATE, &facts).verdict;
        let Verdict::Pass(pass) = &verdict else { return false };
        assert!(!is_malformed, "malformed, but it passes");
        // Nobody vouches for what is public or a preflight.
        assert_eq!(pass.identity.is_some(), headers.contains(&("Authorization", &bearer)) && !PUBLIC.contains(&path));
        if let Action::Forward(_) = Action::of(&verdict, GATE.policy(), &facts, NOW) {
            assert_eq!(facts.target(), target, "what was judged is not what goes on");
        }
        true
    };

    for method in ["GET", "HEAD", "POST", "OPTIONS"] {
        let is_public = PUBLIC.contains(&path) && ["GET", "HEAD"].contains(&method);
        assert_eq!(passes(method, &[]), is_public, "{method} without a credential");
    }

    let user = passes("GET", &[("Authorization", &bearer)]);
    let admin = passes("GET", &[("Authorization", &bearer), ("X-Admin-Token", ADMIN_TOKEN)]);
    let preflight = passes("OPTIONS", &[("Origin", "https://app.test"), ("Access-Control-Request-Method", "PUT")]);
    assert!(admin || !user, "the admin token takes rights away");
    if admin || preflight {
        let readings = readings(path);
        let falls_under = |area: &str| readings.iter().any(|reading| is_under(reading, area));
        assert!(!(user && falls_under("/admin")), "leads around the admin token");
        assert!(!falls_under("/terminal") && !falls_under("/ws/terminal"), "leads to the terminal, which is not served");
        assert!(path == "/.auth/whoami" && !preflight || !falls_under("/.auth"), "takes an own path of the gateway along");
    }
    // Nor is it safe because nothing passes: a name that nobody can misread is served.
    let is_simple =
        path.strip_prefix("/v1/").is_some_and(|name| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    assert!(user || !is_simple, "an honest path is refused");
    user
}

/// By the README: control bytes raw or encoded, a raw backslash, a raw `#`, a broken percent escape, no leading slash.
fn is_malformed(path: &str) -> bool {
    let mut escapes = path.split('%');
    let raw = escapes.next().unwrap_or_default();
    let is_broken = |escape: &str| {
        let digits = escape.get(..2).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        digits.is_none_or(|digits| u8::from_str_radix(digits, 16).is_ok_and(|byte| byte.is_ascii_control()))
    };
    !raw.starts_with('/')
        || path.bytes().any(|byte| byte.is_ascii_control() || byte == b'\\' || byte == b'#')
        || escapes.any(is_broken)
}
