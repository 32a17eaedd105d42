//! The registry's metrics as OTLP has them: cumulative since the start, GenAI names with dots.

use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint, Sum,
};
use prometheus::proto::{self, MetricFamily, MetricType};

use crate::telemetry::trace::text;

/// One metric with all its points; `None` for kinds that the registry does not hold.
pub(super) fn of(family: &MetricFamily, since: u64, now: u64) -> Option<Metric> {
    let is_genai = family.name().starts_with("gen_ai_");
    let numbers = |value: fn(&proto::Metric) -> f64| {
        let number = |metric| NumberDataPoint {
            attributes: attributes(metric, is_genai),
            start_time_unix_nano: since,
            time_unix_nano: now,
            value: Some(Value::AsDouble(value(metric))),
            ..NumberDataPoint::default()
        };
        family.get_metric().iter().map(number).collect()
    };
    let cumulative = AggregationTemporality::Cumulative.into();
    let data = match family.get_field_type() {
        MetricType::COUNTER => Data::Sum(Sum {
            data_points: numbers(|metric| metric.get_counter().get_value()),
            aggregation_temporality: cumulative,
            is_monotonic: true,
        }),
        MetricType::GAUGE => {
            Data::Gauge(Gauge { data_points: numbers(|metric| metric.get_gauge().get_value()) })
        }
        MetricType::HISTOGRAM => {
            let point = |metric| HistogramDataPoint {
                attributes: attributes(metric, is_genai),
                start_time_unix_nano: since,
                time_unix_nano: now,
                ..distribution(metric.get_histogram())
            };
            Data::Histogram(Histogram {
                data_points: family.get_metric().iter().map(point).collect(),
                aggregation_temporality: cumulative,
            })
        }
        MetricType::SUMMARY | MetricType::UNTYPED => return None,
    };
    Some(Metric {
        name: name(family.name()),
        description: family.help().to_owned(),
        unit: unit(family.name()).to_owned(),
        data: Some(data),
        ..Metric::default()
    })
}

/// Prometheus counts all that lies below a bound, OTLP what lies between two.
fn distribution(histogram: &proto::Histogram) -> HistogramDataPoint {
    let count = histogram.get_sample_count();
    let mut bounds = Vec::new();
    let mut counts = Vec::new();
    let mut below = 0;
    let finite = histogram.get_bucket().iter().filter(|bucket| bucket.upper_bound().is_finite());
    for bucket in finite {
        bounds.push(bucket.upper_bound());
        counts.push(bucket.cumulative_count().saturating_sub(below));
        below = bucket.cumulative_count();
    }
    counts.push(count.saturating_sub(below));
    HistogramDataPoint {
        // A count that was taken between two observations can be behind its buckets by one.
        count: counts.iter().sum(),
        sum: Some(histogram.get_sample_sum()),
        bucket_counts: counts,
        explicit_bounds: bounds,
        ..HistogramDataPoint::default()
    }
}

fn attributes(metric: &proto::Metric, is_genai: bool) -> Vec<KeyValue> {
    let key = |label: &str| match label {
        "provider" if is_genai => "gen_ai.provider.name".to_owned(),
        "model" if is_genai => "gen_ai.request.model".to_owned(),
        "gen_ai_token_type" => "gen_ai.token.type".to_owned(),
        "target" if is_genai => "tidegate.target".to_owned(),
        label => label.to_owned(),
    };
    let labels = metric.get_label().iter();
    labels.map(|label| text(&key(label.name()), label.value())).collect()
}

/// Names of the GenAI conventions have dots, which Prometheus does not take.
fn name(prometheus: &str) -> String {
    match prometheus {
        "gen_ai_client_token_usage" => "gen_ai.client.token.usage",
        "gen_ai_server_request_duration" => "gen_ai.server.request.duration",
        "gen_ai_server_time_to_first_token" => "gen_ai.server.time_to_first_token",
        "gen_ai_server_time_per_output_token" => "gen_ai.server.time_per_output_token",
        name => name,
    }
    .to_owned()
}

fn unit(name: &str) -> &'static str {
    if name == "gen_ai_client_token_usage" {
        "{token}"
    } else if name.ends_with("_seconds") || name.starts_with("gen_ai_server_") {
        "s"
    } else {
        ""
    }
}
