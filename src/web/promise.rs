//! Futures as promises, polled at once whenever what they wait for is there.
//!
//! `wasm_bindgen_futures` polls from one queue for all, a turn of the event loop later: in workerd that costs several
//! microseconds each time, and one request would go on in the turn of another, whose end may be its own.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
};

use js_sys::{Function, Promise};
use wasm_bindgen::JsValue;

type Work = Pin<Box<dyn Future<Output = JsValue>>>;

/// Work that waits for something, and who waits for it.
struct Task {
    work: Work,
    resolve: Function,
}

thread_local! {
    static TASKS: RefCell<BTreeMap<u64, Task>> = const { RefCell::new(BTreeMap::new()) };
    static LAST: Cell<u64> = const { Cell::new(0) };
}

/// What wakes a task. Its number is all of it, since a waker might be sent to other threads, and the task must not.
struct Number(u64);

impl Wake for Number {
    /// Called by a promise that is settled, so never in the middle of a poll: promises call back from an empty stack.
    fn wake(self: Arc<Self>) {
        let Some(mut task) = TASKS.with_borrow_mut(|tasks| tasks.remove(&self.0)) else { return };
        let number = self.0;
        match task.work.as_mut().poll(&mut Context::from_waker(&Waker::from(self))) {
            // Whoever waits is told in a turn of its own, and cannot fail here.
            Poll::Ready(value) => _ = task.resolve.call1(&JsValue::UNDEFINED, &value),
            Poll::Pending => _ = TASKS.with_borrow_mut(|tasks| tasks.insert(number, task)),
        }
    }
}

pub(crate) fn promise(work: impl Future<Output = JsValue> + 'static) -> Promise {
    // Of a promise it makes no other.
    Promise::resolve(&value_or_promise(work))
}

/// What the work comes to, if it waits for nothing; else the promise of it.
pub(crate) fn value_or_promise(work: impl Future<Output = JsValue> + 'static) -> JsValue {
    let number = LAST.get() + 1;
    LAST.set(number);
    let mut work: Work = Box::pin(work);
    match work.as_mut().poll(&mut Context::from_waker(&Waker::from(Arc::new(Number(number))))) {
        Poll::Ready(value) => value,
        Poll::Pending => {
            let mut work = Some(work);
            let promise = Promise::new(&mut |resolve, _| {
                if let Some(work) = work.take() {
                    TASKS.with_borrow_mut(|tasks| tasks.insert(number, Task { work, resolve }));
                }
            });
            promise.into()
        }
    }
}
