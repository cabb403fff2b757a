//! One connection of a client through the real server to an upstream, over sockets of this machine, with everybody on one thread.

use std::{
    cell::{Cell, RefCell, RefMut},
    collections::VecDeque,
    panic,
    rc::Rc,
    sync::Once,
    time::Duration,
};

use nodetool_auth::Trial;
use nodetool_edge_auth::{Host, Settings, Tokens};
use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf},
    runtime::{Builder, Runtime},
    sync::watch,
    task::{LocalSet, yield_now},
    time::{sleep, timeout},
};

use crate::{
    STATIC,
    http1::{Kind, Message, find},
    proxy::{ADMIN_TOKEN, HONEST},
};

/// What went over all sockets.
#[derive(Default)]
pub(crate) struct Exchange {
    /// To the client.
    pub(crate) answered: Vec<u8>,
    /// To the upstream.
    pub(crate) connections: Vec<Connection>,
    /// In the order of their heads.
    pub(crate) arrivals: Vec<Arrival>,
    pub(crate) was_switched: bool,
}

#[derive(Default)]
pub(crate) struct Connection {
    pub(crate) bytes: Vec<u8>,
    /// Where it became a tunnel.
    pub(crate) tunnel_at: Option<usize>,
}

/// A request, as the upstream got it.
pub(crate) struct Arrival {
    connection: usize,
    /// Where in the bytes of its connection it begins.
    pub(crate) at: usize,
    /// What it was answered, if that is from the input.
    pub(crate) answer: Option<Vec<u8>>,
}

impl Exchange {
    pub(crate) fn connection_of(&self, arrival: &Arrival) -> &Connection {
        &self.connections[arrival.connection]
    }
}

/// What is there for all exchanges of a thread.
struct Stage {
    runtime: Runtime,
    upstream: TcpListener,
    settings: Settings,
}

thread_local! {
    static STAGE: Stage = Stage::new();
    /// A task that panics takes nobody along: this tells of it.
    static PANICS: Cell<usize> = const { Cell::new(0) };
}

impl Stage {
    fn new() -> Self {
        static COUNT: Once = Once::new();
        COUNT.call_once(|| {
            let before = panic::take_hook();
            panic::set_hook(Box::new(move |info| {
                PANICS.with(|panics| panics.set(panics.get() + 1));
                before(info);
            }));
        });
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let upstream = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let url = format!("http://{}", upstream.local_addr().unwrap());
        // Nothing here depends on time.
        let settings = Settings::parse(Host::Native, |name| match name {
            "AUTH_PROVIDER" => Some("static".to_owned()),
            "ADMIN_TOKEN" => Some(ADMIN_TOKEN.to_owned()),
            "UPSTREAM_URL" => Some(url.clone()),
            "UPSTREAM_TIMEOUT"
            | "UPSTREAM_CONNECT_TIMEOUT"
            | "AUTH_HEADER_TIMEOUT"
            | "AUTH_BODY_TIMEOUT"
            | "AUTH_IDLE_TIMEOUT" => Some("0".to_owned()),
            _ => None,
        });
        Self { runtime, upstream, settings: settings.unwrap() }
    }
}

/// Sends these bytes, one piece after the other, through a gateway of its own to an upstream that gives these answers. It is over
/// when nobody has anything more to say, for so long.
pub(crate) fn exchange(pieces: &[&[u8]], answers: &[&[u8]], patience: Duration) -> Exchange {
    STAGE.with(|stage| {
        let answers = answers.iter().map(|answer| answer.to_vec()).collect();
        let seen = Seen {
            exchange: RefCell::default(),
            answers: RefCell::new(answers),
            events: Cell::new(0),
            is_over: watch::Sender::new(false),
            patience,
        };
        let (tasks, seen, before) = (LocalSet::new(), Rc::new(seen), PANICS.get());
        tasks.block_on(&stage.runtime, run(stage, pieces, &seen));
        // What waits in vain for the client, or the upstream, ends here.
        drop(tasks);
        assert_eq!(PANICS.get(), before, "a task has panicked");
        seen.exchange.take()
    })
}

/// What is known at the moment.
struct Seen {
    exchange: RefCell<Exchange>,
    /// What the upstream has still to say.
    answers: RefCell<VecDeque<Vec<u8>>>,
    /// Counts whatever happens.
    events: Cell<usize>,
    is_over: watch::Sender<bool>,
    /// How long all must have been silent, after as many looks as it takes to come through.
    patience: Duration,
}

impl Seen {
    fn happens(&self) {
        self.events.set(self.events.get() + 1);
    }

    fn connection(&self, index: usize) -> RefMut<'_, Connection> {
        RefMut::map(self.exchange.borrow_mut(), |exchange| &mut exchange.connections[index])
    }
}

/// As often as this everybody has a look at their sockets before all are taken to be waiting. A message takes a few to come
/// through, if the system is as quick as that.
const LOOKS: usize = 24;

async fn quiet(seen: &Seen) {
    loop {
        let before = seen.events.get();
        for _ in 0..LOOKS {
            yield_now().await;
        }
        if seen.events.get() == before && !seen.patience.is_zero() {
            sleep(seen.patience).await;
        }
        if seen.events.get() == before {
            return;
        }
    }
}

