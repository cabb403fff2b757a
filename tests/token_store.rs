//! The static token in a store, through changes and outages, on a clock that each test sets: nothing here sleeps.
#![cfg(not(target_arch = "wasm32"))]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that panics has failed, as it should")]

mod cases;

use std::{
    cell::{Cell, RefCell},
    pin::pin,
    task::{Context, Poll, Waker},
};

use nodetool_edge_auth::{
    Answer, Digest, Effects, Facts, Gate, Host, KeysAnswer, Outcome, Reason, Secret, Settings, SignatureCheck, Step, StoreError,
    StoreFailure, Tokens, Unavailable, UnixTime, UserAnswer, UserQuestion, Verdict, WantedKeys, begin, drive,
};
use proptest::{collection::vec, prelude::*, sample::select};

const OLD: &str = "old-token-0123456789-abcdefgh";
const NEW: &str = "new-token-0123456789-abcdefgh";

/// All times are milliseconds since 2026-01-01T00:00:00Z.
const START: u64 = 1_767_225_600_000;
const SECOND: u64 = 1000;
const HOUR: u64 = 3600 * SECOND;
const FRESH_FOR: u64 = 30 * SECOND;
const COOLDOWN: u64 = 5 * SECOND;

const UNAVAILABLE: Result<(), Reason> = Err(Reason::StoreUnavailable);
const INVALID: Result<(), Reason> = Err(Reason::InvalidToken);

/// What the store does when it is asked.
#[derive(Clone, Debug)]
enum Store {
    Holds(String),
    IsEmpty,
    Fails,
}

fn holds(value: &str) -> Store {
    Store::Holds(value.to_owned())
}

struct Gateway {
    gate: Gate,
    store: RefCell<Store>,
    now: Cell<u64>,
    asked: Cell<usize>,
    error: Option<StoreError>,
}

impl Gateway {
    fn new(provider: &str, store: Store) -> Self {
        let settings = Settings::parse(Host::Edge, |name| match name {
            "AUTH_PROVIDER" => Some(provider.to_owned()),
            "SUPABASE_URL" => Some("https://project.supabase.co".to_owned()),
            "SUPABASE_KEY" => Some("sb_publishable_test".to_owned()),
            _ => None,
        });
        let gate = Gate::with_store(settings.unwrap().policy);
        Self { gate, store: RefCell::new(store), now: Cell::new(0), asked: Cell::new(0), error: None }
    }

    fn knowing(value: &str) -> Self {
        let mut gateway = Self::new("static", holds(value));
        assert_eq!(gateway.ask(OLD), Ok(()));
        gateway
    }

    fn is_now(&self, store: Store) {
        self.store.replace(store);
    }

    fn time(&self) -> UnixTime {
        UnixTime::from_millis(START + self.now.get())
    }

    fn at(&mut self, time: u64) -> &mut Self {
        self.now.set(time);
        self
    }

    fn ask(&mut self, token: &str) -> Result<(), Reason> {
        let authorization = format!("Bearer {token}");
        let mut facts = Facts::new("GET", "/v1/models", None);
        if !token.is_empty() {
            facts.header("Authorization", authorization.as_bytes());
        }
        let step = begin(&mut self.gate, &facts, UnixTime::from_millis(START + self.now.get()));
        let Outcome { verdict, learned, store_error, .. } = at_once(drive(step, self));
        self.error = store_error;
        self.gate.learn(learned);
        match verdict {
            Verdict::Pass(_) => Ok(()),
            Verdict::Refuse(reason) => Err(reason),
        }
    }

    /// How often the store is asked while this happens.
    fn asks(&mut self, body: impl FnOnce(&mut Self)) -> usize {
        let before = self.asked.get();
        body(self);
        self.asked.get() - before
    }
}

impl Effects for Gateway {
    fn now(&self) -> UnixTime {
        self.time()
    }

    async fn tokens(&self) -> Result<Option<Secret>, Unavailable> {
        self.asked.set(self.asked.get() + 1);
        match &*self.store.borrow() {
            Store::Holds(value) => Ok(Some(Secret::new(value.clone()))),
            Store::IsEmpty => Ok(None),
            Store::Fails => Err(Unavailable),
        }
    }

