//! The native host of [`nodetool_edge_auth`], as a library: for servers that are written in Rust, and for who needs the token in
//! its file.
//!
//! - [`AuthLayer`] puts the judgement of the gateway in front of a service of `axum`, `hyper` or whatever else speaks `tower`.
//! - [`worker_auth_token`], [`token_source`], [`load_deployment_config`] and [`save_deployment_config`] find, make and keep the
//!   static token in `deployment.yaml`, as the gateway does.
//! - [`verify_signature`] checks the signature of a JWT by AWS-LC, for who drives the core alone.
//! - [`main`](fn@main) is the program itself, `nodetool-auth`: an authenticating reverse proxy.
//!
//! # Features
//!
//! | feature | adds |
//! |---|---|
//! | (none) | the token in its file, signatures |
//! | `layer` | [`AuthLayer`] |
//! | `cli` | the program: its command line and its server |
//!
//! Both are on by default. A service that only wants the layer does without a third of the dependencies, with
//! `nodetool-auth = { version = "0.1", default-features = false, features = ["layer"] }`. (`carrier` is what both have in
//! common, and nothing by itself.)
// It reads a request, lets the core judge it, and does what the core says. Its twin is the Cloudflare Worker of the core's
// package: `gateway` (there `worker/mod.rs`), `request`, `fetch`, `project`, `store` and `respond` do the same on both
// sides, and the tests over HTTP put the same questions to both.
#![cfg_attr(docsrs, feature(doc_cfg))]
// What only one of the features makes use of lies idle without it.
#![cfg_attr(not(all(feature = "cli", feature = "layer")), allow(dead_code))]

mod clock;
mod crypto;
mod store;

#[cfg(feature = "carrier")]
mod follow;
#[cfg(feature = "carrier")]
mod headers;
#[cfg(feature = "carrier")]
mod judge;
#[cfg(feature = "carrier")]
mod lock;
#[cfg(feature = "carrier")]
mod metrics;
#[cfg(feature = "carrier")]
mod observe;
#[cfg(feature = "carrier")]
mod plan;
#[cfg(feature = "carrier")]
mod project;
#[cfg(feature = "carrier")]
mod questions;
#[cfg(feature = "carrier")]
mod request;
#[cfg(feature = "carrier")]
mod respond;
#[cfg(feature = "carrier")]
mod watch;

#[cfg(feature = "layer")]
mod layer;

#[cfg(feature = "cli")]
mod admin;
#[cfg(feature = "cli")]
mod alarm;
#[cfg(feature = "cli")]
mod banner;
#[cfg(feature = "cli")]
mod body;
#[cfg(feature = "cli")]
mod cli;
#[cfg(feature = "cli")]
mod client_body;
#[cfg(feature = "cli")]
mod exposition;
#[cfg(feature = "cli")]
mod fetch;
#[cfg(feature = "cli")]
mod frames;
#[cfg(feature = "cli")]
mod gateway;
#[cfg(feature = "cli")]
mod loan;
#[cfg(feature = "cli")]
mod log;
#[cfg(feature = "cli")]
mod loops;
#[cfg(feature = "cli")]
mod memory;
#[cfg(feature = "cli")]
mod pool;
#[cfg(feature = "cli")]
mod server;
#[cfg(feature = "cli")]
mod standing;
#[cfg(feature = "cli")]
mod stream;
#[cfg(feature = "cli")]
mod tls;
#[cfg(feature = "cli")]
mod upgrade;

#[cfg(feature = "cli")]
pub use cli::main;
pub use crypto::verify_signature;
#[cfg(feature = "layer")]
pub use layer::{Auth, AuthBody, AuthLayer, SetupError};
pub use nodetool_edge_auth::{Identity, Scheme, Secret, TokenType, mask_token};
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub use server::Trial;
pub use store::{
    CannotEdit, DeploymentConfig, StoreError, TokenSource, deployment_path, generate_secure_token, load_deployment_config,
    save_deployment_config, token_source, worker_auth_token,
};
