//! Keeps what requests are steered by as the store says, and steers on by the last good table where
//! the store is away.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use sqlx::AnyConnection;
use tokio::sync::{Notify, Semaphore};

use super::record::{Record, Standing};
use super::rows::{read_revision, read_standing};
use super::snapshot::{Saved, SnapshotFile};
use super::{Rollouts, Steering, Subject};
use crate::audit::Actor;
use crate::clock::{WallClock, rfc3339};
use crate::policy::rollout::{Action, Bound, Verdict};
use crate::store::{Kind, Store, StoreError};

/// Rollouts in the store, and what this node steers by. Clones are the same ledger.
#[derive(Clone)]
pub struct RolloutLedger {
    pub(super) shared: Arc<LedgerShared>,
}

pub(super) struct LedgerShared {
    pub(super) store: Store,
    pub(super) rollouts: Rollouts,
    pub(super) clock: Arc<dyn WallClock>,
    pub(super) around: Surroundings,
    /// This life of this process.
    pub(super) node: String,
    /// The node's name for people.
    pub(super) name: String,
    /// `None` until the store or the snapshot has been read once.
    table: ArcSwapOption<Table>,
    snapshot: Option<SnapshotFile>,
    /// Why the store cannot be read at the moment.
    trouble: ArcSwapOption<String>,
    /// One steers at a time, so that what was made of an older table never stays.
    steering: Mutex<()>,
    /// One reading at a time, so that an older table never replaces a newer one.
    changing: Semaphore,
    reload: Notify,
    /// The table is not in the snapshot yet, and nobody knows that this node has it.
    unsaved: Notify,
    changed_here: Notify,
    /// Decisions that were written here, by verdict.
    decisions: Mutex<BTreeMap<&'static str, u64>>,
    /// The evidence of harm of rollouts that this node leads, of 100 needed.
    pub(super) evidence: Mutex<BTreeMap<String, f64>>,
    /// Notes that the store would not take.
    pub(super) lost_notes: AtomicU64,
    pub(super) fences_failed: AtomicU64,
    pub(super) is_leader: AtomicBool,
}

/// What rollouts have to ask of others.
pub struct Surroundings {
    /// Whether there is something to steer here: both sides are known, and the route still has the
    /// control.
    pub is_steerable: Box<dyn Fn(&Subject) -> bool + Send + Sync>,
    /// Gives up what is kept of the candidate's answers.
    pub forget: Box<dyn Fn(&Subject) + Send + Sync>,
    /// Gives the candidate the control's labels, in the transaction that finishes its rollout.
    pub finish: Finish,
    /// Hears, after that, that labels were moved.
    pub finished: Box<dyn Fn() + Send + Sync>,
    /// How far a candidate may grow by what is known of its compatibility.
    pub bound: Bounding,
}

/// Asks how far a candidate may grow. An error means that the store cannot say.
pub type Bounding = Box<
    dyn Fn(&Subject) -> Pin<Box<dyn Future<Output = Result<Bound, StoreError>> + Send>>
        + Send
        + Sync,
>;

/// Does something with a rollout that is finished, in the transaction on this connection; by whom,
/// and when in Unix milliseconds.
pub type Finish = Box<
    dyn for<'c> Fn(&'c mut AnyConnection, &'c Subject, &'c Actor, u64) -> Finishing<'c>
        + Send
        + Sync,
>;

/// What is being done.
pub type Finishing<'c> = Pin<Box<dyn Future<Output = Result<(), sqlx::Error>> + Send + 'c>>;

/// What is known of all rollouts.
struct Table {
    standing: Vec<Standing>,
    /// How many changes the store had seen; -1 where the snapshot was read.
    revision: i64,
    read_at_ms: u64,
}

/// The first and the longest pause after the store could not be read.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// How often a store that other nodes change is asked for news.
const POLL: Duration = Duration::from_millis(500);
/// How long a server may take for an answer before it counts as away.
const ANSWER: Duration = Duration::from_secs(5);
/// For how long requests that wait for a harmful candidate are told to leave it.
const HARMFUL_FOR_MS: u64 = 60_000;
/// How far back rollouts are read that have ended: as long as that and some difference of clocks.
const ENDED_SINCE_MS: u64 = 5 * HARMFUL_FOR_MS;

// === impl RolloutLedger ===

