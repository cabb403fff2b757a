//! The readings of a path: what is public is read narrowly, what is restricted widely.
//!
//! Between this gateway and the program that serves a request there may be others who decode, merge and normalize
//! each in their own way. So a path is *restricted* as soon as any sequence of the usual rewritings brings it under a
//! restricted prefix, and *public* only when its raw bytes are exactly those of a path that no rewriting changes.

use alloc::{vec, vec::Vec};

/// The most readings that are followed. Every honest path has a handful; one that has more is refused as malformed.
const MAX_READINGS: usize = 128;

/// Nor are readings followed that are longer than this in all, so that nobody can keep the gateway busy.
const MAX_BYTES: usize = 32 * 1024;

/// A path of several readings that is longer than this is not looked into at all.
const MAX_LENGTH: usize = 3072;

/// Decoding more often than twice is not something that servers do.
const MAX_DECODES: u8 = 2;

/// The restricted places that a path falls under by any reading.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Areas {
    /// `/admin` and below.
    pub(crate) admin: bool,
    /// `/terminal` and below.
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
        self.terminal |= is_under(reading, TERMINAL);
        self.own |= is_under(reading, OWN);
    }
}

/// A restricted place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Area {
    /// `/admin` and below.
    Admin,
    /// `/terminal` and below.
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

/// What some program does to a path before it looks at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rewriting {
    /// `\` as `/`.
    BackslashesAsSlashes,
    /// `/a;v=1/b` as `/a/b`.
    ParametersDropped,
    /// `//a` as `/a`.
    SlashesMerged,
    /// `/a/../b` as `/b`.
    DotSegmentsRemoved,
    /// `//host/a` as `/a`.
    AuthorityDropped,
    /// `%61` as `a`.
    PercentDecoded,
}

