//! The leader of the analysis: reads what nodes have noted, feeds it to the state machines, and
//! writes what they decide.
//!
//! The machines are in memory and ahead of the store by the notes that were read since they were
//! last written. A write is one transaction: the machine with the numbers of the notes that are in
//! it, the notes taken away, the decisions, the audit log, the change for all nodes. It is made on
//! two conditions, that the lease is still ours and that the stored version is the one read. So
//! whenever the leader is killed, the store has a machine and exactly the notes that are not in it;
//! and what a second leader, or an operator's command on another node, has written first makes this
//! one forget what it has in memory, read again, and act on nothing.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sqlx::{AnyConnection, Row};
use tokio::sync::watch;

use super::ledger::{audit_event, verdict_name};
use super::record::{Consumed, Record, int, json, number, record_columns};
use super::rows::{count_change, settle, write};
use super::{Noted, RolloutLedger, RolloutSettings, Standing};
use crate::audit::{self, Actor};
use crate::clock::Instant;
use crate::policy::rollout::{Action, Event};
use crate::store::lease::Lease;
use crate::store::{self, StoreError};

/// What leads, as soon as nobody else does.
#[derive(Debug)]
pub struct Leader {
    ledger: RolloutLedger,
    lease: Lease,
    led: BTreeMap<String, Led>,
    ticked: Option<Instant>,
    swept: Option<Instant>,
}

/// A rollout in memory.
#[derive(Debug)]
struct Led {
    record: Record,
    /// When it was last written or read.
    written: Instant,
    /// Whether there is something to write.
    is_changed: bool,
    /// Whether nodes have to know: the money that is left for a shadow is less.
    is_spent: bool,
}

/// The row of whoever leads.
const LEASE: &str = "rollouts";
/// How often notes are read.
const READ_EVERY: Duration = Duration::from_millis(150);
/// How often machines are told that time passes.
const TICK_EVERY: Duration = Duration::from_secs(1);
/// How often a machine is written that has decided nothing.
const WRITE_EVERY: Duration = Duration::from_secs(2);
/// How often notes are looked for that nobody will read.
const SWEEP_EVERY: Duration = Duration::from_secs(10);
/// How long a rollout of a prompt that is done steers on: nodes hear of labels far sooner.
const SETTLE_AFTER_MS: u64 = 60_000;
/// Rows of one node that are read at a time.
const MOST_ROWS: i64 = 50;
/// For how long it is remembered how far the notes of a node are read that notes nothing more: far
/// longer than a write of its can be on its way.
const REMEMBER_MS: u64 = 3_600_000;

// === impl Leader ===

impl Leader {
    /// Of this ledger's node. There must be no other one of it.
    pub fn new(ledger: RolloutLedger) -> Self {
        let lease = Lease::new(LEASE, ledger.shared.node.clone());
        Self { ledger, lease, led: BTreeMap::new(), ticked: None, swept: None }
    }

