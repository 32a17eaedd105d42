//! Receivers of webhooks: one for each caller and URL.

use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Row};

use super::{Addressee, Delivery, Then, time};
use crate::ids::CallerId;
use crate::jobs::Jobs;
use crate::jobs::SubmitError;
use crate::jobs::queue::now_ms;
use crate::jobs::record::maybe_time;
use crate::store::{Kind, StoreError};
use crate::webhook::signature::SigningSecret;

/// A receiver, without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredReceiver {
    /// Its id.
    pub id: String,
    /// Whose jobs it hears of.
    pub caller: CallerId,
    /// Where it is.
    pub url: String,
    /// When it was first named.
    pub created_at_ms: u64,
    /// Since when nothing could be delivered.
    pub failing_since_ms: Option<u64>,
    /// When it was switched off, and why: `gone` (it answered 410) or `failing`.
    pub disabled: Option<(u64, String)>,
}

/// Receivers that a caller may have.
const MAX_RECEIVERS: u32 = 100;
/// How long webhooks are signed with the old secret, too: a day.
const OVERLAP_MS: i64 = 86_400_000;

/// The receiver of this URL, its secret changed where another one is given.
pub(super) async fn known(
    connection: &mut AnyConnection,
    caller: &CallerId,
    url: &str,
    secret: Option<&SigningSecret>,
    unix_ms: u64,
) -> Result<Option<String>, sqlx::Error> {
    let row =
        sqlx::query("SELECT id, secret FROM webhook_receivers WHERE caller = $1 AND url = $2")
            .bind(caller.as_str())
            .bind(url)
            .fetch_optional(&mut *connection)
            .await?;
    let Some(row) = row else { return Ok(None) };
    let id: String = row.try_get("id")?;
    let known: &str = row.try_get("secret")?;
    if let Some(secret) = secret.filter(|secret| secret.reveal() != known) {
        sqlx::query(
            "UPDATE webhook_receivers SET old_secret = secret, old_until_ms = $1, secret = $2
             WHERE id = $3",
        )
        .bind(millis(unix_ms) + OVERLAP_MS)
        .bind(secret.reveal())
        .bind(&id)
        .execute(connection)
        .await?;
    }
    Ok(Some(id))
}

/// Whether the caller may have another receiver.
pub(super) async fn check_count(
    connection: &mut AnyConnection,
    caller: &CallerId,
) -> Result<(), SubmitError> {
    let count: i64 = sqlx::query_scalar("SELECT count(*) FROM webhook_receivers WHERE caller = $1")
        .bind(caller.as_str())
        .fetch_one(connection)
        .await
        .map_err(StoreError::query("count the receivers of a caller"))?;
    if count >= i64::from(MAX_RECEIVERS) {
        return Err(SubmitError::TooManyReceivers { limit: MAX_RECEIVERS });
    }
    Ok(())
}

/// Makes a receiver. `false` where there is one already.
pub(super) async fn insert(
    connection: &mut AnyConnection,
    id: &str,
    caller: &CallerId,
    url: &str,
    secret: &SigningSecret,
    unix_ms: u64,
) -> Result<bool, sqlx::Error> {
    let insert = sqlx::query(
        "INSERT INTO webhook_receivers (id, caller, url, secret, created_at_ms)
         VALUES ($1, $2, $3, $4, $5) ON CONFLICT (caller, url) DO NOTHING",
    );
    let insert = insert.bind(id).bind(caller.as_str()).bind(url).bind(secret.reveal());
    Ok(insert.bind(millis(unix_ms)).execute(connection).await?.rows_affected() > 0)
}

/// Where webhooks to a receiver go now; `None` where it is switched off.
pub(super) async fn addressee(
    connection: &mut AnyConnection,
    kind: Kind,
    id: &str,
) -> Result<Option<Addressee>, sqlx::Error> {
    let sql = format!(
        "SELECT url, secret, CASE WHEN old_until_ms > {} THEN old_secret END AS old_secret
         FROM webhook_receivers WHERE id = $1 AND disabled_at_ms IS NULL",
        now_ms(kind)
    );
    let row = sqlx::query(AssertSqlSafe(sql)).bind(id).fetch_optional(connection).await?;
    let read = |row: AnyRow| {
        let (new, old): (String, Option<String>) =
            (row.try_get("secret")?, row.try_get("old_secret")?);
        let secrets = [Some(new), old].into_iter().flatten();
        let secrets = secrets.filter_map(|secret| SigningSecret::parse(&secret).ok()).collect();
        Ok(Addressee { url: row.try_get("url")?, secrets })
    };
    row.map(read).transpose()
}

