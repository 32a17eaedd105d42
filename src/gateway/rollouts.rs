//! What rollouts have to know of the configuration and the cache, and their figures as metrics.

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use sqlx::AnyConnection;
use tokio::sync::broadcast::error::RecvError;

use super::verdicts::Verdicts;
use crate::audit::Actor;
use crate::cache::{Cache, Purge};
use crate::clock::WallClock;
use crate::cluster::Cluster;
use crate::config::Snapshot;
use crate::feedback::{Feedback, Rated};
use crate::policy::rollout::{Arm, Guardrail, Observation, Readings, Share, Traits};
use crate::prompt::{Prompts, Wanted};
use crate::registry::move_labels;
use crate::rollout::{Note, Noted, RolloutLedger, Rollouts, Subject, Surroundings};
use crate::store::Store;
use crate::telemetry::Metrics;

/// Rollouts of a gateway; nothing is read yet.
pub(super) fn ledger(
    snapshot: &Arc<ArcSwap<Snapshot>>,
    store: &Store,
    (cluster, cache, verdicts): (&Cluster, &Cache, Verdicts),
    clock: Arc<dyn WallClock>,
) -> RolloutLedger {
    let (look, cache) = (Arc::clone(snapshot), cache.clone());
    let (prompts, changed) = (verdicts.registry.clone(), verdicts.registry.clone());
    let around = Surroundings {
        is_steerable: Box::new(move |subject| {
            is_steerable(&look.load(), &prompts.prompts(), subject)
        }),
        forget: Box::new(move |subject| forget(&cache, subject)),
        finish: Box::new(|connection, subject, by, now_ms| {
            Box::pin(finish(connection, subject, by, now_ms))
        }),
        finished: Box::new(move || changed.on_news()),
        bound: verdicts.bounding(),
    };
    let file = snapshot_file(&snapshot.load());
    RolloutLedger::new(store.clone(), Rollouts::new(), cluster.node(), file, clock, around)
}

/// Beside that of callers.
fn snapshot_file(snapshot: &Snapshot) -> Option<PathBuf> {
    let of_callers = &snapshot.settings.store.snapshot;
    let is_kept = !of_callers.as_os_str().is_empty();
    is_kept.then(|| of_callers.with_added_extension("rollouts"))
}

/// Whether there is something to steer: both versions of a prompt are known, or the route still has
/// the control. Where an operator has put something else in its place, the configuration holds.
fn is_steerable(snapshot: &Snapshot, prompts: &Prompts, subject: &Subject) -> bool {
    match subject {
        Subject::Prompt { id, from, to } => {
            let is_known = |version| prompts.find(id.as_str(), &Wanted::Exact(version)).is_ok();
            is_known(*from) && is_known(*to)
        }
        Subject::Route { name, from, .. } => snapshot.route_has(name.as_str(), from),
    }
}

/// Lets all labels that stand for the control stand for the candidate.
async fn finish(
    connection: &mut AnyConnection,
    subject: &Subject,
    by: &Actor,
    now_ms: u64,
) -> Result<(), sqlx::Error> {
    let Subject::Prompt { id, from, to } = subject else { return Ok(()) };
    let labels = move_labels(connection, id.as_str(), (*from, *to), by, now_ms).await?;
    tracing::info!(%subject, ?labels, "labels stand for the candidate");
    Ok(())
}

/// Gives up what is kept of a candidate's answers, on all nodes.
fn forget(cache: &Cache, subject: &Subject) {
    let purge = match subject {
        Subject::Prompt { id, to, .. } => {
            Purge { prompt: Some(format!("{id}@{to}")), ..Purge::default() }
        }
        Subject::Route { name, .. } => Purge { route: Some(name.to_string()), ..Purge::default() },
    };
    let entries = cache.purge(&purge);
    tracing::info!(%subject, entries, "kept answers of a candidate are given up");
}

/// Tells rollouts how callers rate answers, for ever. A rating that is changed counts once.
pub(super) async fn hear(feedback: Feedback, rollouts: Rollouts) {
    let mut ratings = feedback.hear();
    loop {
        match ratings.recv().await {
            Ok(rated) => {
                if let Some(note) = quality(&rated) {
                    rollouts.note(note);
                }
            }
            Err(RecvError::Lagged(missed)) => {
                tracing::warn!(missed, "ratings came faster than rollouts could note them");
            }
            Err(RecvError::Closed) => return,
        }
    }
}

/// What a rating says of the side that answered.
fn quality(rated: &Rated) -> Option<Note> {
    let variant = rated.variant.as_ref().filter(|_| rated.is_first)?;
    let arm = Arm::ALL.into_iter().find(|arm| arm.as_str() == variant.arm)?;
    let seen = Observation {
        arm,
        share: Share::try_from(variant.share).ok()?,
        unit: variant.unit,
        hard: None,
        readings: Readings::default().with(Guardrail::Quality, rated.score),
        traits: Traits::default(),
    };
    Some(Note { rollout: variant.rollout.as_str().into(), noted: Noted::Observed(seen) })
}

/// Sets the metrics that are counted in the ledger.
pub(super) fn look_up_metrics(ledger: &RolloutLedger, metrics: &Metrics) {
    let metrics = &metrics.rollouts;
    metrics.forget_all();
    for one in ledger.standing().iter().filter(|one| one.is_live) {
        let subject = format!("{} {}", one.kind, one.subject);
        metrics.standing(&one.id, &subject, &one.phase, one.share.percent());
    }
    for (id, evidence) in ledger.evidence() {
        metrics.set_evidence(&id, evidence);
    }
    ledger.decided().into_iter().for_each(|(verdict, count)| metrics.set_decisions(verdict, count));
    metrics.set_counts(ledger.lost_notes(), ledger.fences_failed());
    metrics.is_leader.set(i64::from(ledger.is_leader()));
}
