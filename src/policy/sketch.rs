//! Quantiles of durations in little memory: DDSketch (Masson, Rim and Lee, "DDSketch: a fast and
//! fully-mergeable quantile sketch with relative-error guarantees", VLDB 2019).
//!
//! Bucket `i` counts the samples in `(g^(i-1), g^i]` milliseconds with `g = (1 + a)/(1 - a)`. The
//! value `2*g^i/(g + 1)` is within the share `a` of every sample in it.

use std::time::Duration;

use crate::clock::Instant;
use crate::policy::window::passed;

/// By how much a quantile may be off, as a share of it: `a` above.
pub const RELATIVE_ERROR: f64 = 0.01;
/// Shorter samples count as this long.
pub const SHORTEST: Duration = Duration::from_millis(1);
/// Longer samples count as this long.
pub const LONGEST: Duration = Duration::from_secs(600);
/// How often a [`Refreshed`] value is computed at most.
pub const REFRESH: Duration = Duration::from_secs(1);

const GAMMA: f64 = (1.0 + RELATIVE_ERROR) / (1.0 - RELATIVE_ERROR);
/// Storage grows by whole blocks of buckets, so that it grows seldom.
const BLOCK: usize = 32;

/// Counts by bucket. Holds only the range of buckets that samples fell into: nothing at first, at
/// most 672 counts (2.7 KB).
#[derive(Debug, Clone, Default)]
pub struct Sketch {
    /// The bucket of the first count.
    first: usize,
    counts: Vec<u32>,
    total: u64,
}

/// The samples of the last minutes: one sketch per slot, the oldest of which expires as a whole.
#[derive(Debug, Clone)]
pub struct SketchRing {
    /// The newest first.
    slots: [Sketch; Self::SLOTS],
    /// When the newest slot began.
    since: Option<Instant>,
}

/// A value that is dear to compute and may be a little old.
#[derive(Debug, Clone, Copy)]
pub struct Refreshed<T> {
    value: Option<(T, Instant)>,
}

// === impl Sketch ===

impl Sketch {
    /// Counts a sample, which is clamped to [`SHORTEST`]..=[`LONGEST`].
    pub fn insert(&mut self, sample: Duration) {
        let bucket = bucket_of(sample);
        self.cover(bucket, bucket);
        let at = bucket.saturating_sub(self.first);
        if let Some(count) = self.counts.get_mut(at)
            && *count < u32::MAX
        {
            *count += 1;
            self.total += 1;
        }
    }

    /// Adds the counts of another sketch.
    pub fn merge(&mut self, other: &Self) {
        let Some(last) = other.end().checked_sub(1) else { return };
        self.cover(other.first, last);
        let at = other.first.saturating_sub(self.first);
        for (count, more) in self.counts.iter_mut().skip(at).zip(&other.counts) {
            let more = (*more).min(u32::MAX - *count);
            *count += more;
            self.total += u64::from(more);
        }
    }

    /// How many samples there are.
    pub fn count(&self) -> u64 {
        self.total
    }

    /// The sample at rank `q` (0 the smallest, 1 the largest), within [`RELATIVE_ERROR`]; nothing
    /// where there is no sample.
    pub fn quantile(&self, q: f64) -> Option<Duration> {
        quantile_of(std::slice::from_ref(self), q)
    }

    /// Forgets everything and gives the memory back.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// The bucket after the last held; 0 where none is.
    fn end(&self) -> usize {
        if self.counts.is_empty() { 0 } else { self.first + self.counts.len() }
    }

    fn in_bucket(&self, bucket: usize) -> u64 {
        let at = bucket.checked_sub(self.first);
        at.and_then(|at| self.counts.get(at)).map_or(0, |count| u64::from(*count))
    }

