//! Tidegate: a multi-provider LLM gateway that decides well when providers do not.
//!
//! Layers, lowest first; a module uses only layers below its own (see ARCHITECTURE.md).

pub mod admin;
pub mod api;
pub mod audit;
pub mod cache;
pub mod callers;
pub mod catalog;
pub mod chat;
pub mod cli;
pub mod clock;
pub mod cluster;
pub mod compat;
pub mod config;
pub mod control;
pub mod dialect;
pub mod dispatch;
pub mod embed;
pub mod failure;
pub mod feedback;
pub mod fleet;
pub mod gateway;
pub mod idempotency;
pub mod ids;
pub mod jobs;
pub mod journal;
pub mod limits;
pub mod meaning;
pub mod policy;
pub mod problems;
pub mod prompt;
pub mod quota;
pub mod registry;
pub mod rehearse;
pub mod rejection;
pub mod rollout;
pub mod runs;
pub mod semantic;
pub mod sim;
pub mod store;
pub mod telemetry;
pub mod tokens;
pub mod units;
pub mod upstream;
pub mod vectors;
pub mod webhook;
