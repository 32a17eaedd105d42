//! A key: as people see it, as the request path needs it, and what it becomes by a change.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx::Row;
use sqlx::any::AnyRow;

use super::error::{KeyError, checked_name};
use super::key::random_base62;
use super::row::{self, count};
use super::{KeyHash, SecretKey, Terms, TermsChange};
use crate::audit::Event;
use crate::ids::{CallerId, TeamId};
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
    /// The team it belongs to.
    pub team: Option<TeamId>,
    /// What it may do.
    pub terms: Terms,
    /// Counts its changes, from 1.
    pub version: u64,
    /// When it was made, in milliseconds since 1970.
    pub created_at_ms: u64,
    /// From when on it is not valid.
    pub expires_at_ms: Option<u64>,
    /// Until when the secret before the last rotation is valid.
    pub previous_until_ms: Option<u64>,
    /// When it was revoked, if it was.
    pub revoked_at_ms: Option<u64>,
}

/// A key as the request path needs it, and as the snapshot keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StoredKey {
    pub(super) hash: KeyHash,
    pub(super) previous: Option<KeyHash>,
    pub(super) id: CallerId,
    pub(super) name: String,
    pub(super) priority: Priority,
    pub(super) team: Option<TeamId>,
    pub(super) terms: Terms,
    pub(super) expires_at_ms: Option<u64>,
    pub(super) previous_until_ms: Option<u64>,
    pub(super) revoked_at_ms: Option<u64>,
}

/// What a key shall be, or shall be different about one. What is not said stays, or is as usual.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyChange {
    /// Its name.
    pub name: Option<String>,
    /// Its priority.
    pub priority: Option<Priority>,
    /// Its team; `Some(None)` takes it out.
    pub team: Option<Option<TeamId>>,
    /// What it may do.
    pub terms: TermsChange,
    /// From when on it is not valid, in milliseconds since 1970; `Some(None)`: always valid.
    pub expires_at_ms: Option<Option<u64>>,
    /// Whether it is no longer valid. Revoking it again changes nothing.
    pub revoke: bool,
}

/// 12 characters of 62 tell 10^21 keys apart.
pub(super) const ID_CHARS: usize = 12;

// === impl StoredKey ===

impl StoredKey {
    /// `None` where the row is damaged, so that one such does not lock everybody out.
    pub(super) fn read(row: &AnyRow) -> Result<Option<Self>, sqlx::Error> {
        let id = CallerId::new(row.try_get::<&str, _>("id")?);
        let (Some(hash), Ok(terms)) = (row::hash(row, "hash")?, row::terms(row)) else {
            tracing::error!(key = %id, "the stored key is damaged and is not valid");
            return Ok(None);
        };
        let team: Option<String> = row.try_get("team")?;
        Ok(Some(Self {
            hash,
            previous: row::hash(row, "previous_hash")?,
            id,
            name: row.try_get("name")?,
            priority: row::priority(row)?,
            team: team.map(TeamId::new),
            terms,
            expires_at_ms: row::time(row, "expires_at_ms")?,
            previous_until_ms: row::time(row, "previous_until_ms")?,
            revoked_at_ms: row::time(row, "revoked_at_ms")?,
        }))
    }
}

// === impl KeyRecord ===

impl KeyRecord {
    pub(super) fn new(new: &KeyChange, secret: &SecretKey, now_ms: u64) -> Result<Self, KeyError> {
        let plain = Self {
            id: CallerId::new(format!("key_{}", random_base62(ID_CHARS))),
            name: String::new(),
            hint: secret.hint(),
            priority: Priority::default(),
            team: None,
            terms: Terms::default(),
            version: 0,
            created_at_ms: now_ms,
            expires_at_ms: None,
            previous_until_ms: None,
            revoked_at_ms: None,
        };
        checked_name(new.name.as_deref().unwrap_or_default())?;
        plain.changed(new, now_ms)
    }

    pub(super) fn read(row: &AnyRow) -> Result<Self, sqlx::Error> {
        let team: Option<String> = row.try_get("team")?;
        Ok(Self {
            id: CallerId::new(row.try_get::<&str, _>("id")?),
            name: row.try_get("name")?,
            hint: row.try_get("hint")?,
            priority: row::priority(row)?,
            team: team.map(TeamId::new),
            terms: row::terms(row)?,
            version: count(row.try_get("version")?),
            created_at_ms: count(row.try_get("created_at_ms")?),
            expires_at_ms: row::time(row, "expires_at_ms")?,
            previous_until_ms: row::time(row, "previous_until_ms")?,
            revoked_at_ms: row::time(row, "revoked_at_ms")?,
        })
    }

    /// What it becomes; the same where the change changes nothing.
    pub(super) fn changed(&self, change: &KeyChange, now_ms: u64) -> Result<Self, KeyError> {
        let mut new = self.clone();
        if let Some(name) = &change.name {
            new.name = checked_name(name)?.to_owned();
        }
        if let Some(priority) = change.priority {
            new.priority = priority;
        }
        if let Some(team) = &change.team {
            new.team = team.clone();
        }
        new.terms = self.terms.changed(&change.terms)?;
        if let Some(expires_at_ms) = change.expires_at_ms {
            if expires_at_ms.is_some_and(|at_ms| at_ms <= now_ms) {
                return Err(KeyError::Terms("expires_at: must be in the future".to_owned()));
            }
            new.expires_at_ms = expires_at_ms;
        }
        if change.revoke {
            new.revoked_at_ms = self.revoked_at_ms.or(Some(now_ms));
        }
        if new != *self {
            new.version += 1;
        }
        Ok(new)
    }

    /// What it is, for the audit log: no hash, and of the secret only the hint.
    fn audited(&self) -> Value {
        json!({
            "name": self.name,
            "hint": self.hint,
            "priority": self.priority,
            "team": self.team,
            "terms": self.terms,
            "version": self.version,
            "expires_at_ms": self.expires_at_ms,
            "previous_until_ms": self.previous_until_ms,
            "revoked_at_ms": self.revoked_at_ms,
        })
    }

    pub(super) fn event(&self, action: &'static str, old: Option<&Self>) -> Event {
        Event {
            action,
            resource: format!("keys/{}", self.id),
            before: old.map(Self::audited),
            after: Some(self.audited()),
        }
    }
}
