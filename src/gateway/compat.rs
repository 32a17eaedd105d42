//! Makes compatibility runs: asks both sides, has the answers judged, looks at what has come.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::clock::WallClock;
use crate::config::Snapshot;
use crate::runs::{RunSurroundings, Runs};
use crate::store::Store;

/// Runs in the store; nothing is read yet.
pub(super) fn runs(
    snapshot: &Arc<ArcSwap<Snapshot>>,
    store: &Store,
    wall: &Arc<dyn WallClock>,
) -> Runs {
    let (files, current) = (Arc::clone(snapshot), Arc::clone(snapshot));
    let around = RunSurroundings {
        suites: Box::new(move || files.load().suites.values().map(|one| one.row.clone()).collect()),
        settings: Box::new(move || current.load().settings.compat.clone()),
    };
    Runs::new(store.clone(), Arc::clone(wall), around)
}
