//! What is in the memory of this process, tokens among it, stays there; and it is not much.

use std::{cell::Cell, hint::black_box, io, time::Duration};

use tokio::time::sleep;

/// From here on the process leaves no core dump, and on Linux no other process of the same user may read its memory or
/// its environment, nor attach a debugger.
///
/// # Errors
/// When the system refuses; nobody has been seen to do so.
#[cfg(unix)]
pub(crate) fn keep_private() -> io::Result<()> {
    use rustix::process::{Resource, Rlimit, setrlimit};
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    // The limit does not hold where a program is given the dump (core(5)), as most distributions have it.
    #[cfg(target_os = "linux")]
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
    Ok(())
}

#[cfg(not(unix))]
pub(crate) const fn keep_private() -> io::Result<()> {
    Ok(())
}

/// From here on the system gives this process its memory in pages of the usual size. The little that a gateway needs lies
/// in many places: of huge pages, of 2 MB each, it would take five before the first request, and touch a tenth of them.
///
/// The allocator does not ask for them (its feature `no_thp`); this is for systems that give them to who does not ask, as
/// `always` in `/sys/kernel/mm/transparent_hugepage/enabled` says. Where it is refused there is only more memory taken.
#[cfg(target_os = "linux")]
pub(crate) fn keep_small() {
    let _ = rustix::thread::disable_transparent_huge_pages(true);
}

#[cfg(not(target_os = "linux"))]
pub(crate) const fn keep_small() {}

/// Lets the system have back, in a moment, what connections that come to rest have freed.
///
/// The allocator does so by itself after a second, but looks whether there is anything only when it is asked for a large
/// piece, or gets one back. Of a burst of connections that all rest, nobody would ask.
pub(crate) fn give_back_soon() {
    const SOON: Duration = Duration::from_secs(2);
    const LARGE: usize = 1 << 20;
    thread_local!(static IS_DUE: Cell<bool> = const { Cell::new(false) });
    if !IS_DUE.replace(true) {
        tokio::spawn(async {
            sleep(SOON).await;
            IS_DUE.set(false);
            // It is never touched, so it costs no more than the asking.
            drop(black_box(Vec::<u8>::with_capacity(LARGE)));
        });
    }
}
