//! When to ask a second target because the first one's first token is late, and whether to pay for
//! it.
//!
//! Dean and Barroso, "The tail at scale", 2013: a second request after the 95th percentile of the
//! expected latency costs about 5 % more requests and takes most of the tail away. The percentile
//! follows the budget (Finagle's `BackupRequestFilter` does so too) and is that of the first
//! *semantic* token, for this target and prompts of this size. What keeps hedging from making an
//! outage worse are two budgets, because with a stale delay a general slowdown would send nearly
//! every request twice: extra requests (a token bucket fed by first attempts) and extra money (a
//! share of what the last five minutes cost).
//!
//! Order of the calls: [`delay`] when the first leg starts; when it has passed, [`eligible`], then
//! [`HedgeBudget::try_withdraw`], then [`SpendBudget::try_spend`]; what a later step refuses, the
//! earlier ones get back by `refund`.

mod budget;

use std::time::Duration;

use serde::Serialize;

pub use budget::{HedgeBudget, SpendBudget};

use super::rank::Prices;

/// How and when to hedge.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// Extra requests, as a share of first attempts, from 0 to 1. The delay is the quantile `1 −`
    /// this, so that about as many first attempts are late as may be raced.
    pub max_extra_requests: f64,
    /// How many unused extra requests are kept.
    pub burst: f64,
    /// Extra spend, as a share of what the last five minutes cost.
    pub max_extra_spend: f64,
    /// The shortest delay.
    pub min_delay: Duration,
    /// The longest delay, as a share of the time that is left.
    pub max_delay_share: f64,
    /// Samples that a quantile must stand on.
    pub min_samples: u64,
    /// The delay where there are not enough.
    pub default_delay: Duration,
    /// The largest prompt, in tokens.
    pub max_prompt_tokens: u64,
    /// The most that the second target may take for the prompt, in US dollars.
    pub max_input_usd: f64,
    /// Share of its rate limit that the second target must have left.
    pub min_headroom: f64,
    /// How many times its usual time to a first token every target of the pool must take for the
    /// pool to be in a brown-out.
    pub brown_out_factor: f64,
}

/// Sizes of prompts, in tokens, that are kept apart, because the time to a first token grows with
/// the prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SizeBucket {
    /// Up to 1,000.
    UpTo1k,
    /// Up to 4,000.
    UpTo4k,
    /// Up to 16,000.
    UpTo16k,
    /// Up to 64,000.
    UpTo64k,
    /// More.
    Above64k,
}

/// How far two targets are apart, from nothing to everything that could fail together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Separation {
    /// The same credential: they share rate limits and fate.
    None,
    /// Another credential of the same provider and region.
    Credential,
    /// Another region of the same provider.
    Region,
    /// Another provider.
    Provider,
}

/// A target that could take the second leg.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// How far it is from the target of the first leg.
    pub separation: Separation,
    /// Whether its breaker is closed: a trial is not for hedges.
    pub is_closed: bool,
    /// What remains of its tightest rate limit, from 0 to 1.
    pub headroom: f64,
    /// Its score; less is better.
    pub total_seconds: f64,
}

/// What a hedge is judged by, when the delay has passed. A is the target of the first leg, B that
/// of the second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Facts {
    /// Whether somebody waits for the answer.
    pub is_interactive: bool,
    /// How many answers the request asks for.
    pub choices: u32,
    /// Whether the request leaves something at the provider or acts: `store`,
    /// `previous_response_id`, background, hosted tools.
    pub has_server_state: bool,
    /// Whether the caller chose the provider.
    pub is_pinned: bool,
    /// Tokens of the prompt.
    pub prompt_tokens: u64,
    /// What B takes for the prompt, in US dollars.
    pub input_usd: f64,
    /// Legs that were started.
    pub legs: u32,
    /// Whether anyone of the pool answered 429, or 503 with `retry-after`, during this call.
    pub has_pushback: bool,
    /// Whether the pool is slow altogether; see [`is_brown_out`].
    pub is_brown_out: bool,
    /// Whether so little of the pool is well that health is ignored.
    pub is_panic: bool,
    /// B, if there is one; see [`second`].
    pub other: Option<Candidate>,
    /// How long A has been waited for.
    pub delay: Duration,
    /// Time that is left from now.
    pub remaining: Duration,
    /// Median time to a first token of B. `None` if unknown: then B is taken at its word.
    pub median_of_other: Option<Duration>,
    /// 99th percentile of the time to a first token of A. `None` if unknown.
    pub q99_of_first: Option<Duration>,
}

