//! The traffic and the expectations of a scenario file: every problem with its line.

use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use toml::de::DeTable;

use super::plan::{
    Compared, Expectation, Figure, Inline, Rehearsal, Run, Selection, Series, Traffic,
};
use super::table;
use crate::dialect::Dialect;
use crate::problems::{KeyPath, Problems};
use crate::sim::reader::{Reader, Value};

/// Keys of `[[traffic]]`.
const TRAFFIC: [&str; 21] = [
    "name",
    "rate",
    "arrivals",
    "from",
    "until",
    "model",
    "dialect",
    "stream",
    "prompt_tokens",
    "prompt",
    "system_tokens",
    "turns",
    "think",
    "max_tokens",
    "priority",
    "caller",
    "headers",
    "aborts",
    "abort_within",
    "retries",
    "timeout",
];

/// Keys of `[[expect]]`.
const EXPECT: [&str; 13] = [
    "name", "figure", "series", "from", "until", "traffic", "priority", "target", "run", "than",
    "minus", "min", "max",
];

/// More requests than a rehearsal remembers; a mistyped rate must not take all memory.
const MAX_REQUESTS: f64 = 2_000_000.0;

impl Rehearsal {
    /// Reads a scenario file. A file of providers alone is a rehearsal without traffic.
    ///
    /// # Errors
    ///
    /// All problems, each with its line.
    pub fn parse(file: &Path, text: &str) -> Result<Self, Problems> {
        let (mut reader, root) = Reader::new(file, text);
        let providers = reader.scenario(root.get_ref());
        let mut rehearsal = Self::of(providers);
        let mut expect = Vec::new();
        for (name, value) in root.get_ref() {
            let key = KeyPath::root().key(name.get_ref());
            match name.get_ref().as_ref() {
                "gateway" => rehearsal.gateway = reader.inline(file, text, value, &key),
                "baseline" => rehearsal.baseline = reader.inline(file, text, value, &key),
                "traffic" => rehearsal.traffic = reader.traffic(value, &key),
                "expect" => {
                    for (table, span, key) in reader.tables(value, &key) {
                        let found = reader.expectation(table, span.clone(), &key);
                        expect.extend(found.map(|found| (found, span, key)));
                    }
                }
                _ => {}
            }
        }
        for (expectation, span, key) in expect {
            reader.references(&rehearsal, &expectation, span, &key);
            rehearsal.expect.push(expectation);
        }
        let mut problems = reader.problems;
        problems.sort();
        if problems.is_empty() { Ok(rehearsal) } else { Err(problems) }
    }
}

