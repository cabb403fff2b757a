//! The request that a command line describes, as the server would have read it.

use std::{
    io::{self, Read},
    net::{IpAddr, SocketAddr},
};

use clap::{Arg, ArgAction, ArgMatches, value_parser};
use hyper::{
    HeaderMap, Method, Request,
    header::{self, HeaderName, HeaderValue},
    http::request::Parts,
};

use super::Problem;

/// Larger than any request head that the server takes.
const MAX_INPUT: u64 = 64 * 1024;

/// What a command line must not hold, since every user of a machine can read it, nor an explanation show.
const SECRET_HEADERS: [&str; 4] = ["authorization", "cookie", "proxy-authorization", "x-admin-token"];

/// A request, and the address that it comes from.
pub(super) struct Described {
    pub(super) parts: Parts,
    pub(super) peer: String,
}

pub(super) fn flags() -> [Arg; 6] {
    let switch = |name: &'static str| Arg::new(name).long(name).action(ArgAction::SetTrue);
    [
        Arg::new("method").long("method").value_name("METHOD").default_value("GET").help("The method"),
        Arg::new("path")
            .long("path")
            .value_name("PATH")
            .required(true)
            .help("The path as it is sent, with its query if it has one"),
        Arg::new("header")
            .long("header")
            .value_name("NAME: VALUE")
            .action(ArgAction::Append)
            .help("A header of the request; may be given several times. `Host` is the listen address unless it is given"),
        Arg::new("peer")
            .long("peer")
            .value_name("ADDRESS")
            .value_parser(value_parser!(IpAddr))
            .default_value("127.0.0.1")
            .help("The address that the request comes from"),
        switch("token-stdin").conflicts_with("headers-stdin").help("Read a bearer token from standard input"),
        switch("headers-stdin").help("Read further headers from standard input, one a line: those with secrets in them"),
    ]
}

impl Described {
    pub(super) fn by(arguments: &ArgMatches, listen: SocketAddr) -> Result<Self, Problem> {
        let text = |name: &str| arguments.get_one::<String>(name).map_or("", String::as_str);
        let method: Method = text("method").parse().map_err(|_| Problem::Request("--method is no method of HTTP".to_owned()))?;
        let path = text("path");
        if !path.starts_with('/') {
            return Err(Problem::Request("--path must begin with /".to_owned()));
        }
        let mut request = Request::new(());
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().map_err(|error| {
            Problem::Request(format!(
                "--path cannot stand in a request ({error}): the server answers 400 before anything is judged"
            ))
        })?;
        *request.headers_mut() = headers(arguments, listen)?;
        let peer = arguments.get_one::<IpAddr>("peer").map_or_else(String::new, |peer| peer.to_canonical().to_string());
        Ok(Self { parts: request.into_parts().0, peer })
    }
}

fn headers(arguments: &ArgMatches, listen: SocketAddr) -> Result<HeaderMap, Problem> {
    let mut headers = HeaderMap::new();
    for line in arguments.get_many::<String>("header").into_iter().flatten() {
        let (name, value) = header_line(line.as_bytes())?;
        if SECRET_HEADERS.contains(&name.as_str()) {
            return Err(Problem::Request(format!(
                "{name} holds a secret, which every user of a machine could read here; use --token-stdin or --headers-stdin"
            )));
        }
        headers.append(name, value);
    }
    if arguments.get_flag("token-stdin") {
        let bearer = HeaderValue::from_bytes(&[b"Bearer ", read_input()?.trim_ascii()].concat());
        let bearer = bearer.map_err(|_| Problem::Request("the token on standard input cannot stand in a header".to_owned()))?;
        headers.append(header::AUTHORIZATION, bearer);
    }
    if arguments.get_flag("headers-stdin") {
        for line in read_input()?.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty()) {
            let (name, mut value) = header_line(line)?;
            value.set_sensitive(true);
            headers.append(name, value);
        }
    }
    if !headers.contains_key(header::HOST) {
        let host = HeaderValue::from_str(&listen.to_string());
        headers.insert(header::HOST, host.map_err(|_| Problem::Request("the listen address is no Host".to_owned()))?);
    }
    Ok(headers)
}

/// Nothing of the line is repeated where it is wrong: it may hold a secret.
fn header_line(line: &[u8]) -> Result<(HeaderName, HeaderValue), Problem> {
    let wrong = || Problem::Request("a header is not of the form `Name: value`".to_owned());
    let colon = line.iter().position(|byte| *byte == b':').ok_or_else(wrong)?;
    let (name, value) = line.split_at_checked(colon).ok_or_else(wrong)?;
    let name = HeaderName::from_bytes(name).map_err(|_| wrong())?;
    let value = value.strip_prefix(b":").unwrap_or_default().trim_ascii();
    Ok((name, HeaderValue::from_bytes(value).map_err(|_| wrong())?))
}

fn read_input() -> Result<Vec<u8>, Problem> {
    let mut input = Vec::new();
    let read = io::stdin().lock().take(MAX_INPUT + 1).read_to_end(&mut input)?;
    if read as u64 > MAX_INPUT { Err(Problem::Input(io::Error::other("it is longer than 64 KiB"))) } else { Ok(input) }
}

/// A header as it may be shown.
pub(super) fn masked(name: &HeaderName, value: &HeaderValue) -> String {
    if name == header::AUTHORIZATION {
        // An unknown scheme may be part of a secret.
        let is_of = |scheme: &&str| value.as_bytes().strip_prefix(scheme.as_bytes()).is_some_and(|rest| rest.starts_with(b" "));
        ["Bearer", "Basic"].into_iter().find(is_of).map_or_else(|| "***".to_owned(), |scheme| format!("{scheme} ***"))
    } else if value.is_sensitive() || SECRET_HEADERS.contains(&name.as_str()) {
        "***".to_owned()
    } else {
        String::from_utf8_lossy(value.as_bytes()).into_owned()
    }
}
