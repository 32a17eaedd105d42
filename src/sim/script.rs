//! What a simulated provider is going to do with one request: pure data, for a player to act out.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use super::bill::Tab;

/// What happens to one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// The model that was asked for; empty where none was.
    pub model: String,
    /// The scenario's entry that it occupies while it is played; empty where it occupies none.
    pub entry: String,
    /// How it begins.
    pub opening: Opening,
    /// The body, in order.
    pub steps: Vec<Step>,
    /// What it is billed for; nothing where it is refused.
    pub tab: Option<Tab>,
}

/// How an answer begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opening {
    /// The head of an answer, `after` the request came in.
    Answer {
        /// How long it takes.
        after: Duration,
        /// The status.
        status: StatusCode,
        /// The headers.
        headers: HeaderMap,
    },
    /// No connection comes about. On a socket, where one exists already, it is reset.
    Refuse,
    /// The connection stays open and nothing ever comes.
    Stall,
}

/// One thing that happens to the body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// How long after the step before it, or after the head.
    pub after: Duration,
    /// What happens.
    pub action: Action,
}

/// What happens to the body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Bytes go out.
    Chunk(Bytes),
    /// The connection is reset.
    Reset,
    /// The connection stays open and nothing ever comes.
    Stall,
    /// The body ends as the protocol wants it.
    End,
}

// === impl Script ===

impl Script {
    /// A whole answer in one piece.
    pub fn whole(model: &str, status: StatusCode, headers: HeaderMap, body: Vec<u8>) -> Self {
        let opening = Opening::Answer { after: Duration::ZERO, status, headers };
        let steps = vec![Step::chunk(Duration::ZERO, body), Step::end()];
        Self { model: model.to_owned(), entry: String::new(), opening, steps, tab: None }
    }

    /// Whether the body runs to its end: neither reset nor stalled.
    pub fn runs_to_end(&self) -> bool {
        matches!(self.opening, Opening::Answer { .. })
            && self.steps.iter().any(|step| step.action == Action::End)
    }

    /// The body as it goes out, for tests and tools that do not care for time.
    pub fn bytes(&self) -> Vec<u8> {
        let mut all = Vec::new();
        for step in &self.steps {
            if let Action::Chunk(bytes) = &step.action {
                all.extend_from_slice(bytes);
            }
        }
        all
    }

    /// The time from the request to the last step, or to the point where it stalls.
    pub fn duration(&self) -> Duration {
        let head = match self.opening {
            Opening::Answer { after, .. } => after,
            Opening::Refuse | Opening::Stall => Duration::ZERO,
        };
        head + self.steps.iter().map(|step| step.after).sum::<Duration>()
    }
}

// === impl Step ===

impl Step {
    /// Bytes.
    pub fn chunk(after: Duration, bytes: impl Into<Bytes>) -> Self {
        Self { after, action: Action::Chunk(bytes.into()) }
    }

    /// The end, at once.
    pub fn end() -> Self {
        Self { after: Duration::ZERO, action: Action::End }
    }
}
