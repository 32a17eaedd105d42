//! Lesser answers, where nobody gave the one that was asked for.
//!
//! The order of the steps is [`policy::degrade`](crate::policy::degrade)'s; what each does is here.
//! Later tiers are no step of their own: the plan has them behind the first one already.

use bytes::Bytes;

use super::cached::Stale;
use super::plan::Plan;
use super::prepare::Scribe;
use super::{Account, Call, Lane};
use crate::chat::{
    ChatRequest, Choice, Completion, FinishReason, Part, ResponseFormat, ToolChoice, Usage,
    can_reduce,
};
use crate::clock::Instant;
use crate::config::DegradeSettings;
use crate::dialect::{self, ReplyContext};
use crate::failure::{Excess, FailureKind};
use crate::journal::EndpointKind;
use crate::policy::degrade::{Facts, Ladder, Level, Trouble};
use crate::rejection::Rejection;

/// What can still be done for a request that nobody answered.
pub(super) enum Step {
    /// The targets are to be tried again, with less.
    Again,
    /// The caller gets these bytes.
    Say(Bytes),
    /// The caller gets what was kept.
    Give(Box<Stale>),
}

impl Lane {
    /// Takes the next step down after `level`, if there is one.
    pub(super) async fn step_down(
        &self,
        level: &mut Level,
        rejection: &Rejection,
        call: &Call,
        (plan, scribe): (&mut Plan, &mut Scribe),
        account: &mut Account,
    ) -> Option<Step> {
        let trouble = trouble(rejection)?;
        if let Some(held_back) = self.held_back(call) {
            return Some(Step::Give(held_back));
        }
        let ladder = ladder(&plan.route().degrade, trouble);
        if ladder == Ladder::default() {
            return None;
        }
        let chat = match call.kind {
            EndpointKind::Embeddings => None,
            // A request that cannot be read is refused, and not answered with less.
            EndpointKind::Chat
            | EndpointKind::Messages
            | EndpointKind::Completions
            | EndpointKind::CountTokens => Some(scribe.chat(call).ok()?),
        };
        let mut facts = Facts {
            trouble,
            is_committed: false,
            can_reduce: chat.is_some_and(can_reduce),
            has_later_tier: false,
            has_stale_answer: false,
            takes_plain_text: chat.is_some_and(|chat| takes_plain_text(call.kind, chat)),
        };
        let mut stale = if ladder.stale_cache { self.stale(call).await } else { None };
        facts.has_stale_answer = stale.is_some();
        while let Some(next) = ladder.next_step(*level, &facts) {
            *level = next;
            match next {
                Level::ReducedContext => {
                    if let Some(tokens) = self.shorten(call, plan, scribe).await {
                        account.on_reduced();
                        plan.begin_again(tokens, Instant::now());
                        return Some(Step::Again);
                    }
                }
                Level::Scripted => {
                    let words = plan.route().degrade.scripted.as_deref().unwrap_or_default();
                    return Some(Step::Say(scripted(call, words, self.ledger.unix_seconds())));
                }
                Level::StaleAnswer => {
                    if let Some(stale) = stale.take() {
                        return Some(Step::Give(stale));
                    }
                }
                Level::None | Level::SmallerModel => {}
            }
        }
        None
    }

    /// Leaves out the oldest turns, so that the rest fits the longest context of the route. Returns
    /// the tokens that are left; nothing where that cannot be reached.
    async fn shorten(&self, call: &Call, plan: &Plan, scribe: &mut Scribe) -> Option<u64> {
        let chat = scribe.chat(call).ok()?.clone();
        let (chat, reduced) =
            self.ledger.reduce(chat, plan.room_for_prompt(), call.envelope.body().len()).await?;
        tracing::debug!(
            request.id = %call.request_id,
            turns = reduced.turns,
            messages = reduced.messages,
            tokens = reduced.tokens,
            "the oldest turns were left out"
        );
        scribe.rewrite(chat);
        Some(reduced.tokens)
    }
}

