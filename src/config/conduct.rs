//! How a route treats its requests: the keys that `[defaults]` and each route have in common, and
//! what they come to.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::check::Checking;
use super::settings::{KeepAliveSettings, TimeoutSettings};
use super::snapshot::{KeepAlive, Timeouts};
use crate::problems::KeyPath;
use crate::units::{HumanDuration, Ratio};

/// When a second attempt is raced against a first one that is late.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HedgeSettings {
    /// Whether late attempts are raced. It costs what the loser's answer has cost until then. Chat
    /// completions and messages are then asked for as streams also where the caller wants them
    /// whole, because a race is decided by the first token.
    pub enabled: bool,
    /// The most second attempts, as a share of requests.
    pub max_extra_requests: Ratio,
    /// The most that the losers may cost, as a share of what the route spends in five minutes.
    pub max_extra_spend: Ratio,
}

impl Default for HedgeSettings {
    fn default() -> Self {
        Self {
            enabled: false,
            max_extra_requests: Ratio::percent(5),
            max_extra_spend: Ratio::percent(3),
        }
    }
}

/// How much of a streamed answer is held back while another target could still take over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HoldBackSettings {
    /// Tokens that are held back, at most 32; the first is never sent alone where this is more than
    /// 1. 0 and 1: the answer goes out with its first token.
    #[schemars(range(min = 0, max = 32))]
    pub tokens: u8,
    /// How long they are held back at most, counted from the first one.
    pub time: HumanDuration,
}

impl Default for HoldBackSettings {
    fn default() -> Self {
        Self { tokens: 8, time: HumanDuration::millis(150) }
    }
}

/// What makes one target better than another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RankSettings {
    /// How many seconds of waiting one US dollar is worth. 100: a second for a cent. 0: money does
    /// not matter.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub seconds_per_usd: u32,
    /// How much of the time that an answer takes after its first token counts, in percent: little
    /// for people, who read slower than models write; 100 for programs that wait for the end.
    #[schemars(range(min = 0, max = 100))]
    pub pace_percent: u8,
}

impl Default for RankSettings {
    fn default() -> Self {
        Self { seconds_per_usd: 100, pace_percent: 20 }
    }
}

/// How often a request is tried.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RetrySettings {
    /// The most attempts of one request, over all targets.
    #[schemars(range(min = 1, max = 8))]
    pub attempts: u8,
    /// The most further attempts that may fail as well, as a share of the requests; those that are
    /// answered cost nothing.
    pub budget: Ratio,
}

impl Default for RetrySettings {
    fn default() -> Self {
        Self { attempts: 3, budget: Ratio::percent(15) }
    }
}

/// What is done for the prefix caches of providers and of one's own servers, which read the
/// beginning of a prompt faster and cheaper when they have read it before. It changes no answer,
/// and `x-tidegate-cache: off`, which is about answers, does not switch it off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PrefixCacheSettings {
    /// Whether requests that begin alike are kept together, on the target whose cache likely holds
    /// their beginning, as far as that target is well and carries no more than 1.25 times the mean
    /// load of those that serve the same model.
    pub affinity: bool,
    /// Whether prompts for Anthropic are marked for its cache (`cache_control`) where their caller
    /// marks nothing and the reuse that was seen so far pays for the dearer write.
    pub breakpoints: bool,
    /// Whether providers that take a `prompt_cache_key` are told which requests belong together,
    /// where their caller does not say so.
    pub cache_key: bool,
    /// Whether requests of a burst wait until the first of those that begin alike has its first
    /// token, so that they find the beginning cached: at most as long as half of all first tokens
    /// take.
    pub warm_first: bool,
}

impl Default for PrefixCacheSettings {
    fn default() -> Self {
        Self { affinity: true, breakpoints: true, cache_key: true, warm_first: false }
    }
}

/// What a caller gets where no target can serve the request as it was asked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DegradeSettings {
    /// Whether the oldest turns of a conversation are left out when it is too long for every model
    /// of the route. Instructions, the last turn, and tool calls with their results stay.
    pub reduced_context: bool,
    /// Whether an answer from the cache may be given that is past its time, where no target gives
    /// another. The route's `cache` says how long past.
    pub stale_cache: bool,
    /// An answer in these words when every target has failed or none can be asked; never where the
    /// request itself is refused, or where JSON or a tool call is wanted. Absent: an error.
    #[schemars(extend("examples" = ["I'm having trouble right now. Please try again."]))]
    pub scripted: Option<String>,
}

