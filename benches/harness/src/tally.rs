//! What a load has seen.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};
use tokio::time::Instant;

/// The part of a run that is counted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    pub(crate) from: Instant,
    pub(crate) to: Instant,
}

impl Window {
    pub(crate) fn holds(self, at: Instant) -> bool {
        self.from <= at && at < self.to
    }
}

/// One request, ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// When it was to be sent.
    pub(crate) due: Instant,
    pub(crate) at: Instant,
    /// 0: there was no answer.
    pub(crate) status: u16,
    pub(crate) problem: Option<String>,
    pub(crate) first_token: Option<Instant>,
    /// Microseconds between two tokens, 0 where they came together.
    pub(crate) gaps: Vec<u64>,
    /// Tokens that came inside the window.
    pub(crate) tokens: u64,
}

/// Problems that are told word by word.
const TOLD: usize = 3;

/// Sums over all requests.
#[derive(Debug)]
pub(crate) struct Tally {
    window: Window,
    answered: u64,
    tokens: u64,
    errors: u64,
    incomplete: u64,
    statuses: BTreeMap<u16, u64>,
    problems: Vec<String>,
    latency: Histogram<u64>,
    first_token: Histogram<u64>,
    between_tokens: Histogram<u64>,
}

impl Tally {
    pub(crate) fn new(window: Window) -> anyhow::Result<Self> {
        // Up to ten minutes, to a tenth of a percent.
        let empty = Histogram::new_with_bounds(1, 600_000_000, 3)?;
        Ok(Self {
            window,
            answered: 0,
            tokens: 0,
            errors: 0,
            incomplete: 0,
            statuses: BTreeMap::new(),
            problems: Vec::new(),
            latency: empty.clone(),
            first_token: empty.clone(),
            between_tokens: empty,
        })
    }

    /// Counts a request: what was wrong always, an answer where it ended inside the window, its
    /// times where it was due inside.
    pub(crate) fn add(&mut self, ended: Ended) {
        *self.statuses.entry(ended.status).or_default() += 1;
        self.tokens += ended.tokens;
        if let Some(problem) = ended.problem {
            let is_error = ended.status != 200;
            *(if is_error { &mut self.errors } else { &mut self.incomplete }) += 1;
            if self.problems.len() < TOLD {
                self.problems.push(format!("status {}: {problem}", ended.status));
            }
            return;
        }
        if self.window.holds(ended.at) {
            self.answered += 1;
        }
        if self.window.holds(ended.due) {
            self.latency.saturating_record(micros(ended.at - ended.due));
            if let Some(first) = ended.first_token {
                self.first_token.saturating_record(micros(first - ended.due));
            }
            for gap in ended.gaps {
                self.between_tokens.saturating_record(gap);
            }
        }
    }

    /// As it is printed. `unsent` requests were due and found no free connection.
    pub(crate) fn report(&self, unsent: usize) -> Value {
        let secs = (self.window.to - self.window.from).as_secs_f64();
        let per_second = |count: u64| (count as f64 / secs * 10.0).round() / 10.0;
        json!({
            "secs": secs,
            "requests": self.answered,
            "rps": per_second(self.answered),
            "tokens": self.tokens,
            "tokens_per_s": per_second(self.tokens),
            "errors": self.errors,
            "incomplete": self.incomplete,
            "unsent": unsent,
            "statuses": self.statuses,
            "problems": self.problems,
            "latency_us": quantiles(&self.latency),
            "first_token_us": quantiles(&self.first_token),
            "between_tokens_us": quantiles(&self.between_tokens),
        })
    }
}

pub(crate) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn quantiles(of: &Histogram<u64>) -> Value {
    json!({
        "count": of.len(),
        "mean": (of.mean() * 10.0).round() / 10.0,
        "p50": of.value_at_quantile(0.5),
        "p90": of.value_at_quantile(0.9),
        "p99": of.value_at_quantile(0.99),
        "p99_9": of.value_at_quantile(0.999),
        "max": of.max(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_outside_the_window_is_not_throughput_but_its_latency_counts() {
        let from = Instant::now();
        let window = Window { from, to: from + Duration::from_secs(2) };
        let mut tally = Tally::new(window).unwrap();
        let ended = |due, at, problem: Option<&str>| Ended {
            due: from + Duration::from_secs(due),
            at: from + Duration::from_secs(at),
            status: 200,
            problem: problem.map(str::to_owned),
            first_token: None,
            gaps: vec![],
            tokens: 5,
        };
        tally.add(ended(0, 1, None));
        tally.add(ended(1, 3, None));
        tally.add(ended(1, 1, Some("4 tokens of 5")));
        let report = tally.report(0);
        assert_eq!(report["requests"], 1);
        assert_eq!(report["rps"], 0.5);
        assert_eq!(report["latency_us"]["count"], 2);
        assert_eq!(report["incomplete"], 1);
        assert_eq!(report["problems"][0], "status 200: 4 tokens of 5");
    }
}