/// Why nobody answered; nothing where the request itself is to blame.
fn trouble(rejection: &Rejection) -> Option<Trouble> {
    match rejection {
        Rejection::AttemptsFailed { failure, .. } => Some(match failure.kind.excess() {
            Excess::Prompt => Trouble::ContextOverflow,
            Excess::Nothing | Excess::Requests | Excess::Time => Trouble::Failed(failure.kind),
        }),
        Rejection::DeadlinePassed { .. } => Some(Trouble::Failed(FailureKind::SlowStart)),
        Rejection::NobodyReady { .. } | Rejection::Overloaded { .. } => Some(Trouble::NoTarget),
        Rejection::Invalid { .. }
        | Rejection::Unsupported { .. }
        | Rejection::Unauthorized { .. }
        | Rejection::KeyExpired
        | Rejection::Forbidden { .. }
        | Rejection::UnknownModel { .. }
        | Rejection::UnknownPrompt { .. }
        | Rejection::UnknownPath { .. }
        | Rejection::WrongMethod { .. }
        | Rejection::EncodedBody { .. }
        | Rejection::UnknownJob { .. }
        | Rejection::UnknownRequest { .. }
        | Rejection::TooManyJobs { .. }
        | Rejection::TooLargeToWait { .. }
        | Rejection::AnswerTooLarge { .. }
        | Rejection::KeyRevoked
        | Rejection::TooLarge { .. }
        | Rejection::HeadTooLarge { .. }
        | Rejection::RequestTimeout { .. }
        | Rejection::Unfinished
        | Rejection::StreamFailed { .. }
        | Rejection::StreamPast { .. }
        | Rejection::StreamCancelled
        | Rejection::Draining
        | Rejection::Unavailable { .. }
        | Rejection::Duplicate(_)
        | Rejection::LimitReached { .. }
        | Rejection::Internal { .. } => None,
    }
}

/// What a route allows in a trouble. A prompt that is too long is the caller's to shorten, who must
/// hear of it: that is never answered with fixed words. And nothing but that is eased by a shorter
/// one so surely that turns may be left out for it.
fn ladder(settings: &DegradeSettings, trouble: Trouble) -> Ladder {
    let overflows = trouble == Trouble::ContextOverflow;
    Ladder {
        reduced_context: settings.reduced_context && overflows,
        smaller_model: false,
        stale_cache: settings.stale_cache && !overflows,
        scripted: settings.scripted.is_some() && !overflows,
    }
}

/// Whether a program that sent this can do something with a sentence.
fn takes_plain_text(kind: EndpointKind, chat: &ChatRequest) -> bool {
    let is_answered_in_words = match kind {
        EndpointKind::Chat | EndpointKind::Messages | EndpointKind::Completions => true,
        EndpointKind::Embeddings | EndpointKind::CountTokens => false,
    };
    let must_call = match &chat.tool_choice {
        Some(ToolChoice::Required | ToolChoice::Tool(_)) => true,
        Some(ToolChoice::Allowed { required, .. }) => *required,
        Some(ToolChoice::Auto | ToolChoice::None) | None => false,
    };
    let is_structured = match &chat.response_format {
        Some(ResponseFormat::Json | ResponseFormat::JsonSchema { .. }) => true,
        Some(ResponseFormat::Text) | None => false,
    };
    is_answered_in_words && !must_call && !is_structured && chat.n.unwrap_or(1) <= 1
}

/// A complete answer in fixed words, as the caller wants it.
fn scripted(call: &Call, words: &str, created: u64) -> Bytes {
    let choice = Choice {
        parts: vec![Part::text(words)],
        finish: Some(FinishReason::Stop),
        ..Choice::default()
    };
    let completion = Completion {
        model: call.envelope.model.clone(),
        created,
        choices: vec![choice],
        usage: Some(Usage::default()),
        ..Completion::default()
    };
    let context = ReplyContext {
        request_id: call.request_id.to_string(),
        model: call.envelope.model.clone(),
        created,
        include_usage: call.envelope.include_usage,
    };
    let is_text = call.kind == EndpointKind::Completions;
    let codec = call.dialect.codec();
    if !call.envelope.stream {
        return match is_text {
            true => dialect::encode_text_reply(&completion, &context).into(),
            false => codec.encode_reply(&completion, &context).into(),
        };
    }
    let mut encoder = match is_text {
        true => dialect::text_stream_encoder(context),
        false => codec.stream_encoder(context),
    };
    let mut out = Vec::new();
    for delta in completion.into_deltas() {
        encoder.push(&delta, &mut out);
    }
    out.into()
}
