//! A set of public keys (RFC 7517): its strict reading, and the one key of it that a token means.

use alloc::{sync::Arc, vec::Vec};

use super::{Algorithm, Key, Thumbprint};
use crate::json::Json;

/// Larger than any honest key set.
pub const MAX_JWKS: usize = 64 * 1024;

/// More keys than a rotation ever needs at once.
const MAX_KEYS: usize = 64;

/// A set of public keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Jwks(Vec<Key>);

impl Jwks {
    /// Reads a key set. A key that is not for verifying, or of a kind that is not served, is passed over; an empty set
    /// is a project whose tokens are signed with its secret.
    ///
    /// Nothing if it is no key set at all.
    pub fn parse(document: &[u8]) -> Option<Self> {
        if document.len() > MAX_JWKS {
            return None;
        }
        let document = Json::parse(document)?;
        let keys = document.get("keys")?.as_array()?;
        (keys.len() <= MAX_KEYS).then(|| Self(keys.iter().filter_map(Key::parse).collect()))
    }

    /// Whether no key in it can verify anything.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All keys that can verify something.
    pub fn iter(&self) -> impl Iterator<Item = &Key> {
        self.0.iter()
    }

    /// The one key that a token can mean. Two that fit are none: nobody knows which of them the issuer meant.
    pub(crate) fn select(self: &Arc<Self>, algorithm: Algorithm, id: Option<&str>) -> Option<SelectedKey> {
        let fits = |key: &Key| key.algorithm == algorithm && id.is_none_or(|id| key.id.as_deref() == Some(id));
        let mut fitting = self.0.iter().enumerate().filter(|(_, key)| fits(key)).map(|(index, _)| index);
        match (fitting.next(), fitting.next()) {
            (Some(index), None) => Some(SelectedKey { keys: Arc::clone(self), index }),
            _ => None,
        }
    }
}

/// A key of a set that outlives it.
#[derive(Clone, Debug)]
pub(crate) struct SelectedKey {
    keys: Arc<Jwks>,
    index: usize,
}

impl SelectedKey {
    pub(crate) fn get(&self) -> Option<&Key> {
        self.keys.0.get(self.index)
    }

    pub(crate) fn thumbprint(&self) -> Option<Thumbprint> {
        self.get().map(|key| key.thumbprint)
    }
}

#[cfg(test)]
mod tests {
    use super::Jwks;
    use crate::keys::{
        Algorithm,
        tests::{POINT, set},
    };
    use alloc::{format, sync::Arc};

    #[test]
    fn exactly_one_key_must_fit() {
        let keys = Arc::new(set(&["a", "b", "b"]));
        assert!(keys.select(Algorithm::Es256, Some("a")).is_some());
        assert!(keys.select(Algorithm::Es256, Some("b")).is_none());
        assert!(keys.select(Algorithm::Es256, None).is_none());
        assert!(keys.select(Algorithm::Rs256, Some("a")).is_none());
        assert!(Arc::new(set(&["a"])).select(Algorithm::Es256, None).is_some());
    }

    #[test]
    fn keys_that_are_not_for_this_are_passed_over() {
        for key in [
            format!(r#"{{"kty":"EC","crv":"P-256","use":"enc",{POINT}}}"#),
            format!(r#"{{"kty":"EC","crv":"P-256","alg":"RS256",{POINT}}}"#),
            format!(r#"{{"kty":"EC","crv":"P-256","key_ops":["sign"],{POINT}}}"#),
            format!(r#"{{"kty":"EC","crv":"P-384",{POINT}}}"#),
            r#"{"kty":"oct","k":"c2VjcmV0"}"#.into(),
            r#"{"kty":"RSA","n":"AQAB","e":"AQAB"}"#.into(),
            r#"{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}"#.into(),
            "3".into(),
        ] {
            assert_eq!(Jwks::parse(format!(r#"{{"keys":[{key}]}}"#).as_bytes()), Some(Jwks::default()), "{key}");
        }
        for document in ["", "[]", "{}", r#"{"keys":{}}"#, r#"{"keys":[],"keys":[]}"#] {
            assert_eq!(Jwks::parse(document.as_bytes()), None, "{document}");
        }
    }
}
