//! How many connections to the upstream there may be, for all threads together, and who waits for one.

use std::{
    pin::pin,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep_until, timeout},
};

use super::Pool;
use crate::{loan::Loan, lock::locked};

/// How long a request waits for its turn, where connecting may take any time.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often a request that waits looks for an answer that its client leaves.
const LOOK: Duration = Duration::from_millis(250);

/// Requests without a credential that the upstream serves at one time. An answer that its client does not take holds 8 KB.
const MAX_ANONYMOUS: usize = 1024;

/// Bytes of a head, from which on a request takes one more of the turns for each KB: the connections on both sides hold a copy of it.
const SMALL_HEAD: usize = 4096;

pub(crate) struct Places {
    most: usize,
    open: Arc<Semaphore>,
    /// Of those, what requests without a credential may use: half, so that they never keep out one with a credential.
    anonymous: Arc<Semaphore>,
    most_anonymous: usize,
    patience: Duration,
    /// Requests that wait for a connection.
    waiting: AtomicUsize,
    /// Of every thread.
    pools: Mutex<Vec<Weak<Pool>>>,
    /// Answers to requests without a credential.
    loans: Mutex<Vec<Weak<Loan>>>,
}

/// A connection may be open, or a request may use one, for as long as this is held.
pub(crate) type Place = OwnedSemaphorePermit;

/// No connection became free in time.
pub(crate) struct Busy;

impl Places {
    pub(super) fn new(most: usize, connect_timeout: Option<Duration>) -> Self {
        let most = most.clamp(1, Semaphore::MAX_PERMITS);
        let most_anonymous = (most / 2).clamp(1, MAX_ANONYMOUS);
        Self {
            most,
            open: Arc::new(Semaphore::new(most)),
            most_anonymous,
            anonymous: Arc::new(Semaphore::new(most_anonymous)),
            patience: connect_timeout.unwrap_or(PATIENCE),
            waiting: AtomicUsize::new(0),
            pools: Mutex::default(),
            loans: Mutex::default(),
        }
    }

    pub(crate) const fn most(&self) -> usize {
        self.most
    }

    pub(super) fn add_pool(&self, pool: &Arc<Pool>) {
        locked(&self.pools).push(Arc::downgrade(pool));
    }

    /// Whether a connection that has become free is to be closed, so that another can be opened.
    pub(super) fn is_wanted(&self) -> bool {
        self.waiting.load(Ordering::SeqCst) > 0
    }

    /// A place for a new connection.
    pub(super) async fn place(&self) -> Result<Place, Busy> {
        if let Ok(place) = Arc::clone(&self.open).try_acquire_owned() {
            return Ok(place);
        }
        let _waiting = Waiting::begin(&self.waiting);
        self.close_idle();
        match timeout(self.patience, Arc::clone(&self.open).acquire_owned()).await {
            Ok(Ok(place)) => Ok(place),
            _ => Err(self.busy()),
        }
    }

    /// Has an idle connection give way, whichever thread it belongs to.
    fn close_idle(&self) {
        let pools = locked(&self.pools).clone();
        let _ = pools.iter().filter_map(Weak::upgrade).any(|pool| pool.close_oldest());
    }

    /// The turn of a request without a credential, whose head has so many bytes. If all are taken, an answer ends that its client does
    /// not take.
    pub(crate) async fn anonymous_turn(&self, head: usize) -> Result<Place, Busy> {
        let turns = (1 + head.saturating_sub(SMALL_HEAD) / 1024).min(self.most_anonymous);
        let turns = u32::try_from(turns).unwrap_or(1);
        match Arc::clone(&self.anonymous).try_acquire_many_owned(turns) {
            Ok(turn) => Ok(turn),
            // Apart, since it is rare, and every request would have to make room for it.
            Err(_) => Box::pin(self.next_anonymous_turn(turns)).await,
        }
    }

    async fn next_anonymous_turn(&self, turns: u32) -> Result<Place, Busy> {
        let mut turn = pin!(Arc::clone(&self.anonymous).acquire_many_owned(turns));
        let end = Instant::now() + self.patience;
        loop {
            self.call_one_back();
            let next = end.min(Instant::now() + LOOK);
            tokio::select! {
                turn = &mut turn => return turn.map_err(|_| self.busy()),
                () = sleep_until(next) => if next == end { return Err(self.busy()) },
            }
        }
    }

    fn busy(&self) -> Busy {
        tracing::warn!(
            "a request was answered 503: all {} connections to the upstream that UPSTREAM_MAX_CONNECTIONS allows are in use, or all of the half that is for requests without a credential",
            self.most
        );
        Busy
    }

    pub(crate) fn add_loan(&self, loan: &Arc<Loan>) {
        let mut loans = locked(&self.loans);
        // Whenever the list is about to grow, those that are over make room first.
        if loans.len() == loans.capacity() {
            loans.retain(|loan| loan.strong_count() > 0);
        }
        loans.push(Arc::downgrade(loan));
    }

    fn call_one_back(&self) {
        let loans: Vec<_> = locked(&self.loans).iter().filter_map(Weak::upgrade).collect();
        let left = loans.iter().filter_map(|loan| Some((loan.is_left_since()?, loan)));
        if let Some((_, loan)) = left.min_by_key(|(since, _)| *since) {
            loan.call_back();
        }
    }
}

struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn begin(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
