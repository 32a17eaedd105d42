//! The end of what is still under way when the gateway stops.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

/// Whether what is still under way has to end, because the gateway stops. Clones are the same.
///
/// It wakes nobody: whoever orders the stop has everything polled once more that waits. So a request
/// neither holds a place in a list nor takes one when it begins.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<AtomicBool>);

// === impl Stop ===

impl Stop {
    /// Ends what is under way, as soon as it is polled.
    pub fn order(&self) {
        self.0.store(true, Ordering::Release);
    }

    pub(super) fn is_ordered(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// What some work comes to; nothing where it has to end before.
    pub(super) async fn unless<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        poll_fn(|cx| match work.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending if self.is_ordered() => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        })
        .await
    }
}
