//! Time limits that begin anew again and again.

use std::{pin::Pin, task::Context};

use tokio::time::{Instant, Sleep, sleep_until};

/// A timer for one wait after the other. It may ring too early, for a wait that is over: to see that now and then costs less than to
/// set one up and take it down for each.
#[derive(Default)]
pub(crate) struct Alarm(Option<Pin<Box<Sleep>>>);

impl Alarm {
    /// Whether this moment has come. If not, the task is woken when it does.
    pub(crate) fn is_over(&mut self, end: Instant, context: &mut Context<'_>) -> bool {
        let sleep = self.0.get_or_insert_with(|| Box::pin(sleep_until(end)));
        if sleep.deadline() > end {
            sleep.as_mut().reset(end);
        }
        while sleep.as_mut().poll(context).is_ready() {
            if end <= Instant::now() {
                return true;
            }
            sleep.as_mut().reset(end);
        }
        false
    }
}
