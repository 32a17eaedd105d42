//! Which target should take the next request: the expected cost of a good answer, sampled.
//!
//! # The score
//!
//! Everything is turned into seconds, so that it can be added. For each target, with the numbers
//! that `fleet` reads of it at one moment (a [`Standing`]):
//!
//! ```text
//! U = T + ω·O·g                                       first token, and the tokens the reader waits for
//! C = in·((1−h)·p_in + h·p_cached) + O·p_out          money
//! S = (U·κ + λ·C + ((1−a)/a)·F) · H · suspect ÷ sticky ÷ home
//! ```
//!
//! `(1−a)/a` is the expected number of failures before a success, `F` what one of them costs in
//! time: until it is noticed, and the wait on the target that takes over. A latency alone would
//! love a target that fails in 20 ms. `h` is the part of the prompt that the target's cache likely
//! holds, by which `T` is shorter as well; `home` keeps together what shares a prefix
//! ([`prefix`](super::prefix)).
//!
//! # Why sampled
//!
//! Always taking the best sends all requests of all gateways to one place, and never learns that
//! another has recovered. The weight `w·(Smin/S)^γ` is continuous (at γ = 4, 10 % worse gets 41 %
//! of a pair, twice as bad gets 6 %), so that estimates a little off do little harm. One draw in a
//! hundred ignores scores. Pools of more than eight take the better of two draws by weight instead
//! (Mitzenmacher, "The power of two choices in randomized load balancing", 2001).
//!
//! # What the estimates must be like
//!
//! The exponent multiplies every relative error by four, hence `T` may neither jump to a single
//! slow answer nor take longer than a few seconds to follow many. [`FirstTokens`] is such an
//! average: it rises with a time constant of 3.5 s and falls with one of 10 s, and one answer
//! counts as at most twice the average, a failure in full. The simulation in its tests shows the
//! figures for it, and for a peak average, which jumps: with 3 % of stragglers the latter leaves a
//! target that turned three times slower over a third of the traffic, because all look equally bad
//! most of the time.

mod affinity;
mod draw;
mod few;
mod first_tokens;

use std::time::Duration;

use serde::Serialize;

use super::prefix::Home;
pub use affinity::{hash, preferred};
pub use draw::{Plan, is_panic, order, panic_mode, pick, plan, scores, shares};
pub use few::Few;
pub use first_tokens::{FirstTokenSettings, FirstTokens};

/// How targets are compared.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// ω: which part of the time between tokens counts. 1 for agents and batches, which wait for
    /// the whole answer; 0.2 for chat, where people read as it comes.
    pub output_weight: f64,
    /// λ: how many seconds of waiting one US dollar is worth. 100 makes a cent a second.
    pub seconds_per_usd: f64,
    /// γ: how strongly a better score draws requests. At least 0.
    pub exponent: f64,
    /// Share of draws that ignore scores, from 0 to 1.
    pub exploration: f64,
    /// Pools with more targets than this take the better of two draws instead.
    pub two_choices_above: usize,
    /// What the score of a sticky key's own target is divided by. At 3 that target keeps 98 % of a
    /// key's requests while three are equal, half of them when it is three times as bad as one
    /// other, and hardly any beyond.
    pub sticky_factor: f64,
    /// What the score of a target is divided by that holds more of the prompt than others; see
    /// [`Home::Warm`]. As with [`Settings::sticky_factor`].
    pub warm_home_factor: f64,
    /// What it is divided by where a prefix that nobody holds shall be held; see [`Home::Cold`]. At
    /// 2 it is drawn five times in six among four that are equal, and every other time where it is
    /// twice as bad as one other.
    pub cold_home_factor: f64,
    /// What the score of a target is multiplied by that carries more than its share of the load of
    /// those that could stand in for it; see [`Home::Crowded`].
    pub crowded_factor: f64,
    /// What the score of a target is multiplied by while most of its provider's targets are down.
    pub suspect_factor: f64,
    /// Share of a rate limit that must remain for a score to be what it is; below, it rises to
    /// five-fold.
    pub low_headroom: f64,
    /// Share of a rate limit at which a target is left alone.
    pub min_headroom: f64,
    /// Over how long a target comes back after it was out.
    pub slow_start: Duration,
    /// Share of a tier's weight that must be well. If no tier reaches it, health is ignored.
    pub panic_below: f64,
    /// How long a target must be without an answer for what it was worse than the pool's median by
    /// to be forgotten to a third (by a factor e). Without it a target that has recovered waits for
    /// the next draw that ignores scores, which at one request in two seconds is ten minutes away.
    pub forget_idle: Duration,
    /// Seconds to a first token where no target of the pool was ever tried.
    pub default_ttft_seconds: f64,
    /// Seconds per output token where no target of the pool was ever tried.
    pub default_token_seconds: f64,
}

