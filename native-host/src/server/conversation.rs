//! What is said over one connection, from the first request to the end.

use std::{
    future::poll_fn,
    mem,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker, ready},
    time::Duration,
};

use hyper::{Request, Response, body::Incoming, server::conn::http1, service::Service};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use tokio::time::{Instant, sleep_until};

use super::{
    activity::Judgement,
    client::{Answer, Client, ClientStream, InFlight},
    connection::{CLOSING, LINGER},
    room::Weight,
};
use crate::memory;

/// How long a connection of HTTP/1.1 is idle before it rests. Whoever has the next request at hand sends it sooner.
const REST: Duration = Duration::from_secs(1);

/// When there is nothing to look for.
const FAR: Duration = Duration::from_secs(86_400);

type Result = std::result::Result<(), Box<dyn std::error::Error + Send + Sync>>;

/// What answers.
pub(super) struct Answering(Arc<Client>);

impl Service<Request<Incoming>> for Answering {
    type Response = Response<Answer>;
    type Error = h2::Error;
    // On the heap, for as long as there is a request: hyper has a place for it in each connection.
    type Future = Pin<Box<dyn Future<Output = std::result::Result<Response<Answer>, h2::Error>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let (mut head, body) = request.into_parts();
        // From here on, not from when the future is asked first.
        let (in_flight, body) = InFlight::begin(&self.0, &head, body);
        Box::pin(async move { in_flight.answer(&mut head, body).await })
    }
}

/// A connection whose protocol is known.
pub(super) enum Conversation<'a> {
    Http1(Http1<'a>),
    /// Whichever it turns out to be. Larger, and never at rest.
    Either(Pin<Box<auto::UpgradeableConnection<'a, TokioIo<ClientStream>, Answering, TokioExecutor>>>),
}

impl<'a> Conversation<'a> {
    pub(super) const fn of_http1(protocol: &'a http1::Builder, stream: ClientStream) -> Self {
        Self::Http1(Http1 { protocol, state: State::Resting(stream) })
    }

    pub(super) fn of_either(protocol: &'a auto::Builder<TokioExecutor>, stream: ClientStream) -> Self {
        let client = stream.client();
        client.holds(Weight::Http2);
        let answering = Answering(client);
        Self::Either(Box::pin(protocol.serve_connection_with_upgrades(TokioIo::new(stream.with_streams()), answering)))
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result> {
        match self {
            Self::Http1(connection) => connection.poll(context),
            Self::Either(connection) => connection.as_mut().poll(context),
        }
    }

    /// Lets it end after what is in flight.
    fn finish(&mut self) {
        match self {
            Self::Http1(connection) => connection.finish(),
            Self::Either(connection) => connection.as_mut().graceful_shutdown(),
        }
    }

    /// Lets go of what is not needed until the client says more.
    fn rest(&mut self) {
        if let Self::Http1(connection) = self {
            connection.rest();
        }
    }

    const fn is_http1(&self) -> bool {
        matches!(self, Self::Http1(_))
    }

    const fn can_rest(&self) -> bool {
        matches!(self, Self::Http1(Http1 { state: State::Speaking(_), .. }))
    }
}

/// A connection of HTTP/1.1. While it is idle nothing of it need be kept but its socket: hyper's state and its two buffers, nine
/// tenths of it all, are made anew when something comes.
pub(super) struct Http1<'a> {
    protocol: &'a http1::Builder,
    state: State,
}

enum State {
    Speaking(Box<http1::UpgradeableConnection<TokioIo<ClientStream>, Answering>>),
    Resting(ClientStream),
    Over,
}

impl Http1<'_> {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result> {
        if let State::Resting(stream) = &mut self.state {
            ready!(stream.poll_more(context))?;
            self.wake();
        }
        match &mut self.state {
            State::Speaking(connection) => Pin::new(connection).poll(context).map_err(Into::into),
            _ => Poll::Ready(Ok(())),
        }
    }

    /// Only for who knows that hyper waits for the first byte of a request, and has nothing left to send: in the middle of a
    /// body the rest of it would be taken for a request.
    fn rest(&mut self) {
        self.state = match mem::replace(&mut self.state, State::Over) {
            State::Speaking(connection) => match connection.into_parts() {
                Some(parts) => {
                    let stream = parts.io.into_inner().with_unread(parts.read_buf);
                    stream.client().holds(Weight::Resting);
                    State::Resting(stream)
                }
                None => State::Over,
            },
            other => other,
        };
    }

    fn wake(&mut self) {
        self.state = match mem::replace(&mut self.state, State::Over) {
            State::Resting(stream) => {
                let client = stream.client();
                client.holds(Weight::Http1);
                let answering = Answering(client);
                State::Speaking(Box::new(self.protocol.serve_connection(TokioIo::new(stream), answering).with_upgrades()))
            }
            other => other,
        };
    }

    fn finish(&mut self) {
        self.wake();
        if let State::Speaking(connection) = &mut self.state {
            Pin::new(&mut **connection).graceful_shutdown();
        }
    }
}

