//! Whether and how a stream that broke after its first tokens is continued by another attempt.
//!
//! Continuing means sending the delivered text as the beginning of the answer and having the model
//! go on. That is safe for plain text alone: a half tool call, a schema, hidden reasoning, or log
//! probabilities cannot be joined, and most providers do not go on from a given beginning at all.
//! [`may_continue`] therefore asks for every condition, and [`Splice`] checks that what comes is a
//! continuation: models repeat the last words they were given, or start all over.

use std::collections::VecDeque;
use std::time::Duration;

use super::window::Window;
use crate::clock::Instant;

/// What is the case when a stream has broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// Whether the caller or the route asked for continuation.
    pub is_opted_in: bool,
    /// Splices made in this request.
    pub splices: u32,
    /// Whether the gateway's budget of splices allows one more: 1 % of the streams of a minute.
    pub is_in_budget: bool,
    /// Whether the broken stream had a tool call in it.
    pub has_tool_call: bool,
    /// Whether JSON or a schema was asked for.
    pub is_structured: bool,
    /// Whether log probabilities were asked for.
    pub has_logprobs: bool,
    /// How many alternatives were asked for.
    pub alternatives: u32,
    /// Whether the model thought, openly or not.
    pub has_reasoning: bool,
    /// Whether there was more in it than text: sources, sound, a provider's state.
    pub has_other: bool,
    /// Whether the model had said why it ended, so that there is nothing to continue.
    pub has_ended: bool,
    /// Whether a content filter ended the stream.
    pub was_filtered: bool,
    /// Characters delivered.
    pub delivered_chars: u64,
    /// Tokens delivered.
    pub delivered_tokens: u64,
    /// The context of the model that would continue, in tokens.
    pub context_tokens: u64,
    /// Tokens the caller still allows; `None` where no limit was given.
    pub tokens_left: Option<u64>,
    /// Time left until the request's deadline.
    pub time_left: Duration,
    /// The median time to the first token of the target that would continue.
    pub ttft_p50: Duration,
    /// Whether that target goes on from a given beginning.
    pub has_native_prefill: bool,
    /// Whether it serves another model than the one that began.
    pub is_other_model: bool,
    /// Whether the caller allows another model.
    pub allows_other_model: bool,
}

/// Why a stream is not continued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Why {
    /// Nobody asked for it.
    NotOptedIn,
    /// A content filter ended the stream.
    Filtered,
    /// It was continued once already.
    AlreadySpliced,
    /// Too many streams were continued lately.
    OverBudget,
    /// It has a tool call.
    ToolCall,
    /// It has to be JSON.
    Structured,
    /// Log probabilities were asked for.
    Logprobs,
    /// Several alternatives were asked for.
    Alternatives,
    /// The model's thoughts are lost.
    Reasoning,
    /// It has more than text in it.
    OtherContent,
    /// The model had said why it ended.
    Ended,
    /// Nothing was delivered, so there is nothing to go on from.
    NothingDelivered,
    /// Half of the context or more is taken by what was delivered.
    TooLong,
    /// The caller allows no more tokens.
    NoTokensLeft,
    /// The deadline is too near.
    NoTimeLeft,
    /// No other target can be asked.
    NoTarget,
    /// The target does not go on from a given beginning.
    NoPrefill,
    /// The target serves another model, and the caller does not allow that.
    OtherModel,
}

/// The model began the answer again instead of continuing it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the continuation begins the answer again")]
pub struct Restarted;

/// The time that must be left besides that to the first token.
const SPARE_TIME: Duration = Duration::from_secs(2);

/// Splices that a request may have.
const MAX_SPLICES: u32 = 1;

/// Characters of a continuation that are held back to judge it.
const HELD_CHARS: usize = 200;

/// As many are held while all that came repeats what was delivered.
const MAX_HELD_CHARS: usize = 1_000;

/// Shorter repetitions are taken for chance.
const MIN_OVERLAP_CHARS: usize = 12;

/// A beginning more alike than this is the same beginning.
const MAX_SIMILARITY: f64 = 0.9;

/// The part of a route's streams of the last minute that may be continued.
const MAX_SHARE: f64 = 0.01;

