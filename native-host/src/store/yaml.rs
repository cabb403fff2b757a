//! The deployment file as YAML: what it says about tokens.

mod edit;
mod place;
mod plain;

use std::{collections::BTreeSet, string::FromUtf8Error};

use nodetool_edge_auth::{Secret, Tokens};
use saphyr::{MarkedYaml, ScalarStyle, YamlData, YamlLoader};
use saphyr_parser::{Event, Parser, ScanError, SpannedEventReceiver};
use serde_json::{Map, Value};

pub(super) use edit::{Replaced, rotated, with_token};
pub(super) use plain::is_plain_text;

pub(super) const KEY: &str = "worker_auth_token";
/// What newer NodeTool calls it.
const SERVER_KEY: &str = "server_auth_token";
const ACCEPTED: &str = "accepted_tokens";

/// What nests deeper is no page of settings. The parser knows no end, and the stack has one.
const MAX_DEPTH: usize = 64;

/// Values that aliases may bring along. They nest as deep as what they stand for, and that again.
const MAX_ALIASED: usize = 10_000;

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
    let (line, column) = position(&String::from_utf8_lossy(before));
    Problem::Yaml { line, column, problem: "not UTF-8".to_owned() }
}

/// What a deployment file says about tokens.
#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    /// With their keys, in the order in which they count.
    values: Vec<(&'static str, Secret)>,
    pub(super) accepted: Tokens,
    /// Whether there is a list, be it an empty one.
    pub(super) has_list: bool,
    entries: Vec<Entry>,
}

impl Content {
    /// The token that is accepted, and its key.
    pub(super) fn token(&self) -> Option<(&'static str, &Secret)> {
        self.values.first().map(|(key, token)| (*key, token))
    }

    /// The key of another token, which is not accepted, since the one before it differs.
    pub(super) fn ignored(&self) -> Option<&'static str> {
        let (_, token) = self.token()?;
        self.values.iter().find(|(_, other)| other != token).map(|(key, _)| *key)
    }
}

type Entry = Map<String, Value>;

pub(super) fn parse(text: &str) -> Result<Content, Problem> {
    only_printable(text)?;
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
    let mut values = Vec::new();
    for key in [KEY, SERVER_KEY] {
        let Some(node) = value(key).filter(|value| !is_null(value)) else { continue };
        let token = scalar(node).ok_or_else(|| Problem::Content(format!("{key} is not a single value")))?.trim();
        if !token.is_empty() {
            values.push((key, Secret::new(token.to_owned())));
        }
    }
    let list = value(ACCEPTED).filter(|value| !is_null(value));
    let entries = list.map(entries).transpose()?.unwrap_or_default();
    Ok(Content { values, accepted: accepted(&entries)?, has_list: list.is_some(), entries })
}

/// The first character that YAML allows in no text (YAML 1.2.2, section 5.1), if there is one.
fn only_printable(text: &str) -> Result<(), Problem> {
    let is_printable = |character: char| {
        matches!(character, '\t' | '\n' | '\r' | ' '..='~' | '\u{85}' | '\u{a0}'..)
            && !matches!(character, '\u{fffe}' | '\u{ffff}')
    };
    let Some((at, character)) = text.char_indices().find(|(_, character)| !is_printable(*character)) else { return Ok(()) };
    let (line, column) = position(text.get(..at).unwrap_or_default());
    Err(Problem::Yaml { line, column, problem: format!("a character that YAML does not allow: U+{:04X}", u32::from(character)) })
}

/// Line and column, from 1, of what follows this text.
fn position(before: &str) -> (usize, usize) {
    let (count, last) = before.split('\n').enumerate().last().unwrap_or_default();
    (count + 1, last.chars().count() + 1)
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

#[cfg(test)]
mod tests {
    use super::{Problem, parse};

    pub(super) const SHA: &str = "cba06b5736faf67e54b07b561eae94395e774c517a7d910a54369e1263ccfbd4";

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
}
