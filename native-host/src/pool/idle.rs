//! Idle connections of one thread, and which of them a request may go over.
//!
//! An upstream may close a connection at any time, also just while a request is on its way to it. A request that may be repeated
//! is then sent again over a new connection. Any other one goes only over a connection that the upstream is not about to close, by
//! what was seen of it.

use std::time::Duration;

use hyper::client::conn::http1::SendRequest;
use tokio::time::Instant;

use super::link::Check;
use crate::{alarm::Alarm, body::RequestBody};

/// Common servers (uvicorn, Node) close an idle connection after 5 seconds.
pub(super) const IDLE_LIMIT: Duration = Duration::from_secs(4);

/// A server that closes a connection because of what it has just answered does so sooner than this.
const SETTLED: Duration = Duration::from_millis(20);

/// More than these are not kept for later.
const MAX_IDLE: usize = 256;

pub(super) struct Idle {
    pub(super) connection: Connection,
    since: Instant,
}

/// A connection between two requests.
pub(super) struct Connection {
    pub(super) id: u64,
    pub(super) sender: SendRequest<RequestBody>,
    pub(super) alarm: Alarm,
    pub(super) check: Check,
    /// Whether the upstream has once left it open after an answer, and has not given one since after which it might not.
    pub(super) is_settled: bool,
}

/// In the order in which they came back.
#[derive(Default)]
pub(super) struct Kept {
    idle: Vec<Idle>,
    /// For how long the upstream is known to leave an idle connection open.
    open_for: Duration,
    /// When it last closed one.
    closed_at: Option<Instant>,
    /// Whether a task closes those whose time is over.
    pub(super) is_tended: bool,
}

impl Kept {
    pub(super) fn close_expired(&mut self, now: Instant) {
        self.look(now);
        let expired = self.idle.iter().take_while(|idle| now.duration_since(idle.since) > IDLE_LIMIT).count();
        self.idle.drain(..expired);
    }

    /// Closes the one that has been idle for longest. False if there is none.
    pub(super) fn close_oldest(&mut self) -> bool {
        let has_any = !self.idle.is_empty();
        if has_any {
            drop(self.idle.remove(0));
        }
        has_any
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.idle.is_empty()
    }

    /// False if there are too many.
    pub(super) fn put(&mut self, connection: Connection) -> bool {
        let has_room = self.idle.len() < MAX_IDLE;
        if has_room {
            self.idle.push(Idle { connection, since: Instant::now() });
        }
        has_room
    }

    /// The connection that was used last of those that are usable, since the upstream is the least likely to have closed it, and
    /// for how long it was idle.
    pub(super) fn take(&mut self, is_repeatable: bool, now: Instant) -> Option<(Connection, Duration)> {
        self.close_expired(now);
        let most = self.open_for / 2;
        let is_fit = |idle: &Idle| {
            let age = now.duration_since(idle.since);
            let is_safe = || age <= most && (idle.connection.is_settled || age >= SETTLED);
            idle.connection.sender.is_ready() && (is_repeatable || is_safe())
        };
        let at = self.idle.iter().rposition(is_fit)?;
        let Idle { mut connection, since } = self.idle.remove(at);
        let age = now.duration_since(since);
        connection.is_settled |= age >= SETTLED;
        Some((connection, age))
    }

    /// Learns from those that are still open how long the upstream leaves one so. When it closes one, that begins anew.
    fn look(&mut self, now: Instant) {
        let began_after = |idle: &&Idle| self.closed_at.is_none_or(|closed| idle.since > closed);
        if let Some(oldest) = self.idle.iter().find(began_after) {
            self.open_for = self.open_for.max(now.duration_since(oldest.since));
        }
    }

    /// The connection of this id is closed. If it was idle, the upstream closed it.
    pub(super) fn closed(&mut self, id: u64) {
        let Some(at) = self.idle.iter().position(|idle| idle.connection.id == id) else { return };
        let Idle { since, .. } = self.idle.remove(at);
        self.closed_after(since.elapsed());
    }

    /// The upstream closed a connection that had been idle for so long.
    pub(super) fn closed_after(&mut self, age: Duration) {
        self.open_for = self.open_for.min(age);
        self.closed_at = Some(Instant::now());
    }
}
