//! Requests that begin alike and come at once: where the route wants it, the first reads, and the
//! others wait until it has.

use std::time::Duration;

use super::{Plan, full};
use crate::clock::Instant;
use crate::dispatch::prefix::Hints;
use crate::fleet::Burst;

/// How long a first token is waited for where none was seen yet.
const USUAL_FIRST_TOKEN: Duration = Duration::from_secs(1);

impl Plan {
    /// What providers are told about the request for their caches; asked for once.
    pub(in crate::dispatch) fn take_hints(&mut self) -> Option<Hints> {
        self.hints.take()
    }

    /// Where the route wants that, waits until another request that begins like this one has its
    /// first token, and draws the order anew: its target has the beginning cached then. At most
    /// half of all first tokens' time. Returns how long that was.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the place.
    pub(in crate::dispatch) async fn wait_for_burst(&mut self) -> Duration {
        if !self.route.conduct.prefix_cache.warm_first {
            return Duration::ZERO;
        }
        let began = Instant::now();
        let follower = match self.group.join_burst(&self.demand, began) {
            Burst::Alone => return Duration::ZERO,
            Burst::Leads(leader) => {
                self.leader = Some(leader);
                return Duration::ZERO;
            }
            Burst::Follows(follower) => follower,
        };
        let first = self.order.picks.first();
        let median = first.and_then(|at| self.group.median_first_token(*at, &self.demand, began));
        let most = median.unwrap_or(USUAL_FIRST_TOKEN).min(self.remaining() / 4);
        _ = tokio::time::timeout(most, follower.wait()).await;
        let now = Instant::now();
        self.order = self.group.order(&self.demand, now);
        self.full = full(&self.order);
        now.saturating_duration_since(began)
    }

    /// Lets those go that wait for the first token of this request.
    pub(in crate::dispatch) fn release_burst(&mut self) {
        self.leader = None;
    }
}
