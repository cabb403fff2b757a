//! What a connection of a client is doing, and how long it may go on like that.

use std::{
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use nodetool_edge_auth::ClientLimits;

use crate::{lock::locked, standing::Standing};

/// Stands for something that is not happening.
const NEVER: u64 = u64::MAX;

/// For a new client to show its credential before it has to make room for others.
pub(super) const GRACE: Duration = Duration::from_millis(100);

/// Shared by the socket, the requests and the timer of one connection, all on one thread.
///
/// Times are milliseconds since it began.
pub(super) struct Activity {
    began: Instant,
    limits: Limits,
    /// Requests whose answers are not over.
    in_flight: AtomicU32,
    /// Bodies of requests that somebody still reads. One may go on when its request is answered.
    uploads: AtomicU32,
    has_served: AtomicBool,
    /// Set by a read, cleared when the task of the connection is polled.
    has_read: AtomicBool,
    pub(super) standing: Arc<Standing>,
    is_http2: AtomicBool,
    /// Whether the head of a request has begun, and the request has not.
    is_in_head: AtomicBool,
    /// Whether a body follows the last head, read or not. HTTP/2 has its own way to refuse one.
    has_body: AtomicBool,
    /// Whether it is no longer HTTP what is spoken.
    is_tunnel: AtomicBool,
    /// Whether the last byte of the last answer is on its way.
    is_closing: AtomicBool,
    /// Since when nothing has come or gone, while no request is in flight; or since when the head of one comes.
    waits_since: AtomicU64,
    /// Since when the client has taken nothing of what it is sent.
    stalls_since: AtomicU64,
    /// The same of each answer in HTTP/2, where a client can leave one and take the others.
    answers: Mutex<Vec<Weak<AtomicU64>>>,
}

/// What a client of HTTP/2 has taken of one answer.
pub(super) struct Taken {
    activity_began: Instant,
    waits_since: Arc<AtomicU64>,
}

impl Taken {
    /// A part of it was handed out, and no other is asked for until the client has room for it.
    pub(super) fn handed_out(&self) {
        self.waits_since.store(millis_since(self.activity_began), Ordering::Relaxed);
    }

    /// The client waits for more.
    pub(super) fn is_wanted(&self) {
        self.waits_since.store(NEVER, Ordering::Relaxed);
    }
}

fn millis_since(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_millis()).unwrap_or(NEVER - 1)
}

#[derive(Clone, Copy)]
pub(super) struct Limits {
    pub(super) head: Option<Duration>,
    body: Option<Duration>,
    idle: Option<Duration>,
}

impl Limits {
    pub(super) fn new(limits: ClientLimits) -> Self {
        let seconds = |limit: Option<u64>| limit.map(Duration::from_secs);
        Self { head: seconds(limits.head), body: seconds(limits.body), idle: seconds(limits.idle) }
    }

    /// How often to look: whatever begins after a look cannot be over its limit before the next.
    pub(super) fn period(self) -> Option<Duration> {
        [self.head, self.body, self.idle].into_iter().flatten().min()
    }
}

/// The lowest rank is closed first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    pub(super) is_authenticated: bool,
    /// When its last answer was over, or its request began to come.
    since: Instant,
    pub(super) is_new: bool,
}

/// What a look at a connection finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    /// Nothing to wait for, or still time: look again at this moment, if at any.
    Fine(Option<Instant>),
    /// It was idle for too long, and can end in good manners.
    Idle,
    /// The client had its time.
    TooSlow(&'static str),
}

