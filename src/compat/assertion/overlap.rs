//! How much an answer has in common with a reference, word by word.
//!
//! - ROUGE-N is the recall of single words, clipped, with regard to case: C.-Y. Lin, "ROUGE: A
//!   Package for Automatic Evaluation of Summaries", 2004, section 2, with n = 1 as promptfoo has
//!   it.
//! - BLEU is of up to four words: Papineni et al., "BLEU: a Method for Automatic Evaluation of
//!   Machine Translation", 2002. A precision of 0 counts as 1e-7.
//! - GLEU is the lesser of precision and recall of up to four words: Wu et al., "Google's Neural
//!   Machine Translation System", 2016, section 4.3.

use std::collections::HashMap;

use super::found::Found;
use super::test::{Spec, Wrong};

/// The longest text that is compared, in bytes; what is beyond is not looked at.
const MAX_BYTES: usize = 64 << 10;
/// The most characters of which the distance is counted: it takes time by their product.
const MAX_DISTANCE_CHARS: usize = 10_000;

/// `rouge-n`, `bleu`, `gleu`, `levenshtein`.
#[derive(Debug)]
pub(super) struct Overlap {
    measure: Measure,
    references: Vec<String>,
    threshold: f64,
}

#[derive(Debug, Clone, Copy)]
enum Measure {
    RougeN,
    Bleu,
    Gleu,
    Distance,
}

// === impl Overlap ===

impl Overlap {
    pub(super) fn of(name: &str, spec: &Spec<'_>) -> Result<Self, Wrong> {
        let (measure, references, threshold) = match name {
            "bleu" => (Measure::Bleu, spec.texts()?, spec.share(0.5)?),
            "gleu" => (Measure::Gleu, spec.texts()?, spec.share(0.5)?),
            "levenshtein" => {
                let most = if spec.threshold.is_none() { 5.0 } else { spec.limit("edits")? };
                (Measure::Distance, vec![spec.text()?], most)
            }
            _ => (Measure::RougeN, vec![spec.text()?], spec.share(0.75)?),
        };
        let is_long = |text: &String| text.chars().count() > MAX_DISTANCE_CHARS;
        if matches!(measure, Measure::Distance) && references.iter().any(is_long) {
            let message = format!("must not be longer than {MAX_DISTANCE_CHARS} characters");
            return Err(Wrong::value(message));
        }
        Ok(Self { measure, references, threshold })
    }

    pub(super) fn on(&self, text: &str) -> Found {
        let text = cut(text);
        let best = |score: fn(&str, &str) -> f64| {
            self.references.iter().map(|reference| score(text, cut(reference))).fold(0.0, f64::max)
        };
        match self.measure {
            Measure::RougeN => Found::scored(best(rouge_1), self.threshold, "ROUGE-1"),
            Measure::Gleu => Found::scored(best(gleu), self.threshold, "GLEU"),
            Measure::Bleu => {
                let references: Vec<&str> =
                    self.references.iter().map(|reference| cut(reference)).collect();
                Found::scored(bleu(text, &references), self.threshold, "BLEU")
            }
            Measure::Distance => {
                let reference = self.references.first().map(String::as_str).unwrap_or_default();
                distance(text, reference, self.threshold)
            }
        }
    }
}

/// At most so many characters are put in, taken out or changed.
fn distance(text: &str, reference: &str, most: f64) -> Found {
    let (chars, wanted) = (text.chars().count(), reference.chars().count());
    let least = chars.abs_diff(wanted);
    if chars > MAX_DISTANCE_CHARS {
        return Found::is(least as f64 <= most, format!("at least {least} edits away"));
    }
    let edits = strsim::levenshtein(text, reference);
    Found::is(edits as f64 <= most, format!("{edits} edits away, of {most}"))
}

fn cut(text: &str) -> &str {
    text.get(..text.floor_char_boundary(MAX_BYTES)).unwrap_or_default()
}

/// Words and signs, with regard to case: `don't` is one, a full stop another.
fn tokens(text: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    for word in text.split_whitespace() {
        let mut rest = word;
        while let Some(first) = rest.chars().next() {
            let in_word = |c: char| c.is_alphanumeric() || matches!(c, '\'' | '’' | '-' | '_');
            let end = match in_word(first) {
                true => rest.find(|c| !in_word(c)).unwrap_or(rest.len()),
                false => first.len_utf8(),
            };
            let (token, after) = rest.split_at(end);
            tokens.push(token);
            rest = after;
        }
    }
    tokens
}

fn rouge_1(text: &str, reference: &str) -> f64 {
    let (text, reference) = (tokens(text), tokens(reference));
    ratio(common(&grams(&text, 1), &grams(&reference, 1)), reference.len())
}

fn bleu(text: &str, references: &[&str]) -> f64 {
    let lower = text.to_lowercase();
    let words: Vec<&str> = lower.split_whitespace().collect();
    if words.is_empty() {
        return 0.0;
    }
    let lower: Vec<String> = references.iter().map(|text| text.to_lowercase()).collect();
    let references: Vec<Vec<&str>> =
        lower.iter().map(|text| text.split_whitespace().collect()).collect();
    let mut logarithms = 0.0;
    for n in 1..=4 {
        let grams_of_text = grams(&words, n);
        let most = references.iter().map(|reference| common(&grams_of_text, &grams(reference, n)));
        let total = (words.len() + 1).saturating_sub(n);
        logarithms += ratio(most.max().unwrap_or(0), total).max(1e-7).ln() / 4.0;
    }
    let nearest = references.iter().map(Vec::len).min_by_key(|length| length.abs_diff(words.len()));
    let nearest = nearest.unwrap_or(0) as f64;
    let brevity = (1.0 - nearest / words.len() as f64).min(0.0).exp();
    brevity * logarithms.exp()
}

fn gleu(text: &str, reference: &str) -> f64 {
    let (text, reference) = (text.to_lowercase(), reference.to_lowercase());
    let words = |text: &'_ str| -> Vec<String> {
        text.split_whitespace().map(|word| word.trim_end_matches('.').to_owned()).collect()
    };
    let (text, reference) = (words(&text), words(&reference));
    let text: Vec<&str> = text.iter().map(String::as_str).collect();
    let reference: Vec<&str> = reference.iter().map(String::as_str).collect();
    let (mut both, mut of_text, mut of_reference) = (0, 0, 0);
    for n in 1..=4 {
        both += common(&grams(&text, n), &grams(&reference, n));
        of_text += (text.len() + 1).saturating_sub(n);
        of_reference += (reference.len() + 1).saturating_sub(n);
    }
    ratio(both, of_text).min(ratio(both, of_reference))
}

/// How often each run of `n` words comes.
fn grams<'a>(words: &'a [&'a str], n: usize) -> HashMap<&'a [&'a str], usize> {
    let mut grams = HashMap::new();
    for gram in words.windows(n.max(1)) {
        *grams.entry(gram).or_insert(0) += 1;
    }
    grams
}

/// How many runs two texts have in common, each as often as both have it.
fn common(one: &HashMap<&[&str], usize>, other: &HashMap<&[&str], usize>) -> usize {
    let both =
        |(gram, count): (&&[&str], &usize)| other.get(gram).map_or(0, |there| *there.min(count));
    one.iter().map(both).sum()
}

fn ratio(part: usize, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}
