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
use serde::{Deserialize, Serialize};
use sqlx::AnyConnection;

use super::record::{Record, Standing};
use super::rows::{read_revision, read_standing};
use super::{Rollouts, Steering, Subject};
use crate::audit::Actor;
use crate::clock::WallClock;
use crate::policy::rollout::{Action, Bound, Verdict};
use crate::store::follow::{self, Follower, Following, OF_SNAPSHOT, Snapshot};
use crate::store::{Store, StoreError};

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
    following: Following,
    /// One steers at a time, so that what was made of an older table never stays.
    steering: Mutex<()>,
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
    /// How many changes the store had seen; [`OF_SNAPSHOT`] where it is the snapshot's.
    revision: i64,
    read_at_ms: u64,
}

/// What the snapshot on disk keeps. Without it a candidate that serves 25 % would serve nothing, or
/// one that was rolled back come back where the configuration names it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Kept {
    standing: Vec<Standing>,
}

/// For how long requests that wait for a harmful candidate are told to leave it.
const HARMFUL_FOR_MS: u64 = 60_000;
/// How far back rollouts are read that have ended: as long as that and some difference of clocks.
const ENDED_SINCE_MS: u64 = 5 * HARMFUL_FOR_MS;

// === impl RolloutLedger ===

impl RolloutLedger {
    /// Rollouts of `store`, by which `rollouts` will be steered; nothing is read yet. `name` is
    /// this node's, `snapshot` the file that keeps the last good state for a start without the
    /// store.
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
                following: Following::new(snapshot),
                steering: Mutex::default(),
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
        self.shared.following.trouble()
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
        self.shared.following.reload();
    }

    /// Waits until this node has changed rollouts in the store, which other nodes do not know yet.
    /// For one listener.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost: a change that came first is seen by the next call.
    pub async fn changed_here(&self) {
        self.shared.following.changed_here().await;
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
        follow::note(self, loaded.as_ref().err());
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

    /// Keeps the table what the store says, and the snapshot on disk what the table says, see
    /// `store/follow.rs`.
    pub async fn run(self) {
        follow::follow(&self).await;
    }

    /// Takes in what was changed here, and tells other nodes.
    pub(super) async fn on_changed(&self, connection: &mut AnyConnection) {
        follow::on_changed(self, connection).await;
    }

    /// Gives the candidate of a prompt the control's labels, where these actions finish its
    /// rollout. With the transaction that writes them.
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
        let _one = self.shared.following.turn().await;
        let failed = StoreError::query("read the rollouts");
        let read_at_ms = self.shared.clock.unix_ms();
        // First the count: what is changed meanwhile is read again, never missed.
        let revision = read_revision(connection).await.map_err(&failed)?;
        let since_ms = read_at_ms.saturating_sub(ENDED_SINCE_MS);
        let standing = read_standing(connection, since_ms).await.map_err(&failed)?;
        self.adopt(Table { standing, revision, read_at_ms });
        self.shared.following.on_unsaved();
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

impl Follower for RolloutLedger {
    const WHAT: &'static str = "rollouts";
    const POLL: Duration = Duration::from_millis(500);
    type Kept = Kept;

    fn store(&self) -> &Store {
        &self.shared.store
    }

    fn following(&self) -> &Following {
        &self.shared.following
    }

    async fn load(&self) -> Result<(), StoreError> {
        Self::load(self).await
    }

    async fn ask_revision(&self, connection: &mut AnyConnection) -> Result<i64, StoreError> {
        let failed = StoreError::query("ask for changes of rollouts");
        read_revision(connection).await.map_err(failed)
    }

    async fn read_news(&self, connection: &mut AnyConnection) -> Result<(), StoreError> {
        self.load_table(connection).await
    }

    fn known(&self) -> Option<i64> {
        self.shared.table.load().as_deref().map(|table| table.revision)
    }

    fn kept(&self) -> Snapshot<Kept> {
        let table = self.shared.table.load();
        let read_at_ms = table.as_deref().map_or(0, |table| table.read_at_ms);
        Snapshot { read_at_ms, content: Kept { standing: self.standing() } }
    }

    fn restore(&self, kept: Snapshot<Kept>) -> usize {
        let Snapshot { read_at_ms, content: Kept { standing } } = kept;
        let entries = standing.len();
        self.adopt(Table { standing, revision: OF_SNAPSHOT, read_at_ms });
        entries
    }

    /// Tells the store what this node serves.
    async fn on_table(&self) {
        if self.known() == Some(OF_SNAPSHOT) {
            return;
        }
        if let Err(error) = self.acknowledge(&self.standing()).await {
            tracing::debug!(error = %error.chain(), "it is not said what this node serves");
        }
    }

    /// Harm is said for a minute only.
    fn on_turn(&self) {
        self.steer();
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
