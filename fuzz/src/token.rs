use std::{
    cell::Cell,
    pin::pin,
    sync::LazyLock,
    task::{Context, Poll, Waker},
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac};
use nodetool_edge_auth::{
    Action, Effects, Facts, FetchedKeys, Gate, Identity, Jwks, KeysAnswer, Learned, Outcome, Reason, Secret, SignatureCheck,
    Unavailable, UnixTime, UserAnswer, UserQuestion, Verdict, WantedKeys, begin, drive,
};
use serde_json::Value;
use sha2::Sha256;

use crate::{NOW, STATIC, gate, json::strict, parts, policy};

/// What stands for the signature that the secret of the project makes.
const SIGNED: &[u8] = b"HS256";
const SECRET: &str = "the-jwt-secret-of-a-fuzzed-project";
const ISSUER: &str = "https://project.test/auth/v1";
const LEEWAY: f64 = 30.0;
const PROJECT: [(&str, &str); 3] = [
    ("AUTH_PROVIDER", "supabase"),
    ("SUPABASE_URL", "https://project.test"),
    ("SUPABASE_KEY", "sb_publishable_of_a_fuzzed_project"),
];

/// Key ids and algorithms. A token of ES256 without a key id could mean either of two keys, so it means none.
const KEYS: [(&str, &str); 6] =
    [("es", "ES256"), ("next", "ES256"), ("rs", "RS256"), ("rs512", "RS512"), ("ps", "PS256"), ("ed", "EdDSA")];

