//! Forward-auth: a proxy that serves requests itself asks at `/.auth/verify` whether one may pass, and describes it in headers.

use crate::facts::Field;

/// Where proxies ask. Any method does: some ask with that of the request in question.
pub(crate) const PATH: &str = "/.auth/verify";

/// What headers say of a request in question: in one of the two manners that proxies have, never in both. They mean
/// nothing anywhere else.
#[derive(Clone, Debug)]
pub(crate) struct Description<'a> {
    /// `X-Forwarded-Method` and `X-Forwarded-Uri`: Caddy, Traefik.
    forwarded: [Field<'a>; 2],
    /// `X-Original-Method` and `X-Original-URI`: nginx, by custom.
    original: [Field<'a>; 2],
}

impl<'a> Description<'a> {
    pub(crate) const NONE: Self = Self { forwarded: [Field::Absent; 2], original: [Field::Absent; 2] };

    /// Takes note of a header line.
    pub(crate) fn header(&mut self, name: &str, value: &'a [u8]) {
        let is = |expected: &str| name.eq_ignore_ascii_case(expected);
        let ([forwarded_method, forwarded_uri], [original_method, original_uri]) = (&mut self.forwarded, &mut self.original);
        match name.len() {
            14 if is("x-original-uri") => original_uri.add(value),
            15 if is("x-forwarded-uri") => forwarded_uri.add(value),
            17 if is("x-original-method") => original_method.add(value),
            18 if is("x-forwarded-method") => forwarded_method.add(value),
            _ => {}
        }
    }

    /// Method, path and query; nothing unless exactly one request is described. A header that came twice may be that of
    /// the client beside that of the proxy; some platforms join the two by a comma and a space, which no target has.
    pub(crate) fn read(&self) -> Option<(&'a str, &'a str, Option<&'a str>)> {
        let (method, uri) = match (self.forwarded, self.original) {
            ([Field::One(method), Field::One(uri)], [Field::Absent, Field::Absent])
            | ([Field::Absent, Field::Absent], [Field::One(method), Field::One(uri)]) => (method, uri),
            _ => return None,
        };
        let is_method = !method.is_empty() && method.iter().all(|byte| byte.is_ascii_alphabetic() || *byte == b'-');
        let is_target = uri.iter().all(u8::is_ascii_graphic);
        let (method, uri) = (core::str::from_utf8(method).ok()?, core::str::from_utf8(uri).ok()?);
        let (path, query) = uri.split_once('?').map_or((uri, None), |(path, query)| (path, Some(query)));
        (is_method && is_target).then_some((method, path, query))
    }
}

#[cfg(test)]
mod tests {
    use super::Description;

    #[test]
    fn exactly_one_request_is_described() {
        let read = |headers: &[(&str, &'static str)]| {
            let mut description = Description::NONE;
            for (name, value) in headers {
                description.header(name, value.as_bytes());
            }
            description.read()
        };
        let (method, uri) = (("X-Forwarded-Method", "GET"), ("x-forwarded-uri", "/a?b?c"));
        let (original_method, original_uri) = (("X-ORIGINAL-METHOD", "POST"), ("X-Original-URI", "/a"));
        assert_eq!(read(&[method, uri]), Some(("GET", "/a", Some("b?c"))));
        assert_eq!(read(&[original_uri, original_method]), Some(("POST", "/a", None)));
        for wrong in [
            &[][..],
            &[method],
            &[uri],
            &[method, original_uri],
            &[method, uri, original_uri],
            &[method, uri, original_method],
            &[method, uri, original_method, original_uri],
            &[method, uri, uri],
            &[method, method, uri],
            &[("x-forwarded-method", "GET, OPTIONS"), uri],
            &[("x-forwarded-method", ""), uri],
            &[method, ("x-forwarded-uri", "/health, /admin")],
            &[method, ("x-forwarded-uri", "/h\u{e4}")],
            &[method, ("x_forwarded_uri", "/")],
        ] {
            assert_eq!(read(wrong), None, "{wrong:?}");
        }
    }
}