    async fn keys(&self, _: WantedKeys) -> KeysAnswer {
        KeysAnswer::Failed(self.time())
    }

    async fn signature(&self, _: SignatureCheck<'_>) -> Result<bool, Unavailable> {
        Ok(false)
    }

    async fn user(&self, _: &UserQuestion) -> Result<UserAnswer, Unavailable> {
        Err(Unavailable)
    }
}

fn at_once<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("nothing here waits"),
    }
}

fn list(entries: &[(&str, Option<u64>)]) -> String {
    let entries = entries.iter().map(|(token, not_after)| {
        let end = not_after.map_or(String::new(), |end| format!(",\"not_after\":{end}"));
        format!("{{\"sha256\":\"{}\"{end}}}", Digest::of(token.as_bytes()))
    });
    format!("{{\"tokens\":[{}]}}", entries.collect::<Vec<_>>().join(","))
}

#[test]
fn a_change_is_noticed_after_half_a_minute() {
    let mut gateway = Gateway::knowing(OLD);
    gateway.is_now(holds(NEW));
    assert_eq!(gateway.at(FRESH_FOR - 1).ask(OLD), Ok(()));
    assert_eq!(gateway.ask(NEW), INVALID);
    assert_eq!(gateway.at(FRESH_FOR).ask(NEW), Ok(()));
    assert_eq!(gateway.ask(OLD), INVALID);
    assert_eq!(gateway.asked.get(), 2);
}

#[test]
fn while_it_cannot_be_read_what_was_read_last_holds_for_an_hour_and_then_nobody_passes() {
    for broken in [Store::Fails, holds("{\"tokens\":[{\"sha256\":"), holds("two words"), holds("[]"), holds("{}")] {
        let mut gateway = Gateway::knowing(OLD);
        let failure = match &broken {
            Store::Fails => UNAVAILABLE,
            _ => Err(Reason::StoreMisconfigured),
        };
        gateway.is_now(broken);
        for time in [FRESH_FOR, FRESH_FOR + COOLDOWN, HOUR / 2, HOUR - 1] {
            assert_eq!(gateway.at(time).ask(OLD), Ok(()), "{time}");
            assert_eq!(gateway.ask(NEW), INVALID, "{time}");
        }
        // Not even in the cooldown of the last failure.
        assert_eq!(gateway.at(HOUR).ask(OLD), failure);
        assert_eq!(gateway.ask(NEW), failure);
        assert_eq!(gateway.ask(""), Err(Reason::NoCredential), "nothing was brought that could be unknown");
        assert_eq!(gateway.at(100 * HOUR).ask(OLD), failure);
        gateway.is_now(holds(OLD));
        assert_eq!(gateway.ask(OLD), Ok(()), "it recovers at once");
    }
    let answer = Answer::refusal(Reason::StoreUnavailable);
    assert_eq!(answer.status, 503);
    assert!(answer.headers().any(|header| header == ("retry-after", "5")));
}

#[test]
fn each_success_begins_the_hour_anew() {
    let mut gateway = Gateway::knowing(OLD);
    assert_eq!(gateway.at(HOUR - 1).ask(OLD), Ok(()));
    gateway.is_now(Store::Fails);
    assert_eq!(gateway.at(2 * HOUR - 2).ask(OLD), Ok(()));
    assert_eq!(gateway.at(2 * HOUR - 1).ask(OLD), UNAVAILABLE);
}

#[test]
fn nobody_waits_for_a_store_that_has_just_failed() {
    let mut gateway = Gateway::knowing(OLD);
    gateway.is_now(Store::Fails);
    gateway.at(FRESH_FOR);
    let asks = |gateway: &mut Gateway| gateway.asks(|gateway| (0..50).for_each(|_| assert_eq!(gateway.ask(OLD), Ok(()))));
    assert_eq!(asks(&mut gateway), 1);
    assert_eq!(asks(gateway.at(FRESH_FOR + COOLDOWN - 1)), 0);
    assert_eq!(asks(gateway.at(FRESH_FOR + COOLDOWN)), 1);
    // When it is back, that is known with the next try.
    gateway.is_now(holds(NEW));
    assert_eq!(gateway.at(FRESH_FOR + 2 * COOLDOWN).ask(NEW), Ok(()));
    assert_eq!(gateway.ask(OLD), INVALID);
}

