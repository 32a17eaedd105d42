//! The other end of the queue: batches, retries, and what a killed run leaves behind.
//!
//! The writer looks into the queue every 250 ms, or when 1,000 entries have come in. It writes what
//! it finds in one transaction, together with the counts of the run. So after `kill -9` the
//! store holds every request that ended more than a moment before, and the counts beside them say
//! how many requests had been admitted and are not there.
//!
//! A batch that cannot be written is kept and tried again, at longer and longer intervals, on a
//! fresh connection. Meanwhile the queue fills; what does not fit is dropped and counted by
//! [`Journal::record`](super::Journal::record). An entry that the store refuses while it takes others is
//! dropped and counted as well, so that it holds up none of them.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use super::session::{Counts, Refused, Session};
use super::{DropReason, Entry, Shared};
use crate::clock::{Instant, WallClock};
use crate::store::{Store, StoreError};

/// Takes entries from the queue and writes them. One per journal.
#[derive(Debug)]
pub struct JournalWriter {
    pub(super) entries: mpsc::Receiver<Entry>,
    pub(super) shared: Arc<Shared>,
    pub(super) store: Store,
    pub(super) clock: Arc<dyn WallClock>,
    pub(super) flush_interval: Duration,
    pub(super) retention: Duration,
    pub(super) session: Option<Session>,
    /// Entries taken from the queue and not yet in the store.
    pub(super) batch: Vec<Entry>,
    /// Requests admitted, as last written.
    pub(super) accepted_written: u64,
    pub(super) next_sweep: Option<Instant>,
}

/// Rows in one transaction.
const BATCH: usize = 1_000;
/// The first and the longest pause after a failed write.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// How long one write may take. A server that vanished without a word is not waited for; the batch
/// keeps its ids, so that a write that did arrive is not made twice.
const ONE_WRITE: Duration = Duration::from_secs(20);
/// How long the last batches may take when the gateway ends.
const LAST_WRITES: Duration = Duration::from_secs(5);
/// How often rows beyond their retention are looked for.
const SWEEP: Duration = Duration::from_secs(60);

// === impl JournalWriter ===

