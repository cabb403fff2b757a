//! The least that hyper can do, on one thread: to answer 200 without a body, or to send each request on as it came. What the
//! gateway is measured beside; no gateway itself.

use std::{cell::RefCell, env, error::Error, rc::Rc};

use http_body_util::{Either, Empty};
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    client::conn::http1::{SendRequest, handshake},
    header::HeaderValue,
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpStream},
    runtime,
    task::{LocalSet, spawn_local},
};

type Failure = Box<dyn Error + Send + Sync>;
type Answer = Response<Either<Incoming, Empty<Bytes>>>;

fn main() -> Result<(), Failure> {
    let mut arguments = env::args().skip(1);
    let address = arguments.next().ok_or("the address to listen on is missing")?;
    let upstream = arguments.next().map(|address| Upstream { address, kept: RefCell::default() });
    LocalSet::new().block_on(&runtime::Builder::new_current_thread().enable_all().build()?, serve(&address, upstream))
}

async fn serve(address: &str, upstream: Option<Upstream>) -> Result<(), Failure> {
    let listener = TcpListener::bind(address).await?;
    let upstream = Rc::new(upstream);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let upstream = Rc::clone(&upstream);
        spawn_local(async move {
            let answer = |request| async {
                match &*upstream {
                    Some(upstream) => upstream.forward(request).await,
                    None => Ok(own()),
                }
            };
            // How a connection ends is nobody's concern here.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer)).await;
        });
    }
}

fn own() -> Answer {
    let mut response = Response::new(Either::Right(Empty::new()));
    response.headers_mut().insert("x-user-id", HeaderValue::from_static("1"));
    response.headers_mut().insert("x-auth-token-type", HeaderValue::from_static("static"));
    response
}

struct Upstream {
    address: String,
    /// All connections, of which some are in use.
    kept: RefCell<Vec<SendRequest<Incoming>>>,
}

impl Upstream {
    async fn forward(&self, request: Request<Incoming>) -> Result<Answer, Failure> {
        let mut sender = match self.take() {
            Some(sender) => sender,
            None => self.connect().await?,
        };
        let response = sender.send_request(request).await?;
        self.kept.borrow_mut().push(sender);
        Ok(response.map(Either::Left))
    }

    fn take(&self) -> Option<SendRequest<Incoming>> {
        let mut kept = self.kept.borrow_mut();
        let at = kept.iter().rposition(SendRequest::is_ready)?;
        Some(kept.swap_remove(at))
    }

    async fn connect(&self) -> Result<SendRequest<Incoming>, Failure> {
        let stream = TcpStream::connect(&self.address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        spawn_local(connection);
        Ok(sender)
    }
}
