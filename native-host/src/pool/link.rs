//! The socket of a connection to the upstream, which can be looked at just before a request goes over it again.

use std::{
    io::{self, IoSlice},
    mem::MaybeUninit,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::places::Place;
use crate::stream::Stream;

/// Bytes read at one time of an answer to a request without a credential. Its client may not take it, and hyper queues sixteen of
/// these.
const SMALL_READ: usize = 1024;

/// What the next request asks of its connection.
#[derive(Clone, Default)]
pub(super) struct Check(Arc<Asked>);

#[derive(Default)]
struct Asked {
    /// That the system be asked for the state of the connection before anything more is written to it.
    check: AtomicBool,
    reads_little: AtomicBool,
}

impl Check {
    pub(super) fn request(&self) {
        self.0.check.store(true, Ordering::Relaxed);
    }

    /// Whether little is read at one time.
    pub(super) fn read_little(&self, reads_little: bool) {
        self.0.reads_little.store(reads_little, Ordering::Relaxed);
    }

    fn is_requested(&self) -> bool {
        self.0.check.load(Ordering::Relaxed) && self.0.check.swap(false, Ordering::Relaxed)
    }
}

pub(super) struct Link {
    stream: Stream,
    check: Check,
    _place: Place,
}

impl Link {
    pub(super) fn new(stream: Stream, place: Place) -> (Self, Check) {
        let check = Check::default();
        (Self { stream, check: check.clone(), _place: place }, check)
    }

    /// Whether an idle connection has something to read. It can only be its end, or an answer to no request. The runtime may
    /// not have heard of it yet, the system has.
    fn is_readable(&self) -> bool {
        let peeked = SockRef::from(self.stream.tcp()).peek(&mut [MaybeUninit::uninit()]);
        !matches!(peeked, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }
}

impl AsyncRead for Link {
    /// hyper reads before it takes the next request from its queue. If the connection ends here, the request is handed back unsent.
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let link = self.get_mut();
        if link.check.is_requested() && link.is_readable() {
            return Poll::Ready(Ok(()));
        }
        if link.check.0.reads_little.load(Ordering::Relaxed) {
            return link.stream.poll_read_little(context, buffer, SMALL_READ);
        }
        Pin::new(&mut link.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Link {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(self: Pin<&mut Self>, context: &mut Context<'_>, parts: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}