/// What `fleet` knows of a target at one moment, for one request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Standing {
    /// Whether it may be asked at all.
    pub admission: Admission,
    /// a: the probability that an attempt succeeds, from 0 to 1.
    pub success: f64,
    /// T: seconds to the first token for prompts of this size, failures included as penalties.
    /// `None` if never tried: then the pool's median stands in.
    pub ttft_seconds: Option<f64>,
    /// Seconds since the last answer or failure went into `ttft_seconds`; see
    /// [`Settings::forget_idle`].
    pub idle_seconds: f64,
    /// g: seconds per output token. `None` as for `ttft_seconds`.
    pub token_seconds: Option<f64>,
    /// Tokens of the prompt.
    pub input_tokens: f64,
    /// O: tokens that the answer will likely have.
    pub output_tokens: f64,
    /// What a token costs.
    pub prices: Prices,
    /// h: share of the prompt that its cache will likely hold, from 0 to 1.
    pub cached_share: f64,
    /// Attempts under way, streams included.
    pub in_flight: u32,
    /// How many may be; 0 for no limit.
    pub limit: u32,
    /// Whether answers slow down with load, as those of one's own servers do.
    pub is_self_hosted: bool,
    /// r: what remains of the tightest rate limit, from 0 to 1; 1 if unknown.
    pub headroom: f64,
    /// The configured weight; 0 counts as 1.
    pub weight: u32,
    /// From [`slow_start`], 0.1 to 1.
    pub slow_start: f64,
    /// Whether most of its provider's other targets are down.
    pub is_suspect: bool,
    /// Whether the request's sticky key prefers it; see [`preferred`].
    pub is_preferred: bool,
    /// Whether requests that begin like this one are kept together there.
    pub home: Home,
}

/// US dollars per token.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Prices {
    /// Of the prompt.
    pub input: f64,
    /// Of the part of the prompt that the provider has cached.
    pub cached: f64,
    /// Of the answer.
    pub output: f64,
}

/// Whether a target may be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// As often as its score says.
    Yes,
    /// As a trial: its breaker is half open and has a permit to give.
    Trial,
    /// Not now.
    No(Exclusion),
}

/// Why a target is not asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Exclusion {
    /// Its breaker is open, or half open without a permit.
    Open,
    /// It is far worse than the others.
    Ejected,
    /// Its key is not accepted.
    Unauthorized,
    /// Its credit or quota is used up.
    QuotaUsedUp,
    /// It asked us to wait, or hardly anything of a rate limit is left.
    RateLimited,
    /// As many attempts as it may have are under way.
    Full,
    /// It turns most requests away for load, so some are not even sent.
    Throttled,
    /// It cannot do what the request needs.
    Incapable,
    /// An operator took it out.
    Drained,
}

/// A place in the tiers of a route.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Place {
    /// The tier, from 0.
    pub tier: usize,
    /// The target within the tier, from 0.
    pub index: usize,
}

/// What the pool says of a target that says nothing itself.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pool {
    /// Stands in for an unknown time to the first token.
    pub ttft_seconds: f64,
    /// Stands in for an unknown time per output token.
    pub token_seconds: f64,
    /// F: what one failure costs, in seconds.
    pub failure_seconds: f64,
}

/// A score with all its terms; `total_seconds` is what counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Score {
    /// T, less what was forgotten of it, or what stands in for it.
    pub ttft_seconds: f64,
    /// Whether the target was never tried, so that the pool stands in.
    pub is_assumed: bool,
    /// ω·O·g.
    pub output_seconds: f64,
    /// U = T + ω·O·g.
    pub latency_seconds: f64,
    /// κ: 1 and up.
    pub load_factor: f64,
    /// C.
    pub money_usd: f64,
    /// λ·C.
    pub money_seconds: f64,
    /// ((1−a)/a)·F.
    pub failure_seconds: f64,
    /// H: 1 to 5.
    pub headroom_factor: f64,
    /// 1, or [`Settings::suspect_factor`].
    pub suspect_factor: f64,
    /// What the whole is divided by: 1, or [`Settings::sticky_factor`].
    pub sticky_factor: f64,
    /// h.
    pub cached_share: f64,
    /// What the whole is divided by for its prefix: 1, [`Settings::warm_home_factor`],
    /// [`Settings::cold_home_factor`], or less than 1 for [`Settings::crowded_factor`].
    pub home_factor: f64,
    /// S, from 0.001 to 1e6.
    pub total_seconds: f64,
    /// w·slowstart.
    pub weight: f64,
    /// Why it gets nothing, if it gets nothing.
    pub excluded: Option<Exclusion>,
    /// Share of the requests that it gets, from 0 to 1; filled by [`shares`].
    pub share: f64,
}

