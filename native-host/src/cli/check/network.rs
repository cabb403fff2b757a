//! The two ends of the gateway: the upstream that it connects to, and the port that it listens on.

use std::{
    io::{self, ErrorKind},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use nodetool_edge_auth::{Answer, Reason, Scheme, ServerSettings, Settings};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use super::{Finding, failed, ok, warning};
use crate::{
    admin,
    cli::serve,
    loops,
    pool::Reach,
    server::{self, StartError},
    tls,
};

/// For a connection that by its settings may take any time: a check has to come to an end.
const PATIENCE: Duration = Duration::from_secs(10);

/// For a gateway to answer by itself, which asks nobody.
const BLINK: Duration = Duration::from_secs(2);

/// Room for any answer that the gateway itself makes.
const MAX_ANSWER: u64 = 4096;

pub(super) async fn of_upstream(settings: &Settings) -> Finding {
    const CHECK: &str = "upstream";
    const REMEDY: &str = "start it, or correct UPSTREAM_URL";
    let Some(upstream) = &settings.proxy.upstream else {
        return ok(CHECK, "UPSTREAM_URL is not set: the gateway itself answers, with the identity of the caller");
    };
    let reach = match Reach::new(settings) {
        Ok(reach) => reach,
        Err(error) => return failed(CHECK, error.to_string(), format!("correct {}", error.setting)),
    };
    if let Err(error) = loops::check(settings.server.listen, Some(upstream)) {
        return failed(CHECK, error.to_string(), REMEDY);
    }
    let limit = reach.connect_timeout().unwrap_or(PATIENCE);
    let remedy = match upstream.scheme {
        Scheme::Http => REMEDY,
        Scheme::Https => "start it, correct UPSTREAM_URL, or name who vouches for its certificate in UPSTREAM_CA",
    };
    match timeout(limit, reach.connect()).await {
        Ok(Ok(_)) => ok(CHECK, format!("{} takes connections", upstream.origin())),
        Ok(Err(error)) if error.kind() != ErrorKind::TimedOut => failed(CHECK, format!("{}: {error}", upstream.origin()), remedy),
        _ => failed(CHECK, format!("{}: no connection within {} s", upstream.origin(), limit.as_secs()), remedy),
    }
}

/// A place to listen at: how its check is called, where it is set, and what a gateway answers there.
struct Place {
    check: &'static str,
    setting: &'static str,
    path: &'static str,
    is_ours: fn(&str) -> bool,
}

const PUBLIC: Place = Place {
    check: "listen",
    setting: serve::PUBLIC,
    // Without a token, and what none of them leaves to its upstream.
    path: "/.auth/whoami",
    is_ours: |answer| answer.ends_with(&*Answer::refusal(Reason::NoCredential).body) || answer.contains(r#""token_type":"#),
};

const ADMIN: Place = Place {
    check: "admin_listen",
    setting: "AUTH_ADMIN_LISTEN",
    path: "/livez",
    is_ours: |answer| answer.ends_with(admin::LIVE),
};

pub(super) async fn of_listener(server: &ServerSettings) -> Finding {
    PUBLIC.check(server.listen, server.reuse_port, server.tls.is_some()).await
}

/// Nothing if there are to be no probes and metrics.
pub(super) async fn of_admin_listener(address: Option<SocketAddr>) -> Option<Finding> {
    Some(ADMIN.check(address?, false, false).await)
}

impl Place {
    async fn check(&self, address: SocketAddr, reuse_port: bool, speaks_tls: bool) -> Finding {
        let remedy = format!("choose another address with {}", self.setting);
        match server::listen(address, reuse_port, self.setting) {
            Ok(_) => ok(self.check, format!("{address} is free")),
            Err(StartError::Listen { error, .. }) if error.kind() == ErrorKind::AddrInUse => {
                if self.is_gateway(address, speaks_tls).await {
                    // To look at a gateway that has trouble is what a check is for, and that one runs is no fault.
                    let detail = format!("a gateway listens on {address} already");
                    return warning(self.check, detail, "stop it before another is started");
                }
                failed(self.check, format!("{address} is in use"), format!("stop what listens there, or {remedy}"))
            }
            Err(error) => failed(self.check, error.to_string(), remedy),
        }
    }

    /// Whether a gateway answers there.
    async fn is_gateway(&self, address: SocketAddr, speaks_tls: bool) -> bool {
        let question = format!("GET {} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n", self.path);
        let local: IpAddr = if address.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
        let ip = if address.ip().is_unspecified() { local } else { address.ip() };
        let answer = async {
            let stream = TcpStream::connect((ip, address.port())).await?;
            if !speaks_tls {
                return answer_to(question.as_bytes(), stream).await;
            }
            // Its certificate is for a public name, and it is told nothing secret.
            let connector = TlsConnector::from(tls::trusting_anybody().map_err(io::Error::other)?);
            answer_to(question.as_bytes(), connector.connect(ip.into(), stream).await?).await
        };
        let Ok(Ok(answer)) = timeout(BLINK, answer).await else { return false };
        (self.is_ours)(&String::from_utf8_lossy(&answer))
    }
}

async fn answer_to(question: &[u8], mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<Vec<u8>> {
    stream.write_all(question).await?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer).await?;
    Ok(answer)
}
