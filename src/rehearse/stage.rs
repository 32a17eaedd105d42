//! A whole gateway in process, without what a real one has around it: sockets, watched files,
//! signals.

use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::Router;

use crate::api::{self, Edge};
use crate::callers::Callers;
use crate::clock::WallClock;
use crate::config::Snapshot;
use crate::dispatch::settle::Estimator;
use crate::gateway::Gateway;
use crate::journal::{Journal, JournalWriter};
use crate::store::Store;
use crate::upstream::Transport;

/// A gateway, and the parts that would run beside it. Where they are kept and not run, entries of
/// the journal wait in their queue until it is full, and are then dropped.
#[derive(Debug)]
pub struct Stage {
    /// The gateway.
    pub gateway: Arc<Gateway>,
    /// What writes the journal.
    pub writer: JournalWriter,
    /// What counts tokens that no provider counted.
    pub estimator: Estimator,
}

// === impl Stage ===

impl Stage {
    /// A gateway of this configuration. Nothing is opened in `store` yet.
    pub fn new(
        snapshot: Arc<Snapshot>,
        callers: Callers,
        store: Store,
        wall: Arc<dyn WallClock>,
    ) -> Self {
        let (journal, writer) = Journal::new(&snapshot.settings.journal, store, Arc::clone(&wall));
        let current = Arc::new(ArcSwap::from(snapshot));
        let (gateway, estimator) = Gateway::new(current, callers, journal, wall);
        Self { gateway, writer, estimator }
    }

    /// The gateway's data plane over this transport, as a listener on loopback has it.
    pub fn router(&self, transport: Arc<dyn Transport>) -> Router {
        let lane = self.gateway.lane(transport);
        api::router(Edge { gateway: Arc::clone(&self.gateway), lane, is_loopback: true })
    }
}
