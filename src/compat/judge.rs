//! How a model is asked what no rule can find out, and how its reply is read.
//!
//! A [`Sitting`] is one question to a judge, from the first message to the reply, without doing
//! anything itself: whoever runs it sends what [`Sitting::next`] says and brings back what came.
//!
//! # Against the weaknesses of judges
//!
//! - **Position.** Of two answers judges favour one for its place: with GPT-4 only some two of
//!   three verdicts stay when the answers change places (Zheng et al., "Judging LLM-as-a-Judge with
//!   MT-Bench and Chatbot Arena", 2023, section 3.3). So both orders are asked, and a judge that
//!   contradicts itself has said that neither is better.
//! - **Length.** The lengths of both answers are told, and that length is no merit.
//! - **Its own kind.** A judge favours answers of its family; [`family`] tells families apart, and
//!   whoever chooses a judge leaves out those of both sides.
//! - **Persuasion.** Questions and answers come from elsewhere and may hold instructions. They are
//!   sent as a JSON object in which `<` is always escaped, between marks that begin with `<` and
//!   hold a number drawn for the sitting: neither a mark nor a control token of a chat template can
//!   stand within.
//!
//! A reply is one JSON object. One that has none, or two that contradict each other, or one of
//! another shape, is no verdict: it is asked for once more, then the sitting fails.

use serde_json::Value;

use super::{Ask, Preference, Reply};

mod family;
mod prompt;
mod reply;

#[cfg(test)]
mod tests;

pub use family::family;

use prompt::Place;
use reply::Verdict;

/// The version of the questions and of how replies are read. Verdicts of different ones are not the
/// same judge's.
pub const PROTOCOL: &str = "tidegate-judge-1";

/// The temperature to ask with, where a model takes one.
pub const TEMPERATURE: f64 = 0.0;

/// The most tokens of a reply; the room is for models that think first.
pub const MAX_TOKENS: u32 = 2_000;

/// The most bytes of each text that a judge is shown. What is longer is not judged: a text that was
/// cut would not be the same.
pub const MAX_BYTES: usize = 64 << 10;

/// One question to a judge.
#[derive(Debug, Clone)]
pub struct Sitting {
    ask: Ask,
    nonce: u128,
    /// What was said of the answers in their first order.
    first: Option<Preference>,
    /// Whether it said otherwise when the answers had changed places.
    is_contradicted: bool,
    /// Whether the last reply could not be read.
    is_again: bool,
    over: Option<Reply>,
}

/// What comes next.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// These messages, in the shape of chat completions, are to be sent, at [`TEMPERATURE`]; the
    /// text that comes back goes to [`Sitting::on_reply`].
    Say(Vec<Value>),
    /// That is what the judge says.
    Over(Reply),
}

// === impl Sitting ===

impl Sitting {
    /// Begins. The nonce is drawn anew for each: whoever wrote the answers must not know it.
    pub fn new(ask: Ask, nonce: u128) -> Self {
        let over = not_to_be_judged(&ask);
        Self { ask, nonce, first: None, is_contradicted: false, is_again: false, over }
    }

    /// What comes next; the same until a reply comes.
    pub fn next(&self) -> Step {
        match &self.over {
            Some(reply) => Step::Over(reply.clone()),
            None => {
                let place = if self.first.is_none() { Place::AsGiven } else { Place::Swapped };
                Step::Say(prompt::messages(&self.ask, place, self.nonce, self.is_again))
            }
        }
    }

    /// Takes what came: the text of the reply, or why there is none. Nothing happens when it is
    /// over.
    pub fn on_reply(&mut self, reply: Result<&str, &str>) {
        if self.over.is_some() {
            return;
        }
        let text = match reply {
            Ok(text) => text,
            Err(why) => {
                self.over = Some(Reply::Failed(format!("the judge failed: {why}")));
                return;
            }
        };
        match (reply::read(&self.ask, text), self.is_again) {
            (Some(verdict), _) => {
                self.is_again = false;
                self.take(verdict);
            }
            (None, false) => self.is_again = true,
            (None, true) => {
                let start: String = text.trim_start().chars().take(80).collect();
                let why = format!("the judge's reply is no verdict, twice: {start:?}");
                self.over = Some(Reply::Failed(why));
            }
        }
    }

    /// Whether the judge said otherwise when it was asked the other way round.
    pub fn is_contradicted(&self) -> bool {
        self.is_contradicted
    }

    fn take(&mut self, verdict: Verdict) {
        self.over = match (verdict, self.first) {
            (Verdict::Rated { passed, score, reason }, _) => {
                Some(Reply::Rated { passed, score, reason })
            }
            (Verdict::Better(place), None) => {
                // Asked as given, the baseline's comes first.
                self.first = Some(prefers(place, Preference::Baseline, Preference::Candidate));
                None
            }
            (Verdict::Better(place), Some(first)) => {
                let second = prefers(place, Preference::Candidate, Preference::Baseline);
                self.is_contradicted = first != second;
                let agreed = if first == second { first } else { Preference::Tie };
                Some(Reply::Preferred(agreed))
            }
        };
    }
}

/// Whose answer is better, when it is known which stood where.
fn prefers(better: Option<bool>, first: Preference, second: Preference) -> Preference {
    match better {
        Some(true) => first,
        Some(false) => second,
        None => Preference::Tie,
    }
}

/// What is known without a judge.
fn not_to_be_judged(ask: &Ask) -> Option<Reply> {
    let texts: [&str; 4] = match ask {
        Ask::Similarity { .. } => {
            return Some(Reply::Failed("a judge does not measure similarity".to_owned()));
        }
        Ask::Rubric { question, answer, rubric, reference } => {
            [question, answer, rubric, reference.as_deref().unwrap_or_default()]
        }
        Ask::Factuality { question, answer, facts } => [question, answer, facts, ""],
        Ask::Prefer { baseline, candidate, .. } if baseline == candidate => {
            return Some(Reply::Preferred(Preference::Tie));
        }
        Ask::Prefer { question, criteria, baseline, candidate } => {
            [question, criteria, baseline, candidate]
        }
    };
    let is_long = texts.iter().any(|text| text.len() > MAX_BYTES);
    is_long.then(|| Reply::Failed(format!("a text is longer than {MAX_BYTES} bytes")))
}
