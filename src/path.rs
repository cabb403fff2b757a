//! What a path names: what is public is read narrowly, what is restricted widely.
//!
//! Between this gateway and the program that serves a request there may be others who decode, merge and normalize
//! each in their own way. So a path is *restricted* as soon as any sequence of the usual rewritings brings it under a
//! restricted prefix, and *public* only when its raw bytes are exactly those of a path that no rewriting changes.

mod readings;
mod rewriting;

use alloc::vec::Vec;

use rewriting::escaped;

pub(crate) use readings::{Reading, readings};
pub use rewriting::Rewriting;
pub(crate) use rewriting::percent_decoded;

/// The restricted places that a path falls under by any reading.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Areas {
    /// `/admin` and below.
    pub(crate) admin: bool,
    /// `/terminal`, `/ws/terminal` and below.
    pub(crate) terminal: bool,
    /// `/.auth` and below: the gateway's own paths.
    pub(crate) own: bool,
}

impl Areas {
    /// The areas of a well-formed path, or nothing when its readings are too many to follow.
    pub(crate) fn of(path: &[u8]) -> Option<Self> {
        let mut areas = Self::default();
        if is_plain(path) {
            areas.add(path);
        } else if names_an_area(path) {
            for reading in readings(path)? {
                areas.add(&reading.path);
            }
        }
        Some(areas)
    }

    pub(crate) fn is_none(self) -> bool {
        self == Self::default()
    }

    /// Which they are.
    pub(crate) fn list(self) -> Vec<Area> {
        let all = [(self.admin, Area::Admin), (self.terminal, Area::Terminal), (self.own, Area::Own)];
        all.into_iter().filter_map(|(is_one, area)| is_one.then_some(area)).collect()
    }

    pub(crate) fn add(&mut self, reading: &[u8]) {
        self.admin |= is_under(reading, ADMIN);
        self.terminal |= TERMINAL.into_iter().any(|prefix| is_under(reading, prefix));
        self.own |= is_under(reading, OWN);
    }
}

/// A restricted place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Area {
    /// `/admin` and below.
    Admin,
    /// `/terminal`, `/ws/terminal` and below.
    Terminal,
    /// `/.auth` and below: the gateway's own paths.
    Own,
}

impl Area {
    /// The path at its top.
    pub const fn path(self) -> &'static str {
        match self {
            Self::Admin => "/admin",
            Self::Terminal => "/terminal",
            Self::Own => "/.auth",
        }
    }
}

/// Whether a path is refused before any other judgement: control bytes raw or encoded, a raw backslash,
/// a raw `#` (a request target has no fragment; hyper has cut it off before), a broken percent escape, no leading slash.
pub(crate) fn is_malformed(path: &[u8]) -> bool {
    let mut rest = match path {
        [b'/', rest @ ..] => rest,
        _ => return true,
    };
    loop {
        rest = match rest {
            [] => return false,
            [b'%', after @ ..] => match escaped(after) {
                Some((byte, after)) if !byte.is_ascii_control() => after,
                _ => return true,
            },
            [b'\\' | b'#', ..] => return true,
            [byte, ..] if byte.is_ascii_control() => return true,
            [_, after @ ..] => after,
        };
    }
}

/// Whether every program reads this path alike: unreserved characters (RFC 3986, section 2.3) in segments of which
/// none is empty (but the last may be), `.` or `..`.
pub(crate) fn is_plain(path: &[u8]) -> bool {
    let Some(segments) = path.strip_prefix(b"/") else { return false };
    let mut segments = segments.split(|byte| *byte == b'/').peekable();
    while let Some(segment) = segments.next() {
        let fits = match segment {
            b"" => segments.peek().is_none(),
            b"." | b".." => false,
            _ => segment.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._~:@!$&'()*+,=".contains(byte)),
        };
        if !fits {
            return false;
        }
    }
    true
}

/// The prefixes that are restricted.
const ADMIN: &[u8] = b"/admin";
/// NodeTool serves its terminal at the second, and at the first for older clients.
const TERMINAL: [&[u8]; 2] = [b"/terminal", b"/ws/terminal"];
const OWN: &[u8] = b"/.auth";

/// The last segment of each prefix.
const LAST_SEGMENTS: [&[u8]; 3] = [b"admin", b"terminal", b".auth"];

