//! An answer that comes token by token, as its provider sends it.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;

use super::attempt::Terms;
use super::wire::{Progress, Seam, Wire};
use crate::clock::Instant;
use crate::config::{HoldBack, KeepAlive, Target, Timeouts};
use crate::dialect::{StreamEncoder, StreamSummary};
use crate::failure::{Failure, FailureKind};
use crate::fleet::Ticket;
use crate::rejection::Rejection;
use crate::upstream::UpstreamBody;

/// How long a provider may keep its connection open after its terminal event. The caller has its
/// whole answer; what is waited for is only the connection's reuse.
const GRACE: Duration = Duration::from_millis(200);

/// An answer whose first token is here.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) body: Box<dyn UpstreamBody>,
    pub(super) wire: Wire,
    /// Bytes not sent yet: at first those held back.
    pub(super) held: Bytes,
    /// Pieces of the answer among them.
    pub(super) held_tokens: u32,
    /// Pieces of the answer that are not counted towards limits yet.
    pub(super) uncounted: u32,
    /// Whether the body has ended while it was held back.
    pub(super) is_over: bool,
    /// How it broke as it was joined to its beginning.
    broken: Option<Failure>,
    pub(super) ticket: Option<Ticket>,
    timeouts: Timeouts,
    pub(super) keep_alive: KeepAlive,
    pub(super) deadline: Instant,
    /// When the answer last came nearer to its end. Pings and comments do not count: a provider
    /// may send them for as long as it likes.
    pub(super) last_token: Instant,
    pub(super) target: Arc<Target>,
}

// === impl Live ===

impl Live {
    pub(super) fn new(
        body: Box<dyn UpstreamBody>,
        wire: Wire,
        (held, held_tokens): (Bytes, u32),
        terms: &Terms,
        target: &Arc<Target>,
    ) -> Self {
        Self {
            body,
            wire,
            held,
            held_tokens,
            uncounted: held_tokens,
            is_over: false,
            broken: None,
            ticket: None,
            timeouts: terms.conduct.timeouts,
            keep_alive: terms.conduct.keep_alive,
            deadline: terms.deadline,
            last_token: Instant::now(),
            target: Arc::clone(target),
        }
    }

    /// Holds more of the answer back while another target could still take over: a provider that
    /// fails within its first words has then failed before anybody heard them.
    pub(super) async fn hold_back(&mut self, hold_back: HoldBack) -> Result<(), Failure> {
        let until = self.last_token + hold_back.time;
        while self.held_tokens < hold_back.tokens && !self.is_told() {
            if self.read_on(until).await?.is_none() {
                break;
            }
        }
        Ok(())
    }

    /// Whether nothing of the answer is to come.
    pub(super) fn is_told(&self) -> bool {
        self.is_over || self.wire.saw_terminal()
    }

    /// Makes the answer the rest of one that broke, of which the caller has what `told` counts.
    pub(super) fn join(
        &mut self,
        seam: Seam,
        encoder: Box<dyn StreamEncoder>,
        told: StreamSummary,
    ) {
        let Progress { bytes, failure, .. } = self.wire.join(seam, encoder, told);
        (self.held, self.broken) = (bytes, failure);
    }

    /// What was counted so far.
    pub(super) fn summary(&self) -> &StreamSummary {
        self.wire.summary()
    }

    /// The next bytes for the caller, or how the answer ended.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        if !self.held.is_empty() {
            return Poll::Ready(Step::Send(std::mem::take(&mut self.held)));
        }
        if let Some(failure) = self.broken.take() {
            return Poll::Ready(Step::Break(Bytes::new(), failure));
        }
        if self.is_over {
            return Poll::Ready(Step::End(Bytes::new()));
        }
        loop {
            let progress = match self.body.poll_chunk(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(chunk))) => {
                    // After the end the wire sees nothing more, however much is said.
                    let progress = self.wire.push(chunk);
                    self.uncounted = self.uncounted.saturating_add(progress.tokens);
                    if progress.advanced {
                        self.last_token = Instant::now();
                    }
                    progress
                }
                // A connection that breaks after the terminal event has broken nothing.
                Poll::Ready(Some(Err(_))) if self.wire.saw_terminal() => {
                    return Poll::Ready(Step::End(Bytes::new()));
                }
                Poll::Ready(Some(Err(failure))) => {
                    return Poll::Ready(Step::Break(Bytes::new(), failure));
                }
                Poll::Ready(None) => return Poll::Ready(self.finish()),
            };
            if let Some(failure) = progress.failure {
                return Poll::Ready(Step::Break(progress.bytes, failure));
            }
            if !progress.bytes.is_empty() {
                return Poll::Ready(Step::Send(progress.bytes));
            }
        }
    }

    /// The end of an answer of which nothing more comes.
    pub(super) fn finish(&mut self) -> Step {
        let Progress { bytes, failure, .. } = self.wire.finish();
        match failure {
            None => Step::End(bytes),
            Some(failure) => Step::Break(bytes, failure),
        }
    }

    /// When the clock has to be looked at next, seen from the provider's side.
    pub(super) fn next_limit(&self) -> Instant {
        let patience = if self.wire.saw_terminal() { GRACE } else { self.timeouts.between_tokens };
        (self.last_token + patience).min(self.deadline)
    }

    /// What the clock says: nothing, or the end.
    pub(super) fn on_alarm(&mut self, now: Instant) -> Option<Step> {
        if now < self.next_limit() {
            return None;
        }
        if self.wire.is_complete() {
            return Some(self.finish());
        }
        Some(match self.is_out_of_time(now) {
            true => Step::Over(Rejection::Unfinished),
            false => Step::Break(Bytes::new(), self.late(now)),
        })
    }

    /// Whether the request's time is over, for which its provider is not to blame.
    pub(super) fn is_out_of_time(&self, now: Instant) -> bool {
        now >= self.deadline
    }

    /// The failure of an answer that did not go on in time.
    pub(super) fn late(&self, now: Instant) -> Failure {
        let message = if self.is_out_of_time(now) {
            "the deadline passed within the answer".to_owned()
        } else {
            format!("no token within {:?}", self.timeouts.between_tokens)
        };
        Failure::new(FailureKind::MidStream, message)
    }
}

/// What comes next.
pub(super) enum Step {
    Send(Bytes),
    End(Bytes),
    Break(Bytes, Failure),
    /// It has to end here, and its provider is not to blame.
    Over(Rejection),
}
