//! What a gateway keeps from one request to the next: settled data, and nothing under way.

use alloc::{sync::Arc, vec::Vec};
use core::ops::Range;

use crate::{
    cache::Cache,
    keys::{KeyNews, KnownKeys, Thumbprint},
    policy::Policy,
    time::UnixTime,
    token::{Digest, Tokens},
    verdict::{Identity, Reason},
};

/// For how long tokens from a store are used before the store is asked again, in milliseconds.
const TOKENS_FRESH_FOR: u64 = 30_000;

/// For how long they stand in, from when they were read, for a store that cannot be read or holds something unusable, in
/// milliseconds. After that none of them is accepted, since it may have been revoked long ago.
pub const TOKENS_USABLE_FOR: u64 = 3_600_000;

/// For how long after a failure nobody waits for the store who can do with what is remembered, in milliseconds.
const STORE_COOLDOWN: u64 = 5000;

/// How many forged tokens are recognized without another look at their signatures: a flood is one token over and over.
const MAX_FORGED: usize = 256;

/// A policy with all that was learned under it: tokens, keys, verified users and forgeries.
///
/// One gate serves any number of requests, one after the other: [`begin`](crate::begin) takes it by reference, and what came
/// of a request goes back into it by [`learn`](Self::learn). Under way, nothing is kept in it, so a host may hold a lock
/// around both calls and none in between.
///
/// ```
/// use nodetool_edge_auth::{Action, Facts, Gate, Host, Settings, Step, Tokens, UnixTime, begin};
///
/// let settings = Settings::parse(Host::Embedded, |_| None)?;
/// let mut gate = Gate::with_tokens(settings.policy, Tokens::single("correct-horse-battery-staple")?);
/// let now = UnixTime::from_secs(1_767_225_600);
///
/// let mut facts = Facts::new("GET", "/v1/models", None);
/// facts.header("host", b"api.example").header("x-user-id", b"root").subject();
/// let Step::Decided(outcome) = begin(&mut gate, &facts, now) else { unreachable!("static tokens are known") };
/// let Action::Respond(answer) = Action::of(&outcome.verdict, gate.policy(), &facts, now) else { unreachable!() };
/// assert_eq!(answer.status, 401);
///
/// let mut facts = Facts::new("GET", "/v1/models", None);
/// facts.header("host", b"api.example").header("authorization", b"Bearer correct-horse-battery-staple").subject();
/// let Step::Decided(outcome) = begin(&mut gate, &facts, now) else { unreachable!() };
/// let Action::Forward(plan) = Action::of(&outcome.verdict, gate.policy(), &facts, now) else { unreachable!() };
/// assert!(!plan.keeps("x-user-id"), "of what the client says, this does not go on");
/// assert!(plan.sets().any(|header| header == ("x-user-id", "1")));
///
/// gate.replace_tokens(Tokens::single("another-horse-and-its-battery")?);
/// let Step::Decided(outcome) = begin(&mut gate, &facts, now) else { unreachable!() };
/// assert!(matches!(Action::of(&outcome.verdict, gate.policy(), &facts, now), Action::Respond(answer) if answer.status == 401));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Gate {
    pub(crate) policy: Arc<Policy>,
    pub(crate) tokens: Source,
    pub(crate) keys: KnownKeys,
    pub(crate) users: Cache<Identity>,
    /// Apart from the users, so that no flood of forgeries makes room for itself among them.
    pub(crate) forged: Cache<Thumbprint>,
    /// Tokens that the project has refused.
    pub(crate) refused: Cache<()>,
    /// Tokens that it has vouched for, until they end: should it be asked again, they go first.
    pub(crate) vouched: Cache<()>,
}

#[derive(Clone, Debug)]
pub(crate) enum Source {
    Fixed(Arc<Tokens>),
    /// No token is known, since the store has failed for too long.
    Lost(StoreFailure),
    Store {
        remembered: Option<Remembered>,
        /// When the store was last found unreadable or unusable.
        failed_at: Option<UnixTime>,
    },
}

impl Source {
    pub(crate) fn remembered(&self) -> Option<&Remembered> {
        match self {
            Self::Fixed(_) | Self::Lost(_) => None,
            Self::Store { remembered, .. } => remembered.as_ref(),
        }
    }

    fn learn(&mut self, news: StoreNews) {
        let Self::Store { remembered, failed_at } = self else { return };
        match news {
            // Requests overlap: what was asked for earlier must not overwrite what came later.
            StoreNews::Read(news) if remembered.as_ref().is_none_or(|known| known.at <= news.at) => *remembered = Some(news),
            StoreNews::Read(_) => {}
            StoreNews::Failed(at) => *failed_at = Some(at),
        }
    }

