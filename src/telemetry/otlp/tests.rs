//! What the environment says, and how the registry's metrics look in OTLP.

use std::collections::BTreeMap;
use std::time::Duration;

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::metrics::v1::{Metric, metric::Data, number_data_point};

use super::*;
use crate::chat::Usage;
use crate::telemetry::Metrics;
use crate::telemetry::trace::Sampler;

const ENDPOINT: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318/");

fn read<const N: usize>(variables: [(&str, &str); N]) -> OtlpSettings {
    let variables = BTreeMap::from(variables);
    OtlpSettings::read(&|name| variables.get(name).map(|value| (*value).to_owned()))
}

fn place(destination: Option<&Destination>) -> Option<String> {
    destination.map(|destination| format!("{}{}", destination.origin, destination.path))
}

#[test]
fn nothing_is_exported_unless_it_is_asked_for() {
    assert!(!read([]).is_on());
    assert!(!read([ENDPOINT, ("OTEL_SDK_DISABLED", "True")]).is_on());
    assert!(
        !read([ENDPOINT, ("OTEL_TRACES_EXPORTER", "none"), ("OTEL_METRICS_EXPORTER", "none")])
            .is_on()
    );
    assert!(read([]).tracer().is_none());
}

#[test]
fn one_endpoint_serves_both_signals_and_each_may_have_its_own() {
    let settings = read([ENDPOINT]);
    let traces = place(settings.traces.as_ref());
    assert_eq!(traces.as_deref(), Some("http://collector:4318/v1/traces"));
    let metrics = place(settings.metrics.as_ref());
    assert_eq!(metrics.as_deref(), Some("http://collector:4318/v1/metrics"));

    let own = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://other/in/here");
    let settings = read([ENDPOINT, own]);
    let traces = place(settings.traces.as_ref());
    assert_eq!(traces.as_deref(), Some("https://other/in/here"));
    assert!(settings.metrics.is_some());

    let settings = read([own]);
    assert!(settings.traces.is_some() && settings.metrics.is_none());
    assert!(settings.problems.is_empty(), "{:?}", settings.problems);
}

#[test]
fn headers_are_decoded_kept_secret_and_may_differ_by_signal() {
    let settings = read([
        ENDPOINT,
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-key = a%20b , x-team=red,"),
        ("OTEL_EXPORTER_OTLP_METRICS_HEADERS", "x-key=other"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "1500"),
    ]);
    let traces = settings.traces.as_ref().unwrap();
    assert_eq!(traces.headers["x-key"], "a b");
    assert_eq!(traces.headers["x-team"], "red");
    assert_eq!(traces.headers["content-type"], "application/x-protobuf");
    assert_eq!(traces.timeout, Duration::from_millis(1_500));
    assert_eq!(settings.metrics.as_ref().unwrap().headers["x-key"], "other");
    assert!(!format!("{settings:?}").contains("a b"), "a key in the log");
}

#[test]
fn the_sampler_is_read() {
    for (name, argument, expected) in [
        ("always_on", "", Sampler::new(1.0, false)),
        ("always_off", "", Sampler::new(0.0, false)),
        ("traceidratio", "0.5", Sampler::new(0.5, false)),
        ("parentbased_always_off", "", Sampler::new(0.0, true)),
        ("parentbased_traceidratio", "0.25", Sampler::new(0.25, true)),
    ] {
        let argument = ("OTEL_TRACES_SAMPLER_ARG", argument);
        let settings = match argument.1 {
            "" => read([ENDPOINT, ("OTEL_TRACES_SAMPLER", name)]),
            _ => read([ENDPOINT, ("OTEL_TRACES_SAMPLER", name), argument]),
        };
        assert_eq!(settings.sampler, expected, "{name}");
    }
    assert_eq!(read([ENDPOINT]).sampler, Sampler::new(1.0, true));
}

#[test]
fn the_resource_has_a_name_of_its_own_and_an_id() {
    let settings = read([
        ENDPOINT,
        ("OTEL_RESOURCE_ATTRIBUTES", "service.name=a,team=r%C3%B6d"),
        ("OTEL_SERVICE_NAME", "b"),
    ]);
    let resource: BTreeMap<_, _> = settings.resource.into_iter().collect();
    assert_eq!(resource["service.name"], "b");
    assert_eq!(resource["team"], "röd");
    let again: BTreeMap<_, _> = read([ENDPOINT]).resource.into_iter().collect();
    assert_eq!(again["service.name"], "tidegate");
    assert_ne!(again["service.instance.id"], resource["service.instance.id"]);
}

