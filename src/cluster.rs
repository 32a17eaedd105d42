//! State that nodes share: what is left of limits, who is there, facts that others want to know at
//! once, and logs of answers that are under way.
//!
//! With a Redis server ([`ClusterSettings::url`]) it lives there; a node without one is alone, and
//! what remains of this module works within the process. The server need not be up: not at the
//! start and not later. While it is away every call fails at once with [`Unreachable`], and the
//! caller decides what that means (limits go on locally, each node with its share). It is back
//! within a second of its being back.
//!
//! Nothing here is the only place of anything that matters: limits refill, budgets are counted from
//! the journal, facts are also looked for, and every key expires when nobody uses it. A server that
//! comes back empty is not a fault.
//!
//! One primary is needed, Redis 6 or Valkey or newer, plain or behind a name that follows a
//! failover (Sentinel, a managed service). Redis Cluster is not supported; all keys have one hash
//! tag, so a proxy in front of one works. Two connections are kept: one for limits and presence,
//! where an answer may take [`DRAW_WITHIN`], and one for facts and logs, whose size must not delay
//! the others; and a third for [`Shelf`], where that is used.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::{broadcast, mpsc};

use crate::clock::WallClock;

mod draw;
mod fact;
mod link;
mod presence;
mod relay;
mod remote;
mod settings;
mod shelf;
#[cfg(test)]
mod tests;
mod upkeep;

pub use draw::{Draw, Grant, Source, Want};
pub use fact::{Fact, FactReader, Heard, Parked, ParkedWhy};
use link::{Counts, Dial};
pub use presence::Node;
use presence::Presence;
pub use relay::{Appended, FollowError, Follower, KEPT_FOR, MAX_LOG_BYTES, Relay};
use remote::Remote;
pub use settings::{ClusterSettings, ClusterSettingsError, RedisUrl};
pub use shelf::Shelf;
pub use upkeep::Upkeep;

/// How long limits wait for an answer. Longer than a server in the same region takes, shorter than
/// what a person notices of a first token.
pub const DRAW_WITHIN: Duration = Duration::from_millis(100);
/// Facts that wait to be sent, and that a reader may be behind. Beyond it they are dropped, and
/// counted or said to be missed.
const WAITING_FACTS: usize = 1_024;

/// State that nodes share. Clones are the same.
#[derive(Debug, Clone)]
pub struct Cluster {
    shared: Arc<Shared>,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreachable {
    /// There is no server: this node is alone.
    #[error("this node is alone")]
    Alone,
    /// There is no connection now.
    #[error("not connected")]
    NotConnected,
    /// The answer did not come in time. What was asked may have been done or not.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    /// The server refused.
    #[error("{0}")]
    Refused(String),
}

impl Unreachable {
    /// Whether it is certain that nothing of what was asked was done.
    pub const fn is_undone(&self) -> bool {
        match self {
            Self::Alone | Self::NotConnected => true,
            Self::TimedOut(_) | Self::Refused(_) => false,
        }
    }
}

/// How nodes reach each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ClusterState {
    /// There are no others.
    Alone,
    /// All is well.
    Connected,
    /// The server is away: each node is on its own for now.
    Degraded,
}

/// How sharing goes.
#[derive(Debug, Clone, Serialize)]
pub struct ClusterHealth {
    /// How nodes reach each other.
    pub state: ClusterState,
    /// The server, without its password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// This node's name.
    pub node: String,
    /// How many nodes there are, this one counted, as of the last that was heard.
    pub nodes: u32,
    /// What went wrong last, even if it is well again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// Questions that were sent to the server.
    pub round_trips: u64,
    /// Questions without an answer of use.
    pub errors: u64,
    /// How long the last answer took, in microseconds.
    pub latency_us: u64,
    /// Facts that were not sent.
    pub facts_dropped: u64,
}

