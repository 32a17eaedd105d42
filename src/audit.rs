//! Who changed what: one row for each change that an operator makes, never changed again.
//!
//! A change of the store is recorded in the transaction that makes it, so that neither is there
//! without the other. A change of something else, such as a drained target, must work while the
//! store is away: its record waits in memory, and what no longer fits there is counted.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rand::RngExt;
use serde::Serialize;
use serde_json::Value;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row};
use tokio::sync::{Notify, Semaphore};

use crate::store::{Sql, Store, StoreError};

#[cfg(test)]
mod tests;

/// Who makes a change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Actor {
    /// The name of the admin key, `cli` where it came from a terminal, `file` or `signal` where a
    /// changed file or SIGHUP brought the change, or `gateway`.
    pub name: String,
    /// Where the request came from, where that is known.
    pub address: Option<String>,
    /// The id of the request, where there was one.
    pub request_id: Option<String>,
}

/// What was changed.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// What was done, such as `key.create`.
    pub action: &'static str,
    /// What it was done to, such as `keys/key_Ab3dE6gH9jK2`.
    pub resource: String,
    /// What it was before. Holds no secrets.
    pub before: Option<Value>,
    /// What it is now. Holds no secrets.
    pub after: Option<Value>,
}

/// A row as it is read.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AuditRecord {
    /// Its place in the log; the cursor of the page after it.
    #[serde(skip)]
    pub place: i64,
    /// When, in milliseconds since 1970.
    #[serde(skip)]
    pub at_ms: u64,
    /// Who.
    pub actor: String,
    /// From where.
    pub address: Option<String>,
    /// By which request.
    pub request_id: Option<String>,
    /// What was done.
    pub action: String,
    /// To what.
    pub resource: String,
    /// What it was before.
    pub before: Value,
    /// What it is now.
    pub after: Value,
}

/// Which rows. Fields that are not given do not restrict.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Who.
    pub actor: Option<String>,
    /// What was done.
    pub action: Option<String>,
    /// To what.
    pub resource: Option<String>,
    /// At this millisecond since 1970 or later.
    pub since_ms: Option<u64>,
    /// Before this millisecond since 1970.
    pub until_ms: Option<u64>,
}

/// The log of changes. Clones are the same log.
#[derive(Debug, Clone)]
pub struct Audit {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    store: Store,
    /// Bounded by [`MAX_WAITING`]; what is more is dropped and counted.
    waiting: Mutex<VecDeque<Waiting>>,
    dropped: AtomicU64,
    wake: Notify,
    /// One writer at a time, so that nothing is written twice.
    writing: Semaphore,
}

#[derive(Debug, Clone)]
struct Waiting {
    id: i64,
    by: Actor,
    event: Event,
}

/// Records that may wait for the store.
const MAX_WAITING: usize = 1_000;
/// How long is waited after the store did not take them.
const RETRY: Duration = Duration::from_secs(2);
/// Bits of an id below the millisecond.
const ID_BITS: u32 = 20;
/// The columns of a row.
const COLUMNS: &str = "id, actor, address, request_id, action, resource, old_value, new_value";

// === impl Actor ===

impl Actor {
    /// The program itself.
    pub fn gateway() -> Self {
        Self { name: "gateway".to_owned(), ..Self::default() }
    }
}

// === impl Audit ===

impl Audit {
    /// The log in `store`. Nothing is opened.
    pub fn new(store: Store) -> Self {
        Self {
            shared: Arc::new(Shared {
                store,
                waiting: Mutex::default(),
                dropped: AtomicU64::new(0),
                wake: Notify::new(),
                writing: Semaphore::new(1),
            }),
        }
    }

    /// Records what was changed outside the store. It is written soon, by [`Audit::run`].
    pub fn note(&self, by: &Actor, event: Event, now_ms: u64) {
        let record = Waiting { id: id_at(now_ms), by: by.clone(), event };
        let mut waiting = self.shared.waiting.lock();
        if waiting.len() == MAX_WAITING {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
            let Event { action, resource, .. } = &record.event;
            tracing::error!(
                action,
                resource,
                "a change is not in the audit log: the store is away"
            );
            return;
        }
        waiting.push_back(record);
        drop(waiting);
        self.shared.wake.notify_one();
    }

