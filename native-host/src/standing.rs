//! Whether a connection has shown a valid credential, and how many answers it may leave unread until then.

use std::{
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    task::{Context, Waker},
};

use crate::lock::locked;

/// Requests of one connection that the gateway judges, or has answered itself and the client has not read. Each takes some 4 KB.
const MAX_HELD: u32 = 12;

/// Of one connection of a client, and shared by its requests.
#[derive(Default)]
pub(crate) struct Standing {
    is_authenticated: AtomicBool,
    held: AtomicU32,
    /// Whether something was read since the requests that had come were taken up.
    has_read: AtomicBool,
    /// The task that reads from the connection, while it must not.
    paused: Mutex<Option<Waker>>,
}

impl Standing {
    pub(crate) fn is_authenticated(&self) -> bool {
        self.is_authenticated.load(Ordering::Relaxed)
    }

    /// One of its requests has a valid credential.
    pub(crate) fn authenticate(&self) {
        if !self.is_authenticated.swap(true, Ordering::Relaxed) {
            self.resume();
        }
    }

    pub(crate) fn hold(&self) {
        self.held.fetch_add(1, Ordering::Relaxed);
    }

    /// A request is forwarded, or its answer is over.
    pub(crate) fn release(&self) {
        if self.held.fetch_sub(1, Ordering::Relaxed) == MAX_HELD {
            self.resume();
        }
    }

    /// The requests that have come are taken up next.
    pub(crate) fn take_up(&self) {
        self.has_read.store(false, Ordering::Relaxed);
    }

    /// Whether no further request of HTTP/2 may be read for now. The task is woken when that changes. Requests that come with one read
    /// are taken up before the next read, since before that they are not counted.
    pub(crate) fn must_pause(&self, context: &Context<'_>) -> bool {
        if self.is_authenticated() {
            false
        } else if self.held.load(Ordering::Relaxed) >= MAX_HELD {
            *self.paused() = Some(context.waker().clone());
            true
        } else if self.has_read.swap(true, Ordering::Relaxed) {
            context.waker().wake_by_ref();
            true
        } else {
            false
        }
    }

    fn resume(&self) {
        if let Some(reader) = self.paused().take() {
            reader.wake();
        }
    }

    fn paused(&self) -> MutexGuard<'_, Option<Waker>> {
        locked(&self.paused)
    }
}