/// Why there is no second leg.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// Nobody waits for the answer.
    NotInteractive,
    /// More than one answer was asked for.
    SeveralChoices,
    /// The provider would keep state or act twice.
    ServerState,
    /// The caller chose the provider.
    Pinned,
    /// The prompt is too long.
    LongPrompt,
    /// The prompt costs too much.
    DearPrompt,
    /// Two legs run already.
    EnoughLegs,
    /// Somebody asked us to send less.
    Pushback,
    /// All targets are slow: more requests make it worse.
    BrownOut,
    /// Too little of the pool is well.
    Panic,
    /// No other target may be asked.
    NoOther,
    /// The other target would share the first one's fate and rate limit.
    SameDomain,
    /// The other target's breaker is not closed.
    NotClosed,
    /// The other target's rate limit is nearly used up.
    LowHeadroom,
    /// The other target would not answer in time.
    NoTime,
    /// Even the slowest answers of the first target come sooner.
    NothingToWin,
    /// The budget of extra requests is empty. Never from [`eligible`]; for the one who withdraws.
    RequestBudget,
    /// The budget of extra money is empty. Never from [`eligible`]; for the one who spends.
    SpendBudget,
    /// The budget of retries, which hedges share, is empty. Never from [`eligible`].
    RetryBudget,
}

// === impl Why ===

impl Why {
    /// Whether it is about this moment, and not about the request or the order of targets that was
    /// drawn for it: a little later the answer may be another one.
    pub const fn may_pass(self) -> bool {
        match self {
            Self::BrownOut
            | Self::NotClosed
            | Self::LowHeadroom
            | Self::NothingToWin
            | Self::RequestBudget
            | Self::SpendBudget
            | Self::RetryBudget => true,
            Self::NotInteractive
            | Self::SeveralChoices
            | Self::ServerState
            | Self::Pinned
            | Self::LongPrompt
            | Self::DearPrompt
            | Self::EnoughLegs
            | Self::Pushback
            | Self::Panic
            | Self::NoOther
            | Self::SameDomain
            | Self::NoTime => false,
        }
    }

    /// The word for metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotInteractive => "not_interactive",
            Self::SeveralChoices => "several_choices",
            Self::ServerState => "server_state",
            Self::Pinned => "pinned",
            Self::LongPrompt => "long_prompt",
            Self::DearPrompt => "dear_prompt",
            Self::EnoughLegs => "enough_legs",
            Self::Pushback => "pushback",
            Self::BrownOut => "brown_out",
            Self::Panic => "panic",
            Self::NoOther => "no_other",
            Self::SameDomain => "same_domain",
            Self::NotClosed => "not_closed",
            Self::LowHeadroom => "low_headroom",
            Self::NoTime => "no_time",
            Self::NothingToWin => "nothing_to_win",
            Self::RequestBudget => "request_budget",
            Self::SpendBudget => "spend_budget",
            Self::RetryBudget => "retry_budget",
        }
    }
}

/// The most legs that a request has.
pub const MAX_LEGS: u32 = 2;

// === impl Settings ===

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_extra_requests: 0.05,
            burst: 10.0,
            max_extra_spend: 0.03,
            min_delay: Duration::from_millis(150),
            max_delay_share: 0.4,
            min_samples: 50,
            default_delay: Duration::from_secs(3),
            max_prompt_tokens: 16_000,
            max_input_usd: 0.02,
            min_headroom: 0.2,
            brown_out_factor: 2.0,
        }
    }
}

impl Settings {
    /// Which quantile of the time to a first token is the delay.
    pub fn quantile(&self) -> f64 {
        (1.0 - self.max_extra_requests).clamp(0.0, 1.0)
    }
}

// === impl SizeBucket ===

impl SizeBucket {
    /// All buckets, the smallest first.
    pub const ALL: [Self; 5] =
        [Self::UpTo1k, Self::UpTo4k, Self::UpTo16k, Self::UpTo64k, Self::Above64k];

    /// The bucket of a prompt.
    pub const fn of(tokens: u64) -> Self {
        match tokens {
            0..=1_000 => Self::UpTo1k,
            1_001..=4_000 => Self::UpTo4k,
            4_001..=16_000 => Self::UpTo16k,
            16_001..=64_000 => Self::UpTo64k,
            64_001.. => Self::Above64k,
        }
    }

    /// From 0 to 4, for arrays of one item a bucket.
    pub const fn index(self) -> usize {
        match self {
            Self::UpTo1k => 0,
            Self::UpTo4k => 1,
            Self::UpTo16k => 2,
            Self::UpTo64k => 3,
            Self::Above64k => 4,
        }
    }
}

