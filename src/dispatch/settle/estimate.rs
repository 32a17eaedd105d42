//! Tokens that the provider did not count: counted here, off the data threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};

use super::Ledger;
use super::seam::SeamAccount;
use super::shorten::TooLong;
use super::waste::{Prompt, WasteEstimate, Wasted};
use crate::catalog::Model;
use crate::chat::Usage;
use crate::dialect::TextSample;
use crate::dispatch::trace::Trace;
use crate::journal::Entry;
use crate::limits::Reservation;
use crate::telemetry::TargetMetrics;
use crate::tokens;

#[cfg(test)]
mod tests;

/// Estimates that may wait. Beyond that, tokens are guessed from the length alone.
pub(super) const MAX_WAITING_ESTIMATES: usize = 4_096;
/// Bytes of prompts and answers that may wait with them: prompts of many megabytes would otherwise
/// fill the memory long before the queue.
const MAX_WAITING_BYTES: u64 = 64 * 1024 * 1024;

/// Settles what has to be estimated first; to be run off the data threads.
#[derive(Debug)]
pub struct Estimator {
    waiting: mpsc::Receiver<Job>,
    ledger: Arc<Ledger>,
}

/// What takes milliseconds, during which a data thread would serve nobody.
#[derive(Debug)]
pub(super) enum Job {
    Settle(Box<Estimate>, Room),
    Waste(Box<WasteEstimate>, Room),
    Count(Bytes, oneshot::Sender<u64>, Room),
    Shorten(TooLong),
}

/// The bytes that jobs hold which are not done.
#[derive(Debug, Default)]
pub(super) struct Waiting(Arc<AtomicU64>);

/// Some of those bytes, given back when the job is done.
#[derive(Debug)]
pub(super) struct Room {
    waiting: Arc<AtomicU64>,
    bytes: u64,
}

/// An entry that lacks its token counts.
#[derive(Debug)]
pub(super) struct Estimate {
    pub(super) entry: Entry,
    pub(super) prompt: Bytes,
    pub(super) text: TextSample,
    /// What the provider said before it stopped saying anything.
    pub(super) known: Usage,
    pub(super) model: Arc<Model>,
    pub(super) metrics: Arc<TargetMetrics>,
    pub(super) trace: Option<Box<Trace>>,
    /// The attempt that another one continued, if there was one.
    pub(super) seam: Option<SeamAccount>,
    /// What was taken from the caller's limits.
    pub(super) reservation: Option<Reservation>,
    /// What other attempts took.
    pub(super) wasted: Wasted,
}

/// How tokens are found that nobody has counted. The error that is stated of an estimate is that of
/// the tokenizer, see [`tokens`]; what a provider generated and never sent is in none.
#[derive(Debug)]
pub(super) struct Method {
    /// Tokens of a request's body.
    pub(super) request: fn(&[u8]) -> u64,
    /// Tokens of an answer, or the part of one that came.
    pub(super) text: fn(&TextSample) -> u64,
}

/// With the tokenizer, which takes milliseconds.
pub(super) const COUNTED: Method =
    Method { request: tokens::count_request, text: tokens::count_sample };
/// By length.
pub(super) const GUESSED: Method = Method {
    request: |body| tokens::guess(body.len() as u64),
    text: |text| tokens::guess(text.bytes()),
};

// === impl Waiting ===

