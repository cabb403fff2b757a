//! What programs do to a path before they look at it, each in its own way.

use alloc::vec::Vec;

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
    pub(super) const FREE: [Self; 5] = [
        Self::BackslashesAsSlashes,
        Self::ParametersDropped,
        Self::SlashesMerged,
        Self::DotSegmentsRemoved,
        Self::AuthorityDropped,
    ];

    pub(super) fn of(self, path: &[u8]) -> Vec<u8> {
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
pub(super) fn escaped(after_percent: &[u8]) -> Option<(u8, &[u8])> {
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
    use super::without_dot_segments;
    use alloc::string::String;

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
}
