//! Continues a stream that broke after its first words, where its caller asked for that.
//!
//! Another target is sent the conversation with what the caller has of the answer as the beginning
//! of the assistant's turn, and its answer is joined to that beginning. The rules are
//! [`policy::midstream`](crate::policy::midstream)'s; here they are put to a request. Whatever stands
//! in the way, the stream ends as it would have ended without the wish: with an error event.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::attempt::Begun;
use super::live::Live;
use super::plan::Plan;
use super::prepare::Scribe;
use super::stream::Named;
use super::wire::{Heard, Seam};
use super::{Account, Call, Lane};
use crate::chat::{ChatRequest, FinishReason, Message, Part, Reasoning, ResponseFormat, Role};
use crate::clock::Instant;
use crate::config::Target;
use crate::dialect::{StreamEncoder, StreamSummary};
use crate::failure::Midstream;
use crate::policy::midstream::{Facts, Why, may_continue, prefill};
use crate::tokens;

/// Text is counted in pieces of this length, so that none is taken for a picture.
const COUNTED_CHARS: usize = 1_000;

/// How long the count is waited for.
const COUNTED_WITHIN: Duration = Duration::from_millis(50);

/// A continuation under way, with the account it is charged to.
pub(super) type Joining =
    Pin<Box<dyn Future<Output = (Result<Box<Live>, &'static str>, Account)> + Send>>;

/// What a stream is continued with if it breaks: the request, and what was not tried yet.
pub(super) struct Sequel {
    lane: Lane,
    call: Box<Call>,
    left: Box<Left>,
}

/// What a search for a target that answers has left.
pub(super) struct Left {
    pub(super) plan: Plan,
    pub(super) scribe: Scribe,
}

/// A stream that broke.
pub(super) struct Broken {
    pub(super) target: Arc<Target>,
    pub(super) heard: Heard,
    /// Where it was in writing the answer.
    pub(super) encoder: Box<dyn StreamEncoder>,
    pub(super) summary: StreamSummary,
}

// === impl Sequel ===

impl Sequel {
    /// What a stream that was opened for `call` can be continued with; nothing where its caller
    /// does not want that, or no target of its route could.
    pub(super) fn of(lane: Lane, call: Box<Call>, left: Option<Box<Left>>) -> Option<Box<Self>> {
        let left = left.filter(|_| call.is_continued())?;
        Some(Box::new(Self { lane, call, left }))
    }

    /// A fresh encoder for the caller, as the one that would have written the stream.
    pub(super) fn encoder(&self, target: &Target) -> Box<dyn StreamEncoder> {
        let created = self.lane.ledger.unix_seconds();
        let context = super::attempt::reply_context(&self.call, target, created);
        self.call.dialect.codec().stream_encoder(context)
    }

    /// Whose stream it is.
    pub(super) fn named(&self) -> Named {
        Named { request_id: self.call.request_id.clone(), dialect: self.call.dialect }
    }

    /// Opens another target and joins its answer to what the caller has.
    ///
    /// The future answers with the joined stream, or with the word for why there is none.
    pub(super) fn join(mut self: Box<Self>, broken: Broken, mut account: Account) -> Joining {
        Box::pin(async move {
            let stop = self.lane.stop.clone();
            let joined = stop.unless(pin!(self.open(broken, &mut account))).await;
            let joined = joined.unwrap_or_else(|| {
                account.on_stopped();
                account.on_given_up(super::settle::Why::Stopped);
                Err("stopping")
            });
            (joined, account)
        })
    }

    async fn open(
        &mut self,
        broken: Broken,
        account: &mut Account,
    ) -> Result<Box<Live>, &'static str> {
        let Broken { target: from, heard, encoder, summary } = broken;
        let Self { lane, call, left } = self;
        let Left { plan, scribe } = &mut **left;
        let chat = scribe.chat(call).map_err(|_unreadable| "unreadable")?.clone();
        let delivered_tokens = count(lane, &heard.text).await;
        let facts = facts(call, &chat, (&heard, &summary), delivered_tokens);
        plan.go_on(delivered_tokens, facts.tokens_left, Instant::now());
        plan.retain(|plan, position, target| {
            let facts = Facts {
                context_tokens: target.model.context_tokens.unwrap_or(u64::MAX),
                time_left: plan.remaining(),
                ttft_p50: plan.median_first_token(position),
                has_native_prefill: target.native_prefill().is_known(),
                is_other_model: target.model.name != from.model.name,
                ..facts
            };
            may_continue(&facts)
        })
        .map_err(Why::as_str)?;
        if !plan.group.take_splice(Instant::now()) {
            return Err(Why::OverBudget.as_str());
        }
        scribe.go_on(with_beginning(chat, &heard.text, delivered_tokens));
        let begun = lane.try_targets(call, plan, scribe, account).await;
        let begun = begun.map_err(|rejection| {
            tracing::debug!(
                request.id = %call.request_id,
                "nobody continues the stream: {}",
                rejection.loggable()
            );
            "nobody_answered"
        })?;
        let Begun::Stream(mut live) = begun else { return Err("nobody_answered") };
        let seam = Seam::new(&heard.text, delivered_tokens, &from, &live.target);
        account.on_joined(delivered_tokens);
        live.join(seam, encoder, summary);
        Ok(live)
    }
}

