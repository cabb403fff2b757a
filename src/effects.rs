//! What a host does for the core, and the loop that asks it to.

use alloc::{borrow::ToOwned, format, string::String, vec::Vec};

use crate::{
    json::Json,
    keys::{Jwks, max_age},
    questions::UserQuestion,
    step::{Outcome, SignatureCheck, Step, WantedKeys},
    time::UnixTime,
    token::Secret,
};

/// The host could not get an answer. Why is for the host to log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unavailable;

/// A key set as its server gave it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FetchedKeys {
    /// The body of the answer.
    pub document: Vec<u8>,
    /// Its `max-age`, in seconds, if it has one: as its `Cache-Control` says.
    pub max_age: Option<u64>,
}

impl FetchedKeys {
    /// A key set that is known to be one. Where it came from a server, [`in_answer`](Self::in_answer) looks first.
    pub const fn new(document: Vec<u8>, max_age: Option<u64>) -> Self {
        Self { document, max_age }
    }

    /// The key set in an answer of its server, or why it is none, for the log.
    pub fn in_answer(status: u16, cache_control: Option<&str>, document: Vec<u8>) -> Result<Self, String> {
        if status != 200 {
            return Err(format!("the server answered {status}"));
        }
        if Jwks::parse(&document).is_none() {
            return Err("the answer is not a key set".to_owned());
        }
        Ok(Self { document, max_age: cache_control.and_then(max_age) })
    }
}

/// What came of asking for the key set of the project.
#[derive(Clone, Debug)]
pub enum KeysAnswer {
    /// This is it, as of when it was fetched.
    Fetched(FetchedKeys, UnixTime),
    /// It could not be had, at that time.
    Failed(UnixTime),
    /// Another request is fetching it, and this one need not wait: see [`WantedKeys::has_stand_in`].
    UnderWay,
}

/// What the user endpoint said.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct UserAnswer {
    /// The status code.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
}

impl UserAnswer {
    /// An answer with this status code and body.
    pub const fn new(status: u16, body: Vec<u8>) -> Self {
        Self { status, body }
    }

    /// Whether `SUPABASE_KEY` was refused: what stands before the server does so in words of its own.
    pub fn is_about_api_key(&self) -> bool {
        let body = Json::parse(&self.body);
        let message = body.as_ref().and_then(|body| body.get("message")).and_then(Json::as_str);
        self.status == 401 && message.is_some_and(|message| message.contains("API key"))
    }
}

/// What a host does for the core. Whether the futures are `Send` is the host's affair: it shows where they are spawned.
///
/// ```
/// use nodetool_edge_auth::{
///     Effects, Facts, FetchedKeys, Gate, Host, KeysAnswer, Secret, Settings, SignatureCheck, Tokens, Unavailable, UnixTime,
///     UserAnswer, UserQuestion, Verdict, WantedKeys, begin, drive,
/// };
///
/// /// A host of a project that signs with a secret: what it does not do is nothing that anyone gets.
/// struct MyHost;
///
/// impl Effects for MyHost {
///     fn now(&self) -> UnixTime {
///         let since_epoch = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
///         UnixTime::from_secs(since_epoch.as_secs())
///     }
///
///     async fn tokens(&self) -> Result<Option<Secret>, Unavailable> {
///         Err(Unavailable)
///     }
///
///     async fn keys(&self, _wanted: WantedKeys) -> KeysAnswer {
///         // Fetched by your client, kept for `lifetime(max_age)`, and fetched once for all who wait:
///         KeysAnswer::Fetched(FetchedKeys::new(br#"{"keys":[]}"#.to_vec(), None), self.now())
///     }
///
///     async fn signature(&self, _check: SignatureCheck<'_>) -> Result<bool, Unavailable> {
///         // `nodetool_auth::verify_signature`, or the one of this crate with the feature `rustcrypto`.
///         Ok(false)
///     }
///
///     async fn user(&self, _question: &UserQuestion) -> Result<UserAnswer, Unavailable> {
///         Err(Unavailable)
///     }
/// }
///
/// # fn block_on<T>(future: impl Future<Output = T>) -> T {
/// #     let mut context = std::task::Context::from_waker(std::task::Waker::noop());
/// #     match std::pin::pin!(future).poll(&mut context) {
/// #         std::task::Poll::Ready(value) => value,
/// #         std::task::Poll::Pending => unreachable!(),
/// #     }
/// # }
/// let settings = Settings::parse(Host::Embedded, |name| match name {
///     "AUTH_PROVIDER" => Some("supabase".into()),
///     "SUPABASE_URL" => Some("https://project.supabase.co".into()),
///     "SUPABASE_KEY" => Some("sb_publishable_0123456789".into()),
///     _ => None,
/// })?;
/// let (mut gate, host) = (Gate::with_tokens(settings.policy, Tokens::default()), MyHost);
///
/// let mut facts = Facts::new("GET", "/v1/jobs", None);
/// facts.header("host", b"api.example").header("authorization", b"Bearer not.a.token").subject();
/// let mut outcome = block_on(drive(begin(&mut gate, &facts, host.now()), &host));
/// // What was learned serves the next requests.
/// gate.learn(std::mem::take(&mut outcome.learned));
/// assert!(matches!(outcome.verdict, Verdict::Refuse(_)));
/// # Ok::<(), nodetool_edge_auth::SettingsErrors>(())
/// ```
#[expect(async_fn_in_trait, reason = "no bound on the futures fits both hosts")]
pub trait Effects {
    /// The time.
    fn now(&self) -> UnixTime;

    /// The value of `worker_auth_token` in the token store, if there is one.
    async fn tokens(&self) -> Result<Option<Secret>, Unavailable>;

    /// The key set of the project. One that was fetched for somebody else will do if it is new enough. One past its age is
    /// better than none, as long as the server cannot be reached.
    async fn keys(&self, wanted: WantedKeys) -> KeysAnswer;

    /// Whether a signature is right; an error if it could not be checked: the request is refused, and nothing is remembered of the token.
    async fn signature(&self, check: SignatureCheck<'_>) -> Result<bool, Unavailable>;

    /// The answer of the project's user endpoint about a token.
    async fn user(&self, question: &UserQuestion) -> Result<UserAnswer, Unavailable>;
}

/// Takes a request from its first step to its end: the example is at [`Effects`]. Who has no futures takes each [`Step`] by
/// hand, and hands to its `provide` what it asks for.
pub async fn drive(mut step: Step<'_>, host: &impl Effects) -> Outcome {
    loop {
        step = match step {
            Step::Decided(outcome) => return outcome,
            Step::NeedTokens(need) => {
                let value = host.tokens().await;
                need.provide(value, host.now())
            }
            Step::NeedKeys(need) => {
                let answer = host.keys(need.wanted()).await;
                need.provide(answer, host.now())
            }
            Step::NeedSignature(need) => {
                let is_right = match need.check() {
                    Some(check) => host.signature(check).await,
                    None => Ok(false),
                };
                need.provide(is_right, host.now())
            }
            Step::NeedUser(need) => {
                let answer = host.user(&need.question()).await;
                need.provide(answer, host.now())
            }
        };
    }
}