impl RolloutLedger {
    /// Rollouts of `store`, by which `rollouts` will be steered; nothing is read yet. `name` is this
    /// node's, `snapshot` the file that keeps the last good state for a start without the store.
    pub fn new(
        store: Store,
        rollouts: Rollouts,
        name: &str,
        snapshot: Option<PathBuf>,
        clock: Arc<dyn WallClock>,
        around: Surroundings,
    ) -> Self {
        Self {
            shared: Arc::new(LedgerShared {
                store,
                rollouts,
                clock,
                around,
                node: format!("{:016x}", rand::random::<u64>()),
                name: name.to_owned(),
                table: ArcSwapOption::empty(),
                snapshot: snapshot.map(SnapshotFile::new),
                trouble: ArcSwapOption::empty(),
                steering: Mutex::default(),
                changing: Semaphore::new(1),
                reload: Notify::new(),
                unsaved: Notify::new(),
                changed_here: Notify::new(),
                decisions: Mutex::default(),
                evidence: Mutex::default(),
                lost_notes: AtomicU64::new(0),
                fences_failed: AtomicU64::new(0),
                is_leader: AtomicBool::new(false),
            }),
        }
    }

    /// What requests are steered by, and where they leave notes.
    pub fn rollouts(&self) -> &Rollouts {
        &self.shared.rollouts
    }

    /// What this node knows of rollouts that steer, or ended a short while ago.
    pub fn standing(&self) -> Vec<Standing> {
        self.shared.table.load().as_deref().map(|table| table.standing.clone()).unwrap_or_default()
    }

    /// Why the store cannot be read at the moment, if it cannot.
    pub fn trouble(&self) -> Option<Arc<String>> {
        self.shared.trouble.load_full()
    }

    /// Decisions that were written by this node, by verdict.
    pub fn decided(&self) -> Vec<(&'static str, u64)> {
        self.shared.decisions.lock().iter().map(|(verdict, count)| (*verdict, *count)).collect()
    }

    /// The evidence of harm of the rollouts that this node leads, of 100 needed, by id.
    pub fn evidence(&self) -> BTreeMap<String, f64> {
        self.shared.evidence.lock().clone()
    }

    /// Notes that are in no analysis: the queue was full, or the store would not take them.
    pub fn lost_notes(&self) -> u64 {
        self.shared.rollouts.dropped() + self.shared.lost_notes.load(Ordering::Relaxed)
    }

    /// Whether this node leads the analysis.
    pub fn is_leader(&self) -> bool {
        self.shared.is_leader.load(Ordering::Relaxed)
    }

    /// Writes of the analysis that came second, and were given up.
    pub fn fences_failed(&self) -> u64 {
        self.shared.fences_failed.load(Ordering::Relaxed)
    }

    /// Reads again soon. For news from other nodes.
    pub fn reload(&self) {
        self.shared.reload.notify_one();
    }

    /// Waits until this node has changed rollouts in the store, which other nodes do not know yet.
    /// For one listener.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost: a change that came first is seen by the next call.
    pub async fn changed_here(&self) {
        self.shared.changed_here.notified().await;
    }

    /// Reads all rollouts. Where the store cannot be read and nothing is known yet, the snapshot is
    /// read instead.
    ///
    /// # Errors
    ///
    /// [`StoreError`] where the store cannot be read; what was known before stays.
    pub async fn load(&self) -> Result<(), StoreError> {
        let loaded = async {
            let mut connection = self.shared.store.reader().await?;
            self.load_table(&mut connection).await
        };
        let loaded = loaded.await;
        self.on_read(loaded.as_ref().err());
        loaded
    }

    /// Steers by what is known. For a configuration that has changed.
    pub fn steer(&self) {
        let _one = self.shared.steering.lock();
        let Some(table) = self.shared.table.load_full() else { return };
        let now_ms = self.shared.clock.unix_ms();
        let mut steering = Steering::default();
        for standing in &table.standing {
            let Some(subject) = standing.subject() else { continue };
            let harm_until_ms = standing.ended_at_ms.unwrap_or(0) + HARMFUL_FOR_MS;
            if standing.is_rolled_back() && standing.is_harm && now_ms < harm_until_ms {
                steering.harmful.push(Arc::from(&*standing.id));
            }
            if !standing.is_live || !(self.shared.around.is_steerable)(&subject) {
                continue;
            }
            let steered = Arc::new(standing.steered(subject.clone()));
            match subject {
                Subject::Prompt { id, .. } => drop(steering.prompts.insert(id, steered)),
                Subject::Route { name, .. } => drop(steering.routes.insert(name, steered)),
            }
        }
        if *self.shared.rollouts.steering() != steering {
            self.shared.rollouts.steer(steering);
        }
    }

