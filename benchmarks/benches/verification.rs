//! What it takes to judge one request, beside `jsonwebtoken` on the same AWS-LC:
//! `cargo bench -p nodetool-edge-auth-benchmarks`.
//!
//! Both check the signature, `exp`, `nbf`, `iss`, `aud` and `sub` of tokens as Supabase makes them. Ours also reads the
//! path and the header, looks for the token among the static and the known ones, and says whom the upstream is told.
//! Different tokens come in turn, so that no branch predictor learns one by heart.
#![expect(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a benchmark that fails has nothing to say")]

use std::hint::black_box;

use aws_lc_rs::{
    hmac,
    rand::SystemRandom,
    rsa::KeySize,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
        RsaPublicKeyComponents,
    },
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use criterion::{Criterion, criterion_group, criterion_main};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use nodetool_auth::verify_signature;
use nodetool_edge_auth::{Facts, Gate, Host, Settings, Step, Tokens, UnixTime, Verdict, begin};
use serde_json::json;

const PROJECT: &str = "http://127.0.0.1:54321";
const STATIC_TOKEN: &str = "benchmark-token-0123456789-abcdefgh";
const SECRET: &str = "benchmark-secret-of-more-than-32-bytes";
const TOKENS: usize = 200;

/// When the tokens are judged: 2026-01-01T00:00:00Z. Theirs looks at the clock, so they end when nobody measures any more.
const NOW: u64 = 1_767_225_600;
const END: u64 = 4_102_444_800;

/// One algorithm, with its public key for each of the two, and tokens.
struct Contest {
    name: &'static str,
    algorithm: Algorithm,
    theirs: DecodingKey,
    ours: String,
    tokens: Vec<String>,
}

