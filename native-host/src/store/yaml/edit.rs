//! How to change what a deployment file says about tokens, and nothing else in it.

use std::ops::Range;

use nodetool_edge_auth::Secret;
use saphyr::{MarkedYaml, YamlData};
use serde_json::Value;

use super::{ACCEPTED, Content, Entry, KEY, SERVER_KEY, documents, parse, place::place_of, scalar};

/// Begins the names of entries that a rotation wrote, and that a later one may remove.
const ROTATED: &str = "rotated-at-";

/// A token that was replaced, for as long as it is still accepted.
#[derive(Clone, Debug)]
pub(in crate::store) struct Replaced {
    pub(in crate::store) sha256: String,
    pub(in crate::store) at: u64,
    pub(in crate::store) not_after: u64,
}

/// The same text with another token in it, and not a byte of the rest changed. Nothing if that cannot be done.
pub(in crate::store) fn with_token(text: &str, token: &Secret) -> Option<String> {
    let changed = set_token(text, token.reveal())?;
    let (before, after) = (parse(text).ok()?, parse(&changed).ok()?);
    // The proof that the file says what was meant, before anything is written.
    let is_proven = holds_only(&after, token, &before) && after.entries == before.entries && same_but_for_tokens(text, &changed);
    is_proven.then_some(changed)
}

/// The same text with another token in it, the old one in the list, if it is still accepted, and without what earlier
/// rotations put there and has come to its end.
pub(in crate::store) fn rotated(text: &str, token: &Secret, old: Option<&Replaced>, now: u64) -> Option<String> {
    let changed = without_ended(&set_token(text, token.reveal())?, now)?;
    let changed = old.map_or_else(|| Some(changed.clone()), |old| with_replaced(&changed, old))?;
    let (before, after) = (parse(text).ok()?, parse(&changed).ok()?);
    let stays = |entry: &&Entry| !has_ended(entry, now);
    let expected: Vec<_> = old.map(Replaced::entry).into_iter().chain(before.entries.iter().filter(stays).cloned()).collect();
    let is_proven = holds_only(&after, token, &before)
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

/// Whether the token stands under each key that held one, so that no replaced token is left to come into force later.
fn holds_only(after: &Content, token: &Secret, before: &Content) -> bool {
    after.values.len() == before.values.len().max(1) && after.values.iter().all(|(_, value)| value == token)
}

fn set_token(text: &str, token: &str) -> Option<String> {
    let mut keys: Vec<_> = parse(text).ok()?.values.into_iter().map(|(key, _)| key).collect();
    if keys.is_empty() {
        keys.push(KEY);
    }
    keys.into_iter().try_fold(text.to_owned(), |text, key| set_value(&text, key, token))
}

fn set_value(text: &str, key: &str, token: &str) -> Option<String> {
    match place_of(text, key)? {
        // What else is in the line, a comment maybe, stays there.
        Some(place) => spliced(text, place.colon..place.value.map_or(place.colon, |value| value.end), &format!(" {token}")),
        None => Some(appended(text, &format!("{key}: {token}{}", line_end(text)))),
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
        let is_other = |key: &MarkedYaml<'_>| !matches!(scalar(key), Some(KEY | SERVER_KEY | ACCEPTED));
        Some(settings.into_iter().filter(|(key, _)| is_other(key)).collect::<Vec<_>>())
    };
    matches!((rest(before), rest(after)), (Some(before), Some(after)) if before == after)
}

#[cfg(test)]
mod tests {
    use super::{Replaced, parse, rotated, with_token};
    use crate::store::yaml::tests::SHA;
    use nodetool_edge_auth::Secret;

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
            ("server_auth_token: OLD # x\n", "server_auth_token: NEW # x\n"),
            ("worker_auth_token:\nserver_auth_token: OLD\n", "worker_auth_token:\nserver_auth_token: NEW\n"),
            ("server_auth_token: B\nworker_auth_token: A\n", "server_auth_token: NEW\nworker_auth_token: NEW\n"),
            ("server_auth_token: ''\n", "server_auth_token: ''\nworker_auth_token: NEW\n"),
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
}
