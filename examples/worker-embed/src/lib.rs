//! An API in a Worker of its own, which only answers whom nodetool-edge-auth admits.
#![cfg(target_arch = "wasm32")]

use nodetool_edge_auth::{
    Identity,
    worker::{Decision, check},
};
use serde_json::json;
use worker::{Context, Env, Request, Response, Result, WebSocketPair, event};

#[event(fetch)]
async fn fetch(request: Request, env: Env, context: Context) -> Result<Response> {
    let admitted = match check(request, &env, &context).await {
        Decision::Admit(admitted) => *admitted,
        Decision::Answer(response) => return Ok(response),
    };
    let response = api(admitted.request, admitted.identity).await?;
    Ok(admitted.finish.apply(response))
}

/// Tells what it was asked, and by whom.
async fn api(mut request: Request, identity: Option<Identity>) -> Result<Response> {
    if request.path() == "/health" {
        return Response::ok("fine");
    }
    if request.headers().has("upgrade")? {
        let WebSocketPair { client, server } = WebSocketPair::new()?;
        server.accept()?;
        let user = identity.as_ref().map_or("nobody", |identity| &identity.user_id);
        server.send_with_str(format!("hello {user}, who asked for {}", request.url()?))?;
        return Response::from_websocket(client);
    }
    let headers: Vec<_> = request.headers().entries().collect();
    Response::from_json(&json!({
        "user": identity.as_ref().map(|identity| &identity.user_id),
        "role": identity.as_ref().and_then(|identity| identity.role.as_ref()),
        "method": request.method().to_string(),
        "url": request.url()?.as_str(),
        "headers": headers,
        "body": request.text().await?,
    }))
}
