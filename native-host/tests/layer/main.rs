//! The layer around a small service, without a network: every vector of the native host, and what only a layer does. Over real
//! sockets it is `tests/http/axum.test.mjs`.
#![cfg(feature = "layer")]
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that panics has failed, as it should")]

mod hyper;
mod vectors;

use std::{
    collections::BTreeMap,
    convert::Infallible,
    fs,
    net::IpAddr,
    sync::{Arc, Mutex},
};

use axum::{
    body::{Body, Bytes, to_bytes},
    http::{Request, Response, request::Parts},
};
use nodetool_auth::{AuthLayer, Identity, SetupError, worker_auth_token};
use tower::{Layer, Service, ServiceExt, service_fn};

const DEFAULT_HOST: &str = "127.0.0.1:8000";

type Settings = BTreeMap<String, String>;

/// What the service behind the layer was asked.
type Asked = Arc<Mutex<Option<(Parts, Bytes)>>>;

fn get(settings: &Settings) -> impl Fn(&str) -> Option<String> {
    |name| settings.get(name).cloned()
}

fn settings<const N: usize>(set: [(&str, &str); N]) -> Settings {
    set.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// A service that takes note of what it is asked, and says that it is one.
fn service(
    auth: &AuthLayer,
) -> (impl Service<Request<Body>, Response = Response<nodetool_auth::AuthBody<Body>>, Error = Infallible> + Clone, Asked) {
    let asked = Asked::default();
    let noted = Arc::clone(&asked);
    let inner = service_fn(move |request: Request<Body>| {
        let noted = Arc::clone(&noted);
        async move {
            let (parts, body) = request.into_parts();
            let body = to_bytes(body, usize::MAX).await.unwrap();
            *noted.lock().unwrap() = Some((parts, body));
            Ok::<_, Infallible>(Response::builder().header("x-service", "answered").body(Body::from("served")).unwrap())
        }
    });
    (auth.layer(inner), asked)
}

async fn body(response: Response<nodetool_auth::AuthBody<Body>>) -> Bytes {
    to_bytes(Body::new(response.into_body()), usize::MAX).await.unwrap()
}

fn request(target: &str, headers: &[(&str, &str)]) -> Request<Body> {
    let builder = Request::builder().uri(target).header("host", DEFAULT_HOST);
    headers.iter().fold(builder, |builder, (name, value)| builder.header(*name, *value)).body(Body::empty()).unwrap()
}

const TOKEN: &str = "correct-horse-battery-staple";
const BEARER: (&str, &str) = ("authorization", "Bearer correct-horse-battery-staple");

fn with_token() -> Settings {
    settings([("AUTH_PROVIDER", "static"), ("WORKER_AUTH_TOKEN", TOKEN)])
}

#[tokio::test]
async fn an_unknown_peer_is_not_this_machine() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("deployment.yaml").to_str().unwrap().to_owned();
    std::fs::write(&file, format!("worker_auth_token: {TOKEN}\n")).unwrap();
    // `local` by default, which a token in the settings would end, and one in the file does not: requests straight from this machine pass.
    let set = settings([("ENV", "development"), ("NODETOOL_CONFIG_PATH", &file)]);
    let status = async |auth: &AuthLayer, peer: Option<&str>| {
        let mut request = request("/v1/models", &[]);
        request.extensions_mut().extend(peer.map(|peer| peer.parse::<IpAddr>().unwrap()).map(with).unwrap_or_default());
        service(auth).0.oneshot(request).await.unwrap().status().as_u16()
    };
    let unknown = AuthLayer::new(get(&set)).unwrap();
    assert_eq!(status(&unknown, Some("127.0.0.1")).await, 401);
    let known = AuthLayer::new(get(&set)).unwrap().peer(|extensions| extensions.get::<IpAddr>().copied());
    assert_eq!(status(&known, Some("127.0.0.1")).await, 200);
    assert_eq!(status(&known, Some("::ffff:127.0.0.1")).await, 200);
    assert_eq!(status(&known, Some("10.0.0.1")).await, 401);
    assert_eq!(status(&known, None).await, 401);
}

fn with(peer: IpAddr) -> axum::http::Extensions {
    let mut extensions = axum::http::Extensions::new();
    extensions.insert(peer);
    extensions
}

