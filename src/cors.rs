//! Cross-origin resource sharing, where the gateway answers for it (Fetch standard, section 3.2).

use alloc::{borrow::ToOwned, format, string::String, vec::Vec};

use crate::facts::{Facts, Field};

/// Whose pages may read answers and open WebSockets, as `CORS_ORIGINS` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Origins {
    any: bool,
    listed: Vec<String>,
}

impl Origins {
    /// Adds `*`, `null`, or an origin.
    pub(crate) fn add(&mut self, origin: &str) -> bool {
        match origin {
            "*" => self.any = true,
            "null" => self.listed.push(origin.to_owned()),
            _ => match serialized(origin) {
                Some(origin) => self.listed.push(origin),
                None => return false,
            },
        }
        true
    }

    /// The origin of a request, if it is one of these. `null` is everybody's who wants it: only by name.
    fn allowed<'a>(&self, origin: Field<'a>) -> Option<&'a str> {
        let Field::One(origin) = origin else { return None };
        let origin = core::str::from_utf8(origin.trim_ascii()).ok()?;
        let is_allowed = self.listed.iter().any(|listed| listed == origin) || (self.any && is_origin(origin));
        is_allowed.then_some(origin)
    }

    /// Whether a page may do this: every page may where its browser names none.
    pub(crate) fn admits(&self, facts: &Facts<'_>) -> bool {
        !facts.origin.is_present() || self.allowed(facts.origin).is_some()
    }

    pub(crate) fn sharing(&self, facts: &Facts<'_>) -> Sharing {
        let allowed = self.allowed(facts.origin);
        Sharing {
            allow_origin: allowed.map(|origin| if self.any && origin != "null" { "*".to_owned() } else { origin.to_owned() }),
        }
    }
}

/// What every answer to one request says of who may read it. The gateway's word takes the place of the upstream's, and the
/// answer to the next page's request may differ: `Vary: Origin`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sharing {
    /// `Access-Control-Allow-Origin`, if the page may read it.
    pub allow_origin: Option<String>,
}

/// What a preflight asks for: its method, and its headers if it has any.
pub(crate) fn requested<'a>(facts: &Facts<'a>) -> Option<(&'a str, Option<&'a str>)> {
    let list = |value: &'a [u8]| {
        let value = core::str::from_utf8(value.trim_ascii()).ok()?;
        value.bytes().all(|byte| is_token_byte(byte) || matches!(byte, b',' | b' ')).then_some(value)
    };
    let method = match facts.preflight_method {
        Field::One(method) => list(method).filter(|method| method.bytes().all(is_token_byte))?,
        _ => return None,
    };
    match facts.preflight_headers {
        Field::Absent => Some((method, None)),
        Field::One(headers) => Some((method, Some(list(headers)?).filter(|headers| !headers.is_empty()))),
        Field::Many => None,
    }
}

/// RFC 9110, section 5.6.2.
const fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~')
}

/// An origin as browsers write it: in lower case, and without the port of its scheme (RFC 6454, section 6.1).
fn serialized(origin: &str) -> Option<String> {
    let origin = origin.to_ascii_lowercase();
    let (scheme, authority) = origin.split_once("://")?;
    let usual_port = match scheme {
        "http" => ":80",
        "https" => ":443",
        _ => "",
    };
    let authority = authority.strip_suffix(usual_port).unwrap_or(authority);
    let origin = format!("{scheme}://{authority}");
    is_origin(&origin).then_some(origin)
}

/// `scheme://host[:port]`, whatever the scheme: pages of applications have their own.
fn is_origin(origin: &str) -> bool {
    let Some((scheme, authority)) = origin.split_once("://") else { return false };
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let is_scheme = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_host = match bare {
        Some(address) => address.parse::<core::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte)),
    };
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok();
    is_scheme && is_host && port.is_none_or(is_port)
}

#[cfg(test)]
mod tests {
    use super::{Facts, Origins, requested};

    fn origins(listed: &[&str]) -> Origins {
        let mut origins = Origins::default();
        for origin in listed {
            assert!(origins.add(origin), "{origin}");
        }
        origins
    }

    fn shared(origins: &Origins, sent: &[&str]) -> Option<alloc::string::String> {
        let mut facts = Facts::new("GET", "/", None);
        for origin in sent {
            facts.header("Origin", origin.as_bytes());
        }
        origins.sharing(&facts).allow_origin
    }

    #[test]
    fn origins_as_browsers_write_them() {
        let some = origins(&["https://A.example:443", "http://localhost:3000", "tauri://localhost", "http://[::1]:80"]);
        for origin in ["https://a.example", "http://localhost:3000", "tauri://localhost", "http://[::1]"] {
            assert_eq!(shared(&some, &[origin]).as_deref(), Some(origin));
        }
        for foreign in [
            "null",
            "",
            "http://a.example",
            "https://a.example.evil.example",
            "https://a.example:444",
            "https://a.example/",
            "https://A.example",
            "http://localhost:30000",
            "https://evil.example,https://a.example",
        ] {
            assert_eq!(shared(&some, &[foreign]), None, "{foreign}");
        }
        assert_eq!(shared(&some, &["https://a.example", "https://a.example"]), None);
        assert_eq!(shared(&some, &[]), None);
    }

    #[test]
    fn all_of_them_but_null() {
        let all = origins(&["*"]);
        assert_eq!(shared(&all, &["https://a.example"]).as_deref(), Some("*"));
        assert_eq!((shared(&all, &["null"]), shared(&all, &["x"]), shared(&all, &[])), (None, None, None));
        assert_eq!(shared(&origins(&["*", "null"]), &["null"]).as_deref(), Some("null"));
    }

    #[test]
    fn what_is_no_origin() {
        for wrong in [
            "",
            "a.example",
            "https://",
            "https://a.example/",
            "https://a.example/x",
            "https://*.a.example",
            "https://u@a.example",
        ] {
            assert!(!Origins::default().add(wrong), "{wrong}");
        }
    }

    #[test]
    fn what_a_preflight_asks_for() {
        let asked = |headers: &[(&str, &'static str)]| {
            let mut facts = Facts::new("OPTIONS", "/", None);
            for (name, value) in headers {
                facts.header(name, value.as_bytes());
            }
            requested(&facts)
        };
        let (method, headers) = (("access-control-request-method", "PUT"), ("access-control-request-headers", "a, x-b"));
        assert_eq!(asked(&[method]), Some(("PUT", None)));
        assert_eq!(asked(&[method, headers]), Some(("PUT", Some("a, x-b"))));
        assert_eq!(asked(&[("access-control-request-method", "P UT")]), None);
        assert_eq!(asked(&[method, ("access-control-request-headers", "a: b")]), None);
        assert_eq!(asked(&[method, headers, headers]), None);
    }
}
