//! Where a setting stands in a text, to the byte.

use std::ops::Range;

use saphyr::YamlData;

use super::{documents, is_null, scalar};

/// Where a setting stands in a text, in bytes.
pub(super) struct Place {
    /// Just behind the colon.
    pub(super) colon: usize,
    /// The value, unless it is blank.
    pub(super) value: Option<Range<usize>>,
    /// Where the first entry begins, if the value is a list with any.
    pub(super) first_entry: Option<usize>,
}

/// Nothing at all if the place cannot be told.
#[expect(clippy::option_option, reason = "one for what cannot be told, one for what is not there")]
pub(super) fn place_of(text: &str, name: &str) -> Option<Option<Place>> {
    let documents = documents(text).ok()?;
    let Some(YamlData::Mapping(settings)) = documents.first().map(|root| &root.data) else { return Some(None) };
    let Some((key, value)) = settings.iter().find(|(key, _)| scalar(key) == Some(name)) else { return Some(None) };
    // Positions are counted in characters.
    let byte = |index| text.char_indices().nth(index).map_or(text.len(), |(at, _)| at);
    let end_of_key = byte(key.span.end.index());
    let (between, _) = text.get(end_of_key..)?.split_once(':')?;
    let colon = end_of_key + between.len() + 1;
    let first_entry = match &value.data {
        YamlData::Sequence(entries) => entries.first().map(|entry| byte(entry.span.start.index())),
        _ => None,
    };
    let is_blank = scalar(value) == Some("") && is_null(value);
    let value = (!is_blank).then(|| {
        let (start, end) = (byte(value.span.start.index()), byte(value.span.end.index()));
        let length = text.get(start..end).map_or(0, |value| quoted(value).unwrap_or(value.trim_end().len()));
        start..start + length
    });
    Some(Some(Place { colon, value, first_entry }))
}

/// How long a value in quotes is. What the parser gives as its end may be that of a comment behind it.
fn quoted(value: &str) -> Option<usize> {
    let (quote, escape) = match value.bytes().next()? {
        b'"' => (b'"', b'\\'),
        // Doubled, it stands for itself.
        b'\'' => (b'\'', b'\''),
        _ => return None,
    };
    let mut bytes = value.bytes().enumerate().skip(1).peekable();
    while let Some((at, byte)) = bytes.next() {
        if byte == escape && (quote != escape || bytes.peek().is_some_and(|(_, next)| *next == quote)) {
            bytes.next();
        } else if byte == quote {
            return Some(at + 1);
        }
    }
    None
}
