use std::{ptr, str, time::Duration};

use crate::{
    STATIC,
    exchange::{Exchange, exchange},
    http1::{Kind, Message, find},
    second_opinion::{is_under, readings},
};

pub(crate) const ADMIN_TOKEN: &str = "the-admin-token-of-a-fuzzed-gate";

/// Between what the client sends and each answer of the upstream. All single bytes must be free for both.
const SEPARATOR: &[u8] = b"\n====\n";

/// Where the client waits until nobody has anything more to say.
const PAUSE: &[u8] = b"\n~~~~\n";

/// How the body of an answer begins that is none of the input's. What it goes on with is the id of the request.
pub(crate) const HONEST: &[u8] = b"honest ";

/// The bytes of a client's connection, and the answers of an upstream to the first requests that it gets; further requests get
/// honest ones. An answer that begins with `!` does not wait for the body, and after one that begins with `.` the upstream closes.
///
/// Whatever comes in, what the upstream gets are requests that were judged, and no others, and what the client gets are answers
/// to its own; both such that no other reader can take them for anything else. Accepted is what reaches the upstream.
pub fn proxy(data: &[u8]) -> bool {
    let mut parts = split(data, SEPARATOR);
    let answers = parts.split_off(1);
    let pieces = split(parts[0], PAUSE);
    let client = pieces.concat();
    let sent = Sent::of(&client);
    let (accepted, is_missed) = judge(&sent, exchange(&pieces, &answers, Duration::ZERO), data);
    // Perhaps it was only late.
    let is_missed = is_missed && judge(&sent, exchange(&pieces, &answers, Duration::from_millis(200)), data).1;
    assert!(!is_missed, "an honest request does not arrive");
    accepted
}

/// Whether anything reached the upstream, and whether what should have did not.
fn judge(sent: &Sent<'_>, exchange: Exchange, data: &[u8]) -> (bool, bool) {
    let received = received(&exchange);
    for request in &received {
        assert_is_judged(request, sent);
    }
    if !sent.is_http2 {
        let mut vouched: Vec<_> = received.iter().filter(|request| request.is_vouched_for()).map(Received::id).collect();
        // The same request may be sent once more.
        vouched.sort_unstable();
        vouched.dedup();
        assert!(vouched.len() <= sent.tokens, "{} requests passed with {} tokens", vouched.len(), sent.tokens);
    }
    assert_answers_are_own(&exchange, &received, sent, find(data, HONEST).is_some());
    let Some(requests) = &sent.requests else { return (!received.is_empty(), false) };
    assert_are_those(&received, requests);
    let honest = requests.first().filter(|first| is_simple(first) && !exchange.was_switched);
    let is_missed = honest.is_some_and(|first| received.first().is_none_or(|request| request.message.line != first.line));
    (!received.is_empty(), is_missed)
}

fn split<'a>(mut data: &'a [u8], separator: &[u8]) -> Vec<&'a [u8]> {
    let mut parts = Vec::new();
    while let Some(at) = find(data, separator) {
        parts.push(&data[..at]);
        data = &data[at + separator.len()..];
    }
    parts.push(data);
    parts
}

/// What can be known of a client's bytes without asking the gateway.
struct Sent<'a> {
    bytes: &'a [u8],
    is_http2: bool,
    /// How often the token is among them.
    tokens: usize,
    /// What they say, if nobody can read them in another way.
    requests: Option<Vec<Message<'a>>>,
}

impl<'a> Sent<'a> {
    fn of(bytes: &'a [u8]) -> Self {
        let tokens = bytes.windows(STATIC.len()).filter(|window| *window == STATIC.as_bytes()).count();
        Self { bytes, is_http2: bytes.starts_with(b"PRI * HTTP/2.0"), tokens, requests: messages(bytes) }
    }
}

fn messages(mut bytes: &[u8]) -> Option<Vec<Message<'_>>> {
    let mut messages = Vec::new();
    while let Some(message) = Message::read(bytes, Kind::Request).ok()? {
        bytes = &bytes[message.length..];
        messages.push(message);
    }
    // A head that is not whole may still become anything.
    bytes.is_empty().then_some(messages)
}

/// A request as the upstream got it.
struct Received<'a> {
    message: Message<'a>,
    answer: Option<&'a [u8]>,
}

impl<'a> Received<'a> {
    fn one(&self, name: &str) -> Option<&'a [u8]> {
        let values = self.message.values(name);
        assert!(values.len() < 2, "{name} more than once");
        values.first().copied()
    }

    fn id(&self) -> &'a [u8] {
        self.one("x-request-id").expect("a request without an id")
    }

    fn is_vouched_for(&self) -> bool {
        self.one("x-user-id").is_some()
    }

    fn is_to_head(&self) -> bool {
        self.message.line[0] == b"HEAD"
    }
}