/// Whether any reading could fall under any prefix at all. Rewritings take away and decode, but never join what a
/// slash or a parameter separates: the name must stand in the path, as it is or decoded.
fn names_an_area(path: &[u8]) -> bool {
    let names = |path: &[u8]| {
        let mut names = LAST_SEGMENTS.into_iter();
        names.any(|name| path.windows(name.len()).any(|window| window.eq_ignore_ascii_case(name)))
    };
    let once = percent_decoded(path);
    names(path) || names(&once) || names(&percent_decoded(&once))
}

fn is_under(reading: &[u8], prefix: &[u8]) -> bool {
    reading.split_at_checked(prefix.len()).is_some_and(|(start, rest)| {
        // What ends a segment for somebody: a query or fragment that was encoded, parameters, a blank or control that is cut off.
        start.eq_ignore_ascii_case(prefix) && matches!(rest, [] | [b'/' | b'\\' | b'?' | b'#' | b';' | 0..=b' ' | 0x7f, ..])
    })
}

#[cfg(test)]
mod tests {
    use super::{Areas, is_malformed, is_plain, readings};

    fn areas(path: &str) -> Areas {
        Areas::of(path.as_bytes()).unwrap()
    }

    #[test]
    fn every_spelling_of_admin() {
        for path in [
            "/admin",
            "/admin/",
            "/ADMIN/x",
            "//admin",
            "/./admin",
            "/x/../admin",
            "/%61dmin",
            "/%2561dmin",
            "/x%2f..%2fadmin",
            "/%5cadmin",
            "/health%5c..%5cadmin",
            "/admin;v=1/x",
            "/;/admin",
            "/health;/../admin",
            "/health/%2e%2e/admin",
            "/health/%252e%252e/admin",
            "/admin/../v1",
            "/admin%2f..%2fv1",
            "/admin%3fx",
            "/admin%23x",
            "/admin%20",
            "/admin%252fx",
            // Dot segments removed before decoding: one proxy counts `x%2fy` as one segment, the next sees `/admin`.
            "/x%2fy/../%61dmin",
            // Resolved against a base URL, the first segment is a host.
            "//x/admin",
            "///x/admin",
            "//u@x:1/admin/y",
            "/%2fx/admin",
            "/%5c%5cx/admin",
            "/admin%2500",
            "/admin%2509x",
        ] {
            assert!(areas(path).admin, "{path}");
        }
    }

    #[test]
    fn what_only_looks_like_it() {
        for path in [
            "/administrator",
            "/v1/admin",
            "/admin.json",
            "/adminx/",
            "/v1/../v1/admin",
            "/",
            "/v1/models/meta-llama%2FLlama-3",
            "/a%25b",
        ] {
            assert!(areas(path).is_none(), "{path}");
        }
        assert!(areas("/.auth/whoami").own && areas("/%2eauth").own && areas("/.AUTH/x").own && !areas("/.authx").own);
        assert!(areas("/terminal").terminal && areas("/Terminal/%2e").terminal && !areas("/terminals").terminal);
        for terminal in
            ["/ws/terminal", "/WS/Terminal/x", "/ws//terminal", "/ws/x/../terminal", "/ws%2fterminal", "/%77s;a/terminal;b"]
        {
            assert!(areas(terminal).terminal, "{terminal}");
        }
        for other in ["/ws/terminals", "/ws", "/ws/x/terminal", "/wsterminal"] {
            assert!(areas(other).is_none(), "{other}");
        }
    }

    #[test]
    fn malformed() {
        for path in [
            "",
            "v1",
            "*",
            "/%00",
            "/a%1fb",
            "/%7F",
            "/a\\b",
            "/a%",
            "/a%2",
            "/a%zz",
            "/a%u002f",
            "/a\nb",
            "/a\x7f",
            "/health#/../admin",
        ] {
            assert!(is_malformed(path.as_bytes()), "{path:?}");
        }
        for path in ["/", "/health", "/meta-llama%2FLlama-3", "/%2500", "/caf%C3%A9", "/é", "/a b"] {
            assert!(!is_malformed(path.as_bytes()), "{path:?}");
        }
    }

    #[test]
    fn plain_paths_have_one_reading() {
        for path in ["/", "/health", "/v1/models/gpt-4o:free", "/docs/", "/a/.b/..c"] {
            assert!(is_plain(path.as_bytes()), "{path}");
            assert_eq!(readings(path.as_bytes()).unwrap().len(), 1, "{path}");
        }
        for path in ["", "health", "//", "/a//b", "/./a", "/a/..", "/a;b", "/a%20b", "/a\\b", "/é"] {
            assert!(!is_plain(path.as_bytes()), "{path}");
        }
    }
}