/// How many streams of a route may be continued: 1 % of those of the last minute, and one a minute
/// where there are fewer than a hundred. Where more break, something is wrong that more attempts
/// would make worse.
#[derive(Debug)]
pub struct SpliceBudget {
    /// Streams, and those that were continued.
    recent: Window<60, 2>,
}

/// Joins a continuation to what was delivered.
#[derive(Debug)]
pub struct Splice {
    /// The first characters delivered, for comparison with a restart.
    opening: Vec<char>,
    /// The last characters delivered.
    tail: VecDeque<char>,
    /// Whether `tail` is all that was delivered.
    is_tail_all: bool,
    /// What came and was not passed on; `None` once the judgement is made.
    held: Option<Vec<char>>,
}

/// Whether a broken stream may be continued.
///
/// # Errors
///
/// The first condition that is not met.
pub fn may_continue(facts: &Facts) -> Result<(), Why> {
    let hindrances = [
        (!facts.is_opted_in, Why::NotOptedIn),
        (facts.was_filtered, Why::Filtered),
        (facts.splices >= MAX_SPLICES, Why::AlreadySpliced),
        (facts.has_tool_call, Why::ToolCall),
        (facts.is_structured, Why::Structured),
        (facts.has_logprobs, Why::Logprobs),
        (facts.alternatives > 1, Why::Alternatives),
        (facts.has_reasoning, Why::Reasoning),
        (facts.has_other, Why::OtherContent),
        (facts.has_ended, Why::Ended),
        (facts.delivered_chars == 0, Why::NothingDelivered),
        (facts.delivered_tokens.saturating_mul(2) >= facts.context_tokens, Why::TooLong),
        (facts.tokens_left == Some(0), Why::NoTokensLeft),
        (facts.time_left <= facts.ttft_p50.saturating_add(SPARE_TIME), Why::NoTimeLeft),
        (!facts.has_native_prefill, Why::NoPrefill),
        (facts.is_other_model && !facts.allows_other_model, Why::OtherModel),
        (!facts.is_in_budget, Why::OverBudget),
    ];
    hindrances.into_iter().find(|(is_met, _)| *is_met).map_or(Ok(()), |(_, why)| Err(why))
}

/// The delivered text as the beginning to go on from: providers refuse one that ends in white
/// space.
pub fn prefill(delivered: &str) -> &str {
    delivered.trim_end()
}

// === impl Why ===

impl Why {
    /// The word for logs, metrics and the journal.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotOptedIn => "not_opted_in",
            Self::Filtered => "filtered",
            Self::AlreadySpliced => "already_spliced",
            Self::OverBudget => "over_budget",
            Self::ToolCall => "tool_call",
            Self::Structured => "structured",
            Self::Logprobs => "logprobs",
            Self::Alternatives => "alternatives",
            Self::Reasoning => "reasoning",
            Self::OtherContent => "other_content",
            Self::Ended => "ended",
            Self::NothingDelivered => "nothing_delivered",
            Self::TooLong => "too_long",
            Self::NoTokensLeft => "no_tokens_left",
            Self::NoTimeLeft => "no_time_left",
            Self::NoTarget => "no_target",
            Self::NoPrefill => "no_prefill",
            Self::OtherModel => "other_model",
        }
    }
}

// === impl SpliceBudget ===

impl SpliceBudget {
    /// Nothing was streamed yet.
    pub fn new() -> Self {
        Self { recent: Window::new(Duration::from_secs(1)) }
    }

    /// A stream was asked for.
    pub fn on_stream(&mut self, now: Instant) {
        self.recent.add([1, 0], now);
    }

    /// Pays for the continuation of one stream, if there is anything to pay with.
    pub fn try_splice(&mut self, now: Instant) -> bool {
        let [streams, spliced] = self.recent.sums(now);
        let is_allowed = f64::from(spliced) + 1.0 <= (f64::from(streams) * MAX_SHARE).max(1.0);
        if is_allowed {
            self.recent.add([0, 1], now);
        }
        is_allowed
    }
}

impl Default for SpliceBudget {
    fn default() -> Self {
        Self::new()
    }
}

// === impl Splice ===

