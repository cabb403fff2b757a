//! Where a WebSocket upgrade may carry its token. A web page can set no header on one: what remains to it is the list of
//! subprotocols, or the query.

use alloc::{borrow::Cow, string::String, vec::Vec};

use crate::{
    credential::{Credential, is_token, trim},
    facts::Facts,
    path::percent_decoded,
};

/// What goes before the token among the subprotocols, and is answered in its place.
pub(crate) const SUBPROTOCOL: &str = "bearer";

/// The parameters that NodeTool's clients have their token in.
const PARAMETERS: [&[u8]; 2] = [b"api_key", b"token"];

/// Where an upgrade may carry its token, as `AUTH_WS_TOKEN_SOURCES` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TokenSources {
    pub(crate) header: bool,
    pub(crate) protocol: bool,
    pub(crate) query: bool,
}

impl TokenSources {
    /// The one credential of an upgrade. In two places there are two, and nobody knows which one somebody else would read.
    pub(crate) fn credential<'a>(self, facts: &'a Facts<'a>) -> Credential<'a> {
        let header = if self.header { Credential::parse(facts.authorization) } else { Credential::None };
        let protocol = if self.protocol { Offer::of(&facts.subprotocols).credential() } else { Credential::None };
        let query = if self.query { facts.query_token.credential() } else { Credential::None };
        let mut found = [header, protocol, query].into_iter().filter(|credential| *credential != Credential::None);
        match (found.next(), found.next()) {
            (None, _) => Credential::None,
            (Some(credential), None) => credential,
            _ => Credential::Malformed,
        }
    }
}

/// The subprotocols that a client offers (RFC 6455, section 4.1): `bearer, <token>[, others]`, if one of them is a token.
pub(crate) struct Offer<'a>(Vec<&'a [u8]>);

impl<'a> Offer<'a> {
    pub(crate) fn of(lines: &[&'a [u8]]) -> Self {
        Self(lines.iter().flat_map(|line| line.split(|byte| *byte == b',')).map(trim).filter(|item| !item.is_empty()).collect())
    }

    fn credential(&self) -> Credential<'a> {
        let is_marker = |item: &&[u8]| item.eq_ignore_ascii_case(SUBPROTOCOL.as_bytes());
        match self.0.as_slice() {
            items if !items.iter().any(is_marker) => Credential::None,
            [marker, token, others @ ..]
                if *marker == SUBPROTOCOL.as_bytes() && is_token(token) && !others.iter().any(is_marker) =>
            {
                Credential::Bearer(token)
            }
            _ => Credential::Malformed,
        }
    }

    /// What is left for the upstream, if a token was among them; perhaps nothing.
    pub(crate) fn without_token(&self) -> Option<String> {
        let named = match self.credential() {
            Credential::None => return None,
            Credential::Bearer(_) => 2,
            // Any of them may be one.
            Credential::Malformed => self.0.len(),
        };
        // What is no name of a subprotocol would make a header that none can carry.
        let others = self.0.iter().skip(named).filter(|item| is_token(item)).filter_map(|item| core::str::from_utf8(item).ok());
        Some(others.collect::<Vec<_>>().join(", "))
    }
}

/// What the query has of a token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum QueryToken<'a> {
    #[default]
    Absent,
    /// Percent-decoded.
    One(Cow<'a, [u8]>),
    Many,
}

impl<'a> QueryToken<'a> {
    pub(crate) fn of(query: &'a str) -> Self {
        let mut tokens = query.split('&').filter_map(|parameter| {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            names_token(name).then(|| decoded(value))
        });
        match (tokens.next(), tokens.next()) {
            (None, _) => Self::Absent,
            (Some(token), None) => Self::One(token),
            _ => Self::Many,
        }
    }

