//! What several nodes share: asking their common authority, and doing without it.
//!
//! Requests decide by what their node holds. [`Refill`], one task of the process, asks for more before
//! it is missed, gives back what was not used, and says what is owed: all of it in one round trip. A
//! request asks for itself only where nothing is held: of a key that is seldom used, or that begins.
//!
//! While the authority does not answer, each node goes by the limit divided by the nodes. That is
//! found out by the first question without an answer, and looked after four times a second.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::{Notify, mpsc};
use tokio::time::MissedTickBehavior;

use super::subjects::{Locked, Subject, lock};
use super::tell;
use crate::clock::{Instant, WallClock};
use crate::cluster::{Cluster, ClusterState, Draw, Grant, Source, Unreachable, Want};
use crate::quota::{Amounts, Common, Crossing, Dimension, Granted, Lack, Meter, Moment, Shared};
use crate::telemetry::Metrics;

/// Subjects that may wait for the task. Full: they are asked for when they are missed.
const MAX_WAITING: usize = 4_096;
/// How often unused amounts, debts and the authority's absence are looked after.
const ROUND: Duration = Duration::from_millis(250);
/// How long places stay held of which nothing is heard: those of a node that died.
const SLOT_LEASE: Duration = Duration::from_secs(10);
/// How often the authority is told of places that are held.
const RENEW_EVERY: Duration = Duration::from_secs(3);
/// Questions of one round trip.
const MAX_QUESTIONS: usize = 500;

/// The way to the authority.
#[derive(Debug)]
pub(super) struct Authority {
    cluster: Cluster,
    wall: Arc<dyn WallClock>,
    metrics: Arc<Metrics>,
    /// The latest time that was read, so that a clock that is set back stands still instead.
    latest_ms: AtomicU64,
    /// How many nodes there are while the authority is lost; 0 while it is not.
    lost_of: AtomicU32,
    round_trips: AtomicU64,
    waiting: mpsc::Sender<Arc<Subject>>,
    /// Told whenever an answer was taken in.
    answered: Notify,
}

/// Asks the authority; to be run for as long as the process.
#[derive(Debug)]
pub(super) struct Refill {
    authority: Arc<Authority>,
    waiting: mpsc::Receiver<Arc<Subject>>,
    /// What the authority has to hear of again.
    active: HashMap<u64, Arc<Subject>>,
    renewed: Option<Instant>,
}

/// How limits are shared, for `/health`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Sharing {
    /// `alone`, `shared`, or `degraded` while each node goes by its part.
    pub state: &'static str,
    /// How many nodes the limits are divided by while it is degraded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub divided_by: Option<u32>,
    /// How often the authority was asked.
    pub round_trips: u64,
}

/// Something that was asked, until it is answered. Dropped without an answer, it may be asked again.
struct Asked {
    subject: Arc<Subject>,
    dimension: Dimension,
    common: Common,
    /// Whether a grant is awaited.
    is_need: bool,
    draw: Draw,
}

/// Questions on their way. What has no answer when it is dropped never gets one.
struct OnTheWay(Vec<Asked>);

// === impl Authority ===

impl Authority {
    pub(super) fn new(
        cluster: Cluster,
        wall: Arc<dyn WallClock>,
        metrics: Arc<Metrics>,
    ) -> (Arc<Self>, Refill) {
        // Bounded; see `MAX_WAITING`.
        let (sender, waiting) = mpsc::channel(MAX_WAITING);
        let authority = Arc::new(Self {
            cluster,
            wall,
            metrics,
            latest_ms: AtomicU64::new(0),
            lost_of: AtomicU32::new(0),
            round_trips: AtomicU64::new(0),
            waiting: sender,
            answered: Notify::new(),
        });
        let refill = Refill {
            authority: Arc::clone(&authority),
            waiting,
            active: HashMap::new(),
            renewed: None,
        };
        (authority, refill)
    }

