//! Keys, tokens and users over hours and days, on a clock that each test sets: nothing here sleeps.
//!
//! The host asks Supabase for all that the core wants to know. Supabase rotates its keys, fails, takes its time, and counts
//! what it is asked. A signature is a digest of the key and the message: only the key that signed verifies it.
#![cfg(not(target_arch = "wasm32"))]
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test that panics has failed, as it should")]

mod cases;

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    pin::pin,
    task::{Context, Poll, Waker},
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use nodetool_edge_auth::{
    Answer, Effects, Facts, FetchedKeys, Gate, Host, KeysAnswer, Material, Outcome, Reason, Secret, Settings, SignatureCheck,
    Tokens, Unavailable, UnixTime, UserAnswer, UserQuestion, Verdict, WantedKeys, begin, drive,
};
use proptest::{collection::vec, prelude::*, sample::select};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use Told::{Passes, PassesOnStaleKeys, Refused};

/// 2026-01-01T00:00:00Z. All times below are milliseconds since then.
const START: u64 = 1_767_225_600_000;
const SECOND: u64 = 1000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

const PROJECT: &str = "https://project.supabase.co";
const STATIC_TOKEN: &str = "test-token-0123456789-abcdefgh";

/// How long keys hold at most, and for how much longer in an outage.
const MAX_AGE: u64 = 10 * MINUTE;
const USABLE_FOR: u64 = HOUR;
const MISS_COOLDOWN: u64 = 30 * SECOND;
const FAILURE_COOLDOWN: u64 = 5 * SECOND;
/// The same for the store of static tokens.
const STORE_COOLDOWN: u64 = 5 * SECOND;

/// What came of a request.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Told {
    Passes,
    PassesOnStaleKeys,
    Refused(Reason),
}

impl Told {
    fn status(self) -> u16 {
        match self {
            Passes | PassesOnStaleKeys => 200,
            Refused(reason) => Answer::refusal(reason).status,
        }
    }
}

/// The clock, Supabase, and the host between them and the core.
struct World {
    now: Cell<u64>,
    /// The keys that the set lists, by number.
    listed: RefCell<Vec<u32>>,
    is_up: Cell<bool>,
    max_age: Cell<Option<u64>>,
    /// The answer of the user endpoint; without one it does not answer.
    user: RefCell<Option<(u16, Value)>>,
    /// The value in the token store; nothing if it cannot be read.
    stored: RefCell<Option<&'static str>>,
    /// If the host has the keys from somebody who fetched them earlier: when that was.
    fetched_at: Cell<Option<u64>>,
    /// Whether another request is fetching the keys.
    is_under_way: Cell<bool>,
    /// How long each of them takes.
    keys_take: Cell<u64>,
    signature_takes: Cell<u64>,
    /// Whether signatures cannot be checked.
    crypto_fails: Cell<bool>,
    /// Whether the token of the last question had been vouched for before.
    asked_about_known: Cell<bool>,
    user_takes: Cell<u64>,
    /// When keys were asked for, and whether they came.
    fetches: RefCell<Vec<(u64, bool)>>,
    checks: Cell<usize>,
    questions: Cell<usize>,
}

impl World {
    fn time(&self) -> UnixTime {
        UnixTime::from_millis(START + self.now.get())
    }

    fn pass(&self, time: u64) {
        self.now.set(self.now.get() + time);
    }

    fn list(&self, keys: &[u32]) {
        self.listed.replace(keys.to_vec());
    }

    fn answer(&self, status: u16, body: Value) {
        self.user.replace(Some((status, body)));
    }
}

impl Effects for World {
    fn now(&self) -> UnixTime {
        self.time()
    }

    async fn tokens(&self) -> Result<Option<Secret>, Unavailable> {
        let stored = self.stored.borrow().ok_or(Unavailable)?;
        Ok(Some(Secret::new(stored.to_owned())))
    }

    async fn keys(&self, wanted: WantedKeys) -> KeysAnswer {
        if self.is_under_way.get() {
            assert!(wanted.has_stand_in, "who cannot do without waits");
            return KeysAnswer::UnderWay;
        }
        self.pass(self.keys_take.get());
        self.fetches.borrow_mut().push((self.now.get(), self.is_up.get()));
        if !self.is_up.get() {
            return KeysAnswer::Failed(self.time());
        }
        let keys: Vec<Value> = self.listed.borrow().iter().map(|key| jwk(*key)).collect();
        let document = json!({ "keys": keys }).to_string().into_bytes();
        let at = self.fetched_at.get().map_or(self.time(), |at| UnixTime::from_millis(START + at));
        KeysAnswer::Fetched(FetchedKeys::new(document, self.max_age.get()), at)
    }

    async fn signature(&self, check: SignatureCheck<'_>) -> Result<bool, Unavailable> {
        self.pass(self.signature_takes.get());
        self.checks.set(self.checks.get() + 1);
        let Material::P256 { x, .. } = &check.key.material else { return Ok(false) };
        if self.crypto_fails.get() { Err(Unavailable) } else { Ok(signature(x, check.message) == check.signature) }
    }

    async fn user(&self, question: &UserQuestion) -> Result<UserAnswer, Unavailable> {
        self.asked_about_known.set(question.is_known);
        self.pass(self.user_takes.get());
        self.questions.set(self.questions.get() + 1);
        let (status, body) = self.user.borrow().clone().filter(|_| self.is_up.get()).ok_or(Unavailable)?;
        Ok(UserAnswer::new(status, body.to_string().into_bytes()))
    }
}

/// A gate in its world.
struct Gateway {
    gate: Gate,
    world: World,
}

impl Gateway {
    /// Key 1 is listed, the user endpoint refuses, and nothing is remembered unless the settings say so.
    fn new(settings: &[(&str, &str)]) -> Self {
        Self::with(settings, |policy| Gate::with_tokens(policy, Tokens::single(STATIC_TOKEN).unwrap()))
    }

