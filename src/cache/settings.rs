//! `[cache]` and `routes.*.cache`: what is kept, for whom, and for how long.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::units::{ByteCount, HumanDuration};

/// Answers that are kept to be given again. Routes ask for it by `cache`.
///
/// ```toml
/// [cache]
/// max_memory = "1GB"
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CacheSettings {
    /// The most memory that kept answers take in this process, with all that it takes to find
    /// them, 1MB to 1TB. Takes effect at the next start.
    pub max_memory: ByteCount,
    /// The largest answer that is kept, 1KB to 1MB.
    pub max_answer: ByteCount,
    /// Whether nodes share answers, where `cluster.url` is set. They are kept there as they are,
    /// for as long as they may be given. Takes effect at the next start.
    pub shared: bool,
    /// The most memory that answers found by their meaning take in this process, with their
    /// vectors, 1MB to 1TB; beside `max_memory`. Takes effect at the next start.
    pub max_semantic_memory: ByteCount,
}

impl Default for CacheSettings {
    fn default() -> Self {
        Self {
            max_memory: ByteCount(256_000_000),
            max_answer: ByteCount(64_000),
            shared: true,
            max_semantic_memory: ByteCount(128_000_000),
        }
    }
}

/// Whether and which answers of a route are kept.
///
/// ```toml
/// [routes.faq]
/// cache = { exact = true, ttl = "6h" }
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RouteCacheSettings {
    /// Whether the same request gets the same answer again: same conversation, same parameters,
    /// same targets.
    pub exact: bool,
    /// Whether a request that asks the same in other words gets the same answer, once labels have
    /// proven that few enough such answers are wrong. Includes `exact`.
    pub semantic: bool,
    /// For `semantic`: what turns questions into vectors, by its name in `[embedders]`. Absent: the
    /// only one there is.
    #[schemars(extend("examples" = ["small"]))]
    pub embedder: Option<String>,
    /// For `semantic`: the model or route that is asked whether two answers say the same. Better
    /// one of another family than those who answer.
    #[schemars(extend("examples" = ["openai/gpt-5-mini"]))]
    pub judge: Option<String>,
    /// For `semantic`: the share of answers given to other words that may be wrong, 0.001 to 0.2.
    #[schemars(range(min = 0.001, max = 0.2))]
    pub max_error: f64,
    /// For `semantic`: only learn and give nothing, to see what it would be worth.
    pub shadow: bool,
    /// How long an answer may be given again, 1s to 30d. Absent: a day where `temperature` is 0,
    /// else an hour.
    #[schemars(extend("examples" = ["1h"]))]
    pub ttl: Option<HumanDuration>,
    /// Who shares answers.
    pub scope: CacheScope,
    /// Requests with a higher `temperature` want variety and are neither answered from the cache
    /// nor kept, 0 to 2. A request that names none is taken for one of 0.
    #[schemars(range(min = 0.0, max = 2.0))]
    pub max_temperature: f64,
    /// Whether answers to requests that offer functions are kept where none was called. Functions
    /// that providers run themselves, such as web search, are never cached.
    pub tools: bool,
    /// Whether answers to questions of the day are kept: about today, prices, the weather, or with
    /// a date among the instructions.
    pub time_sensitive: bool,
    /// How long after its time an answer is kept for `degrade.stale_cache`, 0s to 30d.
    pub stale_for: HumanDuration,
}

impl Default for RouteCacheSettings {
    fn default() -> Self {
        Self {
            exact: false,
            semantic: false,
            embedder: None,
            judge: None,
            max_error: 0.01,
            shadow: false,
            ttl: None,
            scope: CacheScope::Team,
            max_temperature: 0.3,
            tools: false,
            time_sensitive: false,
            stale_for: HumanDuration(STEADY_TTL),
        }
    }
}

/// Who shares answers. They never pass from one team to another.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum CacheScope {
    /// The keys of one team; a key without a team is alone.
    #[default]
    Team,
    /// One key.
    Caller,
    /// One user of one key: `x-tidegate-user`, else the request's `user`, `safety_identifier` or
    /// `metadata`.
    User,
}

/// How long an answer is kept where the route does not say.
const USUAL_TTL: Duration = Duration::from_secs(3_600);
/// The same for requests whose answers do not vary.
const STEADY_TTL: Duration = Duration::from_secs(24 * 3_600);
/// The longest that a route may ask for.
const MAX_TTL: Duration = Duration::from_secs(30 * 24 * 3_600);

// === impl CacheSettings ===

