//! The integration tests: one binary, one module a topic.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test that fails, panics, and one that is skipped, says so; clippy knows only the \
              #[test] functions themselves"
)]

mod abuse;
mod access;
mod agreement;
mod architecture;
mod audit;
mod caching;
mod cli;
mod cluster;
mod compat_runs;
mod config;
mod corpus;
mod crash;
mod dashboards;
mod degradation;
mod edge;
mod embedding;
mod export;
mod failover;
mod feedback;
mod hedging;
mod idempotency;
mod jobs;
mod journal;
mod judge;
mod keys;
mod leaks;
mod limits;
mod limits_of_providers;
mod limits_of_time;
mod meaning;
mod outage;
mod prefix;
mod process;
mod prompts;
mod providers;
mod resume;
mod retirement;
mod rig;
mod rollout;
mod scenarios;
mod scripted;
mod sdk;
mod security;
mod semantic;
mod servers;
mod shedding;
mod sim;
mod spec;
mod splicing;
mod streaming;
mod support;
mod targets;
mod telemetry;
mod whole_answers;
