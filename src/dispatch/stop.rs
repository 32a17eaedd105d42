//! The end of what is still under way when the gateway stops.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use tokio::sync::Notify;

/// Whether what is still under way has to end, because the gateway stops. Clones are the same.
///
/// It does not wake requests: whoever orders the stop has connections poll once more what they wait
/// for. So a request neither holds a place in a list nor takes one when it begins. What goes on
/// without a connection is wrapped, see [`Stop::heeded`].
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<Order>);

#[derive(Debug, Default)]
struct Order {
    is_given: AtomicBool,
    given: Notify,
}

// === impl Stop ===

impl Stop {
    /// Ends what is under way, as soon as it is polled.
    pub fn order(&self) {
        self.0.is_given.store(true, Ordering::Release);
        self.0.given.notify_waiters();
    }

    /// Whether it is so.
    pub(crate) fn is_ordered(&self) -> bool {
        self.0.is_given.load(Ordering::Acquire)
    }

    /// What some work comes to; nothing where it has to end before. Pinned by the caller: moved in
    /// here, it would take its room twice in every future around it.
    pub async fn unless<T>(&self, mut work: Pin<&mut impl Future<Output = T>>) -> Option<T> {
        // Nothing is begun any more.
        if self.is_ordered() {
            return None;
        }
        poll_fn(|cx| match work.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending if self.is_ordered() => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        })
        .await
    }

    /// Carries out the work of a task, and has it polled once more when it has to end. To be polled
    /// by that task alone: it is woken as it was at first.
    pub async fn heeded<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        let mut given = pin!(self.0.given.notified());
        // Before the work looks, so that no order is missed in between.
        given.as_mut().enable();
        let mut is_waited_for = false;
        poll_fn(|cx| {
            let polled = work.as_mut().poll(cx);
            // Waited for once: each time would take a lock that all share.
            let is_new = polled.is_pending() && !std::mem::replace(&mut is_waited_for, true);
            if is_new && given.as_mut().poll(cx).is_ready() {
                return work.as_mut().poll(cx);
            }
            polled
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_waits_ends_once_it_is_polled_and_nothing_is_begun_any_more() {
        let stop = Stop::default();
        assert_eq!(stop.unless(pin!(async { 1 })).await, Some(1));
        let pending = pin!(std::future::pending::<()>());
        let waiting = stop.heeded(stop.unless(pending));
        let ordering = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            stop.order();
        };
        assert_eq!(tokio::join!(waiting, ordering).0, None);
        assert_eq!(stop.unless(pin!(async { 2 })).await, None);
        assert_eq!(stop.heeded(async { 3 }).await, 3);
    }
}
