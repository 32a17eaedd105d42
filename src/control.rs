//! What runs beside requests.

pub mod export;
pub mod tasks;
