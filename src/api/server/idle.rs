//! How long a caller may be silent: longer between two requests than within the head of one.
//!
//! hyper has one limit for both. It starts a timer when it begins to wait for a head and drops it
//! when it has one, so a timer of our own sees just what is needed.

// hyper's trait is written in terms of the standard library's clock.
#![expect(clippy::disallowed_types, reason = "the signature of a foreign trait")]

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::time;

/// The timer of one connection.
#[derive(Debug)]
pub(super) struct HeadTimer {
    within: Duration,
    idle: Duration,
    /// How often something was read from the connection.
    reads: Arc<AtomicU64>,
    /// Whether the first head was waited for. It has no idle time before it.
    is_used: AtomicBool,
}

/// Waits for one head.
#[derive(Debug)]
struct HeadSleep {
    sleep: Pin<Box<time::Sleep>>,
    within: Duration,
    reads: Arc<AtomicU64>,
    /// The count of reads while nothing of the head has come yet.
    silent_since: Option<u64>,
}

// === impl HeadTimer ===

impl HeadTimer {
    /// A head may take `within` from its first byte, which may take `idle` after the last request.
    pub(super) fn new(within: Duration, idle: Duration, reads: Arc<AtomicU64>) -> Self {
        Self { within, idle, reads, is_used: AtomicBool::new(false) }
    }
}

impl hyper::rt::Timer for HeadTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn hyper::rt::Sleep>> {
        self.sleep_until(self.now() + duration)
    }

    /// `deadline` is `within` from now, which is all that hyper knows of.
    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn hyper::rt::Sleep>> {
        let (deadline, silent_since) = if self.is_used.swap(true, Ordering::Relaxed) {
            (time::Instant::now() + self.idle, Some(self.reads.load(Ordering::Relaxed)))
        } else {
            (deadline.into(), None)
        };
        let sleep = Box::pin(time::sleep_until(deadline));
        let (within, reads) = (self.within, Arc::clone(&self.reads));
        Box::pin(HeadSleep { sleep, within, reads, silent_since })
    }

    fn now(&self) -> Instant {
        time::Instant::now().into()
    }
}

// === impl HeadSleep ===

impl hyper::rt::Sleep for HeadSleep {}

impl Future for HeadSleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        // hyper looks here whenever it has read something and the head is not complete.
        if self.silent_since.is_some_and(|reads| reads != self.reads.load(Ordering::Relaxed)) {
            self.silent_since = None;
            let deadline = time::Instant::now() + self.within;
            self.sleep.as_mut().reset(deadline);
        }
        self.sleep.as_mut().poll(cx)
    }
}
