//! A second opinion on how a path may be read: all that any sequence of rewritings makes of it, written without a
//! look at the first one. Percent-decoding happens at most twice.

use std::collections::BTreeSet;

pub(crate) fn readings(path: &str) -> BTreeSet<Vec<u8>> {
    let mut known = BTreeSet::new();
    follow(path.as_bytes().to_vec(), 2, &mut known);
    known.into_iter().map(|(reading, _)| reading).collect()
}

fn follow(path: Vec<u8>, decodings_left: u8, known: &mut BTreeSet<(Vec<u8>, u8)>) {
    if !known.insert((path.clone(), decodings_left)) {
        return;
    }
    follow(path.iter().map(|byte| if *byte == b'\\' { b'/' } else { *byte }).collect(), decodings_left, known);
    follow(merge(&path), decodings_left, known);
    follow(drop_parameters(&path), decodings_left, known);
    follow(remove_dot_segments(&path), decodings_left, known);
    follow(remove_authority(&path), decodings_left, known);
    if decodings_left > 0 {
        follow(decode(&path), decodings_left - 1, known);
    }
}

pub(crate) fn is_under(path: &[u8], area: &str) -> bool {
    let path = path.to_ascii_lowercase();
    path == area.as_bytes() || path.starts_with(format!("{area}/").as_bytes())
}

fn merge(path: &[u8]) -> Vec<u8> {
    let mut out: Vec<u8> = Vec::new();
    for byte in path {
        if !(*byte == b'/' && out.last() == Some(&b'/')) {
            out.push(*byte);
        }
    }
    out
}

fn drop_parameters(path: &[u8]) -> Vec<u8> {
    let mut in_parameter = false;
    let mut out = Vec::new();
    for byte in path {
        match byte {
            b'/' => in_parameter = false,
            b';' => in_parameter = true,
            _ => {}
        }
        if !in_parameter {
            out.push(*byte);
        }
    }
    out
}

fn decode(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut at = 0;
    while at < path.len() {
        let hex = path.get(at + 1..at + 3).and_then(|hex| std::str::from_utf8(hex).ok());
        let hex = hex.filter(|hex| hex.bytes().all(|digit| digit.is_ascii_hexdigit()));
        match (path[at], hex) {
            (b'%', Some(hex)) => {
                out.push(u8::from_str_radix(hex, 16).unwrap());
                at += 3;
            }
            (byte, _) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    out
}

/// RFC 3986, section 5.2.4, as it is written there.
fn remove_dot_segments(path: &[u8]) -> Vec<u8> {
    let mut input = path.to_vec();
    let mut output: Vec<u8> = Vec::new();
    let pop = |output: &mut Vec<u8>| {
        let end = output.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
        output.truncate(end);
    };
    while !input.is_empty() {
        if input.starts_with(b"../") {
            input.drain(..3);
        } else if input.starts_with(b"./") || input.starts_with(b"/./") {
            input.drain(..2);
        } else if input == b"/." {
            input = b"/".to_vec();
        } else if input.starts_with(b"/../") {
            input.drain(..3);
            pop(&mut output);
        } else if input == b"/.." {
            input = b"/".to_vec();
            pop(&mut output);
        } else if input == b"." || input == b".." {
            input.clear();
        } else {
            let end = input.iter().skip(1).position(|byte| *byte == b'/').map_or(input.len(), |end| end + 1);
            output.extend(input.drain(..end));
        }
    }
    output
}

/// RFC 3986, section 4.2: what comes after two slashes is a host, for whoever resolves the path against a base URL.
fn remove_authority(path: &[u8]) -> Vec<u8> {
    let Some(after) = path.strip_prefix(b"//") else { return path.to_vec() };
    match after.iter().position(|byte| *byte == b'/') {
        Some(end) => after[end..].to_vec(),
        None => b"/".to_vec(),
    }
}
