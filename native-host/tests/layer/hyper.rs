//! The layer in a server of hyper alone, whose bodies are its own.

use std::convert::Infallible;

use axum::http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use nodetool_auth::{AuthLayer, Identity};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tower::{Layer, service_fn};

use crate::{TOKEN, get, with_token};

/// What a server with the layer sends for these bytes.
async fn served(request: &str) -> String {
    let service = service_fn(async |request: Request<Incoming>| {
        let user = request.extensions().get::<Identity>().map_or("nobody".to_owned(), |identity| identity.user_id.to_string());
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let text = format!("{user} sent {}", String::from_utf8_lossy(&body));
        Ok::<_, Infallible>(Response::new(Full::new(bytes::Bytes::from(text))))
    });
    let service = AuthLayer::new(get(&with_token())).unwrap().layer(service);
    let (mut client, server) = duplex(4096);
    let connection = http1::Builder::new().serve_connection(TokioIo::new(server), TowerToHyperService::new(service));
    let exchange = async move {
        client.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let (ended, answer) = tokio::join!(connection, exchange);
    ended.unwrap();
    answer
}

#[tokio::test]
async fn a_server_of_hyper() {
    let head = "POST /v1/jobs HTTP/1.1\r\nHost: api.example\r\nConnection: close\r\nContent-Length: 6\r\n";
    let answer = served(&format!("{head}Authorization: Bearer {TOKEN}\r\n\r\na body")).await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\n1 sent a body"), "{answer}");

    let refusal = served(&format!("{head}\r\na body")).await;
    let detail = r#"{"detail":"Authorization header required. Use 'Authorization: Bearer YOUR_TOKEN'"}"#;
    assert!(refusal.starts_with("HTTP/1.1 401 ") && refusal.ends_with(&format!("\r\n\r\n{detail}")), "{refusal}");
    assert!(refusal.contains(&format!("\r\ncontent-length: {}\r\n", detail.len())), "{refusal}");

    let public = served("GET /health HTTP/1.1\r\nHost: api.example\r\nConnection: close\r\nX-User-Id: root\r\n\r\n").await;
    assert!(public.ends_with("nobody sent "), "{public}");
}
