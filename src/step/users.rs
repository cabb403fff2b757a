//! A request that hangs on a user's token: on its key, its signature, or the project's own word.

use alloc::{borrow::ToOwned, sync::Arc};

use super::{Outcome, Step, authorized, begin_static, decided};
use crate::{
    effects::{KeysAnswer, Unavailable, UserAnswer},
    facts::Facts,
    failures::Failures,
    gate::{Gate, Learned, Lesson, Source},
    json::Json,
    jwt::{self, Claims, Segments, Untrusted},
    keys::{Algorithm, Jwks, Key, KeyNews, KnownKeys, Lookup, SelectedKey, Thumbprint},
    policy::{Policy, Supabase},
    proxies,
    questions::UserQuestion,
    time::UnixTime,
    token::{Digest, Match, Secret},
    verdict::{Identity, Reason, Verdict},
};

/// The matter of one request: what every step carries along.
#[derive(Debug)]
struct Matter<'a> {
    policy: Arc<Policy>,
    facts: &'a Facts<'a>,
    presented: Digest,
    /// The key that the token is known not to be signed with.
    forged: Option<Thumbprint>,
    /// Whether the project has refused the token of late.
    is_refused: bool,
    /// Whether the project has vouched for it before.
    is_known: bool,
    learned: Learned,
    used_stale_keys: bool,
}

impl Matter<'_> {
    fn decide(self, verdict: Verdict) -> Outcome {
        let Self { learned, used_stale_keys, .. } = self;
        // Only what is not remembered gets as far as this.
        Outcome { learned, used_stale_keys, was_remembered: Some(false), ..decided(verdict) }
    }

    fn refuse(self, reason: Reason) -> Outcome {
        self.decide(Verdict::Refuse(reason))
    }

    /// Refuses a token that the project does not know, and remembers it, so that the project is not asked again and again.
    fn refuse_user(mut self, supabase: &Supabase, now: UnixTime) -> Outcome {
        self.learned.0.push(Lesson::Refused(self.presented, now..supabase.remembered_until(now)));
        self.refuse(Reason::UserRefused)
    }

    /// Lets a user in, and remembers it for the next time that the same token comes.
    fn admit(mut self, supabase: &Supabase, claims: Claims, now: UnixTime) -> Outcome {
        // It may have ended while others were asked.
        if claims.have_expired(&supabase.expected, now) {
            return self.refuse(Reason::ExpiredToken);
        }
        let expires = claims.expiry();
        let identity = Identity::user(claims.subject, claims.role, expires);
        let until = supabase.remembered_until(now).min(expires);
        if until > now {
            self.learned.0.push(Lesson::User(self.presented, identity.clone(), now..until));
        }
        let (verdict, refused) = self.policy.authorize(self.facts, identity);
        Outcome { refused, ..self.decide(verdict) }
    }
}

pub(super) fn begin_with_users<'a>(gate: &mut Gate, facts: &'a Facts<'a>, token: &'a [u8], now: UnixTime) -> Step<'a> {
    let presented = Digest::of(token);
    if let Source::Fixed(tokens) = &gate.tokens {
        match tokens.find(&presented, now) {
            Match::Accepted => return Step::Decided(authorized(&gate.policy, facts, Identity::STATIC)),
            Match::Expired => return Step::Decided(decided(Verdict::Refuse(Reason::ExpiredStaticToken))),
            Match::Unknown => {}
        }
    }
    if let Some(identity) = gate.users.get(&presented, now) {
        return Step::Decided(Outcome { was_remembered: Some(true), ..authorized(&gate.policy, facts, identity) });
    }
    // Read only where the token is not remembered. No user waits for the store of static tokens: so none in it can be a JWT.
    let Some(segments) = jwt::split(token) else { return begin_static(gate, facts, Ok(presented), now) };
    let matter = Matter {
        policy: Arc::clone(&gate.policy),
        facts,
        forged: gate.forged.get(&presented, now),
        is_refused: gate.refused.get(&presented, now).is_some(),
        is_known: gate.vouched.get(&presented, now).is_some(),
        presented,
        learned: Learned::default(),
        used_stale_keys: false,
    };
    user_token(matter, &gate.keys, segments, now)
}

