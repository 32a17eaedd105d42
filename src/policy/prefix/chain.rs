//! The beginning of a prompt as hashes, each of which stands for all before it.

use std::sync::Arc;

/// Bytes of a block: some 64 tokens. Providers' own blocks are of 16 tokens (vLLM) to 128 (OpenAI);
/// shorter ones would tell little more and cost more to look up.
pub const BLOCK_BYTES: usize = 256;
/// Blocks of a prompt that are looked at. What follows counts as not cached.
pub const MAX_BLOCKS: usize = 2_048;

/// The parts of a prompt in the order in which a model reads them. The bytes may be anything, as
/// long as equal prompts have equal ones.
#[derive(Debug, Clone, Copy, Default)]
pub struct Parts<'a> {
    /// Tools, and instructions beside the messages.
    pub base: [&'a [u8]; 2],
    /// Messages up to the first of the user, without it: instructions.
    pub instructions: &'a [u8],
    /// The first message of the user.
    pub opening: &'a [u8],
    /// What follows. Its last block is incomplete and not looked at.
    pub rest: &'a [u8],
}

/// The hashes of a prompt's blocks. Clones share them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    blocks: Arc<[Block]>,
    /// Bytes of the whole prompt.
    bytes: usize,
    base: (u64, usize),
    conversation: u64,
}

/// A block: the hash of all up to its end, and where that is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) hash: u64,
    pub(super) end: usize,
}

// === impl Chain ===

impl Chain {
    /// Hashes a prompt. Prompts with different seeds have nothing in common.
    pub fn of(seed: u64, parts: &Parts<'_>) -> Self {
        let Parts { base: [tools, system], instructions, opening, rest } = *parts;
        let all = [tools, system, instructions, opening, rest];
        let bytes: usize = all.iter().map(|part| part.len()).sum();
        let mut writer = Writer { state: mix(seed, SEED), at: 0, blocks: Vec::new() };
        writer.blocks.reserve((bytes / BLOCK_BYTES + 5).min(MAX_BLOCKS));
        for part in [tools, system, instructions] {
            writer.part(part);
        }
        let base = (writer.state, writer.at);
        writer.part(opening);
        let conversation = writer.state;
        writer.whole_blocks(rest);
        Self { blocks: writer.blocks.into(), bytes, base, conversation }
    }

    /// What stands for the conversation: all up to the first message of the user, which stays the
    /// same from turn to turn.
    pub fn conversation(&self) -> u64 {
        self.conversation
    }

    /// What stands for tools and instructions, and how many bytes they have.
    pub fn base(&self) -> (u64, usize) {
        self.base
    }

    /// Bytes of the whole prompt.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether there is nothing to look up.
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// Hashes of all blocks, the first first.
    pub fn hashes(&self) -> impl DoubleEndedIterator<Item = u64> + ExactSizeIterator {
        self.blocks.iter().map(|block| block.hash)
    }

    /// The hash of the prompt's first half.
    pub fn first_half(&self) -> Option<u64> {
        let half = self.blocks.partition_point(|block| block.end < self.bytes / 2);
        self.blocks.get(half).map(|block| block.hash)
    }

    /// Bytes up to the end of the last of those first blocks that `knows` says yes to. Who knows a
    /// block must know all before it.
    pub(super) fn known(&self, knows: impl Fn(u64) -> bool) -> usize {
        let count = self.blocks.partition_point(|block| knows(block.hash));
        let last = count.checked_sub(1).and_then(|last| self.blocks.get(last));
        last.map_or(0, |block| block.end)
    }
}

struct Writer {
    state: u64,
    at: usize,
    blocks: Vec<Block>,
}

// === impl Writer ===

impl Writer {
    /// All of a part; its last block may be shorter.
    fn part(&mut self, part: &[u8]) {
        part.chunks(BLOCK_BYTES).for_each(|block| self.block(block));
    }

    fn whole_blocks(&mut self, part: &[u8]) {
        part.chunks_exact(BLOCK_BYTES).for_each(|block| self.block(block));
    }

    fn block(&mut self, bytes: &[u8]) {
        if self.blocks.len() >= MAX_BLOCKS {
            return;
        }
        self.state = absorb(self.state, bytes);
        self.at += bytes.len();
        self.blocks.push(Block { hash: self.state, end: self.at });
    }
}