/// Wakes a task, and tells that it was who did.
struct Bell {
    task: Waker,
    has_rung: AtomicBool,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.has_rung.store(true, Ordering::Release);
        self.task.wake_by_ref();
    }
}

/// Requests and answers, one after the other, for as long as the client keeps to its time.
pub(super) async fn converse(mut conversation: Conversation<'_>, client: &Client) {
    let activity = &client.activity;
    let mut stopped = client.stopped.clone();
    let mut stop = std::pin::pin!(async move {
        // Only when the process ends nobody is there to say so.
        let _ = stopped.wait_for(|stopped| *stopped).await;
    });
    let mut look = std::pin::pin!(sleep_until(Instant::now()));
    // A busy connection is polled several times for each request: the stop and the timer only when they call.
    let task = poll_fn(|context| Poll::Ready(context.waker().clone())).await;
    let bell = Arc::new(Bell { task, has_rung: AtomicBool::new(true) });
    let waker = Waker::from(Arc::clone(&bell));
    let (mut is_stopping, mut is_closing) = (false, false);
    // Whether the next look comes in time for a connection that is idle from now on.
    let mut looks_soon = false;
    let finish = |conversation: &mut Conversation<'_>| {
        activity.finishes();
        conversation.finish();
    };
    poll_fn(|context| {
        let mut calls = Context::from_waker(&waker);
        activity.is_polled();
        loop {
            if let Poll::Ready(ended) = conversation.poll(context) {
                if let Err(error) = ended {
                    tracing::debug!(?error, "a connection ended");
                }
                return Poll::Ready(());
            }
            if !looks_soon && conversation.can_rest() && activity.idles_since().is_some() {
                looks_soon = true;
                look.as_mut().reset(Instant::now() + REST);
                bell.has_rung.store(true, Ordering::Relaxed);
            }
            if !bell.has_rung.load(Ordering::Relaxed) {
                return Poll::Pending;
            }
            bell.has_rung.swap(false, Ordering::Acquire);
            if !is_stopping && stop.as_mut().poll(&mut calls).is_ready() {
                is_stopping = true;
                if activity.is_http2() {
                    finish(&mut conversation);
                } else {
                    looks_soon = true;
                    look.as_mut().reset(Instant::now() + LINGER);
                }
            } else if look.as_mut().poll(&mut calls).is_ready() {
                // In HTTP/1.1 a request whose head has begun is answered, and told to be the last.
                if is_stopping && !is_closing && !(conversation.is_http1() && activity.is_in_head()) {
                    is_closing = true;
                    finish(&mut conversation);
                }
                let mut next = match activity.judge() {
                    Judgement::Fine(next) => next,
                    Judgement::Idle if !is_closing => {
                        is_closing = true;
                        finish(&mut conversation);
                        Some((Instant::now() + CLOSING).into_std())
                    }
                    Judgement::Idle => return Poll::Ready(()),
                    Judgement::TooSlow(what) => {
                        tracing::debug!(peer = client.peer, "{what}");
                        return Poll::Ready(());
                    }
                };
                looks_soon = false;
                if !is_stopping
                    && !is_closing
                    && conversation.can_rest()
                    && let Some(since) = activity.idles_since()
                {
                    if since.elapsed() < REST {
                        looks_soon = true;
                        next = Some(since + REST);
                    } else {
                        tracing::debug!(peer = client.peer, "a connection rests");
                        conversation.rest();
                        memory::give_back_soon();
                    }
                }
                look.as_mut().reset(next.map_or_else(|| Instant::now() + FAR, Instant::from_std));
            } else {
                return Poll::Pending;
            }
            // What was reset is to be asked again, and what was to finish may have done so.
            bell.has_rung.store(true, Ordering::Relaxed);
        }
    })
    .await;
}