/// Notes how a receiver fares: that it takes webhooks again, that it fails and for how long, that
/// it wants none, that nothing shall be sent to it for a while.
pub(super) async fn note(
    connection: &mut AnyConnection,
    kind: Kind,
    id: &str,
    then: Then,
    disable_after_ms: u64,
) -> Result<(), sqlx::Error> {
    let now = now_ms(kind);
    let (set, and) = match then {
        Then::Delivered => ("failing_since_ms = NULL".to_owned(), "failing_since_ms IS NOT NULL"),
        Then::Gone => {
            (format!("disabled_why = 'gone', disabled_at_ms = {now}"), "disabled_at_ms IS NULL")
        }
        Then::Again { .. } | Then::GiveUp => {
            (format!("failing_since_ms = {now}"), "failing_since_ms IS NULL")
        }
    };
    let sql = format!("UPDATE webhook_receivers SET {set} WHERE id = $1 AND {and}");
    sqlx::query(AssertSqlSafe(sql)).bind(id).execute(&mut *connection).await?;
    if matches!(then, Then::Again { .. } | Then::GiveUp) {
        let sql = format!(
            "UPDATE webhook_receivers SET disabled_why = 'failing', disabled_at_ms = {now}
             WHERE id = $1 AND disabled_at_ms IS NULL AND failing_since_ms < {now} - $2"
        );
        let disable = sqlx::query(AssertSqlSafe(sql)).bind(id).bind(millis(disable_after_ms));
        disable.execute(&mut *connection).await?;
    }
    if let Then::Again { throttle_ms: Some(pause), .. } = then {
        let sql = format!(
            "UPDATE webhook_deliveries SET run_after_ms = {now} + $1
             WHERE lane = $2 AND state = 'queued' AND run_after_ms < {now} + $1"
        );
        let pause = sqlx::query(AssertSqlSafe(sql)).bind(millis(pause)).bind(id);
        pause.execute(connection).await?;
    }
    Ok(())
}

// === impl Jobs ===

impl Jobs {
    /// All receivers, newest first: those after the one with the id `before`, at most `limit`.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn receivers(
        &self,
        before: Option<&str>,
        limit: u32,
    ) -> Result<Vec<StoredReceiver>, StoreError> {
        let failed = StoreError::query("list the receivers of webhooks");
        let mut connection = self.shared.store.reader().await?;
        let rows =
            sqlx::query("SELECT * FROM webhook_receivers WHERE id < $1 ORDER BY id DESC LIMIT $2")
                .bind(before.unwrap_or("~"))
                .bind(i64::from(limit))
                .fetch_all(&mut *connection)
                .await
                .map_err(&failed)?;
        rows.iter().map(StoredReceiver::read).collect::<Result<_, _>>().map_err(failed)
    }

    /// One receiver.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn receiver(&self, id: &str) -> Result<Option<StoredReceiver>, StoreError> {
        let failed = StoreError::query("read a receiver of webhooks");
        let mut connection = self.shared.store.reader().await?;
        let row = sqlx::query("SELECT * FROM webhook_receivers WHERE id = $1").bind(id);
        let row = row.fetch_optional(&mut *connection).await.map_err(&failed)?;
        row.map(|row| StoredReceiver::read(&row)).transpose().map_err(failed)
    }

    /// Switches a receiver on again, or off. What is due while it is off is given up, and can be
    /// redelivered.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn switch_receiver(
        &self,
        id: &str,
        on: bool,
    ) -> Result<Option<StoredReceiver>, StoreError> {
        let set = if on {
            "disabled_why = NULL, disabled_at_ms = NULL, failing_since_ms = NULL".to_owned()
        } else {
            let now = now_ms(self.shared.store.kind());
            format!("disabled_why = 'operator', disabled_at_ms = COALESCE(disabled_at_ms, {now})")
        };
        let sql = format!("UPDATE webhook_receivers SET {set} WHERE id = $1 RETURNING *");
        let failed = StoreError::query("switch a receiver of webhooks");
        let mut connection = self.shared.store.writer().await?;
        let row = sqlx::query(AssertSqlSafe(sql)).bind(id).fetch_optional(&mut *connection).await;
        let row = row.map_err(&failed)?;
        row.map(|row| StoredReceiver::read(&row)).transpose().map_err(failed)
    }

    /// Webhooks to a receiver, newest first: those after the one with the id `before`, at most
    /// `limit`.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn deliveries(
        &self,
        receiver: &str,
        before: Option<&str>,
        limit: u32,
    ) -> Result<Vec<Delivery>, StoreError> {
        let failed = StoreError::query("list webhooks");
        let mut connection = self.shared.store.reader().await?;
        let rows = sqlx::query(
            "SELECT * FROM webhook_deliveries WHERE lane = $1 AND id < $2 ORDER BY id DESC LIMIT $3",
        )
        .bind(receiver)
        .bind(before.unwrap_or("~"))
        .bind(i64::from(limit))
        .fetch_all(&mut *connection)
        .await
        .map_err(&failed)?;
        rows.iter().map(Delivery::read).collect::<Result<_, _>>().map_err(failed)
    }
}

// === impl StoredReceiver ===

impl StoredReceiver {
    fn read(row: &AnyRow) -> Result<Self, sqlx::Error> {
        let why: Option<String> = row.try_get("disabled_why")?;
        let disabled_at = maybe_time(row, "disabled_at_ms")?;
        Ok(Self {
            id: row.try_get("id")?,
            caller: CallerId::new(row.try_get::<&str, _>("caller")?),
            url: row.try_get("url")?,
            created_at_ms: time(row, "created_at_ms")?,
            failing_since_ms: maybe_time(row, "failing_since_ms")?,
            disabled: disabled_at.map(|at| (at, why.unwrap_or_default())),
        })
    }
}

fn millis(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX / 4)
}