/// What is the case, as far as that is the same for all targets.
fn facts(
    call: &Call,
    chat: &ChatRequest,
    (heard, summary): (&Heard, &StreamSummary),
    delivered_tokens: u64,
) -> Facts {
    let thinks = |reasoning: &Reasoning| {
        reasoning.budget_tokens.is_some_and(|tokens| tokens > 0)
            || reasoning.effort.is_some_and(|effort| effort.budget_tokens() > 0)
    };
    let is_structured = match &chat.response_format {
        Some(ResponseFormat::Json | ResponseFormat::JsonSchema { .. }) => true,
        Some(ResponseFormat::Text) | None => false,
    };
    Facts {
        is_opted_in: call.midstream != Midstream::Terminate,
        splices: 0,
        is_in_budget: true,
        has_tool_call: heard.has_tool_call || summary.has_tool_calls,
        is_structured,
        has_logprobs: chat.logprobs.is_some(),
        alternatives: chat.n.unwrap_or(1),
        has_reasoning: heard.has_reasoning || chat.reasoning.as_ref().is_some_and(thinks),
        has_other: heard.has_other || summary.has_other,
        has_ended: summary.finish.is_some(),
        was_filtered: summary.finish == Some(FinishReason::ContentFilter),
        delivered_chars: prefill(&heard.text).chars().count() as u64,
        // What is not kept cannot be sent.
        delivered_tokens: if heard.is_too_long { u64::MAX } else { delivered_tokens },
        context_tokens: u64::MAX,
        tokens_left: chat.max_tokens.map(|most| most.saturating_sub(delivered_tokens)),
        time_left: Duration::MAX,
        ttft_p50: Duration::ZERO,
        has_native_prefill: true,
        is_other_model: false,
        allows_other_model: call.midstream == Midstream::ContinueAnyModel,
    }
}

/// The request for the rest: its last turn is the beginning of the answer.
fn with_beginning(mut chat: ChatRequest, text: &str, delivered_tokens: u64) -> ChatRequest {
    let beginning = prefill(text);
    let turn = chat.messages.last_mut().filter(|last| last.role == Role::Assistant);
    match turn {
        // The caller itself began the answer.
        Some(turn) => match turn.parts.last_mut() {
            Some(Part::Text { text, .. }) => text.push_str(beginning),
            _ => turn.parts.push(Part::text(beginning)),
        },
        None => chat.messages.push(Message::text(Role::Assistant, beginning)),
    }
    chat.max_tokens = chat.max_tokens.map(|most| most.saturating_sub(delivered_tokens));
    chat
}

/// Tokens of a text, guessed by its length where counting would keep the caller waiting.
async fn count(lane: &Lane, text: &str) -> u64 {
    let request = as_json(text);
    let counted = tokio::time::timeout(COUNTED_WITHIN, lane.ledger.count_tokens(&request)).await;
    counted.unwrap_or_else(|_elapsed| tokens::guess(text.len() as u64))
}

/// A text as a request that has nothing else in it.
fn as_json(text: &str) -> Bytes {
    let letters: Vec<char> = text.chars().collect();
    let pieces: Vec<String> =
        letters.chunks(COUNTED_CHARS).map(|piece| piece.iter().collect()).collect();
    serde_json::Value::from(pieces).to_string().into()
}
