//! OTLP: where the environment says that traces and metrics go, and the messages that go there.
//!
//! # Why not the SDK
//!
//! The messages are OpenTelemetry's own, generated from its protocol. The SDK above them is left
//! out: its batch processors start a thread each or need a runtime of their own, its exporters need
//! an HTTP client beside ours, and its metric types cannot be built from counts that are already
//! kept, so that every number would be counted twice on the request path.

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::metrics::v1::{ResourceMetrics, ScopeMetrics};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans};
use prometheus::proto::MetricFamily;
use prost::Message;

use super::trace::{Span, text};

mod metrics;
mod settings;
#[cfg(test)]
mod tests;

pub use settings::{Destination, OtlpSettings, Traces};

/// The body that carries `spans`, from the resource with these attributes.
pub fn trace_request(resource: &[(String, String)], spans: Vec<Span>) -> Bytes {
    let scope_spans = ScopeSpans {
        scope: Some(scope()),
        spans: spans.into_iter().map(Span::into_proto).collect(),
        ..ScopeSpans::default()
    };
    let resource_spans = ResourceSpans {
        resource: Some(resource_of(resource)),
        scope_spans: vec![scope_spans],
        ..ResourceSpans::default()
    };
    ExportTraceServiceRequest { resource_spans: vec![resource_spans] }.encode_to_vec().into()
}

/// The body that carries `families` as they were at `now`, counted since `since`; both in
/// nanoseconds since 1970.
pub fn metric_request(
    resource: &[(String, String)],
    families: &[MetricFamily],
    (since, now): (u64, u64),
) -> Bytes {
    let scope_metrics = ScopeMetrics {
        scope: Some(scope()),
        metrics: families.iter().filter_map(|family| metrics::of(family, since, now)).collect(),
        ..ScopeMetrics::default()
    };
    let resource_metrics = ResourceMetrics {
        resource: Some(resource_of(resource)),
        scope_metrics: vec![scope_metrics],
        ..ResourceMetrics::default()
    };
    ExportMetricsServiceRequest { resource_metrics: vec![resource_metrics] }.encode_to_vec().into()
}

fn resource_of(attributes: &[(String, String)]) -> Resource {
    let attributes = attributes.iter().map(|(key, value)| text(key, value)).collect();
    Resource { attributes, ..Resource::default() }
}

fn scope() -> InstrumentationScope {
    InstrumentationScope {
        name: env!("CARGO_PKG_NAME").to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    }
}
