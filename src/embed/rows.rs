//! Answers and the vectors they are found by, in the store: what a node loads when it starts, and
//! how nodes that share a store hear of each other's entries.
//!
//! Every node asks now and then for what has changed since it last asked. An entry that was removed
//! leaves an empty row behind until it would have expired, which tells the others.

use std::time::Duration;

use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Row as _};

use super::Embedding;
use crate::ids::{CallerId, RouteName};
use crate::store::{Kind, Store, StoreError};

/// The rows of a store. Clones are the same rows.
#[derive(Debug, Clone)]
pub struct Rows {
    store: Store,
}

/// Which entry; also its id in an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntryId(u64);

/// An answer and the vector of its question.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Which it is.
    pub id: EntryId,
    /// Where it may be found: what differs in anything but the last message is in another one.
    pub namespace: String,
    /// What made the vector, see [`Embedder::space`](super::Embedder::space).
    pub space: String,
    /// Whose request it was.
    pub caller: CallerId,
    /// Which route it came by.
    pub route: RouteName,
    /// The question.
    pub vector: Embedding,
    /// The answer, as the cache writes it.
    pub answer: Vec<u8>,
}

/// What became of an entry.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// It is there, for so long.
    Kept(Box<Entry>, Duration),
    /// It was removed.
    Removed(EntryId),
}

/// How far a node has read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    changed_at_ms: i64,
    id: i64,
}

/// Rows that are deleted at a time, so that others get their turn.
const SWEPT_AT_A_TIME: i64 = 500;
/// How long a statement may take from reading the store's clock to being seen by others.
const UNSEEN: Duration = Duration::from_secs(10);

// === impl EntryId ===

impl EntryId {
    /// An id unlike any other.
    pub fn fresh() -> Self {
        // The store's numbers have 63 bits.
        Self(rand::random::<u64>() >> 1)
    }

    /// The id of what is always the same entry; of `number` the lower 63 bits count.
    pub fn of(number: u64) -> Self {
        Self(number & (u64::MAX >> 1))
    }

    /// The number, at most 63 bits.
    pub fn number(self) -> u64 {
        self.0
    }

    fn in_store(self) -> i64 {
        self.0.cast_signed()
    }
}

// === impl Cursor ===

impl Cursor {
    /// Where to begin at the next look: a little earlier, because what began before may have been
    /// seen later. What was read twice is the same twice.
    #[must_use]
    pub fn rewound(self) -> Self {
        Self { changed_at_ms: self.changed_at_ms.saturating_sub(ms(UNSEEN)), id: 0 }
    }
}

// === impl Rows ===

impl Rows {
    /// The rows of a store.
    pub fn new(store: Store) -> Self {
        Self { store }
    }

    /// Writes an entry, to be kept for `ttl`, in place of one with its id.
    ///
    /// # Errors
    ///
    /// Where the store does not answer.
    pub async fn put(&self, entry: &Entry, ttl: Duration) -> Result<(), StoreError> {
        let sql = format!(
            "INSERT INTO semantic_entries (id, namespace, space, caller, route, vector, answer, \
             gone, changed_at_ms, expires_at_ms) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, 0, {now}, {now} + $8) \
             ON CONFLICT (id) DO UPDATE SET caller = excluded.caller, vector = excluded.vector, \
             answer = excluded.answer, gone = 0, changed_at_ms = excluded.changed_at_ms, \
             expires_at_ms = excluded.expires_at_ms",
            now = self.now()
        );
        let vector = entry.vector.values().iter().flat_map(|value| value.to_le_bytes());
        let mut connection = self.store.writer().await?;
        sqlx::query(AssertSqlSafe(sql))
            .bind(entry.id.in_store())
            .bind(entry.namespace.clone())
            .bind(entry.space.clone())
            .bind(entry.caller.as_str().to_owned())
            .bind(entry.route.as_str().to_owned())
            .bind(vector.collect::<Vec<u8>>())
            .bind(entry.answer.clone())
            .bind(ms(ttl))
            .execute(&mut *connection as &mut AnyConnection)
            .await
            .map_err(StoreError::query("write a semantic entry"))?;
        Ok(())
    }

