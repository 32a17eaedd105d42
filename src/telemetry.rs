//! What the gateway tells about itself: names of all metrics in one place.

pub mod metrics;

pub use metrics::{Metrics, TargetMetrics};
