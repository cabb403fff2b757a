//! Gives the gateway's own answers.

use std::borrow::Cow;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{HeaderMap, Response, StatusCode};
use nodetool_edge_auth::Answer;

use crate::headers;

/// For the headers of most answers, and two of hyper's own.
const ROOM: usize = 6;

pub(crate) fn answer(answer: Answer) -> Response<Full<Bytes>> {
    let mut headers = HeaderMap::with_capacity(ROOM);
    for (name, value) in answer.headers().filter_map(|(name, value)| headers::own(name, value)) {
        headers.append(name, value);
    }
    let body = match answer.body {
        Cow::Borrowed(body) => Bytes::from_static(body.as_bytes()),
        Cow::Owned(body) => Bytes::from(body),
    };
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    *response.headers_mut() = headers;
    response
}