#[test]
fn a_failure_of_the_future_keeps_nobody_from_asking() {
    let mut gateway = Gateway::knowing(OLD);
    gateway.is_now(Store::Fails);
    assert_eq!(gateway.at(HOUR / 2).ask(OLD), Ok(()));
    // The clock is set back, and the store works again.
    gateway.is_now(holds(NEW));
    assert_eq!(gateway.at(FRESH_FOR).ask(NEW), Ok(()));
}

#[test]
fn without_anything_remembered_every_request_asks() {
    let mut gateway = Gateway::new("static", Store::Fails);
    assert_eq!((gateway.ask(OLD), gateway.ask(OLD)), (UNAVAILABLE, UNAVAILABLE));
    gateway.is_now(holds(OLD));
    assert_eq!(gateway.ask(OLD), Ok(()));
}

#[test]
fn a_token_that_ends_does_so_in_an_outage_as_well() {
    let end = START / SECOND + 600;
    let mut gateway = Gateway::knowing(&list(&[(OLD, Some(end)), (NEW, None)]));
    gateway.is_now(Store::Fails);
    assert_eq!(gateway.at(600 * SECOND + 999).ask(OLD), Ok(()));
    assert_eq!(gateway.at(601 * SECOND).ask(OLD), Err(Reason::ExpiredStaticToken));
    assert_eq!(gateway.ask(NEW), Ok(()));
}

#[test]
fn a_deleted_token_and_an_emptied_list_revoke_what_was_accepted() {
    for emptied in [Store::IsEmpty, holds("{\"tokens\": []}")] {
        let mut gateway = Gateway::knowing(OLD);
        gateway.is_now(emptied);
        assert_eq!(gateway.at(FRESH_FOR).ask(""), Err(Reason::NoTokenConfigured), "as natively, where no request asks");
        assert_eq!(gateway.ask(OLD), Err(Reason::NoTokenConfigured));
        assert!(gateway.error.is_none());
        // What was remembered before does not come back with an outage.
        gateway.is_now(Store::Fails);
        assert_eq!(gateway.at(2 * FRESH_FOR).ask(OLD), UNAVAILABLE);
        gateway.is_now(holds("{"));
        assert_eq!(gateway.ask(OLD), Err(Reason::StoreMisconfigured));
        assert!(matches!(gateway.error, Some(StoreError::List(_))));
    }
}

#[test]
fn tokens_of_a_followed_store_are_lost_once_it_has_failed_for_too_long() {
    for provider in ["static", "supabase"] {
        let mut gateway = Gateway::new(provider, Store::Fails);
        for (failure, reason) in
            [(StoreFailure::Unreadable, Reason::StoreUnavailable), (StoreFailure::Unusable, Reason::StoreMisconfigured)]
        {
            gateway.gate.replace_tokens(Tokens::single(OLD).unwrap());
            assert_eq!(gateway.ask(OLD), Ok(()));
            gateway.gate.lose_tokens(failure);
            assert_eq!((gateway.ask(OLD), gateway.ask("")), (Err(reason), Err(Reason::NoCredential)));
        }
        assert_eq!(gateway.asked.get(), 0, "the host looks at the store, not the request");
    }
}

#[test]
fn json_is_never_a_token() {
    for value in ["{}", "[\"x\"]", "\"x\"", "{\"tokens\":\"x\"}", " [1] ", "[{\"sha256\":\"x\"}]"] {
        let mut gateway = Gateway::new("static", holds(value));
        assert_eq!(gateway.ask(value.trim()), Err(Reason::StoreMisconfigured), "{value}");
    }
}