fn received(exchange: &Exchange) -> Vec<Received<'_>> {
    for connection in &exchange.connections {
        // All of it is requests, and nothing between them.
        let (mut bytes, mut known) = (&connection.bytes[..connection.tunnel_at.unwrap_or(connection.bytes.len())], 0);
        while let Some(message) = clean(bytes) {
            bytes = &bytes[message.length..];
            known += 1;
        }
        assert!(bytes.is_empty() || connection.tunnel_at.is_none(), "a switch in the middle of a head");
        assert_eq!(
            known,
            exchange.arrivals.iter().filter(|arrival| ptr::eq(exchange.connection_of(arrival), connection)).count()
        );
    }
    let arrivals = exchange.arrivals.iter();
    arrivals
        .map(|arrival| {
            let connection = exchange.connection_of(arrival);
            let end = connection.tunnel_at.unwrap_or(connection.bytes.len());
            let message = clean(&connection.bytes[arrival.at..end]).expect("a head that had been whole");
            Received { message, answer: arrival.answer.as_deref() }
        })
        .collect()
}

fn clean(bytes: &[u8]) -> Option<Message<'_>> {
    Message::read(bytes, Kind::Request).unwrap_or_else(|unclean| panic!("what the upstream gets is unclean: {}", unclean.0))
}

/// The path may be served to whom it is served, and the headers are the gateway's where they must be.
fn assert_is_judged(request: &Received<'_>, sent: &Sent<'_>) {
    let [method, target, _] = request.message.line;
    let target = str::from_utf8(target).unwrap();
    let path = target.split_once('?').map_or(target, |(path, _)| path);
    assert!(path.starts_with('/'), "the target {target}");
    assert!(sent.is_http2 || find(sent.bytes, target.as_bytes()).is_some(), "nobody asked for {target}");
    let shown = || format!("{} {target} {:?}", method.escape_ascii(), request.message.headers);

    let dashed = |name: &str| name.replace(|sign: char| !sign.is_ascii_alphanumeric(), "-");
    for (name, _) in &request.message.headers {
        let meant = dashed(name);
        let is_ours =
            ["x-user-id", "x-auth-token-type", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-request-id"]
                .contains(&&**name);
        let is_dropped = [
            "x-user-id",
            "x-auth-role",
            "x-auth-token-type",
            "x-admin-token",
            "x-original-url",
            "x-original-uri",
            "x-original-method",
            "x-rewrite-url",
            "x-request-id",
            "forwarded",
            "x-real-ip",
            "true-client-ip",
        ];
        let is_credential = name.eq_ignore_ascii_case("x-admin-token");
        assert!(
            is_ours || is_credential || !(is_dropped.contains(&&*meant) || meant.starts_with("x-forwarded-")),
            "{name} goes on: {}",
            shown()
        );
        assert!(
            !["te", "trailer", "keep-alive", "proxy-connection", "expect", "http2-settings"].contains(&&*meant),
            "{name} goes on: {}",
            shown()
        );
        assert!(!is_ours || request.one(name).is_some());
    }
    assert_eq!(request.message.trailers, 0, "{}", shown());
    assert_eq!(request.one("x-forwarded-for"), Some(&b"127.0.0.1"[..]), "{}", shown());
    assert!(request.one("host").is_some_and(|host| host.starts_with(b"127.0.0.1:")), "{}", shown());
    let is_upgrade = request.one("upgrade").is_some();
    match request.one("connection") {
        None | Some(b"close") => assert!(!is_upgrade, "{}", shown()),
        Some(b"Upgrade") => assert!(is_upgrade && method == b"GET", "{}", shown()),
        _ => panic!("{}", shown()),
    }

    let has_body = !request.message.values("transfer-encoding").is_empty()
        || request.message.values("content-length").iter().any(|length| *length != b"0");
    let asks = matches!(method, b"GET" | b"HEAD" | b"OPTIONS");
    assert!(!(has_body && asks), "a body where some expect none: {}", shown());
    let falls_under = |area: &str| readings(path).iter().any(|reading| is_under(reading, area));
    assert!(["/.auth", "/terminal", "/ws/terminal"].into_iter().all(|area| !falls_under(area)), "{}", shown());
    if request.is_vouched_for() {
        assert_eq!(
            [request.one("x-user-id"), request.one("x-auth-token-type")],
            [Some(&b"1"[..]), Some(b"static")],
            "{}",
            shown()
        );
        assert!(sent.is_http2 || !falls_under("/admin") || find(sent.bytes, ADMIN_TOKEN.as_bytes()).is_some(), "{}", shown());
    } else {
        let is_public = matches!(method, b"GET" | b"HEAD") && ["/health", "/ping"].contains(&path);
        let is_preflight =
            method == b"OPTIONS" && request.one("origin").is_some() && request.one("access-control-request-method").is_some();
        assert!((is_public || is_preflight) && !is_upgrade, "nobody's request: {}", shown());
    }
}

/// What was sent clearly arrives in its order, with its body, or not at all.
fn assert_are_those(received: &[Received<'_>], sent: &[Message<'_>]) {
    let mut rest = sent.iter();
    for (index, request) in received.iter().enumerate() {
        let [method, target, _] = request.message.line;
        let again = |other: &Received<'_>| other.id() == request.id() && other.message.line == request.message.line;
        if received[index + 1..].iter().any(again) {
            continue;
        }
        let is_it = |message: &&Message<'_>| {
            // hyper cuts a fragment off, which no target has, before anybody sees it.
            let asked = message.line[1].split(|byte| *byte == b'#').next().unwrap_or_default();
            let is_same = message.line[0] == method && asked.ends_with(target);
            let (whole, seen) = (&message.body, &request.message.body);
            is_same
                && if request.message.is_whole && message.is_whole {
                    whole == seen
                } else {
                    whole.starts_with(seen) && !request.message.is_whole
                }
        };
        assert!(
            rest.any(|message| is_it(&message)),
            "no such request was sent, or not at this place: {} {}",
            method.escape_ascii(),
            target.escape_ascii()
        );
    }
}