impl Splice {
    /// A splice to all the text that was delivered, white space at its end included.
    pub fn new(delivered: &str) -> Self {
        let mut tail: VecDeque<char> = delivered.chars().rev().take(MAX_HELD_CHARS).collect();
        tail.make_contiguous().reverse();
        Self {
            opening: delivered.trim_start().chars().take(HELD_CHARS).collect(),
            is_tail_all: delivered.chars().nth(MAX_HELD_CHARS).is_none(),
            tail,
            held: Some(Vec::new()),
        }
    }

    /// Takes a piece of the continuation and returns what is to be passed on now, possibly nothing.
    ///
    /// # Errors
    ///
    /// When the answer begins again; nothing of it was passed on.
    pub fn push(&mut self, piece: &str) -> Result<String, Restarted> {
        let Some(held) = &mut self.held else { return Ok(piece.to_owned()) };
        held.extend(piece.chars());
        if held.len() < HELD_CHARS || (held.len() < MAX_HELD_CHARS && self.may_grow()) {
            return Ok(String::new());
        }
        self.judge()
    }

    /// The continuation has ended: returns what was still held back.
    ///
    /// # Errors
    ///
    /// As for [`Splice::push`].
    pub fn finish(&mut self) -> Result<String, Restarted> {
        self.judge()
    }

    fn judge(&mut self) -> Result<String, Restarted> {
        let Some(held) = self.held.take() else { return Ok(String::new()) };
        let overlap = self.overlap(&held);
        // All of a short answer said again is no harm: it is removed, and what follows goes on.
        let is_whole = self.is_tail_all && overlap > 0 && overlap == self.tail.len();
        if !is_whole && self.is_restart(&held) {
            return Err(Restarted);
        }
        let cut = if overlap > 0 { overlap } else { self.doubled_space(&held) };
        Ok(held.into_iter().skip(cut).collect())
    }

    /// The longest end of what was delivered that what came begins with, in characters; 0 where
    /// that is no longer than chance.
    fn overlap(&self, held: &[char]) -> usize {
        let longest = self.tail.len().min(held.len());
        (MIN_OVERLAP_CHARS..=longest)
            .rev()
            .find(|length| self.tail.iter().rev().take(*length).rev().eq(held.iter().take(*length)))
            .unwrap_or(0)
    }

    /// Whether all that came repeats something delivered before its end, so that the repetition may
    /// go on to the end. A repetition of the opening is none that has to be waited for.
    fn may_grow(&self) -> bool {
        let Some(held) = &self.held else { return false };
        if self.is_restart(held) {
            return false;
        }
        let starts = self.tail.len().saturating_sub(held.len());
        (0..starts).any(|start| self.tail.iter().skip(start).take(held.len()).eq(held.iter()))
    }

    fn is_restart(&self, held: &[char]) -> bool {
        let came = held.iter().skip_while(|letter| letter.is_whitespace()).copied();
        let came: Vec<char> = came.take(self.opening.len()).collect();
        if came.len() < MIN_OVERLAP_CHARS {
            return false;
        }
        let opening = self.opening.get(..came.len()).unwrap_or(&self.opening);
        let changes = distance(opening, &came) as f64;
        1.0 - changes / came.len() as f64 > MAX_SIMILARITY
    }

    /// White space that was delivered but cut from the beginning to go on from, and comes again.
    fn doubled_space(&self, held: &[char]) -> usize {
        let trailing = self.tail.iter().rev().take_while(|letter| letter.is_whitespace()).count();
        let spaces = self.tail.iter().skip(self.tail.len() - trailing);
        spaces.zip(held).take_while(|(delivered, came)| delivered == came).count()
    }
}

/// The least number of insertions, deletions and substitutions that make one of the other
/// (Levenshtein, 1966).
fn distance(a: &[char], b: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, letter) in a.iter().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        if let Some(first) = row.first_mut() {
            *first = left;
        }
        for (above, other) in row.iter_mut().skip(1).zip(b) {
            let replaced = diagonal + usize::from(letter != other);
            diagonal = *above;
            left = replaced.min(diagonal + 1).min(left + 1);
            *above = left;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests;
