//! An entry as a row, and a row as an entry: the one place that knows the columns.

use serde_json::Value;
use sqlx::Arguments;
use sqlx::any::AnyArguments;
use sqlx::error::BoxDynError;

use super::{Entry, Reuse, Waste};
use crate::store::Kind;

/// The columns in the order in which [`bind`] gives them, and what those say that most rows leave as
/// they are.
pub(super) const COLUMNS: [(&str, Option<&str>); 41] = [
    ("id", None),
    ("request_id", None),
    ("started_at_ms", None),
    ("caller", None),
    ("endpoint", None),
    ("dialect", None),
    ("model_asked", None),
    ("route", None),
    ("target", None),
    ("provider", None),
    ("model_served", None),
    ("streamed", None),
    ("outcome", None),
    ("status", None),
    ("attempts", None),
    ("input", None),
    ("cached_input", None),
    ("output", None),
    ("reasoning", None),
    ("cost_micro_usd", None),
    ("latency_ms", None),
    ("first_token_ms", None),
    ("overhead_us", None),
    ("priority", None),
    ("failure", Some("NULL")),
    ("error_code", Some("NULL")),
    ("degradation", Some("0")),
    ("cache_write", Some("0")),
    ("usage_estimated", Some("0")),
    ("tags", Some("NULL")),
    ("reuse", Some("NULL")),
    ("waste_input", Some("0")),
    ("waste_output", Some("0")),
    ("waste_micro_usd", Some("0")),
    ("waste_estimated", Some("0")),
    ("saved_micro_usd", Some("0")),
    ("prompt", Some("NULL")),
    ("rollout", Some("NULL")),
    ("arm", Some("NULL")),
    ("share", Some("NULL")),
    ("unit", Some("NULL")),
];

/// Which columns a row gives. Giving one costs about 300 instructions, ten times what its byte costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// Those that most rows differ in.
    Usual,
    /// All.
    Full,
}

/// Bits of an id below the millisecond: those of the run, and those that count.
const ID_BITS: u32 = RUN_BITS + COUNT_BITS;
const RUN_BITS: u32 = 10;
const COUNT_BITS: u32 = 10;

/// Gives the ids of one run. Runs of several nodes write to one table at once: each has its own ids
/// within every millisecond, so that none needs to ask for one, and a batch that is written again,
/// because nobody knows whether it was written, has the ids that it had.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ids {
    run: i64,
    last: i64,
}

/// The smallest id of a millisecond.
pub(super) fn first_id_of(unix_ms: u64) -> i64 {
    let highest = i64::MAX.unsigned_abs() >> ID_BITS;
    i64::try_from(unix_ms.min(highest)).unwrap_or(i64::MAX) << ID_BITS
}

/// The millisecond of an id.
pub(super) fn ended_at_ms(id: i64) -> u64 {
    id.max(0).unsigned_abs() >> ID_BITS
}

// === impl Ids ===

impl Ids {
    /// Ids of a run, all of them above `last`.
    pub(super) fn new(run_id: i64, last: i64) -> Self {
        Self { run: (run_id & ((1 << RUN_BITS) - 1)) << COUNT_BITS, last }
    }

    /// The id of an entry: the millisecond in which it ended, but above the id before it. Entries
    /// arrive nearly in order, so the difference is at most the time they waited in the queue.
    pub(super) fn of(&mut self, entry: &Entry) -> i64 {
        let latency_ms = u64::try_from(entry.latency.as_millis()).unwrap_or(u64::MAX);
        let ended_at_ms = entry.started_at_ms.saturating_add(latency_ms);
        self.last = self.first_in(ended_at_ms).max(self.next());
        self.last
    }

    fn first_in(self, unix_ms: u64) -> i64 {
        first_id_of(unix_ms) | self.run
    }

    /// The smallest id of this run above the last one.
    fn next(self) -> i64 {
        let this_ms = ended_at_ms(self.last);
        let next = self.last.saturating_add(1).max(self.first_in(this_ms));
        let is_of_this_run = next >> COUNT_BITS == self.first_in(this_ms) >> COUNT_BITS;
        if is_of_this_run { next } else { self.first_in(this_ms.saturating_add(1)) }
    }
}

