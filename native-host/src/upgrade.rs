//! WebSockets: once both sides agreed to switch protocols, bytes go both ways untouched.

use std::{io, time::Duration};

use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy, copy_bidirectional, sink, split},
    time::{Instant, sleep_until, timeout},
};

use crate::frames::Frames;

/// A frame of the gateway's own: close, 4401, "Token expired" (RFC 6455, sections 5.5.1 and 7.4.2).
const EXPIRED: &[u8] = b"\x88\x0f\x11\x31Token expired";

/// For the upstream to end the frame that it is in, and for the client to read that this was the last one.
const PATIENCE: Duration = Duration::from_secs(5);

type Side = TokioIo<Upgraded>;

/// Joins both connections when their handshakes are over, until either side closes or the token of the client ends. `present` is held
/// as long.
pub(crate) fn tunnel(client: OnUpgrade, upstream: OnUpgrade, until: Option<Instant>, present: impl Send + 'static) {
    tokio::spawn(async move {
        let _present = present;
        let (client, upstream) = match tokio::try_join!(client, upstream) {
            Ok((client, upstream)) => (TokioIo::new(client), TokioIo::new(upstream)),
            Err(error) => return tracing::debug!(%error, "an upgrade was not completed"),
        };
        if let Err(error) = join(client, upstream, until).await {
            tracing::debug!(%error, "an upgraded connection broke off");
        }
    });
}

async fn join(mut client: Side, mut upstream: Side, until: Option<Instant>) -> io::Result<()> {
    let Some(until) = until else { return copy_bidirectional(&mut client, &mut upstream).await.map(drop) };
    let (mut from_client, to_client) = split(client);
    let (from_upstream, mut to_upstream) = split(upstream);
    let mut answers =
        Answers { from: from_upstream, to: to_client, frames: Frames::default(), buffer: vec![0; 8192], full: 0..0 };
    let requests = async {
        copy(&mut from_client, &mut to_upstream).await?;
        to_upstream.shutdown().await
    };
    tokio::select! {
        ended = async { tokio::try_join!(requests, answers.pass()) } => return ended.map(drop),
        () = sleep_until(until) => {}
    }
    // From here on nothing of the client's goes on.
    let goodbye = async {
        answers.end_frame().await?;
        answers.to.write_all(EXPIRED).await?;
        answers.to.shutdown().await?;
        // To close with something unread would take the last frame away from the client.
        copy(&mut from_client, &mut sink()).await
    };
    // Who does not take leave in time is left.
    let _ = timeout(PATIENCE, goodbye).await;
    Ok(())
}

/// What the upstream sends to the client. It may be left off at any time, and is known to the byte.
struct Answers<R, W> {
    from: R,
    to: W,
    frames: Frames,
    buffer: Vec<u8>,
    /// What of the buffer waits to be written.
    full: std::ops::Range<usize>,
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Answers<R, W> {
    async fn pass(&mut self) -> io::Result<()> {
        while self.step(false).await? {}
        self.to.shutdown().await
    }

    async fn end_frame(&mut self) -> io::Result<()> {
        while !self.frames.are_whole() {
            if !self.step(true).await? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(())
    }

    /// Reads if nothing waits, else writes: of one frame only, if asked. Each of both does something or nothing, so that
    /// to stop in between loses nothing. False at the end.
    async fn step(&mut self, of_one_frame: bool) -> io::Result<bool> {
        if self.full.is_empty() {
            // What is written by TLS may still be on its way, and nobody else would see to it.
            self.to.flush().await?;
            self.full = 0..self.from.read(&mut self.buffer).await?;
            return Ok(!self.full.is_empty());
        }
        let waiting = self.buffer.get(self.full.clone()).unwrap_or_default();
        let end = if of_one_frame { self.frames.clone().pass(waiting) } else { waiting.len() };
        let written = self.to.write(waiting.get(..end).unwrap_or_default()).await?;
        let mut gone = waiting.get(..written).unwrap_or_default();
        while !gone.is_empty() {
            let passed = self.frames.pass(gone);
            gone = gone.get(passed..).unwrap_or_default();
        }
        self.full.start += written;
        Ok(written > 0)
    }
}
