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
//! One primary is needed, Redis 6 or Valkey or newer, plain or behind a name that follows a failover
//! (Sentinel, a managed service). Redis Cluster is not supported; all keys have one hash tag, so
//! a proxy in front of one works. Two connections are kept: one for limits and presence, where an
//! answer may take [`DRAW_WITHIN`], and one for facts and logs, whose size must not delay the others;
//! and a third for [`Shelf`], where that is used.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use redis::{PushInfo, PushKind, Value};
use serde::Serialize;
use tokio::sync::{broadcast, mpsc};
use tokio::time::MissedTickBehavior;

use crate::clock::{Instant, WallClock};

mod draw;
mod fact;
mod link;
mod presence;
mod relay;
mod settings;
mod shelf;
#[cfg(test)]
mod tests;

pub use draw::{Draw, Grant, Source, Want};
use fact::Letter;
pub use fact::{Fact, FactReader, Heard, Parked, ParkedWhy};
use link::{Counts, Dial, Link, OnPush, Script};
pub use presence::Node;
use presence::Presence;
pub use relay::{Appended, FollowError, Follower, KEPT_FOR, MAX_LOG_BYTES, Relay};
pub use settings::{ClusterSettings, ClusterSettingsError, RedisUrl};
pub use shelf::Shelf;

/// How long limits wait for an answer. Longer than a server in the same region takes, shorter than
/// what a person notices of a first token.
pub const DRAW_WITHIN: Duration = Duration::from_millis(100);
/// How often a node says that it is there, and how long that holds.
const ANNOUNCE_EVERY: Duration = Duration::from_secs(1);
const ANNOUNCED_FOR: Duration = Duration::from_secs(3);
/// How long a goodbye is told to others, who listen once a second.
const GOODBYE_FOR: Duration = Duration::from_secs(10);
/// How long what is not on the path of a request may take.
const ASIDE_WITHIN: Duration = Duration::from_millis(500);
/// Facts that wait to be sent, and that a reader may be behind. Beyond it they are dropped, and
/// counted or said to be missed.
const WAITING_FACTS: usize = 1_024;

/// State that nodes share. Clones are the same.
#[derive(Debug, Clone)]
pub struct Cluster {
    shared: Arc<Shared>,
}

/// What must run beside it: keeps connections and says that this node is there.
#[derive(Debug)]
pub struct Upkeep {
    cluster: Cluster,
    letters: mpsc::Receiver<Fact>,
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
    /// Since when the server remembers anything, by its clock in microseconds; 0 before that is known.
    memory: AtomicU64,
    heard: broadcast::Sender<Heard>,
    letters: mpsc::Sender<Fact>,
    facts_dropped: AtomicU64,
    relay: Relay,
    remote: Option<Remote>,
}

/// What the server tells of nodes.
#[derive(Debug, Default)]
struct Told {
    /// See [`Cluster::memory`].
    memory: u64,
    nodes: Vec<Node>,
    /// The ids of those that said that they go.
    gone: Vec<String>,
}

struct Remote {
    dial: Arc<Dial>,
    counts: Arc<Counts>,
    namespace: String,
    limits: Link,
    facts: Arc<Link>,
    shelf: Shelf,
    channel: String,
    draw: Script,
    announce: Script,
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
            Remote::new(dial, namespace, push_reader(heard.clone(), node.id.clone()))
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

    /// Which memory of the server it is: another number means that it has lost what it knew. 0 before
    /// the server was first reached. Known within a second, and at once after a new connection.
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

/// Hands messages of the server to readers of facts.
fn push_reader(heard: broadcast::Sender<Heard>, me: String) -> OnPush {
    Arc::new(move |push: PushInfo| {
        let (PushKind::Message, Some(Value::BulkString(bytes))) = (push.kind, push.data.last())
        else {
            return;
        };
        match serde_json::from_slice::<Letter>(bytes) {
            Ok(letter) if letter.from == me => {}
            // An error means that nobody listens.
            Ok(letter) => _ = heard.send(Heard::Fact(letter.fact)),
            // Of a newer version, or not ours: whoever can look for itself does.
            Err(_) => _ = heard.send(Heard::Missed),
        }
    })
}

// === impl Remote ===

impl Remote {
    fn new(dial: Dial, namespace: String, on_push: OnPush) -> Self {
        let (dial, counts) = (Arc::new(dial), Arc::new(Counts::default()));
        // Channels are of the whole server, keys of one database.
        let channel = format!("{{{namespace}}}:{}:facts", dial.address.login.db());
        let listen = Some((channel.clone(), on_push));
        let link =
            |purpose, channel| Link::new(purpose, Arc::clone(&dial), Arc::clone(&counts), channel);
        Self {
            limits: link("limits", None),
            facts: Arc::new(link("facts", listen)),
            shelf: Shelf::new(link("kept answers", None), &namespace),
            dial: Arc::clone(&dial),
            counts: Arc::clone(&counts),
            namespace,
            channel,
            draw: Script::new(include_str!("cluster/draw.lua")),
            announce: Script::new(include_str!("cluster/announce.lua")),
        }
    }

    fn is_connected(&self) -> bool {
        self.limits.is_connected() && self.facts.is_connected()
    }

    /// Says what a node is, or with `None` that it goes.
    async fn announce(&self, id: &str, about: Option<&Node>) -> Result<Told, Unreachable> {
        let lease = if about.is_some() { ANNOUNCED_FOR } else { GOODBYE_FOR };
        let lease_us = u64::try_from(lease.as_micros()).unwrap_or(u64::MAX);
        let about = about.map(|about| serde_json::to_string(about).unwrap_or_default());
        let mut call = redis::cmd("EVALSHA");
        call.arg(&self.announce.hash).arg(2).arg(format!("{{{}}}:nodes", self.namespace));
        call.arg(draw::memory_key(&self.namespace));
        call.arg(id).arg(about.unwrap_or_default()).arg(lease_us);
        let (memory, all): (String, Vec<(String, String)>) =
            self.limits.run_script(&self.announce, &call, ASIDE_WITHIN).await?;
        let mut told = Told { memory: memory.parse().unwrap_or_default(), ..Told::default() };
        for (id, about) in all {
            if about.is_empty() {
                told.gone.push(id);
                continue;
            }
            // A node of another version may say what this one cannot read; it counts all the same.
            told.nodes.push(serde_json::from_str(&about).unwrap_or_else(|_| Node {
                name: id.clone(),
                id,
                version: String::new(),
                revision: 0,
                started_at_ms: 0,
            }));
        }
        Ok(told)
    }

    async fn tell(&self, from: &str, fact: Fact) -> Result<(), Unreachable> {
        let letter = Letter { from: from.to_owned(), fact };
        let mut publish = redis::cmd("PUBLISH");
        publish.arg(&self.channel).arg(serde_json::to_vec(&letter).unwrap_or_default());
        let _listeners: i64 = self.facts.call(&publish, ASIDE_WITHIN).await?;
        Ok(())
    }
}

impl std::fmt::Debug for Remote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Remote").field("address", &self.dial.address).finish_non_exhaustive()
    }
}

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
