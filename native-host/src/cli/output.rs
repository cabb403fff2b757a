//! What the subcommands print: lines for people, or JSON for programs.

use std::io::{self, Write};

use clap::ArgMatches;
use serde_json::Value;

/// Prints a text or, if `--json` asks for it, a JSON value on one line.
pub(super) fn print(arguments: &ArgMatches, text: &str, json: impl FnOnce() -> Value) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if arguments.get_flag("json") {
        writeln!(out, "{}", json())?;
    } else {
        writeln!(out, "{text}")?;
    }
    out.flush()
}

/// What a server, a file or a client says must not look like a line of its own.
pub(super) fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() { line.extend(character.escape_default()) } else { line.push(character) }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::one_line;

    #[test]
    fn nothing_that_is_shown_makes_a_line_of_its_own_or_moves_the_cursor() {
        assert_eq!(one_line("a\nok       token: \u{1b}[2Jb\u{9b}é"), "a\\nok       token: \\u{1b}[2Jb\\u{9b}é");
    }
}
