//! What the gateway counts. Each thread counts for itself, in numbers that no other thread writes; whoever asks gets the sums.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use crate::lock::locked;

use nodetool_edge_auth::{Reason, UserAnswer};

/// Words of which each is counted apart. They are few, and none comes from a request.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub(crate) enum $name { $($variant),+ }

        impl $name {
            pub(crate) const ALL: &[Self] = &[$(Self::$variant),+];

            pub(crate) const fn word(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        impl From<$name> for usize {
            fn from(word: $name) -> Self {
                word as Self
            }
        }
    };
}

words!(
    /// Who made an answer.
    Source { Gateway = "gateway", Upstream = "upstream" }
);
words!(
    /// The first digit of a status code.
    Class { Informational = "1xx", Success = "2xx", Redirection = "3xx", ClientError = "4xx", ServerError = "5xx" }
);
words!(
    /// How the upstream failed.
    UpstreamError {
        Connect = "connect",
        ConnectTimeout = "connect_timeout",
        Busy = "busy",
        Timeout = "timeout",
        Reset = "reset",
        Protocol = "protocol",
        Body = "body",
    }
);
words!(
    /// Whether a verified token was remembered.
    Lookup { Hit = "hit", Miss = "miss" }
);
words!(
    /// What came of something that was tried.
    Fetch { Success = "success", Failure = "failure" }
);
words!(
    /// What the user endpoint said of a token.
    Question { Accepted = "accepted", Refused = "refused", Failure = "failure" }
);
words!(
    /// What came of reading the deployment file again.
    Reload { Changed = "changed", Unchanged = "unchanged", Failure = "failure" }
);
words!(
    /// Why a line of the log was left out.
    Dropped { RateLimit = "rate_limit", QueueFull = "queue_full" }
);

/// Counters, one for each of `N` words.
#[derive(Debug)]
pub(crate) struct Counts<const N: usize>([AtomicU64; N]);

impl<const N: usize> Default for Counts<N> {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; N])
    }
}

impl<const N: usize> Counts<N> {
    pub(crate) fn add(&self, word: impl Into<usize>) {
        if let Some(count) = self.0.get(word.into()) {
            count.fetch_add(1, Relaxed);
        }
    }

    pub(crate) fn get(&self, word: impl Into<usize>) -> u64 {
        self.0.get(word.into()).map_or(0, |count| count.load(Relaxed))
    }
}

/// How many of something there are at the moment.
#[derive(Debug, Default)]
pub(crate) struct Gauge(AtomicI64);

impl Gauge {
    pub(crate) fn get(&self) -> i64 {
        self.0.load(Relaxed)
    }
}

/// One of them, for as long as it is held.
pub(crate) struct Present {
    counters: Arc<Counters>,
    gauge: fn(&Counters) -> &Gauge,
}

impl Present {
    pub(crate) fn new(counters: &Arc<Counters>, gauge: fn(&Counters) -> &Gauge) -> Self {
        gauge(counters).0.fetch_add(1, Relaxed);
        Self { counters: Arc::clone(counters), gauge }
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        (self.gauge)(&self.counters).0.fetch_sub(1, Relaxed);
    }
}

/// Upper bounds in seconds. An API may answer at once, or think for minutes.
pub(crate) const BOUNDS: [f64; 16] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0];

/// How long something took.
#[derive(Debug, Default)]
pub(crate) struct Times {
    /// One more than there are bounds, for all that took longer.
    pub(crate) buckets: Counts<{ BOUNDS.len() + 1 }>,
    microseconds: AtomicU64,
}

impl Times {
    pub(crate) fn add(&self, time: Duration) {
        let seconds = time.as_secs_f64();
        self.buckets.add(BOUNDS.iter().take_while(|bound| seconds > **bound).count());
        self.microseconds.fetch_add(u64::try_from(time.as_micros()).unwrap_or(u64::MAX), Relaxed);
    }

    pub(crate) fn sum(&self) -> f64 {
        self.microseconds.load(Relaxed) as f64 / 1e6
    }
}

