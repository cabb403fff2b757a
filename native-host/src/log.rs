//! The log: never waited for by a request, and never without bound.
//!
//! Lines go through a queue of bounded length to a thread that writes them, since standard error may be a pipe that nobody
//! reads; what does not fit is left out. And of one kind of line only so many are taken in a while, since strangers can
//! cause some of them as often as they like: a flood must not fill a disk. What is left out is counted, and told of.

mod limit;
mod queue;

use std::{
    io::{self, IsTerminal},
    sync::Arc,
};

use nodetool_edge_auth::Settings;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::{
    Layer,
    filter::Targets,
    fmt::{self, time::SystemTime},
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

use crate::metrics::Counters;
use limit::Limit;
use queue::Queue;

/// What waits, when the process ends, until the last lines are written.
pub(crate) use queue::Flush;

/// Logs go to standard error from now on.
pub(crate) fn to_stderr(settings: &Settings, counters: Arc<Counters>) -> io::Result<Flush> {
    let level = settings.log_level.parse().unwrap_or(LevelFilter::INFO);
    let limit = Limit::new(Arc::clone(&counters));
    let (queue, flush) = Queue::start(counters, limit.summary())?;
    let lines = fmt::layer().with_writer(queue).with_timer(SystemTime).with_target(false);
    let lines = if settings.logs_json {
        lines.json().flatten_event(true).boxed()
    } else {
        lines.with_ansi(io::stderr().is_terminal()).boxed()
    };
    // Of others only what matters: what they tell of a request at `debug` is not for a log, and its query least of all.
    let levels = Targets::new().with_target(env!("CARGO_CRATE_NAME"), level).with_default(level.min(LevelFilter::WARN));
    tracing_subscriber::registry().with(lines).with(limit).with(levels).init();
    Ok(flush)
}
