//! What an account knows of another request's answer that its own request shares.

use super::Account;
use crate::clock::Instant;
use crate::dialect::StreamSummary;
use crate::dispatch::{FromCache, Served, cached};
use crate::journal::{Outcome, Reuse};
use crate::units::MicroUsd;

// === impl Account ===

impl Account {
    /// Notes that the request gets the answer of another, which came about like this.
    pub(in crate::dispatch) fn on_shared(&mut self, leader: &Served) {
        let Some(open) = &mut self.open else { return };
        open.first_token = Some(Instant::now());
        open.dropped = leader.dropped.clone();
        let entry = &mut open.entry;
        entry.reuse = Some(Reuse::Coalesced);
        entry.degradation = leader.degradation;
        entry.target = leader.by.as_ref().map(cached::without_credential);
        if let Some((provider, model)) = entry.target.as_ref().and_then(cached::parts_of) {
            entry.provider = Some(provider);
            entry.model_served = Some(model);
        }
    }

    /// Gives back what was taken from limits: what the request does is another thing now.
    pub(in crate::dispatch) fn on_unshared(&mut self) {
        if let Some(open) = &mut self.open {
            open.reservation = None;
        }
    }

    /// How a shared answer came about, for its caller's headers.
    pub(in crate::dispatch) fn served_shared(&self, leader: &Served) -> Served {
        let (cost, from_cache) = (Some(FromCache::COST), leader.from_cache);
        Served { cost, from_cache, coalesced: true, ..self.served() }
    }

    /// Settles a request that got the whole of another's answer, which would have cost so much.
    pub(in crate::dispatch) fn share(mut self, saved: MicroUsd, summary: &StreamSummary) {
        if let Some(open) = &mut self.open {
            open.entry.saved = saved;
        }
        self.settle(Outcome::Complete, 200, Some(summary));
    }
}
