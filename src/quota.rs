//! What callers may use: token buckets, calendar windows, slots, and shares of what several nodes
//! have in common.
//!
//! Pure: times come in as a [`Moment`], nothing waits, and nobody is asked. `limits` owns the
//! state, and `cluster` what nodes share.
//!
//! | | a minute | an hour, a day, a month | at a time |
//! |---|---|---|---|
//! | requests, tokens | [`Bucket`]: flows, and carries debt | [`Window`]: calendar, in UTC | [`Slots`] |
//! | money | [`Window`] | [`Window`] | |
//!
//! One [`Allowance`] holds all that one limit allows one subject; [`reserve`] takes from several
//! allowances, all or nothing. What is taken before a request is an estimate ([`Outputs`]), which
//! [`Allowance::settle`] corrects when it is known what was used.
//!
//! `policy::quota` looks alike and is something else: a guess at somebody else's buckets, from
//! headers, in fractions. Nothing here is guessed, and nothing of ours may drift.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::clock::Instant;

mod allowance;
mod bucket;
mod estimate;
mod meter;
mod pool;
mod rule;
mod settings;
mod slots;
mod window;

pub use allowance::{Allowance, Crossing, reserve};
pub use bucket::{Bucket, MAX_UNITS, Rate};
pub use estimate::{Outputs, UNKNOWN_OUTPUT_TOKENS};
pub use meter::{Lack, Meter};
pub use pool::{Common, Granted, LEASE, Need, Pool, Shared, Tell, When};
pub use rule::{By, DEFAULT_RULE, Rule, Subject};
pub(crate) use settings::with_limits;
pub use settings::{Counted, Dimension, LimitSettings, OnStreamCap};
pub use slots::Slots;
pub use window::{Full, Period, Threshold, Window};

/// A time on both clocks. Neither may go back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// For what flows.
    pub now: Instant,
    /// Milliseconds since 1970, for calendar windows.
    pub unix_ms: u64,
    /// How many nodes there are (this one included), while their authority is lost and each goes by
    /// its own part. `None` while it answers, and where there is none.
    pub alone_of: Option<NonZeroU32>,
}

/// What a request uses, or is expected to use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amounts {
    /// Tokens of the prompt that the provider had not kept.
    pub input_tokens: u64,
    /// Tokens of the prompt that the provider had kept, which cost it little.
    pub cached_tokens: u64,
    /// Tokens of the answer.
    pub output_tokens: u64,
    /// Money, in millionths of a US dollar.
    pub micro_usd: u64,
}

/// Why nothing was reserved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// Which of the allowances it was, counted from 0.
    pub which: usize,
    /// What of it.
    pub dimension: Dimension,
    /// How long until it would fit; `None` where it never will, because it is more than the limit.
    pub wait: Option<Duration>,
}

/// What comes of asking for a reservation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// All was taken.
    Admitted,
    /// Nothing was taken.
    Refused(Refusal),
    /// Nothing was taken: what nodes share has to be asked for first, see `Allowance::needs`.
    Unasked,
    /// Nothing was taken: what nodes share is known again in so much time.
    Unsettled(Duration),
}

// === impl Amounts ===

impl Amounts {
    /// What one request comes to in what is counted. `cached_permille` is what a token counts that
    /// the provider had kept, in thousandths of another one.
    pub fn of(&self, counted: Counted, cached_permille: u16) -> u64 {
        let cached = u128::from(self.cached_tokens) * u128::from(cached_permille);
        let cached = u64::try_from(cached.div_ceil(1_000)).unwrap_or(u64::MAX);
        let input = self.input_tokens.saturating_add(cached);
        match counted {
            Counted::Requests | Counted::Concurrent => 1,
            Counted::Tokens => input.saturating_add(self.output_tokens),
            Counted::InputTokens => input,
            Counted::OutputTokens => self.output_tokens,
            Counted::Money => self.micro_usd,
        }
    }
}

#[cfg(test)]
mod tests;
