//! The time, as the core counts it.

use std::time::{SystemTime, UNIX_EPOCH};

use nodetool_edge_auth::UnixTime;

pub(crate) fn now() -> UnixTime {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixTime::from_millis(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
}
