//! Sockets, threads, time limits and the way to a clean stop.

use std::{
    convert::Infallible,
    io,
    net::{SocketAddr, TcpListener as StdListener},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
};
use tokio::{
    net::{TcpListener, TcpStream},
    runtime, signal,
    sync::watch,
    time::{sleep, timeout},
};

use crate::{gateway::Gateway, watch::Watch};

/// For a whole request head, and for the next one on a connection that is kept.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);

/// Room for a request line and headers together.
const MAX_HEAD: usize = 64 * 1024;

/// For requests in flight when the process is asked to stop.
const DRAIN_LIMIT: Duration = Duration::from_secs(30);

/// A socket that accepts connections, before anybody serves them.
#[derive(Debug)]
pub(crate) struct Listening {
    socket: StdListener,
    address: SocketAddr,
}

impl Listening {
    /// Where it listens, with the port that the system chose if it was asked for any.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The socket, for who serves it otherwise.
    pub(crate) fn into_socket(self) -> StdListener {
        self.socket
    }
}

/// Why the server could not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error("cannot listen on {address}: {error} (choose another with {setting})")]
    Listen { address: SocketAddr, error: io::Error, setting: &'static str },
    #[error("the system refused a thread or an event queue: {0}")]
    Runtime(#[from] io::Error),
}

/// `setting` is where the address comes from.
pub(crate) fn listen(address: SocketAddr, setting: &'static str) -> Result<Listening, StartError> {
    let open = || {
        let socket = StdListener::bind(address)?;
        socket.set_nonblocking(true)?;
        let address = socket.local_addr()?;
        Ok(Listening { socket, address })
    };
    open().map_err(|error| StartError::Listen { address, error, setting })
}

/// Serves until a signal says stop, then lets what is in flight come to its end.
pub(crate) fn run(listening: Listening, gateway: Gateway, watch: Option<Watch>) -> Result<(), StartError> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    // Before anybody is told that the server is there, who might tell it to stop.
    let (asked_to_stop, mut hangups) = {
        let _entered = runtime.enter();
        (stop_signal()?, Hangups::new()?)
    };
    let reread = watch.map(Watch::start).transpose()?;
    let (stop, stopped) = watch::channel(false);
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let mut workers = Vec::with_capacity(threads);
    for index in 0..threads {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let socket = listening.socket.try_clone()?;
        let (gateway, stopped) = (Arc::new(gateway.for_thread()), stopped.clone());
        let worker = thread::Builder::new().name(format!("gateway-{index}"));
        workers.push(worker.spawn(move || runtime.block_on(serve(socket, gateway, stopped)))?);
    }
    tracing::info!("listening on http://{}", listening.address());
    drop(listening);

    if let Some(background) = gateway.background() {
        runtime.spawn(background);
    }
    runtime.spawn(async move {
        while hangups.next().await {
            // The thread lives for as long as the sender does.
            if reread.as_ref().is_none_or(|reread| reread.send(()).is_err()) {
                tracing::info!("nothing to read again: no token comes from a file");
            }
        }
    });
    runtime.block_on(asked_to_stop);
    gateway.drain();
    tracing::info!("stopping: no new connections, requests in flight may end within {} s", DRAIN_LIMIT.as_secs());
    // The workers may all have ended already.
    let _ = stop.send(true);
    for worker in workers {
        match worker.join() {
            Ok(result) => result?,
            Err(_) => tracing::error!("a thread of the gateway had failed"),
        }
    }
    Ok(())
}

async fn serve(socket: StdListener, gateway: Arc<Gateway>, mut stopped: watch::Receiver<bool>) -> io::Result<()> {
    let listener = TcpListener::from_std(socket)?;
    let graceful = GracefulShutdown::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopped.changed() => break,
        };
        match accepted {
            Ok((stream, peer)) => connection(stream, peer, &gateway, &graceful),
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                // Out of descriptors, most likely: to try again at once would only burn the processor.
                tracing::error!(%error, "cannot accept connections");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
    drop(listener);
    if timeout(DRAIN_LIMIT, graceful.shutdown()).await.is_err() {
        tracing::warn!("connections still open after {} s were cut", DRAIN_LIMIT.as_secs());
    }
    Ok(())
}

fn connection(stream: TcpStream, peer: SocketAddr, gateway: &Arc<Gateway>, graceful: &GracefulShutdown) {
    // Answers are written whole; a socket that refuses the option is as good as closed.
    let _ = stream.set_nodelay(true);
    let peer: Arc<str> = peer.ip().to_canonical().to_string().into();
    let began = Arc::new(AtomicBool::new(false));
    let service = {
        let (gateway, began) = (Arc::clone(gateway), Arc::clone(&began));
        service_fn(move |request| {
            began.store(true, Ordering::Relaxed);
            let (gateway, peer) = (Arc::clone(&gateway), Arc::clone(&peer));
            async move { Ok::<_, Infallible>(gateway.handle(request, &peer).await) }
        })
    };
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_buf_size(MAX_HEAD);
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(HEADER_TIMEOUT).max_header_list_size(MAX_HEAD as u32);
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).into_owned();
    let connection = graceful.watch(connection);
    let present = gateway.connected();
    tokio::spawn(async move {
        let _present = present;
        let mut connection = std::pin::pin!(connection);
        let ended = tokio::select! {
            ended = &mut connection => ended,
            // Which version of HTTP it is takes a few bytes to see, and nothing else limits the wait for them.
            () = sleep(HEADER_TIMEOUT) => {
                if !began.load(Ordering::Relaxed) {
                    return;
                }
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(error = ?error, "a connection ended");
        }
    });
}

/// The client gave up before it was accepted.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted)
}

/// SIGHUP, by which a person says that a file has changed.
struct Hangups {
    #[cfg(unix)]
    signals: signal::unix::Signal,
}

#[cfg(unix)]
impl Hangups {
    fn new() -> io::Result<Self> {
        Ok(Self { signals: signal::unix::signal(signal::unix::SignalKind::hangup())? })
    }

    /// Whether there was one; if not, there will be no more.
    async fn next(&mut self) -> bool {
        self.signals.recv().await.is_some()
    }
}

#[cfg(not(unix))]
impl Hangups {
    const fn new() -> io::Result<Self> {
        Ok(Self {})
    }

    async fn next(&mut self) -> bool {
        false
    }
}

#[cfg(unix)]
fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    use signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

#[cfg(not(unix))]
fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    Ok(async {
        // Where it cannot be listened for, nobody can say stop this way.
        if signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    })
}
