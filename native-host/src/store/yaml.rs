//! The deployment file as YAML: what it says about tokens, and how to change just that.

use std::{collections::BTreeSet, ops::Range, string::FromUtf8Error};

use nodetool_edge_auth::{Secret, Tokens};
use saphyr::{MarkedYaml, ScalarStyle, YamlData, YamlLoader};
use saphyr_parser::{Event, Parser, ScanError, SpannedEventReceiver};
use serde_json::{Map, Value};

pub(super) const KEY: &str = "worker_auth_token";
const ACCEPTED: &str = "accepted_tokens";

/// What nests deeper is no page of settings. The parser knows no end, and the stack has one.
const MAX_DEPTH: usize = 64;

/// Values that aliases may bring along. They nest as deep as what they stand for, and that again.
const MAX_ALIASED: usize = 10_000;

/// Begins the names of entries that a rotation wrote, and that a later one may remove.
const ROTATED: &str = "rotated-at-";

/// Why a text is no deployment file.
#[derive(Debug)]
pub(super) enum Problem {
    Yaml { line: usize, column: usize, problem: String },
    Content(String),
}

impl Problem {
    fn content(problem: &str) -> Self {
        Self::Content(problem.to_owned())
    }
}

/// Where a text that is none stops to be one.
pub(super) fn not_utf8(error: &FromUtf8Error) -> Problem {
    let before = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
    let lines = String::from_utf8_lossy(before);
    let (count, last) = lines.split('\n').enumerate().last().unwrap_or_default();
    Problem::Yaml { line: count + 1, column: last.chars().count() + 1, problem: "not UTF-8".to_owned() }
}

/// What a deployment file says about tokens.
#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    pub(super) token: Option<Secret>,
    pub(super) accepted: Tokens,
    entries: Vec<Entry>,
}

type Entry = Map<String, Value>;

/// A token that was replaced, for as long as it is still accepted.
#[derive(Clone, Debug)]
pub(super) struct Replaced {
    pub(super) sha256: String,
    pub(super) at: u64,
    pub(super) not_after: u64,
}

pub(super) fn parse(text: &str) -> Result<Content, Problem> {
    let documents = documents(text).map_err(|error| {
        let marker = error.marker();
        Problem::Yaml { line: marker.line(), column: marker.col() + 1, problem: error.info().to_owned() }
    })?;
    let settings = match documents.as_slice() {
        [] => return Ok(Content::default()),
        [root] if is_null(root) => return Ok(Content::default()),
        [root] => match &root.data {
            YamlData::Mapping(settings) => settings,
            _ => return Err(Problem::content("not a mapping of settings (`name: value`)")),
        },
        _ => return Err(Problem::content("holds several YAML documents")),
    };
    names_once(settings.keys())?;
    let value = |name| settings.iter().find(|(key, _)| scalar(key) == Some(name)).map(|(_, value)| value);
    let token = value(KEY)
        .filter(|value| !is_null(value))
        .map(|value| scalar(value).ok_or_else(|| Problem::content("worker_auth_token is not a single value")))
        .transpose()?;
    let token = token.map(str::trim).filter(|token| !token.is_empty()).map(|token| Secret::new(token.to_owned()));
    let entries = value(ACCEPTED).filter(|value| !is_null(value)).map(entries).transpose()?.unwrap_or_default();
    let accepted =
        if entries.is_empty() && value(ACCEPTED).is_none_or(is_null) { Tokens::default() } else { accepted(&entries)? };
    Ok(Content { token, accepted, entries })
}

/// Scalars stay as they are written: no number, boolean or date is made of a token.
fn documents(text: &str) -> Result<Vec<MarkedYaml<'_>>, ScanError> {
    let mut loader = YamlLoader::default();
    loader.early_parse(false);
    loader.alias_limit(MAX_ALIASED);
    let mut depth = 0_usize;
    for event in Parser::new_from_str(text) {
        let (event, span) = event?;
        match event {
            Event::SequenceStart(..) | Event::MappingStart(..) => depth += 1,
            Event::SequenceEnd | Event::MappingEnd => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_DEPTH {
            return Err(ScanError::new_str(span.start, "nested too deeply"));
        }
        loader.on_event(event, span);
    }
    match loader.error() {
        Some(error) => Err(error.clone()),
        None => Ok(loader.into_documents()),
    }
}