    /// Keeps the table what the store says, for ever: reads it now, until it can be read, whenever
    /// [`RolloutLedger::reload`] asks, and, where other nodes may change it, every half second when it
    /// has changed. Keeps the snapshot on disk what the table says.
    pub async fn run(self) {
        let mut pause = RETRY.0;
        let mut saved = None;
        let mut poller = None;
        let mut read = self.load().await;
        loop {
            match &read {
                Ok(()) => {
                    pause = RETRY.0;
                    self.save(&mut saved).await;
                }
                Err(error) => {
                    // Said once, not with every try.
                    if pause == RETRY.0 {
                        let error = error.chain();
                        tracing::error!(%error, "cannot read rollouts; those known go on as they are");
                    }
                    pause = (pause * 2).min(RETRY.1);
                }
            }
            let is_away = read.is_err();
            let wait = if is_away { pause } else { POLL };
            let asked = tokio::select! {
                () = tokio::time::sleep(wait) => is_away,
                () = self.shared.reload.notified() => true,
                () = self.shared.unsaved.notified() => false,
            };
            // Harm is said for a minute only.
            self.steer();
            read = if asked { self.load().await } else { self.poll(&mut poller).await };
        }
    }

    /// Asks a store that others change whether they did, on a connection of its own: operators who
    /// keep all the others busy must not make it look away.
    async fn poll(&self, poller: &mut Option<AnyConnection>) -> Result<(), StoreError> {
        if self.shared.store.kind() == Kind::Sqlite {
            return Ok(());
        }
        let failed = StoreError::query("ask for changes of rollouts");
        let looked = async {
            let mut connection = match poller.take() {
                Some(connection) => connection,
                None => self.shared.store.connect().await?,
            };
            let revision = read_revision(&mut connection).await.map_err(&failed)?;
            if self.shared.table.load().as_deref().map(|table| table.revision) != Some(revision) {
                self.load_table(&mut connection).await?;
            }
            Ok(connection)
        };
        let looked = match tokio::time::timeout(ANSWER, looked).await {
            Ok(looked) => looked,
            Err(_) => Err(failed(timed_out())),
        };
        self.on_read(looked.as_ref().err());
        *poller = Some(looked?);
        Ok(())
    }

    /// Takes note of whether the store could be read.
    fn on_read(&self, error: Option<&StoreError>) {
        let was_away = self.shared.trouble.load().is_some();
        self.shared.trouble.store(error.map(|error| Arc::new(error.chain())));
        match error {
            None if was_away => tracing::info!("rollouts are read again"),
            None => {}
            Some(_) => self.restore(),
        }
    }

    /// Takes what the snapshot says, where nothing is known.
    fn restore(&self) {
        let Some(file) = &self.shared.snapshot else { return };
        if self.shared.table.load().is_some() {
            return;
        }
        match file.read(&self.shared.store.url().to_string()) {
            Ok(None) => {}
            Ok(Some(saved)) => {
                tracing::warn!(
                    rollouts = saved.standing.len(),
                    read_at = %rfc3339(saved.read_at_ms),
                    "the store is away: rollouts are taken from the snapshot"
                );
                let Saved { standing, read_at_ms, .. } = saved;
                self.adopt(Table { standing, revision: -1, read_at_ms });
            }
            Err(error) => {
                let path = file.path().display();
                tracing::error!(%error, %path, "the snapshot of rollouts cannot be read");
            }
        }
    }

    /// Writes the snapshot where it is not what the table says, and tells the store what this node
    /// serves.
    async fn save(&self, saved: &mut Option<i64>) {
        let table = self.shared.table.load_full();
        let Some(table) = table.filter(|table| *saved != Some(table.revision)) else { return };
        if table.revision < 0 {
            return;
        }
        *saved = Some(table.revision);
        if let Err(error) = self.acknowledge(&table.standing).await {
            tracing::debug!(error = %error.chain(), "it is not said what this node serves");
        }
        let Some(file) = &self.shared.snapshot else { return };
        let store = self.shared.store.url().to_string();
        let content = Saved::new(store, table.read_at_ms, table.standing.clone());
        if let Err(error) = file.write(&content) {
            *saved = None;
            let path = file.path().display();
            tracing::error!(%error, %path, "the snapshot of rollouts cannot be written");
        }
    }

