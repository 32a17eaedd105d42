//! Tokens that the provider did not count: counted here, off the data threads.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};

use super::Ledger;
use crate::catalog::Model;
use crate::chat::Usage;
use crate::dialect::TextSample;
use crate::dispatch::trace::Trace;
use crate::journal::Entry;
use crate::telemetry::TargetMetrics;
use crate::tokens;

/// Estimates that may wait. Beyond that, tokens are guessed from the length alone.
pub(super) const MAX_WAITING_ESTIMATES: usize = 4_096;

/// Settles what has to be estimated first; to be run off the data threads.
#[derive(Debug)]
pub struct Estimator {
    waiting: mpsc::Receiver<Job>,
    ledger: Arc<Ledger>,
}

/// What takes milliseconds, during which a data thread would serve nobody.
#[derive(Debug)]
pub(super) enum Job {
    Settle(Box<Estimate>),
    Count(Bytes, oneshot::Sender<u64>),
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
    pub(super) metrics: TargetMetrics,
    pub(super) trace: Option<Box<Trace>>,
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
        if let Err(refused) = self.estimates.try_send(Job::Settle(Box::new(estimate))) {
            let (mpsc::error::TrySendError::Full(job) | mpsc::error::TrySendError::Closed(job)) =
                refused;
            if let Job::Settle(estimate) = job {
                self.settle_estimate(*estimate, guess);
            }
        }
    }

    /// Counts the tokens of a request, or guesses by length where too much else waits.
    pub(in crate::dispatch) async fn count_tokens(&self, request: &Bytes) -> u64 {
        let (reply, counted) = oneshot::channel();
        // Where the job is not taken the reply is dropped with it, which ends the wait.
        let _ = self.estimates.try_send(Job::Count(request.clone(), reply));
        counted.await.unwrap_or_else(|_not_taken| tokens::guess(request.len() as u64))
    }

    fn carry_out(&self, job: Job) {
        match job {
            Job::Settle(estimate) => self.settle_estimate(*estimate, count),
            // Whoever asked may have left.
            Job::Count(request, reply) => drop(reply.send(tokens::count_request(&request))),
        }
    }

    /// Fills in what the provider did not say, and closes the entry.
    fn settle_estimate(&self, estimate: Estimate, tokens: fn(&Estimate) -> Usage) {
        let estimated = tokens(&estimate);
        let Estimate { mut entry, known, model, metrics, trace, .. } = estimate;
        let mut usage = known;
        if usage.total_input() == 0 {
            usage.input = estimated.input;
        }
        // What the provider said in the middle of an answer is less than what it sent by the end.
        usage.output = usage.output.max(estimated.output.saturating_sub(usage.reasoning));
        entry.usage = usage;
        entry.usage_estimated = true;
        entry.cost = model.cost(&usage);
        metrics.used(&usage, entry.cost.0);
        self.close(entry, trace);
    }
}

fn count(estimate: &Estimate) -> Usage {
    let input = tokens::count_request(&estimate.prompt);
    let output = tokens::count_sample(&estimate.text);
    Usage { input, output, ..Usage::default() }
}

fn guess(estimate: &Estimate) -> Usage {
    let input = tokens::guess(estimate.prompt.len() as u64);
    let output = tokens::guess(estimate.text.bytes());
    Usage { input, output, ..Usage::default() }
}
