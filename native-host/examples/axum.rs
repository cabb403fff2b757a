//! An API of axum, which only answers whom nodetool-edge-auth admits.
//!
//! ```sh
//! AUTH_PROVIDER=static WORKER_AUTH_TOKEN=correct-horse-battery-staple cargo run -p nodetool-auth --example axum
//! curl -H 'Authorization: Bearer correct-horse-battery-staple' http://127.0.0.1:3000/v1/me
//! ```

use std::{env, error::Error, net::SocketAddr, process::ExitCode};

use axum::{
    Extension, Json, Router,
    extract::{ConnectInfo, WebSocketUpgrade, ws::Message},
    http::{HeaderMap, Uri},
    response::IntoResponse,
    routing::{any, get},
};
use nodetool_auth::{AuthLayer, Identity};
use serde_json::{Value, json};
use tokio::net::TcpListener;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match serve().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve() -> Result<(), Box<dyn Error>> {
    let auth = AuthLayer::from_env()?.peer(|extensions| extensions.get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0.ip()));

    let app = Router::new()
        .route("/health", get(|| async { "fine" }))
        .route("/v1/me", any(me))
        .route("/ws", any(greet))
        .fallback(told)
        .layer(auth);

    let listener = TcpListener::bind(env::var("LISTEN").as_deref().unwrap_or("127.0.0.1:3000")).await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>()).await?;
    Ok(())
}

/// Who asks, as the layer found out.
async fn me(Extension(Identity { user_id, token_type, role, .. }): Extension<Identity>) -> Json<Value> {
    Json(json!({ "user": user_id, "token_type": token_type.as_str(), "role": role }))
}

/// A WebSocket that greets whoever opened it.
async fn greet(upgrade: WebSocketUpgrade, Extension(me): Extension<Identity>) -> impl IntoResponse {
    upgrade.on_upgrade(async move |mut socket| {
        // Who has left already is not greeted.
        let _ = socket.send(Message::text(format!("hello {}", me.user_id))).await;
    })
}

/// Tells what it was asked. There is nobody on public paths.
async fn told(uri: Uri, me: Option<Extension<Identity>>, headers: HeaderMap, body: String) -> Json<Value> {
    let headers: Vec<_> =
        headers.iter().map(|(name, value)| (name.as_str(), String::from_utf8_lossy(value.as_bytes()))).collect();
    Json(json!({ "uri": uri.to_string(), "user": me.map(|me| me.0.user_id), "headers": headers, "body": body }))
}
