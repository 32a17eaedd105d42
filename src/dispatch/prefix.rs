//! What is done for providers' prefix caches on the way of a request.

use bytes::Bytes;
use memchr::memmem;

use super::Call;
use crate::catalog::Feature;
use crate::clock::Instant;
use crate::config::{Route, Target};
use crate::dialect::{self, Breakpoints, Dialect, PromptParts, prompt_parts};
use crate::fleet::{Expected, Group};
use crate::journal::EndpointKind;
use crate::policy::prefix::{BLOCK_BYTES, BREAK_EVEN_FIVE_MINUTES, Chain, Parts};
use crate::policy::rank;

/// Bytes of a prompt below which nothing is cached anywhere that would be worth a thought: some 250
/// tokens.
const MIN_BYTES: usize = 4 * BLOCK_BYTES;

/// Bytes of a prompt for one token.
const BYTES_A_TOKEN: u64 = 4;
/// The least tokens that are cached where a model's file does not say: what the most demanding
/// take.
const MIN_TOKENS: u64 = 4_096;

/// What providers are told about a prompt for their caches.
#[derive(Debug, Clone)]
pub(super) struct Hints {
    expected: Expected,
    /// Bytes of tools and instructions, and of all.
    bytes: (u64, u64),
    has_turns: bool,
    /// What stands for its caller and its route.
    owner: u64,
    breakpoints: bool,
    cache_key: bool,
}

/// How a request's prompt begins, where that matters to its route. What callers of one team send
/// has nothing in common with what others send.
pub(super) fn chain(call: &Call, route: &Route) -> Option<Chain> {
    let settings = &route.conduct.prefix_cache;
    if call.envelope.body().len() < MIN_BYTES {
        return None;
    }
    let targets = || route.tiers.iter().flatten();
    let has_cache = |target: &Target| target.model.features.has(Feature::Cache);
    let is_shared = settings.affinity && targets().filter(|target| has_cache(target)).count() > 1;
    let is_marked = settings.breakpoints
        && targets()
            .any(|target| has_cache(target) && target.endpoint.dialect == Dialect::Anthropic);
    let is_named = settings.cache_key
        && targets().any(|target| has_cache(target) && target.endpoint.quirks.prompt_cache_key);
    if !(is_shared || is_marked || is_named || settings.warm_first) {
        return None;
    }
    let PromptParts { base, instructions, opening, rest } = prompt_parts(&call.envelope)?;
    let rest = if is_shared || settings.warm_first { rest } else { b"" };
    Some(Chain::of(seed(call, route), &Parts { base, instructions, opening, rest }))
}

/// What stands for whose prompts they are, and for the model where its name is a caller's own.
fn seed(call: &Call, route: &Route) -> u64 {
    let made_up = route.tiers.iter().flatten().find(|target| target.model.is_made_up);
    let model = made_up.map_or(0, |target| rank::hash(target.model.name.as_str().as_bytes()));
    tenant(call) ^ model
}

/// What stands for whose request it is: a team's, or a caller's who has none.
pub(super) fn tenant(call: &Call) -> u64 {
    let team = call.caller.team.as_ref().map(|team| team.id.to_string());
    rank::hash(team.unwrap_or_else(|| call.caller.id.to_string()).as_bytes())
}

/// What providers are told about a request's prompt; `None` where its route does not want that, or
/// where it is too short.
pub(super) fn hints(
    call: &Call,
    route: &Route,
    group: &Group,
    chain: &Chain,
    now: Instant,
) -> Option<Hints> {
    let settings = &route.conduct.prefix_cache;
    let is_conversation = match call.kind {
        EndpointKind::Chat | EndpointKind::Messages => true,
        EndpointKind::Completions | EndpointKind::Embeddings | EndpointKind::CountTokens => false,
    };
    if !is_conversation || !(settings.breakpoints || settings.cache_key) {
        return None;
    }
    let rest = prompt_parts(&call.envelope)?.rest;
    // Another turn of the user after the first; a word of somebody else's costs a mark in vain.
    let has_turns = memmem::find(rest, b"\"user\"").is_some();
    let owner = tenant(call) ^ rank::hash(route.name.as_str().as_bytes()).rotate_left(1);
    Some(Hints {
        expected: group.expect(chain, has_turns, owner, now),
        bytes: (chain.base().1 as u64, call.envelope.body().len() as u64),
        has_turns,
        owner,
        breakpoints: settings.breakpoints,
        cache_key: settings.cache_key,
    })
}

// === impl Hints ===

impl Hints {
    /// The body with what its provider's cache can use, where the caller says nothing of the kind.
    /// Nothing of it stands before the prompt, and it depends on nothing that changes from turn to
    /// turn.
    pub(super) fn add_to(&self, body: Bytes, call: &Call, target: &Target) -> Bytes {
        if !target.model.features.has(Feature::Cache) {
            return body;
        }
        match target.endpoint.dialect {
            Dialect::Anthropic if self.breakpoints => self.mark(body, target),
            Dialect::OpenAiChat
                if self.cache_key
                    && target.endpoint.quirks.prompt_cache_key
                    && !call.envelope.has("prompt_cache_key") =>
            {
                let key = format!("tg-{:016x}-{}", self.owner, self.expected.shard);
                dialect::append_member(&body, "prompt_cache_key", &key)
            }
            Dialect::Anthropic | Dialect::OpenAiChat | Dialect::Gemini => body,
        }
    }

    fn mark(&self, body: Bytes, target: &Target) -> Bytes {
        let wanted = self.breakpoints(target.model.cache_min_tokens.unwrap_or(MIN_TOKENS));
        if wanted == Breakpoints::default() || dialect::is_marked(&body) {
            return body;
        }
        dialect::mark(&body, wanted).unwrap_or(body)
    }

    /// What is long enough to be cached, and comes back often enough to pay.
    fn breakpoints(&self, min_tokens: u64) -> Breakpoints {
        let Expected { base_reuse, turns, shard: _ } = self.expected;
        let (base, all) = self.bytes;
        let is_long = |bytes: u64| bytes / BYTES_A_TOKEN >= min_tokens;
        Breakpoints {
            base: is_long(base) && base_reuse > BREAK_EVEN_FIVE_MINUTES,
            conversation: self.has_turns && is_long(all) && turns > BREAK_EVEN_FIVE_MINUTES,
        }
    }
}

/// Whether a target's provider will keep the prompt of a body that it is sent.
pub(super) fn is_kept(body: &[u8], target: &Target) -> bool {
    target.endpoint.dialect != Dialect::Anthropic || dialect::is_marked(body)
}