    /// Makes room for the buckets `low..=high`.
    fn cover(&mut self, low: usize, high: usize) {
        let low = low / BLOCK * BLOCK;
        let end = (high / BLOCK + 1) * BLOCK;
        if self.counts.is_empty() {
            self.first = low;
        }
        if low < self.first {
            self.counts.splice(0..0, std::iter::repeat_n(0, self.first - low));
            self.first = low;
        }
        if end > self.first + self.counts.len() {
            self.counts.resize(end - self.first, 0);
        }
    }
}

// === impl SketchRing ===

impl SketchRing {
    /// How many slots there are.
    pub const SLOTS: usize = 5;
    /// How long each lasts.
    pub const SLOT: Duration = Duration::from_secs(60);

    /// No samples.
    pub fn new() -> Self {
        Self { slots: Default::default(), since: None }
    }

    /// Counts a sample. One that was cut short (a cancelled attempt) counts as long as it had
    /// taken: without it the quantiles would be those of the quick only.
    pub fn insert(&mut self, sample: Duration, now: Instant) {
        let passed = passed(&mut self.since, Self::SLOT, now).min(Self::SLOTS);
        self.slots.rotate_right(passed);
        self.slots.iter_mut().take(passed).for_each(Sketch::clear);
        if let Some(newest) = self.slots.first_mut() {
            newest.insert(sample);
        }
    }

    /// The quantile over the last four to five minutes, as [`Sketch::quantile`]. Costs
    /// microseconds: see [`Refreshed`].
    pub fn quantile(&self, q: f64, now: Instant) -> Option<Duration> {
        quantile_of(self.live(now), q)
    }

    /// How many samples the last four to five minutes hold.
    pub fn count(&self, now: Instant) -> u64 {
        self.live(now).iter().map(Sketch::count).sum()
    }

    /// The slots that have not expired; those that have are cleared at the next insert.
    fn live(&self, now: Instant) -> &[Sketch] {
        let passed = passed(&mut self.since.clone(), Self::SLOT, now);
        self.slots.get(..Self::SLOTS.saturating_sub(passed)).unwrap_or_default()
    }
}

impl Default for SketchRing {
    fn default() -> Self {
        Self::new()
    }
}

// === impl Refreshed ===

impl<T: Copy> Refreshed<T> {
    /// Not computed yet.
    pub const fn new() -> Self {
        Self { value: None }
    }

    /// The value, computed anew if it is [`REFRESH`] old.
    pub fn get(&mut self, now: Instant, compute: impl FnOnce() -> T) -> T {
        match self.value {
            Some((value, at)) if now.saturating_duration_since(at) < REFRESH => value,
            Some(_) | None => {
                let value = compute();
                self.value = Some((value, now));
                value
            }
        }
    }
}

impl<T: Copy> Default for Refreshed<T> {
    fn default() -> Self {
        Self::new()
    }
}

fn bucket_of(sample: Duration) -> usize {
    let ms = sample.clamp(SHORTEST, LONGEST).as_secs_f64() * 1_000.0;
    // From 0 for 1 ms to 666 for 600 s, so the cast loses nothing but the fraction.
    (ms.ln() / GAMMA.ln()).ceil().max(0.0) as usize
}

fn value_of(bucket: usize) -> Duration {
    let ms = 2.0 * GAMMA.powf(bucket as f64) / (GAMMA + 1.0);
    Duration::from_secs_f64(ms / 1_000.0).clamp(SHORTEST, LONGEST)
}

/// The quantile of all samples of several sketches, as if they were merged.
fn quantile_of(sketches: &[Sketch], q: f64) -> Option<Duration> {
    let total: u64 = sketches.iter().map(Sketch::count).sum();
    let held = || sketches.iter().filter(|sketch| sketch.total > 0);
    let first = held().map(|sketch| sketch.first).min()?;
    let end = held().map(Sketch::end).max()?;
    let rank = (q.clamp(0.0, 1.0) * (total - 1) as f64) as u64;
    let mut seen = 0;
    (first..end)
        .find(|bucket| {
            seen += held().map(|sketch| sketch.in_bucket(*bucket)).sum::<u64>();
            seen > rank
        })
        .map(value_of)
}

#[cfg(test)]
mod tests;
