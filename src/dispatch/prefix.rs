//! What is done for providers' prefix caches on the way of a request.

use super::Call;
use crate::catalog::Feature;
use crate::config::{Route, Target};
use crate::dialect::{Dialect, PromptParts, prompt_parts};
use crate::policy::prefix::{BLOCK_BYTES, Chain, Parts};
use crate::policy::rank;

/// Bytes of a prompt below which nothing is cached anywhere that would be worth a thought: some 250
/// tokens.
const MIN_BYTES: usize = 4 * BLOCK_BYTES;

/// How a request's prompt begins, where that matters to its route. What callers of one team send has
/// nothing in common with what others send.
pub(super) fn chain(call: &Call, route: &Route) -> Option<Chain> {
    let settings = &route.conduct.prefix_cache;
    if call.envelope.body().len() < MIN_BYTES {
        return None;
    }
    let targets = || route.tiers.iter().flatten();
    let has_cache = |target: &Target| target.model.features.has(Feature::Cache);
    let is_shared = settings.affinity && targets().filter(|target| has_cache(target)).count() > 1;
    let is_marked = settings.breakpoints
        && targets().any(|target| has_cache(target) && target.endpoint.dialect == Dialect::Anthropic);
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