fn scalar<'a>(node: &'a MarkedYaml<'_>) -> Option<&'a str> {
    match &node.data {
        YamlData::Representation(text, ..) => Some(text),
        _ => None,
    }
}

fn is_null(node: &MarkedYaml<'_>) -> bool {
    matches!(&node.data, YamlData::Representation(text, ScalarStyle::Plain, _) if ["", "~", "null", "Null", "NULL"].contains(&&**text))
}

/// A name that stands there twice, however it is written. To the parser it is another one in quotes.
fn names_once<'a>(mut names: impl Iterator<Item = &'a MarkedYaml<'a>>) -> Result<(), Problem> {
    let mut known = BTreeSet::new();
    let twice = names.find(|key| scalar(key).is_some_and(|name| !known.insert(name))).map(|key| key.span.start);
    twice.map_or(Ok(()), |at| {
        Err(Problem::Yaml { line: at.line(), column: at.col() + 1, problem: "duplicated key in mapping".to_owned() })
    })
}

fn entries(list: &MarkedYaml<'_>) -> Result<Vec<Entry>, Problem> {
    let YamlData::Sequence(entries) = &list.data else { return Err(Problem::content("accepted_tokens is not a list")) };
    for entry in entries {
        if let YamlData::Mapping(members) = &entry.data {
            names_once(members.keys())?;
        }
    }
    let entry = |entry: &MarkedYaml<'_>| {
        let YamlData::Mapping(members) = &entry.data else { return None };
        let member = |(name, value): (&MarkedYaml<'_>, &MarkedYaml<'_>)| {
            let (name, value) = (scalar(name)?, scalar(value)?);
            let number = (name == "not_after").then(|| value.parse::<u64>().ok()).flatten();
            Some((name.to_owned(), number.map_or_else(|| value.into(), Value::from)))
        };
        members.iter().map(member).collect::<Option<Entry>>()
    };
    let entries: Option<Vec<_>> = entries.iter().map(entry).collect();
    entries.ok_or_else(|| Problem::content("accepted_tokens is not a list of `name`, `sha256` and `not_after`"))
}

/// The list in the one form that the core reads.
fn accepted(entries: &[Entry]) -> Result<Tokens, Problem> {
    let list = serde_json::json!({ "tokens": entries }).to_string();
    Tokens::parse(&list).map_err(|error| Problem::Content(format!("accepted_tokens: {error}")))
}

/// The same text with another token in it, and not a byte of the rest changed. Nothing if that cannot be done.
pub(super) fn with_token(text: &str, token: &Secret) -> Option<String> {
    let changed = set_token(text, token.reveal())?;
    let (before, after) = (parse(text).ok()?, parse(&changed).ok()?);
    // The proof that the file says what was meant, before anything is written.
    let is_proven = after.token.as_ref() == Some(token) && after.entries == before.entries && same_but_for_tokens(text, &changed);
    is_proven.then_some(changed)
}

/// The same text with another token in it, the old one in the list, if it is still accepted, and without what earlier
/// rotations put there and has come to its end.
pub(super) fn rotated(text: &str, token: &Secret, old: Option<&Replaced>, now: u64) -> Option<String> {
    let changed = without_ended(&set_token(text, token.reveal())?, now)?;
    let changed = old.map_or_else(|| Some(changed.clone()), |old| with_replaced(&changed, old))?;
    let (before, after) = (parse(text).ok()?, parse(&changed).ok()?);
    let stays = |entry: &&Entry| !has_ended(entry, now);
    let expected: Vec<_> = old.map(Replaced::entry).into_iter().chain(before.entries.iter().filter(stays).cloned()).collect();
    let is_proven = after.token.as_ref() == Some(token)
        && after.entries.iter().filter(stays).eq(&expected)
        && same_but_for_tokens(text, &changed);
    is_proven.then_some(changed)
}

