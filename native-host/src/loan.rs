//! An answer of the upstream to a request without a credential. It can be called back, with the connection that it comes over, if
//! its client does not take it while others wait.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::Instant;

use crate::{
    body::{Error, ResponseBody},
    lock::locked,
    pool::Places,
};

/// For the client to take what it was sent, before that can be called back.
const TIME_TO_TAKE: Duration = Duration::from_secs(1);

pub(crate) struct Loan(Mutex<Lent>);

struct Lent {
    /// Nothing if it was called back.
    body: Option<ResponseBody>,
    /// Since when the next part waits to be asked for. Nothing while it is asked for, and after the last one.
    waits_since: Option<Instant>,
}

impl Loan {
    pub(crate) fn new(body: ResponseBody, places: &Places) -> Arc<Self> {
        let loan = Arc::new(Self(Mutex::new(Lent { body: Some(body), waits_since: Some(Instant::now()) })));
        places.add_loan(&loan);
        loan
    }

    /// Since when its client takes nothing, if it had time to.
    pub(crate) fn is_left_since(&self) -> Option<Instant> {
        self.lent().waits_since.filter(|since| since.elapsed() >= TIME_TO_TAKE)
    }

    /// Ends the answer, and closes the connection that it comes over.
    pub(crate) fn call_back(&self) {
        let mut lent = self.lent();
        lent.waits_since = None;
        let body = lent.body.take();
        drop(lent);
        drop(body);
    }

    pub(crate) fn poll_frame(&self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let mut lent = self.lent();
        let Some(body) = &mut lent.body else {
            return Poll::Ready(Some(Err("the client did not take its answer while others waited".into())));
        };
        let polled = Pin::new(&mut *body).poll_frame(context);
        let waits = matches!(polled, Poll::Ready(Some(Ok(_)))) && !body.is_end_stream();
        lent.waits_since = waits.then(Instant::now);
        polled
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        self.lent().body.as_ref().is_some_and(Body::is_end_stream)
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        self.lent().body.as_ref().map_or_else(SizeHint::default, Body::size_hint)
    }

    fn lent(&self) -> MutexGuard<'_, Lent> {
        locked(&self.0)
    }
}
