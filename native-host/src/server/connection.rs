//! One connection of a client, from its first byte to where it is known what is spoken over it.

use std::{io, sync::Arc, time::Duration};

use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioExecutor, TokioTimer},
    server::conn::auto,
};
use nodetool_edge_auth::{ClientLimits, Scheme};
use rustls::ServerConfig;
use socket2::TcpKeepalive;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{mpsc, watch},
    time::{sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, TlsStream};

use super::{
    activity::{Activity, Limits},
    client::{Client, ClientStream},
    conversation::{Conversation, converse},
    room::{Room, Taken, Weight},
};
use crate::{gateway::Gateway, stream::Stream};

/// Room for a request line and headers together.
const MAX_HEAD: usize = 32 * 1024;

/// Requests at one time on a connection of HTTP/2. Before a valid credential was shown, it holds fewer of them: `Standing`.
const MAX_STREAMS: u32 = 128;

/// Requests that a client of HTTP/2 may have taken back before anybody looked at them (CVE-2023-44487).
const MAX_RESET_STREAMS: usize = 20;

/// Answers that HTTP/2 holds for one request whose client does not read on.
const MAX_UNSENT: usize = 64 * 1024;

/// What a client of HTTP/2 may send of bodies before the upstream has taken any, for one request and for all. It is held in memory
/// while the request is judged.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 96 * 1024;

/// For a client of HTTP/2 to show that it is still there.
const PING_EVERY: Duration = Duration::from_secs(30);

/// At a stop, for a request that is on its way over a kept connection, whose client could not know.
pub(super) const LINGER: Duration = Duration::from_secs(1);

/// To say farewell, after the last byte that comes, and to do so at all: a client that uploads should read that it was refused.
pub(super) const CLOSING: Duration = Duration::from_secs(5);
pub(super) const LONGEST_CLOSING: Duration = Duration::from_secs(30);

/// Tells the system to notice that a peer is gone without a word, in about two minutes: where a pause is no fault,
/// nobody else would.
pub(crate) fn dead_peer() -> TcpKeepalive {
    let keepalive = TcpKeepalive::new().with_time(Duration::from_secs(60));
    #[cfg(unix)]
    let keepalive = keepalive.with_interval(Duration::from_secs(15)).with_retries(4);
    keepalive
}

/// All connections of one thread.
pub(super) struct Connections {
    gateway: Arc<Gateway>,
    limits: Limits,
    tls: Option<watch::Receiver<Arc<ServerConfig>>>,
    stopped: watch::Receiver<bool>,
    room: Arc<Room>,
    protocols: Arc<Protocols>,
}

struct Protocols {
    http1: http1::Builder,
    /// Either, as the first bytes tell.
    either: auto::Builder<TokioExecutor>,
}