    fn with(settings: &[(&str, &str)], gate: impl FnOnce(nodetool_edge_auth::Policy) -> Gate) -> Self {
        let fixed = [
            ("AUTH_PROVIDER", "supabase"),
            ("SUPABASE_URL", PROJECT),
            ("SUPABASE_KEY", "sb_publishable_test"),
            ("UPSTREAM_URL", "http://upstream.test"),
            ("AUTH_CACHE_TTL", "0"),
        ];
        let all: BTreeMap<&str, &str> = fixed.iter().chain(settings).copied().collect();
        let settings = Settings::parse(Host::Native, |name| all.get(name).map(ToString::to_string)).unwrap();
        let world = World {
            now: Cell::new(0),
            listed: RefCell::new(vec![1]),
            is_up: Cell::new(true),
            max_age: Cell::new(None),
            user: RefCell::new(Some((403, json!({ "error_code": "bad_jwt" })))),
            stored: RefCell::new(Some(STATIC_TOKEN)),
            fetched_at: Cell::new(None),
            is_under_way: Cell::new(false),
            keys_take: Cell::new(0),
            signature_takes: Cell::new(0),
            crypto_fails: Cell::new(false),
            asked_about_known: Cell::new(false),
            user_takes: Cell::new(0),
            fetches: RefCell::default(),
            checks: Cell::new(0),
            questions: Cell::new(0),
        };
        Self { gate: gate(settings.policy), world }
    }

    /// A request with this token, now. What is learned from it is kept.
    fn ask(&mut self, token: &str) -> Told {
        let authorization = format!("Bearer {token}");
        let mut facts = Facts::new("GET", "/v1/models", None);
        facts.header("Authorization", authorization.as_bytes());
        let step = begin(&mut self.gate, &facts, self.world.time());
        let Outcome { verdict, learned, used_stale_keys, .. } = at_once(drive(step, &self.world));
        self.gate.learn(learned);
        match verdict {
            Verdict::Pass(_) if used_stale_keys => PassesOnStaleKeys,
            Verdict::Pass(_) => Passes,
            Verdict::Refuse(reason) => Refused(reason),
        }
    }

    fn at(&mut self, time: u64) -> &mut Self {
        self.world.now.set(time);
        self
    }

    fn fetches(&self) -> usize {
        self.world.fetches.borrow().len()
    }

    fn checks(&self) -> usize {
        self.world.checks.get()
    }

    fn questions(&self) -> usize {
        self.world.questions.get()
    }
}

/// The world never makes anyone wait for real.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("the world waits for nobody"),
    }
}

fn point(key: u32) -> [u8; 32] {
    Sha256::digest(format!("key {key}")).into()
}

fn jwk(key: u32) -> Value {
    let x = BASE64_URL_SAFE_NO_PAD.encode(point(key));
    json!({ "kty": "EC", "crv": "P-256", "kid": kid(key), "x": x, "y": x })
}

fn kid(key: u32) -> String {
    format!("key-{key}")
}

fn signature(x: &[u8], message: &[u8]) -> Vec<u8> {
    Sha256::new_with_prefix(x).chain_update(message).finalize().to_vec()
}

/// A token in the making: signed by a key, good for a day from the start, and like no other.
struct Token {
    key: u32,
    header: Value,
    claims: Value,
}

impl Token {
    fn by(key: u32) -> Self {
        thread_local!(static COUNT: Cell<u64> = const { Cell::new(0) });
        let count = COUNT.replace(COUNT.get() + 1);
        let claims = json!({
            "iss": format!("{PROJECT}/auth/v1"), "aud": "authenticated", "sub": "user", "role": "authenticated",
            "exp": seconds(DAY), "jti": count,
        });
        Self { key, header: json!({ "alg": "ES256", "kid": kid(key) }), claims }
    }

    /// One that only the user endpoint can check.
    fn legacy() -> Self {
        Self { header: json!({ "alg": "HS256" }), ..Self::by(0) }
    }

    fn named(mut self, kid: &str) -> Self {
        self.header["kid"] = json!(kid);
        self
    }

    /// Puts a time, in milliseconds since the start.
    fn with(mut self, claim: &str, time: u64) -> Self {
        self.claims[claim] = json!(seconds(time));
        self
    }

    fn text(&self) -> String {
        let encode = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        let message = format!("{}.{}", encode(self.header.to_string().as_bytes()), encode(self.claims.to_string().as_bytes()));
        let signature = signature(&point(self.key), message.as_bytes());
        format!("{message}.{}", encode(&signature))
    }
}

fn token(key: u32) -> String {
    Token::by(key).text()
}

/// A key that nobody has ever heard of.
fn unheard_of(number: u32) -> String {
    Token::by(1_000_000 + number).text()
}

/// As a NumericDate.
fn seconds(time: u64) -> f64 {
    (START + time) as f64 / 1000.0
}

const UNKNOWN: Told = Refused(Reason::UnknownKey);
const KEYS_UNAVAILABLE: Told = Refused(Reason::KeysUnavailable);
const EXPIRED: Told = Refused(Reason::ExpiredToken);
const USER_REFUSED: Told = Refused(Reason::UserRefused);

mod signatures {
    use super::*;

    #[test]
    fn no_key_verifies_what_another_signed() {
        let mut gateway = Gateway::new(&[]);
        gateway.world.list(&[1, 2]);
        assert_eq!(gateway.ask(&token(1)), Passes);
        assert_eq!(gateway.ask(&Token::by(2).named("key-1").text()), Refused(Reason::BadSignature));
        assert_eq!(gateway.ask(&Token::by(3).named("key-1").text()), Refused(Reason::BadSignature));
    }
}

mod forgeries {
    use super::*;

    #[test]
    fn a_signature_that_cannot_be_checked_is_none() {
        let mut gateway = Gateway::new(&[("AUTH_CACHE_TTL", "30")]);
        let user = token(1);
        gateway.world.crypto_fails.set(true);
        assert_eq!(gateway.ask(&user), Refused(Reason::BadSignature));
        assert_eq!((gateway.ask(&user), gateway.checks()), (Refused(Reason::BadSignature), 2));
        gateway.world.crypto_fails.set(false);
        assert_eq!(gateway.ask(&user), Passes, "the failure was not taken for a forgery");
    }

    #[test]
    fn one_that_comes_again_is_refused_without_another_look_at_its_signature() {
        let mut gateway = Gateway::new(&[("AUTH_CACHE_TTL", "30")]);
        let forged = Token::by(2).named("key-1").text();
        for _ in 0..10 {
            assert_eq!(gateway.ask(&forged), Refused(Reason::BadSignature));
        }
        assert_eq!(gateway.checks(), 1);
        assert_eq!(gateway.at(30 * SECOND).ask(&forged), Refused(Reason::BadSignature));
        assert_eq!(gateway.checks(), 2);
        assert_eq!(gateway.at(31 * SECOND).ask(&Token::by(2).named("key-1").text()), Refused(Reason::BadSignature));
        assert_eq!(gateway.checks(), 3, "another token");
    }

