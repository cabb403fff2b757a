//! Gives the gateway's own answers.

use std::borrow::Cow;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    HeaderMap, Response, StatusCode,
    header::{HeaderName, HeaderValue},
};
use nodetool_edge_auth::Answer;

pub(crate) fn answer(answer: Answer) -> Response<Full<Bytes>> {
    let mut headers = HeaderMap::with_capacity(4);
    for (name, value) in answer.headers() {
        // Values that no header can carry were refused before; should one appear, the header is missing.
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.append(HeaderName::from_static(name), value);
        }
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
