//! An entry as a row, and a row as an entry: the one place that knows the columns.

use serde_json::Value;
use sqlx::Arguments;
use sqlx::any::AnyArguments;
use sqlx::error::BoxDynError;

use super::alike::Numbered;
use super::{Entry, Reuse};
use crate::store::Kind;

/// The columns that every row has of its own, in the order in which [`bind_own`] gives them.
pub(super) const OWN: [&str; 14] = [
    "id",
    "request_id",
    "started_at_ms",
    "attempts",
    "input",
    "cached_input",
    "output",
    "reasoning",
    "cost_micro_usd",
    "latency_ms",
    "first_token_ms",
    "overhead_us",
    "saved_micro_usd",
    "unit",
];

/// The columns in which many rows are the same, in the order in which [`bind_common`] gives them.
pub(super) const COMMON: [&str; 27] = [
    "caller",
    "endpoint",
    "dialect",
    "model_asked",
    "route",
    "target",
    "provider",
    "model_served",
    "streamed",
    "outcome",
    "status",
    "priority",
    "failure",
    "error_code",
    "degradation",
    "cache_write",
    "usage_estimated",
    "tags",
    "reuse",
    "waste_input",
    "waste_output",
    "waste_micro_usd",
    "waste_estimated",
    "prompt",
    "rollout",
    "arm",
    "share",
];

/// How an `INSERT` gives its rows. To give a value costs some 300 instructions, a text twice that,
/// ten times what its bytes cost; so what rows have in common is given once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// What they have in common, and then what each has of its own.
    Alike,
    /// All of each.
    Apart,
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
    let mut values = |amount: usize| {
        let value = |_| {
            count += 1;
            match kind {
                // SQLite looks numbered ones up one by one, which costs more than the writing.
                Kind::Sqlite => "?".to_owned(),
                Kind::Postgres => format!("${count}"),
            }
        };
        (0..amount).map(value).collect::<Vec<_>>().join(",")
    };
    let columns = [&OWN[..], &COMMON[..]].concat().join(",");
    let select = match shape {
        Shape::Apart => String::new(),
        Shape::Alike => {
            // As both databases call the columns of a list of rows.
            let own: Vec<_> = (1..=OWN.len()).map(|number| format!("column{number}")).collect();
            format!("SELECT {},{} FROM (", own.join(","), values(COMMON.len()))
        }
    };
    let width = shape.width();
    let rows: Vec<_> = (0..rows).map(|_| format!("({})", values(width))).collect();
    // Without `WHERE` SQLite takes what follows for a condition of a join.
    let end = if shape == Shape::Alike { ") AS own WHERE true" } else { "" };
    format!(
        "INSERT INTO requests ({columns}) {select}VALUES {}{end} ON CONFLICT (id) DO NOTHING",
        rows.join(",")
    )
}

// === impl Shape ===

impl Shape {
    /// How many values each row gives.
    fn width(self) -> usize {
        match self {
            Self::Alike => OWN.len(),
            Self::Apart => OWN.len() + COMMON.len(),
        }
    }
}

/// Gives the values of rows, of which there is at least one.
pub(super) fn bind(
    to: &mut AnyArguments,
    rows: &[Numbered<'_>],
    shape: Shape,
) -> Result<(), BoxDynError> {
    to.reserve(rows.len() * shape.width() + COMMON.len(), 0);
    if let (Shape::Alike, Some((_, entry))) = (shape, rows.first()) {
        bind_common(to, entry)?;
    }
    for (id, entry) in rows {
        bind_own(to, *id, entry)?;
        if shape == Shape::Apart {
            bind_common(to, entry)?;
        }
    }
    Ok(())
}

fn bind_own(to: &mut AnyArguments, id: i64, entry: &Entry) -> Result<(), BoxDynError> {
    to.add(id)?;
    to.add(entry.request_id.as_str())?;
    to.add(int(entry.started_at_ms))?;
    to.add(i64::from(entry.attempts))?;
    to.add(int(entry.usage.input))?;
    to.add(int(entry.usage.cached_input))?;
    to.add(int(entry.usage.output))?;
    to.add(int(entry.usage.reasoning))?;
    to.add(int(entry.cost.0))?;
    to.add(int(entry.latency.as_millis()))?;
    to.add(entry.first_token.map(|time| int(time.as_millis())))?;
    to.add(int(entry.overhead.as_micros()))?;
    to.add(int(entry.saved.0))?;
    to.add(entry.part.as_ref().and_then(|part| part.unit).map(i64::from))
}

fn bind_common(to: &mut AnyArguments, entry: &Entry) -> Result<(), BoxDynError> {
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
    to.add(entry.priority.map(|priority| i64::from(priority.level())))?;
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
    to.add(entry.prompt.as_deref())?;
    let part = entry.part.as_deref();
    to.add(part.map(|part| &*part.rollout))?;
    to.add(part.map(|part| part.arm.as_str()))?;
    to.add(part.map(|part| i64::from(u16::from(part.share))))
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
