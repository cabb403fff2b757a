//! The body of a client's request, and what becomes of the part that is not read.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::{Version, body::Incoming, header, http::request::Parts};
use tokio::{runtime::Handle, time::timeout};

/// Bytes of a body that are discarded so that its connection can serve the next request.
const MAX_DISCARDED: u64 = 64 * 1024;

/// The time for that.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(5);

/// Dropped when a body has ended or is not read any more.
type Guard = Box<dyn Send + Sync>;

/// A body as hyper receives it. What is unread of it when it is dropped is discarded, within limits.
pub(crate) struct ClientBody {
    incoming: Option<Incoming>,
    framed: Option<Framed>,
}

/// Part of a body in HTTP/1.1 only, where the next request follows the body. HTTP/2 ends a stream without its connection.
struct Framed {
    stage: Arc<AtomicU8>,
    _guard: Guard,
}

/// Stages of a body after the one in which it is received, which is 0.
const ENDED: u8 = 1;
/// The client broke off, or paused for too long.
const FAILED: u8 = 2;

/// The state of a body after it was handed on.
pub(crate) struct Remainder {
    length: Option<u64>,
    expects_continue: bool,
    stage: Arc<AtomicU8>,
}

impl ClientBody {
    /// `guard`: what is held until the body has ended, if there is one that the next request has to wait for.
    pub(crate) fn new(head: &Parts, incoming: Incoming, guard: impl FnOnce() -> Guard) -> Self {
        let is_framed = head.version != Version::HTTP_2 && !incoming.is_end_stream();
        let framed = is_framed.then(|| Framed { stage: Arc::default(), _guard: guard() });
        Self { incoming: Some(incoming), framed }
    }

    /// By which to tell later whether the connection can go on.
    pub(crate) fn remainder(&self, head: &Parts) -> Option<Remainder> {
        let framed = self.framed.as_ref()?;
        Some(Remainder {
            length: self.size_hint().exact(),
            expects_continue: head.headers.contains_key(header::EXPECT),
            stage: Arc::clone(&framed.stage),
        })
    }

    /// Gives up on the client: its connection ends with this request.
    pub(crate) fn fail(&mut self) {
        self.reach(FAILED);
    }

    fn reach(&mut self, stage: u8) {
        if let Some(framed) = self.framed.take() {
            framed.stage.store(stage, Ordering::Relaxed);
        }
    }

    /// Reads the rest, within the limits. What is beyond them ends the connection.
    async fn discard(mut self) {
        let mut left = MAX_DISCARDED;
        let rest = async {
            while let Some(Ok(frame)) = self.frame().await {
                let length = frame.data_ref().map_or(0, |data| data.len() as u64);
                let Some(remaining) = left.checked_sub(length) else { break };
                left = remaining;
            }
        };
        let _ = timeout(DISCARD_TIMEOUT, rest).await;
        self.fail();
    }
}

impl Drop for ClientBody {
    fn drop(&mut self) {
        let (Some(incoming), Some(framed)) = (self.incoming.take(), self.framed.take()) else { return };
        let is_long = incoming.size_hint().exact().is_some_and(|length| length > MAX_DISCARDED);
        // hyper closes a connection when the body on it is dropped.
        if let (false, Ok(runtime)) = (is_long, Handle::try_current()) {
            runtime.spawn(Self { incoming: Some(incoming), framed: Some(framed) }.discard());
        }
    }
}

impl Remainder {
    /// Discards the rest of a body that the answer did not need. True if the connection can serve another request. `body`: the
    /// body, unless it was handed on.
    pub(crate) async fn discarded(self, body: Option<ClientBody>) -> bool {
        match (self.stage.load(Ordering::Relaxed), self.length) {
            (ENDED, _) => true,
            (FAILED, _) => false,
            (_, Some(length)) if length > MAX_DISCARDED => false,
            // It is discarded while the answer is on its way.
            (_, Some(_)) if !self.expects_continue => true,
            // The length of a chunked body is known at its end only. A client that expects 100 (Continue) and gets a final answer instead
            // may leave the body out and go on with its next request (Java's does), which would be taken for the body.
            _ => {
                if let Some(body) = body {
                    body.discard().await;
                }
                self.stage.load(Ordering::Relaxed) == ENDED
            }
        }
    }
}

impl Body for ClientBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        let Some(incoming) = &mut this.incoming else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(&mut *incoming).poll_frame(context));
        match &frame {
            Some(Err(_)) => this.reach(FAILED),
            Some(Ok(_)) if !incoming.is_end_stream() => {}
            _ => this.reach(ENDED),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}
