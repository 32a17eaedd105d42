//! Progressive rollouts that roll themselves back: who gets the candidate, what the figures say,
//! and what follows from them.
//!
//! A [`Rollout`] leads a candidate (a prompt version, a model) past a control through the
//! [`Stage`]s of a [`Plan`]. It is a state machine without clock or I/O: events go in with the time
//! in Unix milliseconds (a rollout outlives processes, so their monotonic clocks do not serve),
//! [`Action`]s come out, and all of it can be stored and read back. The parts:
//!
//! - [`assign`]: who gets which; sticky, and monotone in the share.
//! - [`bets`]: the one test under everything. Given *what* happened, which side did it happen on?
//!   If the candidate is no worse, a coin that shows the candidate with the probability of its
//!   share. Betting on that coin gives evidence that may be looked at after every request.
//! - [`guardrails`]: what is measured, which direction is bad, and how much of it matters.
//! - [`test`](mod@test): one guardrail's evidence, figures and confidence sequence.
//! - [`segments`]: the same for parts of the traffic; [`ratio`]: whether the split is what it ought
//!   to be; [`hard`]: failures that need no statistics; [`spoken`]: no unit speaks twice.
//! - [`analysis`]: all of these together; [`plan`], [`bound`], [`evidence`], [`event`], [`decide`]:
//!   stages, decisions and the reasons for them.
//!
//! # How often it rolls back a good candidate
//!
//! At most once in [`ONE_IN`] rollouts, however often and whenever one looks. With `E_g` the
//! evidence of guardrail `g`, which is an e-process (its mean is at most 1 at any stopping time if
//! the candidate is no worse):
//!
//! - All guardrails together: `M = sum of w_g E_g` with weights that sum to 1 is again an
//!   e-process, so that `P(M ever reaches 1/a) <= a` (Ville's inequality). This merging never asks
//!   for more than the union bound at the levels `a w_g` does, because one `E_g >= 1/(a w_g)`
//!   suffices, and it asks for less where several guardrails turn bad at once. Vovk and Wang,
//!   "E-values: calibration, combination and applications", Annals of Statistics 2021: the mean is
//!   the only admissible symmetric merging under any dependence.
//! - Segments, at their own level: see [`segments`].
//! - Between the two a union bound: [`MAIN_LEVEL`] and [`SEGMENTS_LEVEL`] sum to one in [`ONE_IN`].
//!
//! Both are printed on one scale: evidence of so many out of [`ONE_IN`] needed.

pub mod analysis;
pub mod assign;
pub mod bets;
pub mod bound;
pub mod decide;
pub mod event;
pub mod evidence;
pub mod guardrails;
pub mod hard;
pub mod plan;
pub mod ratio;
pub mod segments;
pub mod spoken;
pub mod test;

pub use analysis::Analysis;
pub use assign::{Arm, Draw, Salt, Share, ShareError, UnitKind};
pub use bound::Bound;
pub use decide::Rollout;
pub use event::{Action, Event, PausedBy, Phase, Refusal};
pub use evidence::{Cause, Decision, Finding, Verdict};
pub use guardrails::{Guardrail, Guardrails, Margin, Rule};
pub use hard::HardFailure;
pub use plan::{Plan, PlanError, Stage};
pub use segments::Traits;
pub use test::{Observation, Pair, Readings};

/// In so many rollouts of candidates that are no worse, one is rolled back at most.
pub const ONE_IN: f64 = 100.0;
/// The part of that which the guardrails over all traffic have.
pub const MAIN_LEVEL: f64 = 0.8 / ONE_IN;
/// The part which the segments have.
pub const SEGMENTS_LEVEL: f64 = 0.2 / ONE_IN;

#[cfg(test)]
mod tests;
