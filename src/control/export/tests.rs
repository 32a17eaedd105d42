//! Delivery against a collector that refuses, on a paused clock.

use std::collections::VecDeque;
use std::task::{Context, Poll};

use http::HeaderMap;
use parking_lot::Mutex;

use super::*;
use crate::clock::{FixedWallClock, Instant};
use crate::failure::Failure;
use crate::telemetry::{Metrics, Span, SpanKind, TraceContext};
use crate::upstream::{SendFuture, UpstreamBody, UpstreamReply};

/// Answers with these statuses, one after the other, then with 200.
#[derive(Debug, Default)]
struct Collector {
    answers: Mutex<VecDeque<(StatusCode, Option<&'static str>)>>,
    taken: Mutex<Vec<(Instant, UpstreamRequest)>>,
}

#[derive(Debug)]
struct NoBody;

impl UpstreamBody for NoBody {
    fn poll_chunk(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, Failure>>> {
        Poll::Ready(None)
    }
}

impl Transport for Collector {
    fn send(&self, request: UpstreamRequest) -> SendFuture<'_> {
        let (status, after) = self.answers.lock().pop_front().unwrap_or((StatusCode::OK, None));
        self.taken.lock().push((Instant::now(), request));
        let mut headers = HeaderMap::new();
        if let Some(after) = after {
            headers.insert(RETRY_AFTER, after.parse().unwrap());
        }
        Box::pin(async move { Ok(UpstreamReply { status, headers, body: Box::new(NoBody) }) })
    }
}

/// Leaves one span.
#[derive(Debug)]
struct One(TraceContext);

impl SpanSource for One {
    fn spans(&self) -> Vec<Span> {
        vec![Span::new("chat m".to_owned(), SpanKind::Server, self.0, None, (1, 2))]
    }
}

fn settings() -> OtlpSettings {
    OtlpSettings::read(&|name| match name {
        "OTEL_EXPORTER_OTLP_ENDPOINT" => Some("http://collector:4318".to_owned()),
        _ => None,
    })
}

/// An exporter with `requests` in its queue, run for an hour of the paused clock and then stopped.
async fn exported(
    collector: &Arc<Collector>,
    settings: OtlpSettings,
    requests: usize,
) -> Arc<Tracer> {
    let traces = settings.tracer();
    let tracer = Arc::clone(&traces.as_ref().unwrap().0);
    for _ in 0..requests {
        tracer.record(Box::new(One(tracer.start(None))));
    }
    let metrics = Metrics::new();
    let gather = Box::new(move || metrics.gather());
    let (close, closing) = watch::channel(false);
    let (transport, wall) = (Arc::clone(collector), Arc::new(FixedWallClock(7)));
    let exporter = Exporter::new(settings, transport, wall, gather, traces);
    let stop = async {
        tokio::time::sleep(Duration::from_secs(3_600)).await;
        close.send(true).unwrap();
    };
    tokio::join!(exporter.run(closing), stop);
    tracer
}

fn of_traces(collector: &Collector) -> Vec<(Instant, Bytes)> {
    let taken = collector.taken.lock();
    let traces = taken.iter().filter(|(_, request)| request.path == "/v1/traces");
    traces.map(|(at, request)| (*at, request.body.clone())).collect()
}

#[tokio::test(start_paused = true)]
async fn a_busy_collector_is_asked_again_when_it_says() {
    let collector = Arc::new(Collector::default());
    collector.answers.lock().extend([
        (StatusCode::SERVICE_UNAVAILABLE, None),
        (StatusCode::TOO_MANY_REQUESTS, Some("4")),
    ]);
    let start = Instant::now();
    let tracer = exported(&collector, settings(), 1).await;
    let taken = of_traces(&collector);
    let times: Vec<_> = taken.iter().map(|(at, _)| at.duration_since(start)).collect();
    // One second of collecting, half a second of pause, four seconds as asked for.
    assert_eq!(times, [1_000, 1_500, 5_500].map(Duration::from_millis));
    assert!(taken.windows(2).all(|pair| pair[0].1 == pair[1].1), "the same batch each time");
    assert_eq!(tracer.dropped(), [("queue_full", 0), ("not_delivered", 0)]);
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_is_refused_for_good_is_counted_and_not_sent_again() {
    let collector = Arc::new(Collector::default());
    collector.answers.lock().extend([(StatusCode::BAD_REQUEST, None)]);
    let tracer = exported(&collector, settings(), 3).await;
    assert_eq!(of_traces(&collector).len(), 1);
    assert_eq!(tracer.dropped(), [("queue_full", 0), ("not_delivered", 3)]);
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_given_up_after_its_time() {
    let collector = Arc::new(Collector::default());
    let late = (StatusCode::SERVICE_UNAVAILABLE, Some("3600"));
    collector.answers.lock().extend([late]);
    let tracer = exported(&collector, settings(), 2).await;
    assert_eq!(of_traces(&collector).len(), 1);
    assert_eq!(tracer.dropped(), [("queue_full", 0), ("not_delivered", 2)]);
}

#[tokio::test(start_paused = true)]
async fn many_spans_leave_in_batches_and_metrics_every_minute() {
    let collector = Arc::new(Collector::default());
    exported(&collector, settings(), MAX_BATCH + 1).await;
    assert_eq!(of_traces(&collector).len(), 2);
    // Sixty minutes, of which the last one coincides with the stop, and the last export.
    let metrics = collector.taken.lock().len() - 2;
    assert!((60..=61).contains(&metrics), "{metrics}");
}
