//! Rollouts at work: what requests are steered by, and what is noted of them.
//!
//! The request path looks at one immutable table ([`Steering`]) and leaves notes in a bounded queue
//! ([`Rollouts::note`]); it never waits and never asks the store.
//!
//! Behind it the [`RolloutLedger`] keeps rollouts in the store and steers by what stands there;
//! each node's [`Notebook`] writes its notes there, and one node at a time, the [`Leader`], reads
//! them, feeds them to the state machines of [`policy::rollout`](crate::policy::rollout) and writes
//! what these decide. Nodes talk to each other through the store alone; what Redis tells is that
//! something has changed.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

mod error;
mod leader;
mod ledger;
mod nodes;
mod note;
mod notebook;
mod record;
mod refresh;
mod rows;
mod settings;
mod settle;
mod steering;
#[cfg(test)]
mod tests;

pub use error::RolloutError;
pub use leader::Leader;
pub use ledger::{Command, FreezeWindow, NewRollout, StoredDecision};
pub use nodes::NodeSeen;
pub use note::{Note, Noted};
pub use notebook::Notebook;
pub use record::{Record, ShadowSettings, Standing, phase_name};
pub use refresh::{Bounding, Finish, Finishing, RolloutLedger, Surroundings};
pub use settings::{FreezeSettings, RolloutSettings};
pub use steering::{Shadowing, Steered, Steering, Subject};

/// All rollouts. Clones are the same rollouts.
#[derive(Clone)]
pub struct Rollouts {
    shared: Arc<Shared>,
}

struct Shared {
    steering: ArcSwap<Steering>,
    /// Raised with each new table, for requests that wait for their first token.
    changed: watch::Sender<u64>,
    notes: Mutex<Vec<Note>>,
    is_noted: Notify,
    dropped: AtomicU64,
}

/// Notes that may wait to be written; more are counted and dropped.
const MAX_NOTES: usize = 16_384;

// === impl Rollouts ===

impl Rollouts {
    /// No rollouts.
    #[expect(clippy::new_without_default, reason = "there is more to give than nothing")]
    pub fn new() -> Self {
        Self {
            shared: Arc::new(Shared {
                steering: ArcSwap::default(),
                changed: watch::Sender::new(0),
                notes: Mutex::default(),
                is_noted: Notify::new(),
                dropped: AtomicU64::new(0),
            }),
        }
    }

    /// What requests are steered by now.
    pub fn steering(&self) -> Arc<Steering> {
        self.shared.steering.load_full()
    }

    /// Whether there is anything to steer: one read of memory.
    pub fn is_idle(&self) -> bool {
        self.shared.steering.load().is_empty()
    }

    /// Steers by this from now on.
    pub fn steer(&self, steering: Steering) {
        self.shared.steering.store(Arc::new(steering));
        self.shared.changed.send_modify(|changes| *changes += 1);
    }

    /// Waits until the candidate of this rollout was found to do harm, so that whoever has no first
    /// token from it leaves it. Never where that does not happen.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    pub async fn harmed(&self, rollout: &str) {
        let mut changed = self.shared.changed.subscribe();
        while !self.shared.steering.load().is_harmful(rollout) {
            if changed.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Notes something of a request. Never waits: where too much waits to be written, it is counted
    /// and dropped.
    pub fn note(&self, note: Note) {
        let mut notes = self.shared.notes.lock();
        if notes.len() >= MAX_NOTES {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        notes.push(note);
        drop(notes);
        self.shared.is_noted.notify_one();
    }

    /// Waits until something was noted. For one listener.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    pub async fn noted(&self) {
        self.shared.is_noted.notified().await;
    }

    /// Takes all that was noted, oldest first.
    pub fn take_notes(&self) -> Vec<Note> {
        std::mem::take(&mut *self.shared.notes.lock())
    }

    /// Notes that were dropped because too many waited.
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for Rollouts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rollouts").field("steering", &self.steering()).finish_non_exhaustive()
    }
}