    /// Removes these entries, a few hundred at a time, and says how many there were. Other nodes
    /// hear of it when they ask.
    ///
    /// # Errors
    ///
    /// Where the store does not answer.
    pub async fn remove(&self, ids: &[EntryId]) -> Result<u64, StoreError> {
        if ids.is_empty() {
            return Ok(0);
        }
        // No vector and no answer: 0 bytes, written without a parameter.
        let empty = match self.store.kind() {
            Kind::Sqlite => "x''",
            Kind::Postgres => "''::BYTEA",
        };
        // Numbers, which need no parameters.
        let ids: Vec<String> = ids.iter().map(|id| id.in_store().to_string()).collect();
        let sql = format!(
            "UPDATE semantic_entries SET gone = 1, vector = {empty}, answer = {empty}, \
             changed_at_ms = {} WHERE gone = 0 AND id IN ({})",
            self.now(),
            ids.join(", ")
        );
        let mut connection = self.store.writer().await?;
        let removed = sqlx::query(AssertSqlSafe(sql))
            .execute(&mut *connection as &mut AnyConnection)
            .await
            .map_err(StoreError::query("remove semantic entries"))?;
        Ok(removed.rows_affected())
    }

    /// What has changed since `after`, at most so many, the oldest first, and where to go on; from
    /// the beginning of time it is everything there is. Nothing more is there when it is empty.
    /// Rows that cannot be read are left out.
    ///
    /// # Errors
    ///
    /// Where the store does not answer.
    pub async fn changes(
        &self,
        after: Cursor,
        at_most: u32,
    ) -> Result<(Vec<Change>, Cursor), StoreError> {
        let now = self.now();
        let sql = format!(
            "SELECT id, namespace, space, caller, route, vector, answer, gone, changed_at_ms, \
             expires_at_ms - {now} AS left_ms FROM semantic_entries \
             WHERE expires_at_ms > {now} \
             AND (changed_at_ms > $1 OR (changed_at_ms = $1 AND id > $2)) \
             ORDER BY changed_at_ms, id LIMIT $3"
        );
        let failed = StoreError::query("read semantic entries");
        let mut connection = self.store.reader().await?;
        let rows = sqlx::query(AssertSqlSafe(sql))
            .bind(after.changed_at_ms)
            .bind(after.id)
            .bind(i64::from(at_most))
            .fetch_all(&mut *connection as &mut AnyConnection)
            .await
            .map_err(&failed)?;
        let (mut changes, mut cursor) = (Vec::with_capacity(rows.len()), after);
        for row in &rows {
            let (change, at) = read(row).map_err(&failed)?;
            changes.extend(change);
            cursor = at;
        }
        Ok((changes, cursor))
    }

    /// Deletes rows that have expired, some at a time, and says how many there were.
    ///
    /// # Errors
    ///
    /// Where the store does not answer.
    pub async fn sweep(&self) -> Result<u64, StoreError> {
        let sql = format!(
            "DELETE FROM semantic_entries WHERE id IN (SELECT id FROM semantic_entries \
             WHERE expires_at_ms <= {} ORDER BY expires_at_ms LIMIT $1)",
            self.now()
        );
        let mut swept = 0;
        loop {
            let mut connection = self.store.writer().await?;
            let deleted = sqlx::query(AssertSqlSafe(sql.clone()))
                .bind(SWEPT_AT_A_TIME)
                .execute(&mut *connection as &mut AnyConnection)
                .await
                .map_err(StoreError::query("sweep semantic entries"))?;
            swept += deleted.rows_affected();
            if deleted.rows_affected() < SWEPT_AT_A_TIME.unsigned_abs() {
                return Ok(swept);
            }
        }
    }

    /// The store's clock, in milliseconds since 1970; the same throughout a statement.
    fn now(&self) -> &'static str {
        match self.store.kind() {
            Kind::Sqlite => "CAST(unixepoch('subsec') * 1000 AS INTEGER)",
            Kind::Postgres => "CAST(EXTRACT(EPOCH FROM statement_timestamp()) * 1000 AS BIGINT)",
        }
    }
}

fn read(row: &AnyRow) -> Result<(Option<Change>, Cursor), sqlx::Error> {
    let (id, changed_at_ms): (i64, i64) = (row.try_get("id")?, row.try_get("changed_at_ms")?);
    let cursor = Cursor { changed_at_ms, id };
    let id = EntryId(id.cast_unsigned());
    if row.try_get::<i64, _>("gone")? != 0 {
        return Ok((Some(Change::Removed(id)), cursor));
    }
    let bytes: Vec<u8> = row.try_get("vector")?;
    let (numbers, rest) = bytes.as_chunks::<4>();
    let values = numbers.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    let vector = Embedding::towards(values).filter(|_| rest.is_empty());
    let Some(vector) = vector else { return Ok((None, cursor)) };
    let entry = Entry {
        id,
        namespace: row.try_get("namespace")?,
        space: row.try_get("space")?,
        caller: CallerId::new(row.try_get::<String, _>("caller")?),
        route: RouteName::new(row.try_get::<String, _>("route")?),
        vector,
        answer: row.try_get("answer")?,
    };
    let left_ms: i64 = row.try_get("left_ms")?;
    let left = Duration::from_millis(left_ms.max(0).unsigned_abs());
    Ok((Some(Change::Kept(Box::new(entry), left)), cursor))
}

