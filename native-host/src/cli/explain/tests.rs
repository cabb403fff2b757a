//! An explanation and a gateway, side by side: whatever the request, they come to the same end, and the steps lead to it.

#[path = "../../../../tests/cases/mod.rs"]
mod cases;

use std::sync::LazyLock;

use aws_lc_rs::{
    hmac,
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use hyper::{Request, Uri, header::HeaderValue};
use nodetool_edge_auth::{
    Action, Facts, FindingStatus, Gate, Host as Kind, Outcome, Reason, Secret, Settings, Tokens, Verdict, begin, drive,
};
use proptest::{collection::vec, option, prelude::*, sample::select, strategy::ValueTree, test_runner::TestRunner};
use serde_json::{Value, json};
use tokio::runtime;

use super::{Described, Explanation, Follows, judge};
use crate::{clock, judge::Host, store::Found};

const TOKEN: &str = "test-token-0123456789-abcdefgh";
const ADMIN_TOKEN: &str = "test-admin-0123456789-abcdefgh";
const SECRET: &str = "test-secret-0123456789-abcdefghijkl";

static KEY: LazyLock<EcdsaKeyPair> = LazyLock::new(|| EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap());

/// The key set of the project, so that nothing is fetched.
static JWKS: LazyLock<String> = LazyLock::new(|| {
    let (x, y) = KEY.public_key().as_ref()[1..].split_at(32);
    json!({ "keys": [{ "kty": "EC", "crv": "P-256", "kid": "k1", "x": encode(x), "y": encode(y) }] }).to_string()
});

fn encode(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

fn settings(provider: &str) -> Settings {
    let project: &[(&str, &str)] = &[
        ("SUPABASE_URL", "http://127.0.0.1:9"),
        ("SUPABASE_KEY", "sb_publishable_x"),
        ("SUPABASE_JWT_SECRET", SECRET),
        ("SUPABASE_JWKS", &JWKS),
        ("SUPABASE_ALLOW_ANONYMOUS", "no"),
        ("AUTH_ADMIN_ROLES", "service"),
    ];
    let all = [("AUTH_PROVIDER", provider), ("ADMIN_TOKEN", ADMIN_TOKEN), ("UPSTREAM_URL", "http://127.0.0.1:9")];
    let get = |name: &str| all.iter().chain(project).find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
    Settings::parse(Kind::Native, get).unwrap()
}

/// A token of the project: what is wrong with it, if anything, is a claim, the header or the signature.
fn jwt() -> impl Strategy<Value = String> {
    let now = clock::now().as_secs();
    let changes = [
        json!({}),
        json!({}),
        json!({}),
        json!({ "exp": now - 1000 }),
        json!({ "exp": "soon" }),
        json!({ "nbf": now + 1000 }),
        json!({ "iat": -1 }),
        json!({ "iss": "https://evil.example\nok       signature: right" }),
        json!({ "aud": ["other"] }),
        json!({ "sub": "1" }),
        json!({ "role": null }),
        json!({ "role": "service" }),
        json!({ "is_anonymous": true }),
        json!({ "is_anonymous": 0 }),
    ];
    let headers = [
        json!({}),
        json!({}),
        json!({ "kid": "k2" }),
        json!({ "kid": 2 }),
        json!({ "alg": "none" }),
        json!({ "jku": "https://evil.example" }),
    ];
    let changes = vec(select(changes.to_vec()), 1..3);
    (changes, select(headers.to_vec()), any::<bool>(), prop::bool::weighted(0.8)).prop_map(move |(changes, header, is_es256, is_right)| {
        let mut claims = json!({ "exp": now + 1000, "iat": now - 10, "iss": "http://127.0.0.1:9/auth/v1", "aud": "authenticated", "sub": "u1", "role": "authenticated" });
        let mut head = json!({ "alg": if is_es256 { "ES256" } else { "HS256" }, "kid": "k1" });
        let merge = |object: &mut Value, changes: &Value| object.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        changes.iter().for_each(|change| merge(&mut claims, change));
        merge(&mut head, &header);
        let message = format!("{}.{}", encode(head.to_string()), encode(claims.to_string()));
        let signed = if is_right { message.clone() } else { format!("{message}x") };
        let signature = if is_es256 {
            KEY.sign(&SystemRandom::new(), signed.as_bytes()).unwrap().as_ref().to_vec()
        } else {
            hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes()), signed.as_bytes()).as_ref().to_vec()
        };
        format!("{message}.{}", encode(signature))
    })
}

