//! From the `Authorization` header to at most one bearer token (RFC 6750, section 2.1).
//!
//! What two parsers could read differently is refused: a second header, a list, a tab for a space.

use crate::facts::Field;

/// What a request carries to prove who sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Credential<'a> {
    /// Nothing, or an empty header.
    None,
    /// Something that is not exactly one bearer token.
    Malformed,
    /// A token of visible ASCII without commas, not yet compared with anything.
    Bearer(&'a [u8]),
}

impl<'a> Credential<'a> {
    pub(crate) fn parse(authorization: Field<'a>) -> Self {
        let value = match authorization {
            Field::Absent => return Self::None,
            Field::Many => return Self::Malformed,
            Field::One(value) => trim(value),
        };
        if value.is_empty() {
            return Self::None;
        }
        bearer(value).map_or(Self::Malformed, Self::Bearer)
    }
}

/// Whether a token can be carried in a bearer header such that every parser reads the same one:
/// not empty, visible ASCII only, and without the comma that separates header values (RFC 9110, section 5.3).
pub(crate) fn is_token(token: &[u8]) -> bool {
    // Every byte, without a way out half through: that is what compilers make vector instructions of.
    !token.is_empty() && token.iter().fold(true, |is_token, byte| is_token & (byte.is_ascii_graphic() & (*byte != b',')))
}

fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = value.split_at_checked("bearer".len())?;
    let spaces = rest.iter().take_while(|byte| **byte == b' ').count();
    let token = rest.get(spaces..)?;
    (scheme.eq_ignore_ascii_case(b"bearer") && spaces > 0 && is_token(token)).then_some(token)
}

/// Without the optional white space around a field value: spaces and tabs (RFC 9110, section 5.5).
pub(crate) fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

#[cfg(test)]
mod tests {
    use super::Credential::{self, Bearer, Malformed, None};
    use crate::facts::Field;

    #[test]
    fn headers() {
        for (value, expected) in [
            (&b""[..], None),
            (b" \t ", None),
            (b"Bearer abc", Bearer(b"abc")),
            (b"bEaReR   abc", Bearer(b"abc")),
            (b" \tBearer abc\t ", Bearer(b"abc")),
            (b"Bearer a=b~c", Bearer(b"a=b~c")),
            (b"Bearer", Malformed),
            (b"Bearer ", Malformed),
            (b"Bearerabc", Malformed),
            (b"Bearer\tabc", Malformed),
            (b"Bearer \tabc", Malformed),
            (b"Bearer abc def", Malformed),
            (b"Bearer abc,def", Malformed),
            (b"Bearer abc, Bearer def", Malformed),
            (b"Bearer ab\x00c", Malformed),
            (b"Bearer ab\xc3\xa9", Malformed),
            (b"Basic abc", Malformed),
            (b"abc", Malformed),
            (b",", Malformed),
            (b"Bearer: abc", Malformed),
        ] {
            assert_eq!(Credential::parse(Field::One(value)), expected, "{}", value.escape_ascii());
        }
        assert_eq!(Credential::parse(Field::Absent), None);
        assert_eq!(Credential::parse(Field::Many), Malformed);
    }
}