#[test]
fn what_is_wrong_is_said_and_stops_nothing() {
    for (name, value, problem) in [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318", "it has no scheme"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "sim://local", "the scheme must be `http` or `https`"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "only `http/protobuf`"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "no-value", "must look like"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "k=%zz", "must look like"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "a key=x", "`a key` is no header"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s", "`10s` is no number of milliseconds"),
        ("OTEL_TRACES_SAMPLER", "sometimes", "`sometimes` is not known"),
    ] {
        let mut variables = BTreeMap::from([ENDPOINT]);
        variables.insert(name, value);
        let get = |name: &str| variables.get(name).map(|value| (*value).to_owned());
        let settings = OtlpSettings::read(&get);
        let said = settings.problems.join("; ");
        assert!(said.contains(problem) && said.contains(name), "{value}: {said}");
        let stays_on =
            !matches!(name, "OTEL_EXPORTER_OTLP_ENDPOINT" | "OTEL_EXPORTER_OTLP_PROTOCOL");
        assert_eq!(settings.is_on(), stays_on, "{value}");
    }
    let settings =
        read([ENDPOINT, ("OTEL_TRACES_SAMPLER", "traceidratio"), ("OTEL_TRACES_SAMPLER_ARG", "2")]);
    assert_eq!(settings.sampler, Sampler::new(1.0, false));
    assert!(settings.problems.concat().contains("`2` is not between 0.0 and 1.0"));
}

fn exported(metrics: &Metrics) -> BTreeMap<String, Metric> {
    let body = metric_request(&[], &metrics.gather(), (1, 2));
    let request = ExportMetricsServiceRequest::decode(body).unwrap();
    let scopes = request.resource_metrics.into_iter().flat_map(|metrics| metrics.scope_metrics);
    let metrics = scopes.flat_map(|scope| scope.metrics);
    metrics.map(|metric| (metric.name.clone(), metric)).collect()
}

#[test]
fn histograms_count_between_bounds_and_counters_from_the_start() {
    let metrics = Metrics::new();
    let target = metrics.targets.of("sim", "tide-small", "sim/tide-small");
    target.used(&Usage { input: 3, output: 100, ..Usage::default() }, 42);
    target.used(&Usage { input: 5, output: 1 << 40, ..Usage::default() }, 0);
    metrics.process.connections.set(9);
    let exported = exported(&metrics);

    let tokens = &exported["gen_ai.client.token.usage"];
    assert_eq!(tokens.unit, "{token}");
    let Some(Data::Histogram(tokens)) = &tokens.data else { panic!("{tokens:?}") };
    let by_kind: BTreeMap<_, _> = tokens
        .data_points
        .iter()
        .map(|point| {
            let kind = point.attributes.iter().find(|pair| pair.key == "gen_ai.token.type");
            let Some(Value::StringValue(kind)) = kind.and_then(|kind| kind.value.clone()?.value)
            else {
                panic!("{point:?}")
            };
            (kind, point)
        })
        .collect();
    // Bounds 1, 4, 16, 64, 256, ...: 3 lies in the second place, 5 in the third.
    assert_eq!(by_kind["input"].bucket_counts[..4], [0, 1, 1, 0]);
    assert_eq!(by_kind["input"].explicit_bounds[..3], [1.0, 4.0, 16.0]);
    assert_eq!(by_kind["input"].sum, Some(8.0));
    // Beyond the last bound.
    assert_eq!(by_kind["output"].bucket_counts.last(), Some(&1));
    assert_eq!((by_kind["output"].count, by_kind["output"].start_time_unix_nano), (2, 1));

    let Some(Data::Sum(cost)) = &exported["tidegate_cost_micro_usd_total"].data else { panic!() };
    assert!(cost.is_monotonic);
    let value = |points: &[_]| -> Option<number_data_point::Value> {
        points.first().and_then(
            |point: &opentelemetry_proto::tonic::metrics::v1::NumberDataPoint| point.value,
        )
    };
    assert_eq!(value(&cost.data_points), Some(number_data_point::Value::AsDouble(42.0)));
    let Some(Data::Gauge(open)) = &exported["tidegate_connections"].data else { panic!() };
    assert_eq!(value(&open.data_points), Some(number_data_point::Value::AsDouble(9.0)));
    assert_eq!(exported["tidegate_request_seconds"].unit, "s");
}
