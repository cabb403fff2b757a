//! Connections to the upstream: one pool for each thread, since to share one costs more than to have a few more connections.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};

use crate::body::RequestBody;

/// Common servers (uvicorn, Node) close an idle connection after 5 seconds: to use it just then would fail.
const IDLE_LIMIT: Duration = Duration::from_secs(4);

/// More than these are not kept for later.
const MAX_IDLE: usize = 256;

pub(crate) struct Pool {
    /// `host:port`.
    address: String,
    connect_timeout: Option<Duration>,
    idle: Mutex<Vec<Idle>>,
}

struct Idle {
    sender: SendRequest<RequestBody>,
    since: Instant,
}

/// A connection in use by one request.
pub(crate) struct Lease {
    pub(crate) sender: SendRequest<RequestBody>,
    /// Whether it has served others before.
    pub(crate) is_reused: bool,
    /// Whether it may serve others after.
    pub(crate) is_reusable: bool,
    pool: Arc<Pool>,
}

impl Lease {
    /// Gives the connection back when its answer is over.
    pub(crate) fn release(self) {
        if !self.is_reusable || self.sender.is_closed() {
            return;
        }
        let mut idle = self.pool.idle();
        if idle.len() < MAX_IDLE {
            idle.push(Idle { sender: self.sender, since: Instant::now() });
        }
    }
}

impl Pool {
    pub(crate) fn new(address: String, connect_timeout: Option<Duration>) -> Arc<Self> {
        Arc::new(Self { address, connect_timeout, idle: Mutex::default() })
    }

    /// The connection that was used last of those that are usable: it is the least likely to have been closed meanwhile.
    pub(crate) fn take(self: &Arc<Self>) -> Option<Lease> {
        let mut idle = self.idle();
        // They stand in the order in which they came back.
        let now = Instant::now();
        let expired = idle.iter().take_while(|connection| now.duration_since(connection.since) > IDLE_LIMIT).count();
        idle.drain(..expired);
        let at = idle.iter().rposition(|connection| connection.sender.is_ready())?;
        let sender = idle.remove(at).sender;
        Some(Lease { sender, is_reused: true, is_reusable: true, pool: Arc::clone(self) })
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new connection.
    pub(crate) async fn connect(self: &Arc<Self>) -> io::Result<Lease> {
        let connecting = TcpStream::connect(&self.address);
        let stream = match self.connect_timeout {
            Some(limit) => timeout(limit, connecting).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??,
            None => connecting.await?,
        };
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        tokio::spawn(async move {
            // How it ended is told to the request that used it.
            let _ = connection.with_upgrades().await;
        });
        Ok(Lease { sender, is_reused: false, is_reusable: true, pool: Arc::clone(self) })
    }
}
