//! One of several labels that the system message names.

use super::{Brief, Luck, words};

/// A label, where the system message says `one of: …`; `None` where it does not.
pub(super) fn label(brief: &Brief<'_>, luck: Luck) -> Option<String> {
    let (_, listed) = brief.system.split_once("one of")?;
    let listed = listed.trim_start_matches(|c: char| !c.is_alphanumeric());
    let listed = listed.split(['.', '\n']).next()?;
    let is_quote = |c: char| "`'\"“”".contains(c) || c.is_whitespace();
    let labels: Vec<&str> = listed
        .split([',', '|', '/'])
        .flat_map(|part| part.split(" or "))
        .map(|label| label.trim_matches(is_quote).trim_start_matches("or ").trim_matches(is_quote))
        .filter(|label| !label.is_empty() && label.split_whitespace().count() <= 3)
        .collect();
    if labels.len() < 2 {
        return None;
    }
    let said = words(brief.said);
    let score = |label: &str| -> usize {
        let of = |word: &String| usize::from(speaks_for(word, &label.to_lowercase()));
        said.iter().map(of).sum()
    };
    let best =
        labels.iter().enumerate().max_by_key(|(at, label)| (score(label), labels.len() - at));
    let mut at = best.map(|(at, _)| at)?;
    if luck.slip.is_some() {
        at = (at + 1) % labels.len();
    }
    labels.get(at).map(|label| (*label).to_owned())
}

/// Whether a word speaks for a label: it is a part of it, or one of a kind that people often ask
/// for.
fn speaks_for(word: &str, label: &str) -> bool {
    const KINDS: [(&str, &[&str]); 5] = [
        ("positive", &["good", "great", "love", "excellent", "thanks", "happy", "perfect"]),
        ("negative", &["bad", "broken", "broke", "hate", "terrible", "late", "useless", "angry"]),
        (
            "billing",
            &["invoice", "charged", "charge", "payment", "paid", "refund", "price", "bill"],
        ),
        ("technical", &["error", "crash", "crashes", "login", "bug", "password", "install"]),
        ("shipping", &["parcel", "delivery", "order", "shipped", "arrive", "tracking"]),
    ];
    let is_of_kind = |(kind, words): &(&str, &[&str])| *kind == label && words.contains(&word);
    (word.len() > 3 && label.split_whitespace().any(|part| part.starts_with(word)))
        || KINDS.iter().any(is_of_kind)
}
