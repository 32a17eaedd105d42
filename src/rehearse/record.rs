//! What is written down while a rehearsal runs.

use std::sync::Arc;
use std::time::Duration;

use crate::sim::{Arrival, Bill};

/// One request of a client and what became of it. Times are since the start.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Seen {
    /// Which traffic it belongs to.
    pub(super) traffic: usize,
    /// When the client's call began: its first request.
    pub(super) began: Duration,
    pub(super) sent: Duration,
    pub(super) ended: Duration,
    /// From sending to the first token.
    pub(super) first_token: Option<Duration>,
    /// Whether the client left it at that.
    pub(super) last: bool,
    pub(super) ending: Ending,
    /// `x-tidegate-served-by`.
    pub(super) served_by: Option<Arc<str>>,
    /// `x-tidegate-attempts`.
    pub(super) attempts: u32,
    /// `x-tidegate-hedged`.
    pub(super) hedged: bool,
    /// `x-tidegate-degradation`.
    pub(super) degradation: u32,
}

/// How a request ended for its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// A whole answer, or a stream with its terminal event.
    Complete,
    /// A stream with an error event.
    Cut,
    /// A stream with neither, or an answer that is no JSON.
    Silent,
    /// An error status.
    Refused(u16),
    /// No answer, or a connection that broke, or the client's patience was at its end.
    Broken,
    /// The client left.
    Left,
}

/// All of one run.
#[derive(Debug, PartialEq)]
pub(super) struct Record {
    pub(super) seen: Vec<Seen>,
    pub(super) arrivals: Vec<Arrival>,
    pub(super) bills: Vec<Bill>,
    /// The gateway's metrics in Prometheus' text format, by time.
    pub(super) looks: Vec<(Duration, String)>,
    /// When nothing was under way any more.
    pub(super) end: Duration,
    /// Requests in the simulator at the end.
    pub(super) in_flight: u64,
}