impl Reader<'_> {
    fn inline(
        &mut self,
        file: &Path,
        text: &str,
        value: &Value<'_>,
        at: &KeyPath,
    ) -> Option<Inline> {
        let Some(found) = value.get_ref().as_table() else {
            self.wrong(value, at, "a table with `config`");
            return None;
        };
        let mut inline = None;
        for (_, key, value) in self.entries(found, at, &["config"]) {
            let span = value.span();
            let file = file.to_owned();
            inline = match (value.get_ref().as_str(), value.get_ref().as_table()) {
                (Some(config), _) => {
                    let quoted = text.get(span.clone()).unwrap_or_default();
                    let skipped = quoted.trim_start_matches(['"', '\'']).starts_with('\n');
                    let before = self.line(span.start).saturating_sub(u32::from(!skipped));
                    Some(Inline { file, before: Some(before), text: config.to_owned() })
                }
                (None, Some(config)) => {
                    Some(Inline { file, before: None, text: table::to_toml(config) })
                }
                (None, None) => {
                    self.wrong(value, &key, "a configuration, as a table or as a text");
                    None
                }
            };
        }
        if found.is_empty() {
            self.report(value.span(), at, "wants `config`");
        }
        inline
    }

    fn traffic(&mut self, value: &Value<'_>, at: &KeyPath) -> Vec<Traffic> {
        let mut all: Vec<Traffic> = Vec::new();
        for (index, (table, span, key)) in self.tables(value, at).into_iter().enumerate() {
            let traffic = self.one_traffic(table, &key, index);
            for (wanted, example) in [("rate", "20"), ("until", "\"60s\""), ("model", "\"smart\"")]
            {
                if !table.keys().any(|name| name.get_ref() == wanted) {
                    let message = format!("wants `{wanted}`, such as {wanted} = {example}");
                    self.report(span.clone(), &key, message);
                }
            }
            if all.iter().any(|other| other.name == traffic.name) {
                let message = format!("another traffic has the name {:?}", traffic.name);
                self.report(span.clone(), &key, message);
            }
            if traffic.from > traffic.until {
                self.report(span.clone(), &key, "`from` is after `until`");
            }
            let seconds = traffic.until.saturating_sub(traffic.from).as_secs_f64();
            #[expect(clippy::cast_precision_loss, reason = "a thousand at most")]
            if traffic.rate * seconds * traffic.turns as f64 > MAX_REQUESTS {
                self.report(span, &key, "is more than two million requests");
            }
            all.push(traffic);
        }
        all
    }

    fn one_traffic(&mut self, table: &DeTable<'_>, at: &KeyPath, index: usize) -> Traffic {
        let mut traffic = Traffic::new(format!("traffic {}", index + 1));
        for (name, key, value) in self.entries(table, at, &TRAFFIC) {
            let t = &mut traffic;
            match name {
                "name" => t.name = self.text(value, &key).unwrap_or_default(),
                "rate" => t.rate = self.rate(value, &key),
                "arrivals" => {
                    let words = [("poisson", false), ("even", true)];
                    t.even = self.word(value, &key, &words).unwrap_or_default();
                }
                "from" => t.from = self.duration(value, &key).unwrap_or_default(),
                "until" => t.until = self.duration(value, &key).unwrap_or_default(),
                "model" => t.model = self.text(value, &key).unwrap_or_default(),
                "dialect" => {
                    let words =
                        [("openai-chat", Dialect::OpenAiChat), ("anthropic", Dialect::Anthropic)];
                    t.dialect = self.word(value, &key, &words).unwrap_or(t.dialect);
                }
                "stream" => t.stream = self.truth(value, &key).unwrap_or(t.stream),
                "prompt_tokens" => {
                    t.prompt_tokens = self.up_to(value, &key, 1_000_000).unwrap_or_default();
                }
                "prompt" => t.prompt = self.text(value, &key).unwrap_or_default(),
                "system_tokens" => {
                    t.system_tokens = self.up_to(value, &key, 1_000_000).unwrap_or_default();
                }
                "turns" => t.turns = self.up_to(value, &key, 1_000).unwrap_or_default().max(1),
                "think" => t.think = self.duration(value, &key).unwrap_or_default(),
                "max_tokens" => t.max_tokens = self.whole(value, &key).unwrap_or(t.max_tokens),
                "priority" => t.priority = self.priority(value, &key),
                "caller" => t.caller = self.text(value, &key),
                "headers" => t.headers = self.headers(value, &key),
                "aborts" => t.aborts = self.share(value, &key),
                "abort_within" => {
                    t.abort_within = self.duration(value, &key).unwrap_or_default();
                }
                "retries" => {
                    let retries = self.up_to(value, &key, 100).unwrap_or_default();
                    t.retries = u32::try_from(retries).unwrap_or_default();
                }
                _ => t.timeout = self.duration(value, &key).unwrap_or(t.timeout),
            }
        }
        traffic
    }

    fn rate(&mut self, value: &Value<'_>, at: &KeyPath) -> f64 {
        match self.number(value, at) {
            Some(rate) if rate > 0.0 && rate <= 1e5 => rate,
            Some(_) => {
                self.report(value.span(), at, "wants requests per second, above 0 up to 100000");
                1.0
            }
            None => 1.0,
        }
    }

    fn up_to(&mut self, value: &Value<'_>, at: &KeyPath, most: u64) -> Option<u64> {
        let number = self.whole(value, at)?;
        if number > most {
            self.report(value.span(), at, format!("wants a number up to {most}"));
            return None;
        }
        Some(number)
    }

    fn priority(&mut self, value: &Value<'_>, at: &KeyPath) -> Option<u8> {
        self.up_to(value, at, 4).and_then(|priority| u8::try_from(priority).ok())
    }

    fn headers(&mut self, value: &Value<'_>, at: &KeyPath) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let Some(table) = value.get_ref().as_table() else {
            self.wrong(value, at, "a table of headers");
            return headers;
        };
        for (name, value) in table {
            let key = at.key(name.get_ref());
            let Some(text) = self.text(value, &key) else { continue };
            let name = HeaderName::from_bytes(name.get_ref().as_bytes());
            match (name, HeaderValue::from_str(&text)) {
                (Ok(name), Ok(text)) => _ = headers.insert(name, text),
                _ => self.report(value.span(), &key, "is no header"),
            }
        }
        headers
    }

    fn expectation(
        &mut self,
        table: &DeTable<'_>,
        span: Range<usize>,
        at: &KeyPath,
    ) -> Option<Expectation> {
        let (mut name, mut figure, mut series) = (None, None, None);
        let (mut over, mut run, mut compared) = (Selection::default(), Run::Main, Vec::new());
        let (mut min, mut max) = (None, None);
        for (key_name, key, value) in self.entries(table, at, &EXPECT) {
            match key_name {
                "name" => name = self.text(value, &key),
                "figure" => figure = self.figure(value, &key),
                "series" => series = self.series(value, &key),
                "from" => over.from = self.duration(value, &key).unwrap_or_default(),
                "until" => over.until = self.duration(value, &key),
                "traffic" => over.traffic = self.text(value, &key),
                "priority" => over.priority = self.priority(value, &key),
                "target" => over.target = self.text(value, &key),
                "run" => {
                    let words = [("main", Run::Main), ("baseline", Run::Baseline)];
                    run = self.word(value, &key, &words).unwrap_or_default();
                }
                "than" => compared.extend(self.text(value, &key).map(Compared::Times)),
                "minus" => compared.extend(self.text(value, &key).map(Compared::Minus)),
                "min" => min = self.bound(value, &key),
                _ => max = self.bound(value, &key),
            }
        }
        if !table.keys().any(|name| name.get_ref() == "figure") {
            self.report(span.clone(), at, "wants `figure`, such as figure = \"success_ratio\"");
        }
        if compared.len() > 1 {
            self.report(span.clone(), at, "wants `than` or `minus`, not both");
        }
        if min.zip(max).is_some_and(|(min, max)| min > max) {
            self.report(span.clone(), at, "`min` is above `max`");
        }
        if over.until.is_some_and(|until| until <= over.from) {
            self.report(span.clone(), at, "`until` is not after `from`");
        }
        let (word, figure) = figure?;
        let figure = match (figure, series) {
            (Figure::Metric(_), Some(series)) => Figure::Metric(series),
            (Figure::MetricValue(_), Some(series)) => Figure::MetricValue(series),
            (Figure::Metric(_) | Figure::MetricValue(_), None) => {
                self.report(span, at, "wants `series`, such as \"tidegate_fallbacks_total\"");
                return None;
            }
            (figure, _) => figure,
        };
        if matches!(figure, Figure::Share | Figure::UpstreamShare) && over.target.is_none() {
            self.report(span.clone(), at, "wants `target`, such as target = \"beta/*\"");
        }
        let is_billed = matches!(figure, Figure::CachedTokens | Figure::CachedShare);
        let of_all = Selection { target: over.target.clone(), ..Selection::default() };
        if is_billed && over != of_all {
            self.report(span, at, "is of a whole run, and at most of one target");
            return None;
        }
        let name = name.unwrap_or_else(|| describe(word, &over));
        Some(Expectation { name, figure, over, run, compared: compared.pop(), min, max })
    }

    fn figure(&mut self, value: &Value<'_>, at: &KeyPath) -> Option<(&'static str, Figure)> {
        let known = figures();
        let indices: Vec<(&str, usize)> =
            known.iter().enumerate().map(|(index, (word, _))| (*word, index)).collect();
        let index = self.word(value, at, &indices)?;
        known.into_iter().nth(index)
    }

    fn series(&mut self, value: &Value<'_>, at: &KeyPath) -> Option<Series> {
        match Series::parse(&self.text(value, at)?) {
            Ok(series) => Some(series),
            Err(problem) => {
                self.report(value.span(), at, problem);
                None
            }
        }
    }

    /// A number, or a duration as seconds.
    fn bound(&mut self, value: &Value<'_>, at: &KeyPath) -> Option<f64> {
        if value.get_ref().is_str() {
            return self.duration(value, at).as_ref().map(Duration::as_secs_f64);
        }
        self.number(value, at)
    }

    /// What an expectation names must be there, and other figures must stand before it.
    fn references(
        &mut self,
        rehearsal: &Rehearsal,
        expectation: &Expectation,
        span: Range<usize>,
        at: &KeyPath,
    ) {
        if let Some(Compared::Times(other) | Compared::Minus(other)) = &expectation.compared
            && !rehearsal.expect.iter().any(|before| before.name == *other)
        {
            let message = format!("no figure before this one has the name {other:?}");
            self.report(span.clone(), at, message);
        }
        if rehearsal.expect.iter().any(|before| before.name == expectation.name) {
            let message = format!("another figure has the name {:?}", expectation.name);
            self.report(span.clone(), at, message);
        }
        if let Some(name) = &expectation.over.traffic
            && !rehearsal.traffic.iter().any(|traffic| traffic.name == *name)
        {
            self.report(span.clone(), at, format!("there is no traffic {name:?}"));
        }
        if expectation.run == Run::Baseline && rehearsal.baseline.is_none() {
            self.report(span, at, "there is no `[baseline]`");
        }
    }
}

