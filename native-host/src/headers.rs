//! What the core says of headers, in the types of hyper.

use hyper::{
    header::{self, HeaderName, HeaderValue},
    http::request::Parts,
};

pub(crate) static X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
static X_USER_ID: HeaderName = HeaderName::from_static("x-user-id");
static X_AUTH_TOKEN_TYPE: HeaderName = HeaderName::from_static("x-auth-token-type");
static X_AUTH_ROLE: HeaderName = HeaderName::from_static("x-auth-role");
static X_NODETOOL_AUTH_HOPS: HeaderName = HeaderName::from_static("x-nodetool-auth-hops");
static X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
static X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
static X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// A header that the gateway sets. Values that no header can carry were refused before; should one appear, the header is
/// missing, not forged.
pub(crate) fn own(name: &'static str, value: &str) -> Option<(HeaderName, HeaderValue)> {
    let (name, mut value) = (named(name), valued(value)?);
    value.set_sensitive(name == header::AUTHORIZATION);
    Some((name, value))
}

/// Those of every request are at hand: to make a name anew takes longer.
fn named(name: &'static str) -> HeaderName {
    match name {
        "authorization" => header::AUTHORIZATION,
        "cache-control" => header::CACHE_CONTROL,
        "content-type" => header::CONTENT_TYPE,
        "x-request-id" => X_REQUEST_ID.clone(),
        "x-user-id" => X_USER_ID.clone(),
        "x-auth-token-type" => X_AUTH_TOKEN_TYPE.clone(),
        "x-auth-role" => X_AUTH_ROLE.clone(),
        "x-nodetool-auth-hops" => X_NODETOOL_AUTH_HOPS.clone(),
        "x-forwarded-for" => X_FORWARDED_FOR.clone(),
        "x-forwarded-proto" => X_FORWARDED_PROTO.clone(),
        "x-forwarded-host" => X_FORWARDED_HOST.clone(),
        _ => HeaderName::from_static(name),
    }
}

/// The same of values.
fn valued(value: &str) -> Option<HeaderValue> {
    Some(HeaderValue::from_static(match value {
        "1" => "1",
        "http" => "http",
        "https" => "https",
        "none" => "none",
        "static" => "static",
        "user" => "user",
        "authenticated" => "authenticated",
        "no-store" => "no-store",
        "application/json" => "application/json",
        _ => return HeaderValue::from_str(value).ok(),
    }))
}

/// Estimated memory of the head of a request, in bytes.
pub(crate) fn size_of_head(head: &Parts) -> usize {
    /// Of a field, beside its name and value.
    const FIELD: usize = 128;
    let fields = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + FIELD);
    head.uri.path_and_query().map_or(0, |target| target.as_str().len()) + fields.sum::<usize>()
}
