//! What a route's callers are used to doing, as far as prefix caches are about it.

use std::time::Duration;

use crate::clock::Instant;
use crate::policy::prefix::{Chain, Rates, Reuse, shard, shards};

/// How long Anthropic keeps a prefix after it was last read.
const FIVE_MINUTES: Duration = Duration::from_secs(300);

/// What was learnt of a route's requests.
#[derive(Debug)]
pub(super) struct Habits {
    base: Reuse,
    conversations: Reuse,
    rates: Rates,
}

/// What is expected of a request's prompt.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Expected {
    /// How many more requests will begin with the same tools and instructions, in time for each of
    /// them to find the one before it cached.
    pub base_reuse: f64,
    /// How many more turns will come in time.
    pub turns: f64,
    /// The part of its caller's requests that it belongs to, where there are too many to be kept
    /// together.
    pub shard: u32,
}

// === impl Habits ===

impl Habits {
    pub(super) fn new() -> Self {
        let (base, conversations) = (Reuse::new(FIVE_MINUTES), Reuse::new(FIVE_MINUTES));
        Self { base, conversations, rates: Rates::default() }
    }

    /// A request came in; with what is expected of it. Only what `has_turns` behind it, which can
    /// be kept, counts as a conversation.
    pub(super) fn on_request(
        &mut self,
        chain: &Chain,
        has_turns: bool,
        tenant: u64,
        now: Instant,
    ) -> Expected {
        let (base, conversation) = (chain.base().0, chain.conversation());
        self.base.note(base, now);
        if has_turns {
            self.conversations.note(conversation, now);
        }
        let requests_a_minute = self.rates.add(tenant, now);
        Expected {
            base_reuse: self.base.expected(base),
            turns: self.conversations.expected(conversation),
            shard: shard(conversation, shards(requests_a_minute)),
        }
    }
}
