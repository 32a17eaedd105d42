//! The end of an account: what the answer has cost, who pays it, and what has to be estimated
//! before that is known.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::chat::Usage;
use crate::config::Target;
use crate::dialect::{StreamSummary, TextSample};
use crate::dispatch::settle::Ledger;
use crate::dispatch::settle::estimate::Estimate;
use crate::dispatch::settle::seam::SeamAccount;
use crate::dispatch::settle::waste::{Prompt, WasteEstimate, Wasted};
use crate::dispatch::trace::Trace;
use crate::journal::{EndpointKind, Entry, Outcome, Reuse};
use crate::limits::Reservation;
use crate::telemetry::TargetMetrics;
use crate::units::MicroUsd;

/// What is left to do for a request that has ended.
pub(super) struct Closing<'a> {
    pub(super) ledger: &'a Arc<Ledger>,
    /// With everything but usage and cost.
    pub(super) entry: Entry,
    pub(super) trace: Option<Box<Trace>>,
    pub(super) wasted: Wasted,
    pub(super) prompt: Bytes,
    pub(super) reservation: Option<Reservation>,
    pub(super) seam: Option<SeamAccount>,
    /// From the first token to the end, where the tokens came one by one.
    pub(super) flowed_for: Option<Duration>,
    pub(super) is_cut_short: bool,
}

impl Closing<'_> {
    /// Books the attempt that the caller pays for, if there is one; what it cost where that is
    /// known at once.
    pub(super) fn close(
        self,
        tried: Option<(Arc<Target>, Arc<TargetMetrics>)>,
        summary: Option<&StreamSummary>,
    ) -> Option<MicroUsd> {
        let Some((target, metrics)) = tried else {
            self.without_answer();
            return None;
        };
        if self.entry.endpoint == EndpointKind::CountTokens {
            // No model was asked anything.
            self.ledger.close(self.entry, self.trace);
            return Some(MicroUsd::default());
        }
        let said = summary.and_then(|summary| summary.usage);
        if let (Some(second), true, Outcome::Spliced) =
            (said, self.seam.is_some(), self.entry.outcome)
        {
            return Some(self.spliced(&second, &target, &metrics));
        }
        let known = said.map(|said| self.seam.as_ref().map_or(said, |seam| seam.delivered(said)));
        match (known, self.entry.outcome, self.is_cut_short) {
            (Some(usage), Outcome::Complete, false) => Some(self.told(usage, &target, &metrics)),
            (known, ..) => {
                let text = summary.map(|summary| summary.text.clone()).unwrap_or_default();
                self.estimated(known.unwrap_or_default(), text, &target, metrics);
                None
            }
        }
    }

    fn without_answer(self) {
        let Self { ledger, entry, trace, mut wasted, prompt, reservation, .. } = self;
        if entry.endpoint == EndpointKind::CountTokens {
            // No model was asked anything.
            wasted = Wasted::default();
        }
        match reservation {
            // An answer that was there already is a request, and takes nothing else.
            Some(reservation) if entry.attempts > 0 || is_given_again(entry.reuse) => {
                reservation.settle_unanswered();
            }
            // Dropped, it gives everything back.
            Some(_) | None => {}
        }
        ledger.close_with(WasteEstimate { entry, trace, wasted, prompt: Prompt::Text(prompt) });
    }

    /// One attempt began the answer and another ended it.
    fn spliced(self, second: &Usage, target: &Target, metrics: &TargetMetrics) -> MicroUsd {
        let Self { ledger, mut entry, trace, wasted, reservation, seam, .. } = self;
        if let Some(seam) = seam {
            seam.settle(&mut entry, second, (&target.model, metrics), ledger.metrics());
        }
        if let Some(reservation) = reservation {
            reservation.settle(&entry.usage, &target.model);
        }
        let cost = entry.cost;
        let prompt = Prompt::Tokens(entry.usage.total_input());
        ledger.close_with(WasteEstimate { entry, trace, wasted, prompt });
        cost
    }

    /// The provider said what was used.
    fn told(self, usage: Usage, target: &Target, metrics: &TargetMetrics) -> MicroUsd {
        let Self { ledger, mut entry, trace, wasted, reservation, flowed_for, .. } = self;
        entry.usage = usage;
        entry.cost = target.model.cost(&usage);
        metrics.used(&usage, entry.cost.0);
        if let Some(reservation) = reservation {
            reservation.settle(&usage, &target.model);
        }
        if let Some(flowed_for) = flowed_for {
            ledger.observe_pace(flowed_for, &usage, metrics);
        }
        let cost = entry.cost;
        let prompt = Prompt::Tokens(usage.total_input());
        ledger.close_with(WasteEstimate { entry, trace, wasted, prompt });
        cost
    }

    /// Nobody said what was used.
    fn estimated(
        self,
        known: Usage,
        text: TextSample,
        target: &Target,
        metrics: Arc<TargetMetrics>,
    ) {
        let Self { ledger, entry, trace, wasted, prompt, mut reservation, seam, .. } = self;
        if let Some(reservation) = &mut reservation {
            reservation.release();
        }
        let model = Arc::clone(&target.model);
        ledger.estimate(Estimate {
            reservation,
            entry,
            prompt,
            text,
            known,
            model,
            metrics,
            trace,
            seam,
            wasted,
        });
    }
}

/// Whether the answer is one that was made for another request.
fn is_given_again(reuse: Option<Reuse>) -> bool {
    match reuse {
        Some(Reuse::Exact | Reuse::Semantic | Reuse::Coalesced) => true,
        Some(Reuse::Replayed) | None => false,
    }
}
