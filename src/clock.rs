//! The two clocks.
//!
//! Durations and deadlines use the monotonic [`Instant`], which tests pause and advance.
//! Timestamps for people use a [`WallClock`], which tests set. Nothing else reads the time.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

/// The monotonic clock of the runtime; `tokio::time::pause` stops it in tests.
pub use tokio::time::Instant;

/// A clock for timestamps that leave the process.
pub trait WallClock: fmt::Debug + Send + Sync {
    /// Milliseconds since 1970-01-01T00:00:00Z.
    fn unix_ms(&self) -> u64;

    /// Whole seconds since 1970-01-01T00:00:00Z.
    fn unix_seconds(&self) -> u64 {
        self.unix_ms() / 1000
    }
}

/// The operating system's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemWallClock;

/// A clock that stands still; for tests.
#[derive(Debug, Clone, Copy)]
pub struct FixedWallClock(pub u64);

// === impl SystemWallClock ===

impl WallClock for SystemWallClock {
    fn unix_ms(&self) -> u64 {
        #[expect(clippy::disallowed_methods, reason = "this is the one place that reads it")]
        let now = SystemTime::now();
        now.duration_since(UNIX_EPOCH)
            .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}

// === impl FixedWallClock ===

impl WallClock for FixedWallClock {
    fn unix_ms(&self) -> u64 {
        self.0
    }
}

/// Prints milliseconds since 1970 as RFC 3339 in UTC with milliseconds, such as
/// `2026-11-20T23:49:49.120Z`.
pub fn rfc3339(unix_ms: u64) -> String {
    i64::try_from(unix_ms)
        .ok()
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok())
        .map_or_else(|| unix_ms.to_string(), |time| format!("{time:.3}"))
}
