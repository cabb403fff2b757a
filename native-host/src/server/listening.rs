//! The socket that connections come from: made here, or handed over by whoever started the process.

use std::{
    io,
    net::{SocketAddr, TcpListener},
};

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::connection::dead_peer;

/// Clients that the system keeps waiting until they are accepted; it has a limit of its own (`net.core.somaxconn`).
const BACKLOG: i32 = 4096;

/// A socket that accepts connections, before anybody serves them.
#[derive(Debug)]
pub(crate) struct Listening {
    socket: TcpListener,
    address: SocketAddr,
    is_inherited: bool,
}

impl Listening {
    /// Where it listens, with the port that the system chose if it was asked for any.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) const fn is_inherited(&self) -> bool {
        self.is_inherited
    }

    /// Words for the log.
    pub(super) const fn origin(&self) -> &'static str {
        if self.is_inherited { ", a socket that was handed over" } else { "" }
    }

    /// The socket, for who serves it otherwise.
    pub(crate) fn into_socket(self) -> TcpListener {
        self.socket
    }

    /// The same socket for another thread.
    pub(super) fn socket(&self) -> io::Result<TcpListener> {
        self.socket.try_clone()
    }

    fn of(socket: TcpListener, is_inherited: bool) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        // Connections have it from the socket that they come from.
        SockRef::from(&socket).set_tcp_keepalive(&dead_peer())?;
        let address = socket.local_addr()?;
        Ok(Self { socket, address, is_inherited })
    }
}

/// Why the server could not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error("cannot listen on {address}: {error} (choose another with {setting})")]
    Listen { address: SocketAddr, error: io::Error, setting: &'static str },
    #[error("the socket that was handed over (LISTEN_FDS) cannot be used: {0}")]
    Inherited(String),
    #[error("the system refused a thread or an event queue: {0}")]
    Runtime(#[from] io::Error),
}

/// `is_shared`: other processes may listen there too, if they all say so. `setting` is where the address comes from.
pub(crate) fn listen(address: SocketAddr, is_shared: bool, setting: &'static str) -> Result<Listening, StartError> {
    let open = || {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        // As the standard library does it: after a restart old connections are no obstacle.
        #[cfg(unix)]
        socket.set_reuse_address(true)?;
        if is_shared {
            share(&socket)?;
        }
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Listening::of(socket.into(), false)
    };
    open().map_err(|error| StartError::Listen { address, error, setting })
}

#[cfg(unix)]
fn share(socket: &Socket) -> io::Result<()> {
    socket.set_reuse_port(true)
}

#[cfg(not(unix))]
fn share(_: &Socket) -> io::Result<()> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "AUTH_REUSE_PORT is not supported by this system"))
}

/// The socket that this process was started with, as systemd hands it over (`sd_listen_fds(3)`), if there is one.
#[cfg(unix)]
pub(crate) fn inherited() -> Result<Option<Listening>, StartError> {
    let problem = |error: &dyn std::fmt::Display| StartError::Inherited(error.to_string());
    let mut handed = listenfd::ListenFd::from_env();
    match handed.len() {
        0 => return Ok(None),
        1 => {}
        more => return Err(problem(&format!("there are {more}, and one is served; name one ListenStream="))),
    }
    let socket = handed.take_tcp_listener(0).map_err(|error| problem(&error))?;
    let socket = socket.ok_or_else(|| problem(&"it was taken already"))?;
    Listening::of(socket, true).map(Some).map_err(|error| problem(&error))
}

#[cfg(not(unix))]
pub(crate) const fn inherited() -> Result<Option<Listening>, StartError> {
    Ok(None)
}
