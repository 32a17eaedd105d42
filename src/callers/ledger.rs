//! Keys in the store: making, listing, changing and revoking them, and reading them back into the
//! table of the request path.

use serde::{Deserialize, Serialize};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row};

use super::key::random_base62;
use super::{Caller, Callers, KeyHash, SecretKey};
use crate::ids::CallerId;
use crate::store::{self, StoreError};
use crate::units::Priority;

/// A key as people see it: never the key itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRecord {
    /// Its public id, which is also the caller's.
    pub id: CallerId,
    /// The name the operator gave it.
    pub name: String,
    /// Its last four characters.
    pub hint: String,
    /// The best priority of its requests, and that of requests that ask for none.
    pub priority: Priority,
    /// Counts its changes, from 1.
    pub version: u64,
    /// When it was made, in milliseconds since 1970.
    pub created_at_ms: u64,
    /// When it was revoked, if it was.
    pub revoked_at_ms: Option<u64>,
}

/// A key as the request path needs it, and as the snapshot keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StoredKey {
    pub(super) hash: KeyHash,
    pub(super) id: CallerId,
    pub(super) name: String,
    pub(super) priority: Priority,
    pub(super) revoked_at_ms: Option<u64>,
}

/// What shall be different about a key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyChange {
    /// Its new name.
    pub name: Option<String>,
    /// Its new priority.
    pub priority: Option<Priority>,
    /// Whether it is no longer valid. Revoking it again changes nothing.
    pub revoke: bool,
}

