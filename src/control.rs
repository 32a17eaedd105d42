//! What runs beside requests.

pub mod export;
pub mod jobs;
pub mod neighbours;
pub mod peer;
pub mod tasks;
pub mod webhooks;