const MIN_TOTAL_SECONDS: f64 = 0.001;
const MAX_TOTAL_SECONDS: f64 = 1e6;
/// A target that has only failed counts as one that succeeds once in a hundred attempts.
const MIN_SUCCESS: f64 = 0.01;
/// Beyond this utilisation a queue's length says nothing that could be computed.
const MAX_UTILISATION: f64 = 0.95;

// === impl Settings ===

impl Default for Settings {
    fn default() -> Self {
        Self {
            output_weight: 0.2,
            seconds_per_usd: 100.0,
            exponent: 4.0,
            exploration: 0.01,
            two_choices_above: 8,
            sticky_factor: 3.0,
            warm_home_factor: 3.0,
            cold_home_factor: 2.0,
            crowded_factor: 3.0,
            suspect_factor: 3.0,
            low_headroom: 0.3,
            min_headroom: 0.02,
            slow_start: Duration::from_secs(60),
            panic_below: 0.5,
            forget_idle: Duration::from_secs(30),
            default_ttft_seconds: 1.0,
            default_token_seconds: 0.02,
        }
    }
}

// === impl Exclusion ===

impl Exclusion {
    /// In a word, for the admin API and people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Ejected => "ejected",
            Self::Unauthorized => "unauthorized",
            Self::QuotaUsedUp => "quota_used_up",
            Self::RateLimited => "rate_limited",
            Self::Full => "full",
            Self::Throttled => "throttled",
            Self::Incapable => "incapable",
            Self::Drained => "drained",
        }
    }

    /// Whether it is about health, which a panic ignores. The others hold always, because the
    /// answer is known to be a refusal.
    pub const fn is_health(self) -> bool {
        match self {
            Self::Open | Self::Ejected => true,
            Self::Unauthorized
            | Self::QuotaUsedUp
            | Self::RateLimited
            | Self::Full
            | Self::Throttled
            | Self::Incapable
            | Self::Drained => false,
        }
    }
}

// === impl Standing ===

impl Standing {
    /// Why the target may not be asked, or `None`. What was read of its limits counts as well as
    /// its
    /// [`Admission`].
    pub fn exclusion(&self, settings: &Settings) -> Option<Exclusion> {
        match self.admission {
            Admission::No(why) if !why.is_health() => return Some(why),
            Admission::No(_) | Admission::Yes | Admission::Trial => {}
        }
        if self.headroom <= settings.min_headroom {
            return Some(Exclusion::RateLimited);
        }
        if self.limit > 0 && self.in_flight >= self.limit {
            return Some(Exclusion::Full);
        }
        match self.admission {
            Admission::No(why) => Some(why),
            Admission::Yes | Admission::Trial => None,
        }
    }

    /// T, as far as it is known and not forgotten; `median` is the pool's.
    fn first_token_seconds(&self, settings: &Settings, median: f64) -> f64 {
        match self.ttft_seconds {
            Some(seconds) if seconds > median => {
                let idle =
                    self.idle_seconds.max(0.0) / settings.forget_idle.as_secs_f64().max(1e-3);
                median + (seconds - median) * (-idle).exp()
            }
            Some(seconds) => seconds,
            None => median,
        }
    }

    /// ω·O·g, with what the pool says where nothing is known.
    fn output_seconds(&self, settings: &Settings, median: f64) -> f64 {
        settings.output_weight * self.output_tokens * self.token_seconds.unwrap_or(median)
    }

    fn load_factor(&self) -> f64 {
        if !self.is_self_hosted || self.limit == 0 {
            return 1.0;
        }
        let utilisation = f64::from(self.in_flight) / f64::from(self.limit);
        1.0 / (1.0 - utilisation.min(MAX_UTILISATION))
    }

