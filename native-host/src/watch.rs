//! Files that change while the gateway runs: noticed, read, and put in force without a restart.
//!
//! They are looked at once a second rather than watched by the kernel: events do not come from the other side of a
//! bind mount or a network file system, and are lost when one is replaced by a rename or a link is turned elsewhere.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    thread,
    time::{Duration, SystemTime},
};

const PERIOD: Duration = Duration::from_secs(1);

/// For whoever is in the middle of writing to come to an end.
const SETTLING: Duration = Duration::from_millis(50);
const MAX_SETTLING: usize = 10;

/// As coarse as a file system may tell the time. What changed this lately may change again and not show it.
const GRANULARITY: Duration = Duration::from_secs(3);

/// Follows files that belong together.
pub(crate) struct Watch {
    paths: Vec<PathBuf>,
    reader: Box<dyn Reread>,
    seen: Vec<Option<Stamp>>,
}

/// What is done when a file may have changed.
pub(crate) trait Reread: Send {
    /// `is_asked`: the operator wants to hear of it in any case. Whether it went well: if not, it is tried again.
    fn read(&mut self, is_asked: bool) -> bool;

    /// The files are as they were when they were last read.
    fn is_unchanged(&mut self) {}

    /// What is called once a second on another thread, until it gives `false`: it can act where a file system does not answer.
    fn overseer(&self) -> Option<Box<dyn FnMut() -> bool + Send>> {
        None
    }
}

/// What tells one state of a file from another, without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    size: u64,
    /// Device, inode, and the time of the last change of any kind, which no program can set back.
    #[cfg(unix)]
    identity: (u64, u64, i64, i64),
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        Some(Self {
            modified: metadata.modified().ok(),
            size: metadata.len(),
            #[cfg(unix)]
            identity: {
                use std::os::unix::fs::MetadataExt;
                (metadata.dev(), metadata.ino(), metadata.ctime(), metadata.ctime_nsec())
            },
        })
    }

    fn is_young(&self) -> bool {
        // A time in the future tells nothing.
        self.modified.is_none_or(|modified| modified.elapsed().is_ok_and(|age| age < GRANULARITY))
    }
}

impl Watch {
    /// Whoever follows them has not read them yet: what they are now counts as a change.
    pub(crate) fn new(paths: Vec<PathBuf>, reader: impl Reread + 'static) -> Self {
        Self { paths, reader: Box::new(reader), seen: Vec::new() }
    }

    /// On a thread of its own, since a network file system may keep it waiting. It ends with the process, or when the
    /// sender is dropped, through which it can be told to read the files at once.
    pub(crate) fn start(self) -> io::Result<Sender<()>> {
        let (sender, asked) = channel();
        if let Some(mut oversee) = self.reader.overseer() {
            let repeat = move || {
                while oversee() {
                    thread::sleep(PERIOD);
                }
            };
            thread::Builder::new().name("watch-overseer".to_owned()).spawn(repeat)?;
        }
        thread::Builder::new().name("watch".to_owned()).spawn(move || self.follow(&asked))?;
        Ok(sender)
    }

    fn follow(mut self, asked: &Receiver<()>) {
        loop {
            match asked.recv_timeout(PERIOD) {
                Ok(()) => self.read(true),
                Err(RecvTimeoutError::Timeout) => self.look(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn stamps(&self) -> Vec<Option<Stamp>> {
        self.paths.iter().map(|path| Stamp::of(path)).collect()
    }

    fn look(&mut self) {
        let stamps = self.stamps();
        if stamps != self.seen || stamps.iter().flatten().any(Stamp::is_young) {
            self.read(false);
        } else {
            self.reader.is_unchanged();
        }
    }

    fn read(&mut self, is_asked: bool) {
        let mut stamps = self.stamps();
        if stamps != self.seen {
            for _ in 0..MAX_SETTLING {
                thread::sleep(SETTLING);
                let now = self.stamps();
                if std::mem::replace(&mut stamps, now.clone()) == now {
                    break;
                }
            }
        }
        self.seen = stamps;
        if !self.reader.read(is_asked) {
            self.seen.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use super::{Reread, Watch};

    struct Second(Arc<AtomicUsize>);

    impl Reread for Second {
        fn read(&mut self, _is_asked: bool) -> bool {
            self.0.fetch_add(1, Ordering::Relaxed) == 1
        }
    }

    #[test]
    fn what_could_not_be_read_is_tried_again_until_it_can() {
        let reads = Arc::new(AtomicUsize::new(0));
        let mut watch = Watch::new(vec!["/nonexistent".into()], Second(Arc::clone(&reads)));
        for expected in [1, 2, 2, 2] {
            watch.look();
            assert_eq!(reads.load(Ordering::Relaxed), expected);
        }
    }
}
