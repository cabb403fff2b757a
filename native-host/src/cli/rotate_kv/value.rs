//! The value of `worker_auth_token` in KV, and what a rotation makes of it.

use std::collections::BTreeSet;

use nodetool_edge_auth::{Digest, StoreError, Tokens};
use serde_json::{Map, Value, json};

/// What a token is called where nobody has given it a name.
const NAME: &str = "main";

/// The accepted tokens, as a list: a bare token is a list of one.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Accepted(Vec<Map<String, Value>>);

/// Which token is to be replaced cannot be told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::cli) enum NameError {
    #[error("there is more than one token in KV; say with --name which one to replace: {}", listed(.0))]
    Several(BTreeSet<String>),
    #[error("no token in KV is named {asked:?}; there are: {}", listed(.known))]
    Unknown { asked: String, known: BTreeSet<String> },
}

fn listed(names: &BTreeSet<String>) -> String {
    names.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ")
}

impl Accepted {
    /// Reads what KV holds. What a gateway would not take is an error: nothing is made of what is not understood.
    pub(super) fn parse(value: Option<&str>, asked: Option<&str>) -> Result<Self, StoreError> {
        let Some(value) = value.map(str::trim).filter(|value| !value.is_empty()) else { return Ok(Self(Vec::new())) };
        Tokens::parse(value)?;
        let list = value.starts_with('{').then(|| serde_json::from_str::<Value>(value).ok()).flatten();
        let entries = list.as_ref().and_then(|list| list.get("tokens")).and_then(Value::as_array);
        Ok(match entries {
            Some(entries) => Self(entries.iter().filter_map(Value::as_object).cloned().collect()),
            None => Self(vec![entry(asked.unwrap_or(NAME), &Digest::of(value.as_bytes()))]),
        })
    }

    /// The name of the token to replace: the one asked for, else that of the only one without an end.
    pub(super) fn name(&self, asked: Option<&str>) -> Result<String, NameError> {
        if let Some(asked) = asked {
            let known: BTreeSet<String> = self.0.iter().map(name_of).collect();
            return match known.is_empty() || known.contains(asked) {
                true => Ok(asked.to_owned()),
                false => Err(NameError::Unknown { asked: asked.to_owned(), known }),
            };
        }
        let mut names: BTreeSet<String> = self.0.iter().filter(|entry| end_of(entry).is_none()).map(name_of).collect();
        match names.len() {
            ..=1 => Ok(names.pop_first().unwrap_or_else(|| NAME.to_owned())),
            _ => Err(NameError::Several(names)),
        }
    }

    /// One more token. Those of its name that have come to their end are gone.
    pub(super) fn with(&self, name: &str, digest: &Digest, now: u64) -> Self {
        let has_ended = |entry: &Map<String, Value>| name_of(entry) == name && end_of(entry).is_some_and(|end| end < now);
        let kept = self.0.iter().filter(|entry| !has_ended(entry)).cloned();
        Self(kept.chain([entry(name, digest)]).collect())
    }

    /// The others of this name end with this second, or at once if there is none. Those that end before do as before.
    pub(super) fn replaced_by(&self, name: &str, digest: &Digest, limit: u64, end: Option<u64>) -> Self {
        let replace = |entry: &Map<String, Value>| {
            let is_other = name_of(entry) == name && !is_of(entry, digest);
            match end {
                None if is_other => None,
                Some(end) if is_other && end_of(entry).is_none_or(|earlier| earlier > limit) => {
                    let mut entry = entry.clone();
                    entry.insert("not_after".to_owned(), json!(end));
                    Some(entry)
                }
                _ => Some(entry.clone()),
            }
        };
        Self(self.0.iter().filter_map(replace).collect())
    }

    /// Whether this token is accepted, with whatever end.
    pub(super) fn has(&self, digest: &Digest) -> bool {
        self.0.iter().any(|entry| is_of(entry, digest))
    }