async fn run(stage: &Stage, pieces: &[&[u8]], seen: &Rc<Seen>) {
    let trial = Trial::new(&stage.settings, Tokens::single(STATIC).unwrap()).unwrap();
    let entrance = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (outside, inside) = tokio::join!(TcpStream::connect(entrance.local_addr().unwrap()), entrance.accept());
    let (outside, (inside, _)) = (outside.unwrap(), inside.unwrap());
    leave_nothing(&outside);
    let mut over = trial.serve(inside);
    let (reader, mut writer) = outside.into_split();
    let reading = tokio::task::spawn_local(read_answers(reader, Rc::clone(seen)));

    let accepting = accept(&stage.upstream, seen);
    let talking = async {
        for piece in pieces {
            // A gateway that has heard enough cuts the connection.
            let _ = writer.write_all(piece).await;
            quiet(seen).await;
        }
        // Whoever waits for more of an answer hears that there is none.
        seen.is_over.send_replace(true);
        quiet(seen).await;
        let _ = writer.shutdown().await;
        quiet(seen).await;
    };
    tokio::select! {
        () = accepting => {}
        () = talking => {}
    }
    drop(writer);
    reading.abort();
    let ended = timeout(Duration::from_secs(20), async {
        let _ = reading.await;
        over.recv().await
    });
    assert!(ended.await.is_ok(), "the connection of a client that is gone does not end");
}

/// Thousands of these in a second: none is to stay behind for a minute.
fn leave_nothing(stream: &TcpStream) {
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

async fn read_answers(mut reader: OwnedReadHalf, seen: Rc<Seen>) {
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = reader.read(&mut buffer).await {
        seen.exchange.borrow_mut().answered.extend(&buffer[..length]);
        seen.happens();
    }
}

async fn accept(upstream: &TcpListener, seen: &Rc<Seen>) {
    while let Ok((stream, _)) = upstream.accept().await {
        seen.happens();
        leave_nothing(&stream);
        let index = {
            let connections = &mut seen.exchange.borrow_mut().connections;
            connections.push(Connection::default());
            connections.len() - 1
        };
        tokio::task::spawn_local(serve(stream, index, Rc::clone(seen)));
    }
}

/// One connection of the upstream.
async fn serve(mut stream: TcpStream, index: usize, seen: Rc<Seen>) {
    let (mut buffer, mut place, mut over) = ([0; 4096], Place::default(), seen.is_over.subscribe());
    loop {
        while let Some(answer) = place.next(index, &seen) {
            let _ = stream.write_all(&answer.bytes).await;
            if answer.closes {
                let _ = stream.shutdown().await;
            }
            seen.happens();
        }
        let read = tokio::select! {
            read = stream.read(&mut buffer) => read,
            _ = over.wait_for(|over| *over) => break,
        };
        let Ok(length @ 1..) = read else { return };
        seen.connection(index).bytes.extend(&buffer[..length]);
        seen.happens();
    }
    let _ = stream.shutdown().await;
    while let Ok(length @ 1..) = stream.read(&mut buffer).await {
        seen.connection(index).bytes.extend(&buffer[..length]);
        // It comes too late for an answer.
        while place.next(index, &seen).is_some() {}
        seen.happens();
    }
}

/// Where the upstream is in what a connection brings.
#[derive(Default)]
struct Place {
    at: usize,
    /// Whether the request that begins there is known.
    has_arrived: bool,
    /// What it will be answered.
    answer: Option<Answer>,
}

struct Answer {
    bytes: Vec<u8>,
    is_early: bool,
    closes: bool,
}

impl Place {
    /// What the upstream says next, if it is time.
    fn next(&mut self, index: usize, seen: &Seen) -> Option<Answer> {
        loop {
            let exchange = &mut *seen.exchange.borrow_mut();
            let connection = exchange.connections.get_mut(index).filter(|connection| connection.tunnel_at.is_none())?;
            // Of what is unclean hears whoever looks at it later.
            let message = Message::read(&connection.bytes[self.at..], Kind::Request).ok()??;
            if !std::mem::replace(&mut self.has_arrived, true) {
                let scripted = seen.answers.borrow_mut().pop_front();
                let answer = Answer::to(&message, scripted.as_deref());
                let answered = scripted.is_some().then(|| answer.bytes.clone());
                exchange.arrivals.push(Arrival { connection: index, at: self.at, answer: answered });
                self.answer = Some(answer);
            }
            let answer = self.answer.take_if(|answer| answer.is_early || message.is_whole);
            let may_switch = !message.values("upgrade").is_empty();
            if message.is_whole {
                (self.at, self.has_arrived) = (self.at + message.length, false);
            }
            if let Some(answer) = answer {
                // What says so in vain is not answered again.
                if may_switch && find(&answer.bytes, b" 101").is_some() {
                    connection.tunnel_at = Some(self.at);
                    exchange.was_switched = true;
                }
                return Some(answer);
            }
            if self.has_arrived {
                return None;
            }
        }
    }
}

impl Answer {
    fn to(request: &Message<'_>, scripted: Option<&[u8]>) -> Self {
        let Some(scripted) = scripted else { return Self { bytes: honest(request), is_early: false, closes: false } };
        let (is_early, closes) = (scripted.starts_with(b"!"), scripted.starts_with(b"."));
        let bytes = scripted.get(usize::from(is_early || closes)..).unwrap_or_default().to_vec();
        Self { bytes, is_early, closes }
    }
}

fn honest(request: &Message<'_>) -> Vec<u8> {
    let id = request.values("x-request-id").concat();
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", HONEST.len() + id.len());
    let is_to_head = request.line[0] == b"HEAD";
    [head.as_bytes(), if is_to_head { b"" } else { HONEST }, if is_to_head { b"" } else { &id }].concat()
}