impl Activity {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            began: Instant::now(),
            limits,
            in_flight: AtomicU32::new(0),
            uploads: AtomicU32::new(0),
            has_served: AtomicBool::new(false),
            has_read: AtomicBool::new(false),
            standing: Arc::default(),
            is_http2: AtomicBool::new(false),
            is_in_head: AtomicBool::new(false),
            has_body: AtomicBool::new(false),
            is_tunnel: AtomicBool::new(false),
            is_closing: AtomicBool::new(false),
            waits_since: AtomicU64::new(0),
            stalls_since: AtomicU64::new(NEVER),
            answers: Mutex::default(),
        }
    }

    fn now(&self) -> u64 {
        millis_since(self.began)
    }

    /// An answer in HTTP/2 begins.
    pub(super) fn answers(&self) -> Taken {
        let waits_since = Arc::new(AtomicU64::new(self.now()));
        let mut answers = locked(&self.answers);
        answers.retain(|answer| answer.strong_count() > 0);
        answers.push(Arc::downgrade(&waits_since));
        Taken { activity_began: self.began, waits_since }
    }

    /// Since when the client has taken nothing of the answer that it has left for longest.
    fn leaves_since(&self) -> u64 {
        let answers = locked(&self.answers);
        let waits = answers.iter().filter_map(|answer| Some(answer.upgrade()?.load(Ordering::Relaxed)));
        waits.min().unwrap_or(NEVER)
    }

    pub(super) fn is_busy(&self) -> bool {
        self.in_flight.load(Ordering::Relaxed) > 0
    }

    pub(super) fn has_served(&self) -> bool {
        self.has_served.load(Ordering::Relaxed)
    }

    pub(super) fn is_http2(&self) -> bool {
        self.is_http2.load(Ordering::Relaxed)
    }

    pub(super) fn is_authenticated(&self) -> bool {
        self.standing.is_authenticated()
    }

    /// Which connections are closed sooner than others to make room; nothing if this one must not be.
    pub(super) fn rank(&self) -> Option<Rank> {
        let is_authenticated = self.is_authenticated();
        let is_in_use = self.is_busy()
            || self.is_in_head()
            || self.uploads.load(Ordering::Relaxed) > 0
            || self.stalls_since.load(Ordering::Relaxed) != NEVER;
        let since = self.began + Duration::from_millis(self.waits_since.load(Ordering::Relaxed));
        let is_new = !self.has_served() && self.began.elapsed() < GRACE;
        let must_stay = self.is_tunnel.load(Ordering::Relaxed) || is_authenticated && is_in_use;
        (!must_stay).then_some(Rank { is_authenticated, since, is_new })
    }

    /// Whether part of a request has come.
    pub(super) fn is_in_head(&self) -> bool {
        self.is_in_head.load(Ordering::Relaxed)
    }

    /// Whether the client may still be sending what nobody reads any more, when its connection is about to be closed.
    pub(super) fn may_be_sending(&self) -> bool {
        !self.is_tunnel.load(Ordering::Relaxed) && (self.is_in_head() || self.has_body.load(Ordering::Relaxed))
    }

    /// It will be closed when what is in flight is over. If nothing is, all bodies have been read.
    pub(super) fn finishes(&self) {
        if !self.is_busy() {
            self.has_body.store(false, Ordering::Relaxed);
        }
    }

    /// From here on somebody else reads all that comes.
    pub(super) fn becomes_tunnel(&self) {
        self.is_tunnel.store(true, Ordering::Relaxed);
    }

    /// Nothing but a farewell follows.
    pub(super) fn closes(&self) {
        self.is_closing.store(true, Ordering::Relaxed);
    }

    /// Bytes came.
    pub(super) fn received(&self) {
        self.has_read.store(true, Ordering::Relaxed);
        // They may be the rest of a body, and in HTTP/2 they need not be of a request.
        let is_a_head = self.uploads.load(Ordering::Relaxed) == 0 && (!self.is_http2() || !self.has_served());
        if is_a_head && !self.is_busy() && !self.is_in_head() {
            self.is_in_head.store(true, Ordering::Relaxed);
            if self.has_served() {
                self.waits_since.store(self.now(), Ordering::Relaxed);
            }
        }
    }

    /// Bytes went.
    pub(super) fn sent(&self) {
        if self.stalls_since.load(Ordering::Relaxed) == NEVER {
            return;
        }
        self.stalls_since.store(NEVER, Ordering::Relaxed);
        // The rest of an answer is no idleness. HTTP/2 sends by itself, to see whether the client is there.
        if !self.is_http2() && !self.is_busy() && self.has_served() && !self.is_in_head() {
            self.waits_since.store(self.now(), Ordering::Relaxed);
        }
    }

    /// The client takes nothing.
    pub(super) fn stalled(&self) {
        if self.stalls_since.load(Ordering::Relaxed) == NEVER {
            self.stalls_since.store(self.now(), Ordering::Relaxed);
        }
    }

    /// The task of the connection is polled.
    pub(super) fn is_polled(&self) {
        self.has_read.store(false, Ordering::Relaxed);
    }

    /// True if a read has succeeded since the last poll of that task.
    pub(super) fn has_read(&self) -> bool {
        self.has_read.load(Ordering::Relaxed)
    }

    /// The head of a request is complete.
    pub(super) fn begin(&self, is_http2: bool, has_body: bool) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        self.has_body.store(has_body && !is_http2, Ordering::Relaxed);
        self.is_in_head.store(false, Ordering::Relaxed);
        if !self.has_served() {
            self.is_http2.store(is_http2, Ordering::Relaxed);
            self.has_served.store(true, Ordering::Relaxed);
        }
    }

    /// An answer is over.
    pub(super) fn end(&self) {
        self.waits_since.store(self.now(), Ordering::Relaxed);
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn begin_upload(&self) {
        self.uploads.fetch_add(1, Ordering::Relaxed);
    }

    /// A body was read to its end, or nobody wants the rest.
    pub(super) fn end_upload(&self) {
        self.uploads.fetch_sub(1, Ordering::Relaxed);
    }

    /// Since when a connection of HTTP/1.1 waits for the first byte of its next request, with everything before it read,
    /// answered and sent.
    pub(super) fn idles_since(&self) -> Option<Instant> {
        let is_idle = !self.is_busy()
            && self.has_served()
            && !self.is_http2()
            && !self.is_in_head()
            && self.uploads.load(Ordering::Relaxed) == 0
            && self.stalls_since.load(Ordering::Relaxed) == NEVER
            && !self.is_tunnel.load(Ordering::Relaxed)
            && !self.is_closing.load(Ordering::Relaxed);
        is_idle.then(|| self.began + Duration::from_millis(self.waits_since.load(Ordering::Relaxed)))
    }

    pub(super) fn judge(&self) -> Judgement {
        let over = |since: u64, limit: Option<Duration>| limit.map(|limit| self.began + Duration::from_millis(since) + limit);
        let stalls_since = self.stalls_since.load(Ordering::Relaxed).min(self.leaves_since());
        let waits_since = self.waits_since.load(Ordering::Relaxed);
        let next = self.limits.period().map(|period| Instant::now() + period);
        let (end, judgement) = if stalls_since != NEVER {
            (over(stalls_since, self.limits.body), Judgement::TooSlow("a client read nothing of its answer for too long"))
        } else if self.is_busy() {
            return Judgement::Fine(next);
        } else if self.is_in_head() || !self.has_served() {
            (over(waits_since, self.limits.head), Judgement::TooSlow("a client took too long for the head of its request"))
        } else {
            (over(waits_since, self.limits.idle), Judgement::Idle)
        };
        match end {
            Some(end) if end <= Instant::now() => judgement,
            // Before this end it may begin something that has an earlier one.
            end => Judgement::Fine([end, next].into_iter().flatten().min()),
        }
    }
}
