//! Connections to the upstream: one pool for each thread, since to share one costs more than to have a few more connections.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use nodetool_edge_auth::{ProxySettings, Settings, Upstream};
use socket2::SockRef;
use tokio::{
    net::TcpStream,
    time::{Instant, sleep, timeout},
};
use tokio_rustls::TlsStream;

use crate::{
    alarm::Alarm,
    body::RequestBody,
    server::dead_peer,
    stream::Stream,
    tls::{Trust, Unusable},
};

/// Common servers (uvicorn, Node) close an idle connection after 5 seconds: to use it just then would fail.
const IDLE_LIMIT: Duration = Duration::from_secs(4);

/// More than these are not kept for later.
const MAX_IDLE: usize = 256;

/// How the upstream is reached, as all threads know it.
#[derive(Clone)]
pub(crate) struct Reach(Arc<Known>);

struct Known {
    proxy: ProxySettings,
    /// `host:port`.
    address: String,
    trust: Option<Trust>,
    client_pause: Option<Duration>,
}

/// How long a body may pause on its way.
#[derive(Clone, Copy)]
pub(crate) struct Pauses {
    /// The client's.
    pub(crate) client: Option<Duration>,
    /// The upstream's.
    pub(crate) upstream: Option<Duration>,
}

impl Reach {
    pub(crate) fn new(settings: &Settings) -> Result<Self, Unusable> {
        let proxy = settings.proxy.clone();
        let address = proxy.upstream.as_ref().map(Upstream::address).unwrap_or_default();
        let trust = Trust::new(&proxy)?;
        let client_pause = settings.server.limits.body.map(Duration::from_secs);
        Ok(Self(Arc::new(Known { proxy, address, trust, client_pause })))
    }

    pub(crate) fn upstream(&self) -> Option<&Upstream> {
        self.0.proxy.upstream.as_ref()
    }

    pub(crate) fn response_timeout(&self) -> Option<Duration> {
        self.0.proxy.response_timeout.map(Duration::from_secs)
    }

    pub(crate) fn connect_timeout(&self) -> Option<Duration> {
        self.0.proxy.connect_timeout.map(Duration::from_secs)
    }

    pub(crate) fn pauses(&self) -> Pauses {
        Pauses { client: self.0.client_pause, upstream: self.0.proxy.idle_timeout.map(Duration::from_secs) }
    }

    /// A new connection, with whom the settings name and nobody else.
    pub(crate) async fn connect(&self) -> io::Result<Stream> {
        match self.connect_timeout() {
            Some(limit) => timeout(limit, self.connected()).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?,
            None => self.connected().await,
        }
    }

    async fn connected(&self) -> io::Result<Stream> {
        let stream = TcpStream::connect(&self.0.address).await?;
        stream.set_nodelay(true)?;
        SockRef::from(&stream).set_tcp_keepalive(&dead_peer())?;
        let Some(Trust { connector, name }) = &self.0.trust else { return Ok(Stream::Plain(stream)) };
        let stream = connector.connect(name.clone(), stream).await?;
        Ok(Stream::Tls(Box::new(TlsStream::Client(stream))))
    }
}

pub(crate) struct Pool {
    reach: Reach,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    /// In the order in which they came back.
    idle: Vec<Idle>,
    /// Whether somebody closes those whose time is over.
    is_tended: bool,
}

impl Kept {
    fn close_expired(&mut self, now: Instant) {
        let expired = self.idle.iter().take_while(|connection| now.duration_since(connection.since) > IDLE_LIMIT).count();
        self.idle.drain(..expired);
    }
}

struct Idle {
    sender: SendRequest<RequestBody>,
    alarm: Alarm,
    since: Instant,
}

/// A connection in use by one request.
pub(crate) struct Lease {
    pub(crate) sender: SendRequest<RequestBody>,
    /// For who waits for an answer.
    pub(crate) alarm: Alarm,
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
        let mut kept = self.pool.kept();
        if kept.idle.len() < MAX_IDLE {
            kept.idle.push(Idle { sender: self.sender, alarm: self.alarm, since: Instant::now() });
            if !std::mem::replace(&mut kept.is_tended, true) {
                tokio::spawn(Arc::clone(&self.pool).tend());
            }
        }
    }
}

impl Pool {
    pub(crate) fn new(reach: Reach) -> Arc<Self> {
        Arc::new(Self { reach, kept: Mutex::default() })
    }

    /// The connection that was used last of those that are usable: it is the least likely to have been closed meanwhile.
    pub(crate) fn take(self: &Arc<Self>, now: Instant) -> Option<Lease> {
        let mut kept = self.kept();
        kept.close_expired(now);
        let at = kept.idle.iter().rposition(|connection| connection.sender.is_ready())?;
        let Idle { sender, alarm, .. } = kept.idle.remove(at);
        Some(Lease { sender, alarm, is_reused: true, is_reusable: true, pool: Arc::clone(self) })
    }

    /// Closes connections when their time is over, also when nobody asks for one any more.
    async fn tend(self: Arc<Self>) {
        loop {
            sleep(IDLE_LIMIT).await;
            let mut kept = self.kept();
            kept.close_expired(Instant::now());
            if kept.idle.is_empty() {
                kept.is_tended = false;
                return;
            }
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new connection.
    pub(crate) async fn connect(self: &Arc<Self>) -> io::Result<Lease> {
        let stream = self.reach.connect().await?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        tokio::spawn(async move {
            // How it ended is told to the request that used it.
            let _ = connection.with_upgrades().await;
        });
        Ok(Lease { sender, alarm: Alarm::default(), is_reused: false, is_reusable: true, pool: Arc::clone(self) })
    }
}
