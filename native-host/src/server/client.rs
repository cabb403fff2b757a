//! One client, as its requests and its time limits see it.

use std::{
    io::{self, IoSlice},
    mem::MaybeUninit,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::{
    Response, StatusCode, Version,
    body::Incoming,
    header::{self, HeaderValue},
    http::request::Parts,
};
use nodetool_edge_auth::Scheme;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::{mpsc, watch},
    time::{Instant, Sleep, sleep},
};

use super::{
    activity::{Activity, Taken},
    connection::{CLOSING, LONGEST_CLOSING},
    room::{self, Place, Weight},
};
use crate::{body::Observed, client_body::ClientBody, gateway::Gateway, metrics::Present, standing::Held, stream::Stream};

/// What a connection holds for as long as it is open: its place, and the word that it is open.
pub(super) type Slot = (room::Taken, mpsc::Sender<()>);

/// Bytes read at one time before a valid credential was shown.
const SMALL_READ: usize = 4096;

/// The same in HTTP/2, where that many bytes can hold the heads of some twenty requests.
const SMALLER_READ: usize = 256;

pub(super) struct Client {
    pub(super) gateway: Arc<Gateway>,
    /// Its address.
    pub(super) peer: String,
    pub(super) scheme: Scheme,
    pub(super) activity: Activity,
    pub(super) stopped: watch::Receiver<bool>,
    pub(super) place: Arc<Place>,
    /// That it is connected.
    pub(super) _present: Present,
}

impl Client {
    /// The connection holds so much from now on, which counts while no valid credential was shown.
    pub(super) fn holds(&self, weight: Weight) {
        if !self.activity.is_authenticated() {
            self.place.holds(weight);
        }
    }

    fn is_stopping(&self) -> bool {
        // Nobody has looked at the value through this receiver.
        !matches!(self.stopped.has_changed(), Ok(false))
    }
}

/// A request whose answer is not over.
pub(super) struct InFlight(Arc<Client>);

impl InFlight {
    /// The head of a request is complete.
    pub(super) fn begin(client: &Arc<Client>, head: &Parts, body: Incoming) -> (Self, ClientBody) {
        client.activity.begin(head.version == Version::HTTP_2, !body.is_end_stream());
        let body = ClientBody::new(head, body, || Box::new(Upload::begin(client)));
        (Self(Arc::clone(client)), body)
    }

    /// # Errors
    /// For a stream of HTTP/2 that the client may repeat (RFC 9113, section 8.7): the connection holds as much as it may without a
    /// valid credential.
    pub(super) async fn answer(self, head: &mut Parts, body: ClientBody) -> Result<Response<Answer>, h2::Error> {
        let client = &*self.0;
        let is_http2 = head.version == Version::HTTP_2;
        let standing = &client.activity.standing;
        // Not before: all that came with one read is begun before the first of it is answered.
        let mut held = is_http2.then(|| standing.hold(head)).flatten();
        let is_excess = held.as_ref().is_some_and(Held::is_excess);
        let handled = client.gateway.handle(head, body, (&client.peer, client.scheme), (standing, is_excess)).await;
        let Some(mut response) = handled else { return Err(h2::Reason::REFUSED_STREAM.into()) };
        if let Some(held) = &mut held {
            held.answers(response.body().is_of_upstream());
        }
        if client.activity.is_authenticated() {
            client.place.forgives();
        }
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            client.activity.becomes_tunnel();
        } else if client.is_stopping() && !is_http2 {
            // Whoever is told so sends its next request elsewhere. HTTP/2 has its own way.
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        let taken = is_http2.then(|| client.activity.answers());
        Ok(response.map(|body| Answer { body, taken, _held: held, in_flight: self }))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.activity.end();
    }
}

/// A body that somebody still reads.
struct Upload(Arc<Client>);

impl Upload {
    fn begin(client: &Arc<Client>) -> Self {
        client.activity.begin_upload();
        Self(Arc::clone(client))
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.0.activity.end_upload();
    }
}

/// The body of an answer, until it is over.
pub(super) struct Answer {
    body: Observed,
    /// In HTTP/2, where the socket does not show it.
    taken: Option<Taken>,
    _held: Option<Held>,
    in_flight: InFlight,
}

