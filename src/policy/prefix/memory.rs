//! Which prefixes a target was sent of late, and how much it was sent.

use std::collections::hash_map::RandomState;
use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

use super::Chain;
use crate::clock::Instant;

/// Generations that are kept. A prefix is forgotten between three quarters of its time to live and
/// all of it after it was last sent.
const GENERATIONS: usize = 4;

/// The block hashes that a target was sent of late: what its cache likely holds.
///
/// Blocks go into the youngest generation each time they are sent, and the oldest is dropped as a
/// whole, so that there is nothing to be kept in order. Since all blocks of a chain go in together,
/// who knows a block knows those before it.
#[derive(Debug)]
pub struct Memory {
    /// Youngest first, each with the time at which it began.
    generations: VecDeque<(Instant, Blocks)>,
    spread: Spread,
    /// Blocks of all generations together.
    capacity: usize,
    /// How long a prefix is kept after it was last sent.
    ttl: Duration,
}

type Blocks = HashSet<u64, Spread>;

/// Spreads block hashes in a table. They are hashes already, and a long prompt has hundreds of
/// them; the seed, which nobody outside knows, keeps callers from making all of them meet.
#[derive(Debug, Clone, Copy)]
struct Spread(u64);

/// A block hash on its way to its place.
#[derive(Debug)]
struct Spreading(u64);

/// How many requests a target was sent of late: decays by a factor e a minute.
#[derive(Debug, Clone, Copy, Default)]
pub struct Recent {
    count: f64,
    at: Option<Instant>,
}

// === impl Memory ===

impl Memory {
    /// Nothing yet. It will hold about `capacity` blocks, at most as many more as a prompt has.
    pub fn new(capacity: usize, ttl: Duration) -> Self {
        let spread = Spread(RandomState::new().hash_one(capacity));
        Self { generations: VecDeque::new(), spread, capacity, ttl }
    }

    /// The target was sent a prompt.
    pub fn note(&mut self, chain: &Chain, now: Instant) {
        let (quarter, most) = (self.ttl / 4, self.capacity / GENERATIONS);
        let is_open = |(began, blocks): &(Instant, Blocks)| {
            now.saturating_duration_since(*began) < quarter && blocks.len() < most
        };
        if !self.generations.front().is_some_and(is_open) {
            self.generations.push_front((now, Blocks::with_hasher(self.spread)));
            self.generations.truncate(GENERATIONS);
        }
        if let Some((_, blocks)) = self.generations.front_mut() {
            blocks.extend(chain.hashes());
        }
    }

    /// The share of a prompt that the target likely holds, 0 to 1.
    pub fn share(&self, chain: &Chain, now: Instant) -> f64 {
        let is_alive =
            |(began, _): &&(Instant, Blocks)| now.saturating_duration_since(*began) < self.ttl;
        let alive = || self.generations.iter().take_while(is_alive);
        if alive().next().is_none() || chain.bytes() == 0 {
            return 0.0;
        }
        let known = chain.known(|hash| alive().any(|(_, blocks)| blocks.contains(&hash)));
        #[expect(clippy::cast_precision_loss, reason = "lengths of prompts are far below 2^52")]
        let share = known as f64 / chain.bytes() as f64;
        share
    }

    /// How many blocks it holds, those whose time is over included.
    pub fn len(&self) -> usize {
        self.generations.iter().map(|(_, blocks)| blocks.len()).sum()
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

// === impl Spread ===

impl BuildHasher for Spread {
    type Hasher = Spreading;

    fn build_hasher(&self) -> Spreading {
        Spreading(self.0)
    }
}

impl Hasher for Spreading {
    fn write_u64(&mut self, block: u64) {
        // Both halves of the product: the low bits of one half depend on few bits of the block.
        let product = u128::from(self.0 ^ block) * u128::from(Self::FACTOR);
        let [low, high] = [product, product >> 64].map(|half| half & u128::from(u64::MAX));
        self.0 = u64::try_from(low ^ high).unwrap_or_default();
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

impl Spreading {
    /// 2^64 divided by the golden ratio: an odd number without a pattern.
    const FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;
}

// === impl Recent ===

impl Recent {
    const MEAN_LIFE: Duration = Duration::from_secs(60);

    /// One more.
    pub fn add(&mut self, now: Instant) {
        *self = Self { count: self.count(now) + 1.0, at: Some(now) };
    }

    /// How many there were of late.
    pub fn count(&self, now: Instant) -> f64 {
        let passed = self.at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        self.count * (-passed.as_secs_f64() / Self::MEAN_LIFE.as_secs_f64()).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{BLOCK_BYTES, Parts};
    use super::*;

    const TTL: Duration = Duration::from_secs(300);

    fn chain(seed: u64, blocks: usize) -> Chain {
        let text = vec![b'x'; blocks * BLOCK_BYTES];
        Chain::of(seed, &Parts { opening: b"o", rest: &text, ..Parts::default() })
    }

    #[test]
    fn a_prefix_is_held_from_when_it_was_sent_and_longer_if_it_is_sent_again() {
        let now = Instant::now();
        let at = |seconds| now + Duration::from_secs(seconds);
        let mut memory = Memory::new(1_000, TTL);
        assert_eq!(memory.share(&chain(1, 10), now), 0.0);
        memory.note(&chain(1, 4), now);
        let share = memory.share(&chain(1, 8), now);
        assert!((share - 0.5).abs() < 0.001, "{share}");
        assert_eq!(memory.share(&chain(2, 8), now), 0.0);
        assert_eq!(memory.share(&chain(1, 4), at(224)), 1.0);
        assert_eq!(memory.share(&chain(1, 4), at(301)), 0.0);
        memory.note(&chain(1, 4), at(200));
        assert_eq!(memory.share(&chain(1, 4), at(400)), 1.0);
        memory.note(&chain(2, 4), at(499));
        assert_eq!(memory.share(&chain(1, 4), at(501)), 0.0);
    }

    #[test]
    fn it_is_bounded_and_forgets_what_was_sent_longest_ago() {
        let now = Instant::now();
        let mut memory = Memory::new(400, TTL);
        for seed in 0..1_000 {
            memory.note(&chain(seed, 9), now);
            assert_eq!(memory.share(&chain(seed, 9), now), 1.0);
        }
        assert!(memory.len() <= 400 + 10 * GENERATIONS, "{}", memory.len());
        assert_eq!(memory.share(&chain(900, 9), now), 0.0);
    }

    #[test]
    fn what_was_sent_fades() {
        let now = Instant::now();
        let mut recent = Recent::default();
        (0..10).for_each(|_| recent.add(now));
        assert_eq!(recent.count(now), 10.0);
        let faded = recent.count(now + Duration::from_secs(60));
        assert!((faded - 10.0 / std::f64::consts::E).abs() < 1e-9, "{faded}");
    }
}