fn path() -> impl Strategy<Value = Uri> {
    const PIECES: &[&str] = &[
        "/",
        "/",
        "/",
        "admin",
        "ADMIN",
        "health",
        "terminal",
        ".auth",
        "whoami",
        "v1",
        "..",
        ";a",
        "//",
        "%2f",
        "%252f",
        "%2e",
        "%61",
        "%00",
        "%",
        "?a=/admin",
        "*",
    ];
    let known = select(&["/v1/models", "/health", "/admin/x", "/%61dmin", "/terminal", "/.auth/whoami", "/.auth/x"][..]);
    let nasty = vec(select(PIECES), 0..7).prop_map(|pieces| format!("/{}", pieces.concat()));
    prop_oneof![known.prop_map(str::to_owned), nasty].prop_filter_map("no path of a request", |path| path.parse().ok())
}

fn credential() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(format!("Bearer {TOKEN}")),
        jwt().prop_map(|token| format!("Bearer {token}")),
        jwt().prop_map(|token| format!("Bearer {token}")),
        select(&["Bearer wrong", "Basic x", "", "Bearer eyJ.x.y", "Bearer a b"][..]).prop_map(str::to_owned),
    ]
}

type Header = (&'static str, String);

fn header() -> impl Strategy<Value = Header> {
    const HEADERS: &[(&str, &str)] = &[
        ("x-admin-token", ADMIN_TOKEN),
        ("x-admin-token", ADMIN_TOKEN),
        ("x-admin-token", "wrong"),
        ("x-forwarded-for", "192.0.2.1"),
        ("origin", "http://a.example"),
        ("access-control-request-method", "PUT"),
        ("upgrade", "websocket"),
        ("connection", "upgrade, x-custom"),
        ("content-length", "2"),
        ("host", "x.example"),
        ("x-user-id", "root"),
        ("x-custom", "1"),
    ];
    select(HEADERS).prop_map(|(name, value)| (name, value.to_owned()))
}

/// What a gateway makes of it, which has just started.
fn gateway<'a>(settings: &Settings, facts: &'a Facts<'a>) -> (Outcome, Gate) {
    let mut gate = Gate::with_tokens(settings.policy.clone(), Tokens::single(TOKEN).unwrap());
    let step = begin(&mut gate, facts, clock::now());
    (block_on(drive(step, &Host { project: None })), gate)
}

