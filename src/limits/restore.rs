//! Limits of hours, days and months that a restart does not forget: what earlier runs used of them
//! is added up from the journal.

use std::collections::BTreeMap;

use super::subjects::lock;
use super::{Limits, first_model};
use crate::config::Snapshot;
use crate::journal::{Journal, Spent};
use crate::quota::{Amounts, Counted, Period, Subject};
use crate::store::StoreError;

// === impl Limits ===

impl Limits {
    /// Counts what requests that started before `before_ms` have used of the windows that are open
    /// now. To be called once, with the time at which this run began.
    ///
    /// # Errors
    ///
    /// [`StoreError`] where the journal cannot be read; nothing is counted then.
    pub async fn restore(
        &self,
        journal: &Journal,
        snapshot: &Snapshot,
        before_ms: u64,
    ) -> Result<(), StoreError> {
        let now_ms = self.moment().unix_ms;
        let mut periods: Vec<_> =
            snapshot.limits.iter().flat_map(|rule| rule.periods().collect::<Vec<_>>()).collect();
        periods.sort_unstable();
        periods.dedup();
        let mut all = BTreeMap::new();
        for period in periods {
            let (since_ms, _) = period.around(now_ms);
            all.insert(period, journal.spent(since_ms, before_ms).await?);
        }
        for (period, spent) in all {
            for spent in &spent {
                self.count(period, spent, snapshot, now_ms);
            }
        }
        Ok(())
    }

    /// Counts what was used of all windows of a period that are about it.
    fn count(&self, period: Period, spent: &Spent, snapshot: &Snapshot, at_ms: u64) {
        let moment = self.moment();
        let model = snapshot.resolve(&spent.route).map(|route| first_model(&route));
        let of = Subject {
            caller: &spent.caller,
            team: None,
            route: &spent.route,
            model: &model.unwrap_or_default(),
            tags: &spent.tags,
        };
        let used = Amounts {
            input_tokens: spent.usage.input.saturating_add(spent.usage.cache_write),
            cached_tokens: spent.usage.cached_input,
            output_tokens: spent.usage.total_output(),
            micro_usd: spent.cost.0,
        };
        for rule in snapshot.limits.iter().filter(|rule| rule.periods().any(|of| of == period)) {
            let Some(key) = rule.subject(&of) else { continue };
            let only = [self.subjects.get(key, rule, None, moment)];
            for locked in &mut lock(&only, moment) {
                let cached = locked.cached_permille();
                for (dimension, meter) in locked.meters_mut() {
                    let amount = match dimension.counted {
                        Counted::Requests => spent.requests,
                        counted => used.of(counted, cached),
                    };
                    let window = meter.window_mut().filter(|_| dimension.period == Some(period));
                    if let Some(window) = window {
                        window.add_spent(amount, at_ms, moment.unix_ms);
                        // The earlier run has told of it.
                        let _ = window.crossed(moment.unix_ms);
                    }
                }
            }
        }
    }
}
