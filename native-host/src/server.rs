//! Threads, and the way from a start to a clean stop. How a connection begins is in
//! `server/connection.rs`, and how it goes on in `server/conversation.rs`.

mod activity;
mod client;
mod connection;
mod conversation;
mod descriptors;
mod listening;
mod room;
mod signals;
#[cfg(feature = "fuzzing")]
mod trial;

use std::{io, net::TcpListener as StdListener, sync::Arc, thread, time::Duration};

use nodetool_edge_auth::{Scheme, ServerSettings};
use rustls::ServerConfig;
use tokio::{
    net::{TcpListener, TcpStream},
    runtime,
    sync::{mpsc, watch},
    time::{sleep, timeout},
};

use crate::{gateway::Gateway, watch::Watch};
use connection::Connections;
use room::Room;
use signals::{Hangups, Stops};

pub(crate) use connection::dead_peer;
pub(crate) use descriptors::{raise_limit, room_for_upstream};
pub(crate) use listening::{Listening, StartError, inherited, listen};
#[cfg(feature = "fuzzing")]
pub use trial::Trial;

/// How the server serves, besides the gateway itself.
pub(crate) struct Serving {
    pub(crate) settings: ServerSettings,
    /// The certificate in force, if it speaks TLS.
    pub(crate) tls: Option<watch::Receiver<Arc<ServerConfig>>>,
    /// Of files that may change.
    pub(crate) watches: Vec<Watch>,
}

/// Serves until a signal says stop, then lets what is in flight come to its end.
pub(crate) fn run(listening: Listening, gateway: Gateway, serving: Serving) -> Result<(), StartError> {
    let Serving { settings, tls, watches } = serving;
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    // Before anybody is told that the server is there, who might tell it to stop.
    let (mut stops, mut hangups) = {
        let _entered = runtime.enter();
        (Stops::new()?, Hangups::new()?)
    };
    let reread = watches.into_iter().map(Watch::start).collect::<io::Result<Vec<_>>>()?;
    let (stop, stopped) = watch::channel(false);
    let scheme = if tls.is_some() { Scheme::Https } else { Scheme::Http };
    let clients = descriptors::room_for(settings.max_connections, gateway.upstream_connections());
    let room = Room::new(clients, settings.memory_budget);
    let drain = settings.drain_timeout.map(Duration::from_secs);
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let mut workers = Vec::with_capacity(threads);
    for index in 0..threads {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let socket = listening.socket()?;
        let connections =
            Connections::new(gateway.for_thread(), settings.limits, tls.clone(), stopped.clone(), Arc::clone(&room));
        let acceptor = Acceptor {
            connections,
            room: Arc::clone(&room),
            stopped: stopped.clone(),
            takes_all: !listening.is_inherited(),
            drain,
        };
        let worker = thread::Builder::new().name(format!("gateway-{index}"));
        workers.push(worker.spawn(move || runtime.block_on(acceptor.run(socket)))?);
    }
    tracing::info!("listening on {}://{}{}", scheme.as_str(), listening.address(), listening.origin());
    drop(listening);

    if let Some(background) = gateway.background() {
        runtime.spawn(background);
    }
    runtime.spawn(async move {
        while hangups.next().await {
            // The threads live for as long as their senders do.
            let told = reread.iter().filter(|reread| reread.send(()).is_ok()).count();
            if told == 0 {
                tracing::info!("nothing to read again: neither a token nor a certificate comes from a file");
            }
        }
    });
    runtime.block_on(stops.next());
    gateway.drain();
    let limit = drain.map_or_else(|| "take their time".to_owned(), |limit| format!("end within {} s", limit.as_secs()));
    tracing::info!("stopping: no new connections, requests in flight may {limit}; a second signal cuts them");
    // The workers may all have ended already.
    let _ = stop.send(true);
    let (ended, mut end) = mpsc::channel(1);
    thread::Builder::new().name("join".to_owned()).spawn(move || {
        let results = workers.into_iter().map(thread::JoinHandle::join).collect::<Vec<_>>();
        // Whoever would hear of it may not have waited.
        let _ = ended.blocking_send(results);
    })?;
    let results = runtime.block_on(async {
        tokio::select! {
            results = end.recv() => results,
            () = stops.next() => None,
        }
    });
    for result in results.into_iter().flatten() {
        match result {
            Ok(result) => result?,
            Err(_) => tracing::error!("a thread of the gateway had failed"),
        }
    }
    Ok(())
}

/// Takes connections in, on one thread.
struct Acceptor {
    connections: Connections,
    /// For the connections of all threads.
    room: Arc<Room>,
    stopped: watch::Receiver<bool>,
    /// Whether what is queued at the end would be lost, since nobody else has the socket.
    takes_all: bool,
    drain: Option<Duration>,
}

impl Acceptor {
    async fn run(self, socket: StdListener) -> io::Result<()> {
        let listener = TcpListener::from_std(socket)?;
        // Every connection has one; nobody sends anything. When all are gone, all connections are.
        let (open, mut all_closed) = mpsc::channel::<()>(1);
        let mut stopped = self.stopped.clone();
        loop {
            let accepted = tokio::select! {
                accepted = self.accept(&listener) => accepted,
                _ = stopped.changed() => break,
            };
            match accepted {
                Ok(stream) => self.connections.serve(stream, open.clone()),
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    // Out of descriptors, most likely: to try again at once would only burn the processor.
                    tracing::error!(%error, "cannot accept connections");
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
        if self.takes_all {
            // These clients are connected as far as they can tell.
            while let Some(Ok((stream, _))) = now(listener.accept()).await {
                self.connections.serve(stream, open.clone());
            }
        }
        drop((listener, open));
        let drained = async {
            // Nothing but the end can come.
            let _ = all_closed.recv().await;
        };
        match self.drain {
            None => drained.await,
            Some(limit) if timeout(limit, drained).await.is_err() => {
                tracing::warn!("connections still open after {} s were cut", limit.as_secs());
            }
            Some(_) => {}
        }
        Ok(())
    }

    /// A connection, for which others may have to make room. While all have an authenticated request in flight, clients wait in the
    /// queue of the system.
    async fn accept(&self, listener: &TcpListener) -> io::Result<TcpStream> {
        self.room.vacancy().await;
        Ok(listener.accept().await?.0)
    }
}

/// What a future has to say without waiting.
async fn now<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|context| {
        std::task::Poll::Ready(match future.as_mut().poll(context) {
            std::task::Poll::Ready(value) => Some(value),
            std::task::Poll::Pending => None,
        })
    })
    .await
}

/// The client gave up before it was accepted.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted)
}
