//! State of a connection with respect to valid credentials, and the bounds of an HTTP/2 connection before the first one.
//!
//! The host reads on whatever it holds: a client that is not read from can neither take back a request, nor say that it has room for
//! an answer, nor be noticed when it is gone. So the bounds are kept by refusing streams, and by not asking for the next part of an
//! answer.

use std::{
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Waker},
};

use hyper::http::request::Parts;

use crate::{headers::size_of_head, lock::locked};

/// Requests of one connection whose answers are not over. Each takes some 4 KB.
const MAX_HELD: u32 = 12;

/// What their heads take together, in bytes.
const MAX_HEADS: usize = 32 * 1024;

/// Bytes of answers that were handed out, and that the socket has not taken.
const MAX_UNSENT: usize = 4 * 1024;

/// Requests that a client took back before they were answered, less those that the upstream has answered. Each may have cost a
/// connection to the upstream.
const MAX_CANCELLED: u32 = 20;

/// Of one connection of a client, and shared by its requests.
#[derive(Default)]
pub(crate) struct Standing {
    is_authenticated: AtomicBool,
    held: Mutex<Holding>,
}

#[derive(Default)]
struct Holding {
    requests: u32,
    heads: usize,
    cancelled: u32,
    unsent: usize,
    /// Answers that go on when the socket has taken more.
    waiting: Vec<Waker>,
}

/// A request of HTTP/2 that came before a valid credential was shown, for as long as its answer is not over.
pub(crate) struct Held {
    standing: Arc<Standing>,
    head: usize,
    /// Whether there was no room for it: then it passes with a valid credential only.
    is_excess: bool,
    /// Nothing until its answer begins; then whether that is the upstream's.
    answered: Option<bool>,
}

impl Standing {
    pub(crate) fn is_authenticated(&self) -> bool {
        self.is_authenticated.load(Ordering::Relaxed)
    }

    /// One of its requests has a valid credential.
    pub(crate) fn authenticate(&self) {
        if !self.is_authenticated.swap(true, Ordering::Relaxed) {
            self.holding().wake();
        }
    }

    /// A request has come; nothing if a valid credential was shown before.
    pub(crate) fn hold(self: &Arc<Self>, head: &Parts) -> Option<Held> {
        if self.is_authenticated() {
            return None;
        }
        let head = size_of_head(head);
        let mut holding = self.holding();
        let is_excess = holding.requests >= MAX_HELD || (holding.requests > 0 && holding.heads + head > MAX_HEADS);
        holding.requests += 1;
        holding.heads += head;
        drop(holding);
        Some(Held { standing: Arc::clone(self), head, is_excess, answered: None })
    }

    /// Whether the client takes back so many requests that the connection is to be closed.
    pub(crate) fn is_abused(&self) -> bool {
        !self.is_authenticated() && self.holding().cancelled > MAX_CANCELLED
    }

    /// Whether the next part of an answer may be handed out. If not, the task is woken when it may.
    pub(crate) fn may_hand_out(&self, context: &Context<'_>) -> bool {
        if self.is_authenticated() {
            return true;
        }
        let mut holding = self.holding();
        let has_room = holding.unsent < MAX_UNSENT;
        if !has_room {
            holding.waiting.push(context.waker().clone());
        }
        has_room
    }

    /// So many bytes of an answer were handed out.
    pub(crate) fn handed_out(&self, bytes: usize) {
        if !self.is_authenticated() {
            self.holding().unsent += bytes;
        }
    }

    /// The socket has taken so many bytes.
    pub(crate) fn sent(&self, bytes: usize) {
        if !self.is_authenticated() {
            let mut holding = self.holding();
            holding.unsent = holding.unsent.saturating_sub(bytes);
            if holding.unsent < MAX_UNSENT {
                holding.wake();
            }
        }
    }

    fn holding(&self) -> MutexGuard<'_, Holding> {
        locked(&self.held)
    }
}

impl Holding {
    fn wake(&mut self) {
        self.waiting.drain(..).for_each(Waker::wake);
    }
}

impl Held {
    pub(crate) const fn is_excess(&self) -> bool {
        self.is_excess
    }

    /// Its answer begins, which is the upstream's or the gateway's own.
    pub(crate) const fn answers(&mut self, is_of_upstream: bool) {
        self.answered = Some(is_of_upstream);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut holding = self.standing.holding();
        holding.requests -= 1;
        holding.heads -= self.head;
        match self.answered {
            None if !self.is_excess => holding.cancelled += 1,
            Some(true) => holding.cancelled = holding.cancelled.saturating_sub(1),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::Arc,
        task::{Context, Waker},
    };

    use hyper::Request;

    use super::{MAX_CANCELLED, MAX_HEADS, MAX_HELD, MAX_UNSENT, Standing};

    fn head(bytes: usize) -> hyper::http::request::Parts {
        Request::get("/").header("a", "b".repeat(bytes)).body(()).unwrap().into_parts().0
    }

    #[test]
    fn requests_are_excess_by_number_and_by_their_heads_until_a_valid_credential_is_shown() {
        let standing = Arc::<Standing>::default();
        let hold = |bytes| standing.hold(&head(bytes)).unwrap();
        let mut held: Vec<_> = (0..MAX_HELD).map(|_| hold(10)).collect();
        assert!(held.iter().all(|held| !held.is_excess()));
        assert!(hold(10).is_excess());
        held.clear();
        let large = hold(MAX_HEADS);
        assert!(!large.is_excess(), "alone, whatever its size");
        assert!(hold(10).is_excess());
        drop(large);
        assert!(!hold(10).is_excess());
        standing.authenticate();
        assert!(standing.hold(&head(10)).is_none());
    }

    #[test]
    fn a_client_that_only_takes_back_is_one_too_many() {
        let standing = Arc::<Standing>::default();
        for _ in 0..MAX_CANCELLED {
            drop(standing.hold(&head(1)));
        }
        assert!(!standing.is_abused());
        for is_of_upstream in [true, false] {
            let mut answered = standing.hold(&head(1)).unwrap();
            answered.answers(is_of_upstream);
        }
        drop(standing.hold(&head(1)));
        assert!(!standing.is_abused(), "an answer of the upstream makes up for one");
        drop(standing.hold(&head(1)));
        assert!(standing.is_abused());
        standing.authenticate();
        assert!(!standing.is_abused());
    }

    #[test]
    fn answers_wait_for_the_socket() {
        let standing = Standing::default();
        let context = Context::from_waker(Waker::noop());
        assert!(standing.may_hand_out(&context));
        standing.handed_out(MAX_UNSENT);
        assert!(!standing.may_hand_out(&context));
        standing.sent(1);
        assert!(standing.may_hand_out(&context));
        standing.sent(10 * MAX_UNSENT);
        standing.handed_out(MAX_UNSENT);
        assert!(!standing.may_hand_out(&context), "what else was sent is no advance");
        standing.authenticate();
        assert!(standing.may_hand_out(&context));
    }
}
