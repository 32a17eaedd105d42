//! `[limits]`: what callers may use, checked.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::check::Checking;
use super::providers::Enabled;
use super::routes::RoutePlan;
use crate::ids::ProviderId;
use crate::problems::{KeyPath, nearest};
use crate::quota::{By, Counted, Dimension, LimitSettings, OnStreamCap, Period, Rule, with_limits};
use crate::units::{HumanDuration, Ratio};

with_limits! {
    /// A limit: what may be used, and by whom. All limits that are about a request hold for it at
    /// once.
    #[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
    #[serde(deny_unknown_fields, default)]
    pub(super) struct LimitRuleSettings {
        /// What use is added up by: `caller`, `team`, `route`, `model` (of the route's first
        /// target) or `tag:NAME`. Several: by each combination. None (`[]`): all requests together.
        #[serde(default = "caller")]
        #[schemars(extend("examples" = [["caller"]]))]
        pub(super) by: Vec<String>,
        /// The routes it is about. Absent: all.
        #[schemars(extend("examples" = [["smart"]]))]
        pub(super) routes: Vec<String>,
        /// The models it is about, as `provider/model`. Absent: all.
        #[schemars(extend("examples" = [["local-vllm/llama-3.3-70b"]]))]
        pub(super) models: Vec<String>,
        /// The teams it is about. Absent: all.
        #[schemars(extend("examples" = [["search"]]))]
        pub(super) teams: Vec<String>,
        /// How much of a limit a minute may be used at once, as a time, 1s to 60s; it is an advance
        /// on that time. Absent: 10s, but 10 requests or 5,000 tokens at least.
        #[schemars(extend("examples" = ["10s"]))]
        pub(super) burst: Option<HumanDuration>,
        /// What becomes of a stream that gets to a limit of tokens or money while it runs.
        pub(super) on_stream_cap: OnStreamCap,
        /// What a token of the prompt counts that the provider had kept from an earlier one, as a
        /// share of another token.
        pub(super) cached_input: Ratio,
    }
}

/// What can be named by a limit.
pub(super) struct Named<'a> {
    pub(super) providers: &'a BTreeMap<ProviderId, Enabled>,
    pub(super) routes: &'a [RoutePlan],
}

fn caller() -> Vec<String> {
    vec!["caller".to_owned()]
}

/// Checks all limits.
pub(super) fn rules(
    limits: &BTreeMap<String, LimitRuleSettings>,
    named: &Named<'_>,
    checking: &mut Checking<'_>,
) -> Vec<Rule> {
    limits.iter().map(|(name, limit)| rule(name, limit, named, checking)).collect()
}

fn rule(
    name: &str,
    settings: &LimitRuleSettings,
    named: &Named<'_>,
    checking: &mut Checking<'_>,
) -> Rule {
    let at = KeyPath::root().key("limits").key(name);
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if name.is_empty() || name.len() > 64 || !name.bytes().all(fits) {
        let message = "the name must be 1 to 64 letters, digits, `-`, `_` or `.`";
        checking.document.report_whole(checking.problems, at.clone(), message);
    } else if name == "key" || name == "team" {
        let message = format!("`{name}` stands for the limits of {name}s; take another name");
        checking.document.report_whole(checking.problems, at.clone(), message);
    }
    let by = subject(&settings.by, &at, checking);
    named.check(settings, &at, checking);
    let limits = settings.limits();
    if limits.is_empty() {
        let message = "limits nothing; write one such as requests_per_minute = 600";
        checking.document.report_whole(checking.problems, at.clone(), message);
    }
    contradictions(&limits, &at, checking);
    burst(settings, &limits, &at, checking);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share is within 0 and 1"
    )]
    let cached_permille = (settings.cached_input.get() * 1_000.0).round() as u16;
    Rule {
        name: name.into(),
        by,
        routes: settings.routes.clone(),
        models: settings.models.clone(),
        teams: settings.teams.clone(),
        limits,
        burst: settings.burst.map(Into::into),
        cached_permille,
        on_stream_cap: settings.on_stream_cap,
    }
}

