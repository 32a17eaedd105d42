//! Scenario files: TOML with every problem and its line.

use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Behaviour, FaultRule, Limits, Scenario};
use crate::problems::{KeyPath, Problems, nearest};
use crate::sim::dice::Latency;
use crate::sim::directive::MAX_TOKENS;
use crate::sim::fault::Fault;
use crate::units::HumanDuration;

type Value<'a> = Spanned<DeValue<'a>>;

/// Reads a whole file.
pub(super) fn scenario(file: &Path, text: &str) -> Result<Scenario, Problems> {
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut reader = Reader { file, text, problems: Problems::new() };
    for error in errors {
        reader.report(error.span().unwrap_or_default(), &KeyPath::root(), error.message());
    }
    let scenario = reader.scenario(table.get_ref());
    if reader.problems.is_empty() { Ok(scenario) } else { Err(reader.problems) }
}

struct Reader<'a> {
    file: &'a Path,
    text: &'a str,
    problems: Problems,
}

impl Reader<'_> {
    fn report(&mut self, span: Range<usize>, key: &KeyPath, message: impl Into<String>) {
        let before = self.text.as_bytes().get(..span.start).unwrap_or_default();
        let line = u32::try_from(memchr::memchr_iter(b'\n', before).count() + 1).unwrap_or(0);
        self.problems.add(self.file, line, key.clone(), message);
    }

    fn wrong(&mut self, value: &Value<'_>, key: &KeyPath, wanted: &str) {
        let found = value.get_ref().type_str();
        self.report(value.span(), key, format!("wants {wanted}, found {found}"));
    }

    /// Goes over a table's entries; keys that are not `known` are reported.
    fn entries<'t, 'i>(
        &mut self,
        table: &'t DeTable<'i>,
        at: &KeyPath,
        known: &[&str],
    ) -> Vec<(&'t str, KeyPath, &'t Value<'i>)> {
        let mut entries = Vec::new();
        for (name, value) in table {
            let key = at.key(name.get_ref());
            if known.contains(&name.get_ref().as_ref()) {
                entries.push((name.get_ref().as_ref(), key, value));
            } else {
                let hint = nearest(name.get_ref(), known.iter().copied()).map_or_else(
                    || format!("known are {}", known.join(", ")),
                    |near| format!("did you mean `{near}`?"),
                );
                self.report(name.span(), &key, format!("unknown key; {hint}"));
            }
        }
        entries
    }

    fn scenario(&mut self, table: &DeTable<'_>) -> Scenario {
        let mut scenario = Scenario { seed: 0, keys: Vec::new(), models: Vec::new() };
        for (name, key, value) in self.entries(table, &KeyPath::root(), &["seed", "keys", "models"])
        {
            match name {
                "seed" => scenario.seed = self.whole(value, &key).unwrap_or_default(),
                "keys" => scenario.keys = self.strings(value, &key),
                _ => scenario.models = self.models(value, &key),
            }
        }
        if scenario.models.is_empty() {
            scenario.models = Scenario::default().models;
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
                    models.push((name.get_ref().to_string(), self.behaviour(table, &key)))
                }
                None => self.wrong(value, &key, "a table"),
            }
        }
        models
    }

    fn behaviour(&mut self, table: &DeTable<'_>, at: &KeyPath) -> Behaviour {
        const KEYS: [&str; 7] =
            ["ttft", "token_gap", "tokens", "slow_share", "slow_factor", "limits", "faults"];
        let mut behaviour = Behaviour::default();
        for (name, key, value) in self.entries(table, at, &KEYS) {
            match name {
                "ttft" => behaviour.ttft = self.latency(value, &key, behaviour.ttft),
                "token_gap" => behaviour.token_gap = self.latency(value, &key, behaviour.token_gap),
                "tokens" => behaviour.tokens = self.range(value, &key),
                "slow_share" => behaviour.slow_share = self.share(value, &key),
                "slow_factor" => behaviour.slow_factor = self.factor(value, &key),
                "limits" => behaviour.limits = self.limits(value, &key),
                _ => behaviour.faults = self.faults(value, &key),
            }
        }
        behaviour
    }

    /// A table of median and sigma, or just a duration.
    fn latency(&mut self, value: &Value<'_>, at: &KeyPath, default: Latency) -> Latency {
        if value.get_ref().is_str() {
            return self.duration(value, at).map_or(default, Latency::constant);
        }
        let Some(table) = value.get_ref().as_table() else {
            self.wrong(
                value,
                at,
                "a duration, or a table like { median = \"300ms\", sigma = 0.4 }",
            );
            return default;
        };
        let mut latency = Latency { sigma: 0.0, ..default };
        for (name, key, value) in self.entries(table, at, &["median", "sigma"]) {
            if name == "median" {
                latency.median = self.duration(value, &key).unwrap_or(latency.median);
            } else {
                match self.number(value, &key) {
                    Some(sigma) if (0.0..=4.0).contains(&sigma) => latency.sigma = sigma,
                    Some(_) => self.report(value.span(), &key, "wants a number from 0 to 4"),
                    None => {}
                }
            }
        }
        latency
    }

    fn range(&mut self, value: &Value<'_>, at: &KeyPath) -> Option<(u64, u64)> {
        let Some(table) = value.get_ref().as_table() else {
            self.wrong(value, at, "a table like { min = 20, max = 120 }");
            return None;
        };
        let (mut min, mut max) = (None, None);
        for (name, key, value) in self.entries(table, at, &["min", "max"]) {
            let number = self.whole(value, &key);
            if name == "min" { min = number } else { max = number }
        }
        let (Some(min), Some(max)) = (min, max) else {
            self.report(value.span(), at, "wants both `min` and `max`");
            return None;
        };
        if min > max || max > MAX_TOKENS {
            self.report(value.span(), at, format!("wants min <= max <= {MAX_TOKENS}"));
            return None;
        }
        Some((min, max))
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

    fn duration(&mut self, value: &Value<'_>, at: &KeyPath) -> Option<std::time::Duration> {
        match value.get_ref().as_str().map(str::parse::<HumanDuration>) {
            Some(Ok(duration)) => return Some(duration.0),
            Some(Err(problem)) => self.report(value.span(), at, problem.to_string()),
            None => self.wrong(value, at, "a duration like \"300ms\""),
        }
        None
    }

    fn share(&mut self, value: &Value<'_>, at: &KeyPath) -> f64 {
        match self.number(value, at) {
            Some(share) if (0.0..=1.0).contains(&share) => share,
            Some(_) => {
                self.report(value.span(), at, "wants a share from 0 to 1");
                0.0
            }
            None => 0.0,
        }
    }

    fn factor(&mut self, value: &Value<'_>, at: &KeyPath) -> f64 {
        match self.number(value, at) {
            Some(factor) if (0.0..=1e6).contains(&factor) => factor,
            Some(_) => {
                self.report(value.span(), at, "wants a factor from 0 to 1000000");
                1.0
            }
            None => 1.0,
        }
    }

    fn number(&mut self, value: &Value<'_>, at: &KeyPath) -> Option<f64> {
        let number = match value.get_ref() {
            DeValue::Float(float) => float.as_str().parse().ok(),
            DeValue::Integer(integer) => integer.as_str().parse().ok(),
            DeValue::String(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_)
            | DeValue::Table(_) => None,
        };
        if number.is_none() {
            self.wrong(value, at, "a number");
        }
        number
    }

    fn whole(&mut self, value: &Value<'_>, at: &KeyPath) -> Option<u64> {
        let integer = value.get_ref().as_integer();
        let number = integer.and_then(|i| u64::from_str_radix(i.as_str(), i.radix()).ok());
        if number.is_none() {
            self.wrong(value, at, "a whole number from 0");
        }
        number
    }

    fn array<'t, 'i>(&mut self, value: &'t Value<'i>, at: &KeyPath) -> &'t [Value<'i>] {
        let Some(array) = value.get_ref().as_array() else {
            self.wrong(value, at, "an array");
            return &[];
        };
        array
    }

    fn strings(&mut self, value: &Value<'_>, at: &KeyPath) -> Vec<String> {
        let mut texts = Vec::new();
        for (index, value) in self.array(value, at).iter().enumerate() {
            match value.get_ref().as_str() {
                Some(text) => texts.push(text.to_owned()),
                None => self.wrong(value, &at.index(index), "a text"),
            }
        }
        texts
    }
}
