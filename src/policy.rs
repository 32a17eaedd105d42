//! Decisions, as pure functions and state machines: no clock, no runtime, no I/O.
//!
//! `fleet` owns their state and is the only module that feeds them.

pub mod breaker;
pub mod degrade;
pub mod eject;
pub mod ewma;
pub mod hedge;
pub mod job;
pub mod limit;
pub mod midstream;
pub mod prefix;
pub mod quota;
pub mod rank;
pub mod retry;
pub mod rollout;
pub mod shed;
pub mod sketch;
pub mod turns;
pub mod window;
