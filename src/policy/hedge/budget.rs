//! What hedges may cost: extra requests, and extra money.

use std::time::Duration;

use super::Settings;
use crate::clock::Instant;

/// Extra requests. Each first attempt adds a part of one; at most `burst` are kept. It starts
/// empty, so that over any time since the start hedges are at most their share of the first
/// attempts.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct HedgeBudget {
    tokens: f64,
}

/// Extra money: what hedges of the last five minutes took, against what all requests took.
///
/// The five minutes are ten buckets of 30 s, so that a bucket's money is forgotten between 4.5 and
/// 5 minutes after it was spent.
#[derive(Debug, Clone, Default)]
pub struct SpendBudget {
    buckets: [Bucket; BUCKETS],
    /// The first instant there was, and the number of the newest bucket since then.
    newest: Option<(Instant, u64)>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Bucket {
    spent_usd: f64,
    hedged_usd: f64,
}

const BUCKETS: usize = 10;
const BUCKET_WIDTH: Duration = Duration::from_secs(30);
/// Parts of a token are sums of tenths and hundredths: 20 deposits of 0.05 are one withdrawal.
const ROUNDING: f64 = 1e-9;

// === impl HedgeBudget ===

impl HedgeBudget {
    /// An empty budget.
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes a first attempt.
    pub fn on_primary(&mut self, settings: &Settings) {
        self.tokens = (self.tokens + settings.max_extra_requests.max(0.0)).min(settings.burst);
    }

    /// Takes one extra request, if there is one.
    #[must_use]
    pub fn try_withdraw(&mut self) -> bool {
        if self.tokens + ROUNDING < 1.0 {
            return false;
        }
        self.tokens = (self.tokens - 1.0).max(0.0);
        true
    }

    /// Gives back one that was withdrawn and not sent.
    pub fn refund(&mut self, settings: &Settings) {
        self.tokens = (self.tokens + 1.0).min(settings.burst);
    }

    /// How many extra requests there are, from 0 to `burst`.
    pub fn available(&self) -> f64 {
        self.tokens
    }
}

// === impl SpendBudget ===

impl SpendBudget {
    /// Notes what a request cost, hedged or not, in US dollars.
    pub fn on_spend(&mut self, usd: f64, now: Instant) {
        self.newest_bucket(now).spent_usd += positive(usd);
    }

    /// Books `usd` for a second leg if hedges then stay within their share of the spend, or within
    /// what one of them may cost. A leg that costs nothing always may.
    #[must_use]
    pub fn try_spend(&mut self, usd: f64, settings: &Settings, now: Instant) -> bool {
        let usd = positive(usd);
        self.newest_bucket(now);
        let hedged: f64 = self.buckets.iter().map(|bucket| bucket.hedged_usd).sum();
        // One hedge is always affordable, or a route with few requests could never race.
        let most = (settings.max_extra_spend * self.spent_usd()).max(settings.max_input_usd);
        if usd > 0.0 && hedged + usd > most {
            return false;
        }
        self.newest_bucket(now).hedged_usd += usd;
        true
    }

    /// Gives back what was booked and not spent, newest first.
    pub fn refund(&mut self, usd: f64, now: Instant) {
        self.newest_bucket(now);
        let newest = self.newest.map_or(0, |(_, newest)| newest);
        let mut left = positive(usd);
        for age in 0..BUCKETS as u64 {
            let bucket = &mut self.buckets[slot(newest + BUCKETS as u64 - age)];
            let taken = left.min(bucket.hedged_usd);
            bucket.hedged_usd -= taken;
            left -= taken;
        }
    }

    /// What was spent in the last five minutes as of the last call, in US dollars.
    pub fn spent_usd(&self) -> f64 {
        self.buckets.iter().map(|bucket| bucket.spent_usd).sum()
    }

    fn newest_bucket(&mut self, now: Instant) -> &mut Bucket {
        let (start, newest) = *self.newest.get_or_insert((now, 0));
        let widths = now.saturating_duration_since(start).as_secs() / BUCKET_WIDTH.as_secs();
        // A call from before the newest bucket counts as one of it.
        let current = widths.max(newest);
        for passed in (newest + 1..=current).take(BUCKETS) {
            // After a longer gap this clears all of them, in another order.
            self.buckets[slot(passed)] = Bucket::default();
        }
        self.newest = Some((start, current));
        &mut self.buckets[slot(current)]
    }
}

fn slot(number: u64) -> usize {
    usize::try_from(number % BUCKETS as u64).unwrap_or_default()
}

/// A price that is no number, or below nothing, counts as nothing.
fn positive(usd: f64) -> f64 {
    if usd.is_finite() { usd.max(0.0) } else { 0.0 }
}
