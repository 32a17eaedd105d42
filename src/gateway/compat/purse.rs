//! What a run may spend: reckoned before each answer is asked, settled when it has come.
//!
//! What an answer will cost is not known before. So two numbers are reckoned with: what it will
//! cost by what is known, and the most that it can cost by the catalog. Answers are asked together
//! as long as the most of all of them fits; beyond that they are asked one at a time, each while
//! what it will cost fits. So a run passes its cap by no more than one answer is misjudged, and
//! hardly ever at all.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::Notify;

use crate::catalog::Prices;
use crate::chat::Usage;
use crate::config::Snapshot;

/// Bytes of a token, about.
const BYTES_A_TOKEN: u64 = 4;
/// Tokens of an answer where none has come yet, and the most where nobody says.
const USUAL_OUTPUT: u64 = 256;
const MOST_OUTPUT: u64 = 4_096;
/// An answer that judges look at may cost so many times as much as the costliest so far.
const SPREAD: u64 = 2;

/// What a run may spend.
#[derive(Debug)]
pub(super) struct Purse {
    cap_micro_usd: u64,
    spent_micro_usd: AtomicU64,
    held: Mutex<Held>,
    settled: Notify,
    is_empty: AtomicBool,
}

/// What is in hand.
#[derive(Debug, Default)]
struct Held {
    answers: u32,
    /// The most that they can cost.
    most_micro_usd: u64,
    /// What the costliest answer of the run has cost, of those that came here.
    greatest: Option<u64>,
}

/// What an answer may cost, in millionths of a dollar.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Quote {
    pub(super) expected: u64,
    pub(super) most: u64,
}

/// The right to ask for one answer. Whoever has it settles it.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Hold {
    most_micro_usd: u64,
}

enum Room {
    Here(Hold),
    Later,
    Never,
}

/// What one side's answers cost.
#[derive(Debug, Default)]
pub(super) struct Tariff {
    /// Of each model that may answer: its prices, and the most tokens of an answer.
    models: Vec<(Prices, u64)>,
    /// Bytes of what is sent with each question.
    more_bytes: u64,
}

// === impl Purse ===

impl Purse {
    /// Of so much, of which this is spent.
    pub(super) fn new(cap_micro_usd: u64, spent_micro_usd: u64) -> Self {
        Self {
            cap_micro_usd,
            spent_micro_usd: AtomicU64::new(spent_micro_usd),
            held: Mutex::default(),
            settled: Notify::new(),
            is_empty: AtomicBool::new(false),
        }
    }

    /// Whether something was not asked because there is too little left.
    pub(super) fn is_empty(&self) -> bool {
        self.is_empty.load(Ordering::Relaxed)
    }

    /// What is spent, in millionths of a dollar.
    pub(super) fn spent_micro_usd(&self) -> u64 {
        self.spent_micro_usd.load(Ordering::Relaxed)
    }

    /// Waits until an answer of this price may be asked for. `None`: there is too little left.
    ///
    /// # Cancel safety
    ///
    /// Nothing is held before it returns.
    pub(super) async fn hold(&self, quote: Quote) -> Option<Hold> {
        loop {
            let settled = self.settled.notified();
            tokio::pin!(settled);
            // Not to miss one that comes between the look and the wait.
            settled.as_mut().enable();
            match self.room(quote) {
                Room::Here(hold) => return Some(hold),
                Room::Never => {
                    self.is_empty.store(true, Ordering::Relaxed);
                    self.settled.notify_waiters();
                    return None;
                }
                Room::Later => settled.await,
            }
        }
    }

    fn room(&self, quote: Quote) -> Room {
        let mut held = self.held.lock();
        let expected = held.greatest.unwrap_or(quote.expected);
        let most = quote.most.max(expected.saturating_mul(SPREAD));
        let spent = self.spent_micro_usd();
        // One that costs nothing may be asked with nothing.
        if self.is_empty() || spent.saturating_add(expected) > self.cap_micro_usd {
            return Room::Never;
        }
        let all = spent.saturating_add(held.most_micro_usd).saturating_add(most);
        if held.answers > 0 && all > self.cap_micro_usd {
            return Room::Later;
        }
        held.answers += 1;
        held.most_micro_usd = held.most_micro_usd.saturating_add(most);
        Room::Here(Hold { most_micro_usd: most })
    }

    /// The answer has come, or will not.
    pub(super) fn settle(&self, hold: Hold, cost_micro_usd: u64) {
        let mut held = self.held.lock();
        self.spent_micro_usd.fetch_add(cost_micro_usd, Ordering::Relaxed);
        held.answers = held.answers.saturating_sub(1);
        held.most_micro_usd = held.most_micro_usd.saturating_sub(hold.most_micro_usd);
        // One that failed has cost nothing, and says nothing.
        held.greatest = held.greatest.max(Some(cost_micro_usd).filter(|cost| *cost > 0));
        drop(held);
        self.settled.notify_waiters();
    }
}

// === impl Tariff ===

impl Tariff {
    /// That of whatever may answer where this model is asked, with these tools.
    pub(super) fn of(snapshot: &Snapshot, model: &str, cap: Option<u64>, tools: &[Value]) -> Self {
        let Ok(route) = snapshot.resolve(model) else { return Self::default() };
        let targets = route.tiers.iter().flatten();
        let priced = targets.filter_map(|target| {
            let most = cap.or(target.model.output_tokens).unwrap_or(MOST_OUTPUT);
            Some((target.model.prices?, most))
        });
        let more_bytes = tools.iter().map(|tool| tool.to_string().len() as u64).sum();
        Self { models: priced.collect(), more_bytes }
    }

    /// What an answer to so many bytes will cost, and may cost at most, by the dearest model that
    /// may give it. Nothing, where nobody says what it costs.
    pub(super) fn quote(&self, bytes: usize) -> Quote {
        let bytes = (bytes as u64).saturating_add(self.more_bytes);
        let cost = |prices: &Prices, input: u64, output: u64| {
            prices.cost(&Usage { input, output, ..Usage::default() }).0
        };
        let of = |(prices, most): &(Prices, u64)| Quote {
            expected: cost(prices, bytes / BYTES_A_TOKEN, USUAL_OUTPUT.min(*most)),
            // A token may be one byte.
            most: cost(prices, bytes, *most),
        };
        self.models.iter().map(of).fold(Quote::default(), |one, other| Quote {
            expected: one.expected.max(other.expected),
            most: one.most.max(other.most),
        })
    }
}

#[cfg(test)]
mod tests;
