//! How often a prefix comes back in time: whether it pays to have it kept.
//!
//! Anthropic's five-minute cache takes 1.25 times the price of a token to write it and a tenth to
//! read it. With `m` reads a write that is cheaper than reading it anew each time if `1.25 + 0.1·m
//! < 1 + m`.

use std::collections::HashMap;
use std::time::Duration;

use crate::clock::Instant;

/// The reads that a write of the five-minute cache must be followed by to pay: 0.25 / 0.9.
pub const BREAK_EVEN_FIVE_MINUTES: f64 = 0.25 / 0.9;

/// How much what all prefixes do says about one that was hardly seen: as much as two of its writes.
const PRIOR: f64 = 2.0;
/// With so many requests counted, all counts are halved: what was long ago counts less.
const FADE_AT: f64 = 64.0;
/// Prefixes that are remembered one by one, in each of two generations.
const MAX_PREFIXES: usize = 2_048;

/// How often prefixes of one kind come back within a time.
#[derive(Debug)]
pub struct Reuse {
    within: Duration,
    all: Counts,
    recent: HashMap<u64, Seen>,
    older: HashMap<u64, Seen>,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    at: Instant,
    counts: Counts,
}

/// Requests that found their prefix still there, and those that did not.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    reads: f64,
    writes: f64,
}

// === impl Reuse ===

impl Reuse {
    /// Nothing yet. A prefix that comes back `within` this time after it last came is a read.
    pub fn new(within: Duration) -> Self {
        let (recent, older) = (HashMap::new(), HashMap::new());
        Self { within, all: Counts::default(), recent, older }
    }

    /// A request with this prefix.
    pub fn note(&mut self, prefix: u64, now: Instant) {
        let known = self.recent.remove(&prefix).or_else(|| self.older.remove(&prefix));
        let is_read =
            known.is_some_and(|seen| now.saturating_duration_since(seen.at) < self.within);
        let mut counts = known.map(|seen| seen.counts).unwrap_or_default();
        counts.add(is_read);
        self.all.add(is_read);
        if self.recent.len() >= MAX_PREFIXES {
            self.older = std::mem::take(&mut self.recent);
        }
        self.recent.insert(prefix, Seen { at: now, counts });
    }

    /// How many reads a write of this prefix is expected to be followed by.
    pub fn expected(&self, prefix: u64) -> f64 {
        let known = self.recent.get(&prefix).or_else(|| self.older.get(&prefix));
        let own = known.map(|seen| seen.counts).unwrap_or_default();
        // Before anything was seen, nothing comes back.
        let all = self.all.reads / (self.all.writes + 1.0);
        (own.reads + PRIOR * all) / (own.writes + PRIOR)
    }
}

// === impl Counts ===

impl Counts {
    fn add(&mut self, is_read: bool) {
        if self.reads + self.writes >= FADE_AT {
            *self = Self { reads: self.reads / 2.0, writes: self.writes / 2.0 };
        }
        if is_read { self.reads += 1.0 } else { self.writes += 1.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIVE: Duration = Duration::from_secs(300);

    fn minutes(count: u64) -> Duration {
        Duration::from_secs(60 * count)
    }

    #[test]
    fn a_prefix_that_comes_back_every_minute_pays_from_its_second_time_on() {
        let now = Instant::now();
        let mut reuse = Reuse::new(FIVE);
        assert_eq!(reuse.expected(7), 0.0);
        reuse.note(7, now);
        assert!(reuse.expected(7) < BREAK_EVEN_FIVE_MINUTES);
        reuse.note(7, now + minutes(1));
        assert!(reuse.expected(7) > BREAK_EVEN_FIVE_MINUTES);
    }

    #[test]
    fn prefixes_that_never_come_back_in_time_do_not_pay() {
        let now = Instant::now();
        let mut reuse = Reuse::new(FIVE);
        for n in 0..100 {
            reuse.note(n, now + minutes(n));
            reuse.note(1_000, now + minutes(6 * n));
        }
        assert!(reuse.expected(1_000) < 0.01, "{}", reuse.expected(1_000));
        assert!(reuse.expected(5_000) < 0.01, "a new one is expected to do as the others");
    }

    #[test]
    fn a_new_prefix_is_expected_to_do_as_the_others_and_soon_speaks_for_itself() {
        let now = Instant::now();
        let mut reuse = Reuse::new(FIVE);
        for n in 0..60 {
            reuse.note(n / 6, now + minutes(n / 6));
        }
        let fresh = reuse.expected(999);
        assert!((3.5..5.5).contains(&fresh), "six requests a prefix: {fresh}");
        for n in 0..40 {
            reuse.note(999, now + minutes(10 * n));
        }
        assert!(reuse.expected(999) < BREAK_EVEN_FIVE_MINUTES, "{}", reuse.expected(999));
    }

    #[test]
    fn memory_is_bounded() {
        let now = Instant::now();
        let mut reuse = Reuse::new(FIVE);
        (0..100_000).for_each(|n| reuse.note(n, now));
        assert!(reuse.recent.len() + reuse.older.len() <= 2 * MAX_PREFIXES);
    }
}
