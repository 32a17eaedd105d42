//! An entry as a row, and a row as an entry: the one place that knows the columns.

use serde_json::Value;
use sqlx::Arguments;
use sqlx::error::BoxDynError;
use sqlx::sqlite::SqliteArguments;

use super::Entry;

/// The columns in the order in which [`bind`] gives them.
pub(super) const COLUMNS: [&str; 29] = [
    "id",
    "request_id",
    "started_at_ms",
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
    "failure",
    "error_code",
    "status",
    "attempts",
    "degradation",
    "input",
    "cached_input",
    "cache_write",
    "output",
    "reasoning",
    "usage_estimated",
    "cost_micro_usd",
    "latency_ms",
    "first_token_ms",
    "overhead_us",
    "tags",
];

/// Bits of an id below the millisecond.
const ID_BITS: u32 = 20;

/// The smallest id of a millisecond.
pub(super) fn first_id_of(unix_ms: u64) -> i64 {
    let highest = i64::MAX.unsigned_abs() >> ID_BITS;
    i64::try_from(unix_ms.min(highest)).unwrap_or(i64::MAX) << ID_BITS
}

/// The millisecond of an id.
pub(super) fn ended_at_ms(id: i64) -> u64 {
    id.max(0).unsigned_abs() >> ID_BITS
}

/// The id of an entry: the millisecond in which it ended, but above the id before it. Entries
/// arrive nearly in order, so the difference is at most the time they waited in the queue.
pub(super) fn id_of(entry: &Entry, last_id: i64) -> i64 {
    let latency_ms = u64::try_from(entry.latency.as_millis()).unwrap_or(u64::MAX);
    let ended_at_ms = entry.started_at_ms.saturating_add(latency_ms);
    first_id_of(ended_at_ms).max(last_id.saturating_add(1))
}

/// `INSERT` for `rows` rows.
pub(super) fn insert_sql(rows: usize) -> String {
    let marks = format!("({})", ["?"; COLUMNS.len()].join(","));
    let values = vec![marks.as_str(); rows].join(",");
    format!("INSERT INTO requests ({}) VALUES {values}", COLUMNS.join(","))
}

/// Gives one row's values.
pub(super) fn bind(to: &mut SqliteArguments, id: i64, entry: &Entry) -> Result<(), BoxDynError> {
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
    to.add(entry.streamed)?;
    to.add(entry.outcome.as_str())?;
    to.add(entry.failure.map(|kind| kind.as_str()))?;
    to.add(entry.error_code)?;
    to.add(i64::from(entry.status))?;
    to.add(i64::from(entry.attempts))?;
    to.add(i64::from(entry.degradation))?;
    to.add(int(entry.usage.input))?;
    to.add(int(entry.usage.cached_input))?;
    to.add(int(entry.usage.cache_write))?;
    to.add(int(entry.usage.output))?;
    to.add(int(entry.usage.reasoning))?;
    to.add(entry.usage_estimated)?;
    to.add(int(entry.cost.0))?;
    to.add(int(entry.latency.as_millis()))?;
    to.add(entry.first_token.map(|time| int(time.as_millis())))?;
    to.add(int(entry.overhead.as_micros()))?;
    to.add(tags(entry))
}

/// Tags as a JSON object; nothing where there are none.
fn tags(entry: &Entry) -> Option<String> {
    if entry.tags.is_empty() {
        return None;
    }
    let object = entry.tags.iter().map(|(key, value)| (key.clone(), Value::from(value.as_str())));
    Some(Value::Object(object.collect()).to_string())
}

/// SQLite counts to 2^63 - 1.
pub(super) fn int(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}
