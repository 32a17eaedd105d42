//! What runs beside requests.

pub mod tasks;
