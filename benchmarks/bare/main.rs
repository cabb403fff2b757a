//! The least that hyper can answer, on one thread: 200, no body, two headers. What `/.auth/verify` is measured beside.

use std::{convert::Infallible, env, error::Error};

use http_body_util::Empty;
use hyper::{Request, Response, body::Bytes, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, runtime};

fn main() -> Result<(), Box<dyn Error>> {
    let address = env::args().nth(1).ok_or("the address to listen on is missing")?;
    runtime::Builder::new_current_thread().enable_all().build()?.block_on(serve(&address))
}

async fn serve(address: &str) -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind(address).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        // How a connection ends is nobody's concern here.
        tokio::spawn(async move {
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer)).await;
        });
    }
}

async fn answer(_: Request<Incoming>) -> Result<Response<Empty<Bytes>>, Infallible> {
    let mut response = Response::new(Empty::new());
    response.headers_mut().insert("x-user-id", hyper::header::HeaderValue::from_static("1"));
    response.headers_mut().insert("x-auth-token-type", hyper::header::HeaderValue::from_static("static"));
    Ok(response)
}
