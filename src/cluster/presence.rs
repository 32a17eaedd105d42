//! Which nodes are there.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Instant;

/// How long a smaller count must stand before it is believed. When the server comes back empty,
/// the first node to announce itself would else believe to be alone, and give out the whole of each
/// limit should the server go away again.
const BELIEVED_AFTER: Duration = Duration::from_secs(3);

/// A node, as it tells of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// This run of it: two processes with one name are two nodes.
    pub id: String,
    /// Its program's version.
    pub version: String,
    /// The revision of its configuration; 0 before it has one.
    pub revision: u64,
    /// When it started, in milliseconds since 1970.
    pub started_at_ms: u64,
}

/// What was heard of nodes last.
#[derive(Debug)]
pub(super) struct Presence {
    nodes: Vec<Node>,
    believed: u32,
    /// Since when there are fewer than are believed.
    fewer_since: Option<Instant>,
}

impl Default for Presence {
    /// This node is there.
    fn default() -> Self {
        Self { nodes: Vec::new(), believed: 1, fewer_since: None }
    }
}

// === impl Presence ===

impl Presence {
    /// Who is there now, and the ids of those who said that they go: they are not waited for.
    pub(super) fn on_heard(&mut self, mut nodes: Vec<Node>, gone: &[String], now: Instant) {
        let went = self.nodes.iter().filter(|node| gone.contains(&node.id)).count();
        let went = u32::try_from(went).unwrap_or(u32::MAX);
        self.believed = self.believed.saturating_sub(went).max(1);
        nodes.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
        self.nodes = nodes;
        let count = u32::try_from(self.nodes.len()).unwrap_or(u32::MAX).max(1);
        let is_believed =
            count >= self.believed || now >= *self.fewer_since.get_or_insert(now) + BELIEVED_AFTER;
        if is_believed {
            self.believed = count;
            self.fewer_since = None;
        }
    }

    /// How many nodes there are, this one counted, as of the last that was heard.
    pub(super) fn count(&self) -> u32 {
        self.believed
    }

    pub(super) fn nodes(&self) -> &[Node] {
        &self.nodes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(count: usize) -> Vec<Node> {
        let node = |index: usize| Node {
            name: format!("n{index}"),
            id: format!("n{index}.0"),
            version: String::new(),
            revision: 0,
            started_at_ms: 0,
        };
        (0..count).map(node).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn more_nodes_are_believed_at_once_and_fewer_only_when_it_lasts() {
        let mut presence = Presence::default();
        let start = Instant::now();
        assert_eq!(presence.count(), 1);
        presence.on_heard(nodes(3), &[], start);
        assert_eq!(presence.count(), 3);
        presence.on_heard(nodes(1), &[], start);
        presence.on_heard(nodes(1), &[], start + Duration::from_millis(2_999));
        assert_eq!(presence.count(), 3);
        presence.on_heard(nodes(1), &[], start + BELIEVED_AFTER);
        assert_eq!(presence.count(), 1);
        // An interruption counts from its own beginning.
        presence.on_heard(nodes(2), &[], start);
        presence.on_heard(nodes(1), &[], start);
        presence.on_heard(nodes(2), &[], start + BELIEVED_AFTER / 2);
        presence.on_heard(nodes(1), &[], start + BELIEVED_AFTER);
        assert_eq!(presence.count(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_says_goodbye_is_not_waited_for_and_counts_once() {
        let mut presence = Presence::default();
        let start = Instant::now();
        presence.on_heard(nodes(3), &[], start);
        let gone = ["n2.0".to_owned()];
        presence.on_heard(nodes(2), &gone, start);
        presence.on_heard(nodes(2), &gone, start);
        assert_eq!(presence.count(), 2);
        // One that dies beside it is.
        presence.on_heard(nodes(1), &gone, start);
        assert_eq!(presence.count(), 2);
        presence.on_heard(nodes(1), &gone, start + BELIEVED_AFTER);
        assert_eq!(presence.count(), 1);
    }
}
