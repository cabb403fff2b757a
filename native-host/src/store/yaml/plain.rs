//! Whether a token is a text to YAML as it stands.

/// Whether YAML takes this for a text as it stands, under its old rules and its new ones, and no command line for an
/// option: not for a number, a boolean, a date or nothing, nor for anything that must be quoted.
pub(in crate::store) fn is_plain_text(token: &str) -> bool {
    const WORDS: [&str; 9] = ["null", "true", "false", "yes", "no", "on", "off", "y", "n"];
    let all = |text: &str, allowed: fn(u8) -> bool| text.bytes().all(|byte| byte == b'_' || allowed(byte));
    let is_number = match token.as_bytes() {
        [b'0', b'x' | b'X', ..] => all(token.get(2..).unwrap_or_default(), |byte| byte.is_ascii_hexdigit()),
        [b'0', b'o' | b'O' | b'b' | b'B', ..] => all(token.get(2..).unwrap_or_default(), |byte| byte.is_ascii_digit()),
        // Whole numbers, powers of ten, dates and times.
        [b'0'..=b'9', ..] => all(token, |byte| byte.is_ascii_digit() || b"-eEtTzZ".contains(&byte)),
        _ => false,
    };
    let begins_well = token.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    begins_well
        && all(token, |byte| byte.is_ascii_alphanumeric() || byte == b'-')
        // Nothing but underscores and digits is a number to old parsers.
        && !all(token, |byte| byte.is_ascii_digit())
        && !is_number
        && !WORDS.iter().any(|word| token.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::is_plain_text;

    #[test]
    fn what_yaml_reads_as_something_else_is_no_plain_text() {
        for odd in [
            "",
            "-abc",
            "--",
            "12345678",
            "0x1F4",
            "0X_ff",
            "0o17",
            "0b101",
            "1e10",
            "1E-5",
            "1_000",
            "_1",
            "___",
            "2026-01-01",
            "007",
            "2026-01-01T00Z",
            "true",
            "No",
            "OFF",
            "null",
            "y",
            ".inf",
            ".nan",
            "~",
            "a b",
            "a: b",
            "a#",
            "&a",
            "*a",
            "!a",
            "@a",
            "%a",
            "ä",
            "'a'",
            "[a]",
            "a,b",
            "=",
            "<<",
            "+1",
            "a:",
            "a+b",
            "a/b",
        ] {
            assert!(!is_plain_text(odd), "{odd}");
        }
        for plain in ["a", "_a", "0xg", "0x1F4g", "1e10a", "trueish", "1a", "2026-01-01a", "a--_b", "z0"] {
            assert!(is_plain_text(plain), "{plain}");
        }
    }
}
