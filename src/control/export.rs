//! Sends traces and metrics to a collector by OTLP over HTTP.
//!
//! Runs on the supervisor's thread, with connections of its own. Spans are collected for a moment
//! and sent together; while they are, others wait in a bounded queue, and what does not fit is
//! dropped and counted. Metrics are read from the registry that `/metrics` reads.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http::header::RETRY_AFTER;
use prometheus::proto::MetricFamily;
use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;

use crate::clock::WallClock;
use crate::telemetry::otlp::{self, Destination, OtlpSettings, Traces};
use crate::telemetry::{SpanSource, Tracer};
use crate::upstream::{Transport, UpstreamRequest, collect};

#[cfg(test)]
mod tests;

/// Requests whose spans are sent together.
const MAX_BATCH: usize = 512;
/// The pauses before a batch is sent again. OTLP asks for growing ones.
const PAUSES: [Duration; 3] =
    [Duration::from_millis(500), Duration::from_secs(2), Duration::from_secs(5)];
/// The longest answer of a collector that is read.
const MAX_REPLY_BYTES: usize = 64 * 1024;

/// What gives the metrics as they are now.
pub type Gather = Box<dyn Fn() -> Vec<MetricFamily> + Send + Sync>;

/// The exporter.
pub struct Exporter {
    settings: OtlpSettings,
    transport: Arc<dyn Transport>,
    wall: Arc<dyn WallClock>,
    gather: Gather,
    /// With the queue of what its requests left; `None` where traces are not exported.
    tracer: Option<Traces>,
}

/// Sends to one destination, and logs when that begins to fail and when it works again.
struct Delivery<'a> {
    transport: &'a dyn Transport,
    destination: &'a Destination,
    signal: &'static str,
    failing: bool,
}

/// Why a batch was not taken.
struct Refused {
    why: String,
    /// Whether it may be taken later, and where the collector says so, how much later.
    again: Option<Option<Duration>>,
}

// === impl Exporter ===

impl Exporter {
    /// An exporter over a transport of its own.
    pub fn new(
        settings: OtlpSettings,
        transport: Arc<dyn Transport>,
        wall: Arc<dyn WallClock>,
        gather: Gather,
        tracer: Option<Traces>,
    ) -> Self {
        Self { settings, transport, wall, gather, tracer }
    }

    /// Runs until `closing` turns true, and then sends what is left.
    pub async fn run(self, closing: watch::Receiver<bool>) {
        let Self { settings, transport, wall, gather, tracer } = self;
        let delivery = |destination, signal| Delivery {
            transport: &*transport,
            destination,
            signal,
            failing: false,
        };
        let spans = async {
            if let (Some(destination), Some((tracer, waiting))) = (&settings.traces, tracer) {
                let delivery = delivery(destination, "traces");
                export_spans(&settings, delivery, &tracer, waiting, closing.clone()).await;
            }
        };
        let metrics = async {
            if let Some(destination) = &settings.metrics {
                let delivery = delivery(destination, "metrics");
                export_metrics(&settings, delivery, &*wall, &gather, closing.clone()).await;
            }
        };
        tokio::join!(spans, metrics);
    }
}

impl fmt::Debug for Exporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exporter").field("settings", &self.settings).finish_non_exhaustive()
    }
}

async fn export_spans(
    settings: &OtlpSettings,
    mut delivery: Delivery<'_>,
    tracer: &Tracer,
    mut waiting: mpsc::Receiver<Box<dyn SpanSource>>,
    mut closing: watch::Receiver<bool>,
) {
    let mut batch = Vec::with_capacity(MAX_BATCH);
    let mut is_last = false;
    while !is_last {
        tokio::select! {
            // The queue is watched only while it is empty: whoever puts the second request into it
            // need not wake this thread.
            first = waiting.recv() => batch.extend(first),
            _ = closing.wait_for(|closing| *closing) => is_last = true,
        }
        if !is_last {
            is_last = closes_within(settings.span_delay, &mut closing).await;
        }
        loop {
            while let Some(next) =
                (batch.len() < MAX_BATCH).then(|| waiting.try_recv().ok()).flatten()
            {
                batch.push(next);
            }
            if batch.is_empty() {
                break;
            }
            let spans = batch.iter().flat_map(|ended| ended.spans()).collect();
            let body = otlp::trace_request(&settings.resource, spans);
            if !delivery.deliver(body, &mut closing).await {
                tracer.on_undelivered(batch.len());
            }
            batch.clear();
        }
    }
}

