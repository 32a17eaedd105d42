//! Summaries: the sentences of a text that say most of it.

use super::{Brief, Habits, Luck, sentences, words};

/// The longest word that a child is told.
const CHILDS_WORD: usize = 12;

/// A summary, where the system message asks for one; `None` where it does not.
pub(super) fn digest(brief: &Brief<'_>, habits: &Habits, luck: Luck) -> Option<String> {
    let told = brief.system.to_lowercase();
    if !told.contains("summar") {
        return None;
    }
    let most = wanted(&told).unwrap_or(3);
    let mut all = sentences(brief.said);
    let mut seen = Vec::new();
    all.retain(|sentence| {
        !is_to_us(sentence) && !seen.contains(sentence) && {
            seen.push(sentence.clone());
            true
        }
    });
    if let Some(days) = contradiction(&all) {
        return Some(days);
    }
    let focus =
        told.split_once("above all:").map(|(_, rest)| rest.lines().next().unwrap_or_default());
    let mut chosen = chosen(&all, focus, most);
    match luck.slip {
        Some(which) if which % 2 == 0 => {
            chosen.insert(0, "Here is a summary of the text.".to_owned());
        }
        Some(_) => _ = chosen.drain(..chosen.len() / 2 + 1),
        None => {}
    }
    if habits.is_wordy {
        chosen.push("In conclusion, these are the main points that the text makes.".to_owned());
    }
    let text = chosen.join(" ");
    Some(if told.contains("child") { simple(&text) } else { text })
}

/// The number of sentences in `at most 2 sentences`.
fn wanted(told: &str) -> Option<usize> {
    let (_, rest) = told.split_once("at most ")?;
    rest.split_whitespace().next()?.parse().ok().filter(|most| *most > 0)
}

/// Whether a sentence speaks to whoever summarises, and not of the matter.
fn is_to_us(sentence: &str) -> bool {
    let lower = sentence.to_lowercase();
    ["do not summarise", "do not summarize", "assistant", "instead write", "ignore"]
        .iter()
        .any(|words| lower.contains(words))
        || words(sentence).starts_with(&["instead".to_owned()])
}

/// The first sentence and those with most numbers, names and words of the focus, in their order.
fn chosen(all: &[String], focus: Option<&str>, most: usize) -> Vec<String> {
    let focus: Vec<String> = focus.map(words).unwrap_or_default();
    let is_of_money =
        focus.iter().any(|word| ["cost", "costs", "price", "money"].contains(&word.as_str()));
    let weight = |place: usize, sentence: &str| -> usize {
        let lower = words(sentence);
        let count = |is: &dyn Fn(&str) -> bool| lower.iter().filter(|word| is(word)).count();
        let digits = count(&|word| word.chars().any(|c| c.is_ascii_digit()));
        let money = count(&|word| ["euros", "million", "paid", "price", "dollars"].contains(&word));
        let asked = count(&|word| word.len() > 3 && focus.iter().any(|other| other == word));
        let of_focus = asked * 20 + if is_of_money { money * 20 } else { 0 };
        let first = if place == 0 { 10 } else { 0 };
        first + digits * 3 + lower.len().min(30) / 10 + of_focus
    };
    let mut ranked: Vec<(usize, usize)> =
        all.iter().enumerate().map(|(place, sentence)| (place, weight(place, sentence))).collect();
    ranked.sort_by_key(|(place, weight)| (std::cmp::Reverse(*weight), *place));
    let mut places: Vec<usize> = ranked.into_iter().take(most).map(|(place, _)| place).collect();
    places.sort_unstable();
    places.into_iter().filter_map(|place| all.get(place).cloned()).collect()
}

/// What there is to say of a text that names two days for one thing.
fn contradiction(all: &[String]) -> Option<String> {
    const DAYS: [&str; 7] =
        ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
    let named = |sentence: &String| {
        let day = DAYS.iter().find(|day| sentence.contains(&format!("on {day}")))?;
        Some((*day, words(sentence)))
    };
    let named: Vec<_> = all.iter().filter_map(named).collect();
    let (first, about) = named.first()?;
    let of_both = |other: &[String]| -> Option<String> {
        about.iter().find(|word| word.len() > 5 && !is_day(word) && other.contains(word)).cloned()
    };
    let (other, thing) = named.iter().skip(1).find_map(|(day, words)| {
        (day != first).then(|| of_both(words)).flatten().map(|thing| (*day, thing))
    })?;
    let start = all.first().map(String::as_str).unwrap_or_default();
    Some(format!(
        "{start} The text contradicts itself, though: it names two different days for the {thing}, {first} \
         and {other}, and does not say which is right."
    ))
}

fn is_day(word: &str) -> bool {
    word.ends_with("day")
}

/// Without the words that are too hard for a child.
fn simple(text: &str) -> String {
    let is_easy = |word: &&str| word.chars().filter(|c| c.is_alphabetic()).count() <= CHILDS_WORD;
    text.split_whitespace().filter(is_easy).collect::<Vec<_>>().join(" ")
}