/// Nobody checks a signature here, so numbers of the right size will do for keys.
static DOCUMENT: LazyLock<String> = LazyLock::new(|| {
    let keys = KEYS.map(|(id, algorithm)| {
        // The first letter is what they differ by.
        let number = |length: usize| format!("{}Q{}", if id == "next" { "x" } else { "w" }, "A".repeat(length - 2));
        let material = match algorithm {
            "ES256" => format!(r#""kty":"EC","crv":"P-256","x":"{0}","y":"{0}""#, number(43)),
            "EdDSA" => format!(r#""kty":"OKP","crv":"Ed25519","x":"{}""#, number(43)),
            _ => format!(r#""kty":"RSA","e":"AQAB","n":"{}""#, number(342)),
        };
        format!(r#"{{"kid":"{id}","alg":"{algorithm}",{material}}}"#)
    });
    format!(r#"{{"keys":[{}]}}"#, keys.join(","))
});

static JWKS: LazyLock<Jwks> = LazyLock::new(|| Jwks::parse(DOCUMENT.as_bytes()).unwrap());

/// A gate that knows all that there is to know: keys and secret.
static KNOWING: LazyLock<Gate> =
    LazyLock::new(|| gate(policy(&[&PROJECT[..], &[("SUPABASE_JWKS", &**DOCUMENT), ("SUPABASE_JWT_SECRET", SECRET)]].concat())));

/// A gate that has to ask for everything.
static ASKING: LazyLock<Gate> = LazyLock::new(|| gate(policy(&PROJECT)));

/// A bearer token: as it is, or header, claims and signature, which are put together here, because no fuzzer finds its way
/// through base64. [`SIGNED`] in place of the signature signs with the secret of the project. Accepted is one that passes.
pub fn token(data: &[u8]) -> bool {
    let token = match parts(data)[..] {
        [token] => token.to_vec(),
        [header, claims, signature] => compact(header, claims, signature),
        _ => return false,
    };
    let authorization = [b"Bearer ", &token[..]].concat();
    let mut facts = Facts::new("GET", "/v1/models", None);
    facts.header("Authorization", &authorization);
    // Blanks around a header's value are none of it; nor are those after the scheme, but there a tab is none.
    let text = str::from_utf8(&token).unwrap_or_default().trim_start_matches(' ').trim_end_matches([' ', '\t']);
    let (token, session) = (text.as_bytes(), Session::read(text));

    let mut passes = false;
    for (gate, knows) in [(&*KNOWING, true), (&*ASKING, false)] {
        for says_yes in [true, false] {
            let world = World { now: NOW, session: session.as_ref(), token, says_yes, asked: Cell::new(false) };
            let outcome = world.judge(gate, &facts);
            let expected = if token == STATIC.as_bytes() {
                Some(Identity::STATIC)
            } else {
                session.as_ref().filter(|session| session.passes(knows, says_yes)).map(Session::identity)
            };
            match &outcome.verdict {
                Verdict::Pass(pass) => {
                    assert_eq!(pass.identity, expected, "who passes");
                    check_forwarded(gate, &facts, &outcome.verdict);
                    passes = true;
                }
                Verdict::Refuse(reason) => assert_eq!(expected, None, "refused for {reason:?}"),
            }
            if let (Verdict::Pass(_), Some(session)) = (&outcome.verdict, &session) {
                let vouched_for = world.asked.get() || knows && session.is_signed;
                assert!(vouched_for, "nobody was asked whether the token is genuine");
                check_memory(gate, &facts, outcome.learned, &World { says_yes: false, ..world }, session, knows);
            }
        }
    }
    passes
}

fn compact(header: &[u8], claims: &[u8], signature: &[u8]) -> Vec<u8> {
    let encode = |part: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(part);
    let message = format!("{}.{}", encode(header), encode(claims));
    let signature = if signature == SIGNED { mac(&message).finalize().into_bytes().to_vec() } else { signature.to_vec() };
    format!("{message}.{}", encode(&signature)).into_bytes()
}

fn mac(message: &str) -> Hmac<Sha256> {
    Hmac::new_from_slice(SECRET.as_bytes()).unwrap().chain_update(message)
}

/// The upstream is told exactly who passed.
fn check_forwarded(gate: &Gate, facts: &Facts<'_>, verdict: &Verdict) {
    let (Verdict::Pass(pass), Action::Forward(forward)) = (verdict, Action::of(verdict, gate.policy(), facts, NOW)) else {
        unreachable!("not forwarded: {verdict:?}")
    };
    let identity = pass.identity.as_ref().unwrap();
    let told: Vec<_> = forward.sets().filter(|(name, _)| name.starts_with("x-user-") || name.starts_with("x-auth-")).collect();
    let mut expected = vec![("x-user-id", &*identity.user_id), ("x-auth-token-type", identity.token_type.as_str())];
    expected.extend(identity.role.as_deref().map(|role| ("x-auth-role", role)));
    assert_eq!(told, expected);
}

/// What a gate remembers of a token does not outlive it. `world` vouches for nothing any more.
fn check_memory(gate: &Gate, facts: &Facts<'_>, learned: Learned, world: &World<'_>, session: &Session, knows: bool) {
    let mut gate = gate.clone();
    gate.learn(learned);
    let is_signed = knows && session.is_signed;
    let at = |seconds: f64| World { now: UnixTime::from_millis((seconds * 1000.0).ceil() as u64).max(NOW), ..world.clone() };
    // From its end until the leeway is over, a genuine token passes; but not because it did before.
    if !is_signed {
        assert!(matches!(at(session.expires).judge(&gate, facts).verdict, Verdict::Refuse(_)), "remembered beyond its end");
    }
    // Doubles are not exact to the millisecond in the far future.
    let verdict = at(session.expires + LEEWAY + 2.0).judge(&gate, facts).verdict;
    assert_eq!(verdict, Verdict::Refuse(Reason::ExpiredToken));
}

/// What a token says by RFC 7515, RFC 7519 and the rules of the README.
struct Session {
    subject: String,
    role: String,
    expires: f64,
    /// Which of [`KEYS`] it means, if it means exactly one.
    key: Option<usize>,
    is_hs256: bool,
    /// Whether the secret of the project signed it.
    is_signed: bool,
}

impl Session {
    fn read(token: &str) -> Option<Self> {
        let [header, claims, signature] = token.split('.').collect::<Vec<_>>()[..] else { return None };
        if token.len() > 16 * 1024 {
            return None;
        }
        let decode = |segment: &str| {
            let bytes = BASE64_URL_SAFE_NO_PAD.decode(segment).ok()?;
            (BASE64_URL_SAFE_NO_PAD.encode(&bytes) == segment).then_some(bytes)
        };
        let tag = decode(signature)?;
        let (message, _) = token.rsplit_once('.')?;
        let (header, claims) = (strict(&decode(header)?)?, strict(&decode(claims)?)?);

        if ["crit", "jwk", "jku", "x5u", "x5c", "b64", "zip", "enc"].iter().any(|name| header.get(name).is_some()) {
            return None;
        }
        let optional = |name: &str| header.get(name).map_or(Some(None), |value| value.as_str().map(Some));
        let (_, id, algorithm) = (optional("typ")?, optional("kid")?, optional("alg")??);
        let is_hs256 = algorithm == "HS256";
        if !is_hs256 && algorithm != "RS384" && !KEYS.iter().any(|(_, known)| *known == algorithm) {
            return None;
        }
        let fitting = || KEYS.iter().enumerate().filter(|(_, key)| key.1 == algorithm && id.is_none_or(|id| key.0 == id));
        let key = fitting().next().filter(|_| fitting().count() == 1).map(|(index, _)| index);

        let name = |name: &str| {
            let text = claims.get(name)?.as_str()?;
            (!text.is_empty() && text.len() < 256 && text.chars().all(|letter| letter.is_ascii_graphic()))
                .then(|| text.to_owned())
        };
        let time = |value: &Value| value.as_f64().filter(|time| (0.0..9_007_199_254_740_992.0).contains(time));
        let (now, expires) = (NOW.as_secs() as f64, time(claims.get("exp")?)?);
        let has_begun = ["nbf", "iat"]
            .iter()
            .all(|name| claims.get(name).is_none_or(|value| time(value).is_some_and(|time| time <= now + LEEWAY)));
        let is_for_us = match claims.get("aud")? {
            Value::Array(all) => all.iter().all(Value::is_string) && all.iter().any(|one| one == "authenticated"),
            one => one == "authenticated",
        };
        let fits = now < expires + LEEWAY
            && has_begun
            && is_for_us
            && claims.get("iss")? == ISSUER
            && claims.get("sub")? != "1"
            && claims.get("is_anonymous").is_none_or(Value::is_boolean);
        let is_signed = is_hs256 && mac(message).verify_slice(&tag).is_ok();
        fits.then_some(Self { subject: name("sub")?, role: name("role")?, expires, key, is_hs256, is_signed })
    }

    fn passes(&self, gate_knows: bool, world_says_yes: bool) -> bool {
        match (gate_knows, self.is_hs256) {
            (true, true) => self.is_signed,
            (true, false) => self.key.is_some() && world_says_yes,
            // Whoever has neither the secret nor the key asks the project itself.
            (false, _) => world_says_yes,
        }
    }

    fn identity(&self) -> Identity {
        Identity::user(self.subject.clone(), self.role.clone(), UnixTime::from_millis((self.expires * 1000.0) as u64))
    }
}

/// Who answers the gate: to everything yes, or to everything no.
#[derive(Clone)]
struct World<'a> {
    now: UnixTime,
    session: Option<&'a Session>,
    token: &'a [u8],
    says_yes: bool,
    asked: Cell<bool>,
}

impl World<'_> {
    fn judge(&self, gate: &Gate, facts: &Facts<'_>) -> Outcome {
        let future = pin!(drive(begin(&mut gate.clone(), facts, self.now), self));
        // No answer is ever waited for.
        let Poll::Ready(outcome) = future.poll(&mut Context::from_waker(Waker::noop())) else { unreachable!("it waits") };
        outcome
    }
}

impl Effects for World<'_> {
    fn now(&self) -> UnixTime {
        self.now
    }

    async fn tokens(&self) -> Result<Option<Secret>, Unavailable> {
        unreachable!("the tokens of the gate are fixed")
    }

    async fn keys(&self, _: WantedKeys) -> KeysAnswer {
        KeysAnswer::Fetched(FetchedKeys::new(DOCUMENT.clone().into_bytes(), None), self.now)
    }

    async fn signature(&self, check: SignatureCheck<'_>) -> Result<bool, Unavailable> {
        self.asked.set(true);
        let session = self.session.expect("nobody is asked about what could not pass anyway");
        // The very bytes that came are what is signed, by the key that they name.
        let signature = BASE64_URL_SAFE_NO_PAD.encode(check.signature);
        assert_eq!([check.message, b".", signature.as_bytes()].concat(), self.token);
        assert_eq!(Some(check.key), session.key.and_then(|index| JWKS.iter().nth(index)));
        Ok(self.says_yes)
    }

    async fn user(&self, question: &UserQuestion) -> Result<UserAnswer, Unavailable> {
        self.asked.set(true);
        let session = self.session.expect("nobody is asked about what could not pass anyway");
        assert_eq!(question.token.reveal().as_bytes(), self.token);
        let (status, id) = if self.says_yes { (200, &*session.subject) } else { (403, "") };
        Ok(UserAnswer::new(status, serde_json::json!({ "id": id }).to_string().into_bytes()))
    }
}
