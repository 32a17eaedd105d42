//! What an account knows of its request until that is settled.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::broken::Broken;
use crate::clock::Instant;
use crate::config::Target;
use crate::dialect::{Dropped, StreamSummary};
use crate::dispatch::rolled::Watched;
use crate::dispatch::settle::Why;
use crate::dispatch::settle::ending::{self, Ending};
use crate::dispatch::settle::seam::SeamAccount;
use crate::dispatch::settle::waste::Wasted;
use crate::dispatch::trace::Trace;
use crate::fleet::Slot;
use crate::journal::{Entry, Outcome};
use crate::limits::{Reservation, Standing};
use crate::policy::degrade::Level;
use crate::prompt::Prompt as RegisteredPrompt;
use crate::telemetry::TargetMetrics;
use crate::units::MicroUsd;

/// What is known of a request so far.
#[derive(Debug)]
pub(in crate::dispatch::settle) struct Open {
    pub(in crate::dispatch::settle) entry: Entry,
    pub(super) received: Instant,
    /// When the body was read and the gateway's own work began.
    pub(super) read: Instant,
    pub(super) first_token: Option<Instant>,
    pub(super) upstream_wait: Duration,
    pub(super) prompt: Bytes,
    /// The registered prompt.
    pub(super) used: Option<Arc<RegisteredPrompt>>,
    /// The attempt that the caller pays for if nothing else comes of it.
    pub(super) tried: Option<(Arc<Target>, Arc<TargetMetrics>)>,
    /// The one that this one is raced against.
    pub(super) beside: Option<(Arc<Target>, Arc<TargetMetrics>)>,
    /// Those that were in vain.
    pub(super) wasted: Wasted,
    pub(super) dropped: Dropped,
    /// Whether two attempts were raced.
    pub(super) hedged: bool,
    /// How long an answer was held back after its first token.
    pub(super) held: Duration,
    /// Whether the oldest turns of the conversation were left out.
    pub(super) is_reduced: bool,
    /// Whether the caller wants a broken stream continued, which cannot be done.
    pub(super) is_refused_more: bool,
    /// The attempt that broke within its answer, while another is looked for.
    pub(super) broken: Option<Box<Broken>>,
    /// The attempt that broke within its answer, once another continues that.
    pub(super) seam: Option<SeamAccount>,
    /// Whether the answer comes token by token.
    pub(super) flows: bool,
    /// Whether a limit ended the answer.
    pub(super) is_cut_short: bool,
    /// `None` where the request leaves no span.
    pub(super) trace: Option<Box<Trace>>,
    /// Its place among those that the process serves at a time.
    pub(super) slot: Option<Slot>,
    /// Who wants to know whether the reply stands.
    pub(super) ending: Option<Ending>,
    /// Whether a provider counted tokens whose cost is not known.
    pub(super) spent: bool,
    /// Whether the request itself was found at fault.
    pub(super) is_callers: bool,
    /// Whether it ends because the gateway stops.
    pub(super) is_stopped: bool,
    /// What was taken from its caller's limits.
    pub(super) reservation: Option<Reservation>,
    /// What is left of those.
    pub(super) standing: Option<Box<Standing>>,
    /// Its part in a rollout.
    pub(super) watched: Option<Box<Watched>>,
}

// === impl Open ===

impl Open {
    /// A request that came in at `received`.
    pub(super) fn new(entry: Entry, received: Instant) -> Self {
        Self {
            entry,
            received,
            read: received,
            first_token: None,
            upstream_wait: Duration::ZERO,
            prompt: Bytes::new(),
            used: None,
            tried: None,
            beside: None,
            wasted: Wasted::default(),
            dropped: Dropped::default(),
            hedged: false,
            held: Duration::ZERO,
            is_reduced: false,
            is_refused_more: false,
            broken: None,
            seam: None,
            flows: false,
            is_cut_short: false,
            trace: None,
            slot: None,
            ending: None,
            spent: false,
            is_callers: false,
            is_stopped: false,
            reservation: None,
            standing: None,
            watched: None,
        }
    }

    /// Forgets an attempt that is under way no more. Another that it was raced against may still
    /// be.
    pub(super) fn forget(&mut self, target: &Target) {
        let is = |attempt: &(Arc<Target>, Arc<TargetMetrics>)| std::ptr::eq(&*attempt.0, target);
        if self.tried.as_ref().is_some_and(is) {
            self.tried = self.beside.take();
        } else if self.beside.as_ref().is_some_and(is) {
            self.beside = None;
        }
    }

    /// Attempts under way are given up: what they took is wasted.
    pub(super) fn give_up_attempts(&mut self, why: Why) {
        for (target, metrics) in [self.tried.take(), self.beside.take()].into_iter().flatten() {
            self.wasted.add(&target, &metrics, why, None);
        }
        if let Some(trace) = &mut self.trace {
            trace.on_given_up();
        }
    }

    /// How far an answer of `target` is from what was asked for.
    pub(super) fn level_of(&self, target: &Target) -> Level {
        match (target.tier, self.is_reduced) {
            (0, false) => Level::None,
            (0, true) => Level::ReducedContext,
            (_later, _) => Level::SmallerModel,
        }
    }

    /// Whether the reply of a request that ends so stands.
    pub(super) fn stands(&self, outcome: Outcome, summary: Option<&StreamSummary>) -> bool {
        let counted = summary.and_then(|summary| summary.usage);
        let spent = self.spent
            || self.entry.cost > MicroUsd::default()
            || counted.is_some_and(|usage| usage.total_input() + usage.total_output() > 0)
            || (self.tried.is_some() && self.first_token.is_some());
        !self.is_stopped && ending::stands(outcome, self.entry.degradation, spent, self.is_callers)
    }

    /// The gateway's own part of the time between the body's end and `until`.
    pub(super) fn overhead(&self, until: Instant) -> Duration {
        until.saturating_duration_since(self.read).saturating_sub(self.upstream_wait)
    }
}