async fn export_metrics(
    settings: &OtlpSettings,
    mut delivery: Delivery<'_>,
    wall: &dyn WallClock,
    gather: &Gather,
    mut closing: watch::Receiver<bool>,
) {
    let unix_nanos = || wall.unix_ms().saturating_mul(1_000_000);
    let since = unix_nanos();
    let mut interval = tokio::time::interval(settings.metric_interval);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first tick is at once, when there is nothing to tell yet.
    interval.tick().await;
    let mut is_last = false;
    while !is_last {
        tokio::select! {
            _ = interval.tick() => {}
            _ = closing.wait_for(|closing| *closing) => is_last = true,
        }
        let body = otlp::metric_request(&settings.resource, &gather(), (since, unix_nanos()));
        // What is not taken now is in the next one: counts go on from the start.
        delivery.deliver(body, &mut closing).await;
    }
}

/// Waits, and says whether the end came meanwhile.
async fn closes_within(time: Duration, closing: &mut watch::Receiver<bool>) -> bool {
    tokio::time::timeout(time, closing.wait_for(|closing| *closing)).await.is_ok()
}

// === impl Delivery ===

impl Delivery<'_> {
    /// Sends a batch, again where that may help. Whether it was taken.
    async fn deliver(&mut self, body: Bytes, closing: &mut watch::Receiver<bool>) -> bool {
        let within = self.destination.timeout;
        let result = match tokio::time::timeout(within, self.insist(body, closing)).await {
            Ok(result) => result,
            Err(_elapsed) => Err(format!("not taken within {within:?}")),
        };
        let signal = self.signal;
        match &result {
            Ok(()) if self.failing => tracing::info!(otlp.signal = signal, "export works again"),
            Ok(()) => {}
            Err(why) if self.failing => {
                tracing::debug!(otlp.signal = signal, "export still fails: {why}");
            }
            Err(why) => {
                let to = self.destination;
                tracing::warn!(otlp.signal = signal, "export to {} fails: {why}", to.origin);
            }
        }
        self.failing = result.is_err();
        result.is_ok()
    }

    async fn insist(&self, body: Bytes, closing: &mut watch::Receiver<bool>) -> Result<(), String> {
        let mut pauses = PAUSES.into_iter();
        loop {
            let Err(Refused { why, again }) = self.send(body.clone()).await else { return Ok(()) };
            let (Some(after), Some(pause)) = (again, pauses.next()) else { return Err(why) };
            if closes_within(after.unwrap_or(pause), closing).await {
                return Err(why);
            }
        }
    }

    async fn send(&self, body: Bytes) -> Result<(), Refused> {
        let Destination { origin, path, headers, timeout } = self.destination;
        let request = UpstreamRequest {
            origin: origin.clone(),
            path: path.clone(),
            headers: headers.clone(),
            body,
            connect_timeout: *timeout,
        };
        let later = |why| Refused { why, again: Some(None) };
        let mut reply =
            self.transport.send(request).await.map_err(|failure| later(failure.to_string()))?;
        // Read to its end, so that the connection can be used again.
        let read = collect(&mut *reply.body, MAX_REPLY_BYTES).await;
        match reply.status {
            status if status.is_success() => Ok(()),
            status @ (StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT) => {
                let after = reply.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
                let after = after.and_then(|seconds| seconds.parse().ok());
                Err(Refused {
                    why: status.to_string(),
                    again: Some(after.map(Duration::from_secs)),
                })
            }
            status => {
                let text = read.unwrap_or_default();
                let said =
                    String::from_utf8_lossy(text.get(..200.min(text.len())).unwrap_or_default())
                        .into_owned();
                Err(Refused { why: format!("{status} {said:?}"), again: None })
            }
        }
    }
}
