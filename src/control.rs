//! What runs beside requests.

pub mod export;
pub mod neighbours;
pub mod peer;
pub mod tasks;
