//! What this node tells other nodes, and what it does about what they tell.
//!
//! Facts make things quick and never right: keys are also read again when nobody told, a paused
//! provider says so itself, and revisions are part of what each node announces every second.

use std::sync::Arc;

use crate::callers::Callers;
use crate::clock::Instant;
use crate::cluster::{Cluster, Fact, FactReader, Heard};
use crate::config::Current;
use crate::fleet::Fleet;
use crate::rollout::RolloutLedger;

/// The node's ear and mouth.
#[derive(Debug)]
pub struct Neighbours {
    cluster: Cluster,
    callers: Callers,
    fleet: Arc<Fleet>,
    current: Current,
    facts: FactReader,
    rollouts: RolloutLedger,
}

// === impl Neighbours ===

impl Neighbours {
    /// Hears everything from now on.
    pub fn new(
        cluster: Cluster,
        callers: Callers,
        rollouts: RolloutLedger,
        fleet: Arc<Fleet>,
        current: Current,
    ) -> Self {
        cluster.set_revision(current.snapshot().revision);
        let facts = cluster.facts();
        Self { cluster, callers, fleet, current, facts, rollouts }
    }

    /// Runs until the watcher of the configuration is gone.
    pub async fn run(mut self) {
        loop {
            tokio::select! {
                heard = self.facts.next() => match heard {
                    Some(heard) => self.on_heard(heard),
                    None => return,
                },
                () = self.callers.changed_here() => self.cluster.publish(Fact::KeysChanged),
                () = self.rollouts.changed_here() => self.cluster.publish(Fact::RolloutsChanged),
                goes_on = self.current.changed() => {
                    self.cluster.set_revision(self.current.snapshot().revision);
                    if !goes_on {
                        return;
                    }
                }
            }
        }
    }

    fn on_heard(&self, heard: Heard) {
        match heard {
            Heard::Fact(Fact::KeysChanged) => self.callers.reload(),
            Heard::Fact(Fact::RolloutsChanged) => self.rollouts.reload(),
            Heard::Missed => {
                self.callers.reload();
                self.rollouts.reload();
            }
            // The cache has an ear of its own.
            Heard::Fact(Fact::CachePurged { .. }) => {}
            Heard::Fact(Fact::Parked(parked)) => {
                self.fleet.on_parked_elsewhere(&parked, Instant::now());
            }
            Heard::Fact(Fact::ConfigRevision { node, revision }) => {
                let same = revision == self.current.snapshot().revision;
                tracing::info!("node {node} runs configuration {revision:012x}, ours: {same}");
            }
        }
    }
}
