//! What several nodes share: asking their common authority, and doing without it.
//!
//! Requests decide by what their node holds. [`Refill`], one task of the process, asks for more
//! before it is missed, gives back what was not used, and says what is owed: all of it in one round
//! trip. A request asks for itself only where nothing is held: of a key that is seldom used, or
//! that begins.
//!
//! While the authority does not answer, each node goes by the limit divided by the nodes. That is
//! found out by the first question without an answer, and looked after four times a second.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::{Notify, mpsc, watch};

use super::subjects::{Subject, Subjects, lock};
use crate::clock::{Instant, WallClock};
use crate::cluster::{Cluster, ClusterState, Draw, Source, Unreachable, Want};
use crate::quota::{Amounts, Dimension, Lack, Meter, Moment, When};
use crate::telemetry::Metrics;

mod asked;
mod refill;

use asked::{Asked, OnTheWay, SLOT_LEASE};
pub(super) use refill::Refill;
use refill::{Asking, Carried};

/// Subjects that may wait for the task. Full: they are asked for when they are missed.
const MAX_WAITING: usize = 4_096;
/// Questions that may go on without those who asked them.
const MAX_ABANDONED: usize = 1_024;
/// Questions of one round trip.
const MAX_QUESTIONS: usize = 500;
/// How long all may take that is given back at the end, and how long that waits for an answer that
/// is on its way.
const HAND_BACK_WITHIN: Duration = Duration::from_secs(1);
const HAND_BACK_PAUSE: Duration = Duration::from_millis(20);

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
    abandoned: mpsc::Sender<Asking>,
    /// Whether the node ends.
    closing: watch::Sender<bool>,
    /// Told whenever an answer was taken in.
    answered: Notify,
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

// === impl Authority ===

impl Authority {
    pub(super) fn new(
        cluster: Cluster,
        wall: Arc<dyn WallClock>,
        metrics: Arc<Metrics>,
    ) -> (Arc<Self>, Refill) {
        // Bounded; see `MAX_WAITING`.
        let (sender, waiting) = mpsc::channel(MAX_WAITING);
        let (abandoned, gone_on_with) = mpsc::channel(MAX_ABANDONED);
        let (closing, told) = watch::channel(false);
        let authority = Arc::new(Self {
            cluster,
            wall,
            metrics,
            latest_ms: AtomicU64::new(0),
            lost_of: AtomicU32::new(0),
            round_trips: AtomicU64::new(0),
            waiting: sender,
            abandoned,
            closing,
            answered: Notify::new(),
        });
        let refill = Refill {
            authority: Arc::clone(&authority),
            waiting,
            abandoned: gone_on_with,
            closing: told,
            carried: Vec::new(),
            active: HashMap::new(),
            renewed: None,
            memory: 0,
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
        let is_away = self.cluster.health().state == ClusterState::Degraded;
        let state = match (self.is_shared(), lost_of) {
            (false, _) => "alone",
            (true, 0) if !is_away => "shared",
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
    /// Where the caller does not wait for the answer, it is taken in all the same.
    pub(super) async fn fetch(self: &Arc<Self>, subjects: &[Arc<Subject>], amounts: &Amounts) {
        let answered = self.answered.notified();
        let asked = self.lacking(subjects, Some(amounts), self.moment());
        if asked.is_empty() {
            let _ = tokio::time::timeout(crate::cluster::DRAW_WITHIN, answered).await;
            return;
        }
        let authority = Arc::clone(self);
        let asking: Asking = Box::pin(async move { authority.ask(asked).await });
        Carried { asking: Some(asking), authority: self }.await;
    }

    /// Gives back all that this node holds and does not use: it ends. Takes a second at most.
    pub(super) async fn hand_back(&self, subjects: &Subjects) {
        self.closing.send_replace(true);
        if !self.is_shared() {
            return;
        }
        let handing_back = async {
            while self.moment().alone_of.is_none() && self.hand_back_once(subjects).await {
                tokio::time::sleep(HAND_BACK_PAUSE).await;
            }
        };
        if tokio::time::timeout(HAND_BACK_WITHIN, handing_back).await.is_err() {
            tracing::warn!("not all that is left of limits could be given back in time");
        }
    }

    /// Gives back what can be. Whether there is more, of which an answer is on its way.
    async fn hand_back_once(&self, subjects: &Subjects) -> bool {
        let moment = self.moment();
        let (mut asked, mut is_more) = (Vec::new(), false);
        for subject in subjects.all() {
            let only = [Arc::clone(&subject)];
            for mut locked in lock(&only, moment) {
                is_more |= locked.meters().iter().any(|(_, meter)| match meter {
                    Meter::Shared(shared) => shared.pool().is_asking(),
                    Meter::Bucket(_) | Meter::Window(_) | Meter::Slots(_) => false,
                });
                asked::told(&subject, &mut locked, When::Now, moment, &mut asked);
            }
        }
        if !asked.is_empty() {
            self.ask(asked).await;
        }
        is_more
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
                shared.on_missed(waiting);
                let Some(need) = shared.need(waiting, true, moment) else { continue };
                all.push(Asked::for_need((subject, *dimension), shared, need, moment));
            }
        }
        all
    }

    /// Asks, and takes the answers in.
    async fn ask(&self, asked: Vec<Asked>) {
        let mut on_the_way = OnTheWay::new(asked, self);
        while let Some(draws) = on_the_way.next(MAX_QUESTIONS) {
            self.round_trips.fetch_add(1, Ordering::Relaxed);
            match self.cluster.draw(&draws).await {
                Ok(grants) => on_the_way.on_answers(grants),
                Err(unreachable) => {
                    on_the_way.on_lost(&unreachable);
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
