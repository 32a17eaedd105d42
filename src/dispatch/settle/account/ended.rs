//! The ways in which a request ends, each of which settles its account.

use super::Account;
use super::closing::Closing;
use super::open::Open;
use crate::clock::Instant;
use crate::dialect::{Dropped, StreamSummary};
use crate::dispatch::Served;
use crate::dispatch::settle::ending;
use crate::dispatch::settle::waste::Why;
use crate::journal::{Outcome, Reuse};
use crate::policy::degrade::Level;
use crate::rejection::Rejection;
use crate::units::MicroUsd;

// === impl Account ===

impl Account {
    /// Settles a request whose whole answer was sent, or is about to be.
    pub(in crate::dispatch) fn complete(mut self, summary: &StreamSummary) -> Served {
        let served = self.served();
        let is_spliced = self.open.as_ref().is_some_and(|open| open.seam.is_some());
        let outcome = if is_spliced { Outcome::Spliced } else { Outcome::Complete };
        let cost = self.settle(outcome, 200, Some(summary));
        Served { cost, ..served }
    }

    /// Settles a request that is answered in the route's own words, because no target could.
    pub(in crate::dispatch) fn script(mut self) -> Served {
        if let Some(open) = &mut self.open {
            open.tried = None;
            open.dropped = Dropped::default();
            open.entry.degradation = Level::Scripted.number();
        }
        let served = Served { by: None, cost: Some(MicroUsd::default()), ..self.served() };
        self.settle(Outcome::Complete, 200, None);
        served
    }

    /// Settles a request whose answer broke off after it had begun.
    pub(in crate::dispatch) fn cut(mut self, rejection: &Rejection, summary: &StreamSummary) {
        self.on_end(rejection);
        if let Some(open) = &mut self.open {
            open.entry.error_code = Some(rejection.face().code);
            if let Rejection::StreamFailed { failure } = rejection {
                open.entry.failure = Some(failure.kind);
            }
        }
        self.settle(Outcome::Cut, 200, Some(summary));
    }

    /// Settles a request whose caller left within the answer.
    pub(in crate::dispatch) fn abandon(mut self, summary: &StreamSummary) {
        self.settle(Outcome::ClientGone, 200, Some(summary));
    }

    /// Settles a request that gets the reply of another: nothing was asked of a provider for it.
    pub fn reuse(mut self, reuse: Reuse, status: u16) {
        if let Some(open) = &mut self.open {
            open.entry.reuse = Some(reuse);
            open.tried = None;
        }
        let outcome = match status {
            ..400 => Outcome::Complete,
            // That one was refused, too.
            400..500 => Outcome::Rejected,
            500.. => Outcome::Failed,
        };
        self.settle(outcome, status, None);
    }

    /// Settles a request that got an error instead of an answer.
    pub fn reject(mut self, rejection: &Rejection) {
        self.on_end(rejection);
        let face = rejection.face();
        let attempted = self.attempts() > 0;
        if let Some(open) = &mut self.open {
            open.entry.error_code = Some(face.code);
            open.entry.degradation = Level::None.number();
            open.tried = None;
            open.is_callers = ending::is_callers(rejection);
            open.beside = None;
        }
        let outcome = if attempted { Outcome::Failed } else { Outcome::Rejected };
        self.settle(outcome, face.status.as_u16(), None);
    }

    /// Whoever is told that the gateway stops, its request ends for that reason.
    fn on_end(&mut self, rejection: &Rejection) {
        if matches!(rejection, Rejection::Draining) {
            self.on_stopped();
        }
    }

    pub(super) fn settle(
        &mut self,
        outcome: Outcome,
        status: u16,
        summary: Option<&StreamSummary>,
    ) -> Option<MicroUsd> {
        let open = self.open.take()?;
        if let Some(ending) = &open.ending {
            ending.tell(open.stands(outcome, summary));
        }
        let now = Instant::now();
        let overhead = open.overhead(open.first_token.unwrap_or(now));
        let Open { mut entry, received, first_token, prompt, tried, mut trace, .. } = *open;
        let mut wasted = open.wasted;
        if let Some((target, metrics)) = open.beside {
            // The caller left within a race. It pays for one attempt.
            wasted.add(&target, &metrics, Why::Hedge, None);
        }
        entry.outcome = outcome;
        entry.status = status;
        entry.latency = now.saturating_duration_since(received);
        entry.first_token = first_token.map(|at| at.saturating_duration_since(received));
        entry.overhead = overhead;
        if let Some(trace) = &mut trace {
            trace.end(now, summary);
        }
        if let Some(used) = &open.used {
            let served = entry.provider.as_ref().zip(entry.model_served.as_ref());
            let tested = served.and_then(|(provider, model)| {
                used.is_tested_with(provider.as_str(), model.as_str())
            });
            self.ledger.metrics().prompts.ended(&used.name, outcome.as_str(), tested);
        }
        if let Some(watched) = open.watched {
            entry.part = Some(watched.part(&entry, summary));
        }
        let flowed = first_token.filter(|_| open.flows);
        let closing = Closing {
            ledger: &self.ledger,
            entry,
            trace,
            wasted,
            prompt,
            reservation: open.reservation,
            seam: open.seam,
            flowed_for: flowed.map(|first_token| now.saturating_duration_since(first_token)),
            is_cut_short: open.is_cut_short,
        };
        closing.close(tried, summary)
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let detail = "panic".to_owned();
            let face = Rejection::Internal { detail }.face();
            if let Some(open) = &mut self.open {
                open.entry.error_code = Some(face.code);
            }
            self.settle(Outcome::Failed, face.status.as_u16(), None);
        }
        match self.on_not_joined() {
            // The caller left while the rest of its answer was looked for.
            Some(told) => self.settle(Outcome::ClientGone, 200, Some(&told)),
            None => self.settle(Outcome::ClientGone, 499, None),
        };
    }
}
