//! What must hold for every token, key set, settings, path and connection, whatever bytes they are made of.
//!
//! Each function here takes one input and panics when the core, asked through its public API, disagrees with a second
//! opinion: the same rules, written down once more, more simply and without a look at the speed. libFuzzer looks for such inputs
//! (`npm run fuzz`); what it found on its way stands in `corpus/`, and is replayed by the ordinary tests.
//!
//! Each tells whether its input was accepted, so that the replay can see that its corpus still gets that far.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a target that panics has found something"
)]

mod exchange;
mod headers;
mod http1;
mod json;
mod jwks;
mod path;
mod proxy;
/// Shared with the properties, whose inputs are made by a generator.
#[path = "../../tests/second_opinion/mod.rs"]
mod second_opinion;
mod settings;
mod token;

use nodetool_edge_auth::{Facts, Gate, Host, Outcome, Policy, Settings, Step, Tokens, UnixTime, begin};

pub use {headers::headers, jwks::jwks, path::path, proxy::proxy, settings::settings, token::token};

/// 2026-01-01T00:00:00Z.
const NOW: UnixTime = UnixTime::from_secs(1_767_225_600);

/// The static token of every gate here.
const STATIC: &str = "the-static-token-of-a-fuzzed-gate";

/// The parts of an input. NUL stands between them, because neither JSON nor an environment can hold one: so the fuzzer
/// can try everything else within a part.
fn parts(data: &[u8]) -> Vec<&[u8]> {
    data.split(|byte| *byte == 0).collect()
}

/// The rules of a gateway in front of an upstream.
fn policy(settings: &[(&str, &str)]) -> Policy {
    let get = |name: &str| settings.iter().find(|(known, _)| *known == name).map(|(_, value)| value.to_string());
    let upstream = |name: &str| (name == "UPSTREAM_URL").then(|| "http://upstream.test".to_owned());
    Settings::parse(Host::Edge, |name| get(name).or_else(|| upstream(name))).unwrap().policy
}

/// A gate that accepts [`STATIC`].
fn gate(policy: Policy) -> Gate {
    Gate::with_tokens(policy, Tokens::single(STATIC).unwrap())
}

/// The judgement of a request for which nobody needs to be asked.
fn judge(gate: &Gate, facts: &Facts<'_>) -> Outcome {
    match begin(&mut gate.clone(), facts, NOW) {
        Step::Decided(outcome) => outcome,
        step => unreachable!("undecided: {step:?}"),
    }
}
