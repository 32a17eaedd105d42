//! A rollout as the store keeps it, and the part of it that nodes steer by.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::Row;
use sqlx::any::AnyRow;

use super::{Shadowing, Steered, Subject};
use crate::policy::rollout::{Phase, Rollout, Salt, Share, UnitKind};
use crate::units::MicroUsd;

/// A rollout, all of it.
#[derive(Debug, Clone)]
pub struct Record {
    /// Its id, `ro_...`.
    pub id: String,
    /// What is rolled out in place of what.
    pub subject: Subject,
    /// What the candidate says or is: what a quarantine is about.
    pub content: String,
    /// The state machine.
    pub rollout: Rollout,
    /// What a shadow stage may ask of the candidate.
    pub shadow: Option<ShadowSettings>,
    /// What shadow stages have cost.
    pub spent: MicroUsd,
    /// Whether requests are steered by it.
    pub is_live: bool,
    /// Whether it was rolled back because of harm.
    pub is_harm: bool,
    /// Who began it.
    pub created_by: String,
    /// When it began, in Unix milliseconds.
    pub created_at_ms: u64,
    /// When it was done or rolled back, in Unix milliseconds.
    pub ended_at_ms: Option<u64>,
    /// Raised by every write.
    pub(super) version: u64,
    /// The notes that are in it.
    pub(super) consumed: BTreeMap<String, Consumed>,
}

/// How much a shadow stage asks of the candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShadowSettings {
    /// The part of the units that is asked for.
    pub sample: Share,
    /// What the candidate's answers may cost on all nodes together.
    pub usd: MicroUsd,
}

/// How far the notes of a node have been taken into account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Consumed {
    pub(super) seq: u64,
    /// When, in Unix milliseconds.
    pub(super) at_ms: u64,
}

/// What nodes steer by: a rollout without its figures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Its id.
    pub id: String,
    /// `prompt` or `route`.
    pub kind: String,
    /// The prompt's id or the route's name.
    pub subject: String,
    /// The version or model that is served today.
    pub from: String,
    /// The one that may take its place.
    pub to: String,
    /// What is assigned as a whole.
    pub unit: UnitKind,
    /// Where it is: see [`phase_name`].
    pub phase: String,
    /// What the candidate serves.
    pub share: Share,
    /// Whether the candidate answers beside the control.
    pub is_shadow: bool,
    /// Whether it was rolled back because of harm.
    pub is_harm: bool,
    /// Whether requests are steered by it.
    pub is_live: bool,
    /// What a shadow stage may ask.
    pub shadow: Option<ShadowSettings>,
    /// What shadow stages have cost.
    pub spent: MicroUsd,
    /// Its revision.
    pub revision: u64,
    /// Who began it.
    pub created_by: String,
    /// When it began, in Unix milliseconds.
    pub created_at_ms: u64,
    /// When it ended, in Unix milliseconds.
    pub ended_at_ms: Option<u64>,
}

/// The name of a phase: `running`, `paused`, `done`, `rolled_back`.
pub fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Running => "running",
        Phase::Paused(_) => "paused",
        Phase::Done => "done",
        Phase::RolledBack => "rolled_back",
    }
}

/// Every column that a [`Record`] is read from.
macro_rules! record_columns {
    () => {
        "id, kind, subject, control, candidate, content, shadow, spent_micro_usd, is_live, is_harm, \
         state, consumed, version, created_by, created_at_ms, ended_at_ms"
    };
}
/// Every column that a [`Standing`] is read from.
macro_rules! standing_columns {
    () => {
        "id, kind, subject, control, candidate, unit, phase, share, is_shadow, is_harm, is_live, \
         shadow, spent_micro_usd, revision, created_by, created_at_ms, ended_at_ms"
    };
}
pub(super) use {record_columns, standing_columns};

// === impl Record ===

impl Record {
    pub(super) fn read(row: &AnyRow) -> Result<Self, sqlx::Error> {
        let text = |column| row.try_get::<String, _>(column);
        let (kind, name) = (text("kind")?, text("subject")?);
        let subject = Subject::of(&kind, &name, &text("control")?, &text("candidate")?);
        Ok(Self {
            id: text("id")?,
            subject: subject.ok_or_else(|| sqlx::Error::Decode("no subject".into()))?,
            content: text("content")?,
            rollout: json(&text("state")?)?,
            shadow: shadow(row)?,
            spent: MicroUsd(number(row, "spent_micro_usd")?),
            is_live: number(row, "is_live")? == 1,
            is_harm: number(row, "is_harm")? == 1,
            created_by: text("created_by")?,
            created_at_ms: number(row, "created_at_ms")?,
            ended_at_ms: optional(row, "ended_at_ms")?,
            version: number(row, "version")?,
            consumed: json(&text("consumed")?)?,
        })
    }

