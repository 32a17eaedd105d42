//! What a rehearsal is: traffic, and figures with the ranges they shall be in.

use std::path::PathBuf;
use std::time::Duration;

use http::HeaderMap;

use crate::dialect::Dialect;
use crate::sim::Scenario;

/// A scenario with traffic, and what is expected of the gateway between the two.
#[derive(Debug, Clone)]
pub struct Rehearsal {
    /// How the providers behave.
    pub providers: Scenario,
    /// The gateway's configuration; without it that of the process is taken.
    pub gateway: Option<Inline>,
    /// The configuration of a second run of the same, to compare with.
    pub baseline: Option<Inline>,
    /// Who asks for what.
    pub traffic: Vec<Traffic>,
    /// Which figures are printed, and which must be in a range.
    pub expect: Vec<Expectation>,
}

/// A configuration that stands inside the scenario.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inline {
    /// The scenario's file.
    pub file: PathBuf,
    /// The lines of that file before its first one; `None` where it is a table, whose lines are
    /// not its own.
    pub before: Option<u32>,
    /// The configuration, in TOML.
    pub text: String,
}

/// One stream of requests that are alike.
#[derive(Debug, Clone)]
pub struct Traffic {
    /// Its name in figures.
    pub name: String,
    /// Requests per second, above 0.
    pub rate: f64,
    /// Whether the gaps between them are all the same; else they come as from many independent
    /// callers (a Poisson process).
    pub even: bool,
    /// When the first may come.
    pub from: Duration,
    /// When no more come.
    pub until: Duration,
    /// What they ask for: a route or a model.
    pub model: String,
    /// The wire.
    pub dialect: Dialect,
    /// Whether the answer is streamed.
    pub stream: bool,
    /// About how many tokens the prompt has.
    pub prompt_tokens: u64,
    /// What the prompt begins with, such as a wish to the simulator.
    pub prompt: String,
    /// About how many tokens the instructions have that all its requests begin with.
    pub system_tokens: u64,
    /// How many turns each conversation has, at least 1; the rate is then that of conversations.
    pub turns: u64,
    /// How long a client thinks before its next turn, in the mean.
    pub think: Duration,
    /// The limit for the answer.
    pub max_tokens: u64,
    /// The header `x-tidegate-priority`, 0 to 4.
    pub priority: Option<u8>,
    /// Which caller's key is used; without one, none.
    pub caller: Option<String>,
    /// More headers.
    pub headers: HeaderMap,
    /// The share of requests, 0 to 1, whose client leaves at a random moment.
    pub aborts: f64,
    /// The latest of these moments, after the request was sent.
    pub abort_within: Duration,
    /// How often a client asks again where an SDK would.
    pub retries: u32,
    /// How long a client waits for the whole answer.
    pub timeout: Duration,
}

/// A figure, and the range it shall be in.
#[derive(Debug, Clone, PartialEq)]
pub struct Expectation {
    /// Its name in the report, and for figures that are compared with it.
    pub name: String,
    /// What is measured.
    pub figure: Figure,
    /// What it is measured over.
    pub over: Selection,
    /// Which run it is measured in.
    pub run: Run,
    /// What it is compared with.
    pub compared: Option<Compared>,
    /// The least it may be.
    pub min: Option<f64>,
    /// The most it may be.
    pub max: Option<f64>,
}

/// Which requests a figure looks at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Sent at this time or later.
    pub from: Duration,
    /// Sent before this time; `None` is the end.
    pub until: Option<Duration>,
    /// Of this traffic alone.
    pub traffic: Option<String>,
    /// Of this priority alone.
    pub priority: Option<u8>,
    /// The target that a share is of: `provider/model` or `provider/*`.
    pub target: Option<String>,
}

/// The run with the gateway's own configuration, or the one to compare with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Run {
    /// The gateway's own.
    #[default]
    Main,
    /// `[baseline]`.
    Baseline,
}

/// How a figure is seen beside another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Compared {
    /// Divided by the figure of this name.
    Times(String),
    /// Less the figure of this name.
    Minus(String),
}