fn subject(words: &[String], at: &KeyPath, checking: &mut Checking<'_>) -> Vec<By> {
    let mut by = Vec::new();
    for (index, word) in words.iter().enumerate() {
        let at = at.key("by").index(index);
        match By::parse(word) {
            Some(new) if by.contains(&new) => {
                checking.report(at, format!("{word:?} stands there twice"));
            }
            Some(new) => by.push(new),
            None => {
                let known = ["caller", "team", "route", "model", "tag:NAME"];
                let hint = nearest(word, known)
                    .map_or(String::new(), |near| format!(" (did you mean {near:?}?)"));
                let message = format!("{word:?} is not one of {}{hint}", known.join(", "));
                checking.report(at, message);
            }
        }
    }
    by
}

impl Named<'_> {
    /// Whether what a limit is about exists.
    fn check(&self, settings: &LimitRuleSettings, at: &KeyPath, checking: &mut Checking<'_>) {
        let lists = [
            ("routes", &settings.routes),
            ("models", &settings.models),
            ("teams", &settings.teams),
        ];
        for (name, list) in lists {
            let at = at.key(name);
            if list.is_empty() && checking.document.mentions(&at) {
                let message =
                    format!("an empty list is about no {name}; leave it out to be about all");
                checking.report(at, message);
            }
        }
        for (index, route) in settings.routes.iter().enumerate() {
            if !self.is_route(route) {
                let names = self.routes.iter().map(|plan| plan.name.as_str());
                let hint = nearest(route, names)
                    .map_or(String::new(), |near| format!(" (did you mean {near:?}?)"));
                let message = format!("unknown route {route:?}{hint}");
                checking.report(at.key("routes").index(index), message);
            }
        }
        for (index, model) in settings.models.iter().enumerate() {
            if let Some(message) = self.unknown_model(model) {
                checking.report(at.key("models").index(index), message);
            }
        }
    }

    /// A route of the configuration, or a model that can be asked for by its own name.
    fn is_route(&self, name: &str) -> bool {
        self.routes.iter().any(|plan| plan.name.as_str() == name)
            || self.unknown_model(name).is_none()
    }

    pub(super) fn unknown_model(&self, name: &str) -> Option<String> {
        let Some((provider, model)) = name.split_once('/') else {
            return Some(format!("{name:?} names no provider; write it as \"provider/model\""));
        };
        let Some(enabled) = self.providers.get(provider) else {
            let known = self.providers.keys().map(ProviderId::as_str);
            let hint = nearest(provider, known)
                .map_or(String::new(), |near| format!(" (did you mean {near:?}?)"));
            return Some(format!("provider {provider:?} is not on{hint}"));
        };
        if enabled.provider.model(model).is_some() || enabled.provider.open_models {
            return None;
        }
        let known = enabled.provider.models.iter().map(|model| model.name.as_str());
        let hint = nearest(model, known)
            .map_or(String::new(), |near| format!(" (did you mean \"{provider}/{near}\"?)"));
        Some(format!("unknown model {model:?} of provider {provider:?}{hint}"))
    }
}

/// Reports limits that never take effect because another allows less.
fn contradictions(limits: &LimitSettings, at: &KeyPath, checking: &mut Checking<'_>) {
    let all: Vec<_> = limits.dimensions().collect();
    for (dimension, limit) in &all {
        let allows_less = |(other, least): &&(Dimension, u64)| {
            let (Some(mine), Some(others)) = (dimension.period, other.period) else { return false };
            let is_wider = match (dimension.counted, other.counted) {
                (Counted::InputTokens | Counted::OutputTokens, Counted::Tokens) => others >= mine,
                (mine_counted, others_counted) => mine_counted == others_counted && others > mine,
            };
            is_wider && least < limit
        };
        if let Some((other, _)) = all.iter().find(allows_less) {
            let message = format!("never takes effect: `{}` allows less", other.as_str());
            checking.report(at.key(dimension.as_str()), message);
        }
    }
}

fn burst(
    settings: &LimitRuleSettings,
    limits: &LimitSettings,
    at: &KeyPath,
    checking: &mut Checking<'_>,
) {
    let Some(burst) = settings.burst else { return };
    let at = at.key("burst");
    if !(HumanDuration::secs(1)..=HumanDuration::secs(60)).contains(&burst) {
        checking.report(at, "must be 1s to 60s");
    } else if !limits.dimensions().any(|(dimension, _)| dimension.flows()) {
        let what = Dimension::of(Counted::Requests, Period::Minute).as_str();
        let message = format!("has no effect without a limit a minute, such as `{what}`");
        checking.report(at, message);
    }
}
