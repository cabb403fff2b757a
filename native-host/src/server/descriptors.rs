//! How many files, and so connections, the system lets this process have open.

use std::{
    io,
    sync::atomic::{AtomicI64, Ordering},
};

use crate::clock;

/// Raises the limit to what the system allows at most. Many systems start programs with 1024, for the sake of old ones
/// that cannot cope with more.
#[cfg(unix)]
pub(crate) fn raise_limit() -> io::Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return Ok(());
    }
    Ok(setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?)
}

#[cfg(not(unix))]
pub(crate) const fn raise_limit() -> io::Result<()> {
    Ok(())
}

#[cfg(unix)]
fn limit() -> Option<usize> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current?;
    Some(usize::try_from(limit).unwrap_or(usize::MAX))
}

#[cfg(not(unix))]
const fn limit() -> Option<usize> {
    None
}

/// Connections of clients, if nobody says otherwise.
const USUAL: u32 = 16_384;

/// Descriptors for files, listeners, fetches of keys, and clients that others make room for.
const OTHERS: usize = 64;

/// As many connections of clients as are wanted, if enough descriptors remain: a quarter of all, or those of the upstream's
/// connections and some for the rest.
pub(super) fn room_for(wanted: Option<u32>, of_upstream: usize) -> usize {
    let room = usize::try_from(wanted.unwrap_or(USUAL)).unwrap_or(usize::MAX);
    let Some(limit) = limit() else { return room };
    let most = (limit - limit / 4).min(limit.saturating_sub(of_upstream).saturating_sub(OTHERS)).max(1);
    if wanted.is_some() && room > most {
        tracing::warn!(
            "AUTH_MAX_CONNECTIONS is {room}, but the limit of open files is {limit}: at most {most} connections are served at one time; raise it (LimitNOFILE= of systemd, ulimit -n)"
        );
    }
    room.min(most)
}

/// As many connections to the upstream as are wanted, if a quarter of all descriptors remains; half of them, if nobody says
/// otherwise.
pub(crate) fn room_for_upstream(wanted: Option<u32>) -> usize {
    let wanted = wanted.map(|wanted| usize::try_from(wanted).unwrap_or(usize::MAX));
    let Some(limit) = limit() else {
        return wanted.unwrap_or(usize::try_from(USUAL).unwrap_or(usize::MAX));
    };
    let most = (limit - limit / 4).max(1);
    if let Some(wanted) = wanted.filter(|wanted| *wanted > most) {
        tracing::warn!(
            "UPSTREAM_MAX_CONNECTIONS is {wanted}, but the limit of open files is {limit}: at most {most} connections to the upstream are opened; raise it (LimitNOFILE= of systemd, ulimit -n)"
        );
    }
    wanted.unwrap_or(limit / 2).clamp(1, most)
}

/// Once a minute at most: it is said by each connection that others make room for.
pub(super) fn say_that_it_is_full() {
    const PERIOD: i64 = 60;
    static SAID: AtomicI64 = AtomicI64::new(i64::MIN / 2);
    let now = i64::try_from(clock::now().as_secs()).unwrap_or(0);
    let said = SAID.load(Ordering::Relaxed);
    if now.saturating_sub(said).abs() >= PERIOD && SAID.compare_exchange(said, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    {
        tracing::warn!(
            "as many connections are open as AUTH_MAX_CONNECTIONS and the limit of open files allow: idle ones and those without a valid credential are closed"
        );
    }
}