    /// The tokens to compare with, unless the store has to be asked.
    pub(crate) fn known(&self, now: UnixTime) -> Option<&Tokens> {
        match self {
            Self::Fixed(tokens) => Some(tokens),
            Self::Lost(_) => None,
            Self::Store { remembered, failed_at } => {
                let known = remembered.as_ref()?;
                let has_just_failed = failed_at.is_some_and(|at| now.millis_since(at) < STORE_COOLDOWN);
                (known.is_fresh(now) || (has_just_failed && known.is_usable(now))).then_some(&*known.tokens)
            }
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Remembered {
    pub(crate) tokens: Arc<Tokens>,
    pub(crate) at: UnixTime,
}

impl Remembered {
    fn is_fresh(&self, now: UnixTime) -> bool {
        now.millis_since(self.at) < TOKENS_FRESH_FOR
    }

    /// Whether they may stand in for what cannot be read.
    pub(crate) fn is_usable(&self, now: UnixTime) -> bool {
        !self.tokens.is_empty() && now.millis_since(self.at) < TOKENS_USABLE_FOR
    }
}

/// Why the tokens of a store are not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreFailure {
    /// The store cannot be read.
    Unreadable,
    /// The store holds something that is neither a token nor a list of them.
    Unusable,
}

impl StoreFailure {
    pub(crate) const fn reason(self) -> Reason {
        match self {
            Self::Unreadable => Reason::StoreUnavailable,
            Self::Unusable => Reason::StoreMisconfigured,
        }
    }
}

/// What came of asking the store.
#[derive(Clone, Debug)]
pub(crate) enum StoreNews {
    Read(Remembered),
    Failed(UnixTime),
}

impl Gate {
    /// A gate that accepts these tokens, and asks for no others.
    pub fn with_tokens(policy: Policy, tokens: impl Into<Arc<Tokens>>) -> Self {
        Self::new(policy, Source::Fixed(tokens.into()))
    }

    /// A gate whose tokens are kept in a store, which it asks for when a request needs them.
    pub fn with_store(policy: Policy) -> Self {
        Self::new(policy, Source::Store { remembered: None, failed_at: None })
    }

    fn new(policy: Policy, tokens: Source) -> Self {
        let supabase = policy.supabase.as_ref();
        let keys = supabase.and_then(|supabase| supabase.pinned.clone()).map_or_else(KnownKeys::default, KnownKeys::pinned);
        let capacity = supabase.filter(|supabase| supabase.cache_ttl > 0).map_or(0, |supabase| supabase.cache_max);
        let vouched = Cache::new(supabase.map_or(0, |supabase| supabase.cache_max));
        let (users, forged, refused) = (Cache::new(capacity), Cache::new(capacity.min(MAX_FORGED)), Cache::new(capacity));
        Self { policy: Arc::new(policy), tokens, keys, users, forged, refused, vouched }
    }

    /// Accepts these tokens from the next request on, and asks for no others. The users that are known stay so.
    pub fn replace_tokens(&mut self, tokens: impl Into<Arc<Tokens>>) {
        self.tokens = Source::Fixed(tokens.into());
    }

    /// Accepts no static token from the next request on, since the store that they came from has failed for longer than
    /// [`TOKENS_USABLE_FOR`]. The users that are known stay so.
    pub fn lose_tokens(&mut self, failure: StoreFailure) {
        self.tokens = Source::Lost(failure);
    }

    /// The rules of this gate.
    pub fn policy(&self) -> &Arc<Policy> {
        &self.policy
    }

    /// Keeps what was learned while a request was judged, for the next ones.
    pub fn learn(&mut self, learned: Learned) {
        for lesson in learned.0 {
            match lesson {
                Lesson::Tokens(news) => self.tokens.learn(news),
                Lesson::Keys(news) => self.keys.learn(news),
                Lesson::User(token, identity, holds) => self.users.insert(token, identity, holds),
                Lesson::Forged(token, key, holds) => self.forged.insert(token, key, holds),
                Lesson::Refused(token, holds) => self.refused.insert(token, (), holds),
                Lesson::Vouched(token, holds) => self.vouched.insert(token, (), holds),
            }
        }
    }

    /// Takes note that the clock may have been set back: what was learned in the future is as old as can be.
    pub(crate) fn set_back(&mut self, now: UnixTime) {
        self.keys.set_back(now);
        if let Source::Store { remembered, failed_at } = &mut self.tokens {
            if let Some(known) = remembered.as_mut().filter(|known| known.at > now) {
                known.at = now.before(TOKENS_FRESH_FOR);
            }
            failed_at.take_if(|at| *at > now);
        }
    }
}

/// What was learned while a request was judged. The host hands it to [`Gate::learn`].
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Learned(pub(crate) Vec<Lesson>);

#[derive(Clone, Debug)]
pub(crate) enum Lesson {
    Tokens(StoreNews),
    Keys(KeyNews),
    User(Digest, Identity, Range<UnixTime>),
    /// A token whose signature is not of this key, whatever other keys come.
    Forged(Digest, Thumbprint, Range<UnixTime>),
    /// A token that the project has refused.
    Refused(Digest, Range<UnixTime>),
    /// A token that the project has vouched for.
    Vouched(Digest, Range<UnixTime>),
}

impl Learned {
    /// Whether there is nothing to keep.
    pub const fn is_nothing(&self) -> bool {
        self.0.is_empty()
    }
}
