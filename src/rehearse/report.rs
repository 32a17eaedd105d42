//! What came out of a rehearsal: a line a figure.

use std::collections::HashMap;
use std::fmt;

use serde::Serialize;

use super::figure::Findings;
use super::plan::{Compared, Expectation, Figure, Rehearsal, Run};
use super::record::Record;

/// The figures of a rehearsal.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Client requests, of both runs.
    pub requests: usize,
    /// How long the run with the gateway's own configuration took in its own time, in seconds.
    pub seconds: f64,
    /// One for each expectation, in their order.
    pub lines: Vec<Line>,
}

/// One figure.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Line {
    /// Its name.
    pub name: String,
    /// What it came to; `None` where there was nothing to measure.
    pub value: Option<f64>,
    /// The least it may be.
    pub min: Option<f64>,
    /// The most it may be.
    pub max: Option<f64>,
    /// Whether it is in its range.
    pub ok: bool,
    /// Whether it is a time, in seconds.
    #[serde(skip)]
    is_time: bool,
    /// How it is compared, with the name of the other figure.
    #[serde(skip)]
    compared: Option<Compared>,
}

// === impl Report ===

impl Report {
    pub(super) fn new(rehearsal: &Rehearsal, main: &Record, baseline: Option<&Record>) -> Self {
        let mut plain: HashMap<&str, Option<f64>> = HashMap::new();
        let mut lines = Vec::new();
        for expectation in &rehearsal.expect {
            let record = match expectation.run {
                Run::Main => Some(main),
                Run::Baseline => baseline,
            };
            let value = record.and_then(|record| {
                let findings = Findings { rehearsal, record };
                findings.figure(&expectation.figure, &expectation.over)
            });
            plain.insert(&expectation.name, value);
            let other = |name: &String| plain.get(name.as_str()).copied().flatten();
            let value = match &expectation.compared {
                None => value,
                Some(Compared::Times(name)) => value
                    .zip(other(name).filter(|other| *other != 0.0))
                    .map(|(value, other)| value / other),
                Some(Compared::Minus(name)) => {
                    value.zip(other(name)).map(|(value, other)| value - other)
                }
            };
            lines.push(Line::new(expectation, value));
        }
        let requests = main.seen.len() + baseline.map_or(0, |record| record.seen.len());
        Self { requests, seconds: main.end.as_secs_f64(), lines }
    }

    /// Whether every figure is in its range.
    pub fn is_good(&self) -> bool {
        self.lines.iter().all(|line| line.ok)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.lines {
            writeln!(f, "{line}")?;
        }
        let failed = self.lines.iter().filter(|line| !line.ok).count();
        write!(f, "{} requests in {:.1} s", self.requests, self.seconds)?;
        match failed {
            0 => f.write_str(", every figure in its range"),
            1 => f.write_str(", 1 figure out of its range"),
            count => write!(f, ", {count} figures out of their ranges"),
        }
    }
}

// === impl Line ===

impl Line {
    fn new(expectation: &Expectation, value: Option<f64>) -> Self {
        let Expectation { min, max, .. } = *expectation;
        let is_bound = min.is_some() || max.is_some();
        let ok = match value {
            Some(value) => min.is_none_or(|min| value >= min) && max.is_none_or(|max| value <= max),
            None => !is_bound,
        };
        let is_ratio = matches!(expectation.compared, Some(Compared::Times(_)));
        let is_time = matches!(expectation.figure, Figure::Ttft(_) | Figure::Duration(_));
        Self {
            name: expectation.name.clone(),
            value,
            min,
            max,
            ok,
            is_time: is_time && !is_ratio,
            compared: expectation.compared.clone(),
        }
    }

    fn show(&self, value: f64) -> String {
        if self.is_time {
            format!("{:.0} ms", value * 1_000.0)
        } else if value.fract() == 0.0 && value.abs() >= 2.0 {
            format!("{value:.0}")
        } else {
            format!("{value:.4}")
        }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let range = match (self.min, self.max) {
            (None, None) => String::new(),
            (Some(min), None) => format!("  at least {}", self.show(min)),
            (None, Some(max)) => format!("  at most {}", self.show(max)),
            (Some(min), Some(max)) => format!("  {} to {}", self.show(min), self.show(max)),
        };
        let mark = match (self.ok, self.min.is_some() || self.max.is_some()) {
            (false, _) => "FAIL",
            (true, true) => "ok  ",
            (true, false) => "    ",
        };
        let value = self.value.map_or_else(|| "nothing to measure".to_owned(), |v| self.show(v));
        let beside = match &self.compared {
            None => String::new(),
            Some(Compared::Times(name)) => format!(" x [{name}]"),
            Some(Compared::Minus(name)) => format!(" more than [{name}]"),
        };
        write!(f, "{mark}  {}: {value}{beside}{range}", self.name)
    }
}
