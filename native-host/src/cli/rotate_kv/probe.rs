//! Asks a gateway from outside whether it takes a token, as its clients would.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Request, Uri, header, header::HeaderValue};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use nodetool_edge_auth::Secret;
use serde_json::Value;
use tokio::time::timeout;

use crate::{cli::output::one_line, project::with_causes};

/// For one answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// An identity is a line of JSON.
const MAX_ANSWER: usize = 64 * 1024;

pub(super) struct Probe {
    client: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
    whoami: Uri,
}

/// What a gateway says to a token, or to none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// It is the static token.
    Accepted,
    /// It is none that is accepted.
    Refused,
    /// No token at all is configured.
    HasNone,
    /// Anything else, in words.
    Other(String),
}

impl Probe {
    /// For the gateway under this origin. Nothing but `https` carries a token over a network.
    pub(super) fn new(origin: &str) -> Result<Self, &'static str> {
        const MALFORMED: &str = "it must be like https://api.example.com";
        let whoami = format!("{}/.auth/whoami", origin.trim_end_matches('/'));
        let whoami: Uri = whoami.parse().map_err(|_| MALFORMED)?;
        match (whoami.scheme_str(), whoami.host()) {
            (Some("https"), Some(_)) | (Some("http"), Some("localhost" | "127.0.0.1" | "[::1]")) => {}
            (Some("http"), _) => return Err("the token goes there, so it must be https"),
            _ => return Err(MALFORMED),
        }
        if whoami.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return Err("it must name no user: the token is all that is sent");
        }
        if whoami.path() != "/.auth/whoami" || whoami.query().is_some() {
            return Err("it must have no path");
        }
        let connector = HttpsConnectorBuilder::new().with_webpki_roots().https_or_http().enable_http1().build();
        // Each time over a new connection, so that it is not always the same server that answers.
        Ok(Self { client: Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector), whoami })
    }

    pub(super) async fn ask(&self, token: Option<&Secret>) -> Told {
        timeout(TIMEOUT, self.answer(token))
            .await
            .unwrap_or_else(|_| Err("no answer in time".to_owned()))
            .unwrap_or_else(Told::Other)
    }

    async fn answer(&self, token: Option<&Secret>) -> Result<Told, String> {
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = self.whoami.clone();
        if let Some(token) = token {
            let mut bearer = HeaderValue::from_str(&format!("Bearer {}", token.reveal())).map_err(|error| error.to_string())?;
            bearer.set_sensitive(true);
            request.headers_mut().insert(header::AUTHORIZATION, bearer);
        }
        let response = self.client.request(request).await.map_err(|error| with_causes(&error))?;
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, MAX_ANSWER).collect().await.map_err(|error| with_causes(&*error))?.to_bytes();
        let body: Option<Value> = serde_json::from_slice(&body).ok();
        let member = |name: &str| body.as_ref().and_then(|body| body.get(name)).and_then(Value::as_str);
        let is_challenge =
            parts.headers.get(header::WWW_AUTHENTICATE).is_some_and(|value| value.as_bytes().starts_with(b"Bearer"));
        Ok(match (parts.status.as_u16(), member("token_type"), member("detail")) {
            (200, Some("static"), _) => Told::Accepted,
            (200, Some("none"), _) => Told::Other("it answers 200 to anyone: nothing asks for a token there".to_owned()),
            (401, _, Some(_)) if is_challenge => Told::Refused,
            (503, _, Some("No authentication token is configured")) => Told::HasNone,
            (status, _, Some(detail)) => Told::Other(format!("it answers {status}: {}", one_line(detail))),
            (status, _, None) => Told::Other(format!("it answers {status}, and not as this gateway would")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Probe;

    #[test]
    fn a_token_goes_over_https_or_nowhere() {
        for good in [
            "https://api.example.com",
            "https://api.example.com:8443/",
            "http://127.0.0.1:8787",
            "http://localhost",
            "http://[::1]:1",
        ] {
            assert!(Probe::new(good).is_ok(), "{good}");
        }
        for bad in [
            "http://api.example.com",
            "http://127.0.0.1.example.com",
            "api.example.com",
            "ftp://x",
            "https://x/v1",
            "https://user:password@x",
            "http://127.0.0.1@x",
            "https://x?y=",
            "https://x#",
            "",
        ] {
            assert!(Probe::new(bad).is_err(), "{bad}");
        }
    }
}
