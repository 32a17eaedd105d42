//! Settling a request that is answered from the cache.

use super::Account;
use crate::cache::Head;
use crate::dialect::Dropped;
use crate::dispatch::cached::Stale;
use crate::dispatch::{FromCache, Served, cached};
use crate::journal::Outcome;
use crate::policy::degrade::Level;

// === impl Account ===

impl Account {
    /// Settles a request whose answer was kept, as `kept` says, and is so old.
    pub(in crate::dispatch) fn replay(self, kept: &Head, how: FromCache) -> Served {
        self.give(kept, how, Level::None)
    }

    /// The same where the answer is past its time, because nobody gave another.
    pub(in crate::dispatch) fn replay_stale(self, stale: &Stale) -> Served {
        let Stale { head, age, similarity, .. } = stale;
        let (age, similarity) = (*age, *similarity);
        // One to other words is not past its time.
        let level = if similarity.is_some() { Level::None } else { Level::StaleAnswer };
        self.give(head, FromCache { age, similarity }, level)
    }

    fn give(mut self, kept: &Head, how: FromCache, level: Level) -> Served {
        if let Some(open) = &mut self.open {
            let entry = &mut open.entry;
            entry.reuse = Some(how.reuse());
            entry.saved = kept.cost;
            entry.degradation = level.number();
            entry.target = Some(kept.target.clone());
            if let Some((provider, model)) = cached::parts_of(&kept.target) {
                entry.provider = Some(provider);
                entry.model_served = Some(model);
            }
            open.tried = None;
            open.dropped = Dropped(kept.dropped.clone());
        }
        let (cost, from_cache) = (Some(FromCache::COST), Some(how));
        let served = Served { cost, from_cache, ..self.served() };
        self.settle(Outcome::Complete, 200, None);
        served
    }
}
