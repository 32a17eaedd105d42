//! What nodes tell each other: small facts, sent once and not kept.
//!
//! The channel is lossy by design. A node that was away, or read too slowly, is told that it missed
//! something ([`Heard::Missed`]) and looks for itself; and whoever reads facts also looks now and
//! then without one. So a fact makes things quick and is never what makes them right.

use serde::{Deserialize, Serialize};
use tokio::sync::broadcast::{self, error::RecvError};

/// Something that other nodes want to know at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Fact {
    /// Callers' keys were made, changed or taken away in the store.
    KeysChanged,
    /// Rollouts were begun, changed or ended in the store.
    RolloutsChanged,
    /// Prompts were pushed or labelled in the store.
    PromptsChanged,
    /// A node runs another configuration now.
    ConfigRevision {
        /// The node's name.
        node: String,
        /// The revision.
        revision: u64,
    },
    /// A provider does not want to be asked with this credential for a while.
    Parked(Parked),
    /// Answers that were kept are to be forgotten.
    CachePurged {
        /// What is to be forgotten, in the cache's own words.
        purge: String,
    },
}

/// A credential that a provider refuses for now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parked {
    /// The provider's id.
    pub provider: String,
    /// A digest of the credential, which says whether two nodes have the same one and nothing else.
    pub credential: String,
    /// The model it is about; absent: all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Why.
    pub why: ParkedWhy,
    /// For how long from now, in milliseconds.
    pub for_ms: u64,
}

/// Why a credential is parked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ParkedWhy {
    /// It asked too often, and the provider said when to come back.
    RateLimited,
    /// It is not accepted.
    AuthFault,
    /// Its quota or credit is used up.
    HardQuota,
}

/// What a reader of facts hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// Another node told this.
    Fact(Fact),
    /// Facts may have been missed: the reader was slow, or the connection was lost.
    Missed,
}

/// Reads facts. Each reader hears all that is told while it exists.
#[derive(Debug)]
pub struct FactReader {
    heard: broadcast::Receiver<Heard>,
}

/// A fact on its way.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Letter {
    /// The node that sent it, which does not want it back.
    pub(super) from: String,
    pub(super) fact: Fact,
}

// === impl FactReader ===

impl FactReader {
    pub(super) fn new(heard: broadcast::Receiver<Heard>) -> Self {
        Self { heard }
    }

    /// Waits for the next fact of another node. `None` when there can be no more.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Option<Heard> {
        match self.heard.recv().await {
            Ok(heard) => Some(heard),
            Err(RecvError::Lagged(_)) => Some(Heard::Missed),
            Err(RecvError::Closed) => None,
        }
    }
}
