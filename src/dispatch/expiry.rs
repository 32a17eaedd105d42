//! When a stream has to be over, told to those who write it.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::clock::Instant;

/// When a stream has to be over; nothing once it has ended, or before that is known.
///
/// A body is polled only while there is room for what it says, so a stream whose reader has stalled
/// cannot look at the clock. Whoever waits for the room can, with this.
#[derive(Debug, Clone)]
pub struct Expiry(Arc<Mutex<Option<Instant>>>);

// === impl Expiry ===

impl Expiry {
    pub(super) fn never() -> Self {
        Self(Arc::default())
    }

    /// When the stream has to be over.
    pub fn get(&self) -> Option<Instant> {
        *self.0.lock()
    }

    pub(super) fn set(&self, deadline: Instant) {
        *self.0.lock() = Some(deadline);
    }

    pub(super) fn clear(&self) {
        *self.0.lock() = None;
    }
}