/// All that one thread counts.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) passed: Counts<1>,
    pub(crate) refused: Counts<{ Reason::ALL.len() }>,
    /// By class, each for who made the answer.
    pub(crate) answers: [Counts<{ Class::ALL.len() }>; Source::ALL.len()],
    pub(crate) in_flight: Gauge,
    pub(crate) connections: Gauge,
    pub(crate) websockets: Gauge,
    pub(crate) upstream_times: Times,
    pub(crate) upstream_errors: Counts<{ UpstreamError::ALL.len() }>,
    pub(crate) lookups: Counts<{ Lookup::ALL.len() }>,
    pub(crate) key_fetches: Counts<{ Fetch::ALL.len() }>,
    pub(crate) stale_keys: Counts<1>,
    pub(crate) questions: Counts<{ Question::ALL.len() }>,
    pub(crate) reloads: Counts<{ Reload::ALL.len() }>,
    pub(crate) lines_dropped: Counts<{ Dropped::ALL.len() }>,
}

impl Counters {
    pub(crate) fn answered(&self, status: u16, source: Source) {
        if let Some(classes) = self.answers.get(usize::from(source)) {
            classes.add(usize::from(status / 100).saturating_sub(1));
        }
    }
}

impl Question {
    /// A refused API key says nothing about the user.
    pub(crate) fn of(answer: &UserAnswer) -> Self {
        match answer.status {
            200 => Self::Accepted,
            401 if answer.is_about_api_key() => Self::Failure,
            400 | 401 | 403 | 404 => Self::Refused,
            _ => Self::Failure,
        }
    }
}

/// All that the process counts.
pub(crate) struct Metrics {
    parts: Mutex<Vec<Arc<Counters>>>,
    pub(crate) started: SystemTime,
}

impl Metrics {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { parts: Mutex::default(), started: SystemTime::now() })
    }

    /// Counters for one more thread, or for what is no thread's own.
    pub(crate) fn counters(&self) -> Arc<Counters> {
        let counters = Arc::default();
        self.parts().push(Arc::clone(&counters));
        counters
    }

    /// The sum of a number over all threads.
    pub(crate) fn sum<T: std::iter::Sum>(&self, number: impl FnMut(&Arc<Counters>) -> T) -> T {
        self.parts().iter().map(number).sum()
    }

    fn parts(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Counters>>> {
        locked(&self.parts)
    }
}

#[cfg(test)]
mod tests {
    use super::{BOUNDS, Class, Metrics, Present, Source, Times};
    use std::time::Duration;

    #[test]
    fn a_time_falls_into_the_first_bucket_that_holds_it() {
        let times = Times::default();
        for (milliseconds, bucket) in
            [(0, 0_usize), (1, 0), (2, 1), (100, 6), (101, 7), (120_000, 15), (120_001, 16), (999_999, 16)]
        {
            let before = times.buckets.get(bucket);
            times.add(Duration::from_millis(milliseconds));
            assert_eq!(times.buckets.get(bucket), before + 1, "{milliseconds} ms");
        }
        assert!(BOUNDS.is_sorted());
    }

    #[test]
    fn threads_count_apart_and_are_summed() {
        let metrics = Metrics::new();
        let (one, other) = (metrics.counters(), metrics.counters());
        one.answered(200, Source::Upstream);
        other.answered(299, Source::Upstream);
        other.answered(502, Source::Gateway);
        // What no server should say falls under the table.
        other.answered(999, Source::Upstream);
        let of = |source: Source, class: Class| {
            metrics.sum(|part| part.answers.get(usize::from(source)).map_or(0, |classes| classes.get(class)))
        };
        assert_eq!((of(Source::Upstream, Class::Success), of(Source::Gateway, Class::ServerError)), (2, 1));
        let present = Present::new(&one, |counters| &counters.in_flight);
        assert_eq!(metrics.sum(|part| part.in_flight.get()), 1);
        drop(present);
        assert_eq!(metrics.sum(|part| part.in_flight.get()), 0);
    }
}