impl Connections {
    pub(super) fn new(
        gateway: Gateway,
        limits: ClientLimits,
        tls: Option<watch::Receiver<Arc<ServerConfig>>>,
        stopped: watch::Receiver<bool>,
        room: Arc<Room>,
    ) -> Self {
        // Time is kept in `activity`, which knows a pause between requests from one within them.
        let mut http1 = http1::Builder::new();
        http1.timer(TokioTimer::new()).header_read_timeout(None).max_buf_size(MAX_HEAD);
        let mut either = auto::Builder::new(TokioExecutor::new());
        either.http1().timer(TokioTimer::new()).header_read_timeout(None).max_buf_size(MAX_HEAD);
        either
            .http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_EVERY)
            .max_concurrent_streams(MAX_STREAMS)
            .max_pending_accept_reset_streams(MAX_RESET_STREAMS)
            .max_header_list_size(MAX_HEAD as u32)
            .max_send_buf_size(MAX_UNSENT)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW);
        let protocols = Arc::new(Protocols { http1, either });
        Self { gateway: Arc::new(gateway), limits: Limits::new(limits), tls, stopped, room, protocols }
    }

    /// Serves a connection beside all others.
    pub(super) fn serve(&self, stream: TcpStream, open: mpsc::Sender<()>) {
        // Answers are written whole; a socket that refuses the option is as good as closed.
        let _ = stream.set_nodelay(true);
        let Ok(peer) = stream.peer_addr() else { return };
        let tls = self.tls.as_ref().map(|tls| TlsAcceptor::from(Arc::clone(&tls.borrow())));
        let client = Arc::new(Client {
            gateway: Arc::clone(&self.gateway),
            peer: peer.ip().to_canonical().to_string(),
            scheme: if tls.is_some() { Scheme::Https } else { Scheme::Http },
            activity: Activity::new(self.limits),
            stopped: self.stopped.clone(),
            place: self.room.enter(),
            _present: self.gateway.connected(),
        });
        let slot = (Taken::new(Arc::clone(&client.place)), open);
        let protocols = Arc::clone(&self.protocols);
        let (limit, seated) = (self.limits.head, Arc::clone(&client));
        client.holds(if tls.is_some() { Weight::Handshake } else { Weight::Resting });
        let task = tokio::spawn(async move {
            // Apart, since what it takes is not needed afterwards.
            let begun = Box::pin(async {
                tokio::select! {
                    begun = within(limit, begin(stream, tls)) => begun,
                    () = lingered(client.stopped.clone()) => Err(io::ErrorKind::TimedOut.into()),
                }
            })
            .await;
            let (stream, is_http1) = match begun {
                Ok(begun) => begun,
                Err(error) => return tracing::debug!(%error, peer = client.peer, "a connection did not begin"),
            };
            client.holds(Weight::Resting);
            let stream = ClientStream::new(stream, Arc::clone(&client), slot);
            let conversation = if is_http1 {
                Conversation::of_http1(&protocols.http1, stream)
            } else {
                Conversation::of_either(&protocols.either, stream)
            };
            converse(conversation, &client).await;
        });
        self.room.seat(&seated, task.abort_handle());
    }
}

/// What a connection begins with: the TLS handshake, if there is to be one, and the first bytes. Whether they can only be
/// HTTP/1.1 is told as well: to leave that to hyper takes another 8 KB for each connection.
async fn begin(stream: TcpStream, tls: Option<TlsAcceptor>) -> io::Result<(Stream, bool)> {
    /// As HTTP/2 begins (RFC 9113, section 3.4).
    const PREFACE: &[u8] = b"PRI * HTTP/2.0";
    let Some(tls) = tls else {
        let mut first = [0; PREFACE.len()];
        let length = stream.peek(&mut first).await?;
        let is_http1 = length > 0 && !PREFACE.starts_with(first.get(..length).unwrap_or_default());
        return Ok((Stream::Plain(stream), is_http1));
    };
    // Apart, since only TLS has need of so much.
    let stream = Box::pin(secure(tls, stream)).await?;
    let is_http1 = stream.get_ref().1.alpn_protocol() == Some(b"http/1.1");
    Ok((Stream::Tls(Box::new(stream)), is_http1))
}

/// Ends a moment after the process is asked to stop: whoever has said nothing until then has nothing to say.
async fn lingered(mut stopped: watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stopped| *stopped).await;
    sleep(LINGER).await;
}

async fn within<T>(limit: Option<Duration>, future: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match limit {
        Some(limit) => timeout(limit, future).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?,
        None => future.await,
    }
}

/// The TLS handshake.
async fn secure(tls: TlsAcceptor, mut stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
    /// The first byte of a record with a handshake (RFC 8446, section 5.1).
    const HANDSHAKE: u8 = 22;
    const EXPLANATION: &str = r#"{"detail":"This port speaks HTTPS"}"#;
    let mut first = [0];
    stream.peek(&mut first).await?;
    let [first] = first;
    if first != HANDSHAKE && first.is_ascii_uppercase() {
        // A person who forgot a letter, most likely: an alert of TLS would tell them nothing. What they sent is read, since
        // otherwise the system would cut the connection, and the answer with it.
        let mut head = vec![0; MAX_HEAD];
        let _ = stream.read(&mut head).await?;
        let answer = format!(
            "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncache-control: no-store\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{EXPLANATION}",
            EXPLANATION.len()
        );
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await?;
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the client spoke plain HTTP"));
    }
    Ok(TlsStream::Server(tls.accept(stream).await?))
}
