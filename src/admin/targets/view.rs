//! What the admin API, and `tidegate explain`, show of targets and routes.

use serde::Serialize;

use crate::cache::{CacheScope, RouteCacheSettings};
use crate::catalog::Feature;
use crate::config::PrefixCacheSettings;
use crate::fleet::{Demand, PrefixView, QuantilesView, RankView, RouteView, TargetView};
use crate::policy::rank::{Exclusion, Score};
use crate::units::HumanDuration;

/// All targets, or those of one route.
#[derive(Debug, Serialize)]
pub(crate) struct TargetList {
    /// Of one route: which, and for what its targets were ranked.
    pub(crate) route: Option<RouteReply>,
    /// By id; those of one route by tier.
    pub(crate) data: Vec<TargetReply>,
}

/// A route, and the request for which its targets were ranked.
#[derive(Debug, Serialize)]
pub(crate) struct RouteReply {
    name: String,
    /// Whether no target is well, so that health is ignored.
    is_panic: bool,
    /// Attempts of the last 10 s after a failure, for each request.
    retry_ratio: f64,
    demand: DemandReply,
    conduct: ConductReply,
    /// Which answers are kept; none where none are.
    cache: Option<CacheReply>,
}

/// Which answers of a route are kept.
#[derive(Debug, Serialize)]
struct CacheReply {
    exact: bool,
    semantic: bool,
    /// Absent: a day or an hour, by the temperature.
    ttl: Option<HumanDuration>,
    scope: CacheScope,
    // The rest is there where `semantic` is on.
    embedder: Option<String>,
    judge: Option<String>,
    max_error: Option<f64>,
    shadow: Option<bool>,
}

/// What was asked for.
#[derive(Debug, Serialize)]
struct DemandReply {
    input_tokens: u64,
    /// Tokens that the answer is expected to have.
    output_tokens: f64,
    features: Vec<Feature>,
    /// Whether a sticky key was given that counts on this route.
    sticky: bool,
}

/// How the route treats its requests.
#[derive(Debug, Serialize)]
struct ConductReply {
    attempts: u32,
    retry_budget: f64,
    hedge: Option<HedgeReply>,
    hold_back_tokens: u32,
    hold_back_time: HumanDuration,
    connect_timeout: HumanDuration,
    first_token_timeout: HumanDuration,
    between_tokens_timeout: HumanDuration,
    total_timeout: HumanDuration,
    seconds_per_usd: f64,
    /// Which part of the time between tokens counts.
    pace: f64,
    sticky: bool,
    prefix_cache: PrefixCacheSettings,
}

#[derive(Debug, Serialize)]
struct HedgeReply {
    max_extra_requests: f64,
    max_extra_spend: f64,
}

/// How a target fares.
#[derive(Debug, Serialize)]
pub(crate) struct TargetReply {
    pub(crate) id: String,
    provider: String,
    model: String,
    /// Where it stands, routes of the configuration only.
    routes: Vec<PlaceReply>,
    /// The expected cost of a good answer; on the route with the most targets.
    score_seconds: Option<f64>,
    /// Why it gets no requests now.
    excluded: Option<&'static str>,
    ready_in_seconds: Option<f64>,
    breaker: BreakerReply,
    ejected_for_seconds: Option<f64>,
    drained: bool,
    success_probability: f64,
    error_rate: f64,
    attempts_last_minute: u32,
    traffic_share: f64,
    attempts: u64,
    failures: u64,
    in_flight: u32,
    limit: Option<u32>,
    headroom: f64,
    ttft_ms: QuantilesView,
    /// What is known of its prefix cache.
    prefix_cache: PrefixView,
    /// On one route: every term.
    #[serde(skip_serializing_if = "Option::is_none")]
    score: Option<ScoreReply>,
}

/// Where a target stands.
#[derive(Debug, Serialize)]
struct PlaceReply {
    route: String,
    tier: u32,
    weight: u32,
    score_seconds: f64,
    expected_share: f64,
    excluded: Option<&'static str>,
}

