use std::{net::IpAddr, str, sync::LazyLock};

use nodetool_edge_auth::{Action, Answer, Facts, Finish, Forward, Gate, Pass, Verdict};

use crate::{
    NOW, STATIC, gate, judge, policy,
    second_opinion::{is_under, readings},
};

const PEER: &str = "10.0.0.1";
const PAGE: &str = "https://app.test";
const IDENTITY: [&str; 3] = ["x-user-id", "x-auth-token-type", "x-auth-role"];

/// By what proxies tell whose the request is, besides what the gateway says itself.
const OF_PROXIES: [&str; 10] = [
    "cf-connecting-ip",
    "cf-connecting-ipv6",
    "client-ip",
    "fastly-client-ip",
    "forwarded",
    "true-client-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-original-forwarded-for",
    "x-real-ip",
];

/// Plain; behind a trusted proxy; with pages that may read; with tokens anywhere in an upgrade, and the credential for the gateway alone.
static GATES: LazyLock<[Gate; 4]> = LazyLock::new(|| {
    let with =
        |settings: &[(&str, &str)]| gate(policy(&[&[("AUTH_PROVIDER", "static"), ("AUTH_VERIFY_OPEN", "1")], settings].concat()));
    [
        with(&[]),
        with(&[("AUTH_TRUSTED_PROXIES", "10.0.0.0/8, 2001:db8::/32")]),
        with(&[("CORS_ORIGINS", PAGE)]),
        with(&[("AUTH_WS_TOKEN_SOURCES", "header,protocol,query"), ("AUTH_FORWARD_AUTHORIZATION", "strip")]),
    ]
});

/// A request: which gate, method and target on the first line, then a header on each. Accepted is one that goes on.
pub fn headers(data: &[u8]) -> bool {
    let Some(request) = Request::of(data) else { return false };
    let gate = &GATES[request.gate];
    let facts = request.facts();
    let verdict = judge(gate, &facts).verdict;
    request.assert_client(gate, &facts);
    let goes_on = match Action::of(&verdict, gate.policy(), &facts, NOW) {
        Action::Forward(forward) => {
            request.assert_goes_on(&forward, &verdict);
            request.assert_shared(forward.finish());
            true
        }
        Action::Respond(answer) => {
            request.assert_answered(&answer);
            false
        }
    };
    request.assert_proxies_hear_the_same(gate, &verdict);
    goes_on
}

struct Request<'a> {
    gate: usize,
    method: &'a str,
    path: &'a str,
    query: Option<&'a str>,
    headers: Vec<(&'a str, &'a [u8])>,
}

