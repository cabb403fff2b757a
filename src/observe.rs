//! What hosts tell of requests in their logs: ids and texts of strangers, none of which can pass for anything else.

use core::fmt::{self, Write as _};

/// An id is no longer. Those of all usual makers (UUID, ULID, W3C, nginx, Cloudflare) are shorter.
const MAX_REQUEST_ID: usize = 128;

/// Whether the `X-Request-Id` of a client may go on as it is: letters, digits and `-._:`, of bounded length. Anything else
/// could be something in a log, a shell or a page where it is looked at later.
pub fn is_request_id(value: &[u8]) -> bool {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._:".contains(byte);
    (1..=MAX_REQUEST_ID).contains(&value.len()) && value.iter().all(is_plain)
}

/// A text of a stranger for a log line: one word of visible ASCII, of bounded length. White space, quotes, control
/// characters and all that is not ASCII are escaped as Rust does it, so that no line can be forged and none reads
/// backwards.
#[derive(Clone, Copy, Debug)]
pub struct Escaped<'a> {
    text: &'a str,
    limit: usize,
}

impl<'a> Escaped<'a> {
    /// The text, cut after so many characters of output or a few more, with `...` in place of the rest.
    pub const fn new(text: &'a str, limit: usize) -> Self {
        Self { text, limit }
    }
}

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut written = 0;
        for character in self.text.chars() {
            if written >= self.limit {
                return formatter.write_str("...");
            }
            if character.is_ascii_graphic() && !matches!(character, '"' | '\\' | '\'') {
                formatter.write_char(character)?;
                written += 1;
            } else if character == ' ' {
                formatter.write_str("\\u{20}")?;
                written += 6;
            } else {
                let escaped = character.escape_default();
                written += escaped.len();
                write!(formatter, "{escaped}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Escaped, is_request_id};
    use alloc::string::ToString;

    #[test]
    fn ids_of_all_usual_makers_are_taken_and_nothing_that_is_more_than_an_id() {
        for id in [
            "4bf92f3577b34da6a3ce929d0e0e4736",
            "f47ac10b-58cc-4372-a567-0e02b2c3d479",
            "01ARZ3NDEKTSV4RRFFQ69G5FAV",
            "8f1c2d3e4f5a6b7c-AMS",
            "0C9A:1E2F:3B4D.5_6",
            "1",
        ] {
            assert!(is_request_id(id.as_bytes()), "{id}");
        }
        assert!(is_request_id(&[b'a'; 128]));
        for other in
            ["", " ", "a b", "a\tb", "a\nb", "a\"b", "a,b", "a;b", "a=b", "a/b", "%0a", "a\u{e4}", "<b>", "$(id)", "a\\n"]
        {
            assert!(!is_request_id(other.as_bytes()), "{other:?}");
        }
        assert!(!is_request_id(&[b'a'; 129]) && !is_request_id(&[0xff]));
    }

    #[test]
    fn an_escaped_text_is_one_word_of_visible_ascii_and_ends() {
        for (text, escaped) in [
            ("/v1/models", "/v1/models"),
            ("/a%0ab", "/a%0ab"),
            ("/a\nINFO forged", "/a\\nINFO\\u{20}forged"),
            ("\r\t\u{1b}[2K\0\u{7f}", "\\r\\t\\u{1b}[2K\\u{0}\\u{7f}"),
            ("\"}\\'", "\\\"}\\\\\\'"),
            ("\u{202e}\u{2028}\u{e4}\u{85}", "\\u{202e}\\u{2028}\\u{e4}\\u{85}"),
        ] {
            assert_eq!(Escaped::new(text, 100).to_string(), escaped);
        }
        assert_eq!(Escaped::new("abcdef", 3).to_string(), "abc...");
        assert_eq!(Escaped::new("abc", 3).to_string(), "abc");
        let longest = Escaped::new("\u{10ffff}".repeat(1000).as_str(), 256).to_string();
        assert!(longest.len() < 256 + 16, "{}", longest.len());
    }
}
