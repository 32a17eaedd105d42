//! The server that nodes share: the connections to it, and what is asked over them.

use std::sync::Arc;
use std::time::Duration;

use redis::{PushInfo, PushKind, Value};
use tokio::sync::broadcast;

use super::fact::{Fact, Heard, Letter};
use super::link::{Counts, Dial, Link, OnPush, Script};
use super::presence::Node;
use super::{Shelf, Unreachable, draw};

/// The server, and the connections to it.
pub(super) struct Remote {
    pub(super) dial: Arc<Dial>,
    pub(super) counts: Arc<Counts>,
    pub(super) namespace: String,
    pub(super) limits: Link,
    pub(super) facts: Arc<Link>,
    pub(super) shelf: Shelf,
    channel: String,
    pub(super) draw: Script,
    announce: Script,
}

/// What the server tells of nodes.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// Which memory of the server it is.
    pub(super) memory: u64,
    pub(super) nodes: Vec<Node>,
    /// The ids of those that said that they go.
    pub(super) gone: Vec<String>,
}

/// How long it holds that a node said it is there.
const ANNOUNCED_FOR: Duration = Duration::from_secs(3);
/// How long a goodbye is told to others, who listen once a second.
const GOODBYE_FOR: Duration = Duration::from_secs(10);
/// How long what is not on the path of a request may take.
pub(super) const ASIDE_WITHIN: Duration = Duration::from_millis(500);

// === impl Remote ===

impl Remote {
    pub(super) fn new(dial: Dial, namespace: String, on_push: OnPush) -> Self {
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
            draw: Script::new(include_str!("draw.lua")),
            announce: Script::new(include_str!("announce.lua")),
        }
    }

    pub(super) fn is_connected(&self) -> bool {
        self.limits.is_connected() && self.facts.is_connected()
    }

    /// Says what a node is, or with `None` that it goes.
    pub(super) async fn announce(
        &self,
        id: &str,
        about: Option<&Node>,
    ) -> Result<Told, Unreachable> {
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

    pub(super) async fn tell(&self, from: &str, fact: Fact) -> Result<(), Unreachable> {
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

/// Hands messages of the server to readers of facts.
pub(super) fn push_reader(heard: broadcast::Sender<Heard>, me: String) -> OnPush {
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