/// What can be measured from outside. Durations are in seconds, shares from 0 to 1.
#[derive(Debug, Clone, PartialEq)]
pub enum Figure {
    /// Requests that clients sent, retries included.
    Requests,
    /// The share of calls that ended with a complete answer, after the client's retries. Those that
    /// the client left are not counted.
    SuccessRatio,
    /// A quantile, 0 to 1, of the time to the first token of those answers that had one.
    Ttft(f64),
    /// A quantile, 0 to 1, of the time to the end of complete answers.
    Duration(f64),
    /// The share of answers that came from the target.
    Share,
    /// The share of the requests to providers that went to the target.
    UpstreamShare,
    /// Requests to providers, or to the target.
    UpstreamRequests,
    /// Requests to providers for each request of a client.
    AttemptsPerRequest,
    /// The share of requests that were hedged.
    HedgeRatio,
    /// The share of requests that the gateway refused without an attempt.
    RejectedRatio,
    /// The share of answers that were degraded in any way.
    DegradedRatio,
    /// Complete answers per second, by the time they ended.
    Goodput,
    /// Streams that ended without terminal event or error event.
    SilentTruncations,
    /// Streams that ended with an error event.
    CutStreams,
    /// Tokens of prompts that providers, or the target, had cached.
    CachedTokens,
    /// The share of the tokens of prompts that was cached.
    CachedShare,
    /// The share of the requests to providers that went to the one that had the most.
    BusiestShare,
    /// What is under way when all clients have gone: requests in the simulator, and attempts by
    /// the gateway's own count.
    InFlightAtEnd,
    /// How much a series of the gateway's metrics grew.
    Metric(Series),
    /// What a series of the gateway's metrics is at the end of the time.
    MetricValue(Series),
}

/// Samples of a metric: all of this name that have these labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Series {
    /// The metric's name.
    pub name: String,
    /// Labels and their values.
    pub labels: Vec<(String, String)>,
}

// === impl Rehearsal ===

impl Rehearsal {
    /// These providers, and no traffic.
    pub fn of(providers: Scenario) -> Self {
        let (traffic, expect) = (Vec::new(), Vec::new());
        Self { providers, gateway: None, baseline: None, traffic, expect }
    }

    /// When the last request may be sent.
    pub fn end(&self) -> Duration {
        self.traffic.iter().map(|traffic| traffic.until).max().unwrap_or_default()
    }

    /// The times at which the gateway's metrics must be looked at, in order.
    pub(super) fn looks(&self) -> Vec<Duration> {
        let windows = self.expect.iter().filter(|expectation| {
            matches!(
                expectation.figure,
                Figure::Metric(_) | Figure::MetricValue(_) | Figure::HedgeRatio
            )
        });
        let mut times: Vec<Duration> = windows
            .flat_map(|expectation| [Some(expectation.over.from), expectation.over.until])
            .flatten()
            .collect();
        times.sort();
        times.dedup();
        times
    }
}

// === impl Traffic ===

impl Traffic {
    /// As it is where the file says nothing but its name.
    pub(super) fn new(name: String) -> Self {
        Self {
            name,
            rate: 1.0,
            even: false,
            from: Duration::ZERO,
            until: Duration::ZERO,
            model: String::new(),
            dialect: Dialect::OpenAiChat,
            stream: true,
            prompt_tokens: 50,
            prompt: String::new(),
            system_tokens: 0,
            turns: 1,
            think: Duration::from_secs(5),
            max_tokens: 1_000,
            priority: None,
            caller: None,
            headers: HeaderMap::new(),
            aborts: 0.0,
            abort_within: Duration::from_secs(2),
            retries: 0,
            timeout: Duration::from_secs(600),
        }
    }
}

// === impl Selection ===

impl Selection {
    /// Whether a moment lies in the time.
    pub(super) fn holds(&self, moment: Duration) -> bool {
        moment >= self.from && self.until.is_none_or(|until| moment < until)
    }

    /// Whether `provider/model` is the target; without one, any is.
    pub(super) fn is_target(&self, found: &str) -> bool {
        self.target.as_deref().is_none_or(|wanted| match wanted.strip_suffix("/*") {
            Some(provider) => found.split_once('/').is_some_and(|(name, _)| name == provider),
            None => found == wanted,
        })
    }
}

// === impl Series ===

impl Series {
    /// Reads `name` or `name{label="value",…}`.
    ///
    /// # Errors
    ///
    /// Says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no series; write it like name{{label=\"value\"}}");
        let (name, rest) = text.split_once('{').unwrap_or((text, "}"));
        let inner = rest.trim().strip_suffix('}').ok_or_else(wrong)?;
        let mut labels = Vec::new();
        for pair in inner.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
            let (label, value) = pair.split_once('=').ok_or_else(wrong)?;
            labels.push((label.trim().to_owned(), value.trim().trim_matches('"').to_owned()));
        }
        let name = name.trim().to_owned();
        if name.is_empty() { Err(wrong()) } else { Ok(Self { name, labels }) }
    }
}