#[derive(Debug, Serialize)]
struct BreakerReply {
    state: &'static str,
    reason: Option<&'static str>,
    trials_in_seconds: Option<f64>,
}

/// `total = ((first token + output) × load + money + failures) × headroom × suspect ÷ sticky ÷
/// home`
#[derive(Debug, Serialize)]
struct ScoreReply {
    first_token_seconds: f64,
    /// Whether the target was never asked, so that others stand in.
    is_assumed: bool,
    output_seconds: f64,
    latency_seconds: f64,
    load_factor: f64,
    money_usd: f64,
    money_seconds: f64,
    failure_seconds: f64,
    headroom_factor: f64,
    suspect_factor: f64,
    sticky_factor: f64,
    /// The part of the prompt that it likely has cached, by which first token and money are less.
    cached_share: f64,
    /// 3 where it has more of the prompt cached than others, 2 where a prompt that nobody has
    /// cached shall be, 1/3 where it carries too much of the load to be anybody's home, else 1.
    home_factor: f64,
    total_seconds: f64,
    /// The part of its weight that it gets after it was out, 0.1 to 1.
    slow_start: f64,
    share_of_tier: f64,
    expected_share: f64,
    /// What the model lacks for this request.
    lacking: Vec<String>,
}

// === impl TargetList ===

impl TargetList {
    /// The targets of one route.
    pub(crate) fn of_route(view: &RouteView, demand: &Demand) -> Self {
        let target = |rank: &RankView| {
            let mut target = TargetReply::of(rank);
            target.stands_on(view, rank);
            target.score = Some(ScoreReply::of(rank));
            target
        };
        let data = view.targets.iter().map(target).collect();
        Self { route: Some(RouteReply::of(view, demand)), data }
    }
}

// === impl RouteReply ===

impl RouteReply {
    fn of(view: &RouteView, demand: &Demand) -> Self {
        let conduct = &view.route.conduct;
        Self {
            name: view.route.name.to_string(),
            is_panic: view.is_panic,
            retry_ratio: rounded(view.retry_ratio),
            demand: DemandReply {
                input_tokens: demand.input_tokens,
                output_tokens: rounded(view.output_tokens),
                features: demand.features.clone(),
                sticky: view.route.sticky && demand.sticky.is_some(),
            },
            conduct: ConductReply {
                attempts: conduct.attempts,
                retry_budget: conduct.retry_budget,
                hedge: conduct.hedge.map(|hedge| HedgeReply {
                    max_extra_requests: hedge.extra_requests,
                    max_extra_spend: hedge.extra_spend,
                }),
                hold_back_tokens: conduct.hold_back.tokens,
                hold_back_time: HumanDuration(conduct.hold_back.time),
                connect_timeout: HumanDuration(conduct.timeouts.connect),
                first_token_timeout: HumanDuration(conduct.timeouts.first_token),
                between_tokens_timeout: HumanDuration(conduct.timeouts.between_tokens),
                total_timeout: HumanDuration(conduct.timeouts.total),
                seconds_per_usd: conduct.rank.seconds_per_usd,
                pace: conduct.rank.pace,
                sticky: view.route.sticky,
                prefix_cache: conduct.prefix_cache,
            },
            cache: view.route.cache.as_ref().map(|cache| CacheReply::of(&cache.settings)),
        }
    }
}

// === impl CacheReply ===

impl CacheReply {
    fn of(settings: &RouteCacheSettings) -> Self {
        let RouteCacheSettings { semantic, ttl, scope, .. } = *settings;
        let own = semantic.then_some(settings);
        Self {
            // A semantic cache finds the same words as well.
            exact: true,
            semantic,
            ttl,
            scope,
            embedder: own.and_then(|own| own.embedder.clone()),
            judge: own.and_then(|own| own.judge.clone()),
            max_error: own.map(|own| own.max_error),
            shadow: own.map(|own| own.shadow),
        }
    }
}

// === impl TargetReply ===