    /// Leads until told to stop, and then lets another one lead. `settings` says when nothing
    /// grows.
    pub async fn run(
        mut self,
        mut closing: watch::Receiver<bool>,
        settings: impl Fn() -> RolloutSettings,
    ) {
        let mut is_away = false;
        loop {
            let has_work =
                !self.led.is_empty() || self.ledger.standing().iter().any(|one| one.is_live);
            let pause = if has_work { READ_EVERY } else { TICK_EVERY };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                // An error means that nobody will tell.
                _ = closing.wait_for(|closing| *closing) => break,
            }
            match self.step(Instant::now(), &settings()).await {
                Ok(()) => is_away = false,
                Err(error) => {
                    if !is_away {
                        tracing::error!(error = %error.chain(), "rollouts cannot be analysed");
                    }
                    is_away = true;
                }
            }
        }
        if let Err(error) = self.stop().await {
            tracing::debug!(error = %error.chain(), "rollouts are led by another node a little later");
        }
    }

    /// Whether it leads, as far as it knows.
    pub fn is_leading(&self) -> bool {
        self.lease.token().is_some()
    }

    /// One round: keeps the lease, reads, feeds, writes.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; what is in memory is forgotten, because nobody knows what was written.
    pub async fn step(
        &mut self,
        now: Instant,
        settings: &RolloutSettings,
    ) -> Result<(), StoreError> {
        let done = self.round(now, settings).await;
        if done.is_err() {
            self.led.clear();
        }
        let leads = self.is_leading();
        self.ledger.shared.is_leader.store(leads, Ordering::Relaxed);
        let evidence =
            |(id, led): (&String, &Led)| (id.clone(), led.record.rollout.analysis().evidence());
        *self.ledger.shared.evidence.lock() = self.led.iter().map(evidence).collect();
        done
    }

    /// Writes what is not written yet and lets another one lead.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; another one leads a little later then.
    pub async fn stop(&mut self) -> Result<(), StoreError> {
        let changed = self.led.iter().filter(|(_, led)| led.is_changed);
        let ids: Vec<_> = changed.map(|(id, _)| id.clone()).collect();
        for id in ids {
            self.write(&id, Vec::new(), Instant::now()).await?;
        }
        self.led.clear();
        self.ledger.shared.is_leader.store(false, Ordering::Relaxed);
        let ledger = self.ledger.clone();
        let mut connection = ledger.shared.store.writer().await?;
        let failed = StoreError::query("stop leading rollouts");
        self.lease.release(&mut connection).await.map_err(failed)
    }

    async fn round(&mut self, now: Instant, settings: &RolloutSettings) -> Result<(), StoreError> {
        let ledger = self.ledger.clone();
        let now_ms = ledger.shared.clock.unix_ms();
        let failed = StoreError::query("lead rollouts");
        if self.lease.is_due(now) {
            let mut writer = ledger.shared.store.writer().await?;
            self.lease.keep(&mut writer, now, now_ms).await.map_err(&failed)?;
            if self.is_leading() {
                self.sweep(&mut writer, now).await.map_err(&failed)?;
            }
        }
        if !self.is_leading() {
            self.led.clear();
            return Ok(());
        }
        let unread = {
            let mut reader = ledger.shared.store.reader().await?;
            self.read_rollouts(&mut reader, now).await.map_err(&failed)?;
            self.unread(&mut reader).await.map_err(&failed)?
        };
        for (id, node, from) in unread {
            self.feed(&id, &node, from, now).await?;
        }
        self.tick(now, settings.freeze_at(now_ms).is_some()).await
    }

    /// Reads rollouts that are new or were written by another one, and forgets those that are over.
    async fn read_rollouts(
        &mut self,
        connection: &mut AnyConnection,
        now: Instant,
    ) -> Result<(), sqlx::Error> {
        let active = "SELECT id, version FROM rollouts
                      WHERE is_live = 1 AND phase IN ('running', 'paused')";
        let rows = sqlx::query(active).fetch_all(&mut *connection).await?;
        let mut versions = BTreeMap::new();
        for row in &rows {
            versions.insert(row.try_get::<String, _>("id")?, number(row, "version")?);
        }
        self.led.retain(|id, led| versions.get(id) == Some(&led.record.version));
        for id in versions.into_keys().filter(|id| !self.led.contains_key(id)).collect::<Vec<_>>() {
            let select = concat!("SELECT ", record_columns!(), " FROM rollouts WHERE id = $1");
            let row = sqlx::query(select).bind(&id).fetch_one(&mut *connection).await?;
            let record = Record::read(&row)?;
            let led = Led { record, written: now, is_changed: false, is_spent: false };
            self.led.insert(id, led);
        }
        Ok(())
    }

    /// Of which rollout and node there are notes that were not read, and after which number.
    async fn unread(
        &self,
        connection: &mut AnyConnection,
    ) -> Result<Vec<(String, String, u64)>, sqlx::Error> {
        let last =
            "SELECT rollout, node, MAX(seq) AS seq FROM rollout_notes GROUP BY rollout, node";
        let rows = sqlx::query(last).fetch_all(connection).await?;
        let mut unread = Vec::new();
        for row in &rows {
            let (id, node): (String, String) = (row.try_get("rollout")?, row.try_get("node")?);
            let Some(led) = self.led.get(&id) else { continue };
            let read = led.record.consumed.get(&node).map_or(0, |consumed| consumed.seq);
            if number(row, "seq")? > read {
                unread.push((id, node, read));
            }
        }
        Ok(unread)
    }

    /// Reads notes and feeds them, in the order in which the node wrote them. What is decided is
    /// written at once.
    async fn feed(
        &mut self,
        id: &str,
        node: &str,
        from: u64,
        now: Instant,
    ) -> Result<(), StoreError> {
        let failed = StoreError::query("read notes of rollouts");
        let ledger = self.ledger.clone();
        let rows = {
            let mut reader = ledger.shared.store.reader().await?;
            let select = "SELECT seq, notes FROM rollout_notes
                          WHERE rollout = $1 AND node = $2 AND seq > $3 ORDER BY seq LIMIT $4";
            let select = sqlx::query(select).bind(id).bind(node).bind(int(from)).bind(MOST_ROWS);
            select.fetch_all(&mut *reader).await.map_err(&failed)?
        };
        for row in &rows {
            // What was written first by another one has made this one be forgotten.
            let Some(led) = self.led.get_mut(id) else { return Ok(()) };
            let now_ms = ledger.shared.clock.unix_ms();
            let seq = number(row, "seq").map_err(&failed)?;
            let text: String = row.try_get("notes").map_err(&failed)?;
            let actions = match json::<Vec<Noted>>(&text) {
                Ok(notes) => notes.into_iter().flat_map(|noted| led.take(noted, now_ms)).collect(),
                Err(error) => {
                    tracing::error!(%error, rollout = id, node, seq, "notes cannot be read");
                    ledger.shared.lost_notes.fetch_add(1, Ordering::Relaxed);
                    Vec::new()
                }
            };
            led.is_changed = true;
            led.record.consumed.insert(node.to_owned(), Consumed { seq, at_ms: now_ms });
            if !actions.is_empty() {
                self.write(id, actions, now).await?;
            }
            // Others run on this thread, too.
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// Lets time pass, unless nothing may grow, and writes what is due.
    async fn tick(&mut self, now: Instant, is_frozen: bool) -> Result<(), StoreError> {
        let is_over = |since: Option<Instant>, every| {
            since.is_none_or(|since| now.saturating_duration_since(since) >= every)
        };
        let ticks = is_over(self.ticked, TICK_EVERY);
        if ticks {
            self.ticked = Some(now);
        }
        for id in self.led.keys().cloned().collect::<Vec<_>>() {
            let Some(led) = self.led.get_mut(&id) else { continue };
            let now_ms = self.ledger.shared.clock.unix_ms();
            let mut actions = Vec::new();
            if ticks && !is_frozen {
                led.bound(&self.ledger, now_ms).await;
                actions = led.record.rollout.on(Event::Tick, now_ms);
            }
            let is_due = led.is_changed && is_over(Some(led.written), WRITE_EVERY);
            if is_due || !actions.is_empty() {
                self.write(&id, actions, now).await?;
            }
        }
        Ok(())
    }

    /// Writes a rollout with all that goes with it, or forgets it where another one was first.
    async fn write(
        &mut self,
        id: &str,
        actions: Vec<Action>,
        now: Instant,
    ) -> Result<(), StoreError> {
        let ledger = self.ledger.clone();
        let Some(led) = self.led.get_mut(id) else { return Ok(()) };
        let failed = StoreError::query("write the analysis of a rollout");
        let mut connection = ledger.shared.store.writer().await?;
        let is_news = !actions.is_empty() || led.is_spent;
        let written = written(&ledger, &self.lease, led, &actions, &mut connection).await;
        match written.map_err(failed)? {
            Fence::Passed => {
                (led.written, led.is_changed, led.is_spent) = (now, false, false);
                ledger.on_written(&led.record, &actions);
                if !led.record.is_active() {
                    self.led.remove(id);
                }
                if is_news {
                    ledger.on_changed(&mut connection).await;
                }
            }
            Fence::OtherWrite => {
                ledger.shared.fences_failed.fetch_add(1, Ordering::Relaxed);
                self.led.remove(id);
            }
            Fence::OtherLeader => {
                ledger.shared.fences_failed.fetch_add(1, Ordering::Relaxed);
                self.led.clear();
                self.lease.lose();
            }
        }
        Ok(())
    }

    /// Ends the steering of prompts whose rollout is done, once all nodes know where labels stand.
    async fn settle(&self, connection: &mut AnyConnection) -> Result<(), sqlx::Error> {
        let shared = &self.ledger.shared;
        let before_ms = shared.clock.unix_ms().saturating_sub(SETTLE_AFTER_MS);
        let is_due = |one: &Standing| {
            let is_done = one.is_live && one.kind == "prompt" && one.phase == "done";
            is_done && one.ended_at_ms.is_some_and(|ended_ms| ended_ms < before_ms)
        };
        let standing = self.ledger.standing();
        let due: Vec<_> = standing.iter().filter(|one| is_due(one)).collect();
        if due.is_empty() {
            return Ok(());
        }
        let mut transaction = store::begin(connection, shared.store.kind()).await?;
        count_change(&mut transaction).await?;
        for one in due {
            settle(&mut transaction, &one.id).await?;
        }
        transaction.commit().await?;
        self.ledger.on_changed(connection).await;
        Ok(())
    }

    /// Takes notes away that nobody will read, and words of nodes about what is long over.
    async fn sweep(
        &mut self,
        connection: &mut AnyConnection,
        now: Instant,
    ) -> Result<(), sqlx::Error> {
        let is_due = self.swept.is_none_or(|at| now.saturating_duration_since(at) >= SWEEP_EVERY);
        if !is_due {
            return Ok(());
        }
        self.swept = Some(now);
        for sweep in [
            "DELETE FROM rollout_notes WHERE NOT EXISTS (SELECT 1 FROM rollouts
             WHERE rollouts.id = rollout_notes.rollout AND phase IN ('running', 'paused'))",
            "DELETE FROM rollout_nodes WHERE NOT EXISTS (SELECT 1 FROM rollouts
             WHERE rollouts.id = rollout_nodes.rollout AND is_live = 1)",
        ] {
            sqlx::query(sweep).execute(&mut *connection).await?;
        }
        self.settle(connection).await
    }
}

