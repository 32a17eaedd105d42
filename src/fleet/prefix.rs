//! What is known of a target's prefix cache: what it was sent of late, and what a cached token is
//! worth.

use std::time::Duration;

use serde::Serialize;

use super::demand::Demand;
use super::group::Group;
use super::habits::Expected;
use super::member::Member;
use super::warming::Burst;
use crate::catalog::Feature;
use crate::chat::Usage;
use crate::clock::Instant;
use crate::config::Target;
use crate::policy::prefix::{Chain, Home, Memory, Prefill, Recent, Resident, Settings, homes};
use crate::policy::rank::Standing;

/// Blocks that are remembered of a target: some two million tokens.
const CAPACITY_BLOCKS: usize = 32_768;
/// How long a prefix is taken to be cached where the provider's file does not say.
const USUAL_TTL: Duration = Duration::from_secs(300);
/// The share of a prompt that a target must hold for the prompt not to be cold.
const HELD_SHARE: f64 = 0.5;
/// Bytes of a prompt for one token.
const BYTES_A_TOKEN: f64 = 4.0;

/// What is known of one target's prefix cache.
#[derive(Debug)]
pub(super) struct Prefixes {
    memory: Memory,
    prefill: Prefill,
    recent: Recent,
}

/// A prompt on its way to a target, whose cache will hold it.
#[derive(Debug)]
pub(super) struct Sent {
    chain: Chain,
    /// The share that was expected to be cached.
    expected: f64,
}

/// What operators see of a target's prefix cache.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct PrefixView {
    /// Blocks of 256 bytes that it was sent of late.
    pub blocks: usize,
    /// The cached share of prompts, 0 to 1, over the last 200 or so that were long enough.
    pub cached_share: f64,
    /// What a thousand tokens that are not cached take, in milliseconds.
    pub prefill_ms: f64,
    /// Which part of what is expected to be cached is, 0 to 1.
    pub trust: f64,
}

// === impl Prefixes ===

impl Prefixes {
    pub(super) fn new(target: &Target) -> Self {
        let ttl = target.endpoint.quirks.prefix_cache_ttl.map_or(USUAL_TTL, Duration::from);
        Self {
            memory: Memory::new(CAPACITY_BLOCKS, ttl),
            prefill: Prefill::default(),
            recent: Recent::default(),
        }
    }

    /// An attempt begins; with what its prompt may leave in the target's cache.
    pub(super) fn on_start(
        &mut self,
        demand: &Demand,
        target: &Target,
        now: Instant,
    ) -> Option<Box<Sent>> {
        self.recent.add(now);
        let chain = demand.prefix.as_ref().filter(|_| target.model.features.has(Feature::Cache))?;
        let expected = self.share(chain, target, now);
        Some(Box::new(Sent { chain: chain.clone(), expected }))
    }

    /// The target has read a prompt.
    pub(super) fn on_read(&mut self, sent: &Sent, now: Instant) {
        self.memory.note(&sent.chain, now);
    }

    /// An answer is complete, whose first token came after `waited`.
    pub(super) fn on_answer(&mut self, sent: &Sent, usage: &Usage, waited: Option<Duration>) {
        #[expect(clippy::cast_precision_loss, reason = "token counts are far below 2^52")]
        let [tokens, cached] = [usage.total_input(), usage.cached_input].map(|count| count as f64);
        if tokens <= 0.0 {
            return;
        }
        let found = cached / tokens;
        self.prefill.report(sent.expected, found);
        // Many servers do not say what they had cached.
        let share = if found > 0.0 { found } else { sent.expected * self.prefill.trust() };
        if let Some(waited) = waited {
            self.prefill.observe(tokens, share, waited.as_secs_f64());
        }
    }

    /// h: the share of a prompt that the target likely holds. Below the least that its model caches
    /// it holds nothing.
    fn share(&self, chain: &Chain, target: &Target, now: Instant) -> f64 {
        if !target.model.features.has(Feature::Cache) {
            return 0.0;
        }
        let share = self.memory.share(chain, now);
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let (bytes, least) =
            (chain.bytes() as f64, target.model.cache_min_tokens.unwrap_or_default() as f64);
        if share * bytes / BYTES_A_TOKEN < least { 0.0 } else { share * self.prefill.trust() }
    }

    pub(super) fn view(&self) -> PrefixView {
        PrefixView {
            blocks: self.memory.len(),
            cached_share: self.prefill.usual_share(),
            prefill_ms: self.prefill.seconds_a_token() * 1e6,
            trust: self.prefill.trust(),
        }
    }
}

// === impl Member ===

impl Member {
    /// Reads what the target's cache is worth to a request into its standing; requests of late.
    pub(super) fn read_prefix(
        &self,
        demand: &Demand,
        standing: &mut Standing,
        now: Instant,
    ) -> f64 {
        let prefixes = self.live.prefixes.lock();
        let Some(chain) = &demand.prefix else { return 0.0 };
        let share = prefixes.share(chain, &self.target, now);
        standing.cached_share = share;
        let learnt = standing.ttft_seconds;
        standing.ttft_seconds =
            learnt.map(|seconds| prefixes.prefill.expected(seconds, standing.input_tokens, share));
        prefixes.recent.count(now)
    }
}

// === impl Group ===

impl Group {
    /// A request came in whose prompt begins like this; with what is expected of it.
    pub fn expect(&self, chain: &Chain, has_turns: bool, tenant: u64, now: Instant) -> Expected {
        self.budgets().habits.lock().on_request(chain, has_turns, tenant, now)
    }

    /// What a request of a burst does: the first that begins like this reads, the others wait. Who
    /// begins like what a target holds half of goes its way.
    pub fn join_burst(&self, demand: &Demand, now: Instant) -> Burst {
        let Some(chain) = &demand.prefix else { return Burst::Alone };
        let is_held = self.members().iter().any(|member| {
            member.live.prefixes.lock().share(chain, &member.target, now) >= HELD_SHARE
        });
        if is_held { Burst::Alone } else { self.budgets().warming.join(chain) }
    }

    /// Finds where a request is at home among the targets of each tier.
    pub(super) fn find_homes(&self, demand: &Demand, standings: &mut [Standing], recent: &[f64]) {
        let Some(chain) = &demand.prefix else { return };
        let resident = |((member, standing), recent): ((&Member, &Standing), &f64)| Resident {
            is_ready: standing.exclusion(&self.rank).is_none(),
            kind: member.kind,
            cached_share: standing.cached_share,
            hash: member.live.hash,
            weight: standing.weight,
            in_flight: standing.in_flight,
            recent: *recent,
        };
        let known = self.members().iter().zip(&*standings).zip(recent);
        let residents: Vec<Resident> = known.map(resident).collect();
        let homes = homes(chain.conversation(), &residents, &Settings::default());
        for (standing, home) in standings.iter_mut().zip(homes.iter()) {
            // Who is kept together by name has a place for what nobody holds already.
            let is_named = *home == Home::Cold && demand.sticky.is_some();
            standing.home = if is_named { Home::No } else { *home };
        }
    }
}