fn ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 4).min(i64::MAX / 4)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::places::places;

    const HOUR: Duration = Duration::from_secs(3_600);

    fn entry(namespace: &str, caller: &str, number: f32) -> Entry {
        Entry {
            id: EntryId::fresh(),
            namespace: namespace.to_owned(),
            space: "test-2".to_owned(),
            caller: CallerId::new(caller),
            route: RouteName::new("faq"),
            vector: Embedding::towards(vec![1.0, number]).expect("a direction"),
            answer: b"\0an answer\xff".to_vec(),
        }
    }

    /// Everything from `cursor` on, a page of two at a time.
    async fn all(rows: &Rows, mut cursor: Cursor) -> (Vec<Change>, Cursor) {
        let mut all = Vec::new();
        loop {
            let (changes, next) = rows.changes(cursor, 2).await.expect("an answer");
            if changes.is_empty() {
                return (all, next);
            }
            all.extend(changes);
            cursor = next;
        }
    }

    fn kept(changes: &[Change]) -> Vec<EntryId> {
        let id = |change: &Change| match change {
            Change::Kept(entry, _) => Some(entry.id),
            Change::Removed(_) => None,
        };
        changes.iter().filter_map(id).collect()
    }

    #[tokio::test]
    async fn another_node_loads_what_was_written_and_hears_what_was_removed() {
        for place in places() {
            let (here, there) = (Rows::new(place.store.clone()), Rows::new(place.again()));
            let entries: Vec<Entry> = (0..5_u8)
                .map(|at| entry(["a", "b"][usize::from(at % 2)], "ann", at.into()))
                .collect();
            for entry in &entries {
                here.put(entry, HOUR).await.expect("written");
            }
            let (loaded, cursor) = all(&there, Cursor::default()).await;
            assert_eq!(loaded.len(), 5);
            for change in loaded {
                let Change::Kept(found, left) = change else { panic!("{change:?}") };
                let written = entries.iter().find(|entry| entry.id == found.id);
                let written = written.expect("one of ours");
                assert!((written.vector.cosine(&found.vector) - 1.0).abs() < 1e-6);
                assert_eq!(Entry { vector: written.vector.clone(), ..*found }, *written);
                assert!(left <= HOUR && left > HOUR / 2, "{left:?}");
            }
            assert_eq!(all(&there, cursor).await.0, []);

            let gone = [entries[1].id, entries[3].id];
            assert_eq!(here.remove(&gone).await.expect("removed"), 2);
            assert_eq!(here.remove(&gone).await.expect("removed"), 0);
            let (heard, _) = all(&there, cursor).await;
            let mut removed = vec![Change::Removed(entries[1].id), Change::Removed(entries[3].id)];
            removed.sort_by_key(|change| heard.iter().position(|other| other == change));
            assert_eq!(heard, removed);
            // Whoever looks again from a little earlier gets the same once more and no other.
            let (again, _) = all(&there, cursor.rewound()).await;
            assert_eq!(kept(&again).len(), 3);
            assert_eq!(again.len(), 5);
        }
    }

    #[tokio::test]
    async fn removing_takes_no_others() {
        for place in places() {
            let rows = Rows::new(place.store.clone());
            let entries = [entry("a", "ann", 1.0), entry("a", "bob", 2.0), entry("a", "bob", 3.0)];
            for entry in &entries {
                rows.put(entry, HOUR).await.expect("written");
            }
            let one = [entries[1].id];
            assert_eq!(rows.remove(&one).await.expect("removed"), 1);
            assert_eq!(rows.remove(&one).await.expect("removed"), 0);
            assert_eq!(rows.remove(&[]).await.expect("removed"), 0);
            let (left, _) = all(&rows, Cursor::default()).await;
            assert_eq!(kept(&left).len(), 2);
            let both = [entries[0].id, entries[2].id];
            assert_eq!(rows.remove(&both).await.expect("removed"), 2);
            assert_eq!(kept(&all(&rows, Cursor::default()).await.0), []);
        }
    }

    #[tokio::test]
    async fn what_has_expired_is_not_read_and_swept() {
        for place in places() {
            let rows = Rows::new(place.store.clone());
            rows.put(&entry("a", "ann", 1.0), Duration::ZERO).await.expect("written");
            let stays = entry("a", "ann", 2.0);
            rows.put(&stays, HOUR).await.expect("written");
            assert_eq!(kept(&all(&rows, Cursor::default()).await.0), [stays.id]);
            assert_eq!(rows.sweep().await.expect("swept"), 1);
            assert_eq!(rows.sweep().await.expect("swept"), 0);
            assert_eq!(kept(&all(&rows, Cursor::default()).await.0), [stays.id]);
        }
    }
}
