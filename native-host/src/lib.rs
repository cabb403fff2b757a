//! The native host of [`nodetool_edge_auth`]: an authenticating reverse proxy, as a library.
//!
//! It reads a request, lets the core judge it, and does what the core says. Its twin is the Cloudflare Worker of the core's
//! package: `gateway` (there `worker/mod.rs`), `request`, `fetch`, `project`, `store` and `respond` do the same on both
//! sides, and the tests over HTTP put the same questions to both.

mod admin;
mod banner;
mod body;
mod cli;
mod clock;
mod crypto;
mod exposition;
mod fetch;
mod frames;
mod gateway;
mod log;
mod memory;
mod metrics;
mod observe;
mod pool;
mod project;
mod request;
mod respond;
mod server;
mod store;
mod stream;
mod tls;
mod upgrade;
mod watch;

pub use cli::main;
pub use crypto::verify_signature;
pub use nodetool_edge_auth::mask_token;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub use server::Trial;
pub use store::{
    CannotEdit, DeploymentConfig, StoreError, TokenSource, deployment_path, generate_secure_token, load_deployment_config,
    save_deployment_config, token_source, worker_auth_token,
};
