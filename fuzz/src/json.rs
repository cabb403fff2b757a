//! Whether two parsers could read a document differently, told by its text.

use serde_json::Value;

/// A document of one value, in which no member stands twice and nothing nests deeper than 16.
pub(crate) fn strict(document: &[u8]) -> Option<Value> {
    let value = serde_json::from_slice(document).ok()?;
    let (colons, depth) = outside_strings(document);
    // Of a member that stands twice this parser keeps one, but both have their colon.
    (members(&value) == colons && depth <= 16).then_some(value)
}

fn members(value: &Value) -> usize {
    match value {
        Value::Array(items) => items.iter().map(members).sum(),
        Value::Object(object) => object.values().map(|value| 1 + members(value)).sum(),
        _ => 0,
    }
}

/// How many colons there are, and how deep the brackets nest.
fn outside_strings(document: &[u8]) -> (usize, usize) {
    let (mut colons, mut depth, mut deepest) = (0, 0_usize, 0);
    let (mut in_string, mut escaped) = (false, false);
    for byte in document {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b':' => colons += 1,
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth -= 1,
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    (colons, deepest)
}
