//! Rollouts in the store: beginning, listing, finding and changing them.
//!
//! Every write of a rollout names the version that was read and raises it. Who writes second, an
//! operator or the leader of the analysis, on this node or another, writes nothing, reads again and
//! decides again: nothing is decided on what is not so any more, and nothing twice.

use std::collections::BTreeMap;

use rand::distr::{Alphanumeric, SampleString};
use serde_json::{Value, json};
use sqlx::{AnyConnection, Row};

use super::error::RolloutError;
use super::record::{Record, ShadowSettings, Standing, int, phase_name, standing_columns};
use super::rows::{check_quarantine, count_change, insert, read, read_standing, settle, write};
use super::{RolloutLedger, Subject};
use crate::audit::{self, Actor};
use crate::policy::rollout::{
    Action, Bound, Decision, Event, Phase, Plan, Refusal, Rollout, Share, Verdict,
};
use crate::store::{self, StoreError};
use crate::units::MicroUsd;

/// How often a command is tried that others come before.
const TRIES: u32 = 8;

/// A rollout to begin.
#[derive(Debug, Clone)]
pub struct NewRollout {
    /// What is rolled out in place of what.
    pub subject: Subject,
    /// What the candidate says or is.
    pub content: String,
    /// How it is to go.
    pub plan: Plan,
    /// What shadow stages may ask.
    pub shadow: Option<ShadowSettings>,
    /// Whether quarantine, freezes and rollouts about the same requests are ignored.
    pub force: bool,
    /// The rollout that was rolled back and is tried again.
    pub after: Option<String>,
}

/// What an operator wants of a rollout.
#[derive(Debug, Clone)]
pub struct Command {
    /// What.
    pub event: Event,
    /// Only if it still has this revision.
    pub if_revision: Option<u64>,
    /// Why, in the operator's words.
    pub reason: Option<String>,
}

/// A decision as the store has it.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredDecision {
    /// Who decided: `gateway` where the analysis did.
    pub actor: String,
    /// What, and all that led to it.
    pub decision: Decision,
}

/// A freeze as refusals name it: until when, and why.
pub type FreezeWindow = (String, String);

// === impl RolloutLedger ===

impl RolloutLedger {
    /// Begins a rollout. This node steers by it when this returns. `meets` says of another one
    /// whether it may be about the same requests.
    ///
    /// # Errors
    ///
    /// [`RolloutError`] where something stands against it, or the store fails.
    pub async fn begin(
        &self,
        new: NewRollout,
        freeze: Option<FreezeWindow>,
        by: &Actor,
        meets: impl Fn(&Subject) -> bool,
    ) -> Result<Record, RolloutError> {
        let now_ms = self.shared.clock.unix_ms();
        if let Some((until, why)) = freeze.filter(|_| !new.force) {
            return Err(RolloutError::FreezeWindow { until, why });
        }
        let id = new_id();
        let plan = Plan { ungated: new.force, ..new.plan };
        let bound = self.bound(&new.subject, &plan).await?;
        let (mut rollout, _) = Rollout::begin(&id, plan, now_ms)?;
        if bound.forbids(rollout.share()) {
            return Err(RolloutError::Incompatible { why: bound.why });
        }
        rollout.on(Event::Bounded(bound), now_ms);
        let record = Record {
            id,
            subject: new.subject,
            content: new.content,
            rollout,
            shadow: new.shadow,
            spent: MicroUsd(0),
            is_live: true,
            is_harm: false,
            created_by: by.name.clone(),
            created_at_ms: now_ms,
            ended_at_ms: None,
            version: 1,
            consumed: BTreeMap::new(),
        };
        let failed = StoreError::query("begin the rollout");
        let kind = self.shared.store.kind();
        let mut connection = self.shared.store.writer().await?;
        let mut transaction = store::begin(&mut connection, kind).await.map_err(&failed)?;
        // Whoever else begins one waits here.
        count_change(&mut transaction).await.map_err(&failed)?;
        self.make_room(&mut transaction, &record, new.force, meets).await?;
        if !new.force {
            check_quarantine(&mut transaction, &record.content, now_ms).await?;
        }
        insert(&mut transaction, &record).await.map_err(&failed)?;
        let (from, to) = record.subject.sides();
        let after = json!({
            record.subject.kind(): record.subject.name(), "from": from, "to": to,
            "percent": record.rollout.share().percent(), "force": new.force, "after": new.after,
        });
        let event = audit_event("rollout.start", &record.id, None, after);
        audit::record(&mut transaction, by, &event, now_ms).await.map_err(&failed)?;
        transaction.commit().await.map_err(&failed)?;
        self.on_changed(&mut connection).await;
        Ok(record)
    }

