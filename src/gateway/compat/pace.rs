//! How fast runs may ask: so many requests at a time, so many a minute, of all runs together.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::clock::Instant;
use crate::quota::{Bucket, Rate};

/// The pace of all runs together.
#[derive(Debug)]
pub(super) struct Pace {
    room: Arc<Semaphore>,
    limits: Mutex<Limits>,
}

#[derive(Debug)]
struct Limits {
    /// Permits that there are, taken or not.
    at_a_time: usize,
    minute: Option<(u32, Bucket)>,
}

// === impl Pace ===

impl Pace {
    /// A pace at which nothing may be asked yet.
    pub(super) fn new() -> Self {
        let limits = Mutex::new(Limits { at_a_time: 0, minute: None });
        Self { room: Arc::new(Semaphore::new(0)), limits }
    }

    /// Sets it. Fewer at a time takes effect as those under way end.
    pub(super) fn set(&self, at_a_time: u32, a_minute: Option<u32>) {
        let at_a_time = usize::try_from(at_a_time).unwrap_or(usize::MAX).min(10_000);
        let mut limits = self.limits.lock();
        if at_a_time > limits.at_a_time {
            self.room.add_permits(at_a_time - limits.at_a_time);
            limits.at_a_time = at_a_time;
        } else {
            // What is taken now is forgotten with a later call.
            let forgotten = self.room.forget_permits(limits.at_a_time - at_a_time);
            limits.at_a_time -= forgotten;
        }
        if limits.minute.as_ref().map(|(rate, _)| *rate) != a_minute {
            let bucket = |rate| Bucket::new(Rate::per_minute(u64::from(rate)), 1, Instant::now());
            limits.minute = a_minute.map(|rate| (rate, bucket(rate)));
        }
    }

    /// Requests that may be made at a time.
    pub(super) fn at_a_time(&self) -> usize {
        self.limits.lock().at_a_time
    }

    /// Waits until a request may be made; it may until the permit is dropped.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the place. A part of the minute may be lost.
    pub(super) async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        // Nobody closes it.
        let permit = Arc::clone(&self.room).acquire_owned().await.ok();
        while let Some(wait) = self.wait() {
            tokio::time::sleep(wait).await;
        }
        permit
    }

    /// Takes one of the minute, or says how long there is none.
    fn wait(&self) -> Option<std::time::Duration> {
        let now = Instant::now();
        let mut limits = self.limits.lock();
        let (_, bucket) = limits.minute.as_mut()?;
        let wait = bucket.wait(1, now);
        if wait.is_none() {
            bucket.take(1, now);
        }
        wait
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn so_many_a_minute_come_evenly() {
        let pace = Pace::new();
        pace.set(8, Some(60));
        let began = Instant::now();
        for _ in 0..31 {
            drop(pace.turn().await);
        }
        let took = began.elapsed();
        assert!(took >= Duration::from_secs(29), "{took:?}");
        assert!(took <= Duration::from_millis(30_100), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn fewer_at_a_time_takes_effect_as_others_end() {
        let pace = Pace::new();
        pace.set(3, None);
        let held = [pace.turn().await, pace.turn().await, pace.turn().await];
        pace.set(1, None);
        let second = Duration::from_secs(1);
        assert!(tokio::time::timeout(second, pace.turn()).await.is_err());
        drop(held);
        pace.set(1, None);
        let one = pace.turn().await;
        assert!(tokio::time::timeout(second, pace.turn()).await.is_err(), "one at a time");
        drop(one);
        assert!(tokio::time::timeout(second, pace.turn()).await.is_ok());
    }
}
