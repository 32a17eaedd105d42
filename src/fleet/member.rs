//! One target of a group, as requests see it.

use std::sync::Arc;

use super::demand::Demand;
use super::target::TargetLive;
use crate::clock::Instant;
use crate::config::Target;
use crate::policy::breaker::State;
use crate::policy::eject::{self, Comparison};
use crate::policy::prefix::Home;
use crate::policy::rank::{self, Admission, Exclusion, Prices, Standing};

/// One target of a group.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) target: Arc<Target>,
    pub(super) live: Arc<TargetLive>,
    pub(super) prices: Prices,
    /// Members of a group with the same number serve the same model in the same tier.
    pub(super) kind: usize,
}

// === impl Member ===

impl Member {
    pub(super) fn new(target: Arc<Target>, live: Arc<TargetLive>) -> Self {
        let prices = prices_of(&target);
        Self { target, live, prices, kind: 0 }
    }

    /// What is known of the target, for one request.
    pub(super) fn standing(
        &self,
        demand: &Demand,
        settings: &rank::Settings,
        now: Instant,
        random: Option<&mut (dyn FnMut() -> f64 + '_)>,
    ) -> Standing {
        let live = &self.live;
        let is_suspect = live.is_suspect();
        #[expect(clippy::cast_precision_loss, reason = "token counts are far below 2^52")]
        let input_tokens = demand.input_tokens as f64;
        let mut health = live.health.lock();
        health.breaker.set_suspect(is_suspect);
        health.forget_limits(now);
        let mut admission = self.admission(&health, demand, now);
        if let (Admission::Yes, Some(random)) = (admission, random)
            && health.turns_away(random, now)
        {
            admission = Admission::No(Exclusion::Throttled);
        }
        let (ttft_seconds, idle_seconds) = health.latency.expected(demand.shape(), now);
        Standing {
            admission,
            success: health.success(now),
            ttft_seconds,
            idle_seconds,
            token_seconds: health.token_seconds(),
            input_tokens,
            output_tokens: 0.0,
            prices: self.prices,
            cached_share: 0.0,
            in_flight: live.in_flight(),
            limit: health.limit(),
            is_self_hosted: false,
            headroom: health.headroom(now),
            weight: self.target.weight,
            slow_start: health.back_for(now).map_or(1.0, |back| rank::slow_start(back, settings)),
            is_suspect,
            is_preferred: false,
            home: Home::No,
        }
    }

    fn admission(
        &self,
        health: &super::health::Health,
        demand: &Demand,
        now: Instant,
    ) -> Admission {
        if self.live.is_drained() {
            return Admission::No(Exclusion::Drained);
        }
        if let Some(exclusion) = self.live.credential_exclusion(now) {
            return Admission::No(exclusion);
        }
        if let Some(exclusion) = health.refusal(self.live.credential.epoch(), now) {
            return Admission::No(exclusion);
        }
        if health.is_cooling(now) {
            return Admission::No(Exclusion::RateLimited);
        }
        // Those who wait come first.
        if self.live.gate.is_full(&demand.ask) {
            return Admission::No(Exclusion::Full);
        }
        if health.ejection.out_until(now).is_some() {
            return Admission::No(Exclusion::Ejected);
        }
        match health.breaker.state(now) {
            State::Closed => Admission::Yes,
            State::Open { .. } => Admission::No(Exclusion::Open),
            State::HalfOpen if health.breaker.would_admit(now) => Admission::Trial,
            State::HalfOpen => Admission::No(Exclusion::Open),
        }
    }

    /// Compares the target with its siblings; returns whether it was taken out.
    pub(super) fn on_comparison(
        &self,
        comparison: Comparison,
        settings: &eject::Settings,
        now: Instant,
    ) -> bool {
        let random = self.live.chance.draw();
        let change =
            self.live.health.lock().ejection.on_comparison(comparison, settings, now, random);
        match change {
            Some(eject::Change::Ejected { until, count }) => {
                tracing::warn!(
                    target.id = %self.live.id,
                    seconds = until.saturating_duration_since(now).as_secs_f64(),
                    count,
                    "target ejected: it is far worse than its siblings"
                );
                true
            }
            Some(eject::Change::Returned) => {
                tracing::info!(target.id = %self.live.id, "target returned from its ejection");
                false
            }
            None => false,
        }
    }
}

/// What a token of a target costs, in US dollars; nothing where that is not known.
fn prices_of(target: &Target) -> Prices {
    #[expect(clippy::cast_precision_loss, reason = "a price per token in 1e-12 dollars is small")]
    let usd = |pico: u128| pico as f64 * 1e-12;
    target.model.prices.map_or_else(Prices::default, |prices| Prices {
        input: usd(prices.rates.input.pico_usd(1)),
        cached: usd(prices.rates.cached_input.pico_usd(1)),
        output: usd(prices.rates.output.pico_usd(1)),
    })
}
