//! Locks that a panic of their holder does not end.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// The value behind a mutex. No holder leaves a value half-changed, so one that panicked is no reason to refuse all others.
pub(crate) fn locked<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
