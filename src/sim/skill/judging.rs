//! Judges answers as the gateway asks judges to (`compat::judge`): by the words that an answer has
//! in common with a rubric, with facts, or with criteria.
//!
//! A judge that counts words is no good judge of people's texts. It is one of simulated answers,
//! and it can be given the faults of real ones: a favour for what stands first, and a share of
//! verdicts that are wrong.

use serde_json::{Value, json};

use super::tongue::{Tongue, has_kana, says};
use super::{Brief, Luck, sentences, words};

/// The share of a rubric's words that an answer must have.
const ENOUGH: f64 = 0.34;
/// The share of the facts' words below which an answer says something else.
const RELATED: f64 = 0.15;
/// What two answers must differ by for one to be better.
const BETTER: f64 = 0.1;

/// Words that say nothing of what is asked for.
const EMPTY: [&str; 58] = [
    "the",
    "a",
    "an",
    "and",
    "or",
    "of",
    "in",
    "on",
    "at",
    "to",
    "is",
    "are",
    "was",
    "be",
    "that",
    "this",
    "it",
    "its",
    "with",
    "for",
    "as",
    "by",
    "from",
    "says",
    "say",
    "has",
    "have",
    "does",
    "do",
    "offers",
    "names",
    "how",
    "what",
    "their",
    "there",
    "than",
    "which",
    "who",
    "one",
    "written",
    "most",
    "about",
    "any",
    "answer",
    "answers",
    "text",
    "not",
    "no",
    "nothing",
    "never",
    "meets",
    "criterion",
    "each",
    "meet",
    "they",
    "them",
    "will",
    "only",
];

/// A verdict on the material between the marks, as it was asked for; `None`: nobody asks for one.
pub(super) fn verdict(brief: &Brief<'_>, luck: Luck) -> Option<String> {
    let material = material(brief.said)?;
    let is_wrong = luck.slip.is_some();
    if brief.system.contains("\"better\"") {
        return Some(compared(&material, luck).to_string());
    }
    if brief.system.contains("\"category\"") {
        return Some(checked(&material, is_wrong).to_string());
    }
    let is_asked = brief.system.contains("\"pass\"");
    is_asked.then(|| rated(&material, is_wrong).to_string())
}

/// The JSON between `<material-…>` and its end.
fn material(said: &str) -> Option<Value> {
    let (_, rest) = said.split_once("<material-")?;
    let (_, rest) = rest.split_once('>')?;
    let (inner, _) = rest.split_once("</material-")?;
    serde_json::from_str(inner).ok()
}

fn text<'a>(material: &'a Value, name: &str) -> &'a str {
    material.pointer(name).and_then(Value::as_str).unwrap_or_default()
}

/// By a rubric: each of its clauses holds.
fn rated(material: &Value, is_wrong: bool) -> Value {
    let (rubric, answer) = (text(material, "/rubric"), text(material, "/answer"));
    let (mut asked, mut had, mut broken) = (0_usize, 0.0, None);
    for clause in clauses(rubric) {
        if forbids(&clause) {
            let wanted = telling(&clause);
            let says_it = |word: &&String| is_said_plainly(answer, word);
            broken = broken.or_else(|| wanted.iter().find(says_it).cloned());
            continue;
        }
        let share = covered(&clause, answer);
        asked += 1;
        had += share;
    }
    if let Some(reference) = material.pointer("/reference").and_then(Value::as_str) {
        asked += 1;
        had += covered(reference, answer);
    }
    #[expect(clippy::cast_precision_loss, reason = "a few clauses")]
    let share = if asked == 0 { 1.0 } else { had / asked as f64 };
    let mut passed = broken.is_none() && share >= ENOUGH && is_in_language(rubric, answer);
    passed ^= is_wrong;
    let reason = match (&broken, passed) {
        (Some(word), false) => format!("It says “{word}”, which the rubric rules out."),
        (_, true) => "It has what the rubric asks for.".to_owned(),
        (_, false) => "It lacks what the rubric asks for.".to_owned(),
    };
    let score = if passed { share.max(ENOUGH) } else { share.min(0.3) };
    json!({"reason": reason, "score": (score * 100.0).round() / 100.0, "pass": passed})
}

/// By facts: a part of them, all, or something else.
fn checked(material: &Value, is_wrong: bool) -> Value {
    let (facts, answer) = (text(material, "/facts"), text(material, "/answer"));
    let known = format!("{facts} {}", text(material, "/question"));
    let known = words(&known);
    let is_number = |word: &&String| word.len() > 1 && word.chars().all(|c| c.is_ascii_digit());
    let invented =
        words(answer).iter().filter(is_number).find(|word| !known.contains(word)).cloned();
    let share = covered(facts, answer);
    let good = if share >= 0.999 { "C" } else { "A" };
    let (category, reason) = match invented {
        Some(number) => ("D", format!("It says {number}, which is in none of the facts.")),
        None if share < RELATED => ("D", "It says nothing of the facts.".to_owned()),
        None => (good, "What it says of the facts is right.".to_owned()),
    };
    let category = match (is_wrong, category) {
        (false, category) => category,
        (true, "D") => "A",
        (true, _) => "D",
    };
    json!({"reason": reason, "category": category})
}

