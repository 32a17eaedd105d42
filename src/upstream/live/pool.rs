//! Connections that wait for their next request.
//!
//! Newest first: the connection used last is the least likely to have been closed by the provider,
//! and the ones that are not needed get old and go.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;

use super::connection::Connection;
use crate::catalog::Origin;
use crate::clock::Instant;

/// Idle connections by origin. The lock is held for a push or a pop, by one data thread's requests.
#[derive(Debug)]
pub(super) struct Pool {
    idle: Mutex<HashMap<Origin, Vec<Idle>>>,
    max_idle: usize,
    idle_timeout: Duration,
}

#[derive(Debug)]
struct Idle {
    connection: Connection,
    since: Instant,
}

// === impl Pool ===

impl Pool {
    pub(super) fn new(max_idle: usize, idle_timeout: Duration) -> Self {
        Self { idle: Mutex::default(), max_idle, idle_timeout }
    }

    /// A connection that looks alive.
    pub(super) fn take(&self, origin: &Origin) -> Option<Connection> {
        let mut idle = self.idle.lock();
        let waiting = idle.get_mut(origin)?;
        while let Some(mut candidate) = waiting.pop() {
            let fresh = candidate.since.elapsed() < self.idle_timeout;
            if fresh && candidate.connection.is_quiet() {
                return Some(candidate.connection);
            }
            if !fresh {
                // Everything below is older still.
                waiting.clear();
            }
        }
        None
    }

    /// Keeps a connection whose answer was read to its end.
    pub(super) fn put(&self, origin: Origin, mut connection: Connection) {
        if self.max_idle == 0 || !connection.recycle() {
            return;
        }
        let now = Instant::now();
        let mut idle = self.idle.lock();
        let waiting = idle.entry(origin).or_default();
        if waiting.len() >= self.max_idle {
            waiting.remove(0);
        }
        waiting.push(Idle { connection, since: now });
    }

    /// Closes what is too old, or closed by the peer, at every origin.
    pub(super) fn sweep(&self) {
        self.idle.lock().retain(|_, waiting| {
            waiting.retain_mut(|idle| {
                idle.since.elapsed() < self.idle_timeout && idle.connection.is_quiet()
            });
            !waiting.is_empty()
        });
    }

    /// How many wait, over all origins.
    pub(super) fn len(&self) -> usize {
        self.idle.lock().values().map(Vec::len).sum()
    }
}