impl Waiting {
    /// Room for a job that holds `bytes`, or `None` where too many wait.
    pub(super) fn take(&self, bytes: usize) -> Option<Room> {
        let bytes = bytes as u64;
        let before = self.0.fetch_add(bytes, Ordering::Relaxed);
        let room = Room { waiting: Arc::clone(&self.0), bytes };
        (before.saturating_add(bytes) <= MAX_WAITING_BYTES).then_some(room)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.waiting.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

// === impl Estimator ===

impl Estimator {
    pub(super) fn new(waiting: mpsc::Receiver<Job>, ledger: Arc<Ledger>) -> Self {
        Self { waiting, ledger }
    }

    /// Runs until `closing` turns true, and then settles what waits.
    pub async fn run(mut self, mut closing: watch::Receiver<bool>) {
        loop {
            tokio::select! {
                biased;
                job = self.waiting.recv() => match job {
                    Some(job) => self.ledger.carry_out(job),
                    None => return,
                },
                _ = closing.wait_for(|closing| *closing) => break,
            }
        }
        while let Ok(job) = self.waiting.try_recv() {
            self.ledger.carry_out(job);
        }
    }
}

// === impl Ledger ===

impl Ledger {
    /// Queues an estimate, or guesses by length where too many wait.
    pub(super) fn estimate(&self, estimate: Estimate) {
        let Some(room) = self.waiting.take(estimate.prompt.len() + estimate.text.head().len())
        else {
            return self.settle_estimate(estimate, &GUESSED);
        };
        if let Err(refused) = self.estimates.try_send(Job::Settle(Box::new(estimate), room)) {
            let (mpsc::error::TrySendError::Full(job) | mpsc::error::TrySendError::Closed(job)) =
                refused;
            if let Job::Settle(estimate, _room) = job {
                self.settle_estimate(*estimate, &GUESSED);
            }
        }
    }

    /// Closes an entry to which nothing but what was wasted is still to be added.
    pub(super) fn close_with(&self, estimate: WasteEstimate) {
        if !estimate.wasted.needs_counting(&estimate.prompt) {
            return self.settle_waste(estimate, &GUESSED);
        }
        let bytes = estimate.prompt.bytes() + estimate.wasted.text_bytes();
        let Some(room) = self.waiting.take(bytes) else {
            return self.settle_waste(estimate, &GUESSED);
        };
        if let Err(refused) = self.estimates.try_send(Job::Waste(Box::new(estimate), room)) {
            let (mpsc::error::TrySendError::Full(job) | mpsc::error::TrySendError::Closed(job)) =
                refused;
            if let Job::Waste(estimate, _room) = job {
                self.settle_waste(*estimate, &GUESSED);
            }
        }
    }

    /// Counts the tokens of a request, or guesses by length where too much else waits.
    pub(in crate::dispatch) async fn count_tokens(&self, request: &Bytes) -> u64 {
        let (reply, counted) = oneshot::channel();
        // Where the job is not taken the reply is dropped with it, which ends the wait.
        if let Some(room) = self.waiting.take(request.len()) {
            let _ = self.estimates.try_send(Job::Count(request.clone(), reply, room));
        } else {
            drop(reply);
        }
        counted.await.unwrap_or_else(|_not_taken| tokens::guess(request.len() as u64))
    }

    fn carry_out(&self, job: Job) {
        match job {
            Job::Settle(estimate, _room) => self.settle_estimate(*estimate, &COUNTED),
            Job::Waste(estimate, _room) => self.settle_waste(*estimate, &COUNTED),
            // Whoever asked may have left.
            Job::Count(request, reply, _room) => {
                let _ = reply.send(tokens::count_request(&request));
            }
            Job::Shorten(too_long) => too_long.carry_out(),
        }
    }

    /// Fills in what the provider did not say, and closes the entry.
    fn settle_estimate(&self, estimate: Estimate, method: &Method) {
        let Estimate { mut entry, prompt, text, known, model, metrics, trace, .. } = estimate;
        let Estimate { wasted, seam, reservation, .. } = estimate;
        let mut usage = known;
        if usage.total_input() == 0 {
            usage.input = (method.request)(&prompt);
        }
        // What the provider said in the middle of an answer is less than what it sent by the end.
        usage.output = usage.output.max((method.text)(&text).saturating_sub(usage.reasoning));
        entry.usage = usage;
        entry.usage_estimated = true;
        entry.cost = model.cost(&usage);
        match seam {
            None => metrics.used(&usage, entry.cost.0),
            Some(seam) => {
                let second = seam.of_second(&usage);
                seam.book_waste(&mut entry, &second, (&model, &metrics), &self.metrics);
            }
        }
        if let Some(reservation) = reservation {
            reservation.settle(&usage, &model);
        }
        wasted.book(&mut entry, &Prompt::Tokens(usage.total_input()), method, &self.metrics);
        self.close(entry, trace);
    }

    /// Adds what was wasted, and closes the entry.
    fn settle_waste(&self, estimate: WasteEstimate, method: &Method) {
        let WasteEstimate { mut entry, trace, wasted, prompt } = estimate;
        wasted.book(&mut entry, &prompt, method, &self.metrics);
        self.close(entry, trace);
    }
}
