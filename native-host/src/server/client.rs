//! One client, as its requests and its time limits see it.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::{
    Request, Response, StatusCode, Version,
    body::Incoming,
    header::{self, HeaderValue},
};
use nodetool_edge_auth::Scheme;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::{OwnedSemaphorePermit, mpsc, watch},
    time::{Sleep, sleep},
};

use super::{
    activity::{Activity, Taken},
    connection::CLOSING,
};
use crate::{body::Observed, gateway::Gateway, metrics::Present, stream::Stream};

/// What a connection holds for as long as it is open: its place, and the word that it is open.
pub(super) type Slot = (Option<OwnedSemaphorePermit>, mpsc::Sender<()>);

pub(super) struct Client {
    pub(super) gateway: Arc<Gateway>,
    /// Its address.
    pub(super) peer: String,
    pub(super) scheme: Scheme,
    pub(super) activity: Activity,
    pub(super) stopped: watch::Receiver<bool>,
    /// That it is connected.
    pub(super) _present: Present,
}

impl Client {
    pub(super) async fn handle(self: Arc<Self>, request: Request<Incoming>) -> Response<Answer> {
        let is_http2 = request.version() == Version::HTTP_2;
        self.activity.begin(is_http2, !request.body().is_end_stream());
        let in_flight = InFlight(Arc::clone(&self));
        let mut response = self.gateway.handle(request, &self.peer, self.scheme).await;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            self.activity.becomes_tunnel();
        } else if self.is_stopping() && !is_http2 {
            // Whoever is told so sends its next request elsewhere. HTTP/2 has its own way.
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        let taken = is_http2.then(|| self.activity.answers());
        response.map(|body| Answer { body, taken, _in_flight: in_flight })
    }

    fn is_stopping(&self) -> bool {
        // Nobody has looked at the value through this receiver.
        !matches!(self.stopped.has_changed(), Ok(false))
    }
}

/// A request whose answer is not over.
struct InFlight(Arc<Client>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.activity.end();
    }
}

/// The body of an answer, until it is over.
pub(super) struct Answer {
    body: Observed,
    /// In HTTP/2, where the socket does not show it.
    taken: Option<Taken>,
    _in_flight: InFlight,
}

impl Body for Answer {
    type Data = Bytes;
    type Error = <Observed as Body>::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.body).poll_frame(context);
        if let Some(taken) = &this.taken {
            match &polled {
                Poll::Ready(_) => taken.handed_out(),
                Poll::Pending => taken.is_wanted(),
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The connection of a client, which tells what goes over it. It lives on when it becomes a tunnel.
pub(super) struct ClientStream {
    stream: Stream,
    client: Arc<Client>,
    /// Until when what still comes is read, once nothing more goes.
    farewell: Option<Pin<Box<Sleep>>>,
    _slot: Slot,
}

impl ClientStream {
    pub(super) const fn new(stream: Stream, client: Arc<Client>, slot: Slot) -> Self {
        Self { stream, client, farewell: None, _slot: slot }
    }

    fn note_write(&self, written: &Poll<io::Result<usize>>) {
        match written {
            Poll::Ready(_) => self.client.activity.sent(),
            Poll::Pending => self.client.activity.stalled(),
        }
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            this.client.activity.received();
        }
        read
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(context, bytes);
        this.note_write(&written);
        written
    }

    fn poll_write_vectored(self: Pin<&mut Self>, context: &mut Context<'_>, parts: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write_vectored(context, parts);
        this.note_write(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    /// Closes in good manners: to close with something unread would make the system cut the connection, and take the answer away
    /// from a client that has not come to reading it, such as that to a refused upload.
    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.farewell.is_none() {
            ready!(Pin::new(&mut this.stream).poll_shutdown(context))?;
            if !this.client.activity.may_be_sending() {
                return Poll::Ready(Ok(()));
            }
        }
        let farewell = this.farewell.get_or_insert_with(|| Box::pin(sleep(CLOSING)));
        let mut unread = [0; 8192];
        loop {
            if farewell.as_mut().poll(context).is_ready() {
                return Poll::Ready(Ok(()));
            }
            let mut buffer = ReadBuf::new(&mut unread);
            ready!(Pin::new(&mut this.stream).poll_read(context, &mut buffer))?;
            if buffer.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }
}