    /// Tells other nodes that rollouts were changed here, and this one's request path. The change is
    /// made, whatever becomes of this: where the store goes away at this very moment, the loop reads
    /// it later.
    pub(super) async fn on_changed(&self, connection: &mut AnyConnection) {
        self.shared.changed_here.notify_one();
        if let Err(error) = self.load_table(connection).await {
            tracing::error!(error = %error.chain(), "a change of a rollout is not read back yet");
            self.reload();
        }
    }

    /// Gives the candidate of a prompt the control's labels, where these actions finish its rollout.
    /// With the transaction that writes them.
    pub(super) async fn finish(
        &self,
        connection: &mut AnyConnection,
        record: &Record,
        actions: &[Action],
        by: &Actor,
    ) -> Result<(), sqlx::Error> {
        if is_finish(actions) && record.is_of_prompt() {
            let now_ms = self.shared.clock.unix_ms();
            (self.shared.around.finish)(connection, &record.subject, by, now_ms).await?;
        }
        Ok(())
    }

    /// Says what was decided, once it is written.
    pub(super) fn on_written(&self, record: &Record, actions: &[Action]) {
        if is_finish(actions) {
            (self.shared.around.finished)();
        }
        for action in actions {
            match action {
                Action::Record(decision) => {
                    let verdict = decision.verdict.as_str();
                    *self.shared.decisions.lock().entry(verdict).or_default() += 1;
                    tracing::info!(
                        rollout = %record.id, subject = %record.subject, verdict,
                        "{}", decision.sentence
                    );
                }
                Action::Page(why) => {
                    tracing::warn!(
                        rollout = %record.id, subject = %record.subject,
                        "a rollout needs somebody: {why}"
                    );
                    *self.shared.decisions.lock().entry("page").or_default() += 1;
                }
                // Each node gives up kept answers when it hears that the rollout is rolled back.
                Action::ForgetAnswers
                | Action::Steer { .. }
                | Action::Quarantine { .. }
                | Action::Refuse(_) => {}
            }
        }
    }

    /// Reads all that nodes steer by. The request path knows when this returns.
    pub(super) async fn load_table(
        &self,
        connection: &mut AnyConnection,
    ) -> Result<(), StoreError> {
        // The semaphore is never closed, so a permit always comes.
        let _one = self.shared.changing.acquire().await;
        let failed = StoreError::query("read the rollouts");
        let read_at_ms = self.shared.clock.unix_ms();
        // First the count: what is changed meanwhile is read again, never missed.
        let revision = read_revision(connection).await.map_err(&failed)?;
        let since_ms = read_at_ms.saturating_sub(ENDED_SINCE_MS);
        let standing = read_standing(connection, since_ms).await.map_err(&failed)?;
        self.adopt(Table { standing, revision, read_at_ms });
        self.shared.unsaved.notify_one();
        Ok(())
    }

    fn adopt(&self, table: Table) {
        let table = Arc::new(table);
        let before = self.shared.table.swap(Some(Arc::clone(&table)));
        self.steer();
        let was_known = |id: &str| {
            let before = before.iter().flat_map(|before| &before.standing);
            before.filter(|one| one.id == id).any(Standing::is_rolled_back)
        };
        let rolled_back = table.standing.iter().filter(|one| one.is_rolled_back());
        let news = rolled_back.filter(|one| !was_known(&one.id)).filter_map(Standing::subject);
        news.for_each(|subject| (self.shared.around.forget)(&subject));
    }
}

impl fmt::Debug for RolloutLedger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RolloutLedger").field("store", &self.shared.store).finish_non_exhaustive()
    }
}

impl Surroundings {
    /// Nothing to ask: everything can be steered, and nothing is kept.
    pub fn none() -> Self {
        Self {
            is_steerable: Box::new(|_| true),
            forget: Box::new(|_| ()),
            finish: Box::new(|_, _, _, _| Box::pin(std::future::ready(Ok(())))),
            finished: Box::new(|| ()),
            bound: Box::new(|_| Box::pin(std::future::ready(Ok(Bound::NONE)))),
        }
    }
}

impl fmt::Debug for Surroundings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Surroundings").finish_non_exhaustive()
    }
}

fn is_finish(actions: &[Action]) -> bool {
    actions.iter().any(|action| match action {
        Action::Record(decision) => decision.verdict == Verdict::Finish,
        Action::Steer { .. }
        | Action::Page(_)
        | Action::ForgetAnswers
        | Action::Quarantine { .. }
        | Action::Refuse(_) => false,
    })
}

fn timed_out() -> sqlx::Error {
    sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, "no answer"))
}
