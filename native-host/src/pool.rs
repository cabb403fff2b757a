//! Connections to the upstream: one pool for each thread, since to share one costs more than to have a few more connections.

mod idle;
mod link;
mod places;

use std::{
    io,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use hyper::{
    Response, Version,
    body::Incoming,
    client::conn::http1::{self, SendRequest},
    header,
};
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
    lock::locked,
    server::{dead_peer, room_for_upstream},
    stream::Stream,
    tls::{Trust, Unusable},
};
use idle::{Connection, IDLE_LIMIT, Kept};
use link::Link;

pub(crate) use places::{Busy, Place, Places};

/// How the upstream is reached, as all threads know it.
#[derive(Clone)]
pub(crate) struct Reach(Arc<Known>);

struct Known {
    proxy: ProxySettings,
    /// `host:port`.
    address: String,
    trust: Option<Trust>,
    client_pause: Option<Duration>,
    places: Places,
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
        let connect_timeout = proxy.connect_timeout.map(Duration::from_secs);
        let places = Places::new(room_for_upstream(proxy.max_connections), connect_timeout);
        Ok(Self(Arc::new(Known { proxy, address, trust, client_pause, places })))
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

    pub(crate) fn places(&self) -> &Places {
        &self.0.places
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
    /// How many connections there have been.
    count: AtomicU64,
}

/// Why there is no new connection.
pub(crate) enum ConnectError {
    Busy,
    Io(io::Error),
}

impl From<Busy> for ConnectError {
    fn from(Busy: Busy) -> Self {
        Self::Busy
    }
}

impl From<io::Error> for ConnectError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// A connection in use by one request.
pub(crate) struct Lease {
    connection: Connection,
    /// For how long it was idle before, if it has served other requests.
    idled: Option<Duration>,
    /// Whether it may serve others after.
    pub(crate) is_reusable: bool,
    /// That of a request without a credential.
    pub(crate) turn: Option<Place>,
    pool: Arc<Pool>,
}

impl Lease {
    pub(crate) const fn is_reused(&self) -> bool {
        self.idled.is_some()
    }

    pub(crate) const fn sender(&mut self) -> (&mut SendRequest<RequestBody>, &mut Alarm) {
        (&mut self.connection.sender, &mut self.connection.alarm)
    }

    /// Has the request handed back, instead of sent, if the upstream has already closed the connection.
    pub(crate) fn check(&self) {
        self.connection.check.request();
    }

    /// Has the answer read in small parts, or not.
    pub(crate) fn read_little(&self, reads_little: bool) {
        self.connection.check.read_little(reads_little);
    }

    /// The upstream closed it instead of answering.
    pub(crate) fn was_closed(&self) {
        if let Some(idled) = self.idled {
            self.pool.kept().closed_after(idled);
        }
    }

    /// The upstream has answered. After an error of its own a server may close the connection without saying so (uvicorn does
    /// after an unhandled exception), and some do when they refuse a request.
    pub(crate) fn answered(&mut self, response: &Response<Incoming>) {
        let says = |option: &[u8]| {
            let mut options = response
                .headers()
                .get_all(header::CONNECTION)
                .iter()
                .flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
            options.any(|listed| listed.trim_ascii().eq_ignore_ascii_case(option))
        };
        let closes = says(b"close") || (response.version() == Version::HTTP_10 && !says(b"keep-alive"));
        self.is_reusable &= !closes && !response.status().is_server_error();
        self.connection.is_settled &= !response.status().is_client_error();
    }

    /// Gives the connection back when its answer is over.
    pub(crate) fn release(self) {
        if !self.is_reusable || self.connection.sender.is_closed() || self.pool.reach.places().is_wanted() {
            return;
        }
        let mut kept = self.pool.kept();
        if kept.put(self.connection) && !std::mem::replace(&mut kept.is_tended, true) {
            tokio::spawn(Arc::clone(&self.pool).tend());
        }
    }
}

impl Pool {
    pub(crate) fn new(reach: Reach) -> Arc<Self> {
        let pool = Arc::new(Self { reach, kept: Mutex::default(), count: AtomicU64::new(0) });
        pool.reach.places().add_pool(&pool);
        pool
    }

    /// A connection for a request, which may be repeated or not, if there is one.
    pub(crate) fn take(self: &Arc<Self>, is_repeatable: bool, now: Instant) -> Option<Lease> {
        let (connection, idled) = self.kept().take(is_repeatable, now)?;
        Some(Lease { connection, idled: Some(idled), is_reusable: true, turn: None, pool: Arc::clone(self) })
    }

    /// Closes connections when their time is over, also when no request comes any more.
    async fn tend(self: Arc<Self>) {
        loop {
            sleep(IDLE_LIMIT).await;
            let mut kept = self.kept();
            kept.close_expired(Instant::now());
            if kept.is_empty() {
                kept.is_tended = false;
                return;
            }
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        locked(&self.kept)
    }

    /// Closes the connection that has been idle for longest. False if there is none.
    fn close_oldest(&self) -> bool {
        self.kept().close_oldest()
    }

    /// A new connection, when there is room for one.
    pub(crate) async fn connect(self: &Arc<Self>) -> Result<Lease, ConnectError> {
        let place = self.reach.places().place().await?;
        let (link, check) = Link::new(self.reach.connect().await?, place);
        let (sender, connection) = http1::handshake(TokioIo::new(link)).await.map_err(io::Error::other)?;
        let id = self.count.fetch_add(1, Ordering::Relaxed);
        let pool = Arc::downgrade(self);
        tokio::spawn(async move {
            // How it ended is told to the request that used it.
            let _ = connection.with_upgrades().await;
            if let Some(pool) = pool.upgrade() {
                pool.kept().closed(id);
            }
        });
        let connection = Connection { id, sender, alarm: Alarm::default(), check, is_settled: false };
        Ok(Lease { connection, idled: None, is_reusable: true, turn: None, pool: Arc::clone(self) })
    }
}