fn user_token<'a>(matter: Matter<'a>, keys: &KnownKeys, segments: Segments<'a>, now: UnixTime) -> Step<'a> {
    let (policy, token) = (Arc::clone(&matter.policy), segments.token);
    let Some(supabase) = &policy.supabase else { return Step::Decided(matter.refuse(Reason::InvalidToken)) };
    // Claims come first: they cost nothing, and nobody is asked about a token that could not pass anyway. That one is
    // expired can be told by anyone who reads it.
    let (jwt, claims) = match Untrusted::read(segments, &supabase.expected, now) {
        Ok(read) => read,
        Err(reason) => return Step::Decided(matter.refuse(reason)),
    };
    if jwt.algorithm == Algorithm::Hs256 {
        if !supabase.allows_hs256 {
            return Step::Decided(matter.refuse(Reason::UnsupportedAlgorithm));
        }
        return match &supabase.jwt_secret {
            Some(secret) if jwt.is_signed_with(secret.reveal().as_bytes()) => Step::Decided(matter.admit(supabase, claims, now)),
            Some(_) => Step::Decided(matter.refuse(Reason::BadSignature)),
            None if supabase.pinned.is_some() => Step::Decided(matter.refuse(Reason::UnknownKey)),
            None => ask_about(matter, claims, token),
        };
    }
    let asked = Asked { jwt, claims, token, keys: keys.clone() };
    match asked.keys.look_up(asked.jwt.algorithm, asked.jwt.key_id.as_deref(), now, true) {
        Lookup::Ask { has_stand_in } => {
            let for_missing = asked.keys.is_fresh(now);
            if for_missing && matter.facts.wait.is_some() {
                return Step::Decided(matter.refuse(Reason::TooManyFailures));
            }
            // Keys that come in this very millisecond are new.
            let newer_than = if for_missing { Some(now.before(1)) } else { asked.keys.fetched_at() };
            Step::NeedKeys(NeedKeys { matter, asked, for_missing, wanted: WantedKeys { newer_than, has_stand_in } })
        }
        found => with_keys(matter, asked, found, false),
    }
}

/// The project is asked about a token, but not about one that it has just refused, nor for a client that has failed too often.
fn ask_about<'a>(matter: Matter<'a>, claims: Claims, token: &'a [u8]) -> Step<'a> {
    match matter.facts.wait {
        _ if matter.is_refused => Step::Decided(matter.refuse(Reason::UserRefused)),
        Some(_) => Step::Decided(matter.refuse(Reason::TooManyFailures)),
        None => Step::NeedUser(NeedUser { matter, claims, token }),
    }
}

/// A token on its way to a key.
#[derive(Debug)]
struct Asked<'a> {
    jwt: Untrusted<'a>,
    claims: Claims,
    token: &'a [u8],
    keys: KnownKeys,
}

fn with_keys<'a>(mut matter: Matter<'a>, asked: Asked<'a>, found: Lookup, has_refetched: bool) -> Step<'a> {
    match found {
        Lookup::Found { key, .. } if key.thumbprint() == matter.forged => Step::Decided(matter.refuse(Reason::BadSignature)),
        Lookup::Found { key, is_stale } => {
            matter.used_stale_keys |= is_stale;
            Step::NeedSignature(NeedSignature { matter, jwt: asked.jwt, claims: asked.claims, key })
        }
        // As `supabase-js` does: the key may be newer than what the key server's own cache gives out. But only whose
        // keys were refetched just now is asked about: not every stranger can make the gateway ask.
        Lookup::Unknown if has_refetched => ask_about(matter, asked.claims, asked.token),
        Lookup::Unknown => Step::Decided(matter.refuse(Reason::UnknownKey)),
        Lookup::Ask { .. } | Lookup::Unavailable => Step::Decided(matter.refuse(Reason::KeysUnavailable)),
    }
}

/// A request whose token names a key that is not known, or not fresh enough.
#[derive(Debug)]
pub struct NeedKeys<'a> {
    matter: Matter<'a>,
    asked: Asked<'a>,
    for_missing: bool,
    wanted: WantedKeys,
}

/// Which keys would help.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct WantedKeys {
    /// None that were fetched before or at this time.
    pub newer_than: Option<UnixTime>,
    /// Whether known keys will do, past their age though they are: nobody needs to wait for somebody else's fetch.
    pub has_stand_in: bool,
}

impl<'a> NeedKeys<'a> {
    /// What to fetch.
    pub const fn wanted(&self) -> WantedKeys {
        self.wanted
    }

