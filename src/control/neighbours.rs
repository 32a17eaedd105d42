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
use crate::registry::Registry;
use crate::rollout::RolloutLedger;

/// The node's ear and mouth.
#[derive(Debug)]
pub struct Neighbours {
    cluster: Cluster,
    changing: Changing,
    fleet: Arc<Fleet>,
    current: Current,
    facts: FactReader,
}

/// What operators change in the store, by way of any node.
#[derive(Debug)]
pub struct Changing {
    /// Callers' keys.
    pub callers: Callers,
    /// Prompts.
    pub registry: Registry,
    /// Rollouts.
    pub rollouts: RolloutLedger,
}

// === impl Neighbours ===

impl Neighbours {
    /// Hears everything from now on.
    pub fn new(cluster: Cluster, changing: Changing, fleet: Arc<Fleet>, current: Current) -> Self {
        cluster.set_revision(current.snapshot().revision);
        let facts = cluster.facts();
        Self { cluster, changing, fleet, current, facts }
    }

    /// Runs until the watcher of the configuration is gone.
    pub async fn run(mut self) {
        loop {
            tokio::select! {
                heard = self.facts.next() => match heard {
                    Some(heard) => self.on_heard(heard),
                    None => return,
                },
                () = self.changing.callers.changed_here() => self.cluster.publish(Fact::KeysChanged),
                () = self.changing.rollouts.changed_here() => self.cluster.publish(Fact::RolloutsChanged),
                () = self.changing.registry.changed_here() => self.cluster.publish(Fact::PromptsChanged),
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
            Heard::Fact(Fact::KeysChanged) => self.changing.callers.reload(),
            Heard::Fact(Fact::RolloutsChanged) => {
                self.changing.rollouts.reload();
                // One that is finished moves labels.
                self.changing.registry.on_news();
            }
            Heard::Fact(Fact::PromptsChanged) => self.changing.registry.on_news(),
            Heard::Missed => {
                self.changing.callers.reload();
                self.changing.rollouts.reload();
                self.changing.registry.on_news();
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
