//! Runs of compatibility suites as the store has them: what is to be compared, every answer as it
//! comes, and the verdict.
//!
//! A run is a row that says what it asks of whom; its samples are rows that are written as they come.
//! So a run that is interrupted, by whatever, goes on where it was: what has a row is not asked again.

mod record;
mod settings;

pub use record::{NewRun, RunKind, RunRecord, RunState, SampleRow, SuiteRow};
pub use settings::{CompatSettings, GateRequirement, GateSettings, JudgeSettings, MatrixSettings};