impl Replaced {
    fn members(&self) -> [(&'static str, String); 3] {
        [("name", format!("{ROTATED}{}", self.at)), ("sha256", self.sha256.clone()), ("not_after", self.not_after.to_string())]
    }

    fn entry(&self) -> Entry {
        let [name, sha256, _] = self.members();
        [(name.0, name.1.into()), (sha256.0, sha256.1.into()), ("not_after", self.not_after.into())]
            .into_iter()
            .map(|(name, value): (_, Value)| (name.to_owned(), value))
            .collect()
    }
}

fn set_token(text: &str, token: &str) -> Option<String> {
    match place_of(text, KEY)? {
        // What else is in the line, a comment maybe, stays there.
        Some(place) => spliced(text, place.colon..place.value.map_or(place.colon, |value| value.end), &format!(" {token}")),
        None => Some(appended(text, &format!("{KEY}: {token}{}", line_end(text)))),
    }
}

fn with_replaced(text: &str, old: &Replaced) -> Option<String> {
    let end = line_end(text);
    let block = |indent: &str| {
        let lines = old.members().into_iter().enumerate();
        lines
            .map(|(index, (name, value))| format!("{indent}{} {name}: {value}{end}", if index == 0 { "-" } else { " " }))
            .collect::<String>()
    };
    let Some(place) = place_of(text, ACCEPTED)? else {
        return Some(appended(text, &format!("{ACCEPTED}:{end}{}", block("  "))));
    };
    let indent = match (place.first_entry, place.value) {
        (Some(entry), _) if indent_of_dash(text, entry).is_some() => indent_of_dash(text, entry)?,
        (_, Some(value)) => {
            // In brackets, or in a form that nothing can be added to.
            let inner = value.start + text.get(value.start..)?.strip_prefix('[').map(|_| 1)?;
            let members = old.members().map(|(name, value)| format!("{name}: {value}")).join(", ");
            return spliced(text, inner..inner, &format!("{{{members}}}, "));
        }
        (_, None) => "  ",
    };
    // Straight below the key, before a comment that belongs to the first of the others.
    let rest = text.get(place.colon..)?;
    match rest.find('\n').map(|line| place.colon + line + 1) {
        Some(next) => spliced(text, next..next, &block(indent)),
        None => Some(appended(text, &block(indent))),
    }
}

/// What stands before the dash of an entry, if that is the first thing in its line.
fn indent_of_dash(text: &str, entry: usize) -> Option<&str> {
    let before = text.get(..entry)?;
    let line = before.get(before.rfind('\n').map_or(0, |end| end + 1)..)?;
    line.trim_end().strip_suffix('-').filter(|indent| indent.bytes().all(|byte| byte == b' '))
}

/// Entries as a rotation writes them, whose time is over.
fn without_ended(text: &str, now: u64) -> Option<String> {
    let Some(place) = place_of(text, ACCEPTED)? else { return Some(text.to_owned()) };
    let (head, list) = text.split_at_checked(place.colon)?;
    let mut lines: Vec<&str> = list.split_inclusive('\n').collect();
    let value = |line: Option<&&str>, name: &str| line.and_then(|line| line.trim().strip_prefix(name)).map(str::to_owned);
    let has_ended = |lines: &[&str]| {
        let is_ours = value(lines.first(), "- name: ").is_some_and(|name| is_of_rotation(&name));
        let end = value(lines.get(2), "not_after: ").and_then(|end| end.parse::<u64>().ok());
        is_ours && value(lines.get(1), "sha256: ").is_some() && end.is_some_and(|end| end < now)
    };
    while let Some(at) = lines.windows(3).position(has_ended) {
        lines.drain(at..at + 3);
    }
    Some(format!("{head}{}", lines.concat()))
}

fn has_ended(entry: &Entry, now: u64) -> bool {
    entry.get("name").and_then(Value::as_str).is_some_and(is_of_rotation)
        && entry.get("not_after").and_then(Value::as_u64).is_some_and(|end| end < now)
}

fn is_of_rotation(name: &str) -> bool {
    name.strip_prefix(ROTATED).is_some_and(|at| !at.is_empty() && at.bytes().all(|digit| digit.is_ascii_digit()))
}

/// Where a setting stands in a text, in bytes.
struct Place {
    /// Just behind the colon.
    colon: usize,
    /// The value, unless it is blank.
    value: Option<Range<usize>>,
    /// Where the first entry begins, if the value is a list with any.
    first_entry: Option<usize>,
}

/// Nothing at all if the place cannot be told.
#[expect(clippy::option_option, reason = "one for what cannot be told, one for what is not there")]
fn place_of(text: &str, name: &str) -> Option<Option<Place>> {
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

fn spliced(text: &str, range: Range<usize>, new: &str) -> Option<String> {
    Some([text.get(..range.start)?, new, text.get(range.end..)?].concat())
}

fn appended(text: &str, lines: &str) -> String {
    let end = if text.is_empty() || text.ends_with('\n') { "" } else { line_end(text) };
    [text, end, lines].concat()
}

/// As the first line ends.
fn line_end(text: &str) -> &'static str {
    if text.split_inclusive('\n').next().is_some_and(|line| line.ends_with("\r\n")) { "\r\n" } else { "\n" }
}

fn same_but_for_tokens(before: &str, after: &str) -> bool {
    let rest = |text| {
        let settings = match documents(text).ok()?.pop().map(|root| root.data) {
            Some(YamlData::Mapping(settings)) => settings,
            _ => return Some(Vec::new()),
        };
        let is_other = |key: &MarkedYaml<'_>| !matches!(scalar(key), Some(KEY | ACCEPTED));
        Some(settings.into_iter().filter(|(key, _)| is_other(key)).collect::<Vec<_>>())
    };
    matches!((rest(before), rest(after)), (Some(before), Some(after)) if before == after)
}

/// Whether YAML takes this for a text as it stands, under its old rules and its new ones, and no command line for an
/// option: not for a number, a boolean, a date or nothing, nor for anything that must be quoted.
pub(super) fn is_plain_text(token: &str) -> bool {
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
    use super::{Problem, Replaced, is_plain_text, parse, rotated, with_token};
    use nodetool_edge_auth::Secret;

    const SHA: &str = "cba06b5736faf67e54b07b561eae94395e774c517a7d910a54369e1263ccfbd4";

    fn new() -> Secret {
        Secret::new("NEW".to_owned())
    }

    fn old() -> Replaced {
        Replaced { sha256: SHA.to_owned(), at: 1000, not_after: 1600 }
    }

    fn ours(indent: &str, at: u64, end: u64) -> String {
        format!("{indent}- name: rotated-at-{at}\n{indent}  sha256: {SHA}\n{indent}  not_after: {end}\n")
    }

    #[test]
    fn a_token_is_set_and_the_rest_of_the_line_stays() {
        for (before, after) in [
            ("", "worker_auth_token: NEW\n"),
            ("# only a comment", "# only a comment\nworker_auth_token: NEW\n"),
            ("a: 1\r\n", "a: 1\r\nworker_auth_token: NEW\r\n"),
            ("a: 1\r\nb: 2", "a: 1\r\nb: 2\r\nworker_auth_token: NEW\r\n"),
            ("worker_auth_token:   # comment\nb: 2\n", "worker_auth_token: NEW   # comment\nb: 2\n"),
            ("worker_auth_token:\r\nb: 2\r\n", "worker_auth_token: NEW\r\nb: 2\r\n"),
            ("worker_auth_token: ~ # none\n", "worker_auth_token: NEW # none\n"),
            ("worker_auth_token: ''\n", "worker_auth_token: NEW\n"),
            ("worker_auth_token:    \"OLD\"  # mine\nb: 2\n", "worker_auth_token: NEW  # mine\nb: 2\n"),
            ("ä: ö\nworker_auth_token: OLD\nb: 2", "ä: ö\nworker_auth_token: NEW\nb: 2"),
            ("worker_auth_token: 'it''s' # 'x'\n", "worker_auth_token: NEW # 'x'\n"),
            ("worker_auth_token: \"a\\\"b\" # \"\n", "worker_auth_token: NEW # \"\n"),
            ("worker_auth_token: >-\n  OLD\n\nb: 2\n", "worker_auth_token: NEW\n\nb: 2\n"),
            ("\"worker_auth_token\": OLD\n", "\"worker_auth_token\": NEW\n"),
            ("{a: 1, worker_auth_token: OLD}\n", "{a: 1, worker_auth_token: NEW}\n"),
        ] {
            assert_eq!(with_token(before, &new()).as_deref(), Some(after), "{before}");
        }
        for impossible in ["{a: 1}\n", "a: 1\n...\n", "worker_auth_token: &x OLD\nb: *x\n"] {
            assert_eq!(with_token(impossible, &new()), None, "{impossible}");
        }
    }

    #[test]
    fn a_rotation_keeps_the_old_digest_in_the_list_as_it_is_written() {
        let user = format!("- name: ci\n  sha256: {SHA}\n");
        for (before, after) in [
            (
                "worker_auth_token: OLD\n".to_owned(),
                format!("worker_auth_token: NEW\naccepted_tokens:\n{}", ours("  ", 1000, 1600)),
            ),
            (
                format!("accepted_tokens:   # all\n# the pipeline\n{user}worker_auth_token: OLD\n"),
                format!("accepted_tokens:   # all\n{}# the pipeline\n{user}worker_auth_token: NEW\n", ours("", 1000, 1600)),
            ),
            (
                format!("worker_auth_token: OLD\naccepted_tokens: [{{sha256: {SHA}}}]\n"),
                format!(
                    "worker_auth_token: NEW\naccepted_tokens: [{{name: rotated-at-1000, sha256: {SHA}, not_after: 1600}}, {{sha256: {SHA}}}]\n"
                ),
            ),
            (
                "worker_auth_token: OLD\naccepted_tokens:".to_owned(),
                format!("worker_auth_token: NEW\naccepted_tokens:\n{}", ours("  ", 1000, 1600)),
            ),
        ] {
            let changed = rotated(&before, &new(), Some(&old()), 1000);
            assert_eq!(changed.as_deref(), Some(&*after), "{before}");
            assert!(!parse(&after).unwrap().accepted.is_empty());
            let windows = rotated(&before.replace('\n', "\r\n"), &new(), Some(&old()), 1000);
            if before.ends_with('\n') {
                assert_eq!(windows, Some(after.replace('\n', "\r\n")));
            }
        }
    }

    #[test]
    fn a_rotation_removes_what_has_ended_and_is_its_own() {
        let (gone, live) = (ours("  ", 900, 999), ours("  ", 950, 1000));
        let user = format!("  - name: ci\n    sha256: {SHA}\n    not_after: 1\n");
        let text = |list: &[&str], token: &str| format!("accepted_tokens:\n{}worker_auth_token: {token}\n", list.concat());
        let before = text(&[&gone, &live, &user, &gone], "OLD");
        assert_eq!(rotated(&before, &new(), None, 1000), Some(text(&[&live, &user], "NEW")));
        let all_gone = rotated(&text(&[&gone], "OLD"), &new(), None, 1000).unwrap();
        assert_eq!(all_gone, text(&[], "NEW"));
        assert!(parse(&all_gone).unwrap().accepted.is_empty());
    }

    fn problem(text: &str) -> Option<(usize, usize, String)> {
        match parse(text) {
            Err(Problem::Yaml { line, column, problem }) => Some((line, column, problem)),
            _ => None,
        }
    }

    #[test]
    fn what_nests_without_end_is_an_error_and_not_the_end_of_the_process() {
        const DEEP: usize = 100_000;
        let aliases = |count: usize| {
            let nested = |value: &str| "[".repeat(50) + value + &"]".repeat(50);
            let lines = (1..count).map(|number| format!("a{number}: &a{number} {}\n", nested(&format!("*a{}", number - 1))));
            format!("a0: &a0 x\n{}", lines.collect::<String>())
        };
        for text in [
            format!("a:\n  {}x\n", "- ".repeat(DEEP)),
            format!("a:\n  {}x\n", "? ".repeat(DEEP)),
            format!("a:\n  {}x\n", "- ? ".repeat(DEEP)),
            format!("a: {}", "[".repeat(DEEP)),
            format!("a: {}x", "{a: ".repeat(DEEP)),
            aliases(2000),
        ] {
            assert!(problem(&text).is_some(), "{}", &text[..20]);
        }
        assert_eq!(problem(&format!("a:\n  {}x\n", "- ".repeat(64))), Some((2, 129, "nested too deeply".to_owned())));
        assert_eq!(problem(&format!("a:\n  {}x\n", "- ".repeat(63))), None);
        assert_eq!(problem(&aliases(15)), None);
    }

    #[test]
    fn a_name_that_stands_there_twice_is_an_error_however_it_is_written() {
        for twice in [
            "worker_auth_token",
            "\"worker_auth_token\"",
            "'worker_auth_token'",
            "\"worker\\x5fauth_token\"",
            "!!str worker_auth_token",
        ] {
            let (line, column, _) = problem(&format!("worker_auth_token: a\nb: 1\n{twice}: c\n")).unwrap();
            assert_eq!((line, column > 0), (3, true), "{twice}");
        }
        let entry = format!("accepted_tokens:\n- sha256: {SHA}\n  'sha256': {SHA}\n");
        assert_eq!(problem(&entry).map(|(line, column, _)| (line, column)), Some((3, 3)));
        assert_eq!(problem(&format!("accepted_tokens:\n- sha256: {SHA}\n- sha256: {SHA}\n")), None);
    }

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