impl CacheSettings {
    /// What is wrong, each with the key it is about.
    pub fn problems(&self) -> Vec<(&'static str, &'static str)> {
        let mut problems = Vec::new();
        if !(1_000_000..=1_000_000_000_000).contains(&self.max_memory.0) {
            problems.push(("max_memory", "must be 1MB to 1TB"));
        }
        if !(1_000..=1_000_000).contains(&self.max_answer.0) {
            problems.push(("max_answer", "must be 1KB to 1MB"));
        }
        if !(1_000_000..=1_000_000_000_000).contains(&self.max_semantic_memory.0) {
            problems.push(("max_semantic_memory", "must be 1MB to 1TB"));
        }
        problems
    }
}

// === impl RouteCacheSettings ===

impl RouteCacheSettings {
    /// Whether anything is kept at all.
    pub fn is_on(&self) -> bool {
        self.exact || self.semantic
    }

    /// What is wrong, each with the key it is about.
    pub fn problems(&self) -> Vec<(&'static str, &'static str)> {
        let mut problems = Vec::new();
        if !(0.001..=0.2).contains(&self.max_error) {
            problems.push(("max_error", "must be 0.001 to 0.2"));
        }
        let ttl = self.ttl.map(|ttl| ttl.0);
        if ttl.is_some_and(|ttl| ttl < Duration::from_secs(1) || ttl > MAX_TTL) {
            problems.push(("ttl", "must be 1s to 30d"));
        }
        if self.stale_for.0 > MAX_TTL {
            problems.push(("stale_for", "must be at most 30d"));
        }
        if !(0.0..=2.0).contains(&self.max_temperature) {
            problems.push(("max_temperature", "must be 0 to 2"));
        }
        // What is for `semantic` may stay where that is turned off.
        let off = Self {
            embedder: self.embedder.clone(),
            judge: self.judge.clone(),
            max_error: self.max_error,
            shadow: self.shadow,
            ..Self::default()
        };
        if !self.is_on() && *self != off {
            problems.push((
                "exact",
                "is false, so nothing else here has an effect; write exact = true",
            ));
        }
        problems
    }

    /// How long the answer to a request of this temperature may be given again.
    pub fn ttl(&self, temperature: Option<f64>) -> Duration {
        let steady = temperature == Some(0.0);
        let usual = if steady { STEADY_TTL } else { USUAL_TTL };
        self.ttl.map_or(usual, |ttl| ttl.0)
    }

    /// How long an answer may be given to other words.
    pub fn semantic_ttl(&self) -> Duration {
        self.ttl.map_or(USUAL_TTL, |ttl| ttl.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_that_do_not_vary_are_kept_longer() {
        let settings = RouteCacheSettings { exact: true, ..RouteCacheSettings::default() };
        assert_eq!(settings.ttl(None), USUAL_TTL);
        assert_eq!(settings.ttl(Some(0.2)), USUAL_TTL);
        assert_eq!(settings.ttl(Some(0.0)), STEADY_TTL);
        let own = RouteCacheSettings { ttl: Some(HumanDuration::secs(7)), ..settings };
        assert_eq!(own.ttl(Some(0.0)), Duration::from_secs(7));
    }

    #[test]
    fn what_has_no_effect_or_no_sense_is_a_problem() {
        let off = RouteCacheSettings::default;
        let on = RouteCacheSettings { exact: true, ..off() };
        let cases = [
            (RouteCacheSettings::default(), None),
            (on.clone(), None),
            (RouteCacheSettings { semantic: true, shadow: true, ..off() }, None),
            (RouteCacheSettings { shadow: true, ..on.clone() }, None),
            (RouteCacheSettings { judge: Some(String::new()), max_error: 0.1, ..off() }, None),
            (RouteCacheSettings { semantic: true, max_error: 0.5, ..off() }, Some("max_error")),
            (RouteCacheSettings { ttl: Some(HumanDuration::secs(0)), ..on.clone() }, Some("ttl")),
            (
                RouteCacheSettings { ttl: Some(HumanDuration::secs(31 * 86_400)), ..on.clone() },
                Some("ttl"),
            ),
            (RouteCacheSettings { max_temperature: 2.1, ..on.clone() }, Some("max_temperature")),
            (RouteCacheSettings { max_temperature: f64::NAN, ..on }, Some("max_temperature")),
            (RouteCacheSettings { tools: true, ..off() }, Some("exact")),
        ];
        for (settings, key) in cases {
            let problems = settings.problems();
            assert_eq!(problems.first().map(|problem| problem.0), key, "{settings:?}");
        }
    }
}