/// How a route treats its requests.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Conduct {
    /// How long each step may take.
    pub timeouts: Timeouts,
    /// What the caller hears while the model is silent.
    pub keep_alive: KeepAlive,
    /// How much is held back while another target could take over.
    pub hold_back: HoldBack,
    /// Second attempts; `None` where late attempts are not raced.
    pub hedge: Option<Hedge>,
    /// What makes a target better.
    pub rank: Rank,
    /// The most attempts of a request, at least 1.
    pub attempts: u32,
    /// Further attempts as a share of requests, 0 to 1.
    pub retry_budget: f64,
    /// What is done for prefix caches.
    pub prefix_cache: PrefixCacheSettings,
}

/// How much of an answer is held back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HoldBack {
    /// Tokens.
    pub tokens: u32,
    /// For how long at most after the first.
    pub time: Duration,
}

/// How much second attempts may cost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hedge {
    /// As a share of requests, 0 to 1.
    pub extra_requests: f64,
    /// As a share of the money spent, 0 to 1.
    pub extra_spend: f64,
}

/// What makes a target better.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rank {
    /// What a US dollar is worth.
    pub seconds_per_usd: f64,
    /// The part of the time after the first token that counts, 0 to 1.
    pub pace: f64,
}

/// The settings a [`Conduct`] is made of.
#[derive(Debug, Clone, Copy)]
pub(super) struct ConductSettings<'a> {
    pub(super) timeouts: &'a TimeoutSettings,
    pub(super) keep_alive: &'a KeepAliveSettings,
    pub(super) hold_back: &'a HoldBackSettings,
    pub(super) hedge: &'a HedgeSettings,
    pub(super) rank: &'a RankSettings,
    pub(super) retry: &'a RetrySettings,
    pub(super) prefix_cache: &'a PrefixCacheSettings,
}

// === impl Conduct ===

impl From<ConductSettings<'_>> for Conduct {
    fn from(settings: ConductSettings<'_>) -> Self {
        let ConductSettings { timeouts, keep_alive, hold_back, hedge, rank, retry, prefix_cache } =
            settings;
        Self {
            timeouts: timeouts.into(),
            keep_alive: keep_alive.into(),
            hold_back: HoldBack { tokens: hold_back.tokens.into(), time: hold_back.time.0 },
            hedge: hedge.enabled.then(|| Hedge {
                extra_requests: hedge.max_extra_requests.get(),
                extra_spend: hedge.max_extra_spend.get(),
            }),
            rank: Rank {
                seconds_per_usd: rank.seconds_per_usd.into(),
                pace: f64::from(rank.pace_percent) / 100.0,
            },
            attempts: u32::from(retry.attempts.max(1)),
            retry_budget: retry.budget.get(),
            prefix_cache: *prefix_cache,
        }
    }
}

// === impl Checking ===

impl Checking<'_> {
    /// Reports times that contradict each other where both stand in the file, one of them at `at`:
    /// a default that is longer than what was written just never comes to bear.
    pub(super) fn contradictions(&mut self, timeouts: &TimeoutSettings, at: &KeyPath) {
        let defaults = KeyPath::root().key("defaults").key("timeouts");
        let document = self.document;
        let here = |key: &str| document.mentions(&at.key(key));
        let anywhere = |key: &str| here(key) || document.mentions(&defaults.key(key));
        let pairs = [
            ("connect", timeouts.connect, "first_token", timeouts.first_token),
            ("first_token", timeouts.first_token, "total", timeouts.total),
            ("between_tokens", timeouts.between_tokens, "total", timeouts.total),
        ];
        for (short, shorter, long, longer) in pairs {
            let written = (here(short) || here(long)) && anywhere(short) && anywhere(long);
            if shorter > longer && written {
                let message =
                    format!("is {shorter} and would never pass before `{long}`, which is {longer}");
                self.report(at.key(short), message);
            }
        }
    }
}