    /// Whether limits are shared at all.
    pub(super) fn is_shared(&self) -> bool {
        !self.cluster.is_alone()
    }

    /// The time, and whether the authority is lost.
    pub(super) fn moment(&self) -> Moment {
        let unix_ms = self.wall.unix_ms();
        let unix_ms = self.latest_ms.fetch_max(unix_ms, Ordering::Relaxed).max(unix_ms);
        let alone_of = NonZeroU32::new(self.lost_of.load(Ordering::Relaxed));
        Moment { now: Instant::now(), unix_ms, alone_of }
    }

    /// The same, for a decision that cannot wait for the authority.
    pub(super) fn moment_alone(&self) -> Moment {
        Moment { alone_of: Some(self.nodes()), ..self.moment() }
    }

    /// How limits are shared.
    pub(super) fn sharing(&self) -> Sharing {
        let lost_of = self.lost_of.load(Ordering::Relaxed);
        let state = match (self.is_shared(), lost_of) {
            (false, _) => "alone",
            (true, 0) => "shared",
            (true, _) => "degraded",
        };
        let round_trips = self.round_trips.load(Ordering::Relaxed);
        Sharing { state, divided_by: (lost_of > 0).then_some(lost_of), round_trips }
    }

    /// Looks after subjects of which something was taken, soon.
    pub(super) fn look_after(&self, subjects: &[Arc<Subject>]) {
        if !self.is_shared() {
            return;
        }
        for subject in subjects {
            if !subject.is_waiting.swap(true, Ordering::AcqRel)
                && self.waiting.try_send(Arc::clone(subject)).is_err()
            {
                subject.is_waiting.store(false, Ordering::Release);
            }
        }
    }

    /// Asks for what a request lacks, or waits for somebody else's answer who asks already.
    pub(super) async fn fetch(&self, subjects: &[Arc<Subject>], amounts: &Amounts) {
        let answered = self.answered.notified();
        let asked = self.lacking(subjects, Some(amounts), self.moment());
        if asked.is_empty() {
            let _ = tokio::time::timeout(crate::cluster::DRAW_WITHIN, answered).await;
            return;
        }
        self.ask(asked).await;
    }

    /// What subjects need: for a request that uses `amounts`, or before anything is missed.
    fn lacking(
        &self,
        subjects: &[Arc<Subject>],
        amounts: Option<&Amounts>,
        moment: Moment,
    ) -> Vec<Asked> {
        let mut all = Vec::new();
        for (subject, mut locked) in subjects.iter().zip(lock(subjects, moment)) {
            let cached = locked.cached_permille();
            let waiting = |dimension: Dimension, meter: &Meter| {
                let amount = amounts.map_or(0, |amounts| amounts.of(dimension.counted, cached));
                let is_lacking = meter.lacks(amount, moment) == Some(Lack::Unasked);
                if is_lacking { amount } else { 0 }
            };
            let meters = locked.meters().iter();
            let joining = meters.clone().any(|(dimension, meter)| match meter {
                Meter::Shared(shared) => {
                    waiting(*dimension, meter) > 0 || shared.pool().is_low(moment.now)
                }
                Meter::Bucket(_) | Meter::Window(_) | Meter::Slots(_) => false,
            });
            if !joining {
                continue;
            }
            for (dimension, meter) in locked.meters_mut() {
                let waiting = waiting(*dimension, meter);
                let Meter::Shared(shared) = meter else { continue };
                let Some(need) = shared.need(waiting, true, moment) else { continue };
                let most = i64::try_from(need.want).unwrap_or(i64::MAX);
                let least = i64::try_from(need.at_least.min(need.want)).unwrap_or(i64::MAX);
                let want = Want::Take { most, least };
                all.push(Asked::new(subject, *dimension, shared, want, moment));
            }
        }
        all
    }

