//! `AUTH_ADMIN_LISTEN`: probes and metrics, on a listener and a thread of their own. Nothing of it can be reached through
//! the public listener, and it goes on answering while that one is drained.

use std::{
    convert::Infallible,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{self, HeaderName, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    runtime,
    sync::{Semaphore, watch},
    time::{sleep, timeout},
};

use crate::{
    clock,
    exposition::{self, Now},
    follow::InForce,
    metrics::Metrics,
    project::Project,
    server::Listening,
};

/// Connections at one time. More than these wait to be accepted, and none of these lasts.
const MAX_CONNECTIONS: usize = 32;

/// For all of a connection, which serves one request: a slow client holds its place no longer.
const CONNECTION_LIMIT: Duration = Duration::from_secs(10);

const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// Room for a request line and headers: a probe sends a few.
const MAX_HEAD: usize = 16 * 1024;

/// What `/livez` says.
pub(crate) const LIVE: &str = r#"{"live":true}"#;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const METRICS: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// What is told about this process.
pub(crate) struct Admin {
    pub(crate) metrics: Arc<Metrics>,
    /// The tokens that are in force, where nobody passes without one.
    pub(crate) tokens: Option<watch::Receiver<InForce>>,
    /// The project, where nobody's token can be checked without its keys.
    pub(crate) keys: Option<Arc<Project>>,
    pub(crate) is_draining: Arc<AtomicBool>,
}

impl Admin {
    /// On a thread that lives as long as the process: no burst of requests makes a probe wait behind it.
    pub(crate) fn start(self, listening: Listening) -> io::Result<()> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        tracing::info!("probes and metrics on http://{}", listening.address());
        let serve = move || {
            if let Err(error) = runtime.block_on(Arc::new(self).serve(listening)) {
                tracing::error!(%error, "there are no probes and metrics any more");
            }
        };
        thread::Builder::new().name("admin".to_owned()).spawn(serve)?;
        Ok(())
    }

    async fn serve(self: Arc<Self>, listening: Listening) -> io::Result<()> {
        let listener = TcpListener::from_std(listening.into_socket())?;
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let place = Arc::clone(&places).acquire_owned().await.map_err(io::Error::other)?;
            match listener.accept().await {
                Ok((stream, _)) => {
                    let admin = Arc::clone(&self);
                    tokio::spawn(async move {
                        // Who is slow is cut off, and who broke off knows it.
                        let _ = timeout(CONNECTION_LIMIT, admin.connection(stream)).await;
                        drop(place);
                    });
                }
                Err(_) => sleep(Duration::from_millis(100)).await,
            }
        }
    }

    async fn connection(self: Arc<Self>, stream: TcpStream) {
        let service = service_fn(|request| {
            let answer = self.answer(&request);
            async move { Ok::<_, Infallible>(answer) }
        });
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_buf_size(MAX_HEAD).keep_alive(false);
        // How it ended is of interest to nobody.
        let _ = builder.serve_connection(TokioIo::new(stream), service).await;
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let path = request.uri().path();
        if !matches!(path, "/livez" | "/readyz" | "/metrics") {
            return page(StatusCode::NOT_FOUND, JSON, r#"{"detail":"Not Found"}"#);
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut answer = page(StatusCode::METHOD_NOT_ALLOWED, JSON, r#"{"detail":"Method Not Allowed"}"#);
            answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            return answer;
        }
        match path {
            "/livez" => page(StatusCode::OK, JSON, LIVE),
            "/readyz" => self.readiness(),
            _ => {
                let key_age = self.keys.as_ref().and_then(|project| project.key_age());
                let now = Now { is_ready: self.reasons().is_empty(), key_age: key_age.map(|age| age as f64 / 1000.0) };
                page(StatusCode::OK, METRICS, exposition::page(&self.metrics, &now))
            }
        }
    }

    fn readiness(&self) -> Response<Full<Bytes>> {
        let reasons = self.reasons();
        if reasons.is_empty() {
            return page(StatusCode::OK, JSON, r#"{"ready":true}"#);
        }
        let body = serde_json::json!({ "ready": false, "reasons": reasons }).to_string();
        page(StatusCode::SERVICE_UNAVAILABLE, JSON, body)
    }

    /// Why no request should be sent here, in stable words.
    fn reasons(&self) -> Vec<&'static str> {
        let now = clock::now();
        let lacks_token =
            self.tokens.as_ref().is_some_and(|tokens| !tokens.borrow().as_ref().is_ok_and(|tokens| tokens.has_live(now)));
        let lacks_keys = self.keys.as_ref().is_some_and(|project| !project.has_usable_keys());
        let all = [(self.is_draining.load(Ordering::Relaxed), "draining"), (lacks_token, "no_token"), (lacks_keys, "no_keys")];
        all.into_iter().filter(|(holds, _)| *holds).map(|(_, word)| word).collect()
    }
}

fn page(status: StatusCode, content_type: HeaderValue, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers: [(HeaderName, HeaderValue); 2] =
        [(header::CONTENT_TYPE, content_type), (header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    response.headers_mut().extend(headers);
    response
}