#[derive(Debug)]
struct Shared {
    node: Node,
    revision: AtomicU64,
    presence: Mutex<Presence>,
    /// Whether this node has said that it goes.
    has_left: AtomicBool,
    /// Since when the server remembers anything, by its clock in microseconds; 0 before that is
    /// known.
    memory: AtomicU64,
    heard: broadcast::Sender<Heard>,
    letters: mpsc::Sender<Fact>,
    facts_dropped: AtomicU64,
    relay: Relay,
    remote: Option<Remote>,
}

// === impl Cluster ===

impl Cluster {
    /// One node and no others.
    pub fn alone() -> Self {
        Self::with(named(None, 0), None).0
    }

    /// What the settings say, and what must run beside it.
    ///
    /// # Errors
    ///
    /// Where the URL is not one; the check of the configuration says so before.
    pub fn new(
        settings: &ClusterSettings,
        clock: &dyn WallClock,
    ) -> Result<(Self, Upkeep), ClusterSettingsError> {
        let node = named(settings.node.as_deref(), clock.unix_ms());
        let address = settings.url.as_ref().map(RedisUrl::address).transpose()?;
        let remote = address.map(|address| (Dial::new(address), settings.namespace.clone()));
        let (cluster, letters) = Self::with(node, remote);
        Ok((cluster.clone(), Upkeep { cluster, letters }))
    }

    fn with(node: Node, remote: Option<(Dial, String)>) -> (Self, mpsc::Receiver<Fact>) {
        // Bounded; full means drop and count, see `publish`.
        let (letters, to_send) = mpsc::channel(WAITING_FACTS);
        // Bounded; a reader that is further behind hears that it missed something.
        let heard = broadcast::Sender::new(WAITING_FACTS);
        let remote = remote.map(|(dial, namespace)| {
            Remote::new(dial, namespace, remote::push_reader(heard.clone(), node.id.clone()))
        });
        let relay = remote.as_ref().map_or_else(Relay::alone, |remote| {
            let (link, dial) = (Arc::clone(&remote.facts), Arc::clone(&remote.dial));
            Relay::shared(link, dial, remote.namespace.clone())
        });
        let shared = Shared {
            node,
            revision: AtomicU64::new(0),
            presence: Mutex::default(),
            has_left: AtomicBool::new(false),
            memory: AtomicU64::new(0),
            heard,
            letters,
            facts_dropped: AtomicU64::new(0),
            relay,
            remote,
        };
        (Self { shared: Arc::new(shared) }, to_send)
    }

    /// Whether there is no server, so that there can be no other nodes.
    pub fn is_alone(&self) -> bool {
        self.shared.remote.is_none()
    }

    /// This node's name.
    pub fn node(&self) -> &str {
        &self.shared.node.name
    }

    /// What tells this run of the node from all others.
    pub fn node_id(&self) -> &str {
        &self.shared.node.id
    }

    /// Answers each question for itself, in their order, in one round trip.
    ///
    /// # Errors
    ///
    /// [`Unreachable`], within [`DRAW_WITHIN`] (a script that the server has forgotten takes up to
    /// three times that, once). After [`Unreachable::TimedOut`] what was asked for may have been
    /// taken: it is lost to all until a bucket has refilled or a window has ended, so limits err on
    /// the side of less; slots are put right by [`Want::Hold`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future is like a time-out.
    pub async fn draw(&self, asks: &[Draw]) -> Result<Vec<Grant>, Unreachable> {
        let remote = self.shared.remote.as_ref().ok_or(Unreachable::Alone)?;
        if asks.is_empty() {
            return Ok(Vec::new());
        }
        let node = &self.shared.node.id;
        let call = draw::command(&remote.draw.hash, &remote.namespace, node, asks);
        let numbers: Vec<i64> = remote.limits.run_script(&remote.draw, &call, DRAW_WITHIN).await?;
        let answers = draw::grants(&numbers, asks.len());
        answers.ok_or_else(|| Unreachable::Refused("an answer of another shape".to_owned()))
    }

