//! A model that says whether two answers to one question say the same.
//!
//! # Best of three
//!
//! Judges favour an answer for its place. So it is asked twice, with the answers in either order,
//! and if the two disagree a third time, in an order that is drawn. A judge that slips with a
//! chance of p, each time anew, errs with about 3p² then, in both directions; what it gets wrong
//! every time stays wrong. That matters to the cache whose labels these are: with one wrong hit of
//! a hundred allowed, a judge that calls two good answers of a hundred different would keep every
//! route in shadow for ever.
//!
//! The calls are made one after the other. Nobody waits for the verdict, a judge that is down or
//! unreadable costs one call instead of two, and a provider is not asked twice at once.
//!
//! # What is asked of it
//!
//! Question and answers come from callers and models, and may hold instructions to the judge. They
//! are sent as one JSON object in which `<` is always escaped, between marks that begin with `<`
//! and hold a number drawn for the call. So neither a mark nor the control tokens of a chat
//! template can stand within. The instructions come before and after. That makes it hard, not
//! impossible, to talk a judge round: what it is used for must bear some wrong verdicts, and
//! answers pass to no other tenant.

use std::time::Duration;

use super::Gateway;
use super::own::{Came, Errand, Own};
use crate::cache::{CacheMode, CacheWish};
use crate::dispatch::Lane;
use crate::journal::EndpointKind;
use crate::units::{MicroUsd, Priority};

mod prompt;
mod reply;

/// The most bytes of a question or an answer. One that was cut would be the same as another that
/// begins alike.
const MAX_BYTES: usize = 16 << 10;
/// How long one call may take. Nobody waits for it.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The word is one token. The room is for models that think first.
const MAX_TOKENS: u32 = 2_000;

/// Asks a model whether two answers say the same. Clones are the same judge.
#[derive(Debug, Clone)]
pub struct Judge {
    own: Own,
}

/// What is to be compared.
#[derive(Debug, Clone, Copy)]
pub struct Comparison<'a> {
    /// What was asked. At most 16 KiB, as each answer.
    pub question: &'a str,
    /// The answer that was kept, perhaps of another question.
    pub kept: &'a str,
    /// The answer that a model gave to this one.
    pub fresh: &'a str,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// Whether the kept answer serves whoever asked as well as the fresh one. An error says nothing
    /// of the answers.
    pub verdict: Result<bool, JudgeError>,
    /// What all calls cost, as far as it is known.
    pub cost: MicroUsd,
    /// How many calls were made, 0 to 3. None where the answers are the same to the letter, empty
    /// or too long.
    pub calls: u32,
}

/// Why there is no verdict.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JudgeError {
    /// The question or an answer is longer than a judge is asked to read.
    #[error("the question or an answer is longer than {limit_bytes} bytes")]
    TooLong {
        /// The most bytes of each.
        limit_bytes: usize,
    },
    /// An answer has no text: what it has instead, such as calls of tools, is not compared.
    #[error("an answer has no text")]
    Empty,
    /// The judge's reply does not begin with a verdict.
    #[error("the judge's reply does not begin with SAME or DIFFERENT: {start:?}")]
    Unreadable {
        /// How it begins instead, for the log.
        start: String,
    },
    /// There is no reply.
    #[error("the judge failed: {detail}")]
    Failed {
        /// Why, for the log.
        detail: String,
    },
}

// === impl Judge ===

impl Judge {
    /// Asks over `lane`.
    pub fn new(gateway: &Gateway, lane: Lane) -> Self {
        // A verdict must not be an old one, and a route that asks a judge may be a judge's own.
        let off = CacheWish { mode: Some(CacheMode::Off), no_store: true, ..CacheWish::default() };
        Self { own: Own::new(gateway, lane, "judge", Priority::LOWEST, off) }
    }

    /// Whether the kept answer would have done. `model` is anything that a caller may name:
    /// `provider/model` or a route. Takes 90 s at most, 30 a call.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cancels the call that is being made.
    pub async fn compare(&self, model: &str, comparison: &Comparison<'_>) -> Judged {
        let mut judged = Judged { verdict: Ok(true), cost: MicroUsd::default(), calls: 0 };
        let Comparison { question, kept, fresh } = *comparison;
        if [kept, fresh].iter().any(|answer| answer.trim().is_empty()) {
            judged.verdict = Err(JudgeError::Empty);
            return judged;
        }
        if kept == fresh {
            return judged;
        }
        if [question, kept, fresh].iter().any(|text| text.len() > MAX_BYTES) {
            judged.verdict = Err(JudgeError::TooLong { limit_bytes: MAX_BYTES });
            return judged;
        }
        judged.verdict = self.best_of_three(model, comparison, &mut judged).await;
        judged
    }

    async fn best_of_three(
        &self,
        model: &str,
        comparison: &Comparison<'_>,
        judged: &mut Judged,
    ) -> Result<bool, JudgeError> {
        let Comparison { question, kept, fresh } = *comparison;
        let one = self.vote(model, [question, kept, fresh], judged).await?;
        let other = self.vote(model, [question, fresh, kept], judged).await?;
        if one == other {
            return Ok(one);
        }
        let third = if rand::random() { [kept, fresh] } else { [fresh, kept] };
        self.vote(model, [question, third[0], third[1]], judged).await
    }

    /// Asks once, about a question and two answers in this order.
    async fn vote(
        &self,
        model: &str,
        texts: [&str; 3],
        judged: &mut Judged,
    ) -> Result<bool, JudgeError> {
        let body = prompt::body(model, texts, rand::random())?;
        judged.calls += 1;
        let kind = EndpointKind::Chat;
        let errand = Errand { kind, body, timeout: TIMEOUT, prompts: None, share: None };
        let Came { body, cost, by: _ } = self.own.ask(errand).await;
        judged.cost = judged.cost + cost;
        let body = body.map_err(|rejection| JudgeError::Failed { detail: rejection.loggable() })?;
        reply::read(&body)
    }
}

// === impl JudgeError ===

impl JudgeError {
    /// One word for metrics.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::TooLong { .. } => "too_long",
            Self::Empty => "empty",
            Self::Unreadable { .. } => "unreadable",
            Self::Failed { .. } => "failed",
        }
    }
}