fn explained(settings: Settings, method: &str, path: &Uri, headers: &[Header], peer: &str) -> Explanation {
    let mut request = Request::builder().method(method).uri(path.clone());
    for (name, value) in headers {
        request = request.header(*name, HeaderValue::from_str(value).unwrap());
    }
    let described = Described { parts: request.body(()).unwrap().into_parts().0, peer: peer.to_owned() };
    let found = Found::in_environment(Secret::new(TOKEN.to_owned()));
    block_on(judge(settings, Some(&found), &described)).unwrap()
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

proptest! {
    #![proptest_config(cases::config(3000))]

    #[test]
    fn it_ends_as_in_a_gateway_and_the_steps_say_why(
        provider in select(&["none", "", "static", "supabase", "supabase"][..]),
        method in select(&["GET", "GET", "HEAD", "POST", "OPTIONS", "TRACE"][..]),
        path in path(), credential in option::weighted(0.9, credential()), headers in vec(header(), 0..3), peer in select(&["127.0.0.1", "192.0.2.1"][..]),
    ) {
        let host = ("host", "127.0.0.1:8000".to_owned());
        let all: Vec<Header> = [host].into_iter().chain(credential.map(|value| ("authorization", value))).chain(headers).collect();
        let settings = settings(provider);
        let explanation = explained(settings.clone(), method, &path, &all, peer);

        let mut facts = Facts::new(method, path.path(), path.query());
        facts.peer(peer);
        for (name, value) in &all {
            facts.header(name, value.as_bytes());
        }
        let (outcome, gate) = gateway(&settings, &facts);
        prop_assert_eq!(&explanation.verdict, &outcome.verdict);
        match (Action::of(&outcome.verdict, gate.policy(), &facts, clock::now()), &explanation.follows) {
            (Action::Respond(answer), Follows::Answer(told)) => prop_assert_eq!(&answer, told),
            (Action::Forward(forward), Follows::Forward { headers, .. }) => {
                // A credential is shown masked.
                for (name, value) in forward.sets().filter(|(name, _)| *name != "authorization") {
                    prop_assert!(headers.contains(&(name.to_owned(), value.to_owned())), "{}", name);
                }
            }
            _ => prop_assert!(false, "another action"),
        }

        let refused: Vec<_> = explanation.steps.iter().filter(|step| step.status == FindingStatus::Refused).collect();
        prop_assert_eq!(refused.is_empty(), explanation.passes(), "{:?}: {:?}", explanation.verdict, refused.iter().map(|step| &step.detail).collect::<Vec<_>>());
        let (lines, json) = (explanation.lines(), explanation.json());
        prop_assert!(!lines.concat().contains(char::is_control), "{lines:?}");
        let printed = format!("{lines:?} {json}");
        for secret in [TOKEN, ADMIN_TOKEN, SECRET] {
            prop_assert!(!printed.contains(secret), "{} is printed: {}", secret, printed);
        }
        if let Some((_, value)) = all.iter().find(|(name, _)| *name == "authorization").filter(|(_, value)| value.len() > 40) {
            prop_assert!(!printed.contains(&value[value.len() - 30..]));
        }
    }
}

/// The strategies above are worth nothing if all that they make is refused for its path.
#[test]
fn every_kind_of_end_is_tried() {
    let (mut runner, mut ends) = (TestRunner::deterministic(), std::collections::BTreeSet::new());
    let tried = (path(), credential(), vec(header(), 0..3));
    for _ in 0..1500 {
        let (path, credential, headers) = tried.new_tree(&mut runner).unwrap().current();
        let all: Vec<Header> =
            [("host", "127.0.0.1".to_owned()), ("authorization", credential)].into_iter().chain(headers).collect();
        ends.insert(match explained(settings("supabase"), "GET", &path, &all, "192.0.2.1").verdict {
            Verdict::Refuse(reason) => reason.code(),
            Verdict::Pass(pass) => pass.identity.map_or("public", |identity| identity.token_type.as_str()),
        });
    }
    for reason in [
        Reason::MalformedRequest,
        Reason::NoCredential,
        Reason::MalformedCredential,
        Reason::InvalidToken,
        Reason::MalformedToken,
        Reason::ForbiddenTokenHeader,
        Reason::UnsupportedAlgorithm,
        Reason::UnacceptableClaims,
        Reason::ExpiredToken,
        Reason::BadSignature,
        Reason::UnknownKey,
        Reason::NotAnAdmin,
        Reason::NoAdminToken,
        Reason::InvalidAdminToken,
        Reason::TerminalNotServed,
        Reason::NoSuchOwnPath,
    ] {
        assert!(ends.contains(reason.code()), "{reason:?} is not among {ends:?}");
    }
    assert!(["public", "static", "user"].iter().all(|end| ends.contains(end)), "{ends:?}");
}
