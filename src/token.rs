//! Static tokens: made, masked, parsed from a store, and matched in constant time.

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};
use core::fmt;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq};
use zeroize::Zeroize;

use crate::{credential::is_token, json::Object, time::UnixTime};

/// Text that must not be printed. It shows itself masked, and is wiped when dropped.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text that must not be printed.
    pub const fn new(text: String) -> Self {
        Self(text)
    }

    /// The text itself. Whoever calls this answers for where it goes.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret(***)")
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// The SHA-256 of a secret. Secrets of any length are compared as digests, in constant time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of these bytes.
    pub fn of(secret: &[u8]) -> Self {
        Self(Sha256::digest(secret).into())
    }

    /// Whether both are the digest of the same secret, in a time that does not depend on where they differ.
    pub fn matches(&self, other: &Self) -> bool {
        self.ct_eq(other).into()
    }

    fn ct_eq(&self, other: &Self) -> Choice {
        self.0.ct_eq(&other.0)
    }

    fn from_hex(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        if text.len() != 64 || !text.is_ascii() {
            return None;
        }
        for (index, byte) in bytes.iter_mut().enumerate() {
            let digits = text.get(index * 2..index * 2 + 2)?;
            // `from_str_radix` would take a sign.
            *byte = digits.bytes().all(|digit| digit.is_ascii_hexdigit()).then(|| u8::from_str_radix(digits, 16).ok())??;
        }
        Some(Self(bytes))
    }
}

/// 64 hexadecimal digits, as `sha256` has them in a list of accepted tokens.
impl fmt::Display for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

/// A token that cannot be used as a static token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokenError {
    /// Nothing but white space.
    Empty,
    /// White space, control characters, commas or characters outside ASCII.
    Unusable,
}

impl fmt::Display for TokenError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Empty => "the token is empty",
            Self::Unusable => "white space, commas, control characters and non-ASCII characters cannot stand in a bearer token",
        })
    }
}

impl core::error::Error for TokenError {}

/// A store whose value cannot be used. Nothing of the value is repeated in it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreError {
    /// A bare token that is none.
    Token(TokenError),
    /// JSON that is not a list of tokens; says what is wrong with it.
    List(String),
}

impl fmt::Display for StoreError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token(error) => error.fmt(formatter),
            Self::List(problem) => write!(formatter, "not a list of accepted tokens: {problem}"),
        }
    }
}

impl core::error::Error for StoreError {}

/// The static tokens that a gate accepts, as digests, each with an optional end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tokens(Vec<Accepted>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Accepted {
    digest: Digest,
    /// The last second at which the token passes.
    not_after: Option<u64>,
}

/// What comparing a presented token with the accepted ones gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Match {
    Accepted,
    Expired,
    Unknown,
}

impl Tokens {
    /// Accepts exactly one token, for as long as it stands here.
    ///
    /// # Errors
    /// When the token could not be presented in a bearer header.
    pub fn single(token: &str) -> Result<Self, TokenError> {
        match token.trim() {
            "" => Err(TokenError::Empty),
            token if is_token(token.as_bytes()) => {
                Ok(Self([Accepted { digest: Digest::of(token.as_bytes()), not_after: None }].into()))
            }
            _ => Err(TokenError::Unusable),
        }
    }

    /// Reads what a store holds: the bare token, or
    /// `{"tokens":[{"name":"ci","sha256":"<hex>","not_after":1767225600}]}` with `not_after` in Unix seconds, optional.
    ///
    /// # Errors
    /// When it is neither. An empty list accepts no token, and is no error: it is how all tokens are revoked.
    pub fn parse(value: &str) -> Result<Self, StoreError> {
        // JSON of any kind is never a token: it would let in whoever knows a list of hashes.
        if !value.trim_start().starts_with(['{', '[', '"']) {
            return Self::single(value).map_err(StoreError::Token);
        }
        // Only the position is repeated: the message of the parser could quote what it read.
        let Object(list): Object<TokenList> = serde_json::from_str(value).map_err(|error| {
            StoreError::List(format!("line {}, column {}: {}", error.line(), error.column(), kind_of(&error)))
        })?;
        let accepted = list.tokens.into_iter().map(|Object(entry)| {
            let digest = Digest::from_hex(&entry.sha256)
                .ok_or_else(|| StoreError::List(format!("`sha256` of `{}` is not 64 hexadecimal digits", entry.name)))?;
            Ok(Accepted { digest, not_after: entry.not_after })
        });
        accepted.collect::<Result<_, _>>().map(Self)
    }

    /// Accepts all of both.
    #[must_use]
    pub fn and(mut self, others: Self) -> Self {
        self.0.extend(others.0);
        self
    }

    /// Whether no token at all is accepted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether any of them would still pass at this time.
    pub fn has_live(&self, now: UnixTime) -> bool {
        self.0.iter().any(|accepted| accepted.not_after.is_none_or(|end| now.as_secs() <= end))
    }

