//! Counts of the recent past: a ring of buckets of equal width, with exact sums.
//!
//! A ring and not a decaying average, because an average hides a tight burst of failures among many
//! older successes, and a breaker is there for the burst.

use std::array;
use std::time::Duration;

use crate::clock::Instant;

/// Counts of `KINDS` kinds of events over the last `BUCKETS` buckets. The bucket in progress is one
/// of them, so the window reaches between `BUCKETS - 1` and `BUCKETS` widths back.
#[derive(Debug, Clone)]
pub struct Window<const BUCKETS: usize, const KINDS: usize> {
    /// The newest bucket first.
    buckets: [[u32; KINDS]; BUCKETS],
    sums: [u32; KINDS],
    width: Duration,
    /// When the newest bucket began.
    since: Option<Instant>,
}

// === impl Window ===

impl<const BUCKETS: usize, const KINDS: usize> Window<BUCKETS, KINDS> {
    /// An empty window of buckets of `width`.
    pub fn new(width: Duration) -> Self {
        Self { buckets: [[0; KINDS]; BUCKETS], sums: [0; KINDS], width, since: None }
    }

    /// Adds to each kind what `counts` says.
    pub fn add(&mut self, counts: [u32; KINDS], now: Instant) {
        self.roll(now);
        let Some(newest) = self.buckets.first_mut() else { return };
        for ((count, sum), more) in newest.iter_mut().zip(&mut self.sums).zip(counts) {
            // The sum bounds the bucket, so what is taken off it later is what was added.
            let more = more.min(u32::MAX - *sum);
            *count += more;
            *sum += more;
        }
    }

    /// The sum of each kind over the window.
    pub fn sums(&mut self, now: Instant) -> [u32; KINDS] {
        self.roll(now);
        self.sums
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Self::new(self.width);
    }

    fn roll(&mut self, now: Instant) {
        let passed = passed(&mut self.since, self.width, now);
        if passed == 0 {
            return;
        }
        if passed >= BUCKETS {
            self.buckets = [[0; KINDS]; BUCKETS];
            self.sums = [0; KINDS];
            return;
        }
        self.buckets.rotate_right(passed);
        for bucket in self.buckets.iter_mut().take(passed) {
            let mut old = array::from_fn(|_| 0);
            std::mem::swap(bucket, &mut old);
            for (sum, count) in self.sums.iter_mut().zip(old) {
                *sum -= count;
            }
        }
    }
}

/// How many slots of `width` have begun after the one that began at `since`, which moves along to
/// the start of the newest. The first call starts the first slot; time that runs backwards is none.
pub(super) fn passed(since: &mut Option<Instant>, width: Duration, now: Instant) -> usize {
    let start = *since.get_or_insert(now);
    let elapsed = now.saturating_duration_since(start);
    if elapsed < width {
        return 0;
    }
    let width = width.as_nanos().max(1);
    let slots = elapsed.as_nanos() / width;
    let into_newest = u64::try_from(elapsed.as_nanos() % width).unwrap_or(0);
    *since = Some(now - Duration::from_nanos(into_newest));
    usize::try_from(slots).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_idle_gap_clears_the_window() {
        let start = Instant::now();
        let mut window = Window::<10, 2>::new(Duration::from_secs(1));
        window.add([3, 1], start);
        assert_eq!(window.sums(start + Duration::from_millis(9_999)), [3, 1]);
        assert_eq!(window.sums(start + Duration::from_secs(10)), [0, 0]);
        window.add([1, 0], start + Duration::from_secs(1_000_000));
        assert_eq!(window.sums(start + Duration::from_secs(1_000_000)), [1, 0]);
    }

    #[test]
    fn time_that_runs_backwards_counts_in_the_newest_bucket() {
        let start = Instant::now();
        let mut window = Window::<4, 1>::new(Duration::from_secs(1));
        window.add([1], start + Duration::from_secs(2));
        window.add([1], start);
        assert_eq!(window.sums(start + Duration::from_millis(5_900)), [2]);
        assert_eq!(window.sums(start + Duration::from_secs(6)), [0]);
    }

    #[test]
    fn a_full_count_stays_full_and_still_expires() {
        let start = Instant::now();
        let mut window = Window::<2, 1>::new(Duration::from_secs(1));
        window.add([u32::MAX], start);
        window.add([5], start + Duration::from_secs(1));
        assert_eq!(window.sums(start + Duration::from_secs(1)), [u32::MAX]);
        assert_eq!(window.sums(start + Duration::from_secs(2)), [0]);
    }

    proptest! {
        /// The sums are those of a list of all events, cut at the bucket that has just expired.
        #[test]
        fn sums_are_exact(steps in prop::collection::vec((0_u64..2_500, 0_u32..5, 0_u32..5), 1..200)) {
            let start = Instant::now();
            let mut window = Window::<5, 2>::new(Duration::from_secs(1));
            let mut events = Vec::new();
            let mut at_ms = 0;
            for (gap_ms, a, b) in steps {
                at_ms += gap_ms;
                let now = start + Duration::from_millis(at_ms);
                window.add([a, b], now);
                events.push((at_ms, a, b));
                // The first event starts the first bucket, hence whole seconds after it.
                let base = events[0].0;
                let bucket = |at: u64| (at - base) / 1_000;
                let live = events.iter().filter(|(at, _, _)| bucket(*at) + 5 > bucket(at_ms));
                let expected = live.fold([0, 0], |sum, (_, a, b)| [sum[0] + a, sum[1] + b]);
                prop_assert_eq!(window.sums(now), expected);
            }
        }
    }
}