    /// The hashes of this name that have not come to their end, but for this one.
    pub(super) fn others(&self, name: &str, digest: &Digest, now: u64) -> Vec<String> {
        let is_other = |entry: &&Map<String, Value>| {
            name_of(entry) == name && !is_of(entry, digest) && end_of(entry).is_none_or(|end| end >= now)
        };
        self.0.iter().filter(is_other).filter_map(hash_of).map(str::to_ascii_lowercase).collect()
    }

    pub(super) fn to_json(&self) -> String {
        json!({ "tokens": self.0 }).to_string()
    }
}

fn entry(name: &str, digest: &Digest) -> Map<String, Value> {
    [("name", json!(name)), ("sha256", json!(digest.to_string()))]
        .map(|(name, value)| (name.to_owned(), value))
        .into_iter()
        .collect()
}

fn name_of(entry: &Map<String, Value>) -> String {
    entry.get("name").and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn end_of(entry: &Map<String, Value>) -> Option<u64> {
    entry.get("not_after").and_then(Value::as_u64)
}

fn hash_of(entry: &Map<String, Value>) -> Option<&str> {
    entry.get("sha256").and_then(Value::as_str)
}

fn is_of(entry: &Map<String, Value>, digest: &Digest) -> bool {
    hash_of(entry).is_some_and(|hash| hash == digest.to_string())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::{collection::vec, option, prelude::*, sample::select};

    use super::{Accepted, Digest, NameError, StoreError, Value, json};

    fn digest(token: &str) -> Digest {
        Digest::of(token.as_bytes())
    }

    fn parse(value: &str) -> Accepted {
        Accepted::parse(Some(value), None).unwrap()
    }

    fn entry(name: Option<&str>, token: &str, not_after: Option<u64>) -> Value {
        let mut entry = json!({ "sha256": digest(token).to_string() });
        if let Some(name) = name {
            entry["name"] = json!(name);
        }
        if let Some(end) = not_after {
            entry["not_after"] = json!(end);
        }
        entry
    }

    fn list(entries: &[Value]) -> String {
        json!({ "tokens": entries }).to_string()
    }

    #[test]
    fn a_bare_token_becomes_a_list_and_the_new_one_joins_it() {
        let before = parse(" old\n");
        let name = before.name(None).unwrap();
        assert_eq!(name, "main");
        let both = before.with(&name, &digest("new"), 100);
        let (old, new) = (entry(Some("main"), "old", None), entry(Some("main"), "new", None));
        assert_eq!(both, parse(&list(&[old, new.clone()])));
        assert!(!both.to_json().contains("\"old\"") && both.has(&digest("new")));
        let after = both.replaced_by(&name, &digest("new"), 700, Some(700));
        assert_eq!(after, parse(&list(&[entry(Some("main"), "old", Some(700)), new.clone()])));
        assert_eq!(both.replaced_by(&name, &digest("new"), 100, None), parse(&list(&[new])));
        assert_eq!(both.others(&name, &digest("new"), 100), [digest("old").to_string()]);
        assert_eq!(Accepted::parse(Some("old"), Some("ci")).unwrap().name(Some("ci")).unwrap(), "ci");
    }

    #[test]
    fn nothing_becomes_a_list_of_one() {
        for nothing in [None, Some(""), Some(" \n"), Some("{\"tokens\":[]}")] {
            let before = Accepted::parse(nothing, None).unwrap();
            assert_eq!((before.name(None).unwrap().as_str(), before.name(Some("ci")).unwrap().as_str()), ("main", "ci"));
            assert_eq!(before.with("main", &digest("new"), 0), parse(&list(&[entry(Some("main"), "new", None)])));
        }
    }

    #[test]
    fn what_no_gateway_would_take_is_left_alone() {
        for value in ["Value not found", "{", "[]", "{\"tokens\":[{\"sha256\":\"12\"}]}", "{\"tokens\":[],\"also\":1}"] {
            assert!(Accepted::parse(Some(value), None).is_err(), "{value}");
        }
        let unknown = list(&[{
            let mut entry = entry(Some("ci"), "old", None);
            entry["paths"] = json!(["/v1"]);
            entry
        }]);
        assert!(matches!(Accepted::parse(Some(&unknown), None), Err(StoreError::List(_))));
    }

    #[test]
    fn which_one_is_replaced() {
        let (ci, laptop) = (entry(Some("ci"), "a", None), entry(Some("laptop"), "b", None));
        let several = parse(&list(&[ci.clone(), laptop]));
        assert!(matches!(several.name(None), Err(NameError::Several(names)) if names.len() == 2));
        assert_eq!(several.name(Some("laptop")).unwrap(), "laptop");
        let error = several.name(Some("phone")).unwrap_err().to_string();
        assert!(error.contains("\"ci\", \"laptop\""), "{error}");
        // One that is about to end was replaced before, and one that was never handed out has the same name.
        let once_more = parse(&list(&[ci.clone(), entry(Some("ci"), "c", None), entry(Some("x"), "d", Some(9))]));
        assert_eq!(once_more.name(None).unwrap(), "ci");
        let after = once_more.with("ci", &digest("new"), 0).replaced_by("ci", &digest("new"), 50, Some(50));
        let ended = [entry(Some("ci"), "a", Some(50)), entry(Some("ci"), "c", Some(50)), entry(Some("x"), "d", Some(9))];
        assert_eq!(after, parse(&list(&[&ended[..], &[entry(Some("ci"), "new", None)]].concat())));
        assert_eq!(parse(&list(&[entry(None, "a", None)])).name(None).unwrap(), "");
    }

    fn any_entry() -> impl Strategy<Value = (String, Option<&'static str>, Option<u64>)> {
        ("[a-f]", option::of(select(vec!["", "main", "ci", "a \"quoted\" one"])), option::of(0..12_u64))
    }

    /// The last second at which each token passes; `None` is for ever.
    fn ends(accepted: &Accepted) -> BTreeMap<(String, String), Option<u64>> {
        let list: Value = serde_json::from_str(&accepted.to_json()).unwrap();
        let mut ends = BTreeMap::new();
        for entry in list["tokens"].as_array().unwrap() {
            let key = (entry["name"].as_str().unwrap_or_default().to_owned(), entry["sha256"].as_str().unwrap().to_owned());
            let end = entry["not_after"].as_u64();
            let last = ends.entry(key).or_insert(end);
            *last = if last.is_none() || end.is_none() { None } else { (*last).max(end) };
        }
        ends
    }

    proptest! {
        /// At each step of a rotation every token passes for as long as it should, and the others do not notice.
        #[test]
        fn nobody_is_shut_out_before_time(
            entries in vec(any_entry(), 0..6), at in 0..4_usize, now in 0..12_u64, overlap in 0..6_u64,
        ) {
            let entries: Vec<Value> = entries.iter().map(|(token, name, end)| entry(*name, token, *end)).collect();
            let before = parse(&list(&entries));
            let names = ["", "main", "ci", "a \"quoted\" one"];
            let Ok(name) = before.name(Some(names[at])) else { return Ok(()) };
            let new = digest("new");
            let limit = now + overlap;
            let both = before.with(&name, &new, now);
            let after = both.replaced_by(&name, &new, limit, (overlap > 0).then_some(limit));
            let (was, then, is) = (ends(&before), ends(&both), ends(&after));
            // What a gateway takes, it also takes after each step.
            prop_assert_eq!(Accepted::parse(Some(&both.to_json()), None).unwrap(), both);
            prop_assert_eq!(Accepted::parse(Some(&after.to_json()), None).unwrap(), after);
            prop_assert_eq!(then.get(&(name.clone(), new.to_string())), Some(&None));
            prop_assert_eq!(is.get(&(name.clone(), new.to_string())), Some(&None));
            for (key, end) in &was {
                if key.0 != name {
                    prop_assert_eq!((then.get(key), is.get(key)), (Some(end), Some(end)));
                } else if end.is_none_or(|end| end >= now) {
                    prop_assert_eq!(then.get(key), Some(end));
                    let expected = (overlap > 0).then(|| Some(end.map_or(limit, |end| end.min(limit))));
                    prop_assert_eq!(is.get(key).copied(), expected);
                }
            }
            prop_assert!(is.keys().all(|key| was.contains_key(key) || key.1 == new.to_string()));
        }
    }
}