/// What is known of a quantile of the time to a first token.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Quantile {
    /// The quantile; `None` without any samples.
    pub value: Option<Duration>,
    /// How many samples it stands on.
    pub samples: u64,
}

impl Quantile {
    fn backed_by(self, min_samples: u64) -> Option<Duration> {
        self.value.filter(|_| self.samples >= min_samples)
    }
}

/// How long to wait for the first leg before a second one may start: the quantile of the target for
/// prompts of this size, else that of its parent (the target over all sizes, or the provider), else
/// [`Settings::default_delay`]; at least [`Settings::min_delay`] and at most
/// [`Settings::max_delay_share`] of what remains of the time, which wins over the former.
pub fn delay(
    own: Quantile,
    parent: Quantile,
    remaining: Duration,
    settings: &Settings,
) -> Duration {
    own.backed_by(settings.min_samples)
        .or_else(|| parent.backed_by(settings.min_samples))
        .unwrap_or(settings.default_delay)
        .max(settings.min_delay)
        .min(remaining.mul_f64(settings.max_delay_share))
}

/// Which candidate takes the second leg: of those that may, those furthest from the first target,
/// and of those the one with the best score. Without any that may, the furthest, so that
/// [`eligible`] can say what is wrong with it. `None` only without candidates.
pub fn second(candidates: &[Candidate], settings: &Settings) -> Option<usize> {
    let best = candidates.iter().enumerate().min_by(|(_, a), (_, b)| {
        let may = |candidate: &Candidate| suitable(candidate, settings).is_ok();
        may(b)
            .cmp(&may(a))
            .then(b.separation.cmp(&a.separation))
            .then(a.total_seconds.total_cmp(&b.total_seconds))
    });
    best.map(|(index, _)| index)
}

/// Whether a second leg may start, as far as the request and the targets say. Budgets are asked
/// afterwards, because asking them takes from them.
pub fn eligible(facts: &Facts, settings: &Settings) -> Result<(), Why> {
    let refused = [
        (!facts.is_interactive, Why::NotInteractive),
        (facts.choices > 1, Why::SeveralChoices),
        (facts.has_server_state, Why::ServerState),
        (facts.is_pinned, Why::Pinned),
        (facts.prompt_tokens > settings.max_prompt_tokens, Why::LongPrompt),
        (facts.input_usd > settings.max_input_usd, Why::DearPrompt),
        (facts.legs >= MAX_LEGS, Why::EnoughLegs),
        (facts.has_pushback, Why::Pushback),
        (facts.is_brown_out, Why::BrownOut),
        (facts.is_panic, Why::Panic),
    ];
    if let Some((_, why)) = refused.into_iter().find(|(is_so, _)| *is_so) {
        return Err(why);
    }
    suitable(&facts.other.ok_or(Why::NoOther)?, settings)?;
    let expected = facts.median_of_other.unwrap_or_default();
    if facts.remaining <= expected {
        return Err(Why::NoTime);
    }
    match facts.q99_of_first {
        // Who has waited for longer than the slowest usual answer takes has something to win for
        // sure.
        Some(q99) if facts.delay < q99 && facts.delay + expected >= q99 => Err(Why::NothingToWin),
        Some(_) | None => Ok(()),
    }
}

fn suitable(candidate: &Candidate, settings: &Settings) -> Result<(), Why> {
    if candidate.separation == Separation::None {
        return Err(Why::SameDomain);
    }
    if !candidate.is_closed {
        return Err(Why::NotClosed);
    }
    if candidate.headroom < settings.min_headroom {
        return Err(Why::LowHeadroom);
    }
    Ok(())
}

/// Whether a pool is slow altogether, from each target's recent time to a first token as a multiple
/// of its usual one: all of them are at [`Settings::brown_out_factor`] or above. `false` if none is
/// known.
pub fn is_brown_out(slowdowns: impl IntoIterator<Item = f64>, settings: &Settings) -> bool {
    let mut slowdowns = slowdowns.into_iter().peekable();
    slowdowns.peek().is_some() && slowdowns.all(|factor| factor >= settings.brown_out_factor)
}

/// What a cancelled leg has likely cost, in US dollars: providers do not report the usage of a
/// stream that was cut. `cached_share` of the prompt, from 0 to 1, came from the provider's cache.
pub fn waste_usd(prompt_tokens: u64, cached_share: f64, generated: u64, prices: &Prices) -> f64 {
    let cached = cached_share.clamp(0.0, 1.0);
    let (prompt, generated) = (prompt_tokens as f64, generated as f64);
    prompt * ((1.0 - cached) * prices.input + cached * prices.cached) + generated * prices.output
}

#[cfg(test)]
mod tests;
