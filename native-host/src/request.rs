//! What hyper saw of a request, as facts for the core.

use hyper::{Version, http::request::Parts};
use nodetool_edge_auth::Facts;

/// Nothing if HTTP/1.1 asks for a refusal that hyper leaves to its caller: a request without `Host` (RFC 9112, section 3.2).
pub(crate) fn facts<'a>(parts: &'a Parts, has_body: bool, peer: Option<&'a str>) -> Option<Facts<'a>> {
    let mut facts = Facts::new(parts.method.as_str(), parts.uri.path(), parts.uri.query());
    match peer {
        Some(peer) => facts.peer(peer),
        // It may have been anyone.
        None => facts.came_forwarded(),
    };
    if has_body {
        facts.body_follows();
    }
    if parts.version == Version::HTTP_10 {
        // Hardly a client of today speaks it by itself, but nginx does to its upstreams, with a `Host` that looks local.
        facts.came_forwarded();
    }
    // An absolute target and HTTP/2 carry the authority apart. One that contradicts `Host` counts as a second `Host`.
    let authority = parts.uri.authority().map(|authority| authority.as_str().as_bytes());
    let mut has_host = authority.is_some();
    if let Some(authority) = authority {
        facts.header("host", authority);
    }
    for (name, value) in &parts.headers {
        let is_host = name == hyper::header::HOST;
        has_host |= is_host;
        if !(is_host && authority.is_some_and(|authority| authority.eq_ignore_ascii_case(value.as_bytes()))) {
            facts.header(name.as_str(), value.as_bytes());
        }
    }
    facts.subject();
    (has_host || parts.version != Version::HTTP_11).then_some(facts)
}
