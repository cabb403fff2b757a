//! How many cases property tests try: as many as usual, times `NODETOOL_TEST_CASES`.

use proptest::test_runner::{Config, FileFailurePersistence};

/// What failed is kept in a file `NAME.regressions` beside the test, and tried first from then on.
pub(crate) fn config(usual: u32) -> Config {
    let factor = option_env!("NODETOOL_TEST_CASES").and_then(|factor| factor.parse::<u32>().ok()).unwrap_or(1);
    Config {
        cases: usual * factor,
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..Config::default()
    }
}