    #[test]
    fn a_flood_of_them_makes_no_user_be_forgotten() {
        let mut gateway = Gateway::new(&[("AUTH_CACHE_TTL", "30"), ("AUTH_CACHE_MAX", "2")]);
        let user = token(1);
        assert_eq!(gateway.ask(&user), Passes);
        for _ in 0..1000 {
            assert_eq!(gateway.ask(&Token::by(2).named("key-1").text()), Refused(Reason::BadSignature));
        }
        let checks = gateway.checks();
        assert_eq!(gateway.ask(&user), Passes);
        assert_eq!(gateway.checks(), checks);
    }

    #[test]
    fn what_is_none_of_one_key_may_be_good_by_the_next() {
        let mut gateway = Gateway::new(&[("AUTH_CACHE_TTL", "3600")]);
        let mut early = Token::by(2);
        early.header = json!({ "alg": "ES256" });
        assert_eq!(gateway.ask(&early.text()), Refused(Reason::BadSignature));
        gateway.world.list(&[2]);
        assert_eq!(gateway.at(MAX_AGE).ask(&early.text()), Passes);
    }
}

mod cooldown {
    use super::*;

    #[test]
    fn a_thousand_unknown_keys_lead_to_one_refetch_in_thirty_seconds() {
        let mut gateway = Gateway::new(&[]);
        assert_eq!(gateway.ask(&token(1)), Passes);
        assert_eq!(gateway.fetches(), 1);
        for number in 0..1000 {
            let told = gateway.ask(&unheard_of(number));
            assert_eq!(told.status(), 401, "{number}: {told:?}");
            gateway.world.pass(29);
        }
        assert_eq!((gateway.fetches(), gateway.questions()), (2, 1));
        assert_eq!(gateway.at(MISS_COOLDOWN - 1).ask(&unheard_of(0)), UNKNOWN);
        assert_eq!(gateway.fetches(), 2);
        for number in 0..1000 {
            assert_eq!(gateway.at(MISS_COOLDOWN).ask(&unheard_of(number)).status(), 401);
        }
        assert_eq!((gateway.fetches(), gateway.questions()), (3, 2));
        assert_eq!(gateway.ask(&token(1)), Passes);
    }

    #[test]
    fn a_thousand_unknown_keys_on_a_cold_start_lead_to_two_fetches() {
        let mut gateway = Gateway::new(&[]);
        for number in 0..1000 {
            assert_eq!(gateway.ask(&unheard_of(number)).status(), 401);
            gateway.world.pass(29);
        }
        assert_eq!(gateway.fetches(), 2);
    }

    #[test]
    fn a_new_key_passes_with_the_first_token_that_it_signed() {
        let mut gateway = Gateway::new(&[]);
        assert_eq!(gateway.ask(&token(1)), Passes);
        gateway.world.list(&[1, 2]);
        assert_eq!(gateway.at(SECOND).ask(&token(2)), Passes);
        assert_eq!((gateway.fetches(), gateway.questions()), (2, 0));
    }

    #[test]
    fn after_a_failed_refetch_no_unknown_key_is_a_no_and_the_next_try_comes_after_five_seconds() {
        let mut gateway = Gateway::new(&[]);
        assert_eq!(gateway.ask(&token(1)), Passes);
        gateway.world.is_up.set(false);
        for round in 0..20 {
            let failed = MINUTE + u64::from(round) * FAILURE_COOLDOWN;
            for time in [failed, failed + 1, failed + FAILURE_COOLDOWN - 1] {
                assert_eq!(gateway.at(time).ask(&unheard_of(round)), KEYS_UNAVAILABLE, "{time}");
                assert_eq!(gateway.ask(&token(1)), Passes, "{time}");
            }
            assert_eq!(gateway.fetches(), 2 + round as usize);
        }
        assert_eq!(KEYS_UNAVAILABLE.status(), 503);
        gateway.world.is_up.set(true);
        gateway.world.list(&[1, 2]);
        let over = MINUTE + 20 * FAILURE_COOLDOWN;
        assert_eq!(gateway.at(over - 1).ask(&token(2)), KEYS_UNAVAILABLE);
        assert_eq!(gateway.at(over).ask(&token(2)), Passes);
    }

    #[test]
    fn without_any_keys_yet_a_failure_puts_everyone_off_and_is_tried_again_after_five_seconds() {
        let mut gateway = Gateway::new(&[]);
        gateway.world.is_up.set(false);
        for time in [0, FAILURE_COOLDOWN - 1] {
            assert_eq!(gateway.at(time).ask(&token(1)), KEYS_UNAVAILABLE);
        }
        assert_eq!(gateway.fetches(), 1);
        gateway.world.is_up.set(true);
        assert_eq!(gateway.at(FAILURE_COOLDOWN).ask(&token(1)), Passes);
    }

    #[test]
    fn keys_that_somebody_else_fetched_before_a_failure_are_taken_all_the_same() {
        let mut gateway = Gateway::new(&[]);
        gateway.world.is_up.set(false);
        assert_eq!(gateway.at(MINUTE).ask(&token(1)), KEYS_UNAVAILABLE);
        gateway.world.is_up.set(true);
        // At the edge another isolate had more luck, a second before, and left them where all look for them.
        gateway.world.fetched_at.set(Some(MINUTE - SECOND));
        assert_eq!(gateway.at(2 * MINUTE).ask(&token(1)), Passes);
        assert_eq!(gateway.ask(&token(1)), Passes);
        assert_eq!(gateway.fetches(), 2);
    }
}

mod staleness {
    use super::*;

    #[test]
    fn keys_hold_as_long_as_their_server_says_but_half_a_minute_at_least_and_ten_minutes_at_most() {
        for (max_age, holds) in [
            (None, MAX_AGE),
            (Some(0), 30 * SECOND),
            (Some(29), 30 * SECOND),
            (Some(31), 31 * SECOND),
            (Some(599), 599 * SECOND),
            (Some(601), MAX_AGE),
            (Some(u64::MAX), MAX_AGE),
        ] {
            let mut gateway = Gateway::new(&[]);
            gateway.world.max_age.set(max_age);
            assert_eq!(gateway.ask(&token(1)), Passes);
            gateway.world.list(&[2]);
            assert_eq!(gateway.at(holds - 1).ask(&token(1)), Passes, "{max_age:?}");
            assert_eq!(gateway.fetches(), 1, "{max_age:?}");
            assert_eq!(gateway.at(holds).ask(&token(1)), USER_REFUSED, "{max_age:?}");
            assert_eq!(gateway.ask(&token(2)), Passes, "{max_age:?}");
            assert_eq!(gateway.fetches(), 2, "{max_age:?}");
        }
    }

