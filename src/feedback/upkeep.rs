//! Beside requests: joins words with requests that came later, and drops what is old.

use std::time::Duration;

use sqlx::AnyConnection;

use super::row::{self, JOINED_AT_A_TIME, Joined, Place};
use super::{Feedback, Lost, Shared, opinion};
use crate::clock::Instant;
use crate::store::StoreError;

/// How soon after a word that waits its request is looked for: the journal writes that often.
const SOON: Duration = Duration::from_millis(500);
/// How often words are looked for that wait since another node took them.
const LOOK: Duration = Duration::from_secs(30);
/// How long a word waits for its request.
const WAITS_FOR: Duration = Duration::from_secs(600);
/// How often words beyond their retention are looked for, and how many are deleted at a time.
const SWEEP: Duration = Duration::from_secs(60);
const SWEPT_AT_A_TIME: i64 = 5_000;

// === impl Feedback ===

impl Feedback {
    /// Joins words with the requests that they wait for, drops those that wait in vain, and deletes
    /// what is beyond its retention; for ever.
    pub async fn upkeep(self) {
        let shared = self.shared;
        let mut next_sweep = Instant::now();
        let (mut any_waits, mut is_away) = (true, false);
        loop {
            if !any_waits {
                // Either is a reason to look.
                let _ = tokio::time::timeout(LOOK, shared.waits.notified()).await;
            }
            tokio::time::sleep(SOON).await;
            if shared.store.is_absent() {
                any_waits = false;
                continue;
            }
            let now = Instant::now();
            let round = shared.round(now >= next_sweep).await;
            if now >= next_sweep {
                next_sweep = now + SWEEP;
            }
            match round {
                Ok(waits) => (any_waits, is_away) = (waits, false),
                Err(error) => {
                    if !is_away {
                        tracing::warn!(error = %error.chain(), "feedback waits for the store");
                    }
                    (any_waits, is_away) = (true, true);
                }
            }
        }
    }

    /// One round of [`Feedback::upkeep`]; says whether words go on waiting.
    #[cfg(test)]
    pub(super) async fn round(&self) -> Result<bool, StoreError> {
        self.shared.round(true).await
    }
}

// === impl Shared ===

impl Shared {
    /// One round; says whether words go on waiting.
    async fn round(&self, sweeps: bool) -> Result<bool, StoreError> {
        while self.join().await? == JOINED_AT_A_TIME.unsigned_abs() {}
        let failed = StoreError::query("drop feedback that waits in vain");
        let mut writer = self.store.writer().await?;
        let before_ms = self.before(WAITS_FOR);
        let dropped = row::drop_waiting(&mut writer, before_ms).await.map_err(&failed)?;
        if dropped > 0 {
            tracing::info!(dropped, "feedback was about requests that never came");
            self.metrics.feedback.lost(Lost::NoRequest.as_str(), dropped);
        }
        if sweeps && !self.retention.is_zero() {
            let before_ms = self.before(self.retention);
            let swept = row::delete_before(&mut writer, before_ms, SWEPT_AT_A_TIME);
            swept.await.map_err(StoreError::query("delete old feedback"))?;
        }
        row::any_waits(&mut writer).await.map_err(failed)
    }

    /// Joins some words with their requests; says how many were looked at.
    async fn join(&self) -> Result<u64, StoreError> {
        let failed = StoreError::query("join feedback with its requests");
        let joined = {
            let mut reader = self.store.reader().await?;
            row::joined(&mut reader).await.map_err(&failed)?
        };
        if joined.is_empty() {
            return Ok(0);
        }
        let mut writer = self.store.writer().await?;
        for together in joined.chunk_by(Joined::is_beside) {
            self.settle(&mut writer, together).await.map_err(&failed)?;
        }
        Ok(joined.len() as u64)
    }

    /// Settles all words of one caller about one request.
    async fn settle(
        &self,
        connection: &mut AnyConnection,
        together: &[Joined],
    ) -> Result<(), sqlx::Error> {
        let Some(first) = together.first() else { return Ok(()) };
        let place = Place { request_id: &first.request_id, caller: &first.caller };
        let is_first = !row::is_rated(connection, place).await?;
        let mut settled = Vec::new();
        for joined in together {
            if joined.is_theirs() {
                if row::settle(connection, joined).await? {
                    settled.push(joined);
                }
            } else if row::refuse(connection, joined).await? {
                self.metrics.feedback.lost(Lost::NotTheirs.as_str(), 1);
            }
        }
        let ratings = settled.iter().filter_map(|word| Some((word.kind?, word.score_millionths?)));
        let best = ratings.min_by_key(|(kind, _)| kind.rank());
        #[expect(clippy::cast_precision_loss, reason = "at most a million")]
        let score = best.map(|(_, millionths)| opinion::score(millionths as f64));
        self.tell(place.request_id, score, is_first, &first.about);
        Ok(())
    }

    /// The moment this long ago, in milliseconds since 1970.
    fn before(&self, ago: Duration) -> u64 {
        let ago_ms = u64::try_from(ago.as_millis()).unwrap_or(u64::MAX);
        self.clock.unix_ms().saturating_sub(ago_ms)
    }
}
