//! Scenario files: TOML with every problem and its line.

use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use toml::de::DeTable;

use super::{Behaviour, Change, FaultRule, Limits, Overload, PrefixCache, Scenario};
use crate::problems::{KeyPath, Problems};
use crate::sim::fault::Fault;
use crate::sim::reader::{Reader, Value};

/// What may stand at the top of a scenario. The last four are read by whoever rehearses.
const TOP: [&str; 8] =
    ["seed", "keys", "models", "changes", "gateway", "baseline", "traffic", "expect"];

/// Keys of a behaviour.
const BEHAVIOUR: [&str; 14] = [
    "ttft",
    "token_gap",
    "tokens",
    "slips",
    "bias",
    "slow_share",
    "slow_factor",
    "slower",
    "error_after",
    "capacity",
    "over_capacity",
    "prefix_cache",
    "limits",
    "faults",
];

/// A change as it stands in the file, before it is known what it changes.
struct Draft<'t, 'i> {
    at: Duration,
    models: Vec<String>,
    recover: bool,
    behaviour: &'t DeTable<'i>,
    key: KeyPath,
}

/// Reads a whole file.
pub(super) fn scenario(file: &Path, text: &str) -> Result<Scenario, Problems> {
    let (mut reader, table) = Reader::new(file, text);
    let scenario = reader.scenario(table.get_ref());
    if reader.problems.is_empty() { Ok(scenario) } else { Err(reader.problems) }
}