#[test]
fn under_supabase_as_well() {
    let mut gateway = Gateway::new("supabase", holds(OLD));
    assert_eq!(gateway.ask(OLD), Ok(()));
    gateway.is_now(Store::Fails);
    assert_eq!(
        gateway.asks(|gateway| {
            for time in [FRESH_FOR, FRESH_FOR + 1, FRESH_FOR + COOLDOWN - 1] {
                assert_eq!(gateway.at(time).ask(OLD), Ok(()));
                assert_eq!(gateway.ask(NEW), INVALID);
            }
        }),
        1
    );
    assert_eq!(gateway.at(HOUR).ask(OLD), UNAVAILABLE);
    gateway.is_now(Store::IsEmpty);
    assert_eq!(gateway.ask(OLD), INVALID);
}

/// A request that began to ask before another one learned something newer.
#[test]
fn an_answer_that_comes_late_does_not_undo_a_newer_one() {
    let mut gateway = Gateway::new("static", holds(OLD));
    let mut facts = Facts::new("GET", "/v1/models", None);
    let authorization = format!("Bearer {OLD}");
    facts.header("Authorization", authorization.as_bytes());
    let now = gateway.time();
    let Step::NeedTokens(need) = begin(&mut gateway.gate, &facts, now) else { panic!("it has to ask") };
    let Step::Decided(late) = need.provide(Ok(Some(Secret::new(OLD.to_owned()))), now) else { panic!("it is settled") };
    gateway.is_now(holds(NEW));
    assert_eq!(gateway.at(1).ask(NEW), Ok(()));
    gateway.gate.learn(late.learned);
    assert_eq!(gateway.ask(OLD), INVALID);
}

#[derive(Clone, Debug)]
enum Event {
    Becomes(Store),
    Passes(u64),
    Asks(&'static str),
}

fn event() -> impl Strategy<Value = Event> {
    let stores =
        vec![holds(OLD), holds(NEW), holds(&list(&[(OLD, None), (NEW, None)])), Store::Fails, holds("{"), Store::IsEmpty];
    prop_oneof![
        2 => select(stores).prop_map(Event::Becomes),
        4 => select(vec![1, SECOND, COOLDOWN, FRESH_FOR, 10 * FRESH_FOR, HOUR - FRESH_FOR, HOUR]).prop_map(Event::Passes),
        8 => select(vec![OLD, NEW]).prop_map(Event::Asks),
    ]
}

proptest! {
    #![proptest_config(cases::config(256))]

    /// Whatever happens in whatever order: who passes was in the store within the hour, and within half a minute if the
    /// store was in order all that time; and who is in it for longer than that passes.
    #[test]
    fn who_passes_was_in_the_store(events in vec(event(), 1..60)) {
        let mut gateway = Gateway::new("static", holds(OLD));
        // From when, and until when it was no longer so.
        let mut history = vec![(0, holds(OLD))];
        let accepts = |store: &Store, token: &str| match store {
            Store::Holds(value) => value == token || value.contains(&Digest::of(token.as_bytes()).to_string()),
            _ => false,
        };
        let is_in_order = |store: &Store| match store {
            Store::Holds(value) => value != "{",
            Store::IsEmpty => true,
            Store::Fails => false,
        };
        for event in events {
            let now = gateway.now.get();
            match event {
                Event::Becomes(store) => {
                    history.push((now, store.clone()));
                    gateway.is_now(store);
                }
                Event::Passes(time) => { gateway.at(now + time); }
                Event::Asks(token) => {
                    let told = gateway.ask(token);
                    let during = |span: u64| {
                        let last = history.iter().rposition(|(from, _)| from + span <= now).unwrap_or(0);
                        history.iter().skip(last).map(|(_, store)| store)
                    };
                    if told.is_ok() {
                        prop_assert!(during(HOUR).any(|store| accepts(store, token)), "nobody can still remember it");
                        if during(FRESH_FOR + COOLDOWN).all(is_in_order) {
                            prop_assert!(during(FRESH_FOR + COOLDOWN).any(|store| accepts(store, token)), "it was withdrawn");
                        }
                    } else if during(FRESH_FOR + COOLDOWN).all(|store| accepts(store, token)) {
                        prop_assert!(false, "{told:?}, though it stands there");
                    }
                }
            }
        }
    }
}