impl TargetReply {
    /// A target of the configuration, with what it is worth on this route.
    pub(super) fn of(rank: &RankView) -> Self {
        let (target, score) = (&rank.target, &rank.score);
        let mut reply =
            Self::new(target.endpoint.provider.as_str(), target.model.name.as_str(), &rank.live);
        reply.id = target.id.to_string();
        reply.score_seconds = Some(rounded(score.total_seconds));
        reply.excluded = word(score);
        reply
    }

    /// All models of a provider that no file lists.
    pub(super) fn unlisted(provider: &str, live: &TargetView) -> Self {
        Self::new(provider, "(unlisted)", live)
    }

    /// Notes a route that it stands on.
    pub(super) fn stands_on(&mut self, view: &RouteView, rank: &RankView) {
        self.routes.push(PlaceReply {
            route: view.route.name.to_string(),
            tier: rank.target.tier,
            weight: rank.target.weight,
            score_seconds: rounded(rank.score.total_seconds),
            expected_share: rounded(rank.expected_share),
            excluded: word(&rank.score),
        });
    }

    fn new(provider: &str, model: &str, live: &TargetView) -> Self {
        let ms = |value: Option<f64>| value.map(rounded);
        let ttft = live.ttft_ms;
        Self {
            id: live.id.to_string(),
            provider: provider.to_owned(),
            model: model.to_owned(),
            routes: Vec::new(),
            score_seconds: None,
            excluded: None,
            ready_in_seconds: live.ready_in_seconds.map(rounded),
            breaker: BreakerReply {
                state: live.breaker,
                reason: live.breaker_reason,
                trials_in_seconds: live.breaker_opens_in_seconds.map(rounded),
            },
            ejected_for_seconds: live.ejected_for_seconds.map(rounded),
            drained: live.drained,
            success_probability: rounded(live.success_probability),
            error_rate: rounded(live.error_rate),
            attempts_last_minute: live.attempts_last_minute,
            traffic_share: rounded(live.traffic_share),
            attempts: live.attempts,
            failures: live.failures,
            in_flight: live.in_flight,
            limit: live.limit,
            headroom: rounded(live.headroom),
            ttft_ms: QuantilesView {
                p50: ms(ttft.p50),
                p95: ms(ttft.p95),
                p99: ms(ttft.p99),
                samples: ttft.samples,
            },
            prefix_cache: PrefixView {
                cached_share: rounded(live.prefix_cache.cached_share),
                prefill_ms: rounded(live.prefix_cache.prefill_ms),
                trust: rounded(live.prefix_cache.trust),
                ..live.prefix_cache
            },
            score: None,
        }
    }
}

// === impl ScoreReply ===

impl ScoreReply {
    fn of(rank: &RankView) -> Self {
        let score = &rank.score;
        Self {
            first_token_seconds: rounded(score.ttft_seconds),
            is_assumed: score.is_assumed,
            output_seconds: rounded(score.output_seconds),
            latency_seconds: rounded(score.latency_seconds),
            load_factor: rounded(score.load_factor),
            money_usd: rounded(score.money_usd),
            money_seconds: rounded(score.money_seconds),
            failure_seconds: rounded(score.failure_seconds),
            headroom_factor: rounded(score.headroom_factor),
            suspect_factor: score.suspect_factor,
            sticky_factor: score.sticky_factor,
            cached_share: rounded(score.cached_share),
            home_factor: rounded(score.home_factor),
            total_seconds: rounded(score.total_seconds),
            slow_start: rounded(score.weight / f64::from(rank.target.weight.max(1))),
            share_of_tier: rounded(score.share),
            expected_share: rounded(rank.expected_share),
            lacking: rank.lacking.clone(),
        }
    }
}

fn word(score: &Score) -> Option<&'static str> {
    score.excluded.map(Exclusion::as_str)
}

/// To a millionth, which is more than any of these numbers is good for.
fn rounded(number: f64) -> f64 {
    (number * 1e6).round() / 1e6
}