const SEED: u64 = 0x9e37_79b9_7f4a_7c15;
const FIRST: u64 = 0xd6e8_feb8_6659_fd93;
const SECOND: u64 = 0xa076_1d64_78bd_642f;

/// Folds bytes into a hash, sixteen at a time: multiplied to twice the width, and the halves laid
/// over each other. Not safe against bytes that are chosen to collide, which here can only cost
/// their sender a cache.
fn absorb(state: u64, bytes: &[u8]) -> u64 {
    let mut state = state ^ bytes.len() as u64;
    let mut chunks = bytes.chunks_exact(16);
    for chunk in &mut chunks {
        let (low, high) = chunk.split_at(8);
        state = mix(word(low) ^ state, word(high));
    }
    let rest = chunks.remainder();
    let (low, high) = rest.split_at(rest.len().min(8));
    mix(mix(word(low) ^ state, word(high)), SECOND)
}

/// Up to eight bytes as a number.
fn word(bytes: &[u8]) -> u64 {
    bytes.first_chunk::<8>().map_or_else(
        || bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)),
        |whole| u64::from_le_bytes(*whole),
    )
}

#[expect(clippy::cast_possible_truncation, reason = "the two halves of a product")]
fn mix(a: u64, b: u64) -> u64 {
    let product = u128::from(a ^ SECOND) * u128::from(b ^ FIRST);
    product as u64 ^ (product >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns(rest: &str) -> Chain {
        let parts = Parts {
            base: [b"tools", b"You are helpful."],
            instructions: b"",
            opening: b"[{\"role\":\"user\",\"content\":\"hello\"}",
            rest: rest.as_bytes(),
        };
        Chain::of(7, &parts)
    }

    #[test]
    fn a_later_turn_begins_with_the_blocks_of_the_earlier_one() {
        let first = turns(&"a".repeat(1_000));
        let second = turns(&format!("{}{}", "a".repeat(1_000), "b".repeat(1_000)));
        let common = first.hashes().zip(second.hashes()).take_while(|(a, b)| a == b).count();
        assert_eq!((first.hashes().len(), common, second.hashes().len()), (6, 6, 10));
        assert_eq!(first.conversation(), second.conversation());
        let known: Vec<u64> = first.hashes().collect();
        assert_eq!(second.known(|hash| known.contains(&hash)), 5 + 16 + 34 + 3 * 256);
    }

    #[test]
    fn one_byte_changes_all_blocks_from_there_on() {
        let text = "a".repeat(2_000);
        let changed = format!("{}b{}", "a".repeat(600), "a".repeat(1_399));
        let (one, other) = (turns(&text), turns(&changed));
        let same: Vec<bool> = one.hashes().zip(other.hashes()).map(|(a, b)| a == b).collect();
        assert_eq!(same, [true, true, true, true, true, false, false, false, false, false]);
    }

    #[test]
    fn tenants_have_nothing_in_common() {
        let parts = Parts { opening: &[b'x'; 600], ..Parts::default() };
        let (one, other) = (Chain::of(1, &parts), Chain::of(2, &parts));
        assert!(one.hashes().zip(other.hashes()).all(|(a, b)| a != b));
        assert_ne!(one.conversation(), other.conversation());
    }

    #[test]
    fn long_prompts_are_looked_at_up_to_a_bound() {
        let long = turns(&"x".repeat(2 * MAX_BLOCKS * BLOCK_BYTES));
        assert_eq!(long.hashes().len(), MAX_BLOCKS);
        assert!(long.bytes() > 2 * MAX_BLOCKS * BLOCK_BYTES);
    }

    #[test]
    fn hashes_are_spread_over_all_bits() {
        let mut ones = [0_u32; 64];
        for n in 0..4_096_u64 {
            let hash = absorb(SEED, &n.to_le_bytes());
            ones.iter_mut()
                .enumerate()
                .for_each(|(bit, ones)| *ones += u32::from(hash >> bit & 1 == 1));
        }
        assert!(ones.iter().all(|ones| (1_850..2_250).contains(ones)), "{ones:?}");
    }
}
