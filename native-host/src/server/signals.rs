//! What the system tells the process to do.

use std::io;

use tokio::signal;

/// SIGHUP, by which a person says that a file has changed.
pub(super) struct Hangups {
    #[cfg(unix)]
    signals: signal::unix::Signal,
}

#[cfg(unix)]
impl Hangups {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { signals: signal::unix::signal(signal::unix::SignalKind::hangup())? })
    }

    /// Whether there was one; if not, there will be no more.
    pub(super) async fn next(&mut self) -> bool {
        self.signals.recv().await.is_some()
    }
}

#[cfg(not(unix))]
impl Hangups {
    pub(super) const fn new() -> io::Result<Self> {
        Ok(Self {})
    }

    pub(super) async fn next(&mut self) -> bool {
        false
    }
}

/// SIGTERM and SIGINT.
pub(super) struct Stops {
    #[cfg(unix)]
    terminate: signal::unix::Signal,
    #[cfg(unix)]
    interrupt: signal::unix::Signal,
}

#[cfg(unix)]
impl Stops {
    pub(super) fn new() -> io::Result<Self> {
        use signal::unix::{SignalKind, signal};
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

#[cfg(not(unix))]
impl Stops {
    pub(super) const fn new() -> io::Result<Self> {
        Ok(Self {})
    }

    pub(super) async fn next(&mut self) {
        // Where it cannot be listened for, nobody can say stop this way.
        if signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