    /// How many nodes there are, this one counted: at least 1. While the server is away, as many as
    /// there were.
    pub fn live_nodes(&self) -> u32 {
        self.shared.presence.lock().count()
    }

    /// Which memory of the server it is: another number means that it has lost what it knew. 0
    /// before the server was first reached. Known within a second, and at once after a new
    /// connection.
    pub fn memory(&self) -> u64 {
        self.shared.memory.load(Ordering::Relaxed)
    }

    /// Says goodbye: the other nodes no longer count this one, from their next look on, which is
    /// within a second. It may go on asking, and never comes back.
    ///
    /// # Errors
    ///
    /// [`Unreachable`], within half a second; the others then notice by its silence.
    pub async fn leave(&self) -> Result<(), Unreachable> {
        self.shared.has_left.store(true, Ordering::Release);
        let remote = self.shared.remote.as_ref().ok_or(Unreachable::Alone)?;
        remote.announce(self.node_id(), None).await?;
        Ok(())
    }

    /// Who is there, as far as is known; at least this node.
    pub fn nodes(&self) -> Vec<Node> {
        let mut nodes = self.shared.presence.lock().nodes().to_vec();
        match nodes.iter_mut().find(|node| node.id == self.node_id()) {
            Some(me) => *me = self.about_me(),
            None => nodes.push(self.about_me()),
        }
        nodes
    }

    /// Lets others know which configuration runs here.
    pub fn set_revision(&self, revision: u64) {
        if self.shared.revision.swap(revision, Ordering::Relaxed) != revision {
            let node = self.node().to_owned();
            self.publish(Fact::ConfigRevision { node, revision });
        }
    }

    /// Tells the other nodes, soon. Never waits; what cannot be sent is dropped and counted.
    pub fn publish(&self, fact: Fact) {
        if !self.is_alone() && self.shared.letters.try_send(fact).is_err() {
            self.shared.facts_dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Hears what other nodes tell from now on.
    pub fn facts(&self) -> FactReader {
        FactReader::new(self.shared.heard.subscribe())
    }

    /// Logs that one node writes and others follow.
    pub fn relay(&self) -> &Relay {
        &self.shared.relay
    }

    /// Values that nodes keep for each other; `None` where this node is alone.
    pub fn shelf(&self) -> Option<Shelf> {
        self.shared.remote.as_ref().map(|remote| remote.shelf.clone())
    }

    /// How sharing goes.
    pub fn health(&self) -> ClusterHealth {
        let remote = self.shared.remote.as_ref();
        let state = match remote {
            None => ClusterState::Alone,
            Some(remote) if remote.is_connected() => ClusterState::Connected,
            Some(_) => ClusterState::Degraded,
        };
        let count = |of: fn(&Counts) -> &AtomicU64| {
            remote.map_or(0, |remote| of(&remote.counts).load(Ordering::Relaxed))
        };
        ClusterHealth {
            state,
            server: remote.map(|remote| remote.dial.address.to_string()),
            node: self.node().to_owned(),
            nodes: self.live_nodes(),
            last_error: remote.and_then(|remote| remote.counts.last_error.lock().clone()),
            round_trips: count(|counts| &counts.round_trips),
            errors: count(|counts| &counts.errors),
            latency_us: count(|counts| &counts.latency_us),
            facts_dropped: self.shared.facts_dropped.load(Ordering::Relaxed),
        }
    }

    fn about_me(&self) -> Node {
        let revision = self.shared.revision.load(Ordering::Relaxed);
        Node { revision, ..self.shared.node.clone() }
    }
}

/// This run of a node.
fn named(name: Option<&str>, started_at_ms: u64) -> Node {
    let run = format!("{:08x}", rand::random::<u32>());
    let name = name.map_or_else(|| format!("node-{run}"), ToOwned::to_owned);
    let id = format!("{name}.{run}");
    let version = env!("CARGO_PKG_VERSION").to_owned();
    Node { name, id, version, revision: 0, started_at_ms }
}
