//! Simulated providers in every dialect, in process and on real sockets.
//!
//! A pure, seeded [`Engine`] turns a request into a [`Script`]: a head and timed steps. Two players
//! act it out: [`SimTransport`] in process, on the runtime's clock, so that a paused clock gives
//! exact virtual times; and [`serve`] on real sockets, where a reset is a reset.
//!
//! Answers are written by the encoders that serve the gateway's own callers. What goes wrong, and
//! how fast things go, says a [`Scenario`], or the request itself with an `x-sim-fault` header or
//! `[[sim:cut_after=5]]` in the last user message: the grammar is described at [`Fault`] and in
//! `tests/scenarios/every_key.toml`.
//!
//! **Same seed, same requests in the same order: same bytes.**

mod bill;
mod content;
mod count;
mod dice;
mod directive;
mod embedding;
mod engine;
mod error;
mod fault;
mod limits;
mod plain;
mod play;
mod prefix;
pub(crate) mod reader;
mod render;
mod route;
mod scenario;
mod schema;
mod script;
mod serve;
mod signature;
mod skill;
mod stats;
#[cfg(test)]
mod tests;
mod timing;

pub use bill::{Bill, Tab};
pub use dice::Latency;
pub use engine::{Engine, SimRequest};
pub use fault::Fault;
pub use limits::Moment;
pub use play::{Arrival, SimTransport};
pub use scenario::{Behaviour, Change, FaultRule, Limits, Overload, PrefixCache, Scenario};
pub use script::{Action, Opening, Script, Step};
pub use serve::{HOST_HEADER, serve};
pub use stats::{Busy, Counts, Snapshot};