    /// Asks, and takes the answers in.
    async fn ask(&self, asked: Vec<Asked>) {
        let mut on_the_way = OnTheWay(asked);
        while !on_the_way.0.is_empty() {
            let count = on_the_way.0.len().min(MAX_QUESTIONS);
            let draws: Vec<Draw> =
                on_the_way.0.iter().take(count).map(|asked| asked.draw.clone()).collect();
            self.round_trips.fetch_add(1, Ordering::Relaxed);
            let answers = self.cluster.draw(&draws).await;
            match answers {
                Ok(grants) => {
                    let moment = self.moment();
                    for (asked, grant) in on_the_way.0.drain(..count).zip(grants) {
                        asked.take_in(grant, self.nodes(), moment, &self.metrics);
                    }
                }
                Err(unreachable) => {
                    self.lose(&unreachable);
                    break;
                }
            }
        }
        drop(on_the_way);
        self.answered.notify_waiters();
    }

    fn nodes(&self) -> NonZeroU32 {
        NonZeroU32::new(self.cluster.live_nodes()).unwrap_or(NonZeroU32::MIN)
    }

    fn lose(&self, why: &Unreachable) {
        let nodes = self.nodes().get();
        if self.lost_of.swap(nodes, Ordering::Relaxed) == 0 {
            tracing::warn!(
                nodes,
                "limits cannot be shared at the moment, each node goes by its part: {why}"
            );
        }
    }

    /// Looks whether the authority is back.
    async fn find(&self) {
        if self.cluster.health().state != ClusterState::Connected {
            // Nodes may still be counted while the connection is down.
            self.lost_of.store(self.nodes().get(), Ordering::Relaxed);
            return;
        }
        let of = Source::Slots { limit: 1, lease: SLOT_LEASE, held: 0 };
        let look =
            Draw { key: "limits/look".to_owned(), of, want: Want::Take { most: 0, least: 0 } };
        if self.cluster.draw(&[look]).await.is_ok() {
            self.lost_of.store(0, Ordering::Relaxed);
            tracing::info!("limits are shared again");
        }
    }
}

// === impl Refill ===

impl Refill {
    /// Runs for ever; returns at once where nothing is shared.
    pub(super) async fn run(mut self) {
        if !self.authority.is_shared() {
            return;
        }
        let mut round = tokio::time::interval(ROUND);
        round.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                first = self.waiting.recv() => match first {
                    Some(first) => self.fill(first).await,
                    None => return,
                },
                _ = round.tick() => self.look_after().await,
            }
        }
    }

    /// Asks for what is low, of all who wait.
    async fn fill(&mut self, first: Arc<Subject>) {
        let mut subjects = vec![first];
        while let Ok(next) = self.waiting.try_recv() {
            subjects.push(next);
        }
        for subject in &subjects {
            subject.is_waiting.store(false, Ordering::Release);
            self.active.insert(subject.order, Arc::clone(subject));
        }
        let moment = self.authority.moment();
        if moment.alone_of.is_some() {
            return;
        }
        subjects.sort_unstable_by_key(|subject| subject.order);
        subjects.dedup_by_key(|subject| subject.order);
        let asked = self.authority.lacking(&subjects, None, moment);
        if !asked.is_empty() {
            self.authority.ask(asked).await;
        }
    }

    /// Gives back what is not used, says what is owed and what is held.
    async fn look_after(&mut self) {
        let moment = self.authority.moment();
        if moment.alone_of.is_some() {
            self.renewed = None;
            return self.authority.find().await;
        }
        let is_old = |at: Instant| moment.now.saturating_duration_since(at) >= RENEW_EVERY;
        let renews = self.renewed.is_none_or(is_old);
        if renews {
            self.renewed = Some(moment.now);
        }
        let mut asked = Vec::new();
        self.active.retain(|_, subject| {
            let only = [Arc::clone(subject)];
            let mut locked = lock(&only, moment);
            let Some(locked) = locked.first_mut() else { return false };
            settle(subject, locked, renews, moment, &mut asked);
            !is_quiet(locked)
        });
        if !asked.is_empty() {
            self.authority.ask(asked).await;
        }
    }
}

