//! What a judge says.
//!
//! Models put JSON into fences, or a sentence before it. That is read. Whatever leaves room for
//! doubt is not: no object, several that are verdicts, a member that comes twice, a number out of
//! its range, a word that is none of those asked for.

use serde::Deserialize;
use serde_json::Deserializer;

use crate::compat::Ask;

/// The longest reply that is read.
const MAX_BYTES: usize = 64 << 10;
/// The longest reason that is kept.
const MAX_REASON_CHARS: usize = 400;
/// How many objects a reply may begin.
const MAX_OBJECTS: usize = 64;

/// What was said.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Verdict {
    Rated {
        passed: bool,
        score: f64,
        reason: String,
    },
    /// Whether the first that was shown is better; `None` is a tie.
    Better(Option<bool>),
}

#[derive(Debug, Deserialize)]
struct Rating {
    #[serde(default)]
    reason: String,
    score: Option<f64>,
    pass: bool,
}

#[derive(Debug, Deserialize)]
struct Category {
    #[serde(default)]
    reason: String,
    category: String,
}

#[derive(Debug, Deserialize)]
struct Choice {
    better: String,
}

/// Reads a reply; `None` where it is no verdict.
pub(super) fn read(ask: &Ask, text: &str) -> Option<Verdict> {
    match ask {
        Ask::Rubric { .. } => only(text, |rating: Rating| {
            let score = rating.score.unwrap_or(f64::from(u8::from(rating.pass)));
            let is_score = (0.0..=1.0).contains(&score);
            is_score.then(|| {
                let reason = shortened(&rating.reason);
                Verdict::Rated { passed: rating.pass, score, reason }
            })
        }),
        Ask::Factuality { .. } => only(text, |said: Category| {
            let (category, passed) = match said.category.trim() {
                "A" | "a" => ("A", true),
                "B" | "b" => ("B", true),
                "C" | "c" => ("C", true),
                "D" | "d" => ("D", false),
                "E" | "e" => ("E", true),
                _ => return None,
            };
            let reason = format!("{category}: {}", shortened(&said.reason));
            Some(Verdict::Rated { passed, score: f64::from(u8::from(passed)), reason })
        }),
        Ask::Prefer { .. } => only(text, |said: Choice| match said.better.trim() {
            "first" => Some(Verdict::Better(Some(true))),
            "second" => Some(Verdict::Better(Some(false))),
            "tie" => Some(Verdict::Better(None)),
            _ => None,
        }),
        Ask::Similarity { .. } => None,
    }
}

/// The one object of a text that is a verdict. An object of another shape is none, wherever it
/// stands, and a reply that has one beside the verdict is in doubt, too.
fn only<T: for<'de> Deserialize<'de>>(
    text: &str,
    verdict: impl Fn(T) -> Option<Verdict>,
) -> Option<Verdict> {
    let mut rest = text.get(..text.floor_char_boundary(MAX_BYTES))?;
    // What a model thought aloud is no part of its reply.
    if let Some((_, said)) = rest.rsplit_once("</think>") {
        rest = said;
    }
    let mut found = None;
    for _ in 0..MAX_OBJECTS {
        let Some(start) = rest.find('{') else { return found };
        let at = rest.get(start..)?;
        let mut values = Deserializer::from_str(at).into_iter::<serde_json::Value>();
        if !matches!(values.next(), Some(Ok(_))) {
            // Braces in prose are no object. What begins as one and is none may hold anything, such
            // as an answer's words in quotes that were not escaped.
            let rest_of_it = at.get(1..)?;
            if rest_of_it.trim_start().starts_with(['"', '}']) {
                return None;
            }
            rest = rest_of_it;
            continue;
        }
        let end = values.byte_offset();
        // Read again from its text: a value has forgotten what came twice.
        let said = serde_json::from_str(at.get(..end)?).ok().and_then(&verdict)?;
        if found.is_some() {
            return None;
        }
        found = Some(said);
        rest = at.get(end..)?;
    }
    None
}

fn shortened(reason: &str) -> String {
    let reason = reason.trim();
    let mut chars = reason.chars();
    let mut short: String = chars.by_ref().take(MAX_REASON_CHARS).collect();
    if chars.next().is_some() {
        short.push('…');
    }
    short
}
