//! How much may run on a target at once, learned from how it answers.
//!
//! The time of a whole answer says nothing about load, because it measures how long the answer is.
//! Two signals do: explicit rejections, and the time to the first token against what was predicted
//! for a prompt of that size. Providers of an API are shared with others, so only their rejections
//! count ([`Aimd`], the additive-increase multiplicative-decrease of Chiu and Jain, 1989). An
//! endpoint of our own slows down before it rejects, so there the ratio steers ([`Gradient`], after
//! Netflix's Gradient2).
//!
//! A limit never grows while it is not used: what was not tried is not known.
//!
//! So far no configuration marks an endpoint as ours alone, hence `fleet` feeds [`Aimd`] only.

mod aimd;
mod gradient;
mod throttle;

use std::time::Duration;

pub use aimd::{Aimd, AimdSettings};
pub use gradient::{Gradient, GradientSettings};
pub use throttle::{Throttle, ThrottleSettings};

use crate::clock::Instant;

/// The adaptive limit of one target.
#[derive(Debug, Clone)]
pub enum ConcurrencyLimit {
    /// By rejections: for providers that others use too.
    Aimd(Aimd),
    /// By the time to the first token, and by rejections: for endpoints that are ours alone.
    Gradient(Box<Gradient>),
}

// === impl ConcurrencyLimit ===

impl ConcurrencyLimit {
    /// A limit that follows rejections.
    pub fn aimd(settings: AimdSettings, now: Instant) -> Self {
        Self::Aimd(Aimd::new(settings, now))
    }

    /// A limit that follows the time to the first token.
    pub fn gradient(settings: GradientSettings, now: Instant) -> Self {
        Self::Gradient(Box::new(Gradient::new(settings, now)))
    }

    /// How many may be in flight at once; 0 where there is no limit.
    pub fn limit(&self) -> u32 {
        match self {
            Self::Aimd(aimd) => aimd.limit(),
            Self::Gradient(gradient) => gradient.limit(),
        }
    }

    /// An attempt starts. `in_flight` counts it, and is the same gauge in every call.
    pub fn on_start(&mut self, in_flight: u32, now: Instant) {
        match self {
            Self::Aimd(aimd) => aimd.on_load(in_flight, now),
            Self::Gradient(gradient) => gradient.on_load(in_flight, now),
        }
    }

    /// A first token came. `ratio` is the time it took by the time predicted for a prompt of that
    /// size on an idle target; a ratio that is no positive number is not counted. `in_flight`
    /// counts this attempt.
    pub fn on_first_token(&mut self, ratio: f64, in_flight: u32, now: Instant) {
        match self {
            Self::Aimd(aimd) => aimd.on_load(in_flight, now),
            Self::Gradient(gradient) => gradient.on_first_token(ratio, in_flight, now),
        }
    }

    /// The target turned an attempt away for load: a 429 for concurrency, a 529, a 503, or no first
    /// token in time. `in_flight` counts it.
    pub fn on_reject(&mut self, in_flight: u32, now: Instant) {
        match self {
            Self::Aimd(aimd) => aimd.on_reject(in_flight, now),
            Self::Gradient(gradient) => gradient.on_reject(now),
        }
    }

    /// Tells the median time to the first token: the limit falls at most once in that time (and
    /// in a second), because what is rejected sooner was sent before the limit fell.
    pub fn set_settle_time(&mut self, ttft_p50: Duration) {
        match self {
            Self::Aimd(aimd) => aimd.set_settle_time(ttft_p50),
            Self::Gradient(gradient) => gradient.set_settle_time(ttft_p50),
        }
    }
}

#[cfg(test)]
mod tests;