/// By criteria: which of two answers has more of them, and adds less.
fn compared(material: &Value, luck: Luck) -> Value {
    if luck.takes_first {
        return json!({"reason": "The first is better.", "better": "first"});
    }
    let (criteria, question) = (text(material, "/criteria"), text(material, "/question"));
    let merit = |at: &str| {
        let answer = text(material, at);
        let length = words(answer).len().max(1);
        #[expect(clippy::cast_precision_loss, reason = "words of an answer")]
        let more = (length as f64 / 30.0).ln().max(0.0);
        covered(criteria, answer) + covered(question, answer) - 0.3 * more
    };
    let (first, second) = (merit("/first/text"), merit("/second/text"));
    let better = match first - second {
        lead if lead > BETTER => "first",
        lead if lead < -BETTER => "second",
        _ => "tie",
    };
    let better = match (luck.slip, better) {
        (Some(_), "first") => "second",
        (Some(_), "second") => "first",
        (_, better) => better,
    };
    json!({"reason": "It has more of what the criteria ask for, in fewer words.", "better": better})
}

/// The parts of a rubric that can hold or not.
fn clauses(rubric: &str) -> Vec<String> {
    let parts = sentences(rubric);
    let parts = parts.iter().flat_map(|sentence| sentence.split([',', ';', ':']));
    let parts = parts.flat_map(|part| part.split(" and "));
    parts.map(|part| part.trim().to_owned()).filter(|part| !words(part).is_empty()).collect()
}

/// Whether a clause says what must not be: of the answer, not what the answer says is not.
fn forbids(clause: &str) -> bool {
    let first: Vec<String> = words(clause).into_iter().take(3).collect();
    let is_denial = |word: &String| ["not", "nothing", "never", "no"].contains(&word.as_str());
    let is_told = first.first().is_some_and(|word| word == "says" || word == "say");
    !is_told && first.iter().any(is_denial)
}

/// The last telling word of what is ruled out: of `promise or announce a refund` the refund.
fn telling(clause: &str) -> Vec<String> {
    let mut all = content(clause);
    let last = all.pop();
    last.into_iter().filter(|word| word.len() > 4).collect()
}

/// Whether a text says a word, and not that it is not so.
fn is_said_plainly(answer: &str, word: &str) -> bool {
    let denies = |words: &[String]| {
        words
            .iter()
            .any(|word| ["not", "no", "cannot", "never", "don't", "can't"].contains(&word.as_str()))
    };
    sentences(answer)
        .iter()
        .map(|sentence| words(sentence))
        .any(|said| said.iter().any(|one| is_alike(one, word)) && !denies(&said))
}

fn content(text: &str) -> Vec<String> {
    words(text).into_iter().filter(|word| !EMPTY.contains(&word.as_str())).collect()
}

/// The share of a text's telling words that an answer has, in whatever language; 1 where there are
/// none.
fn covered(asked: &str, answer: &str) -> f64 {
    let (asked, said) = (content(asked), words(answer));
    if asked.is_empty() {
        return 1.0;
    }
    let is_there =
        |word: &&String| said.iter().any(|one| is_alike(one, word)) || says(answer, word);
    let there = asked.iter().filter(is_there).count();
    #[expect(clippy::cast_precision_loss, reason = "words of a rubric")]
    let share = there as f64 / asked.len() as f64;
    share
}

/// Whether two words are one in other forms, or one number.
fn is_alike(one: &str, other: &str) -> bool {
    const STEM: usize = 4;
    let stem = |word: &str| word.chars().take(STEM).collect::<String>();
    let number = |word: &str| -> Option<f64> {
        const NAMES: [&str; 11] =
            ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"];
        let by_name = NAMES.iter().position(|name| *name == word);
        #[expect(clippy::cast_precision_loss, reason = "ten at most")]
        let by_name = by_name.map(|number| number as f64);
        by_name.or_else(|| word.parse().ok())
    };
    match (number(one), number(other)) {
        (Some(one), Some(other)) => (one - other).abs() < 1e-9,
        _ => one == other || (one.len() >= STEM && other.len() >= STEM && stem(one) == stem(other)),
    }
}

/// Whether an answer is in the language that a rubric names, if it does.
fn is_in_language(rubric: &str, answer: &str) -> bool {
    match Tongue::named(rubric) {
        Some(Tongue::Japanese) => has_kana(answer),
        Some(tongue) => Tongue::of(answer) == tongue,
        None => true,
    }
}