impl Body for Answer {
    type Data = Bytes;
    type Error = <Observed as Body>::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        let standing = &this.in_flight.0.activity.standing;
        // Answers of the gateway itself are short, so only those of the upstream are held back.
        if this.body.is_of_upstream() && !standing.may_hand_out(context) {
            return Poll::Pending;
        }
        let polled = Pin::new(&mut this.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            standing.handed_out(frame.data_ref().map_or(0, Bytes::len));
        }
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
    /// What came before somebody was there to read it.
    unread: Bytes,
    /// After the last byte of the response: the end of the lingering close, and the timeout for the next byte of the client.
    farewell: Option<(Instant, Pin<Box<Sleep>>)>,
    /// Whether many requests may come at once.
    has_streams: bool,
    /// True while writes to the client are blocked.
    is_stalled: bool,
    /// The task of the connection, where it is not read from for that reason.
    paused: Option<Waker>,
    _slot: Slot,
}

impl ClientStream {
    pub(super) const fn new(stream: Stream, client: Arc<Client>, slot: Slot) -> Self {
        Self {
            stream,
            client,
            unread: Bytes::new(),
            farewell: None,
            has_streams: false,
            is_stalled: false,
            paused: None,
            _slot: slot,
        }
    }

    /// The same connection, where many requests may come at once.
    pub(super) const fn with_streams(mut self) -> Self {
        self.has_streams = true;
        self
    }

    pub(super) fn client(&self) -> Arc<Client> {
        Arc::clone(&self.client)
    }

    /// The same connection, where somebody had read further than they went. They hand on all that they have.
    pub(super) fn with_unread(mut self, unread: Bytes) -> Self {
        // An empty one may hold on to a buffer.
        if !unread.is_empty() {
            self.unread = if self.unread.is_empty() { unread } else { [unread, self.unread].concat().into() };
        }
        self
    }

    /// Waits for something to read, or the end, without a buffer to keep meanwhile.
    pub(super) fn poll_more(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.unread.is_empty() {
            let mut room = [MaybeUninit::uninit(); 4096];
            let mut buffer = ReadBuf::uninit(&mut room);
            ready!(Pin::new(&mut *self).poll_read(context, &mut buffer))?;
            self.unread = Bytes::copy_from_slice(buffer.filled());
        }
        Poll::Ready(Ok(()))
    }

    /// Pauses reading from an HTTP/2 connection without a valid credential. The requests that came with one read
    /// are answered before the next, so that few are there at one time; and a client that takes none of its answers is given no more.
    fn must_pause(&mut self, context: &Context<'_>) -> bool {
        if self.is_stalled {
            self.paused = Some(context.waker().clone());
            return true;
        }
        let has_read = self.client.activity.has_read();
        if has_read {
            context.waker().wake_by_ref();
        }
        has_read
    }

    fn note_write<T>(&mut self, written: &Poll<io::Result<T>>, bytes: impl FnOnce(&T) -> usize) {
        let activity = &self.client.activity;
        self.is_stalled = written.is_pending();
        match written {
            Poll::Ready(written) => {
                activity.sent();
                activity.standing.sent(written.as_ref().map_or(0, bytes));
                if let Some(reader) = self.paused.take() {
                    reader.wake();
                }
            }
            Poll::Pending => activity.stalled(),
        }
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let read = if this.unread.is_empty() && this.client.activity.is_authenticated() {
            Pin::new(&mut this.stream).poll_read(context, buffer)
        } else if this.has_streams && this.client.activity.standing.is_abused() {
            tracing::debug!(peer = this.client.peer, "the client takes back too many requests");
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        } else if this.has_streams && this.must_pause(context) {
            return Poll::Pending;
        } else if this.unread.is_empty() {
            let most = if this.has_streams { SMALLER_READ } else { SMALL_READ };
            this.stream.poll_read_little(context, buffer, most)
        } else {
            let length = this.unread.len().min(buffer.remaining());
            buffer.put_slice(&this.unread.split_to(length));
            Poll::Ready(Ok(()))
        };
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
        this.note_write(&written, |bytes| *bytes);
        written
    }

    fn poll_write_vectored(self: Pin<&mut Self>, context: &mut Context<'_>, parts: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write_vectored(context, parts);
        this.note_write(&written, |bytes| *bytes);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.stream).poll_flush(context);
        // TLS takes more than it has sent.
        this.note_write(&flushed, |()| 0);
        flushed
    }

    /// Closes in good manners: to close with something unread would make the system cut the connection, and take the answer away
    /// from a client that has not come to reading it, such as that to a refused upload.
    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.client.activity.closes();
        if this.farewell.is_none() {
            ready!(Pin::new(&mut this.stream).poll_shutdown(context))?;
            if !this.client.activity.may_be_sending() {
                return Poll::Ready(Ok(()));
            }
        }
        let (end, farewell) = this.farewell.get_or_insert_with(|| (Instant::now() + LONGEST_CLOSING, Box::pin(sleep(CLOSING))));
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
            farewell.as_mut().reset((Instant::now() + CLOSING).min(*end));
        }
    }
}