impl<'a> Request<'a> {
    fn of(data: &'a [u8]) -> Option<Self> {
        let mut lines = data.split(|byte| *byte == b'\n');
        let mut words = str::from_utf8(lines.next()?).ok()?.splitn(3, ' ');
        let (gate, method, target) = (words.next()?.parse().ok()?, words.next()?, words.next()?);
        let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
        let headers = lines.filter_map(|line| {
            let (name, value) = line.split_at(line.iter().position(|byte| *byte == b':')?);
            // The parsers of both hosts let no other names through.
            let name =
                str::from_utf8(name).ok().filter(|name| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic()))?;
            Some((name, value[1..].trim_ascii()))
        });
        (gate < GATES.len()).then(|| Self { gate, method, path, query, headers: headers.collect() })
    }

    fn facts(&self) -> Facts<'a> {
        self.facts_with(&self.headers, self.method, self.path, self.query)
    }

    fn facts_with(&self, headers: &[(&'a str, &'a [u8])], method: &'a str, path: &'a str, query: Option<&'a str>) -> Facts<'a> {
        let mut facts = Facts::new(method, path, query);
        facts.peer(PEER);
        for (name, value) in headers {
            facts.header(name, value);
        }
        facts.subject();
        facts
    }

    fn values(&self, wanted: &str) -> impl Iterator<Item = &'a [u8]> {
        self.headers.iter().filter(move |(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| *value)
    }

    fn is_behind_a_proxy(&self) -> bool {
        self.gate == 1
    }

    /// Whose the request is: from the right, the first that is none of our proxies, and nothing beyond what cannot be read.
    fn assert_client(&self, gate: &Gate, facts: &Facts<'_>) {
        let named: Vec<&[u8]> = self.values("x-forwarded-for").flat_map(|line| line.split(|byte| *byte == b',')).collect();
        let mut expected = Some(PEER.parse().unwrap());
        for hop in named.into_iter().rev().filter(|_| self.is_behind_a_proxy()) {
            let Some(address) = str::from_utf8(hop).ok().and_then(|hop| address(hop.trim())) else { break };
            expected = Some(address);
            if !is_ours(address) {
                break;
            }
        }
        assert_eq!(gate.policy().client(facts).and_then(address), expected);
    }

    fn assert_goes_on(&self, forward: &Forward<'_>, verdict: &Verdict) {
        let Verdict::Pass(Pass { identity, .. }) = verdict else { panic!("a refusal goes on") };
        let kept: Vec<_> = self.headers.iter().filter(|(name, _)| forward.keeps(name)).collect();
        let set: Vec<_> = forward.sets().collect();
        let value = |wanted: &str| {
            let mut values = set.iter().filter(|(name, _)| *name == wanted).map(|(_, value)| *value);
            let value = values.next();
            assert!(values.next().is_none(), "{wanted} is set twice");
            value
        };
        let expected = if identity.is_some() { [Some("1"), Some("static"), None] } else { [None; 3] };
        assert_eq!(IDENTITY.map(value), expected);
        // The gateways of these settings have no credential of their own: what is set is a token that the client sent.
        let is_of_client = |bearer: &str| bearer.strip_prefix("Bearer ") == Some(STATIC) && identity.is_some() && self.gate != 3;
        assert!(value("authorization").is_none_or(is_of_client), "a credential that is not the client's");

        let connection: Vec<&[u8]> =
            self.values("connection").flat_map(|line| line.split(|byte| *byte == b',')).map(<[u8]>::trim_ascii).collect();
        for (name, _) in &kept {
            let meant = meant(name);
            assert!(!set.iter().any(|(set, _)| meant == *set), "{name} goes on beside the gateway's own");
            assert!(!connection.iter().any(|listed| listed.eq_ignore_ascii_case(name.as_bytes())), "{name} is of the connection");
            let is_of_our_proxy = self.is_behind_a_proxy()
                && (OF_PROXIES.contains(&&*name.to_ascii_lowercase()) || name.eq_ignore_ascii_case("x-forwarded-port"));
            let names_another = [
                "x-user-id",
                "x-auth-role",
                "x-auth-token-type",
                "x-admin-token",
                "x-original-url",
                "x-original-uri",
                "x-original-method",
                "x-rewrite-url",
            ];
            assert!(
                is_of_our_proxy
                    || (name.eq_ignore_ascii_case("x-admin-token") && self.gate != 3)
                    || !(names_another.contains(&&*meant) || OF_PROXIES.contains(&&*meant) || meant.starts_with("x-forwarded-")),
                "{name} goes on"
            );
            let is_of_the_connection = [
                "connection",
                "content-length",
                "transfer-encoding",
                "te",
                "trailer",
                "keep-alive",
                "upgrade",
                "host",
                "expect",
                "proxy-connection",
                "http2-settings",
            ];
            assert!(!is_of_the_connection.contains(&&*meant), "{name} goes on");
            assert!(self.gate != 3 || meant != "authorization", "{name} goes on");
        }

        // What comes twice, or is no word, is nobody's.
        let word = |name: &str| {
            let values: Vec<_> = self.values(name).collect();
            let one = str::from_utf8(values.first().filter(|_| values.len() == 1)?).ok()?;
            Some(one).filter(|word| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_graphic()))
        };
        let of_our_proxy = |name: &str| word(name).filter(|_| self.is_behind_a_proxy());
        assert_eq!(value("x-forwarded-proto"), of_our_proxy("x-forwarded-proto").or(Some("http")));
        assert_eq!(value("x-forwarded-host"), of_our_proxy("x-forwarded-host").or_else(|| word("host")));
        let chain: Option<Vec<&str>> = self.values("x-forwarded-for").map(|line| str::from_utf8(line).ok()).collect();
        let chain = chain.map(|lines| lines.join(", ")).filter(|chain| {
            self.is_behind_a_proxy() && !chain.is_empty() && chain.bytes().all(|byte| matches!(byte, b' '..=b'~'))
        });
        assert_eq!(value("x-forwarded-for"), Some(&*chain.map_or(PEER.to_owned(), |chain| format!("{chain}, {PEER}"))));

        if self.gate == 3 && self.facts().is_websocket() {
            let target = forward.rewritten_target().map_or_else(|| self.facts().target().into_owned(), str::to_owned);
            let query = target.split_once('?').map_or("", |(_, query)| query);
            let names_token =
                |parameter: &str| ["token", "api_key"].contains(&&*decoded(parameter.split('=').next().unwrap_or_default()));
            assert!(!query.split('&').any(names_token), "a token goes on in {target}");
            let offered =
                self.values("sec-websocket-protocol").flat_map(|line| line.split(|byte| *byte == b',')).map(blank_trimmed);
            let offered: Vec<&[u8]> = offered.filter(|protocol| !protocol.is_empty()).collect();
            let is_marked = offered.iter().any(|protocol| protocol.eq_ignore_ascii_case(b"bearer"));
            assert_eq!(forward.finish().subprotocol.is_some(), is_marked);
            if is_marked {
                assert!(!kept.iter().any(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-protocol")));
                let is_name = |protocol: &&&[u8]| protocol.iter().all(u8::is_ascii_graphic);
                let mut rest = offered.iter().skip(2).filter(is_name).filter_map(|protocol| str::from_utf8(protocol).ok());
                for protocol in
                    value("sec-websocket-protocol").unwrap_or_default().split(", ").filter(|protocol| !protocol.is_empty())
                {
                    assert_eq!(Some(protocol), rest.next(), "what comes after the token, and no more");
                }
            }
        } else {
            assert_eq!((forward.rewritten_target(), forward.finish().subprotocol), (None, None));
        }
    }

    /// The page that may read an answer.
    fn page(&self) -> Option<&'static str> {
        let origins: Vec<&[u8]> = self.values("origin").collect();
        (self.gate == 2 && origins == [PAGE.as_bytes()]).then_some(PAGE)
    }

    fn assert_shared(&self, finish: Finish) {
        let origin = finish.sharing.map(|sharing| sharing.allow_origin);
        assert_eq!(origin, (self.gate == 2).then(|| self.page().map(str::to_owned)));
    }

    fn assert_answered(&self, answer: &Answer) {
        let values = |wanted: &str| {
            answer.headers().filter(|(name, _)| *name == wanted).map(|(_, value)| value.to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(values("access-control-allow-origin"), self.page().into_iter().collect::<Vec<_>>());
        assert_eq!(values("cache-control"), ["no-store"]);
        assert!(
            answer.headers().all(|(_, value)| value.bytes().all(|byte| matches!(byte, b' '..=b'~'))),
            "a header that is none"
        );
        assert!(answer.body.is_empty() || serde_json::from_str::<serde_json::Value>(&answer.body).is_ok());
        let is_asked_by_a_proxy = self.path == "/.auth/verify";
        assert!(!is_asked_by_a_proxy || [200, 401, 403, 503].contains(&answer.status), "{} to a proxy", answer.status);
        assert_eq!(answer.body.is_empty(), is_asked_by_a_proxy && answer.status == 200 || answer.status == 204);
        let names_somebody = IDENTITY.iter().any(|name| !values(name).is_empty());
        assert!(!names_somebody || is_asked_by_a_proxy && answer.status == 200);
    }

    /// A proxy that describes this request is told what would have become of it, were it the client's own.
    fn assert_proxies_hear_the_same(&self, gate: &Gate, direct: &Verdict) {
        let is_method = !self.method.is_empty() && self.method.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'-');
        let target = self.facts().target().into_owned();
        let is_own = readings(self.path).iter().any(|reading| is_under(reading, "/.auth"));
        if !is_method || is_own || !target.bytes().all(|byte| byte.is_ascii_graphic()) {
            return;
        }
        // What is about the connection to the gateway, or describes another request, is the proxy's own.
        let is_its_own = |name: &str| {
            [
                "content-length",
                "transfer-encoding",
                "connection",
                "upgrade",
                "x-original-method",
                "x-original-uri",
                "x-forwarded-method",
                "x-forwarded-uri",
            ]
            .contains(&&*name.to_ascii_lowercase())
        };
        let headers: Vec<_> = self.headers.iter().copied().filter(|(name, _)| !is_its_own(name)).collect();
        let direct = match headers.len() == self.headers.len() {
            true => direct.clone(),
            false => judge(gate, &self.facts_with(&headers, self.method, self.path, self.query)).verdict,
        };
        let described =
            [&headers[..], &[("X-Forwarded-Method", self.method.as_bytes()), ("X-Forwarded-Uri", target.as_bytes())]].concat();
        let mut facts = Facts::new("GET", "/.auth/verify", None);
        facts.peer(PEER);
        for (name, value) in &described {
            facts.header(name, value);
        }
        facts.subject();
        let verdict = judge(gate, &facts).verdict;
        // Where the gateway answers for pages, preflights are its own affair, and the API's behind a proxy.
        let is_preflight =
            self.gate == 2 && self.method == "OPTIONS" && matches!(verdict, Verdict::Pass(Pass { identity: None, .. }));
        let passes = |verdict: &Verdict| matches!(verdict, Verdict::Pass(_));
        assert!(passes(&verdict) == passes(&direct) || is_preflight, "{verdict:?} instead of {direct:?}");
        if let (Verdict::Pass(said), Verdict::Pass(direct)) = (&verdict, &direct) {
            assert_eq!(said.identity, direct.identity);
        }
        let Action::Respond(answer) = Action::of(&verdict, gate.policy(), &facts, NOW) else {
            panic!("a question goes on to the upstream")
        };
        assert!([200, 401, 403, 503].contains(&answer.status));
        assert!(!answer.headers().any(|(_, value)| value.contains(STATIC)));
    }
}

/// Without the spaces and tabs around it (RFC 9110, section 5.5).
fn blank_trimmed(value: &[u8]) -> &[u8] {
    let is_text = |byte: &u8| !matches!(byte, b' ' | b'\t');
    let start = value.iter().position(is_text).unwrap_or(value.len());
    let end = value.iter().rposition(is_text).map_or(start, |end| end + 1);
    &value[start..end]
}

/// As a server reads it that makes one sign of all that are neither letter nor digit.
fn meant(name: &str) -> String {
    name.to_ascii_lowercase().replace(|sign: char| !sign.is_ascii_alphanumeric(), "-")
}

/// An address, perhaps with a port.
fn address(text: &str) -> Option<IpAddr> {
    let alone = |text: &str| text.parse::<IpAddr>().ok().map(|address| address.to_canonical());
    if let Some((inside, _)) = text.strip_prefix('[').and_then(|text| text.split_once(']')) {
        return alone(inside);
    }
    alone(text).or_else(|| alone(text.split_once(':').filter(|(_, port)| !port.contains(':'))?.0))
}

fn is_ours(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.octets()[0] == 10,
        IpAddr::V6(address) => address.segments()[..2] == [0x2001, 0xdb8],
    }
}

/// Percent-decoded once.
fn decoded(text: &str) -> String {
    let mut pieces = text.split('%');
    let mut decoded = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        match piece.get(..2).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit())) {
            Some(digits) => {
                decoded.push(char::from(u8::from_str_radix(digits, 16).unwrap()));
                decoded.push_str(&piece[2..]);
            }
            None => {
                decoded.push('%');
                decoded.push_str(piece);
            }
        }
    }
    decoded
}
