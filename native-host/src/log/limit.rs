//! How many lines of one kind are taken: a kind is a place in the source and, of refusals, the reason.

use std::{
    collections::HashMap,
    fmt::Debug,
    sync::{Arc, Mutex},
    time::Instant,
};

use tracing::{
    Event, Level, Metadata, Subscriber,
    callsite::Identifier,
    field::{Field, Visit},
};
use tracing_subscriber::layer::{Context, Layer};

use crate::{
    lock::locked,
    metrics::{Counters, Dropped},
    observe::UNLIMITED,
};

/// Lines of one kind that are taken at once, and then in a second: a hundred megabytes a day if they never end.
const BURST: f64 = 100.0;
const PER_SECOND: f64 = 5.0;

type Kinds = Arc<Mutex<HashMap<(Identifier, String), Kind>>>;

struct Kind {
    metadata: &'static Metadata<'static>,
    bucket: Bucket,
}

/// Room for so many lines, which fills again as time goes by.
struct Bucket {
    room: f64,
    at: Instant,
    left_out: u64,
}

impl Bucket {
    const fn new(now: Instant) -> Self {
        Self { room: BURST, at: now, left_out: 0 }
    }

    fn takes(&mut self, now: Instant) -> bool {
        let elapsed = now.saturating_duration_since(self.at).as_secs_f64();
        self.room = (self.room + elapsed * PER_SECOND).min(BURST);
        self.at = now;
        if self.room < 1.0 {
            self.left_out += 1;
            return false;
        }
        self.room -= 1.0;
        true
    }
}

/// Leaves out what is too much of its kind.
pub(super) struct Limit {
    kinds: Kinds,
    counters: Arc<Counters>,
}

impl Limit {
    pub(super) fn new(counters: Arc<Counters>) -> Self {
        Self { kinds: Kinds::default(), counters }
    }

    pub(super) fn summary(&self) -> Summary {
        Summary { kinds: Arc::clone(&self.kinds) }
    }
}

impl<S: Subscriber> Layer<S> for Limit {
    fn event_enabled(&self, event: &Event<'_>, _context: Context<'_, S>) -> bool {
        let metadata = event.metadata();
        // Who asks for details gets them all.
        if *metadata.level() > Level::INFO || metadata.target() == UNLIMITED {
            return true;
        }
        let mut reason = Reason::default();
        event.record(&mut reason);
        let now = Instant::now();
        let is_taken = locked(&self.kinds)
            .entry((metadata.callsite(), reason.0))
            .or_insert_with(|| Kind { metadata, bucket: Bucket::new(now) })
            .bucket
            .takes(now);
        if !is_taken {
            self.counters.lines_dropped.add(Dropped::RateLimit);
        }
        is_taken
    }
}

/// The reason code of a refusal, one of a few. No other field tells kinds apart: strangers could make up any number.
#[derive(Default)]
struct Reason(String);

impl Visit for Reason {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "reason" {
            value.clone_into(&mut self.0);
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn Debug) {}
}

/// Tells of what was left out since the last time.
pub(super) struct Summary {
    kinds: Kinds,
}

impl Summary {
    pub(super) fn tell(&self) {
        // Told after the lock is let go of, which every line takes.
        let left_out: Vec<_> = locked(&self.kinds)
            .iter_mut()
            .filter(|(_, kind)| kind.bucket.left_out > 0)
            .map(|((_, reason), kind)| (reason.clone(), kind.metadata, std::mem::take(&mut kind.bucket.left_out)))
            .collect();
        for (reason, metadata, count) in left_out {
            let place = metadata.line().unwrap_or_default();
            let module = metadata.module_path().unwrap_or_default();
            tracing::warn!(target: UNLIMITED, count, like = reason, module, place, "lines of the log were left out, since there were too many of the kind");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{BURST, Bucket, PER_SECOND};
    use std::time::{Duration, Instant};

    #[test]
    fn a_flood_is_let_through_in_bounds_and_counted() {
        let start = Instant::now();
        let mut bucket = Bucket::new(start);
        let mut taken = |at: Instant, lines: usize| (0..lines).filter(|_| bucket.takes(at)).count() as f64;
        assert_eq!(taken(start, 10_000), BURST);
        assert_eq!(taken(start + Duration::from_secs(3), 10_000), 3.0 * PER_SECOND);
        // A clock that goes back gives nothing, and an hour of rest no more than the burst.
        assert_eq!(taken(start, 10), 0.0);
        assert_eq!(taken(start + Duration::from_secs(3600), 10_000), BURST);
        assert_eq!(bucket.left_out, 30_010 - (2.0 * BURST + 3.0 * PER_SECOND) as u64);
    }
}
