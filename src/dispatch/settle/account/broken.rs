//! An attempt that breaks within its answer, and what comes of that.

use std::sync::Arc;

use super::Account;
use crate::config::Target;
use crate::dialect::{Dropped, StreamSummary};
use crate::dispatch::settle::seam::SeamAccount;
use crate::dispatch::settle::waste::Why;
use crate::failure::Failure;
use crate::telemetry::TargetMetrics;

/// An attempt that broke within its answer.
#[derive(Debug)]
pub(super) struct Broken {
    target: Arc<Target>,
    metrics: Arc<TargetMetrics>,
    degradation: u8,
    dropped: Dropped,
    summary: StreamSummary,
}

// === impl Account ===

impl Account {
    /// Notes that the attempt broke whose answer the caller was getting.
    pub(in crate::dispatch) fn on_broken(&mut self, failure: &Failure) {
        if let Some(trace) = self.open.as_mut().and_then(|open| open.trace.as_mut()) {
            trace.on_break(failure);
        }
    }

    /// Notes that another attempt is to continue the answer that broke off.
    pub(in crate::dispatch) fn on_break(&mut self, failure: &Failure, summary: &StreamSummary) {
        let Some(open) = &mut self.open else { return };
        open.entry.failure = Some(failure.kind);
        if let Some((target, metrics)) = open.tried.take() {
            let (degradation, dropped) = (open.entry.degradation, open.dropped.clone());
            let summary = summary.clone();
            open.broken = Some(Box::new(Broken { target, metrics, degradation, dropped, summary }));
        }
    }

    /// Notes that the last attempt continues the one that broke, which has delivered so many
    /// tokens.
    pub(in crate::dispatch) fn on_joined(&mut self, delivered_tokens: u64) {
        let Some(open) = &mut self.open else { return };
        if let Some(broken) = open.broken.take() {
            let Broken { target, metrics, .. } = *broken;
            open.seam = Some(SeamAccount { target, metrics, delivered_tokens });
        }
    }

    /// Notes that nobody continues the attempt that broke: it is all there is of the answer.
    /// Returns what that is.
    pub(in crate::dispatch) fn on_not_joined(&mut self) -> Option<StreamSummary> {
        let open = self.open.as_mut()?;
        let Broken { target, metrics, degradation, dropped, summary } = *open.broken.take()?;
        open.entry.target = Some(target.id.clone());
        open.entry.provider = Some(target.endpoint.provider.clone());
        open.entry.model_served = Some(target.model.name.clone());
        open.entry.degradation = degradation;
        open.dropped = dropped;
        if let Some((sequel, its)) = open.tried.replace((target, metrics)) {
            // The caller left while another was asked for the rest.
            open.wasted.add(&sequel, &its, Why::Failed, None);
        }
        Some(summary)
    }

    /// Whether the answer is one that another attempt continues.
    pub(in crate::dispatch) fn is_joined(&self) -> bool {
        self.open.as_ref().is_some_and(|open| open.seam.is_some())
    }

    /// Counts what came of a stream that broke and was to be continued.
    pub(in crate::dispatch) fn on_midstream(&mut self, result: &'static str) {
        self.ledger.metrics().requests.midstream(result);
        if let Some(trace) = self.open.as_mut().and_then(|open| open.trace.as_mut()) {
            trace.on_midstream(result);
        }
    }
}