    #[test]
    fn an_outage_is_survived_for_an_hour_and_no_longer() {
        for (max_age, holds) in [(None, MAX_AGE), (Some(30), 30 * SECOND)] {
            let mut gateway = Gateway::new(&[]);
            gateway.world.max_age.set(max_age);
            assert_eq!(gateway.ask(&token(1)), Passes);
            gateway.world.is_up.set(false);
            assert_eq!(gateway.at(holds - 1).ask(&token(1)), Passes);
            let end = holds + USABLE_FOR;
            for time in [holds, holds + 1, holds + FAILURE_COOLDOWN, end / 2, end - 1] {
                assert_eq!(gateway.at(time).ask(&token(1)), PassesOnStaleKeys, "{time}");
                assert_eq!(gateway.ask(&unheard_of(1)), KEYS_UNAVAILABLE, "{time}");
                assert_eq!(gateway.ask(&Token::by(2).named("key-1").text()), Refused(Reason::BadSignature), "{time}");
            }
            // One of these came within the cooldown of another.
            assert_eq!(gateway.fetches(), 1 + 4);
            for time in [end, end + HOUR, end + DAY / 2] {
                assert_eq!(gateway.at(time).ask(&token(1)), KEYS_UNAVAILABLE, "{time}");
            }
            gateway.world.is_up.set(true);
            gateway.world.pass(FAILURE_COOLDOWN);
            assert_eq!(gateway.ask(&token(1)), Passes, "at once when it is back");
        }
    }

    #[test]
    fn in_an_outage_the_server_is_asked_every_five_seconds_at_most() {
        let mut gateway = Gateway::new(&[]);
        assert_eq!(gateway.ask(&token(1)), Passes);
        gateway.world.is_up.set(false);
        gateway.at(MAX_AGE);
        for _ in 0..600 {
            assert_eq!(gateway.ask(&token(1)), PassesOnStaleKeys);
            assert_eq!(gateway.ask(&unheard_of(1)), KEYS_UNAVAILABLE);
            gateway.world.pass(100);
        }
        assert_eq!(gateway.fetches(), 1 + 12);
    }
}

mod expiry {
    use super::*;