    /// Whether it is about a prompt.
    pub(super) fn is_of_prompt(&self) -> bool {
        matches!(self.subject, Subject::Prompt { .. })
    }

    /// Whether it can still be changed. One of a prompt that is done has given its labels away.
    pub(super) fn is_open(&self) -> bool {
        self.is_live && (self.is_active() || !self.is_of_prompt())
    }

    /// Whether it goes on: it is neither done nor rolled back.
    pub fn is_active(&self) -> bool {
        matches!(self.rollout.phase(), Phase::Running | Phase::Paused(_))
    }

    /// What of it an audit log says.
    pub(super) fn summary(&self) -> Value {
        serde_json::json!({
            "phase": phase_name(self.rollout.phase()),
            "percent": self.rollout.share().percent(),
            "frozen": self.rollout.is_frozen(),
            "revision": self.rollout.revision(),
        })
    }
}

// === impl Standing ===

impl Standing {
    pub(super) fn read(row: &AnyRow) -> Result<Self, sqlx::Error> {
        let text = |column| row.try_get::<String, _>(column);
        let share = u16::try_from(number(row, "share")?).ok();
        let share = share.and_then(|share| Share::try_from(share).ok());
        Ok(Self {
            id: text("id")?,
            kind: text("kind")?,
            subject: text("subject")?,
            from: text("control")?,
            to: text("candidate")?,
            unit: json(&text("unit")?)?,
            phase: text("phase")?,
            share: share.ok_or_else(|| sqlx::Error::Decode("no share".into()))?,
            is_shadow: number(row, "is_shadow")? == 1,
            is_harm: number(row, "is_harm")? == 1,
            is_live: number(row, "is_live")? == 1,
            shadow: shadow(row)?,
            spent: MicroUsd(number(row, "spent_micro_usd")?),
            revision: number(row, "revision")?,
            created_by: text("created_by")?,
            created_at_ms: number(row, "created_at_ms")?,
            ended_at_ms: optional(row, "ended_at_ms")?,
        })
    }

    /// What it is about.
    pub fn subject(&self) -> Option<Subject> {
        Subject::of(&self.kind, &self.subject, &self.from, &self.to)
    }

    /// Whether it was rolled back.
    pub fn is_rolled_back(&self) -> bool {
        self.phase == "rolled_back"
    }

    /// What requests are steered by.
    pub(super) fn steered(&self, subject: Subject) -> Steered {
        let shadow = self.shadow.filter(|_| self.is_shadow).map(|shadow| Shadowing {
            sample: shadow.sample,
            left: MicroUsd(shadow.usd.0.saturating_sub(self.spent.0)),
        });
        Steered {
            id: Arc::from(&*self.id),
            subject,
            salt: Salt::of(&self.id),
            unit: self.unit,
            share: self.share,
            shadow,
            revision: self.revision,
        }
    }
}

/// Databases count to 2^63 - 1.
pub(super) fn int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn number(row: &AnyRow, column: &str) -> Result<u64, sqlx::Error> {
    Ok(row.try_get::<i64, _>(column)?.max(0).unsigned_abs())
}

fn optional(row: &AnyRow, column: &str) -> Result<Option<u64>, sqlx::Error> {
    Ok(row.try_get::<Option<i64>, _>(column)?.map(|number| number.max(0).unsigned_abs()))
}

pub(super) fn json<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, sqlx::Error> {
    serde_json::from_str(text).map_err(|error| sqlx::Error::Decode(error.into()))
}

/// What is stored as JSON. Maps of ours have text for keys, so it cannot fail.
pub(super) fn json_text(value: &impl Serialize) -> Result<String, sqlx::Error> {
    serde_json::to_string(value).map_err(|error| sqlx::Error::Encode(error.into()))
}

fn shadow(row: &AnyRow) -> Result<Option<ShadowSettings>, sqlx::Error> {
    row.try_get::<Option<String>, _>("shadow")?.map(|text| json(&text)).transpose()
}