    /// How many there are, those past their end included.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Compares with every accepted token, so that the time tells nothing about which one came near.
    pub(crate) fn find(&self, presented: &Digest, now: UnixTime) -> Match {
        let (mut known, mut live) = (Choice::from(0), Choice::from(0));
        for accepted in &self.0 {
            let same = accepted.digest.ct_eq(presented);
            let in_time = accepted.not_after.is_none_or(|end| now.as_secs() <= end);
            known |= same;
            live |= same & Choice::from(u8::from(in_time));
        }
        match (live.into(), known.into()) {
            (true, _) => Match::Accepted,
            (false, true) => Match::Expired,
            (false, false) => Match::Unknown,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenList {
    tokens: Vec<Object<TokenEntry>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenEntry {
    #[serde(default)]
    name: String,
    sha256: String,
    not_after: Option<u64>,
}

fn kind_of(error: &serde_json::Error) -> &'static str {
    if error.is_data() { "an unknown, missing or mistyped member" } else { "not JSON" }
}

/// A token from 32 bytes of the system's random source: base64url without padding (RFC 4648, section 5), 43 characters.
pub fn generate_token(entropy: [u8; 32]) -> Secret {
    Secret::new(BASE64_URL_SAFE_NO_PAD.encode(entropy))
}

/// Tokens of fewer characters are masked whole, since twelve characters would be too large a part of them.
const SHORTEST_SHOWN: usize = 40;

/// A token as it may be shown: `abcdefgh...wxyz`, or `***` when it is shorter than 40 characters.
pub fn mask_token(token: &str) -> String {
    let characters = token.chars().count();
    if characters < SHORTEST_SHOWN {
        return "***".to_string();
    }
    let start: String = token.chars().take(8).collect();
    let end: String = token.chars().skip(characters - 4).collect();
    format!("{start}...{end}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixTime = UnixTime::from_secs(1000);

    fn find(tokens: &Tokens, presented: &str) -> Match {
        tokens.find(&Digest::of(presented.as_bytes()), NOW)
    }

    #[test]
    fn single_tokens() {
        let tokens = Tokens::parse(" s3cret\n").unwrap();
        assert_eq!(find(&tokens, "s3cret"), Match::Accepted);
        for wrong in ["", "s3cre", "s3cret ", "S3cret", "s3crett"] {
            assert_eq!(find(&tokens, wrong), Match::Unknown, "{wrong}");
        }
        assert_eq!(Tokens::parse(" \n").unwrap_err(), StoreError::Token(TokenError::Empty));
        for unusable in ["a b", "a\tb", "a,b", "é", "a\u{7f}"] {
            assert_eq!(Tokens::single(unusable).unwrap_err(), TokenError::Unusable, "{unusable}");
        }
        assert_eq!(find(&Tokens::default(), ""), Match::Unknown);
    }

    #[test]
    fn lists() {
        // SHA-256 of "old", "new" and "gone".
        let list = r#"{"tokens":[
            {"name":"old","sha256":"cba06b5736faf67e54b07b561eae94395e774c517a7d910a54369e1263ccfbd4","not_after":1000},
            {"sha256":"11507A0E2F5E69D5DFA40A62A1BD7B6EE57E6BCD85C67C9B8431B36FFF21C437"},
            {"name":"gone","sha256":"d6f27d98b56a29ed1e6c03a3f39bf7b4b7f7b3a8a8b0f5a6d2d1f4f4c0a1b2c3","not_after":999}]}"#;
        let tokens = Tokens::parse(list).unwrap();
        assert_eq!((find(&tokens, "old"), find(&tokens, "new")), (Match::Accepted, Match::Accepted));
        assert_eq!(tokens.find(&Digest::of(b"old"), UnixTime::from_secs(1001)), Match::Expired);
        assert_eq!(find(&tokens, "other"), Match::Unknown);
        assert!(Tokens::parse(r#"{"tokens":[]}"#).unwrap().is_empty());
    }

    #[test]
    fn lists_that_are_none() {
        for (list, problem) in [
            (r#"[{"sha256":"hunter2"}]"#, "line 1"),
            (r#""hunter2""#, "line 1"),
            ("[", "line 1"),
            (r#"{"tokens":[{"name":"x","sha256":"12"}]}"#, "`x` is not 64"),
            (r#"{"tokens":[{"sha256":"+1507A0E2F5E69D5DFA40A62A1BD7B6EE57E6BCD85C67C9B8431B36FFF21C437"}]}"#, "not 64"),
            (r#"{"tokens":[{"name":"x"}]}"#, "line 1"),
            (r#"{"token":"hunter2"}"#, "line 1"),
            // What `serde` would take for a list of members.
            (r#"{"tokens":[["x","11507A0E2F5E69D5DFA40A62A1BD7B6EE57E6BCD85C67C9B8431B36FFF21C437",null]]}"#, "line 1"),
            (r#"[[{"sha256":"11507A0E2F5E69D5DFA40A62A1BD7B6EE57E6BCD85C67C9B8431B36FFF21C437"}]]"#, "line 1"),
            ("{", "not JSON"),
        ] {
            let error = Tokens::parse(list).unwrap_err().to_string();
            assert!(error.contains(problem) && !error.contains("hunter2"), "{list}: {error}");
        }
    }

    #[test]
    fn generated_and_masked() {
        let token = generate_token([0xfb; 32]);
        assert_eq!(token.reveal(), "-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_s");
        assert_eq!(format!("{token:?}"), "Secret(***)");
        let digest = Digest::of(b"old");
        assert_eq!(digest.to_string(), "cba06b5736faf67e54b07b561eae94395e774c517a7d910a54369e1263ccfbd4");
        assert_eq!(Digest::from_hex(&digest.to_string()), Some(digest));
        assert_eq!(mask_token(token.reveal()), "-_v7-_v7...7-_s");
        assert_eq!(mask_token(&format!("abcdefgh{}wxyz", "-".repeat(28))), "abcdefgh...wxyz");
        assert_eq!(mask_token(&format!("abcdefgh{}wxyz", "-".repeat(27))), "***");
    }
}
