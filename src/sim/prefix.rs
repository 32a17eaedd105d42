//! The prefix cache of a self-hosted server: blocks of a prompt, the least recently used of which
//! go first, as vLLM and SGLang keep them.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, HashMap};
use std::hash::Hasher;
use std::time::Duration;

use super::scenario::PrefixCache;

/// Tokens of a block, and characters of its text.
const BLOCK: (u64, usize) = (16, 64);

/// What one server has cached.
#[derive(Debug, Default)]
pub(super) struct BlockCache {
    blocks: HashMap<u64, Kept>,
    /// Block hashes by when they were last used.
    order: BTreeMap<u64, u64>,
    uses: u64,
}

#[derive(Debug)]
struct Kept {
    used: u64,
    /// When it was read for the first time; whoever comes before that reads it as well.
    ready: Duration,
}

// === impl BlockCache ===

impl BlockCache {
    /// How many tokens of a prompt of `tokens` are cached at `now`. All of them are from `ready`
    /// on, which is told how many there were.
    pub(super) fn read(
        &mut self,
        (said, tokens): (&str, u64),
        cache: &PrefixCache,
        now: Duration,
        ready: impl FnOnce(u64) -> Duration,
    ) -> u64 {
        let mut hasher = DefaultHasher::new();
        let hash = |block: &[u8]| {
            hasher.write(block);
            hasher.finish()
        };
        let hashes: Vec<u64> = said.as_bytes().chunks_exact(BLOCK.1).map(hash).collect();
        let is_ready = |hash: &&u64| self.blocks.get(hash).is_some_and(|kept| kept.ready <= now);
        let known = hashes.iter().take_while(is_ready).count() as u64;
        // The last token is read in any case: its logits are wanted.
        let cached = (known * BLOCK.0).min(tokens.saturating_sub(1));
        let ready = now + ready(cached);
        // From the end, so that the beginning of a prompt is what is used last, and goes last.
        for hash in hashes.iter().rev() {
            self.uses += 1;
            let uses = self.uses;
            let kept = self.blocks.entry(*hash).or_insert(Kept { used: 0, ready });
            self.order.remove(&kept.used);
            kept.used = uses;
            self.order.insert(uses, *hash);
        }
        while self.blocks.len() as u64 * BLOCK.0 > cache.tokens
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.blocks.remove(&oldest);
        }
        cached
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATER: Duration = Duration::from_secs(1);

    fn read(cache: &mut BlockCache, text: &str, tokens: u64, at: u64) -> u64 {
        let settings = PrefixCache { tokens, prefill: Duration::ZERO };
        let prompt = (text, text.len() as u64 / 4);
        cache.read(prompt, &settings, Duration::from_secs(at), |_| LATER)
    }

    #[test]
    fn a_prefix_is_cached_once_it_was_read() {
        let mut cache = BlockCache::default();
        let (first, longer) = ("a".repeat(640), format!("{}{}", "a".repeat(640), "b".repeat(640)));
        assert_eq!(read(&mut cache, &first, 1_000, 0), 0);
        assert_eq!(read(&mut cache, &first, 1_000, 0), 0, "it is being read");
        assert_eq!(read(&mut cache, &longer, 1_000, 2), 160);
        assert_eq!(read(&mut cache, &longer, 1_000, 4), 319, "all but the last token");
        assert_eq!(read(&mut cache, &format!("b{first}"), 1_000, 4), 0);
    }

    #[test]
    fn what_was_used_longest_ago_goes_first_and_ends_before_beginnings() {
        let mut cache = BlockCache::default();
        let text = |letter: &str| letter.repeat(640);
        read(&mut cache, &text("a"), 240, 0);
        read(&mut cache, &text("b"), 240, 2);
        assert_eq!(read(&mut cache, &text("a"), 240, 4), 80, "its first half was left");
    }
}