    /// Does what an operator wants. This node steers by it when this returns.
    ///
    /// # Errors
    ///
    /// [`RolloutError`] where it cannot be done, or the store fails.
    pub async fn command(
        &self,
        id: &str,
        command: &Command,
        freeze: Option<FreezeWindow>,
        by: &Actor,
    ) -> Result<Record, RolloutError> {
        let failed = StoreError::query("change the rollout");
        let kind = self.shared.store.kind();
        let bound = self.bound_of(id, &command.event).await?;
        for _ in 0..TRIES {
            let now_ms = self.shared.clock.unix_ms();
            let mut connection = self.shared.store.writer().await?;
            let mut transaction = store::begin(&mut connection, kind).await.map_err(&failed)?;
            count_change(&mut transaction).await.map_err(&failed)?;
            let mut record = read(&mut transaction, id).await?;
            let before = record.summary();
            let revision = record.rollout.revision();
            if command.if_revision.is_some_and(|wanted| wanted != revision) {
                return Err(RolloutError::Changed { revision });
            }
            if !record.is_open() {
                return Err(RolloutError::Refused(Refusal::Over));
            }
            refuse_growth(&record, &command.event, freeze.as_ref())?;
            if let Some(bound) = &bound {
                record.rollout.on(Event::Bounded(bound.clone()), now_ms);
            }
            let actions = record.rollout.on(command.event.clone(), now_ms);
            if let Some(Action::Refuse(refusal)) = actions.first() {
                return Err(refused(*refusal, record.rollout.bound()));
            }
            let version = record.version;
            let is_written = write(&mut transaction, &mut record, &actions, &by.name, now_ms).await;
            if !is_written.map_err(&failed)? {
                continue;
            }
            self.finish(&mut transaction, &record, &actions, by).await.map_err(&failed)?;
            let mut after = record.summary();
            if let (Some(reason), Some(members)) = (&command.reason, after.as_object_mut()) {
                members.insert("reason".to_owned(), Value::from(reason.as_str()));
            }
            let event = audit_event(action_name(&command.event), id, Some(before), after);
            audit::record(&mut transaction, by, &event, now_ms).await.map_err(&failed)?;
            transaction.commit().await.map_err(&failed)?;
            debug_assert!(record.version == version + 1);
            self.on_written(&record, &actions);
            self.on_changed(&mut connection).await;
            return Ok(record);
        }
        Err(RolloutError::Contended)
    }

    /// How far a candidate may grow by what is known of its compatibility.
    pub(super) async fn bound(&self, subject: &Subject, plan: &Plan) -> Result<Bound, StoreError> {
        if plan.ungated {
            return Ok(Bound::NONE);
        }
        (self.shared.around.bound)(subject).await
    }

