//! What OpenTelemetry's environment variables say. Whoever calls reads the environment.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue};
use rand::RngExt;
use tokio::sync::mpsc;

use crate::catalog::{BaseUrl, Origin};
use crate::telemetry::trace::{Sampler, SpanSource, Tracer};

/// How long a batch may take to be delivered, attempts and pauses together.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long spans are collected before they are sent. Shorter than the SDKs' five seconds, so that
/// a queue that holds one interval's worth can be small.
const SPAN_DELAY: Duration = Duration::from_secs(1);
/// How often metrics are sent.
const METRIC_INTERVAL: Duration = Duration::from_secs(60);

/// A tracer, and the queue of what its requests leave.
pub type Traces = (Arc<Tracer>, mpsc::Receiver<Box<dyn SpanSource>>);

/// Where traces and metrics go, and what is said with them.
#[derive(Debug, Clone, Default)]
pub struct OtlpSettings {
    /// Where traces go; `None`: nowhere.
    pub traces: Option<Destination>,
    /// Where metrics go; `None`: nowhere.
    pub metrics: Option<Destination>,
    /// Which traces are kept.
    pub sampler: Sampler,
    /// Who sends: `service.name` and the like.
    pub resource: Vec<(String, String)>,
    /// How long spans are collected before they are sent.
    pub span_delay: Duration,
    /// How often metrics are sent.
    pub metric_interval: Duration,
    /// Variables that could not be followed, in words for an operator.
    pub problems: Vec<String>,
}

/// Where one kind of message goes.
#[derive(Clone)]
pub struct Destination {
    /// The collector.
    pub origin: Origin,
    /// Its path for this kind.
    pub path: String,
    /// What every request carries.
    pub headers: HeaderMap,
    /// How long a batch may take to be delivered, attempts and pauses together.
    pub timeout: Duration,
}

/// The variables, and what was wrong with them.
struct Reader<'a> {
    get: &'a dyn Fn(&str) -> Option<String>,
    problems: Vec<String>,
}

// === impl OtlpSettings ===

impl OtlpSettings {
    /// Reads the variables; `get` gives the value of one that is set and not empty. As
    /// OpenTelemetry asks, none that is wrong stops the program.
    pub fn read(get: &dyn Fn(&str) -> Option<String>) -> Self {
        let mut reader = Reader { get, problems: Vec::new() };
        if get("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            return Self::default();
        }
        let traces = reader.destination("TRACES", "/v1/traces");
        let metrics = reader.destination("METRICS", "/v1/metrics");
        if traces.is_none() && metrics.is_none() {
            return Self { problems: reader.problems, ..Self::default() };
        }
        Self {
            traces,
            metrics,
            sampler: reader.sampler(),
            resource: reader.resource(),
            span_delay: reader.millis("OTEL_BSP_SCHEDULE_DELAY").unwrap_or(SPAN_DELAY),
            metric_interval: reader
                .millis("OTEL_METRIC_EXPORT_INTERVAL")
                .unwrap_or(METRIC_INTERVAL),
            problems: reader.problems,
        }
    }

    /// A tracer and the queue of what its requests leave, where traces are exported.
    pub fn tracer(&self) -> Option<Traces> {
        self.traces.as_ref()?;
        let (tracer, waiting) = Tracer::new(self.sampler);
        Some((Arc::new(tracer), waiting))
    }

    /// Whether anything is sent at all.
    pub fn is_on(&self) -> bool {
        self.traces.is_some() || self.metrics.is_some()
    }
}

// === impl Reader ===

