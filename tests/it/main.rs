//! The integration tests: one binary, one module a topic.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that fails, panics; clippy knows only the #[test] functions themselves"
)]

mod config;
mod journal;
mod keys;
mod sim;
mod telemetry;
