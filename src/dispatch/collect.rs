//! A streamed answer, put together for a caller who wants it whole.
//!
//! Where a route races late attempts, providers are asked for a stream also when the caller is not:
//! only then is there a first token to race for, to measure, and to wait for no longer than
//! `first_token`. Nothing is sent to the caller before the end, so an answer that breaks off is an
//! ordinary failure.

use std::time::Duration;

use super::Call;
use super::attempt::{Begun, MAX_REPLY_BYTES, Whole};
use super::live::Live;
use super::wire;
use crate::chat::{Assembler, Completion, Delta};
use crate::clock::Instant;
use crate::config::Route;
use crate::dialect::{Codec, ReplyContext};
use crate::failure::{Failure, FailureKind};
use crate::fleet::Ticket;
use crate::journal::EndpointKind;
use crate::upstream;

/// How long the end of a body is waited for once the answer is complete: a connection that is read
/// to its end is used again. Longer than what follows a last event at once, and not felt.
const END_WITHIN: Duration = Duration::from_millis(20);

/// Whether a call is asked for as a stream and collected. Sound is left alone: providers stream it
/// in other formats than they send it whole.
pub(super) fn is_collected(call: &Call, route: &Route) -> bool {
    let envelope = &call.envelope;
    let is_conversation = match call.kind {
        EndpointKind::Chat | EndpointKind::Messages => true,
        EndpointKind::Completions | EndpointKind::Embeddings | EndpointKind::CountTokens => false,
    };
    is_conversation
        && !envelope.stream
        && route.conduct.hedge.is_some()
        && envelope.n.unwrap_or(1) <= 1
        && !envelope.has("audio")
        && !envelope.has("modalities")
}

/// Puts a stream together to the whole answer it is, and writes that in one piece at its end.
#[derive(Debug)]
pub(super) struct Collector {
    assembler: Assembler,
    codec: &'static dyn Codec,
    context: ReplyContext,
    said: Option<Box<Completion>>,
}

// === impl Collector ===

impl Collector {
    pub(super) fn new(codec: &'static dyn Codec, context: ReplyContext) -> Self {
        Self { assembler: Assembler::default(), codec, context, said: None }
    }

    /// Takes the next piece.
    pub(super) fn push(&mut self, delta: Delta, out: &mut Vec<u8>) {
        let is_end = delta == Delta::End;
        self.assembler.push(delta);
        if is_end {
            let completion = std::mem::take(&mut self.assembler).finish();
            let written = self.codec.encode_reply(&completion, &self.context);
            match out.is_empty() {
                true => *out = written,
                false => out.extend_from_slice(&written),
            }
            self.said = Some(Box::new(completion));
        }
    }

    /// Takes the next piece of an alternative's text.
    pub(super) fn push_text(&mut self, choice: u32, text: &str) {
        self.assembler.push_text(choice, text);
    }

    /// The answer that was written, once.
    pub(super) fn take_said(&mut self) -> Option<Box<Completion>> {
        self.said.take()
    }
}

// === impl Live ===

impl Live {
    /// Reads to the end of the answer and holds it back whole.
    ///
    /// # Errors
    ///
    /// How it broke off: nothing was sent.
    pub(super) async fn collect(&mut self) -> Result<(), Failure> {
        let mut bytes = 0_usize;
        while !self.is_told() {
            let until = self.next_limit();
            match self.read_on(until).await? {
                None => return Err(self.late(Instant::now())),
                Some(read) => bytes = bytes.saturating_add(read),
            }
            if bytes > MAX_REPLY_BYTES {
                let message = format!("the answer is longer than {MAX_REPLY_BYTES} bytes");
                return Err(Failure::new(FailureKind::Degenerate, message));
            }
        }
        if !self.is_over {
            let rest = async {
                while let Some(Ok(_rest)) = upstream::next_chunk(&mut *self.body).await {}
            };
            // One that stays open is closed by whoever drops it.
            let _ = tokio::time::timeout(END_WITHIN, rest).await;
        }
        Ok(())
    }

    /// What was held back: all of an answer, or its beginning.
    pub(super) fn held_back(mut self, ticket: Ticket, ended: Instant, is_whole: bool) -> Begun {
        if !is_whole {
            self.ticket = Some(ticket);
            return Begun::Stream(Box::new(self));
        }
        let summary = Box::new(self.summary().clone());
        let said = self.wire.take_said();
        Begun::Whole(Whole { body: self.held, said, summary, is_empty: false, ticket, ended })
    }

    /// Reads once and holds back what it came to. Returns how many bytes were read; nothing where
    /// none came in time.
    pub(super) async fn read_on(&mut self, until: Instant) -> Result<Option<usize>, Failure> {
        let next = upstream::next_chunk(&mut *self.body);
        let Ok(chunk) = tokio::time::timeout_at(until, next).await else { return Ok(None) };
        let mut read = 0;
        let progress = match chunk {
            Some(chunk) => {
                let chunk = chunk?;
                read = chunk.len();
                self.wire.push(chunk)
            }
            None => {
                self.is_over = true;
                self.wire.finish()
            }
        };
        if let Some(failure) = progress.failure {
            return Err(failure);
        }
        if progress.advanced {
            self.last_token = Instant::now();
        }
        self.held_tokens = self.held_tokens.saturating_add(progress.tokens);
        self.held = wire::join(std::mem::take(&mut self.held), &progress.bytes);
        Ok(Some(read))
    }
}
