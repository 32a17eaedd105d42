//! Traces: who is whose parent, which are kept, and the spans that say so.
//!
//! A request is given a [`TraceContext`] when it comes in and leaves a [`SpanSource`] when it has
//! ended. Spans are written from it off the data threads, so that a request pays for a few copied
//! names and one push on a queue, and for nothing at all where traces are not exported.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use http::{HeaderName, HeaderValue};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1 as proto;
use rand::RngExt;
use tokio::sync::mpsc;

#[cfg(test)]
mod tests;

/// The header that carries a [`TraceContext`].
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Ended requests that may wait to be exported. Beyond that they are dropped and counted.
const MAX_WAITING: usize = 8_192;
/// The longest text of an attribute. Some of them are the caller's own words.
const MAX_TEXT_BYTES: usize = 512;

/// A span's place in its trace, as W3C Trace Context writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace; not 0.
    pub trace_id: u128,
    /// The span; not 0.
    pub span_id: u64,
    /// Whether the trace is kept.
    pub sampled: bool,
}

/// Which traces are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sampler {
    /// Whether a request with a `traceparent` is kept exactly where its caller keeps it.
    pub parent_based: bool,
    /// Traces are kept whose id, in its lower 63 bits, is below this.
    below: u64,
}

/// Gives out trace contexts, and takes what ended requests leave.
#[derive(Debug)]
pub struct Tracer {
    sampler: Sampler,
    /// Bounded; full means that a request leaves no span, see [`MAX_WAITING`].
    ended: mpsc::Sender<Box<dyn SpanSource>>,
    unqueued: AtomicU64,
    undelivered: AtomicU64,
}

/// What an ended request leaves, to be written as spans later and elsewhere.
pub trait SpanSource: fmt::Debug + Send {
    /// Its spans, the request's own first.
    fn spans(&self) -> Vec<Span>;
}

/// One span, complete.
#[derive(Debug, Clone, PartialEq)]
pub struct Span(proto::Span);

/// What a span's work was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpanKind {
    /// To answer a caller.
    Server,
    /// To wait for another's answer.
    Client,
}

// === impl TraceContext ===

impl TraceContext {
    /// Reads a `traceparent`. `None` where it is not one, which W3C asks to treat as none sent.
    pub fn parse(header: &HeaderValue) -> Option<Self> {
        let mut fields = header.to_str().ok()?.split('-');
        let version = hex(fields.next()?, 2)?;
        let trace_id = hex(fields.next()?, 32)?;
        let span_id = u64::try_from(hex(fields.next()?, 16)?).ok()?;
        let flags = hex(fields.next()?, 2)?;
        // Version 0 ends here; later ones may go on, and ff is none.
        let ends_well = match version {
            0 => fields.next().is_none(),
            0xff => false,
            _ => true,
        };
        let good = ends_well && trace_id != 0 && span_id != 0;
        good.then_some(Self { trace_id, span_id, sampled: flags & 1 == 1 })
    }

    /// The `traceparent` that names this span as the parent.
    pub fn header(self) -> HeaderValue {
        let Self { trace_id, span_id, sampled } = self;
        let text = format!("00-{trace_id:032x}-{span_id:016x}-{:02x}", u8::from(sampled));
        // Hex digits and dashes are always a header value.
        HeaderValue::try_from(text).unwrap_or(const { HeaderValue::from_static("") })
    }

    /// A new span below this one.
    #[must_use]
    pub fn child(self) -> Self {
        Self { span_id: rand::rng().random_range(1..=u64::MAX), ..self }
    }
}

/// Exactly `digits` lower-case hexadecimal digits.
fn hex(text: &str, digits: usize) -> Option<u128> {
    let good =
        text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if good { u128::from_str_radix(text, 16).ok() } else { None }
}

// === impl Sampler ===

impl Sampler {
    /// Keeps this share of traces, from 0.0 to 1.0, or what the parent says where `parent_based`.
    pub fn new(ratio: f64, parent_based: bool) -> Self {
        const ALL: u64 = 1 << 63;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "between 0 and 2^63 by the clamp, and a share needs no last bit"
        )]
        let below = (ratio.clamp(0.0, 1.0) * ALL as f64) as u64;
        Self { parent_based, below }
    }

    fn keeps(self, parent: Option<TraceContext>, trace_id: u128) -> bool {
        if let (true, Some(parent)) = (self.parent_based, parent) {
            return parent.sampled;
        }
        #[expect(clippy::cast_possible_truncation, reason = "the lower bits are what is meant")]
        let place = (trace_id as u64) & (u64::MAX >> 1);
        place < self.below
    }
}

