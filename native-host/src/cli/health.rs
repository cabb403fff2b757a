//! `nodetool-auth health`: whether a gateway on this machine answers. For images that hold no other program to ask it.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use clap::{Arg, ArgAction, ArgMatches, Command};
use nodetool_edge_auth::{Host, Settings, SettingsErrors};
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use serde_json::json;

use super::{EXIT_MISCONFIGURED, flags, given};
use crate::tls;

/// What says where it listens, and how it speaks there.
const SETTINGS: [&str; 3] = ["AUTH_LISTEN", "AUTH_TLS_CERT", "AUTH_TLS_KEY"];

/// A status line is no longer.
const MAX_STATUS_LINE: usize = 1024;

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Settings(#[from] SettingsErrors),
    #[error("which port it listens on cannot be known; name it with --listen or AUTH_LISTEN")]
    AnyPort,
    #[error("{0} does not answer: {1}")]
    Silent(String, io::Error),
    #[error("{0} answers {1:?}, which no gateway would")]
    Stranger(String, String),
    #[error("TLS cannot be spoken: {0}")]
    Tls(#[from] rustls::Error),
    #[error("cannot print: {0}")]
    Output(io::Error),
}

pub(super) fn command() -> Command {
    let timeout = Arg::new("timeout")
        .long("timeout")
        .value_name("DURATION")
        .value_parser(|text: &str| humantime::parse_duration(text))
        .default_value("3s")
        .help("How long it may take to answer");
    let json = Arg::new("json").long("json").action(ArgAction::SetTrue).help("Print JSON, on one line");
    Command::new("health")
        .about("Ask the gateway on this machine whether it is there, as a container's health check does")
        .after_help("It asks for /.auth/whoami without a token, which the gateway answers by itself: an upstream that is down is no reason to restart it.\n\nExit status: 0 if it answers, 78 if a setting is wrong, 1 otherwise.")
        .args(flags().filter(|flag| SETTINGS.contains(&flag.get_id().as_str())))
        .arg(timeout)
        .arg(json)
}

pub(super) fn run(arguments: &ArgMatches) -> ExitCode {
    match check(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("nodetool-auth health: {failure}");
            let is_misconfigured = matches!(failure, Failure::Settings(_) | Failure::AnyPort);
            if is_misconfigured { ExitCode::from(EXIT_MISCONFIGURED) } else { ExitCode::FAILURE }
        }
    }
}

fn check(arguments: &ArgMatches) -> Result<(), Failure> {
    let values = given(arguments);
    // Settings of other kinds are none of its business.
    let settings = Settings::parse(Host::Native, |name| values.get(name).filter(|_| SETTINGS.contains(&name)).cloned())?;
    let address = reachable(settings.server.listen);
    if address.port() == 0 {
        return Err(Failure::AnyPort);
    }
    let limit = arguments.get_one::<Duration>("timeout").copied().unwrap_or_default();
    // Its certificate is for a public name, and it is told nothing secret.
    let tls = settings.server.tls.as_ref().map(|_| tls::trusting_anybody()).transpose()?;
    let url = format!("{}://{address}", if tls.is_some() { "https" } else { "http" });
    let status_line = ask(address, tls, limit).map_err(|error| {
        // A socket's way to say that the time is over.
        let is_late = error.kind() == io::ErrorKind::WouldBlock;
        Failure::Silent(url.clone(), if is_late { io::ErrorKind::TimedOut.into() } else { error })
    })?;
    let status = status_line.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3));
    // Who asks has no token: 401, unless everybody passes here.
    let Some(status) = status.filter(|status| ["200", "401"].contains(status)) else {
        return Err(Failure::Stranger(url, status_line));
    };
    let text = if arguments.get_flag("json") {
        json!({ "healthy": true, "url": url, "status": status.parse::<u16>().ok() }).to_string()
    } else {
        format!("{url} answers")
    };
    writeln!(io::stdout(), "{text}").map_err(Failure::Output)
}

/// Where a listener can be reached from its own machine.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

/// The status line of the answer, all of which must be there in time.
fn ask(address: SocketAddr, tls: Option<Arc<ClientConfig>>, limit: Duration) -> io::Result<String> {
    let end = Instant::now() + limit;
    let stream = Limited { stream: TcpStream::connect_timeout(&address, left(end)?)?, end };
    match tls {
        None => status_line(stream, address),
        Some(config) => {
            let session = ClientConnection::new(config, address.ip().into()).map_err(io::Error::other)?;
            status_line(StreamOwned::new(session, stream), address)
        }
    }
}

fn status_line(mut stream: impl Read + Write, address: SocketAddr) -> io::Result<String> {
    write!(stream, "GET /.auth/whoami HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    let mut byte = [0];
    while !answer.ends_with(b"\r\n") && answer.len() < MAX_STATUS_LINE {
        stream.read_exact(&mut byte)?;
        answer.extend(byte);
    }
    Ok(String::from_utf8_lossy(&answer).trim_end().to_owned())
}

fn left(end: Instant) -> io::Result<Duration> {
    let left = end.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// A connection on which all that happens ends at one moment.
struct Limited {
    stream: TcpStream,
    end: Instant,
}

impl Read for Limited {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(left(self.end)?))?;
        self.stream.read(buffer)
    }
}

impl Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(left(self.end)?))?;
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::reachable;

    #[test]
    fn what_listens_everywhere_is_asked_on_this_machine() {
        for (listen, asked) in
            [("0.0.0.0:80", "127.0.0.1:80"), ("[::]:80", "[::1]:80"), ("10.0.0.1:80", "10.0.0.1:80"), ("[::1]:1", "[::1]:1")]
        {
            assert_eq!(reachable(listen.parse().unwrap()).to_string(), asked);
        }
    }
}