    fn headroom_factor(&self, settings: &Settings) -> f64 {
        let missing = (settings.low_headroom - self.headroom) / settings.low_headroom;
        if missing > 0.0 { 1.0 + 4.0 * missing.min(1.0) } else { 1.0 }
    }

    fn home_factor(&self, settings: &Settings) -> f64 {
        match self.home {
            Home::No => 1.0,
            Home::Cold => settings.cold_home_factor,
            Home::Warm => settings.warm_home_factor,
            Home::Crowded => 1.0 / settings.crowded_factor,
        }
    }

    fn money_usd(&self) -> f64 {
        let Prices { input, cached, output } = self.prices;
        let per_input = (1.0 - self.cached_share) * input + self.cached_share * cached;
        self.input_tokens * per_input + self.output_tokens * output
    }
}

// === impl Pool ===

impl Pool {
    /// Reads what the targets of one tier say together. Those that are excluded say what they know
    /// as well; but a failure costs the wait on the second best of those that are not, or on the
    /// best if there is only one. It is noticed after the median time to a first token.
    pub fn of(targets: &[Standing], settings: &Settings) -> Self {
        let ttft_seconds = median(targets.iter().filter_map(|target| target.ttft_seconds))
            .unwrap_or(settings.default_ttft_seconds);
        let token_seconds = median(targets.iter().filter_map(|target| target.token_seconds))
            .unwrap_or(settings.default_token_seconds);
        let (mut best, mut second) = (f64::INFINITY, f64::INFINITY);
        for target in targets.iter().filter(|target| target.exclusion(settings).is_none()) {
            let latency = target.first_token_seconds(settings, ttft_seconds)
                + target.output_seconds(settings, token_seconds);
            second = second.min(latency.max(best));
            best = best.min(latency);
        }
        let next = [second, best].into_iter().find(|latency| latency.is_finite());
        Self {
            ttft_seconds,
            token_seconds,
            failure_seconds: ttft_seconds + next.unwrap_or(ttft_seconds),
        }
    }
}

/// The lower median; `None` of nothing.
fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Few<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied()
}

/// The score of one target among those that `pool` was read of.
pub fn score(target: &Standing, settings: &Settings, pool: &Pool) -> Score {
    let ttft_seconds = target.first_token_seconds(settings, pool.ttft_seconds);
    let output_seconds = target.output_seconds(settings, pool.token_seconds);
    let latency_seconds = ttft_seconds + output_seconds;
    let load_factor = target.load_factor();
    let money_usd = target.money_usd();
    let money_seconds = settings.seconds_per_usd * money_usd;
    let success = target.success.clamp(MIN_SUCCESS, 1.0);
    let failure_seconds = (1.0 - success) / success * pool.failure_seconds;
    let headroom_factor = target.headroom_factor(settings);
    let suspect_factor = if target.is_suspect { settings.suspect_factor } else { 1.0 };
    let sticky_factor = if target.is_preferred { settings.sticky_factor } else { 1.0 };
    let home_factor = target.home_factor(settings);
    let total = (latency_seconds * load_factor + money_seconds + failure_seconds)
        * headroom_factor
        * suspect_factor
        / sticky_factor
        / home_factor;
    Score {
        ttft_seconds,
        is_assumed: target.ttft_seconds.is_none(),
        output_seconds,
        latency_seconds,
        load_factor,
        money_usd,
        money_seconds,
        failure_seconds,
        headroom_factor,
        suspect_factor,
        sticky_factor,
        cached_share: target.cached_share,
        home_factor,
        // A number that is none must not win, nor poison the sums over the pool.
        total_seconds: if total.is_nan() { MAX_TOTAL_SECONDS } else { total }
            .clamp(MIN_TOTAL_SECONDS, MAX_TOTAL_SECONDS),
        weight: f64::from(target.weight.max(1)) * target.slow_start.clamp(0.0, 1.0),
        excluded: target.exclusion(settings),
        share: 0.0,
    }
}

/// Part of its weight that a target gets `since_recovery`: a tenth at once, all of it after
/// [`Settings::slow_start`], so that what knocked it over does not come back in one piece.
pub fn slow_start(since_recovery: Duration, settings: &Settings) -> f64 {
    if settings.slow_start.is_zero() {
        return 1.0;
    }
    (since_recovery.as_secs_f64() / settings.slow_start.as_secs_f64()).clamp(0.1, 1.0)
}

#[cfg(test)]
mod tests;