impl Default for Sampler {
    /// As OpenTelemetry has it: what the parent says, and all that have none.
    fn default() -> Self {
        Self::new(1.0, true)
    }
}

// === impl Tracer ===

impl Tracer {
    /// A tracer, and the queue that somebody has to empty.
    pub fn new(sampler: Sampler) -> (Self, mpsc::Receiver<Box<dyn SpanSource>>) {
        let (ended, waiting) = mpsc::channel(MAX_WAITING);
        let (unqueued, undelivered) = (AtomicU64::new(0), AtomicU64::new(0));
        (Self { sampler, ended, unqueued, undelivered }, waiting)
    }

    /// A new span: below `parent`, or the first of a new trace.
    pub fn start(&self, parent: Option<TraceContext>) -> TraceContext {
        let trace_id = match parent {
            Some(parent) => parent.trace_id,
            None => rand::rng().random_range(1..=u128::MAX),
        };
        let sampled = self.sampler.keeps(parent, trace_id);
        TraceContext { trace_id, span_id: 0, sampled }.child()
    }

    /// Takes what an ended request leaves. Never waits.
    pub fn record(&self, ended: Box<dyn SpanSource>) {
        if self.ended.try_send(ended).is_err() {
            self.unqueued.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts requests whose spans no collector took.
    pub fn on_undelivered(&self, requests: usize) {
        self.undelivered.fetch_add(requests as u64, Ordering::Relaxed);
    }

    /// How many requests left no span, by reason.
    pub fn dropped(&self) -> [(&'static str, u64); 2] {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        [("queue_full", count(&self.unqueued)), ("not_delivered", count(&self.undelivered))]
    }
}

// === impl Span ===

impl Span {
    /// A span of `context` below the span `parent`, from and until these nanoseconds since 1970.
    pub fn new(
        name: String,
        kind: SpanKind,
        context: TraceContext,
        parent: Option<u64>,
        (from, until): (u64, u64),
    ) -> Self {
        let kind = match kind {
            SpanKind::Server => proto::span::SpanKind::Server,
            SpanKind::Client => proto::span::SpanKind::Client,
        };
        Self(proto::Span {
            trace_id: context.trace_id.to_be_bytes().into(),
            span_id: context.span_id.to_be_bytes().into(),
            parent_span_id: parent.map(|id| id.to_be_bytes().into()).unwrap_or_default(),
            flags: u32::from(context.sampled),
            name: bounded(name),
            kind: kind.into(),
            start_time_unix_nano: from,
            end_time_unix_nano: until,
            ..proto::Span::default()
        })
    }

    /// Adds a text.
    pub fn text(&mut self, key: &str, value: impl Into<String>) {
        self.0.attributes.push(text(key, bounded(value.into())));
    }

    /// Adds a list of one text.
    pub fn list_of(&mut self, key: &str, value: impl Into<String>) {
        let values = vec![any(Value::StringValue(bounded(value.into())))];
        self.0.attributes.push(attribute(key, Value::ArrayValue(ArrayValue { values })));
    }

    /// Adds a whole number.
    pub fn int(&mut self, key: &str, value: u64) {
        let value = i64::try_from(value).unwrap_or(i64::MAX);
        self.0.attributes.push(attribute(key, Value::IntValue(value)));
    }

    /// Adds a yes or no.
    pub fn flag(&mut self, key: &str, value: bool) {
        self.0.attributes.push(attribute(key, Value::BoolValue(value)));
    }

    /// Marks it as failed. There is no message: providers' messages can quote a prompt.
    pub fn fail(&mut self) {
        let code = proto::status::StatusCode::Error.into();
        self.0.status = Some(proto::Status { code, message: String::new() });
    }

    /// As OTLP has it.
    pub(super) fn into_proto(self) -> proto::Span {
        self.0
    }
}

/// An attribute that is a text.
pub(super) fn text(key: &str, value: impl Into<String>) -> KeyValue {
    attribute(key, Value::StringValue(value.into()))
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(any(value)), ..KeyValue::default() }
}

fn any(value: Value) -> AnyValue {
    AnyValue { value: Some(value) }
}

fn bounded(mut text: String) -> String {
    if text.len() > MAX_TEXT_BYTES {
        let end = (0..=MAX_TEXT_BYTES).rev().find(|at| text.is_char_boundary(*at));
        text.truncate(end.unwrap_or(0));
    }
    text
}