    /// Goes on with what came of it.
    pub fn provide(mut self, answer: KeysAnswer, now: UnixTime) -> Step<'a> {
        let (keys, at) = match answer {
            KeysAnswer::Fetched(fetched, at) => {
                (Jwks::parse(&fetched.document).map(|keys| (Arc::new(keys), fetched.max_age)), at)
            }
            KeysAnswer::Failed(at) => (None, at),
            KeysAnswer::UnderWay => return self.make_do(now),
        };
        let news = KeyNews { keys, at, for_missing: self.for_missing };
        self.asked.keys.learn(news.clone());
        self.matter.learned.0.push(Lesson::Keys(news));
        let found = self.look_up(now);
        with_keys(self.matter, self.asked, found, true)
    }

    /// Goes on with the keys that are there. That newer ones cannot be had is not known, so there is nothing to learn.
    fn make_do(self, now: UnixTime) -> Step<'a> {
        match self.look_up(now) {
            Lookup::Found { key, .. } => with_keys(self.matter, self.asked, Lookup::Found { key, is_stale: false }, false),
            _ => Step::Decided(self.matter.refuse(Reason::KeysUnavailable)),
        }
    }

    fn look_up(&self, now: UnixTime) -> Lookup {
        let jwt = &self.asked.jwt;
        self.asked.keys.look_up(jwt.algorithm, jwt.key_id.as_deref(), now, false)
    }
}

/// A request whose token is good if its signature is.
#[derive(Debug)]
pub struct NeedSignature<'a> {
    matter: Matter<'a>,
    jwt: Untrusted<'a>,
    claims: Claims,
    key: SelectedKey,
}

/// A signature to check.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct SignatureCheck<'a> {
    /// The key, with its algorithm.
    pub key: &'a Key,
    /// What was signed.
    pub message: &'a [u8],
    /// As JWS has it: for ES256 the 64 bytes of r and s (RFC 7518, section 3.4).
    pub signature: &'a [u8],
}

impl<'a> SignatureCheck<'a> {
    /// A check of this signature on that message.
    pub const fn new(key: &'a Key, message: &'a [u8], signature: &'a [u8]) -> Self {
        Self { key, message, signature }
    }
}

impl<'a> NeedSignature<'a> {
    /// What to check.
    pub fn check(&self) -> Option<SignatureCheck<'_>> {
        Some(SignatureCheck { key: self.key.get()?, message: self.jwt.message, signature: &self.jwt.signature })
    }

    /// Goes on with whether the signature is right, if it could be checked at all. Only of a wrong one something is kept.
    pub fn provide(mut self, is_right: Result<bool, Unavailable>, now: UnixTime) -> Step<'a> {
        let policy = Arc::clone(&self.matter.policy);
        let (Some(supabase), Some(key)) = (&policy.supabase, self.key.get()) else {
            return Step::Decided(self.matter.refuse(Reason::BadSignature));
        };
        match is_right {
            Ok(true) => return Step::Decided(self.matter.admit(supabase, self.claims, now)),
            Ok(false) => {}
            Err(Unavailable) => return Step::Decided(self.matter.refuse(Reason::BadSignature)),
        }
        let lesson = Lesson::Forged(self.matter.presented, key.thumbprint, now..supabase.remembered_until(now));
        self.matter.learned.0.push(lesson);
        Step::Decided(self.matter.refuse(Reason::BadSignature))
    }
}

/// A request whose token only the project itself can check.
#[derive(Debug)]
pub struct NeedUser<'a> {
    matter: Matter<'a>,
    claims: Claims,
    token: &'a [u8],
}

impl<'a> NeedUser<'a> {
    /// What to ask.
    pub fn question(&self) -> UserQuestion {
        // It is ASCII by its parser.
        let token = Secret::new(core::str::from_utf8(self.token).unwrap_or_default().to_owned());
        let client = self.matter.policy.client(self.matter.facts).and_then(proxies::parsed).map(Failures::key);
        UserQuestion::new(token, self.matter.is_known, client)
    }

    /// Goes on with the answer of the user endpoint.
    pub fn provide(mut self, answer: Result<UserAnswer, Unavailable>, now: UnixTime) -> Step<'a> {
        let policy = Arc::clone(&self.matter.policy);
        let body = answer.as_ref().ok().and_then(|answer| Json::parse(&answer.body));
        let id = body.as_ref().and_then(|body| body.get("id")).and_then(Json::as_str);
        Step::Decided(match (answer.as_ref().map(|answer| answer.status), &policy.supabase) {
            (Ok(200), Some(supabase)) if id == Some(&self.claims.subject) => {
                self.matter.learned.0.push(Lesson::Vouched(self.matter.presented, now..self.claims.expiry()));
                self.matter.admit(supabase, self.claims, now)
            }
            (Ok(200), Some(supabase)) if id.is_some() => self.matter.refuse_user(supabase, now),
            (Ok(401), _) if answer.as_ref().is_ok_and(UserAnswer::is_about_api_key) => self.matter.refuse(Reason::ApiKeyRefused),
            (Ok(400 | 401 | 403 | 404), Some(supabase)) => self.matter.refuse_user(supabase, now),
            _ => self.matter.refuse(Reason::UserUnavailable),
        })
    }
}