#[tokio::test]
async fn an_identity_that_somebody_else_left_is_gone() {
    let auth = AuthLayer::new(get(&with_token())).unwrap();
    for (target, headers, expected) in [("/health", &[][..], None), ("/v1/models", &[BEARER][..], Some("1"))] {
        let (service, asked) = service(&auth);
        let mut request = request(target, headers);
        let mut forged = Identity::STATIC;
        forged.user_id = "root".into();
        request.extensions_mut().insert(forged);
        service.oneshot(request).await.unwrap();
        let (parts, _) = asked.lock().unwrap().take().unwrap();
        assert_eq!(parts.extensions.get::<Identity>().map(|identity| &*identity.user_id), expected, "{target}");
    }
}

#[tokio::test]
async fn too_many_failures_count_for_all_clones() {
    let mut set = with_token();
    set.insert("AUTH_FAILURE_LIMIT".to_owned(), "2".to_owned());
    let auth = AuthLayer::new(get(&set)).unwrap().peer(|_| Some([203, 0, 113, 9].into()));
    let mut statuses = Vec::new();
    for _ in 0..4 {
        let wrong = request("/v1/models", &[("authorization", "Bearer wrong-token-0123456789")]);
        statuses.push(service(&auth.clone()).0.oneshot(wrong).await.unwrap().status().as_u16());
    }
    assert_eq!(statuses, [401, 401, 429, 429]);
    assert_eq!(service(&auth).0.oneshot(request("/v1/models", &[BEARER])).await.unwrap().status().as_u16(), 200);
}

#[tokio::test]
async fn the_id_of_a_request_is_one_everywhere() {
    let auth = AuthLayer::new(get(&with_token())).unwrap();
    for (given, is_kept) in [("given-1", true), ("no id, but a text", false)] {
        let (service, asked) = service(&auth);
        let response = service.oneshot(request("/v1/models", &[BEARER, ("x-request-id", given)])).await.unwrap();
        let (parts, _) = asked.lock().unwrap().take().unwrap();
        assert_eq!(parts.headers.get("x-request-id"), response.headers().get("x-request-id"));
        assert_eq!(parts.headers["x-request-id"] == given, is_kept);
        assert_eq!(response.headers()["x-service"], "answered");
        assert_eq!(body(response).await, "served");
    }
}

#[tokio::test]
async fn a_token_in_the_deployment_file_is_followed_as_it_changes() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("deployment.yaml");
    let set = settings([("AUTH_PROVIDER", "static"), ("NODETOOL_CONFIG_PATH", file.to_str().unwrap())]);
    assert!(matches!(AuthLayer::new(get(&set)), Err(SetupError::NoToken)));
    assert!(!file.exists(), "a layer makes no token");

    let token = worker_auth_token(get(&set)).unwrap().unwrap();
    let auth = AuthLayer::new(get(&set)).unwrap();
    let status = async |token: &str| {
        let bearer = format!("Bearer {token}");
        service(&auth).0.oneshot(request("/v1/models", &[("authorization", &bearer)])).await.unwrap().status().as_u16()
    };
    assert_eq!((status(token.reveal()).await, status(TOKEN).await), (200, 401));
    fs::write(&file, format!("worker_auth_token: {TOKEN}\n")).unwrap();
    let end = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while status(TOKEN).await != 200 {
        assert!(std::time::Instant::now() < end, "the new token is not taken up");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(status(token.reveal()).await, 401);
}

#[test]
fn what_is_wrong_is_told_and_no_secret_with_it() {
    for (set, named) in [
        (settings([("AUTH_PROVIDER", "jwt")]), "AUTH_PROVIDER"),
        (settings([("WORKER_AUTH_TOKEN", "two words")]), "WORKER_AUTH_TOKEN"),
        (settings([("AUTH_WS_CLOSE_ON_EXPIRY", "1"), ("WORKER_AUTH_TOKEN", TOKEN)]), "AUTH_WS_CLOSE_ON_EXPIRY"),
        (settings([("AUTH_PROVIDER", "supabase")]), "SUPABASE_URL"),
    ] {
        let error = AuthLayer::new(get(&set)).unwrap_err().to_string();
        assert!(error.contains(named) && !error.contains("two words"), "{error}");
    }
}