    fn credential(&'a self) -> Credential<'a> {
        match self {
            Self::Absent => Credential::None,
            Self::One(token) if token.is_empty() => Credential::None,
            Self::One(token) if is_token(token) => Credential::Bearer(token),
            Self::One(_) | Self::Many => Credential::Malformed,
        }
    }

    /// The query without it, if it is there.
    pub(crate) fn removed_from(&self, query: &str) -> Option<String> {
        if *self == Self::Absent {
            return None;
        }
        let name =
            |parameter: &str| parameter.split_once('=').is_some_and(|(name, _)| names_token(name)) || names_token(parameter);
        Some(query.split('&').filter(|parameter| !name(parameter)).collect::<Vec<_>>().join("&"))
    }
}

/// Whether a server would read this as the name of such a parameter.
fn names_token(name: &str) -> bool {
    PARAMETERS.contains(&&*decoded(name))
}

fn decoded(text: &str) -> Cow<'_, [u8]> {
    if text.contains('%') { Cow::Owned(percent_decoded(text.as_bytes())) } else { Cow::Borrowed(text.as_bytes()) }
}

#[cfg(test)]
mod tests {
    use super::{Credential, Offer, QueryToken};

    #[test]
    fn tokens_among_subprotocols() {
        for (lines, credential, rest) in [
            (&[][..], Credential::None, None),
            (&["chat, superchat"], Credential::None, None),
            (&["bearer, abc.d"], Credential::Bearer(b"abc.d"), Some("")),
            (&["bearer,abc"], Credential::Bearer(b"abc"), Some("")),
            (&["bearer", "abc", "chat"], Credential::Bearer(b"abc"), Some("chat")),
            (&["bearer, abc, chat, superchat"], Credential::Bearer(b"abc"), Some("chat, superchat")),
            (&["bearer, abc, ch\rat, \u{1}, superchat"], Credential::Bearer(b"abc"), Some("superchat")),
            (&["bearer"], Credential::Malformed, Some("")),
            (&["bearer, "], Credential::Malformed, Some("")),
            (&["Bearer, abc"], Credential::Malformed, Some("")),
            (&["chat, bearer, abc"], Credential::Malformed, Some("")),
            (&["bearer, abc, bearer, def"], Credential::Malformed, Some("")),
            (&["bearer, a bc"], Credential::Malformed, Some("")),
        ] {
            let lines: alloc::vec::Vec<&[u8]> = lines.iter().map(|line| line.as_bytes()).collect();
            let offer = Offer::of(&lines);
            assert_eq!(offer.credential(), credential, "{lines:?}");
            assert_eq!(offer.without_token().as_deref(), rest, "{lines:?}");
        }
    }

    #[test]
    fn tokens_in_queries() {
        for (query, credential, rest) in [
            ("", Credential::None, None),
            ("a=b&tokens=c", Credential::None, None),
            ("token=abc", Credential::Bearer(b"abc"), Some("")),
            ("api_key=abc", Credential::Bearer(b"abc"), Some("")),
            ("a=%2F&token=abc&b", Credential::Bearer(b"abc"), Some("a=%2F&b")),
            ("token=a%2Bb%3d", Credential::Bearer(b"a+b="), Some("")),
            ("token=a%252Bb", Credential::Bearer(b"a%2Bb"), Some("")),
            ("%74oken=abc&&x=1", Credential::Bearer(b"abc"), Some("&x=1")),
            ("api%5Fkey=abc", Credential::Bearer(b"abc"), Some("")),
            ("token=", Credential::None, Some("")),
            ("token&a", Credential::None, Some("a")),
            ("token=a=b", Credential::Bearer(b"a=b"), Some("")),
            ("token=a%20b", Credential::Malformed, Some("")),
            ("token=a,b", Credential::Malformed, Some("")),
            ("token=a&token=a", Credential::Malformed, Some("")),
            ("token=a&api_key=b&c", Credential::Malformed, Some("c")),
            ("Token=a", Credential::None, None),
        ] {
            let token = QueryToken::of(query);
            assert_eq!(token.credential(), credential, "{query}");
            assert_eq!(token.removed_from(query).as_deref(), rest, "{query}");
        }
    }
}