    /// How a token is checked, and such a token.
    type Way = (&'static str, fn() -> Token);

    fn ways() -> [Way; 2] {
        [("by a key", || Token::by(1)), ("by asking", Token::legacy)]
    }

    fn with_leeway(leeway: u64, ttl: u64) -> Gateway {
        let gateway = Gateway::new(&[("AUTH_LEEWAY", &leeway.to_string()), ("AUTH_CACHE_TTL", &ttl.to_string())]);
        gateway.world.answer(200, json!({ "id": "user" }));
        gateway
    }

    #[test]
    fn a_token_passes_until_its_end_and_the_leeway_and_not_a_millisecond_longer() {
        for leeway in [0, 30, 300] {
            for (way, make) in ways() {
                for exp in [100 * SECOND, 100_250] {
                    let mut gateway = with_leeway(leeway, 3600);
                    let (token, end) = (make().with("exp", exp).text(), exp + leeway * SECOND);
                    for time in [0, exp - 1, exp, end - 1] {
                        if time < end {
                            assert_eq!(gateway.at(time).ask(&token), Passes, "{way}, leeway {leeway}, {time}");
                        }
                    }
                    for time in [end, end + 1, end + DAY] {
                        assert_eq!(gateway.at(time).ask(&token), EXPIRED, "{way}, leeway {leeway}, {time}");
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_remembered_of_a_token_ends_with_it() {
        let mut gateway = with_leeway(30, 300);
        let token = Token::by(1).with("exp", 10 * SECOND).text();
        for (time, checks) in [(0, 1), (9_999, 1), (10_000, 2), (10_001, 3), (39_999, 4)] {
            assert_eq!(gateway.at(time).ask(&token), Passes);
            assert_eq!(gateway.checks(), checks, "{time}");
        }
        assert_eq!(gateway.at(40_000).ask(&token), EXPIRED);
    }

    #[test]
    fn a_token_that_ends_while_something_is_awaited_does_not_pass() {
        for leeway in [0, 30] {
            let left = (1 + leeway) * SECOND;
            for (what, make, delays) in [
                ("keys", ways()[0].1, [left, 0, 0]),
                ("signature", ways()[0].1, [0, left, 0]),
                ("keys and signature", ways()[0].1, [left - 1, 1, 0]),
                ("user", ways()[1].1, [0, 0, left]),
                // A key that the set does not list yet.
                ("keys and user", || Token::by(2), [left - 1, 0, 1]),
            ] {
                for (too_soon, expected) in [(1, Passes), (0, EXPIRED)] {
                    let mut gateway = with_leeway(leeway, 3600);
                    let token = make().with("exp", SECOND + too_soon).text();
                    let world = &gateway.world;
                    for (delay, time) in [&world.keys_take, &world.signature_takes, &world.user_takes].into_iter().zip(delays) {
                        delay.set(time);
                    }
                    assert_eq!(gateway.ask(&token), expected, "{what}, leeway {leeway}");
                    if expected == EXPIRED {
                        assert_eq!(gateway.ask(&token), EXPIRED, "{what}, leeway {leeway}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_token_from_the_future_is_good_when_its_time_has_come() {
        for leeway in [0, 30, 300] {
            for claim in ["nbf", "iat"] {
                for (way, make) in ways() {
                    let mut gateway = with_leeway(leeway, 3600);
                    let token = make().with(claim, HOUR).text();
                    let begins = HOUR - leeway * SECOND;
                    for time in [0, begins - 1] {
                        assert_eq!(gateway.at(time).ask(&token), Refused(Reason::UnacceptableClaims), "{claim} {way} {leeway}");
                    }
                    assert_eq!(gateway.at(begins).ask(&token), Passes, "{claim} {way} {leeway}");
                }
            }
        }
    }
}

mod remembering {
    use super::*;

    #[test]
    fn a_user_is_remembered_for_the_ttl_to_the_millisecond_however_often_asked_for() {
        let mut gateway = Gateway::new(&[("AUTH_CACHE_TTL", "7")]);
        let token = token(1);
        for (time, checks) in [(0, 1), (1, 1), (6_998, 1), (6_999, 1), (7_000, 2), (13_999, 2), (14_000, 3)] {
            assert_eq!(gateway.at(time).ask(&token), Passes);
            assert_eq!(gateway.checks(), checks, "{time}");
        }
    }

    #[test]
    fn without_a_ttl_every_token_is_checked_every_time() {
        let mut gateway = Gateway::new(&[("AUTH_CACHE_TTL", "0")]);
        let token = token(1);
        for checks in 1..10 {
            assert_eq!(gateway.ask(&token), Passes);
            assert_eq!(gateway.checks(), checks);
        }
    }

    #[test]
    fn what_one_gate_remembers_no_other_knows() {
        let settings = [("AUTH_CACHE_TTL", "3600")];
        let (mut one, mut another) = (Gateway::new(&settings), Gateway::new(&settings));
        let mut earlier = Gateway { gate: one.gate.clone(), ..Gateway::new(&settings) };
        let token = token(1);
        assert_eq!(one.ask(&token), Passes);
        for gateway in [&mut another, &mut earlier] {
            gateway.world.list(&[2]);
            assert_eq!(gateway.ask(&token), USER_REFUSED);
        }
        assert_eq!(one.ask(&token), Passes);
    }

    #[test]
    fn a_token_outlives_its_withdrawn_key_by_the_ttl_at_most() {
        let mut gateway = Gateway::new(&[("AUTH_CACHE_TTL", "60")]);
        let remembered = token(1);
        assert_eq!(gateway.ask(&remembered), Passes);
        gateway.world.list(&[2]);
        // The gate comes to know that key 1 is gone.
        assert_eq!(gateway.at(SECOND).ask(&token(2)), Passes);
        assert_eq!(gateway.ask(&token(1)), UNKNOWN);
        assert_eq!(gateway.at(MINUTE - 1).ask(&remembered), Passes);
        assert_eq!(gateway.at(MINUTE).ask(&remembered).status(), 401);
    }
}

mod rotation {
    use super::*;

    #[test]
    fn while_another_request_fetches_an_old_key_will_do_and_nothing_is_held_against_the_server() {
        let mut gateway = Gateway::new(&[]);
        assert_eq!(gateway.ask(&token(1)), Passes);
        gateway.at(MAX_AGE).world.list(&[1, 2]);
        gateway.world.is_under_way.set(true);
        // Not the outage that the log would be told of.
        assert_eq!(gateway.ask(&token(1)), Passes);
        gateway.world.is_under_way.set(false);
        assert_eq!(gateway.ask(&token(2)), Passes, "at once, and no cooldown later");
    }

    #[test]
    fn with_a_standby_key_nobody_is_refused_and_the_old_key_ends_in_time() {
        const TTL: u64 = 30;
        let mut gateway = Gateway::new(&[("AUTH_CACHE_TTL", "30")]);
        let old = token(1);
        let (standby, rotated, withdrawn) = (100 * SECOND, 800 * SECOND, 2000 * SECOND);
        let mut last_pass = 0;
        for time in (0..withdrawn + 2 * MAX_AGE).step_by(1000) {
            gateway.at(time).world.list(match time {
                _ if time < standby => &[1],
                _ if time < withdrawn => &[1, 2],
                _ => &[2],
            });
            if time >= rotated {
                assert_eq!(gateway.ask(&token(2)), Passes, "{time}");
            }
            let told = [gateway.ask(&old), gateway.ask(&token(1))];
            if time < withdrawn {
                assert_eq!(told, [Passes; 2], "{time}");
            } else if told.contains(&Passes) {
                last_pass = time;
            }
        }
        assert!(last_pass < withdrawn + MAX_AGE + TTL * SECOND, "still accepted {} ms after", last_pass - withdrawn);
        assert!(gateway.questions() <= 1 + (2 * MAX_AGE / MISS_COOLDOWN) as usize, "{} questions", gateway.questions());
        assert!(gateway.fetches() <= 4 + (2 * MAX_AGE / MISS_COOLDOWN) as usize, "{} fetches", gateway.fetches());
    }

    #[test]
    fn before_the_old_key_is_withdrawn_a_rotation_costs_no_more_than_a_fetch_in_ten_minutes() {
        let mut gateway = Gateway::new(&[]);
        for time in (0..HOUR).step_by(1000) {
            gateway.at(time).world.list(if time < 100 * SECOND { &[1] } else { &[1, 2] });
            assert_eq!(gateway.ask(&token(if time < 800 * SECOND { 1 } else { 2 })), Passes, "{time}");
        }
        assert_eq!((gateway.fetches(), gateway.questions()), (6, 0));
    }
}

/// A clock is set right while the gateway runs, or goes wrong.
mod a_clock_that_is_set_back {
    use super::*;

    const STEPS: [u64; 4] = [1, SECOND, HOUR, 12 * HOUR];
    /// When it happens, so that there is something before.
    const NOON: u64 = 12 * HOUR;

    fn at_noon(settings: &[(&str, &str)]) -> Gateway {
        let mut gateway = Gateway::new(settings);
        gateway.at(NOON);
        gateway
    }

    #[test]
    fn makes_no_key_younger_and_costs_one_refetch() {
        for step in STEPS {
            let mut gateway = at_noon(&[]);
            assert_eq!(gateway.ask(&token(1)), Passes);
            gateway.world.list(&[2]);
            assert_eq!(gateway.at(NOON - step).ask(&token(1)), USER_REFUSED, "after a step of {step}");
            for _ in 0..100 {
                assert_eq!(gateway.ask(&token(2)), Passes, "after a step of {step}");
                gateway.world.pass(SECOND);
            }
            assert_eq!(gateway.fetches(), 2, "after a step of {step}");
        }
    }

    #[test]
    fn ends_the_cooldown_of_unknown_keys_in_thirty_seconds_all_the_same() {
        for step in STEPS {
            let mut gateway = at_noon(&[]);
            assert_eq!(gateway.ask(&token(1)), Passes);
            assert_eq!(gateway.ask(&unheard_of(1)), USER_REFUSED);
            assert_eq!(gateway.at(NOON - step).ask(&token(1)), Passes);
            gateway.world.list(&[1, 2]);
            assert_eq!(gateway.ask(&token(2)), UNKNOWN, "after a step of {step}");
            assert_eq!(gateway.fetches(), 3);
            gateway.world.pass(MISS_COOLDOWN);
            assert_eq!(gateway.ask(&token(2)), Passes, "after a step of {step}");
            assert_eq!(gateway.fetches(), 4);
        }
    }

    #[test]
    fn ends_the_cooldown_of_a_failure_in_five_seconds_all_the_same() {
        for step in STEPS {
            let mut gateway = at_noon(&[]);
            gateway.world.is_up.set(false);
            assert_eq!(gateway.ask(&token(1)), KEYS_UNAVAILABLE);
            gateway.world.is_up.set(true);
            assert_eq!(gateway.at(NOON - step).ask(&token(1)), KEYS_UNAVAILABLE);
            gateway.world.pass(FAILURE_COOLDOWN);
            assert_eq!(gateway.ask(&token(1)), Passes, "after a step of {step}");
            assert_eq!(gateway.ask(&token(1)), Passes);
            assert_eq!(gateway.fetches(), 2);
        }
    }

    #[test]
    fn makes_no_outage_longer_than_it_may_be() {
        for step in STEPS {
            let mut gateway = at_noon(&[]);
            assert_eq!(gateway.ask(&token(1)), Passes);
            gateway.world.is_up.set(false);
            assert_eq!(gateway.at(NOON - step).ask(&token(1)), PassesOnStaleKeys, "after a step of {step}");
            gateway.world.pass(USABLE_FOR - 1);
            assert_eq!(gateway.ask(&token(1)), PassesOnStaleKeys, "after a step of {step}");
            gateway.world.pass(1);
            assert_eq!(gateway.ask(&token(1)), KEYS_UNAVAILABLE, "after a step of {step}");
        }
    }

    #[test]
    fn makes_no_memory_of_a_user_last() {
        for step in STEPS {
            let mut gateway = at_noon(&[("AUTH_CACHE_TTL", "30")]);
            gateway.world.answer(200, json!({ "id": "user" }));
            let token = Token::legacy().text();
            assert_eq!(gateway.ask(&token), Passes);
            gateway.world.answer(403, json!({ "error_code": "session_not_found" }));
            assert_eq!(gateway.at(NOON - step).ask(&token), USER_REFUSED, "from before the step of {step}");
            gateway.world.pass(step);
            assert_eq!(gateway.ask(&token), USER_REFUSED, "when the time comes again, after a step of {step}");
        }
    }

    #[test]
    fn lets_a_memory_that_had_run_out_live_for_the_ttl_at_most() {
        let mut gateway = at_noon(&[("AUTH_CACHE_TTL", "30")]);
        let token = token(1);
        assert_eq!(gateway.ask(&token), Passes);
        // Nobody asked meanwhile: the memory is still there.
        gateway.at(NOON + HOUR);
        assert_eq!(gateway.at(NOON).ask(&token), Passes);
        assert_eq!(gateway.at(NOON + 29_999).ask(&token), Passes);
        assert_eq!(gateway.checks(), 1);
        assert_eq!(gateway.at(NOON + 30_000).ask(&token), Passes);
        assert_eq!(gateway.checks(), 2);
    }

    #[test]
    fn makes_no_static_token_last_that_its_store_no_longer_holds() {
        for step in STEPS {
            let mut gateway = Gateway::with(&[], Gate::with_store);
            gateway.at(NOON);
            assert_eq!(gateway.ask(STATIC_TOKEN), Passes);
            gateway.world.stored.replace(None);
            assert_eq!(gateway.at(NOON - step).ask(STATIC_TOKEN), Passes, "what is remembered stands in for the store");
            gateway.world.stored.replace(Some("another-token-0123456789"));
            gateway.world.pass(STORE_COOLDOWN);
            assert_eq!(gateway.ask(STATIC_TOKEN), Refused(Reason::InvalidToken), "after a step of {step}");
            assert_eq!(gateway.ask("another-token-0123456789"), Passes);
        }
    }

    #[test]
    fn lets_a_token_end_by_the_time_that_it_tells() {
        let mut gateway = at_noon(&[("AUTH_LEEWAY", "0"), ("AUTH_CACHE_TTL", "3600")]);
        let token = Token::by(1).with("exp", NOON + 10 * SECOND).text();
        assert_eq!(gateway.ask(&token), Passes);
        assert_eq!(gateway.at(NOON + 10 * SECOND).ask(&token), EXPIRED);
        assert_eq!(gateway.at(NOON + 9 * SECOND).ask(&token), Passes, "as anyone's clock would have it");
        assert_eq!(gateway.checks(), 2, "but not because it was remembered");
        assert_eq!(gateway.at(NOON + 10 * SECOND).ask(&token), EXPIRED);
    }
}

mod the_user_endpoint {
    use super::*;

    #[test]
    fn says_yes_no_or_nothing() {
        let unavailable = Refused(Reason::UserUnavailable);
        for (status, body, expected) in [
            (200, json!({ "id": "user" }), Passes),
            (200, json!({ "id": "another" }), USER_REFUSED),
            (200, json!({ "id": 7 }), unavailable),
            (200, json!({}), unavailable),
            (200, json!([]), unavailable),
            (204, json!({ "id": "user" }), unavailable),
            (302, json!({ "id": "user" }), unavailable),
            (400, json!({}), USER_REFUSED),
            (401, json!({ "error_code": "bad_jwt" }), USER_REFUSED),
            (401, json!({ "message": "Invalid API key" }), Refused(Reason::ApiKeyRefused)),
            (403, json!({ "id": "user" }), USER_REFUSED),
            (404, json!({}), USER_REFUSED),
            (408, json!({}), unavailable),
            (429, json!({ "id": "user" }), unavailable),
            (500, json!({ "id": "user" }), unavailable),
            (503, json!({}), unavailable),
        ] {
            let mut gateway = Gateway::new(&[("AUTH_CACHE_TTL", "30")]);
            gateway.world.answer(status, body.clone());
            let token = Token::legacy().text();
            assert_eq!(gateway.ask(&token), expected, "{status} {body}");
            // An answer is remembered, a failure to answer is not.
            assert_eq!(gateway.ask(&token), expected, "{status} {body}");
            let is_answer = [Passes, USER_REFUSED].contains(&expected);
            assert_eq!(gateway.questions(), if is_answer { 1 } else { 2 }, "{status} {body}");
            assert_eq!(gateway.fetches(), 0, "no key could help");
        }
        assert_eq!((USER_REFUSED.status(), unavailable.status(), Refused(Reason::ApiKeyRefused).status()), (401, 503, 503));
    }

    #[test]
    fn is_asked_again_about_a_token_that_it_refused_when_the_memory_of_it_ends() {
        let mut gateway = Gateway::new(&[("AUTH_CACHE_TTL", "30"), ("AUTH_CACHE_MAX", "2")]);
        let forged: Vec<_> = (0..3).map(|number| Token::legacy().with("iat", number).text()).collect();
        let ask_all = |gateway: &mut Gateway, tokens: &[String]| {
            tokens.iter().for_each(|token| assert_eq!(gateway.ask(token), USER_REFUSED));
            gateway.questions()
        };
        assert_eq!(ask_all(&mut gateway, &forged[..2]), 2);
        assert_eq!(ask_all(gateway.at(30 * SECOND - 1), &forged[..2]), 2);
        assert_eq!(ask_all(gateway.at(30 * SECOND), &forged[..2]), 4);
        assert_eq!(ask_all(&mut gateway, &forged[2..]), 5);
        assert_eq!(ask_all(&mut gateway, &forged[..1]), 6, "no more are remembered than AUTH_CACHE_MAX");
        gateway.world.answer(200, json!({ "id": "user" }));
        assert_eq!(gateway.at(60 * SECOND).ask(&forged[0]), Passes, "a user who is no longer banned");
    }

    #[test]
    fn hears_which_tokens_it_has_vouched_for_before() {
        for ttl in ["0", "30"] {
            let mut gateway = Gateway::new(&[("AUTH_CACHE_TTL", ttl)]);
            gateway.world.answer(200, json!({ "id": "user" }));
            let (token, other) = (Token::legacy().text(), Token::legacy().with("iat", 0).text());
            assert_eq!(gateway.ask(&token), Passes);
            assert!(!gateway.world.asked_about_known.get());
            for time in [MINUTE, 2 * MINUTE] {
                assert_eq!(gateway.at(time).ask(&token), Passes);
                assert!(gateway.world.asked_about_known.get());
            }
            gateway.world.answer(403, json!({}));
            assert_eq!(gateway.ask(&other), USER_REFUSED);
            assert!(!gateway.world.asked_about_known.get());
        }
    }

    #[test]
    fn is_never_asked_where_tokens_of_the_secret_are_not_allowed() {
        let mut gateway = Gateway::new(&[("SUPABASE_ALLOW_HS256", "no")]);
        gateway.world.answer(200, json!({ "id": "user" }));
        assert_eq!(gateway.ask(&Token::legacy().text()), Refused(Reason::UnsupportedAlgorithm));
        assert_eq!(gateway.ask(&token(1)), Passes);
        assert_eq!(gateway.questions(), 0);
    }

    #[test]
    fn that_gives_no_answer_is_no_no() {
        let mut gateway = Gateway::new(&[]);
        gateway.world.user.replace(None);
        gateway.world.user_takes.set(5 * SECOND);
        let token = Token::legacy().text();
        assert_eq!(gateway.ask(&token), Refused(Reason::UserUnavailable));
        gateway.world.answer(200, json!({ "id": "user" }));
        assert_eq!(gateway.ask(&token), Passes);
    }

    #[test]
    fn is_asked_about_an_unknown_key_once_in_a_cooldown() {
        let mut gateway = Gateway::new(&[]);
        gateway.world.answer(200, json!({ "id": "user" }));
        assert_eq!(gateway.ask(&token(1)), Passes);
        for round in 0_u32..5 {
            gateway.at(MINUTE + u64::from(round) * MISS_COOLDOWN);
            assert_eq!(gateway.ask(&unheard_of(1)), Passes, "the project knows it");
            for _ in 0..10 {
                assert_eq!(gateway.ask(&unheard_of(2)), UNKNOWN);
                gateway.world.pass(SECOND);
            }
            assert_eq!(gateway.questions(), 1 + round as usize);
        }
    }

    #[test]
    fn is_not_asked_when_the_keys_cannot_be_had() {
        let mut gateway = Gateway::new(&[]);
        gateway.world.is_up.set(false);
        assert_eq!(gateway.ask(&token(1)), KEYS_UNAVAILABLE);
        assert_eq!(gateway.questions(), 0);
    }
}

/// Whatever happens in whatever order, against what is permitted.
mod any_history {
    use super::*;

    #[derive(Clone, Debug)]
    enum Event {
        Pass(u64),
        /// A new key is listed, and the oldest goes once there are three.
        Rotate,
        Down,
        Up,
        /// A request with a key so many rotations old; negative if it is yet to come. The second is how long the token lasts.
        Ask(i8, u64),
        /// The same token as the last time.
        AskAgain,
        SetBack(u64),
        SetForward(u64),
    }

    fn time() -> impl Strategy<Value = u64> {
        prop_oneof![0..2 * SECOND, 0..MINUTE, 0..2 * HOUR, select(&[1, FAILURE_COOLDOWN, MISS_COOLDOWN, MAX_AGE, USABLE_FOR][..])]
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            4 => time().prop_map(Event::Pass),
            1 => Just(Event::Rotate),
            1 => Just(Event::Down),
            1 => Just(Event::Up),
            6 => (-1_i8..5, prop_oneof![0..MINUTE, 0..4 * HOUR]).prop_map(|(age, lasts)| Event::Ask(age, lasts)),
            3 => Just(Event::AskAgain),
        ]
    }

    fn event_with_a_bad_clock() -> impl Strategy<Value = Event> {
        prop_oneof![
            8 => event(),
            1 => prop_oneof![time(), 0..30 * DAY].prop_map(Event::SetBack),
            1 => prop_oneof![time(), 0..30 * DAY].prop_map(Event::SetForward),
        ]
    }

    /// What Supabase did when, as far as it matters to what is permitted.
    struct History {
        gateway: Gateway,
        newest: u32,
        /// When each key was listed, from and until.
        listed: BTreeMap<u32, (u64, u64)>,
        up_since: Option<u64>,
        last: Option<(u32, u64, String)>,
    }

    const FAR: u64 = u64::MAX;

    impl History {
        fn new(ttl: u64, leeway: u64, keys_take: u64) -> Self {
            let mut gateway = Gateway::new(&[("AUTH_CACHE_TTL", &ttl.to_string()), ("AUTH_LEEWAY", &leeway.to_string())]);
            // So that there is a past to be set back to.
            gateway.at(365 * DAY);
            gateway.world.keys_take.set(keys_take);
            Self { gateway, newest: 1, listed: [(1, (0, FAR))].into(), up_since: Some(0), last: None }
        }

        fn now(&self) -> u64 {
            self.gateway.world.now.get()
        }

        fn is_listed(&self, key: u32) -> bool {
            self.listed.get(&key).is_some_and(|(_, until)| *until == FAR)
        }

        /// Whether the key was listed at any time since.
        fn was_listed_since(&self, key: u32, since: u64) -> bool {
            self.listed.get(&key).is_some_and(|(_, until)| *until >= since)
        }

        fn rotate(&mut self) {
            let now = self.now();
            self.newest += 1;
            self.listed.insert(self.newest, (now, FAR));
            if let Some((_, until)) = self.newest.checked_sub(3).and_then(|oldest| self.listed.get_mut(&oldest)) {
                *until = now;
            }
            let listed: Vec<u32> = self.listed.keys().copied().filter(|key| self.is_listed(*key)).collect();
            self.gateway.world.list(&listed);
        }

        fn switch(&mut self, is_up: bool) {
            self.gateway.world.is_up.set(is_up);
            self.up_since = is_up.then(|| self.up_since.unwrap_or(self.now()));
        }

        /// Key, end and text of a new token.
        fn token(&self, age: i8, lasts: u64) -> (u32, u64, String) {
            let key = self.newest.saturating_add_signed(-i32::from(age));
            let exp = self.now() + lasts;
            (key, exp, Token::by(key).with("exp", exp).text())
        }

        /// What happens, and for a request its key, its end, and what came of it.
        fn happen(&mut self, event: &Event) -> Option<(u32, u64, Told)> {
            match event {
                Event::Pass(time) | Event::SetForward(time) => self.gateway.world.pass(*time),
                Event::SetBack(time) => self.gateway.world.now.set(self.now().saturating_sub(*time)),
                Event::Rotate => self.rotate(),
                Event::Down => self.switch(false),
                Event::Up => self.switch(true),
                Event::Ask(age, lasts) => {
                    let token = self.token(*age, *lasts);
                    let told = self.gateway.ask(&token.2);
                    self.last = Some(token.clone());
                    return Some((token.0, token.1, told));
                }
                Event::AskAgain => {
                    let (key, exp, text) = self.last.clone()?;
                    return Some((key, exp, self.gateway.ask(&text)));
                }
            }
            None
        }
    }

    proptest! {
        #![proptest_config(super::cases::config(300))]

        #[test]
        fn what_passes_may_and_what_is_refused_must_be(
            ttl in select(&[0, 30, 300][..]), leeway in select(&[0, 30][..]), keys_take in select(&[0, 200, 4000][..]),
            max_age in select(&[None, Some(0), Some(120)][..]), events in vec(event(), 1..80),
        ) {
            let mut history = History::new(ttl, leeway, keys_take);
            history.gateway.world.max_age.set(max_age);
            let holds = max_age.map_or(MAX_AGE, |seconds| (seconds * SECOND).max(30 * SECOND));
            let ttl = ttl * SECOND;
            for event in &events {
                let (began, before) = (history.now(), history.gateway.world.fetches.borrow().clone());
                let Some((key, exp, told)) = history.happen(event) else { continue };
                let ended = history.now();
                let since = |time: u64| ended.saturating_sub(time);
                let end = exp + leeway * SECOND;
                let has_expired = |time: u64| time >= end;

                if told.status() == 200 {
                    prop_assert!(!has_expired(ended), "{ended}: a token that ended at {end} passes");
                    prop_assert!(
                        history.was_listed_since(key, since(holds + USABLE_FOR + ttl)),
                        "{ended}: key {key} passes, which nobody can still remember"
                    );
                    // While the server answers, nothing older than a key set may be is believed, and what was remembered of it.
                    if history.up_since.is_some_and(|up| up <= since(holds + ttl)) {
                        prop_assert!(
                            history.was_listed_since(key, since(holds + ttl)),
                            "{ended}: key {key} passes, which was withdrawn"
                        );
                        prop_assert_eq!(told, Passes);
                    }
                }
                prop_assert!(told != EXPIRED || has_expired(ended), "{ended}: a token that ends at {end} is told so");
                if has_expired(began) {
                    prop_assert_eq!(told, EXPIRED);
                }

                if !has_expired(ended) && history.is_listed(key) {
                    let within = |cooldown: u64, came: bool| before.iter().any(|(at, ok)| *ok == came && began - at < cooldown);
                    // The key of a good token is missed only right after the server was asked for it.
                    if told.status() == 401 {
                        prop_assert!(within(MISS_COOLDOWN, true), "{ended}: {told:?} for a good token of key {key}");
                    }
                    if history.up_since.is_some() && !within(MISS_COOLDOWN, true) && !within(FAILURE_COOLDOWN, false) {
                        prop_assert_eq!(told, Passes, "{}: a good token of key {}, which could be had", ended, key);
                    }
                }
                // What came with the last keys stays, for as long as keys may.
                if let Some((at, _)) = before.iter().rfind(|(_, came)| *came)
                    && began - at < holds + USABLE_FOR
                    && !has_expired(ended)
                    && history.is_listed(key)
                    && history.listed.get(&key).is_some_and(|(from, _)| from < at)
                    && ended - at < holds + USABLE_FOR
                {
                    prop_assert_eq!(told.status(), 200, "{}: a good token of key {}, which is known", ended, key);
                }
            }

            let fetches = history.gateway.world.fetches.borrow();
            for pair in fetches.windows(2) {
                let [(first, came), (second, _)] = pair else { continue };
                prop_assert!(*came || second - first >= FAILURE_COOLDOWN, "asked again {} ms after a failure", second - first);
            }
            let successes: Vec<u64> = fetches.iter().filter(|(_, came)| *came).map(|(at, _)| *at).collect();
            for three in successes.windows(3) {
                let [first, _, third] = three else { continue };
                prop_assert!(third - first >= MISS_COOLDOWN, "three fetches in {} ms", third - first);
            }
        }

        #[test]
        fn no_clock_locks_anyone_out_or_keeps_a_withdrawn_key(
            ttl in select(&[0, 30][..]), events in vec(event_with_a_bad_clock(), 1..60),
        ) {
            let mut history = History::new(ttl, 0, 0);
            for event in &events {
                let Some((_, exp, told)) = history.happen(event) else { continue };
                prop_assert!(told.status() != 200 || history.now() < exp, "a token that ended at {exp} passes at {}", history.now());
            }
            // From here on the clock goes as it should, and Supabase answers.
            history.switch(true);
            let gateway = &mut history.gateway;
            let _ = gateway.ask(&token(0));
            gateway.world.pass(MISS_COOLDOWN);
            let (good, withdrawn) = (gateway.world.listed.borrow().clone(), history.newest + 1);
            for key in &good {
                prop_assert_eq!(gateway.ask(&Token::by(*key).with("exp", 1000 * DAY).text()), Passes);
            }
            let remembered: Vec<String> = good.iter().map(|key| Token::by(*key).with("exp", 1000 * DAY).text()).collect();
            for token in &remembered {
                prop_assert_eq!(gateway.ask(token), Passes);
            }
            gateway.world.list(&[withdrawn]);
            gateway.world.pass(MAX_AGE + ttl * SECOND);
            for token in &remembered {
                prop_assert_eq!(gateway.ask(token).status(), 401);
            }
            let fetched = gateway.fetches();
            for _ in 0..10 {
                prop_assert_eq!(gateway.ask(&Token::by(withdrawn).with("exp", 1000 * DAY).text()), Passes);
            }
            prop_assert!(gateway.fetches() <= fetched + 1);
        }
    }
}