    /// Changes that are recorded nowhere, since the start.
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }

    /// Writes what waits, for ever.
    pub async fn run(self) {
        let mut is_away = false;
        loop {
            match self.flush().await {
                Ok(()) => {
                    is_away = false;
                    self.shared.wake.notified().await;
                }
                Err(error) => {
                    if !is_away {
                        tracing::error!(error = %error.chain(), "cannot write the audit log");
                    }
                    is_away = true;
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    /// Writes what waits.
    ///
    /// # Errors
    ///
    /// [`StoreError`] where the store does not take it; it goes on waiting.
    pub async fn flush(&self) -> Result<(), StoreError> {
        // The semaphore is never closed, so a permit always comes.
        let _one = self.shared.writing.acquire().await;
        loop {
            let Some(next) = self.shared.waiting.lock().front().cloned() else { return Ok(()) };
            let failed = StoreError::query("write the audit log");
            let mut writer = self.shared.store.writer().await?;
            insert(&mut writer, next.id, &next.by, &next.event).await.map_err(failed)?;
            self.shared.waiting.lock().pop_front();
        }
    }

    /// Changes, newest first: those before the one at `before`, at most `limit`.
    ///
    /// # Errors
    ///
    /// [`StoreError`] where the store cannot be read.
    pub async fn list(
        &self,
        filter: &AuditFilter,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<AuditRecord>, StoreError> {
        let mut query = Sql::new("SELECT ");
        query.push(COLUMNS).push(" FROM audit WHERE id >= ");
        query.bind(filter.since_ms.map_or(0, first_id_of));
        let ends = [filter.until_ms.map(first_id_of), before];
        for end in ends.into_iter().flatten() {
            query.push(" AND id < ").bind(end);
        }
        let names =
            [("actor", &filter.actor), ("action", &filter.action), ("resource", &filter.resource)];
        for (column, value) in names {
            if let Some(value) = value {
                query.push(" AND ").push(column).push(" = ").bind(value.clone());
            }
        }
        query.push(" ORDER BY id DESC LIMIT ").bind(i64::from(limit));
        let failed = StoreError::query("read the audit log");
        let mut reader = self.shared.store.reader().await?;
        let query = query.query().map_err(&failed)?;
        let rows = query.fetch_all(&mut *reader).await.map_err(&failed)?;
        rows.iter().map(AuditRecord::read).collect::<Result<_, _>>().map_err(failed)
    }
}

/// Records a change with the transaction that makes it.
pub(crate) async fn record(
    connection: &mut AnyConnection,
    by: &Actor,
    event: &Event,
    now_ms: u64,
) -> Result<(), sqlx::Error> {
    insert(connection, id_at(now_ms), by, event).await
}

async fn insert(
    connection: &mut AnyConnection,
    id: i64,
    by: &Actor,
    event: &Event,
) -> Result<(), sqlx::Error> {
    let text = |value: &Option<Value>| value.clone().map(|value| without_nulls(value).to_string());
    // One that is there was written before, by a statement whose answer did not come.
    sqlx::query(
        "INSERT INTO audit
         (id, actor, address, request_id, action, resource, old_value, new_value)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (id) DO NOTHING",
    )
    .bind(id)
    .bind(&by.name)
    .bind(by.address.as_deref())
    .bind(by.request_id.as_deref())
    .bind(event.action)
    .bind(&event.resource)
    .bind(text(&event.before))
    .bind(text(&event.after))
    .execute(connection)
    .await
    .map(drop)
}

/// What was said, and nothing of what could have been: a key has twenty limits, and few are set.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let said = members.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(said.map(|(name, value)| (name, without_nulls(value))).collect())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            value
        }
    }
}

fn first_id_of(unix_ms: u64) -> i64 {
    let highest = i64::MAX.unsigned_abs() >> ID_BITS;
    i64::try_from(unix_ms.min(highest)).unwrap_or(i64::MAX) << ID_BITS
}

fn id_at(unix_ms: u64) -> i64 {
    first_id_of(unix_ms) | rand::rng().random_range(0..1 << ID_BITS)
}

// === impl AuditRecord ===

impl AuditRecord {
    fn read(row: &AnyRow) -> Result<Self, sqlx::Error> {
        let json = |column| {
            let text: Option<String> = row.try_get(column)?;
            let value = text.and_then(|text| serde_json::from_str(&text).ok());
            Ok::<_, sqlx::Error>(value.unwrap_or(Value::Null))
        };
        let place: i64 = row.try_get("id")?;
        Ok(Self {
            place,
            at_ms: place.max(0).unsigned_abs() >> ID_BITS,
            actor: row.try_get("actor")?,
            address: row.try_get("address")?,
            request_id: row.try_get("request_id")?,
            action: row.try_get("action")?,
            resource: row.try_get("resource")?,
            before: json("old_value")?,
            after: json("new_value")?,
        })
    }
}