/// Why a key could not be made or changed.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// No key has this id.
    #[error("no key has the id `{id}`")]
    Unknown {
        /// What was asked for.
        id: String,
    },
    /// Somebody else changed it meanwhile.
    #[error("the key was changed meanwhile: its version is {version}")]
    Changed {
        /// Its version now.
        version: u64,
    },
    /// The name is no name.
    #[error("{0}")]
    Name(&'static str),
    /// The store failed.
    #[error("the store of API keys cannot be reached: {}", .0.chain())]
    Store(#[from] StoreError),
}

/// The longest name of a key.
const MAX_NAME_CHARS: usize = 100;
/// 12 characters of 62 tell 10^21 keys apart.
const ID_CHARS: usize = 12;
/// What counts the changes of callers.
const REVISION: &str = "callers";

// === impl Callers ===

impl Callers {
    /// Makes a key. The secret is returned this once and is not kept.
    ///
    /// # Errors
    ///
    /// [`KeyError::Name`] or [`KeyError::Store`].
    pub async fn create(
        &self,
        name: &str,
        priority: Priority,
        now_ms: u64,
    ) -> Result<(KeyRecord, SecretKey), KeyError> {
        let secret = SecretKey::generate();
        let record = KeyRecord {
            id: CallerId::new(format!("key_{}", random_base62(ID_CHARS))),
            name: checked_name(name)?.to_owned(),
            hint: secret.hint(),
            priority,
            version: 1,
            created_at_ms: now_ms,
            revoked_at_ms: None,
        };
        let failed = StoreError::query("store the key");
        let kind = self.shared.store.kind();
        let mut connection = self.shared.store.writer().await?;
        let mut transaction = store::begin(&mut connection, kind).await.map_err(&failed)?;
        sqlx::query(
            "INSERT INTO keys (id, name, hash, hint, priority, version, created_at_ms)
             VALUES ($1, $2, $3, $4, $5, 1, $6)",
        )
        .bind(record.id.as_str())
        .bind(&record.name)
        .bind(secret.hash().as_bytes())
        .bind(&record.hint)
        .bind(i64::from(priority.level()))
        .bind(i64::try_from(now_ms).unwrap_or(i64::MAX))
        .execute(&mut *transaction)
        .await
        .map_err(&failed)?;
        count_change(&mut transaction).await.map_err(&failed)?;
        transaction.commit().await.map_err(&failed)?;
        self.shared.changed_here.notify_one();
        self.load_table(&mut connection).await?;
        Ok((record, secret))
    }

    /// Keys, newest first: those after the key with the id `after`, at most `limit`.
    ///
    /// # Errors
    ///
    /// [`KeyError::Unknown`] where `after` is no key; [`KeyError::Store`].
    pub async fn list(&self, after: Option<&str>, limit: u32) -> Result<Vec<KeyRecord>, KeyError> {
        let failed = StoreError::query("list the keys");
        let mut reader = self.shared.store.reader().await?;
        let place: i64 = match after {
            None => i64::MAX,
            Some(id) => sqlx::query_scalar("SELECT created_at_ms FROM keys WHERE id = $1")
                .bind(id)
                .fetch_optional(&mut *reader)
                .await
                .map_err(&failed)?
                .ok_or_else(|| KeyError::Unknown { id: id.to_owned() })?,
        };
        let rows = sqlx::query(
            "SELECT id, name, hint, priority, version, created_at_ms, revoked_at_ms FROM keys
             WHERE (created_at_ms, id) < ($1, $2) ORDER BY created_at_ms DESC, id DESC LIMIT $3",
        )
        .bind(place)
        .bind(after.unwrap_or_default())
        .bind(i64::from(limit))
        .fetch_all(&mut *reader)
        .await
        .map_err(&failed)?;
        let records = rows.iter().map(KeyRecord::read).collect::<Result<_, _>>();
        Ok(records.map_err(failed)?)
    }

    /// One key.
    ///
    /// # Errors
    ///
    /// [`KeyError::Unknown`] or [`KeyError::Store`].
    pub async fn find(&self, id: &str) -> Result<KeyRecord, KeyError> {
        let mut reader = self.shared.store.reader().await?;
        find_record(&mut reader, id).await
    }

    /// Changes a key, if it still has the version `if_version`, where that is given. The request
    /// path knows when this returns.
    ///
    /// # Errors
    ///
    /// Any [`KeyError`].
    pub async fn change(
        &self,
        id: &str,
        change: &KeyChange,
        if_version: Option<u64>,
        now_ms: u64,
    ) -> Result<KeyRecord, KeyError> {
        let failed = StoreError::query("change the key");
        let kind = self.shared.store.kind();
        let mut connection = self.shared.store.writer().await?;
        let mut transaction = store::begin(&mut connection, kind).await.map_err(&failed)?;
        let old = find_record(&mut transaction, id).await?;
        if if_version.is_some_and(|version| version != old.version) {
            return Err(KeyError::Changed { version: old.version });
        }
        let new = old.changed(change, now_ms)?;
        if new == old {
            return Ok(old);
        }
        let update = "UPDATE keys SET name = $1, priority = $2, version = $3, revoked_at_ms = $4 WHERE id = $5";
        sqlx::query(update)
            .bind(&new.name)
            .bind(i64::from(new.priority.level()))
            .bind(i64::try_from(new.version).unwrap_or(i64::MAX))
            .bind(new.revoked_at_ms.map(|ms| i64::try_from(ms).unwrap_or(i64::MAX)))
            .bind(id)
            .execute(&mut *transaction)
            .await
            .map_err(&failed)?;
        count_change(&mut transaction).await.map_err(&failed)?;
        transaction.commit().await.map_err(&failed)?;
        self.shared.changed_here.notify_one();
        self.load_table(&mut connection).await?;
        Ok(new)
    }
}

/// Reads all that the request path needs, and how many changes that has seen.
pub(super) async fn read_all(
    connection: &mut AnyConnection,
) -> Result<(i64, Vec<StoredKey>), sqlx::Error> {
    // First the count: what is changed meanwhile is read again, never missed.
    let revision = read_revision(connection).await?;
    let rows = sqlx::query("SELECT id, name, hash, priority, revoked_at_ms FROM keys")
        .fetch_all(connection)
        .await?;
    let keys = rows.iter().map(StoredKey::read).collect::<Result<Vec<_>, _>>()?;
    Ok((revision, keys.into_iter().flatten().collect()))
}

/// How many changes of callers the store has seen.
pub(super) async fn read_revision(connection: &mut AnyConnection) -> Result<i64, sqlx::Error> {
    let revision = sqlx::query_scalar("SELECT revision FROM revisions WHERE name = $1");
    Ok(revision.bind(REVISION).fetch_optional(connection).await?.unwrap_or(0))
}

/// Tells all nodes, with the transaction, that something about callers is different.
async fn count_change(connection: &mut AnyConnection) -> Result<(), sqlx::Error> {
    let count = "INSERT INTO revisions (name, revision) VALUES ($1, 1)
                 ON CONFLICT (name) DO UPDATE SET revision = revisions.revision + 1";
    sqlx::query(count).bind(REVISION).execute(connection).await.map(drop)
}

async fn find_record(connection: &mut AnyConnection, id: &str) -> Result<KeyRecord, KeyError> {
    let failed = StoreError::query("read the key");
    let row = sqlx::query(
        "SELECT id, name, hint, priority, version, created_at_ms, revoked_at_ms FROM keys
         WHERE id = $1",
    )
    .bind(id)
    .fetch_optional(connection)
    .await
    .map_err(&failed)?
    .ok_or_else(|| KeyError::Unknown { id: id.to_owned() })?;
    Ok(KeyRecord::read(&row).map_err(failed)?)
}

fn priority(row: &AnyRow) -> Result<Priority, sqlx::Error> {
    let level: i64 = row.try_get("priority")?;
    Priority::try_from(level.unsigned_abs()).map_err(|error| sqlx::Error::Decode(error.into()))
}

fn checked_name(name: &str) -> Result<&str, KeyError> {
    let name = name.trim();
    if name.is_empty() {
        return Err(KeyError::Name("the name must not be empty"));
    }
    if name.chars().count() > MAX_NAME_CHARS {
        return Err(KeyError::Name("the name must not be longer than 100 characters"));
    }
    if name.chars().any(char::is_control) {
        return Err(KeyError::Name("the name must not hold control characters"));
    }
    Ok(name)
}

// === impl StoredKey ===

impl StoredKey {
    /// `None` where the hash is damaged, so that one such row does not lock everybody out.
    fn read(row: &AnyRow) -> Result<Option<Self>, sqlx::Error> {
        let Some(hash) = KeyHash::from_bytes(row.try_get::<&[u8], _>("hash")?) else {
            return Ok(None);
        };
        let revoked_at_ms: Option<i64> = row.try_get("revoked_at_ms")?;
        Ok(Some(Self {
            hash,
            id: CallerId::new(row.try_get::<&str, _>("id")?),
            name: row.try_get("name")?,
            priority: priority(row)?,
            revoked_at_ms: revoked_at_ms.map(|ms| ms.max(0).unsigned_abs()),
        }))
    }

    /// Who calls with it.
    pub(super) fn caller(&self) -> Caller {
        let Self { id, name, priority, .. } = self;
        let (id, name) = (id.clone(), name.clone());
        Caller { id, name, priority: *priority, best_priority: *priority }
    }
}

// === impl KeyRecord ===

impl KeyRecord {
    fn read(row: &AnyRow) -> Result<Self, sqlx::Error> {
        let count = |number: i64| number.max(0).unsigned_abs();
        let revoked_at_ms: Option<i64> = row.try_get("revoked_at_ms")?;
        Ok(Self {
            id: CallerId::new(row.try_get::<&str, _>("id")?),
            name: row.try_get("name")?,
            hint: row.try_get("hint")?,
            priority: priority(row)?,
            version: count(row.try_get("version")?),
            created_at_ms: count(row.try_get("created_at_ms")?),
            revoked_at_ms: revoked_at_ms.map(count),
        })
    }

    /// What it becomes; the same where the change changes nothing.
    fn changed(&self, change: &KeyChange, now_ms: u64) -> Result<Self, KeyError> {
        let mut new = self.clone();
        if let Some(name) = &change.name {
            new.name = checked_name(name)?.to_owned();
        }
        if let Some(priority) = change.priority {
            new.priority = priority;
        }
        if change.revoke {
            new.revoked_at_ms = self.revoked_at_ms.or(Some(now_ms));
        }
        if new != *self {
            new.version += 1;
        }
        Ok(new)
    }
}