impl Rewriting {
    /// What was done, in words.
    pub const fn name(self) -> &'static str {
        match self {
            Self::BackslashesAsSlashes => "backslashes as slashes",
            Self::ParametersDropped => "parameters dropped",
            Self::SlashesMerged => "slashes merged",
            Self::DotSegmentsRemoved => "dot segments removed",
            Self::AuthorityDropped => "first segment taken for a host",
            Self::PercentDecoded => "percent-decoded",
        }
    }

    /// Those that may be done again and again.
    const FREE: [Self; 5] = [
        Self::BackslashesAsSlashes,
        Self::ParametersDropped,
        Self::SlashesMerged,
        Self::DotSegmentsRemoved,
        Self::AuthorityDropped,
    ];

    fn of(self, path: &[u8]) -> Vec<u8> {
        match self {
            Self::BackslashesAsSlashes => backslashes_as_slashes(path),
            Self::ParametersDropped => without_parameters(path),
            Self::SlashesMerged => slashes_merged(path),
            Self::DotSegmentsRemoved => without_dot_segments(path),
            Self::AuthorityDropped => without_authority(path),
            Self::PercentDecoded => percent_decoded(path),
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
const TERMINAL: &[u8] = b"/terminal";
const OWN: &[u8] = b"/.auth";

/// Whether any reading could fall under any prefix at all. Rewritings take away and decode, but never join what a
/// slash or a parameter separates: the name must stand in the path, as it is or decoded.
fn names_an_area(path: &[u8]) -> bool {
    let names = |path: &[u8]| {
        let mut names = [ADMIN, TERMINAL, OWN].into_iter().filter_map(|prefix| prefix.strip_prefix(b"/"));
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

/// A path as somebody could read it.
#[derive(Clone, Debug)]
pub(crate) struct Reading {
    pub(crate) path: Vec<u8>,
    /// The reading, by its place among all, of which the rewriting made this one. Nothing for the path itself.
    pub(crate) by: Option<(usize, Rewriting)>,
    /// How many decodings were spent on it.
    decodes: u8,
}

impl Reading {
    /// The path as it stands.
    pub(crate) fn unchanged(path: &[u8]) -> Self {
        Self { path: path.to_vec(), by: None, decodes: 0 }
    }
}

/// Every path that any sequence of rewritings makes of this one, those of the fewest first.
pub(crate) fn readings(path: &[u8]) -> Option<Vec<Reading>> {
    if path.len() > MAX_LENGTH {
        return None;
    }
    let mut found = vec![Reading::unchanged(path)];
    let mut bytes = path.len();
    let mut next = 0;
    while let Some(Reading { path, decodes, .. }) = found.get(next).cloned() {
        let decoding = (decodes < MAX_DECODES).then_some((decodes + 1, Rewriting::PercentDecoded));
        for (decodes, rewriting) in Rewriting::FREE.map(|rewriting| (decodes, rewriting)).into_iter().chain(decoding) {
            let path = rewriting.of(&path);
            if !found.iter().any(|known| known.decodes <= decodes && known.path == path) {
                bytes += path.len();
                found.push(Reading { path, by: Some((next, rewriting)), decodes });
            }
        }
        if found.len() > MAX_READINGS || bytes > MAX_BYTES {
            return None;
        }
        next += 1;
    }
    Some(found)
}

pub(crate) fn percent_decoded(path: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path;
    while let [first, after @ ..] = rest {
        let (byte, after) = match first {
            // A second decoding may meet a lone `%`, which stands for itself.
            b'%' => escaped(after).unwrap_or((b'%', after)),
            _ => (*first, after),
        };
        decoded.push(byte);
        rest = after;
    }
    decoded
}

/// The byte that the two hexadecimal digits after a `%` stand for, and what follows them.
fn escaped(after_percent: &[u8]) -> Option<(u8, &[u8])> {
    let [high, low, rest @ ..] = after_percent else { return None };
    let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    Some((digit(high)? << 4 | digit(low)?, rest))
}

fn backslashes_as_slashes(path: &[u8]) -> Vec<u8> {
    path.iter().map(|byte| if *byte == b'\\' { b'/' } else { *byte }).collect()
}

/// `/a;v=1/b` as `/a/b`.
fn without_parameters(path: &[u8]) -> Vec<u8> {
    let segments = path.split(|byte| *byte == b'/').map(|segment| segment.split(|byte| *byte == b';').next().unwrap_or_default());
    joined(segments)
}

fn slashes_merged(path: &[u8]) -> Vec<u8> {
    let mut merged = path.to_vec();
    merged.dedup_by(|next, previous| *next == b'/' && *previous == b'/');
    merged
}

/// `//host/a` as `/a`: what resolves a path against a base URL takes the first segment after two slashes for a host
/// (RFC 3986, section 4.2).
fn without_authority(path: &[u8]) -> Vec<u8> {
    let slashes = path.iter().take_while(|byte| **byte == b'/').count();
    if slashes < 2 {
        return path.to_vec();
    }
    let after_host: Vec<u8> = path.iter().skip(slashes).skip_while(|byte| **byte != b'/').copied().collect();
    if after_host.is_empty() { b"/".to_vec() } else { after_host }
}

/// RFC 3986, section 5.2.4.
fn without_dot_segments(path: &[u8]) -> Vec<u8> {
    let mut kept: Vec<&[u8]> = Vec::new();
    let mut segments = path.strip_prefix(b"/").unwrap_or(path).split(|byte| *byte == b'/').peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment {
            b"." => {}
            b".." => drop(kept.pop()),
            _ => {
                kept.push(segment);
                continue;
            }
        }
        if is_last {
            kept.push(b"");
        }
    }
    joined(core::iter::once(&b""[..]).chain(kept))
}

fn joined<'a>(segments: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut path = Vec::new();
    for (index, segment) in segments.enumerate() {
        if index > 0 {
            path.push(b'/');
        }
        path.extend_from_slice(segment);
    }
    path
}

#[cfg(test)]
mod tests {
    use super::{Areas, is_malformed, is_plain, readings, without_dot_segments};
    use alloc::{string::String, vec::Vec};

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

    #[test]
    fn dot_segments_as_in_the_rfc() {
        for (path, expected) in [
            ("/a/b/c/./../../g", "/a/g"),
            ("/mid/content=5/../6", "/mid/6"),
            ("/..", "/"),
            ("/a/.", "/a/"),
            ("/a/..", "/"),
            ("/a//..", "/a/"),
        ] {
            assert_eq!(String::from_utf8(without_dot_segments(path.as_bytes())).unwrap(), expected, "{path}");
        }
    }

    #[test]
    fn a_path_with_absurdly_many_readings_is_not_followed() {
        // Each pair of segments may or may not cancel, depending on what was decoded and merged before.
        let absurd: Vec<u8> = (0..40).flat_map(|_| *b"/a;%252f%5c//x/..%2f%2e.;y/.%252e//").collect();
        assert!(readings(&absurd).is_none_or(|all| all.len() <= super::MAX_READINGS));
        let long = [b"//a".repeat(1000), b"/admin".to_vec()].concat();
        assert!(readings(&long).is_none() && readings(long.get(2979..).unwrap()).is_some());
    }
}
