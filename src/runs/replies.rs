//! What judges have said, and how far they agree with people.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::Row;

use super::ledger::audit_event;
use super::row::{int, json, json_text, number};
use super::{Runs, RunsError};
use crate::audit::{self, Actor};
use crate::compat::agreement::Agreement;
use crate::compat::{AskKey, Reply};
use crate::store::{self, Sql, StoreError};

/// How far a judge agrees with people.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// The judge, as `compat.judge.models` names it.
    pub judge: String,
    /// The version of what it is asked by.
    pub protocol: String,
    /// What both said of answers that people had labelled.
    pub agreement: Agreement,
    /// Labels that are left out: the judge could not say.
    #[serde(default)]
    pub failed: u64,
    /// When, in Unix milliseconds.
    pub at_ms: u64,
}

// === impl Runs ===

impl Runs {
    /// What this judge has said to these asks, by this version of the protocol.
    pub(crate) async fn replies(
        &self,
        (judge, protocol): (&str, &str),
        keys: &[AskKey],
    ) -> Result<HashMap<AskKey, Reply>, StoreError> {
        let failed = StoreError::query("read what a judge has said");
        let mut query = Sql::new("SELECT ask, reply FROM compat_replies WHERE judge = ");
        query.bind(judge.to_owned()).push(" AND protocol = ").bind(protocol.to_owned());
        query.push(" AND ask IN (");
        for (index, key) in keys.iter().enumerate() {
            query.push(if index == 0 { "" } else { ", " }).bind(key.0.clone());
        }
        query.push(")");
        let mut reader = self.shared.store.reader().await?;
        let query = query.query().map_err(&failed)?;
        let rows = query.fetch_all(&mut *reader).await.map_err(&failed)?;
        let mut replies = HashMap::new();
        for row in &rows {
            let ask: String = row.try_get("ask").map_err(&failed)?;
            let reply: String = row.try_get("reply").map_err(&failed)?;
            replies.insert(AskKey(ask), json(&reply).map_err(&failed)?);
        }
        Ok(replies)
    }

    /// Keeps what a judge has said, for which run, and whether it said otherwise in the other
    /// order. What it said before stays.
    pub(crate) async fn keep_reply(
        &self,
        (judge, protocol): (&str, &str),
        (key, reply): (&AskKey, &Reply),
        (run, contradicted): (Option<&str>, bool),
    ) -> Result<(), StoreError> {
        let failed = StoreError::query("keep what a judge has said");
        let insert = "INSERT INTO compat_replies
                      (ask, judge, protocol, reply, at_ms, run, contradicted)
                      VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (ask, judge, protocol) DO NOTHING";
        let reply = json_text(reply).map_err(&failed)?;
        let mut writer = self.shared.store.writer().await?;
        sqlx::query(insert)
            .bind(&key.0)
            .bind(judge)
            .bind(protocol)
            .bind(reply)
            .bind(int(self.now_ms()))
            .bind(run)
            .bind(i64::from(contradicted))
            .execute(&mut *writer)
            .await
            .map_err(failed)
            .map(drop)
    }

    /// How often this judge has answered for a run, and in how many of these it said otherwise in
    /// the other order.
    pub(crate) async fn sittings(
        &self,
        (judge, protocol): (&str, &str),
        run: &str,
    ) -> Result<(u64, u64), StoreError> {
        let failed = StoreError::query("count what a judge has said");
        let select = "SELECT COUNT(*) AS asked, COUNT(NULLIF(contradicted, 0)) AS disagreed
                      FROM compat_replies WHERE run = $1 AND judge = $2 AND protocol = $3";
        let mut reader = self.shared.store.reader().await?;
        let row = sqlx::query(select).bind(run).bind(judge).bind(protocol);
        let row = row.fetch_one(&mut *reader).await.map_err(&failed)?;
        let count = |column| number(&row, column).map_err(&failed);
        Ok((count("asked")?, count("disagreed")?))
    }

    /// Writes down how far a judge agrees with people, in place of what was found before.
    ///
    /// # Errors
    ///
    /// [`RunsError::Store`].
    pub async fn calibrate(&self, found: &Calibration, by: &Actor) -> Result<(), RunsError> {
        let failed = StoreError::query("write how far a judge agrees");
        let kind = self.shared.store.kind();
        let mut connection = self.shared.store.writer().await?;
        let mut transaction = store::begin(&mut connection, kind).await.map_err(&failed)?;
        sqlx::query(
            "INSERT INTO compat_calibrations (judge, protocol, found, at_ms)
             VALUES ($1, $2, $3, $4) ON CONFLICT (judge, protocol) DO UPDATE SET
             found = excluded.found, at_ms = excluded.at_ms",
        )
        .bind(&found.judge)
        .bind(&found.protocol)
        .bind(json_text(found).map_err(&failed)?)
        .bind(int(found.at_ms))
        .execute(&mut *transaction)
        .await
        .map_err(&failed)?;
        let after = json!({
            "labels": found.agreement.labels(), "agreement": found.agreement,
            "kappa": found.agreement.kappa().map(|kappa| kappa.value), "failed": found.failed,
        });
        let event =
            audit_event("compat.judge.calibrate", format!("compat/judges/{}", found.judge), after);
        audit::record(&mut transaction, by, &event, self.now_ms()).await.map_err(&failed)?;
        Ok(transaction.commit().await.map_err(failed)?)
    }

    /// How far a judge agrees with people, as far as it was tried.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn calibration(
        &self,
        judge: &str,
        protocol: &str,
    ) -> Result<Option<Calibration>, StoreError> {
        let failed = StoreError::query("read how far a judge agrees");
        let select = "SELECT found FROM compat_calibrations WHERE judge = $1 AND protocol = $2";
        let mut reader = self.shared.store.reader().await?;
        let row = sqlx::query(select).bind(judge).bind(protocol);
        let row = row.fetch_optional(&mut *reader).await.map_err(&failed)?;
        let read = |row: sqlx::any::AnyRow| json(&row.try_get::<String, _>("found")?);
        row.map(read).transpose().map_err(failed)
    }

    /// How far each judge agrees with people, by its name.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn calibrations(&self) -> Result<Vec<Calibration>, StoreError> {
        let failed = StoreError::query("read how far judges agree");
        let select = "SELECT found FROM compat_calibrations ORDER BY judge, protocol LIMIT 1000";
        let mut reader = self.shared.store.reader().await?;
        let rows = sqlx::query(select).fetch_all(&mut *reader).await.map_err(&failed)?;
        let read = |row: &sqlx::any::AnyRow| json(&row.try_get::<String, _>("found")?);
        rows.iter().map(read).collect::<Result<_, _>>().map_err(failed)
    }
}