impl Reader<'_> {
    /// The value of `OTEL_EXPORTER_OTLP_<signal>_<what>`, or of the one for all signals.
    fn either(&self, signal: &str, what: &str) -> Option<(String, String)> {
        let own = format!("OTEL_EXPORTER_OTLP_{signal}_{what}");
        let all = format!("OTEL_EXPORTER_OTLP_{what}");
        [own, all].into_iter().find_map(|name| Some(((self.get)(&name)?, name)))
    }

    fn destination(&mut self, signal: &str, path: &str) -> Option<Destination> {
        let exporter = (self.get)(&format!("OTEL_{signal}_EXPORTER"));
        if exporter.is_some_and(|exporter| exporter.trim() == "none") {
            return None;
        }
        let (url, name) = self.either(signal, "ENDPOINT")?;
        if let Some((protocol, name)) = self.either(signal, "PROTOCOL")
            && protocol != "http/protobuf"
        {
            self.problems.push(format!(
                "{name}: `{protocol}` is not spoken, only `http/protobuf`, mostly on port 4318; \
                 nothing is exported"
            ));
            return None;
        }
        let base = match url.parse::<BaseUrl>() {
            Ok(base) if !base.origin.sim => base,
            Ok(_) => {
                self.problems.push(format!("{name}: the scheme must be `http` or `https`"));
                return None;
            }
            Err(error) => {
                self.problems.push(format!("{name}: {error}"));
                return None;
            }
        };
        let is_own = name.contains(signal);
        let path = match &*base.path {
            "" if is_own => "/".to_owned(),
            whole if is_own => whole.to_owned(),
            front => format!("{front}{path}"),
        };
        let timeout = self.either(signal, "TIMEOUT");
        let timeout = timeout.and_then(|(_, name)| self.millis(&name)).unwrap_or(TIMEOUT);
        Some(Destination { origin: base.origin, path, headers: self.headers(signal), timeout })
    }

    fn headers(&mut self, signal: &str) -> HeaderMap {
        const AGENT: &str = concat!("tidegate/", env!("CARGO_PKG_VERSION"));
        let mut headers = HeaderMap::new();
        for (key, value) in
            self.either(signal, "HEADERS").map(|(_, name)| self.pairs(&name)).unwrap_or_default()
        {
            let pair = (HeaderName::try_from(key.as_str()), HeaderValue::try_from(value));
            if let (Ok(key), Ok(mut value)) = pair {
                value.set_sensitive(true);
                headers.insert(key, value);
            } else {
                // The value may be a key, so it is not shown.
                self.problems.push(format!("OTEL_EXPORTER_OTLP_HEADERS: `{key}` is no header"));
            }
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
        headers
    }

    fn sampler(&mut self) -> Sampler {
        let name = (self.get)("OTEL_TRACES_SAMPLER");
        let name = name.as_deref().unwrap_or("parentbased_always_on");
        let (root, parent_based) = match name.strip_prefix("parentbased_") {
            Some(root) => (root, true),
            None => (name, false),
        };
        let ratio = match root {
            "always_on" => 1.0,
            "always_off" => 0.0,
            "traceidratio" => self.ratio(),
            _ => {
                self.problems.push(format!(
                    "OTEL_TRACES_SAMPLER: `{name}` is not known; try `parentbased_traceidratio`"
                ));
                return Sampler::default();
            }
        };
        Sampler::new(ratio, parent_based)
    }

    fn ratio(&mut self) -> f64 {
        const NAME: &str = "OTEL_TRACES_SAMPLER_ARG";
        let Some(text) = (self.get)(NAME) else { return 1.0 };
        match text.parse::<f64>() {
            Ok(ratio) if (0.0..=1.0).contains(&ratio) => ratio,
            _ => {
                self.problems.push(format!("{NAME}: `{text}` is not between 0.0 and 1.0"));
                1.0
            }
        }
    }

    fn resource(&mut self) -> Vec<(String, String)> {
        let mut resource = self.pairs("OTEL_RESOURCE_ATTRIBUTES");
        if let Some(name) = (self.get)("OTEL_SERVICE_NAME") {
            resource.retain(|(key, _)| key != "service.name");
            resource.push(("service.name".to_owned(), name));
        }
        // Tells gateways apart that would else all send the same counters.
        let instance = || format!("{:032x}", rand::rng().random::<u128>());
        let defaults: [(&str, &dyn Fn() -> String); 3] = [
            ("service.name", &|| env!("CARGO_PKG_NAME").to_owned()),
            ("service.version", &|| env!("CARGO_PKG_VERSION").to_owned()),
            ("service.instance.id", &instance),
        ];
        for (key, value) in defaults {
            if !resource.iter().any(|(known, _)| known == key) {
                resource.push((key.to_owned(), value()));
            }
        }
        resource
    }

    /// `key=value,key=value`, with `%2C` for a comma within a value.
    fn pairs(&mut self, name: &str) -> Vec<(String, String)> {
        let Some(text) = (self.get)(name) else { return Vec::new() };
        let pair = |pair: &str| {
            let (key, value) = pair.split_once('=')?;
            Some((key.trim().to_owned(), percent_decoded(value.trim())?))
        };
        let pieces = text.split(',').filter(|piece| !piece.trim().is_empty());
        let pairs: Option<Vec<_>> = pieces.map(pair).collect();
        pairs.unwrap_or_else(|| {
            self.problems.push(format!("{name}: must look like `key=value,key=value`"));
            Vec::new()
        })
    }

    fn millis(&mut self, name: &str) -> Option<Duration> {
        let text = (self.get)(name)?;
        match text.parse::<u64>() {
            Ok(ms @ 1..=86_400_000) => Some(Duration::from_millis(ms)),
            _ => {
                self.problems.push(format!("{name}: `{text}` is no number of milliseconds"));
                None
            }
        }
    }
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut pieces = text.split('%');
    let mut bytes = pieces.next()?.as_bytes().to_vec();
    for piece in pieces {
        let (code, rest) = piece.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(code, 16).ok()?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(bytes).ok()
}

// === impl Destination ===

impl fmt::Debug for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Destination({}{})", self.origin, self.path)
    }
}