impl JournalWriter {
    /// Writes until [`Journal::shut_down`](super::Journal::shut_down) is called or every
    /// [`Journal`](super::Journal) is gone, then writes what is left, for at most five seconds,
    /// and marks the run as ended.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses what waits, as a kill would.
    pub async fn run(mut self) {
        let mut ticks = tokio::time::interval(self.flush_interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !self.is_closing() {
            tokio::select! {
                _ = ticks.tick() => {}
                () = self.shared.wake.notified() => {}
            }
            self.write_all().await;
            if let Err(error) = self.sweep().await {
                self.on_trouble(&error);
            }
        }
        self.entries.close();
        let in_time = tokio::time::timeout(LAST_WRITES, self.end()).await.is_ok();
        self.give_up();
        tracing::debug!(in_time, "journal ended");
    }

    fn is_closing(&self) -> bool {
        self.shared.is_closing() || self.entries.is_closed()
    }

    /// Writes what waits, until less than a batch of it is left, or the gateway ends. What comes in
    /// meanwhile can wait for the next tick: under load the queue is never empty, and batches of a
    /// few rows cost ten times as much a row.
    async fn write_all(&mut self) {
        let mut pause = RETRY.0;
        loop {
            self.fill_batch();
            let was_full = self.batch.len() == BATCH;
            match self.write_batch().await {
                Ok(refused) => {
                    self.on_written(refused);
                    pause = RETRY.0;
                    if !was_full {
                        return;
                    }
                }
                Err(error) => {
                    self.on_trouble(&error);
                    if self.is_closing() {
                        return;
                    }
                    self.pause(pause).await;
                    pause = (pause * 2).min(RETRY.1);
                }
            }
        }
    }

    /// Waits before the next try, but not when the gateway ends.
    async fn pause(&self, pause: Duration) {
        let closing = async {
            while !self.is_closing() {
                self.shared.wake.notified().await;
            }
        };
        let _ = tokio::time::timeout(pause, closing).await;
    }

    fn fill_batch(&mut self) {
        while self.batch.len() < BATCH
            && let Ok(entry) = self.entries.try_recv()
        {
            self.batch.push(entry);
        }
    }

    /// Writes the batch and the run's counts, if either has anything new.
    async fn write_batch(&mut self) -> Result<Refused, StoreError> {
        let accepted = self.shared.accepted();
        let is_open = self.session.as_ref().is_some_and(Session::is_on_its_file);
        let has_news = !self.batch.is_empty() || accepted != self.accepted_written;
        if is_open && !has_news {
            return Ok(Refused::default());
        }
        // What is taken out here is put back on success alone: a connection on which a write has
        // failed, or was cancelled half-way, is not used again.
        let session = self.session.take().filter(|_| is_open);
        let written = tokio::time::timeout(ONE_WRITE, self.write_on(session, accepted)).await;
        let (session, refused) = written.unwrap_or_else(|_| {
            let no_answer = std::io::Error::new(std::io::ErrorKind::TimedOut, "no answer");
            Err(StoreError::query("write requests to the journal")(sqlx::Error::Io(no_answer)))
        })?;
        *self.shared.run.lock() = Some(session.ids());
        self.session = Some(session);
        self.accepted_written = accepted;
        Ok(refused)
    }

    /// Writes the batch on an open session, or on a new one, and gives it back.
    async fn write_on(
        &self,
        session: Option<Session>,
        accepted: u64,
    ) -> Result<(Session, Refused), StoreError> {
        let mut session = match session {
            Some(session) => session,
            None => Session::open(&self.store, &self.shared, self.clock.unix_ms()).await?,
        };
        let counts = Counts {
            accepted,
            written: self.shared.written(),
            dropped: self.shared.dropped_total(),
            now_ms: self.clock.unix_ms(),
        };
        let refused = session.write(&self.batch, counts).await?;
        Ok((session, refused))
    }

    fn on_written(&mut self, refused: Refused) {
        let Refused { rows, first } = refused;
        if let Some((request_id, error)) = first {
            tracing::error!(
                refused = rows,
                request.id = %request_id,
                %error,
                "the store refuses entries of the journal; the first of them is told"
            );
        }
        let written = self.batch.len().saturating_sub(rows);
        self.shared.on_written(written as u64, rows as u64);
        self.batch.clear();
        if self.shared.trouble.send_replace(None).is_some() {
            tracing::info!("journal writes again");
        }
    }

    fn on_trouble(&mut self, error: &StoreError) {
        let error = error.chain();
        let was_fine = self.shared.trouble.send_replace(Some(error.clone())).is_none();
        if was_fine {
            tracing::error!(%error, "journal cannot write; requests go on, entries wait");
        }
    }

    /// Deletes what is beyond its retention, a little at a time.
    async fn sweep(&mut self) -> Result<(), StoreError> {
        let now = Instant::now();
        if self.retention.is_zero() || self.next_sweep.is_some_and(|at| now < at) {
            return Ok(());
        }
        let Some(mut session) = self.session.take() else { return Ok(()) };
        let retention_ms = u64::try_from(self.retention.as_millis()).unwrap_or(u64::MAX);
        let before_ms = self.clock.unix_ms().saturating_sub(retention_ms);
        let is_done = session.delete_before(before_ms).await?;
        self.session = Some(session);
        self.next_sweep = is_done.then(|| now + SWEEP);
        Ok(())
    }

    /// The last writes, and the mark that this run ended as it should.
    async fn end(&mut self) {
        loop {
            self.write_all().await;
            if self.batch.is_empty() && self.entries.is_empty() {
                break;
            }
            tokio::time::sleep(RETRY.0).await;
        }
        if let Some(session) = self.session.take()
            && let Err(error) = session.end(self.clock.unix_ms()).await
        {
            self.on_trouble(&error);
        }
    }

    /// Counts what could not be written.
    fn give_up(&mut self) {
        loop {
            self.fill_batch();
            if self.batch.is_empty() {
                return;
            }
            let lost = self.batch.len() as u64;
            tracing::error!(lost, "journal ends with entries that could not be written");
            self.shared.lose(DropReason::Unwritten, lost);
            self.shared.settled.send_modify(|settled| *settled += lost);
            self.batch.clear();
        }
    }
}
