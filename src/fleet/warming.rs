//! Bursts of requests that begin alike: the first reads, the others wait until it has.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::policy::prefix::Chain;

/// Requests that may wait for one.
const MAX_FOLLOWERS: usize = 256;
/// Prefixes of a route that are waited for at a time; beyond them nobody waits.
const MAX_LEADERS: usize = 64;

/// Which prefixes of one route are being read for the first time.
#[derive(Debug, Default)]
pub(super) struct Warming(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// By the hash of every block of a leader's prompt.
    leaders: HashMap<u64, Follower>,
    count: usize,
}

/// A place behind a leader. Clones wait for the same.
#[derive(Debug, Clone)]
pub struct Follower {
    done: watch::Receiver<()>,
    waiting: Arc<AtomicUsize>,
}

/// The request that reads a prefix for the first time. Those that wait for it go on when it is
/// dropped.
#[derive(Debug)]
pub struct Leader {
    warming: Arc<Warming>,
    chain: Chain,
    follower: Follower,
    // Dropped after the blocks are taken out.
    _done: watch::Sender<()>,
}

/// What a request with a cold prefix does.
#[derive(Debug)]
pub enum Burst {
    /// It reads its prompt, and others may wait for it.
    Leads(Leader),
    /// Half of its prompt or more is being read: it waits for that.
    Follows(Follower),
    /// It goes its way.
    Alone,
}

// === impl Warming ===

impl Warming {
    /// What a request does whose prompt no target has cached.
    pub(super) fn join(self: &Arc<Self>, chain: &Chain) -> Burst {
        let mut state = self.0.lock();
        let half = chain.first_half();
        if let Some(leader) = half.and_then(|half| state.leaders.get(&half)) {
            let before = leader.waiting.fetch_add(1, Ordering::Relaxed);
            return if before < MAX_FOLLOWERS {
                Burst::Follows(leader.clone())
            } else {
                Burst::Alone
            };
        }
        if state.count >= MAX_LEADERS || chain.is_empty() {
            return Burst::Alone;
        }
        state.count += 1;
        let (sender, done) = watch::channel(());
        let follower = Follower { done, waiting: Arc::default() };
        for hash in chain.hashes() {
            // What stands there is another leader's, which is done sooner.
            state.leaders.entry(hash).or_insert_with(|| follower.clone());
        }
        drop(state);
        Burst::Leads(Leader {
            warming: Arc::clone(self),
            chain: chain.clone(),
            follower,
            _done: sender,
        })
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        let mut state = self.warming.0.lock();
        state.count = state.count.saturating_sub(1);
        for hash in self.chain.hashes() {
            let is_own = |other: &Follower| Arc::ptr_eq(&other.waiting, &self.follower.waiting);
            if state.leaders.get(&hash).is_some_and(is_own) {
                state.leaders.remove(&hash);
            }
        }
    }
}

// === impl Follower ===

impl Follower {
    /// Waits until the leader has its first token, or has given up.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub async fn wait(mut self) {
        // Nothing is ever sent: it ends when the leader is dropped.
        _ = self.done.changed().await;
    }
}
