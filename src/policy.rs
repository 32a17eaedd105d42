//! Decisions, as pure functions and state machines: no clock, no runtime, no I/O.
//!
//! `fleet` owns their state and is the only module that feeds them.

pub mod degrade;
pub mod limit;
pub mod midstream;
pub mod order;
pub mod quota;
pub mod shed;
