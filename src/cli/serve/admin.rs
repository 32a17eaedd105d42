//! The admin API of a gateway that serves, and its configuration as that shows it.

use std::sync::Arc;

use axum::Router;
use serde_json::{Value, json};

use super::node;
use crate::admin::{self, AdminState, Reloading};
use crate::audit::{Actor, Audit, Event};
use crate::clock::{SystemWallClock, WallClock, rfc3339};
use crate::cluster::Cluster;
use crate::config::{Current, Reloaded};
use crate::gateway::Gateway;

/// The admin API over this gateway.
pub(super) fn router(gateway: &Arc<Gateway>, current: &Current) -> Router {
    let show = {
        let (current, cluster) = (current.clone(), gateway.cluster.clone());
        Arc::new(move || shown(&current, &cluster))
    };
    let reload = {
        let (current, cluster) = (current.clone(), gateway.cluster.clone());
        move || -> Reloading {
            let (current, cluster) = (current.clone(), cluster.clone());
            Box::pin(async move {
                current.reload().await?;
                Ok(shown(&current, &cluster))
            })
        }
    };
    admin::router(AdminState {
        journal: gateway.journal.clone(),
        callers: gateway.callers.clone(),
        jobs: gateway.jobs().clone(),
        registry: gateway.registry().clone(),
        cache: gateway.cache().clone(),
        meanings: gateway.meanings().clone(),
        feedback: gateway.feedback().clone(),
        rollouts: gateway.rollout_ledger().clone(),
        runs: gateway.runs().clone(),
        limits: Arc::clone(gateway.limits()),
        fleet: gateway.shared_fleet(),
        snapshot: current.shared(),
        clock: Arc::new(SystemWallClock),
        show_config: show,
        reload_config: Arc::new(reload),
    })
}

/// The running configuration as the admin API shows it.
fn shown(current: &Current, cluster: &Cluster) -> Value {
    let (snapshot, status) = (current.snapshot(), current.status());
    let failure = status.failure.as_ref().map(|failure| {
        let problems: Vec<String> = failure.problems.iter().map(ToString::to_string).collect();
        json!({ "at": rfc3339(failure.at_unix_ms), "problems": problems })
    });
    json!({
        "revision": shown_revision(snapshot.revision),
        "loaded_at": rfc3339(status.loaded_at_unix_ms),
        "last_failure": failure,
        "waiting_for_restart": status.waiting_for_restart,
        "nodes": node::shown(cluster),
        "settings": snapshot.settings,
        "models": snapshot.models().collect::<Vec<_>>(),
    })
}

/// Writes a reload that nobody asked for by the admin API into the audit log.
pub(super) fn note_reload(audit: &Audit, reloaded: Reloaded) {
    let Reloaded { cause, before, after } = reloaded;
    let shown = |revision: u64| Some(json!({ "revision": shown_revision(revision) }));
    let event = Event {
        action: "config.reload",
        resource: "config".to_owned(),
        before: shown(before),
        after: shown(after),
    };
    let actor = Actor { name: cause.as_str().to_owned(), ..Actor::default() };
    audit.note(&actor, event, SystemWallClock.unix_ms());
}

/// A revision as operators see it.
fn shown_revision(revision: u64) -> String {
    format!("{revision:012x}")
}