/// All figures and their words.
pub(super) fn figures() -> Vec<(&'static str, Figure)> {
    let none = || Series { name: String::new(), labels: Vec::new() };
    vec![
        ("requests", Figure::Requests),
        ("success_ratio", Figure::SuccessRatio),
        ("ttft_p50", Figure::Ttft(0.5)),
        ("ttft_p95", Figure::Ttft(0.95)),
        ("ttft_p99", Figure::Ttft(0.99)),
        ("duration_p50", Figure::Duration(0.5)),
        ("duration_p95", Figure::Duration(0.95)),
        ("duration_p99", Figure::Duration(0.99)),
        ("share", Figure::Share),
        ("upstream_share", Figure::UpstreamShare),
        ("upstream_requests", Figure::UpstreamRequests),
        ("attempts_per_request", Figure::AttemptsPerRequest),
        ("hedge_ratio", Figure::HedgeRatio),
        ("rejected_ratio", Figure::RejectedRatio),
        ("degraded_ratio", Figure::DegradedRatio),
        ("goodput", Figure::Goodput),
        ("silent_truncations", Figure::SilentTruncations),
        ("cut_streams", Figure::CutStreams),
        ("cached_tokens", Figure::CachedTokens),
        ("cached_share", Figure::CachedShare),
        ("busiest_share", Figure::BusiestShare),
        ("in_flight_at_end", Figure::InFlightAtEnd),
        ("metric", Figure::Metric(none())),
        ("metric_value", Figure::MetricValue(none())),
    ]
}

/// A name for a figure that has none.
fn describe(word: &str, over: &Selection) -> String {
    let mut name = word.to_owned();
    for part in [&over.target, &over.traffic].into_iter().flatten() {
        name.push(' ');
        name.push_str(part);
    }
    if let Some(priority) = over.priority {
        name.push_str(&format!(" priority {priority}"));
    }
    let seconds = |time: Duration| format!("{}s", time.as_secs_f64());
    match (over.from, over.until) {
        (Duration::ZERO, None) => {}
        (from, None) => name.push_str(&format!(" from {}", seconds(from))),
        (from, Some(until)) => name.push_str(&format!(" {}..{}", seconds(from), seconds(until))),
    }
    name
}