/// A request with nothing about it: of a good token, to a plain path.
fn is_simple(message: &Message<'_>) -> bool {
    let [method, target, _] = message.line;
    let is_path = target.strip_prefix(b"/v1/").is_some_and(|name| !name.is_empty() && name.iter().all(u8::is_ascii_alphanumeric));
    let has_body = message.headers.iter().any(|(name, _)| ["content-length", "transfer-encoding"].contains(&&**name));
    let bearer = format!("Bearer {STATIC}");
    let names: Vec<&str> = message
        .headers
        .iter()
        .map(|(name, _)| &**name)
        .filter(|name| !["content-length", "transfer-encoding"].contains(name))
        .collect();
    let framing = message.headers.len() - names.len();
    message.is_whole
        && message.trailers == 0
        && framing <= 1
        && is_path
        && names == ["host", "authorization"]
        && message.values("host")[0] == b"x"
        && message.values("authorization")[0] == bearer.as_bytes()
        && (method == b"POST" || method == b"GET" && !has_body)
}

/// Every answer is clean, and the one to the request whose id it has.
fn assert_answers_are_own(exchange: &Exchange, received: &[Received<'_>], sent: &Sent<'_>, has_lies: bool) {
    // Without the method nobody can tell where an answer ends.
    let is_readable = sent.requests.is_some() || find(sent.bytes, b"HEAD").is_none();
    if sent.is_http2 || !is_readable {
        return;
    }
    let (mut bytes, mut index) = (&exchange.answered[..], 0);
    while !bytes.is_empty() {
        let asked = sent.requests.as_ref().map(|requests| requests.get(index).expect("an answer to nothing"));
        let is_to_head = asked.is_some_and(|request| request.line[0] == b"HEAD");
        let answer = match Message::read(bytes, Kind::Response { is_to_head }) {
            Ok(Some(answer)) => answer,
            Ok(None) => panic!("half a head: {}", bytes.escape_ascii()),
            Err(unclean) => panic!("what the client gets is unclean: {}", unclean.0),
        };
        bytes = &bytes[answer.length..];
        let status = answer.status().expect("a status is a number");
        if (100..200).contains(&status) && status != 101 {
            continue;
        }
        index += 1;
        if let [id] = answer.values("x-request-id")[..] {
            assert_is_answer_to(&answer, id, received, has_lies);
        } else {
            assert!(answer.values("x-request-id").is_empty() && status >= 400, "an answer without an id");
        }
        assert!(status != 101 || exchange.was_switched, "nobody has asked for a switch");
        if status == 101 || !answer.is_whole {
            return;
        }
    }
}

fn assert_is_answer_to(answer: &Message<'_>, id: &[u8], received: &[Received<'_>], has_lies: bool) {
    if let Some(named) = answer.body.strip_prefix(HONEST).filter(|_| !has_lies && answer.is_whole) {
        assert_eq!(named.escape_ascii().to_string(), id.escape_ascii().to_string(), "somebody else's answer");
    }
    // An id of the client's own choice may be that of several requests.
    let mut own = received.iter().filter(|request| request.id() == id);
    let (Some(request), None) = (own.next(), own.next()) else { return };
    let Some(answered) = request.answer.and_then(|bytes| only_message(bytes, request.is_to_head())) else { return };
    if answer.is_whole && answer.status() == answered.status() {
        assert_eq!(answer.body, answered.body, "not what the upstream said");
    }
}

/// What an upstream says so clearly that it cannot be taken for anything else.
fn only_message(bytes: &[u8], is_to_head: bool) -> Option<Message<'_>> {
    let message = Message::read(bytes, Kind::Response { is_to_head }).ok()??;
    (message.is_whole && !message.is_open && message.length == bytes.len() && message.status()? >= 200).then_some(message)
}
