//! The body of an answer, of whichever side it is.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use pin_project_lite::pin_project;

pin_project! {
    /// The body of an answer: the layer's own, or that of the service behind it.
    #[derive(Debug)]
    pub struct AuthBody<R> {
        #[pin]
        side: Side<R>,
    }
}

pin_project! {
    #[derive(Debug)]
    #[project = Pinned]
    enum Side<R> {
        Own { #[pin] body: Full<Bytes> },
        Inner { #[pin] body: R },
    }
}

impl<R> AuthBody<R> {
    pub(super) const fn own(body: Full<Bytes>) -> Self {
        Self { side: Side::Own { body } }
    }

    pub(super) const fn inner(body: R) -> Self {
        Self { side: Side::Inner { body } }
    }
}

impl<R: Body<Data = Bytes>> Body for AuthBody<R> {
    type Data = Bytes;
    type Error = R::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, R::Error>>> {
        match self.project().side.project() {
            Pinned::Own { body } => body.poll_frame(context).map_err(|never| match never {}),
            Pinned::Inner { body } => body.poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.side {
            Side::Own { body } => body.is_end_stream(),
            Side::Inner { body } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.side {
            Side::Own { body } => body.size_hint(),
            Side::Inner { body } => body.size_hint(),
        }
    }
}
