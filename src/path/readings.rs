//! All readings of a path, and which rewriting made which.

use alloc::{vec, vec::Vec};

use super::Rewriting;

/// The most readings that are followed. Every honest path has a handful; one that has more is refused as malformed.
const MAX_READINGS: usize = 128;

/// Nor are readings followed that are longer than this in all, so that nobody can keep the gateway busy.
const MAX_BYTES: usize = 32 * 1024;

/// A path of several readings that is longer than this is not looked into at all.
const MAX_LENGTH: usize = 3072;

/// Decoding more often than twice is not something that servers do.
const MAX_DECODES: u8 = 2;

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

#[cfg(test)]
mod tests {
    use super::{MAX_READINGS, readings};
    use alloc::vec::Vec;

    #[test]
    fn a_path_with_absurdly_many_readings_is_not_followed() {
        // Each pair of segments may or may not cancel, depending on what was decoded and merged before.
        let absurd: Vec<u8> = (0..40).flat_map(|_| *b"/a;%252f%5c//x/..%2f%2e.;y/.%252e//").collect();
        assert!(readings(&absurd).is_none_or(|all| all.len() <= MAX_READINGS));
        let long = [b"//a".repeat(1000), b"/admin".to_vec()].concat();
        assert!(readings(&long).is_none() && readings(long.get(2979..).unwrap()).is_some());
    }
}
