//! What the gateway tells about itself: names of all metrics, trace contexts, and the messages in
//! which both leave by OTLP. Sending them is `control`'s.

pub mod metrics;
pub mod otlp;
pub mod trace;

pub use metrics::{GateMetrics, Metrics, TargetMetrics};
pub use trace::{Span, SpanKind, SpanSource, TraceContext, Tracer};