    /// How far a rollout's candidate may grow as it is now: whoever leads it hears of a verdict a
    /// moment later.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn bound_now(&self, record: &Record) -> Result<Bound, StoreError> {
        self.bound(&record.subject, record.rollout.plan()).await
    }

    /// The same for a rollout that exists, where an event may make it grow.
    async fn bound_of(&self, id: &str, event: &Event) -> Result<Option<Bound>, RolloutError> {
        if !matches!(event, Event::SetShare(_) | Event::Promote) {
            return Ok(None);
        }
        let record = self.find(id).await?;
        Ok(Some(self.bound(&record.subject, record.rollout.plan()).await?))
    }

    /// One rollout, with all of its figures.
    ///
    /// # Errors
    ///
    /// [`RolloutError::Unknown`] or [`RolloutError::Store`].
    pub async fn find(&self, id: &str) -> Result<Record, RolloutError> {
        let mut reader = self.shared.store.reader().await?;
        read(&mut reader, id).await
    }

    /// Rollouts, newest first: those after the one with the id `after`, at most `limit`.
    ///
    /// # Errors
    ///
    /// [`RolloutError::Unknown`] where `after` is none; [`RolloutError::Store`].
    pub async fn list(
        &self,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<Standing>, RolloutError> {
        let failed = StoreError::query("list the rollouts");
        let mut reader = self.shared.store.reader().await?;
        let place = match after {
            None => i64::MAX,
            Some(id) => int(read(&mut reader, id).await?.created_at_ms),
        };
        let rows = sqlx::query(concat!(
            "SELECT ",
            standing_columns!(),
            " FROM rollouts WHERE (created_at_ms, id) < ($1, $2)
             ORDER BY created_at_ms DESC, id DESC LIMIT $3",
        ))
        .bind(place)
        .bind(after.unwrap_or_default())
        .bind(i64::from(limit))
        .fetch_all(&mut *reader)
        .await
        .map_err(&failed)?;
        Ok(rows.iter().map(Standing::read).collect::<Result<_, _>>().map_err(failed)?)
    }

    /// The last decisions of a rollout, newest first.
    ///
    /// # Errors
    ///
    /// [`RolloutError::Store`].
    pub async fn decisions(
        &self,
        id: &str,
        limit: u32,
    ) -> Result<Vec<StoredDecision>, RolloutError> {
        let failed = StoreError::query("read the decisions");
        let mut reader = self.shared.store.reader().await?;
        let rows = sqlx::query(
            "SELECT actor, decision FROM rollout_decisions WHERE rollout = $1
             ORDER BY revision DESC LIMIT $2",
        )
        .bind(id)
        .bind(i64::from(limit))
        .fetch_all(&mut *reader)
        .await
        .map_err(&failed)?;
        let decision = |row: &sqlx::any::AnyRow| {
            let text: String = row.try_get("decision")?;
            let decision = super::record::json(&text)?;
            Ok(StoredDecision { actor: row.try_get("actor")?, decision })
        };
        Ok(rows.iter().map(decision).collect::<Result<_, _>>().map_err(failed)?)
    }

    /// Refuses where another rollout is about the same prompt or route, or about the same requests.
    /// One that is done and has nothing left to steer gives way.
    async fn make_room(
        &self,
        connection: &mut AnyConnection,
        new: &Record,
        force: bool,
        meets: impl Fn(&Subject) -> bool,
    ) -> Result<(), RolloutError> {
        let failed = StoreError::query("begin the rollout");
        for other in read_standing(connection, u64::MAX).await.map_err(&failed)? {
            let Some(subject) = other.subject() else { continue };
            let is_same =
                (subject.kind(), subject.name()) == (new.subject.kind(), new.subject.name());
            let is_done = other.phase == phase_name(Phase::Done);
            let is_settled = other.kind == "prompt" || !(self.shared.around.is_steerable)(&subject);
            if is_same && is_done && is_settled {
                settle(connection, &other.id).await.map_err(&failed)?;
            } else if is_same {
                let phase = if is_done { "done, and still steering" } else { "not over" };
                return Err(RolloutError::Busy { id: other.id, subject, phase });
            } else if !is_done && !force && meets(&subject) {
                return Err(RolloutError::Meets { id: other.id, subject });
            }
        }
        Ok(())
    }
}

/// Inside a freeze of the configuration nothing may grow.
fn refuse_growth(
    record: &Record,
    event: &Event,
    freeze: Option<&FreezeWindow>,
) -> Result<(), RolloutError> {
    let grows = match event {
        Event::SetShare(share) => *share > record.rollout.share(),
        Event::Promote => record.rollout.share() < Share::ALL,
        Event::Exposed { .. }
        | Event::Observed(_)
        | Event::Compared(_)
        | Event::Tick
        | Event::Bounded(_)
        | Event::Pause
        | Event::Resume
        | Event::RollBack(_)
        | Event::Freeze
        | Event::Thaw => false,
    };
    match freeze {
        Some((until, why)) if grows => {
            Err(RolloutError::FreezeWindow { until: until.clone(), why: why.clone() })
        }
        Some(_) | None => Ok(()),
    }
}

fn refused(refusal: Refusal, bound: &Bound) -> RolloutError {
    match refusal {
        Refusal::Bounded => RolloutError::Bounded { why: bound.why.clone() },
        Refusal::Over | Refusal::Frozen | Refusal::NotPaused | Refusal::Paused => {
            RolloutError::Refused(refusal)
        }
    }
}

/// A change for the audit log.
pub(super) fn audit_event(
    action: &'static str,
    id: &str,
    before: Option<Value>,
    after: Value,
) -> audit::Event {
    audit::Event { action, resource: format!("rollouts/{id}"), before, after: Some(after) }
}

fn action_name(event: &Event) -> &'static str {
    match event {
        Event::SetShare(_) => "rollout.set",
        Event::Pause => "rollout.pause",
        Event::Resume => "rollout.resume",
        Event::Promote => "rollout.promote",
        Event::RollBack(_) => "rollout.roll_back",
        Event::Freeze => "rollout.freeze",
        Event::Thaw => "rollout.thaw",
        Event::Exposed { .. }
        | Event::Observed(_)
        | Event::Compared(_)
        | Event::Bounded(_)
        | Event::Tick => "rollout.note",
    }
}

/// How a decision of the analysis is called in the audit log.
pub(super) fn verdict_name(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Promote => "rollout.promote",
        Verdict::Set => "rollout.set",
        Verdict::Hold => "rollout.hold",
        Verdict::Pause => "rollout.pause",
        Verdict::Resume => "rollout.resume",
        Verdict::RollBack => "rollout.roll_back",
        Verdict::Finish => "rollout.finish",
    }
}

fn new_id() -> String {
    format!("ro_{}", Alphanumeric.sample_string(&mut rand::rng(), 12))
}
