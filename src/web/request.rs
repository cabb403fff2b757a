//! What the platform saw of a request, as facts for the core.

use std::net::IpAddr;

use wasm_bindgen::{JsValue, prelude::wasm_bindgen};

use crate::{Facts, Scheme};

#[wasm_bindgen(module = "/src/web/platform.js")]
extern "C" {
    #[wasm_bindgen(catch)]
    fn snapshot(request: &web_sys::Request) -> Result<String, JsValue>;
}

/// Whether this is an address of this machine, which no client of Cloudflare's network has: under `wrangler dev` the header is
/// the client's own.
fn is_loopback(address: &str) -> bool {
    address.trim().parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

/// Method, URL and headers of a request, copied out of JavaScript in one go: each crossing costs more than what it carries.
pub(crate) struct Snapshot(String);

/// The header in which Cloudflare says who connected. Its clients cannot set it.
const PEER: &str = "cf-connecting-ip";

impl Snapshot {
    /// Of what is no request after all, one without facts.
    pub(crate) fn of(request: &web_sys::Request) -> Self {
        Self(snapshot(request).unwrap_or_default())
    }

    /// Nothing if the URL is not one, or a header has no proper name. `on_cloudflare`: whether its network sets the headers
    /// by which it speaks. Elsewhere they only tell that somebody stands between.
    pub(crate) fn facts(&self, on_cloudflare: bool) -> Option<Facts<'_>> {
        let mut lines = self.0.splitn(5, '\n');
        let (method, url, known, peer) = (lines.next()?, lines.next()?, lines.next()?, lines.next()?);
        let (scheme, rest) = url.split_once("://")?;
        let (_, target) = rest.split_at_checked(rest.find(['/', '?', '#']).unwrap_or(rest.len()))?;
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target, None),
        };
        let mut facts = Facts::new(method, path, query);
        facts.scheme(if scheme == "https" { Scheme::Https } else { Scheme::Http });
        for known in known.split(' ') {
            match known {
                "body" => _ = facts.body_follows(),
                "forwarded" => _ = facts.came_forwarded(),
                _ => {}
            }
        }
        if !peer.is_empty() {
            facts.peer(peer);
        }
        for (name, value) in self.headers() {
            // The platform passes names on that are none, and that some server may take for an identity.
            if !name.bytes().all(|byte| byte.is_ascii_graphic()) {
                return None;
            }
            match name {
                PEER if on_cloudflare && !is_loopback(value) => _ = facts.peer(value),
                // What else the platform says of itself does not mean that somebody stands before it.
                _ if on_cloudflare && name.starts_with("cf-") => {}
                _ => _ = facts.header(name, value.as_bytes()),
            }
        }
        facts.subject();
        Some(facts)
    }

    /// The URL, with this path and query if they are not to be its own.
    #[cfg(feature = "worker")]
    pub(crate) fn url_with(&self, target: Option<&str>) -> String {
        let url = self.0.split('\n').nth(1).unwrap_or_default();
        let Some(target) = target else { return url.to_owned() };
        let authority = url.find("://").map_or(0, |at| at + 3);
        let end = url.get(authority..).and_then(|rest| rest.find(['/', '?', '#'])).map_or(url.len(), |at| authority + at);
        url.get(..end).unwrap_or_default().to_owned() + target
    }

    /// Every header, its name in lower case, with repeated ones joined by the platform.
    pub(crate) fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut lines = self.0.split('\n').skip(4);
        std::iter::from_fn(move || Some((lines.next()?, lines.next()?)))
    }
}