/// What the authority has to be told of a subject.
fn settle(
    subject: &Arc<Subject>,
    locked: &mut Locked<'_>,
    renews: bool,
    moment: Moment,
    asked: &mut Vec<Asked>,
) {
    for (dimension, meter) in locked.meters_mut() {
        let Meter::Shared(shared) = meter else { continue };
        let want = match shared.overdue(moment) {
            Some(left) if left > 0 => Some(Want::Return(left)),
            Some(owed) => Some(Want::Book(owed.saturating_neg())),
            None => None,
        };
        let holds = match (shared.common(moment), renews) {
            (Common::Slots { held, .. }, true) if held > 0 => {
                Some(Want::Hold(i64::try_from(held).unwrap_or(i64::MAX)))
            }
            (Common::Slots { .. } | Common::Bucket { .. } | Common::Window { .. }, _) => None,
        };
        for want in want.into_iter().chain(holds) {
            let mut told = Asked::new(subject, *dimension, shared, want, moment);
            told.is_need = false;
            asked.push(told);
        }
    }
}

fn is_quiet(locked: &Locked<'_>) -> bool {
    locked.meters().iter().all(|(_, meter)| match meter {
        Meter::Shared(shared) => shared.is_quiet(),
        Meter::Bucket(_) | Meter::Window(_) | Meter::Slots(_) => true,
    })
}

// === impl Asked ===

impl Asked {
    fn new(
        subject: &Arc<Subject>,
        dimension: Dimension,
        shared: &Shared,
        want: Want,
        moment: Moment,
    ) -> Self {
        let common = shared.common(moment);
        let key = format!("limits/{}/{}", subject.key(), dimension.as_str());
        let draw = Draw { key, of: source(&common), want };
        let subject = Arc::clone(subject);
        Self { subject, dimension, common, is_need: true, draw }
    }

    /// Takes an answer in.
    fn take_in(mut self, grant: Grant, nodes: NonZeroU32, moment: Moment, metrics: &Metrics) {
        if !std::mem::replace(&mut self.is_need, false) {
            return;
        }
        let whole = |number: i64| u64::try_from(number).unwrap_or_default();
        let Grant { granted, left, next_in } = grant;
        let granted = Granted { granted: whole(granted), left: whole(left), next_in };
        let only = [Arc::clone(&self.subject)];
        for mut locked in lock(&only, moment) {
            let Some(Meter::Shared(shared)) = locked.meter_mut(self.dimension) else { continue };
            let crossed = shared.on_grant(granted, &self.common, nodes, moment);
            if let Some(threshold) = crossed {
                tell(metrics, &locked, Crossing { dimension: self.dimension, threshold });
            }
        }
    }
}

impl Drop for OnTheWay {
    fn drop(&mut self) {
        for asked in self.0.drain(..).filter(|asked| asked.is_need) {
            let only = [Arc::clone(&asked.subject)];
            for mut locked in lock(&only, asked.subject.made_at()) {
                if let Some(Meter::Shared(shared)) = locked.meter_mut(asked.dimension) {
                    shared.on_lost();
                }
            }
        }
    }
}

fn source(common: &Common) -> Source {
    let whole = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    match *common {
        Common::Bucket { rate, burst } => {
            Source::Bucket { rate_micro_per_s: whole(rate.micro_per_second()), burst: whole(burst) }
        }
        Common::Window { limit, start_ms, end_ms, used } => Source::Window {
            limit: whole(limit),
            id: start_ms.to_string(),
            ends_at_ms: end_ms,
            used: whole(used),
        },
        Common::Slots { limit, held } => {
            Source::Slots { limit: whole(limit), lease: SLOT_LEASE, held: whole(held) }
        }
    }
}
