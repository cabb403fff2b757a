//! Room for connections of clients, and which of them are closed when there is no more.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::Notify,
    task::AbortHandle,
    time::{sleep, timeout},
};

use super::{activity::GRACE, client::Client, descriptors};
use crate::lock::locked;

/// Connections beyond the limit while no other can be closed: a health check is answered even then.
const RESERVE: usize = 16;

/// How often to look for a connection to close while none can be.
const PERIOD: Duration = Duration::from_millis(20);

/// Of all connections, this part is closed at one time, so that the search for them is rare.
const PART: usize = 64;

/// What a connection without a valid credential is taken to hold of memory, at most.
#[derive(Clone, Copy)]
pub(super) enum Weight {
    /// Nothing but its socket, and its TLS session.
    Resting,
    /// A TLS handshake that goes on, of which rustls holds up to 64 KB.
    Handshake,
    Http1,
    Http2,
    /// It has shown a valid credential, or is closed.
    None,
}

impl Weight {
    const fn bytes(self) -> usize {
        match self {
            Self::Resting => 16 * 1024,
            Self::Handshake => 80 * 1024,
            Self::Http1 => 64 * 1024,
            Self::Http2 => 160 * 1024,
            Self::None => 0,
        }
    }
}

/// All connections of all threads.
pub(super) struct Room {
    limit: usize,
    /// Bytes for connections without a valid credential.
    budget: usize,
    /// What these weigh.
    held: AtomicUsize,
    seats: Mutex<Seats>,
    freed: Notify,
    /// True while a task is scheduled to check the budget again, once the connections that are new now can be evicted.
    looks_again: AtomicBool,
}

#[derive(Default)]
struct Seats {
    last: u64,
    taken: HashMap<u64, Seat>,
}

struct Seat {
    client: Arc<Client>,
    task: AbortHandle,
}

/// Held by a connection for as long as it is open.
pub(super) struct Place {
    room: Arc<Room>,
    number: u64,
    weight: AtomicUsize,
}

impl Room {
    pub(super) fn new(limit: usize, budget: usize) -> Arc<Self> {
        Arc::new(Self {
            limit,
            budget,
            held: AtomicUsize::new(0),
            seats: Mutex::default(),
            freed: Notify::new(),
            looks_again: AtomicBool::new(false),
        })
    }

    fn seats(&self) -> MutexGuard<'_, Seats> {
        locked(&self.seats)
    }

    /// A place for one more connection, which is served once it is seated.
    pub(super) fn enter(self: &Arc<Self>) -> Arc<Place> {
        let mut seats = self.seats();
        seats.last += 1;
        Arc::new(Place { room: Arc::clone(self), number: seats.last, weight: AtomicUsize::new(0) })
    }

    /// The connection of this client is served by this task. Others make room for it.
    pub(super) fn seat(&self, client: &Arc<Client>, task: AbortHandle) {
        let mut seats = self.seats();
        let excess = (seats.taken.len() + 1).saturating_sub(self.limit);
        if excess > 0 {
            descriptors::say_that_it_is_full();
            seats.evict(excess, self.limit / PART, 0);
        }
        seats.taken.insert(client.place.number, Seat { client: Arc::clone(client), task });
    }

    /// Closes connections if all together hold more than there is. Whether they hold too much still, since they are new.
    fn keep_to_budget(&self) -> bool {
        let excess = || self.held.load(Ordering::Relaxed).saturating_sub(self.budget);
        if excess() > 0 {
            self.seats().evict(0, 0, excess() + self.budget / PART);
        }
        excess() > 0
    }

    /// Waits until one more connection can be taken in.
    pub(super) async fn vacancy(&self) {
        while self.seats().is_beyond(self.limit.saturating_add(RESERVE), self.limit / PART) {
            let _ = timeout(PERIOD, self.freed.notified()).await;
        }
    }
}

impl Seats {
    /// Whether as many connections as this, or more, are left when one was to be closed.
    fn is_beyond(&mut self, limit: usize, spare: usize) -> bool {
        self.taken.len() >= limit && self.evict(1, spare, 0) == 0
    }

    /// Closes connections until so many are gone, and with them so many bytes: without a valid credential first, and of those the
    /// longest idle; none with an authenticated request in flight, and no new one. Those to `spare` have no valid credential.
    fn evict(&mut self, count: usize, spare: usize, bytes: usize) -> usize {
        let ranks = self.taken.iter().filter_map(|(number, seat)| Some((seat.client.activity.rank()?, *number)));
        let mut ranks: Vec<_> = ranks.collect();
        ranks.sort_unstable();
        let (mut closed, mut freed) = (0, 0);
        for (rank, number) in ranks {
            // What a connection with a valid credential holds is not counted.
            let is_enough = closed >= count && (rank.is_authenticated || closed >= spare && freed >= bytes);
            // New clients wait for it rather than that an older one with a valid credential is closed.
            let is_over = is_enough || rank.is_new;
            let Some(seat) = (!is_over).then(|| self.taken.remove(&number)).flatten() else { break };
            tracing::debug!(peer = seat.client.peer, "a connection is closed to make room for others");
            seat.task.abort();
            freed += seat.client.place.weigh(Weight::None);
            closed += 1;
        }
        closed
    }
}

impl Place {
    /// Takes note of what the connection holds from now on, and says what it was before.
    fn weigh(&self, weight: Weight) -> usize {
        let before = self.weight.swap(weight.bytes(), Ordering::Relaxed);
        self.room.held.fetch_add(weight.bytes(), Ordering::Relaxed);
        self.room.held.fetch_sub(before, Ordering::Relaxed);
        before
    }

    /// The connection holds so much from now on. Others are closed if that is more than there is.
    pub(super) fn holds(&self, weight: Weight) {
        self.weigh(weight);
        if self.room.keep_to_budget() && !self.room.looks_again.swap(true, Ordering::Relaxed) {
            let room = Arc::clone(&self.room);
            tokio::spawn(async move {
                loop {
                    sleep(GRACE).await;
                    room.looks_again.store(false, Ordering::Relaxed);
                    if !room.keep_to_budget() || room.looks_again.swap(true, Ordering::Relaxed) {
                        return;
                    }
                }
            });
        }
    }

    /// A valid credential was shown over the connection.
    pub(super) fn forgives(&self) {
        if self.weight.load(Ordering::Relaxed) > 0 {
            self.weigh(Weight::None);
        }
    }

    pub(super) fn leave(&self) {
        self.weigh(Weight::None);
        let left = self.room.seats().taken.remove(&self.number);
        drop(left);
        self.room.freed.notify_one();
    }
}

/// Leaves its place when it is dropped: the socket of a connection holds it.
pub(super) struct Taken(Arc<Place>);

impl Taken {
    pub(super) const fn new(place: Arc<Place>) -> Self {
        Self(place)
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.0.leave();
    }
}