/// What became of a write.
enum Fence {
    /// It is made.
    Passed,
    /// The rollout is not as it was read.
    OtherWrite,
    /// Another one leads.
    OtherLeader,
}

async fn written(
    ledger: &RolloutLedger,
    lease: &Lease,
    led: &mut Led,
    actions: &[Action],
    connection: &mut AnyConnection,
) -> Result<Fence, sqlx::Error> {
    let now_ms = ledger.shared.clock.unix_ms();
    let mut transaction = store::begin(connection, ledger.shared.store.kind()).await?;
    if !actions.is_empty() || led.is_spent {
        count_change(&mut transaction).await?;
    }
    if !lease.hold(&mut transaction).await? {
        return Ok(Fence::OtherLeader);
    }
    led.record.consumed.retain(|_, consumed| now_ms.saturating_sub(consumed.at_ms) < REMEMBER_MS);
    let gateway = Actor::gateway();
    if !write(&mut transaction, &mut led.record, actions, &gateway.name, now_ms).await? {
        return Ok(Fence::OtherWrite);
    }
    ledger.finish(&mut transaction, &led.record, actions, &gateway).await?;
    let id = &led.record.id;
    for (node, consumed) in &led.record.consumed {
        let delete = "DELETE FROM rollout_notes WHERE rollout = $1 AND node = $2 AND seq <= $3";
        let delete = sqlx::query(delete).bind(id).bind(node).bind(int(consumed.seq));
        delete.execute(&mut *transaction).await?;
    }
    for action in actions {
        if let Action::Record(decision) = action {
            let mut after = led.record.summary();
            if let Some(members) = after.as_object_mut() {
                members.insert("sentence".to_owned(), decision.sentence.clone().into());
            }
            let event = audit_event(verdict_name(decision.verdict), id, None, after);
            audit::record(&mut transaction, &gateway, &event, now_ms).await?;
        }
    }
    transaction.commit().await?;
    Ok(Fence::Passed)
}

// === impl Led ===

impl Led {
    /// Learns how far the candidate may grow by now. A leader that cannot learn it leaves it where
    /// it is.
    async fn bound(&mut self, ledger: &RolloutLedger, now_ms: u64) {
        let rollout = &self.record.rollout;
        match ledger.bound(&self.record.subject, rollout.plan()).await {
            Ok(bound) if bound != *rollout.bound() => {
                self.is_changed = true;
                self.record.rollout.on(Event::Bounded(bound), now_ms);
            }
            Ok(_) => {}
            Err(error) => {
                let rollout = &self.record.id;
                tracing::debug!(rollout, error = %error.chain(), "a rollout's bound is not known");
            }
        }
    }

    /// Feeds one note.
    fn take(&mut self, noted: Noted, now_ms: u64) -> Vec<Action> {
        if let Noted::Spent(cost) = &noted {
            self.record.spent = self.record.spent + *cost;
            self.is_spent |= cost.0 > 0;
        }
        noted.event().map(|event| self.record.rollout.on(event, now_ms)).unwrap_or_default()
    }
}
