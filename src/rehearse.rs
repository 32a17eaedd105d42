//! Rehearsals: a scenario's traffic against a whole gateway over simulated providers, and the
//! figures that come out.
//!
//! A scenario file says how the providers behave ([`Scenario`](crate::sim::Scenario)), who asks for
//! what ([`Traffic`]), and in which ranges the figures shall be ([`Expectation`]). It runs in
//! virtual time, where an hour takes as long as its requests take to compute, or on real sockets.
//! The gateway is the scenario's own or the operator's: whatever addresses its providers have, the
//! simulator answers in their place, under the provider's id as its host.
//!
//! Everything is measured from outside, by what clients see and what reaches the providers; the
//! gateway's metrics can be looked at, too. `tests/scenarios/every_figure.toml` shows every key.

use std::sync::Arc;

use crate::config::Source;
use crate::problems::Problems;

mod client;
mod drive;
mod figure;
mod front;
mod listen;
mod plan;
mod read;
mod record;
mod redirect;
mod report;
mod run;
mod scratch;
mod stage;
mod table;
#[cfg(test)]
mod tests;

pub use plan::{Compared, Expectation, Figure, Inline, Rehearsal, Run, Selection, Series, Traffic};
pub use report::{Line, Report};
pub use run::run;
pub use stage::Stage;

/// How a rehearsal is run.
#[derive(Debug, Clone)]
pub struct Options {
    /// The gateway's configuration instead of the scenario's own, or where it has none.
    pub source: Source,
    /// Whether `source` takes the place of the scenario's own.
    pub replace: bool,
    /// On real sockets and in real time, instead of in process and in virtual time.
    pub real: bool,
}

/// Why a rehearsal could not be run.
#[derive(Debug, thiserror::Error)]
pub enum RehearsalError {
    /// The gateway's configuration is wrong.
    #[error(transparent)]
    Config(#[from] Problems),
    /// A file could not be written, an address not listened on.
    #[error("cannot {operation}")]
    Io {
        /// What was to be done.
        operation: &'static str,
        /// Why not.
        source: std::io::Error,
    },
    /// A key for one of the traffic's callers could not be made.
    #[error("cannot make a key for the caller {name:?}")]
    Caller {
        /// Which one.
        name: Arc<str>,
        /// Why not.
        source: crate::callers::KeyError,
    },
}
