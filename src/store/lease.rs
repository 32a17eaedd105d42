//! Who leads: one node at a time, by a row that the leader renews.
//!
//! Nobody compares clocks. Whoever wants to lead watches the row, and takes it when it was released
//! or has not changed for [`TTL`] by his own clock. That two believe to lead at once cannot be
//! ruled out in any such scheme and need not be: every write of a leader is made on the condition
//! that the row still has its token, which is raised with each change of holder.

use std::time::Duration;

use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row};

use crate::clock::Instant;

/// The right to lead, as far as is known.
#[derive(Debug)]
pub(crate) struct Lease {
    /// The row.
    name: &'static str,
    /// No other process has this name.
    holder: String,
    /// What it was given with, while it is held.
    token: Option<u64>,
    /// When it was last renewed, or looked for.
    looked: Option<Instant>,
    /// What another holder's row said, and since when it has said so.
    seen: Option<(u64, u64, Instant)>,
}

/// A lease as it was held at some moment: the condition on which a leader writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Holding {
    name: &'static str,
    holder: String,
    token: u64,
}

/// After how long without a sign of life another one leads.
const TTL: Duration = Duration::from_secs(3);
/// How often the leader gives one, and others look.
const RENEW: Duration = Duration::from_secs(1);
// === impl Lease ===

impl Lease {
    /// The lease of this name, not held.
    pub(crate) fn new(name: &'static str, holder: String) -> Self {
        Self { name, holder, token: None, looked: None, seen: None }
    }

    /// What it was given with, while it is held.
    pub(crate) fn token(&self) -> Option<u64> {
        self.token
    }

    /// Whether it is time to renew it, or to look for it.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.looked.is_none_or(|at| now.saturating_duration_since(at) >= RENEW)
    }

    /// It turned out to be another one's.
    pub(crate) fn lose(&mut self) {
        (self.token, self.looked) = (None, None);
    }

    /// Renews it, or takes it where it is to be had. Whether it is held.
    pub(crate) async fn keep(
        &mut self,
        connection: &mut AnyConnection,
        now: Instant,
        now_ms: u64,
    ) -> Result<bool, sqlx::Error> {
        self.looked = Some(now);
        let until_ms = now_ms.saturating_add(TTL.as_millis() as u64);
        if let Some(token) = self.token {
            let renew =
                "UPDATE leases SET until_ms = $1 WHERE name = $2 AND holder = $3 AND token = $4";
            let renewed = sqlx::query(renew)
                .bind(int(until_ms))
                .bind(self.name)
                .bind(&self.holder)
                .bind(int(token))
                .execute(&mut *connection)
                .await?;
            if renewed.rows_affected() == 1 {
                return Ok(true);
            }
            self.token = None;
        }
        self.take(connection, now, until_ms).await
    }

    async fn take(
        &mut self,
        connection: &mut AnyConnection,
        now: Instant,
        until_ms: u64,
    ) -> Result<bool, sqlx::Error> {
        let insert = "INSERT INTO leases (name, holder, token, until_ms) VALUES ($1, '', 0, 0)
                      ON CONFLICT (name) DO NOTHING";
        sqlx::query(insert).bind(self.name).execute(&mut *connection).await?;
        let select =
            sqlx::query("SELECT token, until_ms FROM leases WHERE name = $1").bind(self.name);
        let row = select.fetch_one(&mut *connection).await?;
        let (token, until) = (number(&row, "token")?, row.try_get::<i64, _>("until_ms")?);
        let until = until.max(0).unsigned_abs();
        let since = match self.seen {
            Some((seen_token, seen_until, since)) if (seen_token, seen_until) == (token, until) => {
                since
            }
            Some(_) | None => {
                self.seen = Some((token, until, now));
                now
            }
        };
        if until != 0 && now.saturating_duration_since(since) < TTL {
            return Ok(false);
        }
        let take = "UPDATE leases SET holder = $1, token = $2, until_ms = $3
                    WHERE name = $4 AND token = $5 AND until_ms = $6";
        let taken = sqlx::query(take)
            .bind(&self.holder)
            .bind(int(token + 1))
            .bind(int(until_ms))
            .bind(self.name)
            .bind(int(token))
            .bind(int(until))
            .execute(connection)
            .await?;
        if taken.rows_affected() == 1 {
            (self.token, self.seen) = (Some(token + 1), None);
        }
        Ok(self.token.is_some())
    }

    /// What writes of the leader are made with, while it is held.
    pub(crate) fn hand(&self) -> Option<Holding> {
        let (name, holder) = (self.name, self.holder.clone());
        self.token.map(|token| Holding { name, holder, token })
    }

    /// Holds the row until the transaction ends. Whether it is still ours.
    pub(crate) async fn hold(&self, connection: &mut AnyConnection) -> Result<bool, sqlx::Error> {
        match self.hand() {
            Some(holding) => holding.hold(connection).await,
            None => Ok(false),
        }
    }

    /// Lets another one lead at once.
    pub(crate) async fn release(
        &mut self,
        connection: &mut AnyConnection,
    ) -> Result<(), sqlx::Error> {
        let Some(token) = self.token.take() else { return Ok(()) };
        let release =
            "UPDATE leases SET until_ms = 0 WHERE name = $1 AND holder = $2 AND token = $3";
        sqlx::query(release)
            .bind(self.name)
            .bind(&self.holder)
            .bind(int(token))
            .execute(connection)
            .await
            .map(drop)
    }
}

// === impl Holding ===

impl Holding {
    /// Holds the row until the transaction ends. Whether it is still the holder's.
    pub(crate) async fn hold(&self, connection: &mut AnyConnection) -> Result<bool, sqlx::Error> {
        let hold = "UPDATE leases SET token = token WHERE name = $1 AND holder = $2 AND token = $3";
        let held = sqlx::query(hold).bind(self.name).bind(&self.holder).bind(int(self.token));
        Ok(held.execute(connection).await?.rows_affected() == 1)
    }
}

/// Databases count to 2^63 - 1.
fn int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn number(row: &AnyRow, column: &str) -> Result<u64, sqlx::Error> {
    Ok(row.try_get::<i64, _>(column)?.max(0).unsigned_abs())
}
