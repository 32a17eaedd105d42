//! Which requests are said to belong together. OpenAI keeps requests with the same beginning and
//! the same `prompt_cache_key` on one machine, up to about fifteen a minute; more spill over to
//! machines that have not seen them.

use std::collections::HashMap;

use super::memory::Recent;
use crate::clock::Instant;

/// Requests a minute that one key holds together.
pub const REQUESTS_A_SHARD: f64 = 15.0;
/// Keys whose rates are known; beyond them all are counted anew.
const MAX_KEYS: usize = 4_096;
/// More than any rate needs that one key of a provider allows.
const MAX_SHARDS: u32 = 1_024;

/// Requests a minute, by key.
#[derive(Debug, Default)]
pub struct Rates(HashMap<u64, Recent>);

// === impl Rates ===

impl Rates {
    /// Counts a request, and says how many there were in the last minute or so.
    pub fn add(&mut self, key: u64, now: Instant) -> f64 {
        if self.0.len() >= MAX_KEYS && !self.0.contains_key(&key) {
            self.0.clear();
        }
        let recent = self.0.entry(key).or_default();
        recent.add(now);
        recent.count(now)
    }
}

/// Into how many parts so many requests a minute are divided; at least 1.
pub fn shards(requests_a_minute: f64) -> u32 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "casts of floats saturate"
    )]
    let shards = (requests_a_minute / REQUESTS_A_SHARD).ceil() as u32;
    shards.clamp(1, MAX_SHARDS)
}

/// The part that a conversation belongs to, from 0. Where there is one part more, one in that many
/// conversations moves to it, and no other (Lamping and Veach, "A fast, minimal memory, consistent
/// hash algorithm", 2014).
pub fn shard(conversation: u64, shards: u32) -> u32 {
    const MULTIPLIER: u64 = 2_862_933_555_777_941_757;
    const STEPS: f64 = (1_u64 << 31) as f64;
    let (mut key, mut at, mut next) = (conversation, 0_u32, 0.0_f64);
    while next < f64::from(shards.max(1)) {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "below the number of shards"
        )]
        let jumped = next as u32;
        at = jumped;
        key = key.wrapping_mul(MULTIPLIER).wrapping_add(1);
        #[expect(clippy::cast_precision_loss, reason = "31 bits")]
        let drawn = ((key >> 33) + 1) as f64;
        next = (f64::from(at) + 1.0) * (STEPS / drawn);
    }
    at
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn there_is_a_shard_for_every_fifteen_requests_a_minute() {
        let counts = [0.0, 1.0, 15.0, 15.1, 100.0, 1e9].map(shards);
        assert_eq!(counts, [1, 1, 1, 2, 7, MAX_SHARDS]);
    }

    #[test]
    fn conversations_are_spread_and_one_more_shard_moves_few() {
        let keys = || (0..10_000_u64).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut counts = [0_u32; 8];
        keys().for_each(|key| counts[shard(key, 8) as usize] += 1);
        assert!(counts.iter().all(|count| (1_100..1_400).contains(count)), "{counts:?}");
        let moved: Vec<_> = keys().filter(|key| shard(*key, 8) != shard(*key, 9)).collect();
        assert!((900..1_350).contains(&moved.len()), "{}", moved.len());
        assert!(moved.iter().all(|key| shard(*key, 9) == 8));
    }

    #[test]
    fn rates_are_counted_by_key() {
        let now = Instant::now();
        let mut rates = Rates::default();
        (0..29).for_each(|_| _ = rates.add(1, now));
        assert_eq!((rates.add(1, now), rates.add(2, now)), (30.0, 1.0));
        let later = rates.add(1, now + Duration::from_secs(600));
        assert!(later < 1.01, "{later}");
    }
}