impl Contest {
    fn new(algorithm: Algorithm, theirs: DecodingKey, jwk: &str, sign: impl Fn(&[u8]) -> Vec<u8>) -> Self {
        let name = match algorithm {
            Algorithm::ES256 => "ES256",
            Algorithm::RS256 => "RS256",
            Algorithm::EdDSA => "EdDSA",
            _ => "HS256",
        };
        let header = json!({ "alg": name, "kid": "benchmark", "typ": "JWT" }).to_string();
        let tokens = (0..TOKENS).map(|number| {
            let message = format!("{}.{}", encode(header.as_bytes()), encode(claims(number).as_bytes()));
            let signature = encode(&sign(message.as_bytes()));
            format!("{message}.{signature}")
        });
        Self { name, algorithm, theirs, ours: format!(r#"{{"keys":[{jwk}]}}"#), tokens: tokens.collect() }
    }

    fn all() -> Vec<Self> {
        let random = SystemRandom::new();
        let es256 = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let (x, y) = es256.public_key().as_ref().get(1..).unwrap().split_at(32);
        let (x, y) = (encode(x), encode(y));
        let ed25519 = Ed25519KeyPair::generate().unwrap();
        let point = encode(ed25519.public_key().as_ref());
        let rs256 = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let RsaPublicKeyComponents { n, e } = RsaPublicKeyComponents::<Vec<u8>>::from(rs256.public_key());
        let (n, e) = (encode(&n), encode(&e));
        let secret = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
        vec![
            Self::new(
                Algorithm::ES256,
                DecodingKey::from_ec_components(&x, &y).unwrap(),
                &format!(r#"{{"kty":"EC","crv":"P-256","kid":"benchmark","x":"{x}","y":"{y}"}}"#),
                |message| es256.sign(&random, message).unwrap().as_ref().to_vec(),
            ),
            Self::new(
                Algorithm::RS256,
                DecodingKey::from_rsa_components(&n, &e).unwrap(),
                &format!(r#"{{"kty":"RSA","kid":"benchmark","n":"{n}","e":"{e}"}}"#),
                |message| {
                    let mut signature = vec![0; rs256.public_modulus_len()];
                    rs256.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).unwrap();
                    signature
                },
            ),
            Self::new(
                Algorithm::EdDSA,
                DecodingKey::from_ed_components(&point).unwrap(),
                &format!(r#"{{"kty":"OKP","crv":"Ed25519","kid":"benchmark","x":"{point}"}}"#),
                |message| ed25519.sign(message).as_ref().to_vec(),
            ),
            // A key set that pins nothing of use: HS256 has its secret.
            Self::new(
                Algorithm::HS256,
                DecodingKey::from_secret(SECRET.as_bytes()),
                &format!(r#"{{"kty":"OKP","crv":"Ed25519","kid":"another","x":"{point}"}}"#),
                |message| hmac::sign(&secret, message).as_ref().to_vec(),
            ),
        ]
    }

    /// A gate that knows the key. Unless it is told what it learned, every token is new to it.
    fn gate(&self) -> Gate {
        let settings = Settings::parse(Host::Embedded, |name| match name {
            "AUTH_PROVIDER" => Some("supabase".to_owned()),
            "SUPABASE_URL" => Some(PROJECT.to_owned()),
            "SUPABASE_KEY" => Some("benchmark-key".to_owned()),
            "SUPABASE_JWKS" => Some(self.ours.clone()),
            "SUPABASE_JWT_SECRET" => Some(SECRET.to_owned()),
            _ => None,
        });
        Gate::with_tokens(settings.unwrap().policy, Tokens::single(STATIC_TOKEN).unwrap())
    }

    fn validation(&self) -> Validation {
        let mut validation = Validation::new(self.algorithm);
        validation.leeway = 30;
        validation.validate_nbf = true;
        validation.set_issuer(&[format!("{PROJECT}/auth/v1")]);
        validation.set_audience(&["authenticated"]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        validation
    }
}

fn encode(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// What Supabase says of a user, some 900 bytes once it is a token.
fn claims(number: usize) -> String {
    json!({
        "iss": format!("{PROJECT}/auth/v1"),
        "sub": format!("00000000-0000-4000-8000-{number:012}"),
        "aud": "authenticated",
        "exp": END,
        "iat": NOW,
        "email": format!("user{number}@example.com"),
        "phone": "",
        "app_metadata": { "provider": "email", "providers": ["email"] },
        "user_metadata": { "email_verified": true, "name": "A user of the benchmark" },
        "role": "authenticated",
        "aal": "aal1",
        "amr": [{ "method": "password", "timestamp": NOW }],
        "session_id": format!("00000000-0000-4000-9000-{number:012}"),
        "is_anonymous": false,
    })
    .to_string()
}

/// From the headers of a request to the identity of its sender.
fn judge(gate: &mut Gate, authorization: &[u8], now: UnixTime, learns: bool) -> Verdict {
    let mut facts = Facts::new("GET", "/v1/models", None);
    facts.header("authorization", authorization);
    let mut step = begin(gate, &facts, now);
    if let Step::NeedSignature(need) = step {
        let is_right = need.check().is_some_and(verify_signature);
        step = need.provide(Ok(is_right), now);
    }
    let Step::Decided(outcome) = step else { panic!("everything is known") };
    if learns {
        gate.learn(outcome.learned);
    }
    assert!(matches!(outcome.verdict, Verdict::Pass(_)), "{:?}", outcome.verdict);
    outcome.verdict
}

fn verification(criterion: &mut Criterion) {
    let headers = |contest: &Contest| -> Vec<Vec<u8>> {
        contest.tokens.iter().map(|token| format!("Bearer {token}").into_bytes()).collect()
    };
    let now = UnixTime::from_secs(NOW);
    let contests = Contest::all();
    for contest in &contests {
        let mut group = criterion.benchmark_group(format!("{} fresh", contest.name));
        let mut gate = contest.gate();
        let headers = headers(contest);
        let mut headers = headers.iter().cycle();
        group.bench_function("nodetool-edge-auth", |bencher| {
            bencher.iter(|| judge(&mut gate, black_box(headers.next().unwrap()), now, false));
        });
        let validation = contest.validation();
        let mut tokens = contest.tokens.iter().cycle();
        group.bench_function("jsonwebtoken", |bencher| {
            bencher.iter(|| {
                let token = black_box(tokens.next().unwrap());
                jsonwebtoken::decode::<serde_json::Value>(token, &contest.theirs, &validation).unwrap()
            });
        });
        group.finish();
    }

    let Some(contest) = contests.first() else { return };
    let mut gate = contest.gate();
    let headers = headers(contest);
    for header in &headers {
        judge(&mut gate, header, now, true);
    }
    let mut headers = headers.iter().cycle();
    let mut group = criterion.benchmark_group("known");
    group.bench_function("repeated JWT", |bencher| {
        bencher.iter(|| judge(&mut gate, black_box(headers.next().unwrap()), now, true));
    });
    let header = format!("Bearer {STATIC_TOKEN}").into_bytes();
    group.bench_function("static token", |bencher| {
        bencher.iter(|| judge(&mut gate, black_box(&header), now, true));
    });
    group.finish();
}

criterion_group!(benches, verification);
criterion_main!(benches);
