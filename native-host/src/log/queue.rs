//! The way of a line to standard error: by a queue and a thread, so that nobody waits for whoever reads it.

use std::{
    io::{self, Write as _},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use tracing_subscriber::fmt::MakeWriter;

use super::limit::Summary;
use crate::metrics::{Counters, Dropped};

/// Lines that may wait. At a few hundred bytes each that is a megabyte.
const CAPACITY: usize = 4096;

/// Between two summaries of what was left out.
const SUMMARY_EVERY: Duration = Duration::from_secs(10);

/// For the last lines when the process ends. Who does not read them by then never will.
const FLUSH_LIMIT: Duration = Duration::from_secs(1);

/// Where lines are put.
#[derive(Clone)]
pub(super) struct Queue {
    lines: SyncSender<Vec<u8>>,
    /// How many are put and not written yet.
    waiting: Arc<AtomicUsize>,
    counters: Arc<Counters>,
}

/// Waits for the queue to be empty when it is dropped, for a while.
pub(crate) struct Flush {
    waiting: Arc<AtomicUsize>,
}

impl Queue {
    pub(super) fn start(counters: Arc<Counters>, summary: Summary) -> io::Result<(Self, Flush)> {
        let (lines, put) = sync_channel(CAPACITY);
        let waiting = Arc::<AtomicUsize>::default();
        let queue = Self { lines, waiting: Arc::clone(&waiting), counters: Arc::clone(&counters) };
        let writing = Arc::clone(&waiting);
        thread::Builder::new().name("log".to_owned()).spawn(move || write(&put, &writing, &counters, &summary))?;
        Ok((queue, Flush { waiting }))
    }
}

fn write(put: &Receiver<Vec<u8>>, waiting: &AtomicUsize, counters: &Counters, summary: &Summary) {
    let mut told = 0;
    let mut next = Instant::now() + SUMMARY_EVERY;
    loop {
        match put.recv_timeout(next.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                // A log that cannot be written is no reason to stop.
                let _ = io::stderr().lock().write_all(&line);
                waiting.fetch_sub(1, Ordering::Release);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        if Instant::now() >= next {
            next = Instant::now() + SUMMARY_EVERY;
            summary.tell();
            let dropped = counters.lines_dropped.get(Dropped::QueueFull);
            if dropped > told {
                tracing::warn!(count = dropped - told, "lines of the log were left out, since they are not read fast enough");
                told = dropped;
            }
        }
    }
}

impl io::Write for Queue {
    /// A whole line.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        if self.lines.try_send(line.to_vec()).is_err() {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            self.counters.lines_dropped.add(Dropped::QueueFull);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Queue {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Drop for Flush {
    fn drop(&mut self) {
        let end = Instant::now() + FLUSH_LIMIT;
        while self.waiting.load(Ordering::Acquire) > 0 && Instant::now() < end {
            thread::sleep(Duration::from_millis(2));
        }
    }
}
