//! Whose jobs are taken next: the more important ones first, and callers in turn.
//!
//! Among jobs of one priority every lane (a caller, or a receiver of webhooks) gets its share of
//! the free places, round by round, beginning after the lane that was served last. A lane with a
//! million jobs and a lane with one get the same turn; that is deficit round robin where every job
//! costs one. No lane gets more places at a time than its cap, so a flood waits for itself.

use std::collections::{HashMap, HashSet};

#[cfg(test)]
mod tests;

/// A lane that has jobs of one priority waiting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Their priority, 0 (first) to 4.
    pub priority: u8,
    /// Whose they are.
    pub lane: String,
}

/// How many jobs of a head are taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// Which.
    pub head: Head,
    /// At most so many; at least one.
    pub jobs: u32,
}

/// Who was served last.
#[derive(Debug, Default)]
pub struct Turns {
    last: Option<String>,
    resting: HashSet<String>,
}

// === impl Turns ===

impl Turns {
    /// The lane that was served last; none at first.
    pub fn last(&self) -> &str {
        self.last.as_deref().unwrap_or_default()
    }

    /// Leaves these lanes out from now on, and no others.
    pub fn rest(&mut self, lanes: HashSet<String>) {
        self.resting = lanes;
    }

    /// Divides `free` places among `heads`. `running` says how many places each lane has already,
    /// of the `cap` that it may have. What a lane cannot fill is free again in the next round.
    pub fn allot(
        &mut self,
        mut heads: Vec<Head>,
        running: &HashMap<String, u32>,
        cap: u32,
        free: u32,
    ) -> Vec<Share> {
        heads.retain(|head| !self.resting.contains(&head.lane));
        let last = self.last();
        // Those after the last one, then those up to it.
        heads.sort_by(|a, b| {
            let key = |head: &Head| (head.priority, head.lane.as_str() <= last);
            key(a).cmp(&key(b)).then_with(|| a.lane.cmp(&b.lane))
        });
        let mut left: HashMap<String, u32> = HashMap::new();
        let mut free = free;
        let mut shares: Vec<Share> = Vec::new();
        for group in heads.chunk_by(|a, b| a.priority == b.priority) {
            let lanes = u32::try_from(group.len()).unwrap_or(u32::MAX);
            let turn = free.div_ceil(lanes.max(1));
            for head in group {
                let left = left.entry(head.lane.clone()).or_insert_with(|| {
                    cap.saturating_sub(running.get(&head.lane).copied().unwrap_or_default())
                });
                let jobs = turn.min(*left).min(free);
                if jobs > 0 {
                    *left -= jobs;
                    free -= jobs;
                    shares.push(Share { head: head.clone(), jobs });
                }
            }
        }
        if let Some(share) = shares.last() {
            self.last = Some(share.head.lane.clone());
        }
        shares
    }
}
