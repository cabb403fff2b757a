//! What is in the memory of this process, tokens among it, stays there.

use std::io;

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
