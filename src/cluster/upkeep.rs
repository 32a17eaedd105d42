//! What runs beside a cluster for as long as the process: its connections, and saying that this
//! node is there.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use super::remote::{ASIDE_WITHIN, Remote};
use super::{Cluster, Fact, Heard};
use crate::clock::Instant;

/// What must run beside it: keeps connections and says that this node is there.
#[derive(Debug)]
pub struct Upkeep {
    pub(super) cluster: Cluster,
    pub(super) letters: mpsc::Receiver<Fact>,
}

/// How often a node says that it is there.
const ANNOUNCE_EVERY: Duration = Duration::from_secs(1);

// === impl Upkeep ===

impl Upkeep {
    /// Runs for ever; returns at once where this node is alone. Best on a thread that nothing else
    /// holds up, because every answer of the server passes through here.
    pub async fn run(self) {
        let Self { cluster, letters } = self;
        let Some(remote) = &cluster.shared.remote else { return };
        tokio::join!(
            Box::pin(remote.limits.run()),
            Box::pin(remote.facts.run()),
            Box::pin(remote.shelf.run()),
            Box::pin(announce(&cluster, remote)),
            Box::pin(send(&cluster, remote, letters)),
            Box::pin(say_missed(&cluster, remote)),
        );
    }
}

/// Says once a second, and whenever there is a new connection, that this node is there.
async fn announce(cluster: &Cluster, remote: &Remote) {
    let mut state = remote.limits.state();
    let mut interval = tokio::time::interval(ANNOUNCE_EVERY);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = interval.tick() => {}
            _ = state.wait_for(|connected| !connected), if remote.limits.is_connected() => {}
        }
        if !remote.limits.is_connected() {
            // The sender lives as long as the link.
            let _ = state.wait_for(|connected| *connected).await;
        }
        let me = Some(cluster.about_me());
        let me = me.filter(|_| !cluster.shared.has_left.load(Ordering::Acquire));
        if let Ok(told) = remote.announce(cluster.node_id(), me.as_ref()).await {
            cluster.shared.memory.store(told.memory, Ordering::Relaxed);
            cluster.shared.presence.lock().on_heard(told.nodes, &told.gone, Instant::now());
        }
        // A connection that only listens would not notice that nobody is there any more.
        let _: Result<String, _> = remote.facts.call(&redis::cmd("PING"), ASIDE_WITHIN).await;
    }
}

/// Sends facts. One that finds no connection waits a little for one.
async fn send(cluster: &Cluster, remote: &Remote, mut letters: mpsc::Receiver<Fact>) {
    let mut state = remote.facts.state();
    while let Some(fact) = letters.recv().await {
        let connected = state.wait_for(|connected| *connected);
        let _ = tokio::time::timeout(ANNOUNCE_EVERY, connected).await;
        if remote.tell(&cluster.shared.node.id, fact).await.is_err() {
            cluster.shared.facts_dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Whoever reads facts learns of each new connection: before it, some may have been missed.
async fn say_missed(cluster: &Cluster, remote: &Remote) {
    let mut state = remote.facts.state();
    while state.wait_for(|connected| *connected).await.is_ok() {
        // An error means that nobody listens.
        let _ = cluster.shared.heard.send(Heard::Missed);
        if state.wait_for(|connected| !connected).await.is_err() {
            return;
        }
    }
}
