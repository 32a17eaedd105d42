//! The task that asks for more before it is missed, gives back what was not used, and says what is
//! owed and what is held.

use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;

use super::{Authority, asked};
use crate::clock::Instant;
use crate::limits::subjects::{Locked, Subject, Subjects, lock};
use crate::quota::{Meter, Moment, When};

/// How often unused amounts, debts and the authority's absence are looked after.
const ROUND: Duration = Duration::from_millis(250);
/// How often the authority is told of places that are held.
const RENEW_EVERY: Duration = Duration::from_secs(3);

/// A question on its way, until its answer is taken in.
pub(super) type Asking = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Asks the authority; to be run for as long as the process.
pub(in crate::limits) struct Refill {
    pub(super) authority: Arc<Authority>,
    pub(super) waiting: mpsc::Receiver<Arc<Subject>>,
    /// Questions whose callers have gone.
    pub(super) abandoned: mpsc::Receiver<Asking>,
    pub(super) closing: watch::Receiver<bool>,
    /// Those that are looked after here.
    pub(super) carried: Vec<Asking>,
    /// What the authority has to hear of again.
    pub(super) active: HashMap<u64, Arc<Subject>>,
    pub(super) renewed: Option<Instant>,
    /// Which memory of the authority knows what was told; 0 before the first.
    pub(super) memory: u64,
}

/// A question that a request waits for. Where the request ends before, the question goes on without
/// it: what it is granted is used by the next.
pub(super) struct Carried<'a> {
    pub(super) asking: Option<Asking>,
    pub(super) authority: &'a Authority,
}

// === impl Refill ===

impl Refill {
    /// Runs until it is told to close; returns at once where nothing is shared.
    pub(in crate::limits) async fn run(mut self, subjects: &Subjects) {
        if !self.authority.is_shared() {
            return;
        }
        let mut round = tokio::time::interval(ROUND);
        round.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                // Questions of threads that end must not be gone on with.
                () = told(&mut self.closing) => break,
                first = self.waiting.recv() => match first {
                    Some(first) => self.fill(first).await,
                    None => break,
                },
                _ = round.tick() => self.look_after(subjects).await,
                Some(asking) = self.abandoned.recv() => self.carried.push(asking),
                () = carry(&mut self.carried), if !self.carried.is_empty() => {}
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
    async fn look_after(&mut self, subjects: &Subjects) {
        if self.authority.moment().alone_of.is_some() {
            self.renewed = None;
            self.authority.find().await;
        }
        let moment = self.authority.moment();
        if moment.alone_of.is_some() {
            return;
        }
        self.remind(subjects, moment);
        let is_old = |at: Instant| moment.now.saturating_duration_since(at) >= RENEW_EVERY;
        let renews = self.renewed.is_none_or(is_old);
        if renews {
            self.renewed = Some(moment.now);
        }
        let when = if renews { When::Renewing } else { When::Due };
        let mut asked = Vec::new();
        self.active.retain(|_, subject| {
            let only = [Arc::clone(subject)];
            let mut locked = lock(&only, moment);
            let Some(locked) = locked.first_mut() else { return false };
            asked::told(subject, locked, when, moment, &mut asked);
            !is_quiet(locked, moment)
        });
        if !asked.is_empty() {
            self.authority.ask(asked).await;
        }
    }

    /// Where the authority has lost its memory, tells it again all that this node knows.
    fn remind(&mut self, subjects: &Subjects, moment: Moment) {
        let memory = self.authority.cluster.memory();
        if memory == 0 || std::mem::replace(&mut self.memory, memory) == memory {
            return;
        }
        for subject in subjects.all() {
            let only = [Arc::clone(&subject)];
            let mut has_history = false;
            for mut locked in lock(&only, moment) {
                for (_, meter) in locked.meters_mut() {
                    let Meter::Shared(shared) = meter else { continue };
                    if shared.has_history(moment) {
                        shared.on_forgotten();
                        has_history = true;
                    }
                }
            }
            if has_history {
                self.active.insert(subject.order, subject);
            }
        }
    }
}

fn is_quiet(locked: &Locked<'_>, moment: Moment) -> bool {
    locked.meters().iter().all(|(_, meter)| match meter {
        Meter::Shared(shared) => shared.is_quiet(moment),
        Meter::Bucket(_) | Meter::Window(_) | Meter::Slots(_) => true,
    })
}

/// Waits until the node ends.
async fn told(closing: &mut watch::Receiver<bool>) {
    // An error means that nobody is there to say so, which is the end as well.
    let _ = closing.wait_for(|is_closing| *is_closing).await;
}

/// Goes on with questions until all are answered.
async fn carry(all: &mut Vec<Asking>) {
    poll_fn(|context| {
        all.retain_mut(|asking| asking.as_mut().poll(context).is_pending());
        if all.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

impl std::fmt::Debug for Refill {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Refill").field("active", &self.active.len()).finish_non_exhaustive()
    }
}

// === impl Carried ===

impl Future for Carried<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Some(asking) = &mut self.asking else { return Poll::Ready(()) };
        let polled = asking.as_mut().poll(context);
        if polled.is_ready() {
            self.asking = None;
        }
        polled
    }
}

impl Drop for Carried<'_> {
    fn drop(&mut self) {
        if let Some(asking) = self.asking.take()
            && !*self.authority.closing.borrow()
        {
            // Full: it is as if there had been no answer.
            let _ = self.authority.abandoned.try_send(asking);
        }
    }
}
