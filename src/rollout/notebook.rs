//! Writes what was noted on this node into the store, in batches, for the leader to read.
//!
//! A batch has a number that no other of this node has. One whose answer did not come is written
//! again under the same number, and the leader, who remembers up to which number it has read,
//! counts it once. While the store is away notes wait in the queue and here, each up to a bound;
//! what is more is dropped and counted.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::watch;

use super::record::int;
use super::{Note, Noted, RolloutLedger};
use crate::store::{self, StoreError};

/// The notes of one node on their way into the store.
#[derive(Debug)]
pub struct Notebook {
    ledger: RolloutLedger,
    waiting: VecDeque<Batch>,
    /// The number of the next batch.
    next: u64,
}

/// A row.
#[derive(Debug)]
struct Batch {
    rollout: Arc<str>,
    seq: u64,
    /// JSON.
    notes: String,
    count: u64,
}

/// How long notes are gathered before they are written.
const GATHER: Duration = Duration::from_millis(100);
/// How long is waited after the store did not take them.
const RETRY: Duration = Duration::from_secs(1);
/// Notes in one row.
const MOST_IN_A_ROW: usize = 300;
/// Rows in one transaction.
const MOST_AT_ONCE: usize = 50;

// === impl Notebook ===

impl Notebook {
    /// Of this ledger's node. There must be no other one of it.
    pub fn new(ledger: RolloutLedger) -> Self {
        Self { ledger, waiting: VecDeque::new(), next: 1 }
    }

    /// Writes what is noted until told to stop, and then what is left, once.
    pub async fn run(mut self, mut closing: watch::Receiver<bool>) {
        let rollouts = self.ledger.rollouts().clone();
        let mut is_away = false;
        loop {
            let pause = async {
                if is_away {
                    tokio::time::sleep(RETRY).await;
                } else {
                    rollouts.noted().await;
                    tokio::time::sleep(GATHER).await;
                }
            };
            let is_last = tokio::select! {
                () = pause => false,
                // An error means that nobody will tell.
                _ = closing.wait_for(|closing| *closing) => true,
            };
            match self.flush().await {
                Ok(()) => is_away = false,
                Err(error) => {
                    if !is_away {
                        tracing::error!(error = %error.chain(), "cannot write notes of rollouts");
                    }
                    is_away = true;
                }
            }
            if is_last {
                return;
            }
        }
    }

    /// Writes all that was noted.
    ///
    /// # Errors
    ///
    /// [`StoreError`] where the store does not take it; it goes on waiting.
    pub async fn flush(&mut self) -> Result<(), StoreError> {
        if self.waiting.is_empty() {
            // Otherwise the queue's bound is what holds.
            self.gather();
        }
        while !self.waiting.is_empty() {
            let failed = StoreError::query("write notes of rollouts");
            let shared = &self.ledger.shared;
            let mut connection = shared.store.writer().await?;
            let kind = shared.store.kind();
            let mut transaction = store::begin(&mut connection, kind).await.map_err(&failed)?;
            let at_once = self.waiting.len().min(MOST_AT_ONCE);
            for batch in self.waiting.iter().take(at_once) {
                sqlx::query(
                    "INSERT INTO rollout_notes (rollout, node, seq, notes) VALUES ($1, $2, $3, $4)
                     ON CONFLICT (rollout, node, seq) DO NOTHING",
                )
                .bind(&*batch.rollout)
                .bind(&shared.node)
                .bind(int(batch.seq))
                .bind(&batch.notes)
                .execute(&mut *transaction)
                .await
                .map_err(&failed)?;
            }
            transaction.commit().await.map_err(&failed)?;
            self.waiting.drain(..at_once);
        }
        Ok(())
    }

    /// Makes batches of what is in the queue, each rollout's in the order in which it was noted.
    fn gather(&mut self) {
        let mut by_rollout: Vec<(Arc<str>, Vec<Noted>)> = Vec::new();
        for Note { rollout, noted } in self.ledger.rollouts().take_notes() {
            match by_rollout.iter_mut().find(|(id, _)| *id == rollout) {
                Some((_, notes)) => notes.push(noted),
                None => by_rollout.push((rollout, vec![noted])),
            }
        }
        for (rollout, notes) in by_rollout {
            for notes in notes.chunks(MOST_IN_A_ROW) {
                let count = notes.len() as u64;
                let Ok(notes) = serde_json::to_string(notes) else {
                    self.ledger.shared.lost_notes.fetch_add(count, Ordering::Relaxed);
                    continue;
                };
                let (rollout, seq) = (Arc::clone(&rollout), self.next);
                self.next += 1;
                self.waiting.push_back(Batch { rollout, seq, notes, count });
            }
        }
    }

    /// Notes that wait here.
    pub fn waiting(&self) -> u64 {
        self.waiting.iter().map(|batch| batch.count).sum()
    }
}