/// `INSERT` for `rows` rows of a shape. A row that is there was written before, see [`Ids`].
pub(super) fn insert_sql(kind: Kind, shape: Shape, rows: usize) -> String {
    let mut count = 0;
    let mut value = || {
        count += 1;
        match kind {
            // SQLite looks numbered ones up one by one, which costs more than the writing.
            Kind::Sqlite => "?".to_owned(),
            Kind::Postgres => format!("${count}"),
        }
    };
    let mut value = |usual: Option<&str>| match (shape, usual) {
        (Shape::Usual, Some(usual)) => usual.to_owned(),
        (Shape::Usual | Shape::Full, _) => value(),
    };
    let rows: Vec<_> = (0..rows)
        .map(|_| format!("({})", COLUMNS.map(|(_, usual)| value(usual)).join(",")))
        .collect();
    let (columns, rows) = (COLUMNS.map(|(name, _)| name).join(","), rows.join(","));
    format!("INSERT INTO requests ({columns}) VALUES {rows} ON CONFLICT (id) DO NOTHING")
}

// === impl Shape ===

impl Shape {
    /// The shape of an entry's row.
    pub(super) fn of(entry: &Entry) -> Self {
        let is_usual = entry.failure.is_none()
            && entry.error_code.is_none()
            && entry.degradation == 0
            && entry.usage.cache_write == 0
            && !entry.usage_estimated
            && entry.tags.is_empty()
            && entry.reuse.is_none()
            && entry.waste == Waste::default()
            && entry.saved.0 == 0
            && entry.prompt.is_none()
            && entry.part.is_none();
        if is_usual { Self::Usual } else { Self::Full }
    }

    /// How many values a row gives.
    pub(super) fn values(self) -> usize {
        let given = |(_, usual): &&(&str, Option<&str>)| self == Self::Full || usual.is_none();
        COLUMNS.iter().filter(given).count()
    }
}

/// Gives one row's values.
pub(super) fn bind(
    to: &mut AnyArguments,
    id: i64,
    entry: &Entry,
    shape: Shape,
) -> Result<(), BoxDynError> {
    to.add(id)?;
    to.add(entry.request_id.as_str())?;
    to.add(int(entry.started_at_ms))?;
    to.add(entry.caller.as_str())?;
    to.add(entry.endpoint.as_str())?;
    to.add(entry.dialect.as_str())?;
    to.add(entry.model_asked.as_ref().map(|name| name.as_str()))?;
    to.add(entry.route.as_ref().map(|name| name.as_str()))?;
    to.add(entry.target.as_ref().map(|name| name.as_str()))?;
    to.add(entry.provider.as_ref().map(|name| name.as_str()))?;
    to.add(entry.model_served.as_ref().map(|name| name.as_str()))?;
    to.add(i64::from(entry.streamed))?;
    to.add(entry.outcome.as_str())?;
    to.add(i64::from(entry.status))?;
    to.add(i64::from(entry.attempts))?;
    to.add(int(entry.usage.input))?;
    to.add(int(entry.usage.cached_input))?;
    to.add(int(entry.usage.output))?;
    to.add(int(entry.usage.reasoning))?;
    to.add(int(entry.cost.0))?;
    to.add(int(entry.latency.as_millis()))?;
    to.add(entry.first_token.map(|time| int(time.as_millis())))?;
    to.add(int(entry.overhead.as_micros()))?;
    to.add(entry.priority.map(|priority| i64::from(priority.level())))?;
    match shape {
        Shape::Usual => Ok(()),
        Shape::Full => bind_rest(to, entry),
    }
}

/// Gives what most rows leave as it is.
fn bind_rest(to: &mut AnyArguments, entry: &Entry) -> Result<(), BoxDynError> {
    to.add(entry.failure.map(|kind| kind.as_str()))?;
    to.add(entry.error_code)?;
    to.add(i64::from(entry.degradation))?;
    to.add(int(entry.usage.cache_write))?;
    to.add(i64::from(entry.usage_estimated))?;
    to.add(tags(entry))?;
    to.add(entry.reuse.map(Reuse::as_str))?;
    to.add(int(entry.waste.input))?;
    to.add(int(entry.waste.output))?;
    to.add(int(entry.waste.cost.0))?;
    to.add(i64::from(entry.waste.is_estimated))?;
    to.add(int(entry.saved.0))?;
    to.add(entry.prompt.as_deref())?;
    let part = entry.part.as_deref();
    to.add(part.map(|part| &*part.rollout))?;
    to.add(part.map(|part| part.arm.as_str()))?;
    to.add(part.map(|part| i64::from(u16::from(part.share))))?;
    to.add(part.and_then(|part| part.unit).map(i64::from))
}

/// Tags as a JSON object; nothing where there are none.
fn tags(entry: &Entry) -> Option<String> {
    if entry.tags.is_empty() {
        return None;
    }
    let object = entry.tags.iter().map(|(key, value)| (key.clone(), Value::from(value.as_str())));
    Some(Value::Object(object.collect()).to_string())
}

/// Databases count to 2^63 - 1.
pub(super) fn int(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}
