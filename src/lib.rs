//! Authentication at the edge, decided by one pure core.
//!
//! A request walks one way through this crate:
//!
//! ```text
//! request ─► facts ─► credential ─► verdict ─► action ─► response or upstream
//!  (host)    core       core     core │ ▲ core   core      (host)
//!                                    │ │
//!                           Step::Need… the host fetches, and hands back what came
//! ```
//!
//! A host (the Cloudflare Worker in this crate, the native proxy `nodetool-auth`, or your own program)
//! collects the [`Facts`] of a request, calls [`begin`] and is given a [`Step`]. Either the matter is
//! decided, or the step says what the core needs to know; [`drive`] is the loop that fetches it and goes on.
//! The [`Verdict`] at the end becomes an [`Action`]: answer this, or forward the request with these headers.
//!
//! The core is sans-IO. It reads no clock, no random source, no file, no environment and no network, and
//! writes no log: time and bytes come in as arguments, effects go out as data. It builds `no_std` + `alloc`.
//!
//! ```
//! use nodetool_edge_auth::{Facts, Gate, Host, Secret, Settings, Step, Tokens, UnixTime, Verdict, begin};
//!
//! let settings = Settings::parse(Host::Native, |name| match name {
//!     "AUTH_PROVIDER" => Some("static".into()),
//!     "WORKER_AUTH_TOKEN" => Some("correct-horse-battery-staple".into()),
//!     _ => None,
//! })?;
//! let tokens = Tokens::single(settings.token.as_ref().map_or("", Secret::reveal))?;
//! let mut gate = Gate::with_tokens(settings.policy, tokens);
//!
//! let mut facts = Facts::new("GET", "/v1/models", None);
//! facts.header("Authorization", b"Bearer correct-horse-battery-staple");
//! let now = UnixTime::from_secs(1_767_225_600);
//! let Step::Decided(outcome) = begin(&mut gate, &facts, now) else { unreachable!("the token is known") };
//! assert!(matches!(outcome.verdict, Verdict::Pass(_)));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Features
//!
//! | feature | adds | target |
//! |---|---|---|
//! | (none) | the core | any |
//! | `rustcrypto` | `verify_signature`, in portable Rust | any |
//! | `js` | a `wasm-bindgen` surface for JavaScript embedders: it exports `Gate` and a few functions | wasm32 |
//! | `explain` | `explain(settings, request)` on top of `js`: what would become of a request, step by step | wasm32 |
//! | `worker` | the module `worker`: the edge host for the `fetch` handler of your own Worker; exports nothing | wasm32 |
//! | `worker-export` | the exports of this project's own Worker; not for embedders | wasm32 |
//!
//! All may be combined. On other targets than theirs they add nothing. Those who write servers natively find a layer for `tower`, and
//! signatures by AWS-LC, in the package `nodetool-auth`.
#![cfg_attr(docsrs, feature(doc_cfg))]
// The edge host and the JavaScript surface are built on macros that name `std`; the core never does.
#![cfg_attr(not(any(test, all(target_arch = "wasm32", any(feature = "js", feature = "worker")))), no_std)]

extern crate alloc;
// Linked for its allocator and panic handler only. Under this name the core cannot reach a clock or a file through it.
extern crate std as _;

mod action;
mod answer;
mod cache;
mod cors;
mod credential;
mod effects;
mod explain;
mod facts;
mod failures;
mod forward;
mod forward_auth;
mod gate;
mod hops;
mod json;
mod jwt;
mod keys;
mod observe;
mod path;
mod policy;
mod proxies;
mod questions;
mod settings;
#[cfg(feature = "rustcrypto")]
mod signature;
mod step;
mod time;
mod token;
mod trace;
mod verdict;
mod websocket;

#[cfg(all(feature = "js", target_arch = "wasm32"))]
mod js;
#[cfg(all(any(feature = "js", feature = "worker"), target_arch = "wasm32"))]
mod web;
#[cfg(all(feature = "worker", target_arch = "wasm32"))]
pub mod worker;

pub use action::Action;
pub use answer::{Answer, MISCONFIGURED};
pub use cors::Sharing;
pub use effects::{Effects, FetchedKeys, KeysAnswer, Unavailable, UserAnswer, drive};
pub use explain::{Finding, FindingStatus, Witness, explain};
pub use facts::{Facts, Field, Scheme};
pub use failures::Failures;
pub use forward::{Finish, Forward};
pub use gate::{Gate, Learned, StoreFailure, TOKENS_USABLE_FOR};
pub use keys::{Algorithm, FAILURE_COOLDOWN, Jwks, Key, MAX_JWKS, MISS_COOLDOWN, Material, Thumbprint, USABLE_FOR, lifetime};
pub use observe::{Escaped, is_request_id};
pub use path::{Area, Rewriting};
pub use policy::{Environment, Policy, Provider};
pub use questions::{Questions, UserQuestion};
pub use settings::{
    ClientLimits, Host, Project, ProxySettings, SETTINGS, ServerSettings, Setting, SettingError, Settings, SettingsErrors,
    TlsSettings, Upstream,
};
#[cfg(feature = "rustcrypto")]
pub use signature::verify_signature;
pub use step::{NeedKeys, NeedSignature, NeedTokens, NeedUser, Outcome, SignatureCheck, Step, WantedKeys, begin};
pub use time::UnixTime;
pub use token::{Digest, Secret, StoreError, TokenError, Tokens, generate_token, mask_token};
pub use trace::{ClaimTrace, JwtTrace, Presented, Reading, Restriction, Rule, Trace, trace};
pub use verdict::{Destination, Identity, Pass, Reason, TokenType, Verdict};