impl Reader<'_> {
    /// The providers' part of a scenario.
    pub(crate) fn scenario(&mut self, table: &DeTable<'_>) -> Scenario {
        let models = Vec::new();
        let mut scenario = Scenario { seed: 0, keys: Vec::new(), models, changes: Vec::new() };
        let mut changes = None;
        for (name, key, value) in self.entries(table, &KeyPath::root(), &TOP) {
            match name {
                "seed" => scenario.seed = self.whole(value, &key).unwrap_or_default(),
                "keys" => scenario.keys = self.strings(value, &key),
                "models" => scenario.models = self.models(value, &key),
                "changes" => changes = Some((key, value)),
                _ => {}
            }
        }
        if scenario.models.is_empty() {
            scenario.models = Scenario::default().models;
        }
        if let Some((key, value)) = changes {
            scenario.changes = self.changes(value, &key, &scenario);
        }
        scenario
    }

    fn models(&mut self, value: &Value<'_>, at: &KeyPath) -> Vec<(String, Behaviour)> {
        let Some(table) = value.get_ref().as_table() else {
            self.wrong(value, at, "a table of models");
            return Vec::new();
        };
        let mut models = Vec::new();
        for (name, value) in table {
            let key = at.key(name.get_ref());
            match value.get_ref().as_table() {
                Some(table) => {
                    let behaviour = self.behaviour(table, &key, &BEHAVIOUR, Behaviour::default());
                    models.push((name.get_ref().to_string(), behaviour));
                }
                None => self.wrong(value, &key, "a table"),
            }
        }
        models
    }

    /// All changes by time. Each says what it changes; what it leaves out stays as it was then.
    fn changes(&mut self, value: &Value<'_>, at: &KeyPath, scenario: &Scenario) -> Vec<Change> {
        let tables = self.tables(value, at);
        let mut drafts: Vec<Draft<'_, '_>> = Vec::new();
        for (table, span, key) in tables {
            drafts.push(self.draft(table, span, key));
        }
        drafts.sort_by_key(|draft| draft.at);
        let known: Vec<&str> = ["at", "model", "recover"].into_iter().chain(BEHAVIOUR).collect();
        let mut now = scenario.clone();
        let mut changes = Vec::new();
        for draft in drafts {
            for (index, model) in draft.models.iter().enumerate() {
                let before = if draft.recover { scenario } else { &now };
                let base = before.nearest(model).cloned().unwrap_or_default();
                let said = (index > 0).then(|| self.problems.clone());
                let behaviour = self.behaviour(draft.behaviour, &draft.key, &known, base);
                if let Some(said) = said {
                    // The same table was read for the first of them.
                    self.problems = said;
                }
                now.set(model, behaviour.clone());
                changes.push(Change { at: draft.at, model: model.clone(), behaviour });
            }
        }
        changes
    }

    fn draft<'t, 'i>(
        &mut self,
        table: &'t DeTable<'i>,
        span: Range<usize>,
        key: KeyPath,
    ) -> Draft<'t, 'i> {
        let (mut at, mut models, mut recover) = (None, Vec::new(), false);
        for (name, value) in table {
            let key = key.key(name.get_ref());
            match name.get_ref().as_ref() {
                "at" => at = Some(self.duration(value, &key)),
                "model" if value.get_ref().is_array() => models = self.strings(value, &key),
                "model" => models.extend(self.text(value, &key)),
                "recover" => recover = self.truth(value, &key).unwrap_or_default(),
                _ => {}
            }
        }
        if at.is_none() {
            self.report(span.clone(), &key, "wants `at`, the time of the change, such as \"60s\"");
        }
        if !table.keys().any(|name| name.get_ref() == "model") {
            self.report(span, &key, "wants `model`, such as \"beta/*\"");
        }
        if models.is_empty() {
            // The rest of it is read nevertheless, for its problems.
            models.push("*".to_owned());
        }
        Draft { at: at.flatten().unwrap_or_default(), models, recover, behaviour: table, key }
    }

    fn behaviour(
        &mut self,
        table: &DeTable<'_>,
        at: &KeyPath,
        known: &[&str],
        mut behaviour: Behaviour,
    ) -> Behaviour {
        for (name, key, value) in self.entries(table, at, known) {
            match name {
                "ttft" => behaviour.ttft = self.latency(value, &key, behaviour.ttft),
                "token_gap" => behaviour.token_gap = self.latency(value, &key, behaviour.token_gap),
                "tokens" => behaviour.tokens = self.range(value, &key),
                "slips" => behaviour.slips = Some(self.share(value, &key)),
                "bias" => behaviour.bias = self.share(value, &key),
                "slow_share" => behaviour.slow_share = self.share(value, &key),
                "slow_factor" => behaviour.slow_factor = self.factor(value, &key),
                "slower" => behaviour.slower = self.factor(value, &key),
                "error_after" => behaviour.error_after = self.duration(value, &key),
                "capacity" => behaviour.capacity = self.whole(value, &key),
                "over_capacity" => {
                    let words = [("refuse", Overload::Refuse), ("slow", Overload::Slow)];
                    behaviour.over_capacity = self.word(value, &key, &words).unwrap_or_default();
                }
                "prefix_cache" => behaviour.prefix_cache = self.prefix_cache(value, &key),
                "limits" => behaviour.limits = self.limits(value, &key),
                "faults" => behaviour.faults = self.faults(value, &key),
                _ => {}
            }
        }
        behaviour
    }

    fn prefix_cache(&mut self, value: &Value<'_>, at: &KeyPath) -> Option<PrefixCache> {
        let Some(table) = value.get_ref().as_table() else {
            self.wrong(value, at, "a table like { tokens = 100_000, prefill = \"100ms\" }");
            return None;
        };
        let mut cache = PrefixCache { tokens: 0, prefill: Duration::ZERO };
        for (name, key, value) in self.entries(table, at, &["tokens", "prefill"]) {
            match name {
                "tokens" => cache.tokens = self.whole(value, &key).unwrap_or_default(),
                _ => cache.prefill = self.duration(value, &key).unwrap_or_default(),
            }
        }
        Some(cache)
    }

    fn limits(&mut self, value: &Value<'_>, at: &KeyPath) -> Limits {
        let mut limits = Limits::default();
        let Some(table) = value.get_ref().as_table() else {
            self.wrong(value, at, "a table");
            return limits;
        };
        for (name, key, value) in
            self.entries(table, at, &["requests_per_minute", "tokens_per_minute"])
        {
            let rate = self.whole(value, &key);
            if rate == Some(0) {
                self.report(value.span(), &key, "wants a number from 1");
            }
            if name == "requests_per_minute" {
                limits.requests_per_minute = rate;
            } else {
                limits.tokens_per_minute = rate;
            }
        }
        limits
    }

    fn faults(&mut self, value: &Value<'_>, at: &KeyPath) -> Vec<FaultRule> {
        let mut rules = Vec::new();
        for (index, value) in self.array(value, at).iter().enumerate() {
            let key = at.index(index);
            match value.get_ref().as_table() {
                Some(table) => rules.extend(self.fault(table, value.span(), &key)),
                None => {
                    self.wrong(value, &key, "a table like { share = 0.02, fault = \"status=503\" }")
                }
            }
        }
        rules
    }

    fn fault(
        &mut self,
        table: &DeTable<'_>,
        span: Range<usize>,
        at: &KeyPath,
    ) -> Option<FaultRule> {
        let (mut share, mut on_requests, mut fault) = (None, Vec::new(), None);
        for (name, key, value) in
            self.entries(table, at, &["share", "on_request", "on_requests", "fault"])
        {
            match name {
                "share" => share = Some(self.share(value, &key)),
                "on_request" => on_requests.extend(self.whole(value, &key)),
                "on_requests" => {
                    for (index, value) in self.array(value, &key).iter().enumerate() {
                        on_requests.extend(self.whole(value, &key.index(index)));
                    }
                }
                _ => match value.get_ref().as_str().map(Fault::parse) {
                    Some(Ok(parsed)) => fault = Some(parsed),
                    Some(Err(problem)) => self.report(value.span(), &key, problem),
                    None => self.wrong(value, &key, "a text like \"cut_after=5\""),
                },
            }
        }
        if share.is_some() != on_requests.is_empty() {
            self.report(span.clone(), at, "wants either `share` or `on_request`");
        }
        if !table.keys().any(|name| name.get_ref() == "fault") {
            self.report(span, at, "wants `fault`, such as fault = \"cut_after=5\"");
        }
        Some(FaultRule { share: share.unwrap_or(0.0), on_requests, fault: fault? })
    }
}
