//! Bodies on their way through: streamed, never gathered.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::time::Instant;

use crate::{
    alarm::Alarm,
    client_body::ClientBody,
    loan::Loan,
    metrics::{Counters, Present, UpstreamError},
    pool::Lease,
};

pub(crate) type Error = Box<dyn std::error::Error + Send + Sync>;

/// What a client is sent.
pub(crate) enum ResponseBody {
    /// An answer of the gateway itself.
    Own(Full<Bytes>),
    /// The upstream's, with the connection that it comes from.
    Upstream { body: Incoming, lease: Option<Lease>, pause: Option<Pause> },
    /// The same in answer to a request without a credential.
    Lent(Arc<Loan>),
}

impl ResponseBody {
    pub(crate) fn own(bytes: Bytes) -> Self {
        Self::Own(Full::new(bytes))
    }

    /// The body of an upstream's answer, which may pause for so long. Its connection is free for others as soon as the body
    /// is over.
    pub(crate) fn upstream(body: Incoming, lease: Lease, pause: Option<Duration>) -> Self {
        let mut lease = Some(lease);
        if body.is_end_stream() {
            release(&mut lease);
        }
        Self::Upstream { body, lease, pause: pause.map(Pause::new) }
    }
}

fn release(lease: &mut Option<Lease>) {
    if let Some(lease) = lease.take() {
        lease.release();
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match self.get_mut() {
            Self::Own(body) => Pin::new(body).poll_frame(context).map_err(|never| match never {}),
            Self::Lent(loan) => loan.poll_frame(context),
            Self::Upstream { body, lease, pause } => {
                let polled = Pin::new(&mut *body).poll_frame(context);
                if pause.as_mut().is_some_and(|pause| pause.is_over(&polled, context)) {
                    tracing::warn!("the upstream paused too long within its answer");
                    return Poll::Ready(Some(Err("the upstream paused too long within its answer".into())));
                }
                let frame = ready!(polled);
                if frame.is_none() || body.is_end_stream() {
                    release(lease);
                }
                Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(body) => body.is_end_stream(),
            Self::Lent(loan) => loan.is_end_stream(),
            Self::Upstream { body, .. } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(body) => body.size_hint(),
            Self::Lent(loan) => loan.size_hint(),
            Self::Upstream { body, .. } => body.size_hint(),
        }
    }
}

/// A body on its way to a client, which counts as a request in flight until it is over.
pub(crate) struct Observed {
    body: ResponseBody,
    in_flight: Present,
}

impl Observed {
    pub(crate) fn new(body: ResponseBody, in_flight: Present) -> Self {
        Self { body, in_flight }
    }

    /// True for the body of an upstream's answer, false for one of the gateway itself.
    pub(crate) const fn is_of_upstream(&self) -> bool {
        !matches!(self.body, ResponseBody::Own(_))
    }
}

impl Body for Observed {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let observed = self.get_mut();
        let polled = Pin::new(&mut observed.body).poll_frame(context);
        if matches!(polled, Poll::Ready(Some(Err(_)))) {
            observed.in_flight.counters().upstream_errors.add(UpstreamError::Body);
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

/// A request that is being answered.
pub(crate) fn in_flight(counters: &Arc<Counters>) -> Present {
    Present::new(counters, |counters| &counters.in_flight)
}

/// A limit for the time in which a body brings nothing, though it is asked to.
pub(crate) struct Pause {
    limit: Duration,
    /// Of the one that is going on.
    end: Option<Instant>,
    alarm: Alarm,
}

impl Pause {
    fn new(limit: Duration) -> Self {
        Self { limit, end: None, alarm: Alarm::default() }
    }

    /// Whether the time is over, after a body was asked for its next part.
    fn is_over<T>(&mut self, polled: &Poll<T>, context: &mut Context<'_>) -> bool {
        if polled.is_ready() {
            self.end = None;
            return false;
        }
        // It begins when somebody waits: that nobody wants more meanwhile is not the sender's fault.
        let end = *self.end.get_or_insert_with(|| Instant::now() + self.limit);
        self.alarm.is_over(end, context)
    }
}

/// What the upstream is sent.
pub(crate) enum RequestBody {
    /// Nothing, as most requests.
    Empty,
    /// The client's body.
    Streamed(Box<Streamed>),
}

pub(crate) struct Streamed {
    body: ClientBody,
    pause: Option<Pause>,
    progress: Progress,
}

impl RequestBody {
    /// The client's body, which may pause for so long, and how to see that it moves, if there is one.
    pub(crate) fn new(body: ClientBody, pause: Option<Duration>) -> (Self, Option<Progress>) {
        if body.is_end_stream() {
            return (Self::Empty, None);
        }
        let progress = Progress::default();
        let streamed = Streamed { body, pause: pause.map(Pause::new), progress: progress.clone() };
        (Self::Streamed(Box::new(streamed)), Some(progress))
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let Self::Streamed(streamed) = self.get_mut() else { return Poll::Ready(None) };
        let polled = Pin::new(&mut streamed.body).poll_frame(context);
        if streamed.pause.as_mut().is_some_and(|pause| pause.is_over(&polled, context)) {
            streamed.progress.fail();
            streamed.body.fail();
            return Poll::Ready(Some(Err("the client paused too long in its body".into())));
        }
        let frame = ready!(polled);
        match &frame {
            Some(Err(_)) => streamed.progress.fail(),
            _ => streamed.progress.step(),
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Streamed(streamed) => streamed.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Streamed(streamed) => streamed.body.size_hint(),
        }
    }
}

/// Counts the frames of a body that have gone by, so that a long upload is not taken for a slow upstream.
#[derive(Clone, Default)]
pub(crate) struct Progress(Arc<AtomicU64>);

/// Stands for a body that broke off.
const FAILED: u64 = u64::MAX;

impl Progress {
    fn step(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn fail(&self) {
        self.0.store(FAILED, Ordering::Relaxed);
    }

    pub(crate) fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Whether the client broke off, or paused too long.
    pub(crate) fn has_failed(&self) -> bool {
        self.count() == FAILED
    }
}
