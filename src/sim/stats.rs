//! Who is being served: counts that tests and `GET /sim/stats` look at.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::watch;

use super::bill::{Bill, Tab};
use crate::clock::Instant;

/// How many requests came and how they ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// All that came.
    pub requests: u64,
    /// Being answered right now.
    pub in_flight: u64,
    /// Played to the script's end, resets and refusals included.
    pub completed: u64,
    /// Left by the client before that.
    pub cancelled: u64,
}

/// All counts at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Snapshot {
    /// All models together.
    #[serde(flatten)]
    pub total: Counts,
    /// Each model; requests that name none are under the empty name.
    pub models: BTreeMap<String, Counts>,
}

/// The counts, shared by all requests.
#[derive(Debug, Clone)]
pub(super) struct Stats {
    models: Arc<Mutex<BTreeMap<String, Counts>>>,
    in_flight: Arc<watch::Sender<u64>>,
    busy: Busy,
}

/// How many requests each entry of a scenario is answering. Clones are the same counts.
#[derive(Debug, Clone, Default)]
pub struct Busy(Arc<Mutex<BTreeMap<String, u64>>>);

/// One request in flight. Dropping it before [`Ticket::complete`] is a cancellation.
#[derive(Debug)]
pub(super) struct Ticket {
    stats: Stats,
    model: String,
    entry: String,
    settled: bool,
    running: Option<Running>,
}

/// A bill that is being run up.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) books: Arc<Mutex<Vec<Bill>>>,
    pub(super) host: String,
    pub(super) tab: Tab,
    pub(super) since: Instant,
}

/// More names than a simulation has; further ones are counted together.
const MAX_MODELS: usize = 1_000;

// === impl Counts ===

impl Counts {
    fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.in_flight += other.in_flight;
        self.completed += other.completed;
        self.cancelled += other.cancelled;
    }
}

// === impl Stats ===

impl Stats {
    /// Nothing yet. What is answered counts as `busy`.
    pub(super) fn new(busy: Busy) -> Self {
        Self { models: Arc::default(), in_flight: Arc::new(watch::Sender::new(0)), busy }
    }

    pub(super) fn enter(&self, model: &str, entry: String) -> Ticket {
        let model = {
            let mut models = self.models.lock();
            let full = models.len() >= MAX_MODELS && !models.contains_key(model);
            let model = if full { "…" } else { model }.to_owned();
            let counts = models.entry(model.clone()).or_default();
            counts.requests += 1;
            counts.in_flight += 1;
            model
        };
        self.in_flight.send_modify(|count| *count += 1);
        self.busy.enter(&entry);
        Ticket { stats: self.clone(), model, entry, settled: false, running: None }
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        let models = self.models.lock().clone();
        let mut total = Counts::default();
        models.values().for_each(|counts| total.add(counts));
        Snapshot { total, models }
    }

    /// Waits until nothing is in flight.
    pub(super) async fn idle(&self) {
        let mut watch = self.in_flight.subscribe();
        // The sender lives as long as `self`, so waiting cannot fail.
        _ = watch.wait_for(|count| *count == 0).await;
    }
}

// === impl Busy ===

impl Busy {
    /// How many an entry is answering.
    pub fn of(&self, entry: &str) -> u64 {
        self.0.lock().get(entry).copied().unwrap_or_default()
    }

    fn enter(&self, entry: &str) {
        if !entry.is_empty() {
            *self.0.lock().entry(entry.to_owned()).or_default() += 1;
        }
    }

    fn leave(&self, entry: &str) {
        if let Some(count) = self.0.lock().get_mut(entry) {
            *count = count.saturating_sub(1);
        }
    }
}

// === impl Ticket ===

impl Ticket {
    /// Has the request's bill written when it ends.
    pub(super) fn run_up(&mut self, running: Running) {
        self.running = Some(running);
    }

    /// Notes that everything was said. What comes after changes nothing.
    pub(super) fn complete(&mut self) {
        self.settle(false);
    }

    fn settle(&mut self, is_cancelled: bool) {
        if std::mem::replace(&mut self.settled, true) {
            return;
        }
        if let Some(Running { books, host, tab, since }) = self.running.take() {
            let usage = tab.by(since.elapsed());
            let (model, label) = (self.model.clone(), tab.label);
            books.lock().push(Bill { host, model, label, usage, is_cancelled });
        }
        if let Some(counts) = self.stats.models.lock().get_mut(&self.model) {
            counts.in_flight = counts.in_flight.saturating_sub(1);
            counts.completed += u64::from(!is_cancelled);
            counts.cancelled += u64::from(is_cancelled);
        }
        self.stats.busy.leave(&self.entry);
        self.stats.in_flight.send_modify(|count| *count = count.saturating_sub(1));
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.settle(true);
    }
}
