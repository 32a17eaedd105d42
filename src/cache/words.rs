//! Words that give away what must not be kept: questions of the day, and refusals.
//!
//! They are looked for as whole words, in a few languages. A word too many costs a request that is
//! asked again; one too few is an old answer to a question of the day, so the lists are generous.

use std::sync::LazyLock;

use aho_corasick::Anchored;
use aho_corasick::automaton::Automaton;
use aho_corasick::dfa::DFA;

/// Words of questions whose answer is another one tomorrow.
const OF_THE_DAY: [&str; 47] = [
    // English
    "today",
    "todays",
    "tonight",
    "yesterday",
    "tomorrow",
    "now",
    "nowadays",
    "current",
    "currently",
    "latest",
    "newest",
    "recent",
    "recently",
    "upcoming",
    "price",
    "prices",
    "weather",
    "forecast",
    "news",
    "headlines",
    "stock",
    "stocks",
    // German
    "heute",
    "gestern",
    "morgen",
    "jetzt",
    "aktuell",
    "aktuelle",
    "aktuellen",
    "neueste",
    "wetter",
    "preis",
    "preise",
    // French
    "aujourd",
    "hier",
    "demain",
    "maintenant",
    "actuel",
    "actuellement",
    "prix",
    // Spanish
    "hoy",
    "ayer",
    "mañana",
    "ahora",
    "actual",
    "actualmente",
    "precio",
];

/// The same, of several words.
const PHRASES_OF_THE_DAY: [&str; 16] = [
    "what time",
    "the time is",
    "what day",
    "which day",
    "what date",
    "the date",
    "this week",
    "this month",
    "this year",
    "this morning",
    "this evening",
    "this quarter",
    "this weekend",
    "right away",
    "so far",
    "wie spät",
];

/// Answers and instructions that speak of the day they were given on.
const TELLS_THE_DAY: [&str; 14] = [
    "today is",
    "todays date",
    "today s date",
    "current date",
    "current time",
    "the date is",
    "the time is",
    "as of today",
    "as of now",
    "right now",
    "at the moment",
    "it is currently",
    "heute ist",
    "aujourd hui",
];

/// How refusals begin.
const DECLINES: [&str; 22] = [
    "i cannot help",
    "i can t help",
    "i cannot assist",
    "i can t assist",
    "i cannot provide",
    "i can t provide",
    "i cannot fulfill",
    "i can t fulfill",
    "i cannot comply",
    "i can t comply",
    "i cannot answer",
    "i can t answer",
    "i cannot create",
    "i can t create",
    "i won t be able",
    "i m unable to",
    "i am unable to",
    "i m not able to",
    "i am not able to",
    "i must decline",
    "i can t do that",
    "as an ai",
];

/// Openings before the refusal itself.
const APOLOGIES: [&str; 7] = [
    "i m sorry but ",
    "i am sorry but ",
    "sorry but ",
    "i m sorry ",
    "i am sorry ",
    "i apologize but ",
    "unfortunately ",
];

/// Whether a question is one of the day.
pub(super) fn asks_of_the_day(text: &str) -> bool {
    static FINDER: LazyLock<Option<DFA>> =
        LazyLock::new(|| finder(OF_THE_DAY.iter().chain(&PHRASES_OF_THE_DAY)));
    FINDER.as_ref().is_some_and(|phrases| has_any(text, phrases))
}

/// Whether a text says which day it is from.
pub(super) fn tells_the_day(text: &str) -> bool {
    static FINDER: LazyLock<Option<DFA>> = LazyLock::new(|| finder(TELLS_THE_DAY.iter()));
    FINDER.as_ref().is_some_and(|phrases| has_any(text, phrases))
}

/// Whether an answer is a refusal in words.
pub(super) fn declines(text: &str) -> bool {
    // What matters stands at the beginning.
    let head: String = text.chars().take(160).collect();
    let plain = plain(&head);
    let begins = plain.trim_start();
    let rest = APOLOGIES.iter().find_map(|apology| begins.strip_prefix(apology)).unwrap_or(begins);
    DECLINES.iter().any(|words| rest.starts_with(words) || begins.starts_with(words))
}

/// Whether a text holds a date (`2026-11-21`) or a time of day (`14:05`).
pub(super) fn has_timestamp(text: &str) -> bool {
    let bytes = text.as_bytes();
    let fits = |pattern: &[u8], at: usize| {
        let is_free = |at: Option<usize>| {
            at.and_then(|at| bytes.get(at)).is_none_or(|byte| !byte.is_ascii_digit())
        };
        let window = bytes.get(at..at + pattern.len());
        window.is_some_and(|window| {
            window.iter().zip(pattern).all(|(byte, wanted)| match wanted {
                b'd' => byte.is_ascii_digit(),
                other => byte == other,
            })
        }) && is_free(at.checked_sub(1))
            && is_free(Some(at + pattern.len()))
    };
    let mut places = memchr::memchr2_iter(b'-', b':', bytes);
    places.any(|at| {
        at.checked_sub(4).is_some_and(|start| fits(b"dddd-dd-dd", start))
            || at.checked_sub(2).is_some_and(|start| fits(b"dd:dd", start))
    })
}

/// Lower case, every run of anything but letters and digits one blank, with a blank at both ends.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len() + 2);
    plain.push(' ');
    for character in text.chars() {
        if character.is_ascii_alphanumeric() {
            plain.push(character.to_ascii_lowercase());
        } else if !character.is_ascii() && character.is_alphanumeric() {
            plain.extend(character.to_lowercase());
        } else if !plain.ends_with(' ') {
            plain.push(' ');
        }
    }
    if !plain.ends_with(' ') {
        plain.push(' ');
    }
    plain
}

/// Finds all of these at once, between blanks. `None` where there is no memory for it, and then nothing
/// is found.
fn finder<'a>(phrases: impl Iterator<Item = &'a &'a str>) -> Option<DFA> {
    let made = DFA::new(phrases.map(|phrase| format!(" {phrase} ")));
    debug_assert!(made.is_ok(), "a few short phrases fit");
    made.ok()
}

/// Whether one of these phrases stands in the [`plain`] form of a text. That form is not made: prompts
/// are long, and making it costs as much as looking through it.
fn has_any(text: &str, phrases: &DFA) -> bool {
    let Ok(start) = phrases.start_state(Anchored::No) else { return false };
    let step = |state, byte| phrases.next_state(Anchored::No, state, byte);
    let mut state = step(start, b' ');
    let (mut is_blank, mut at) = (true, 0);
    while let Some(&byte) = text.as_bytes().get(at) {
        at += 1;
        if byte.is_ascii_alphanumeric() {
            state = step(state, byte.to_ascii_lowercase());
            is_blank = false;
        } else if !byte.is_ascii()
            && let Some(character) = letter(text, at - 1)
        {
            at += character.len_utf8() - 1;
            let mut bytes = [0; 4];
            for lower in character.to_lowercase() {
                state = lower.encode_utf8(&mut bytes).bytes().fold(state, step);
            }
            is_blank = false;
        } else if !is_blank {
            state = step(state, b' ');
            is_blank = true;
            // All of them end with a blank.
            if phrases.is_match(state) {
                return true;
            }
        }
    }
    !is_blank && phrases.is_match(step(state, b' '))
}

/// The letter or digit that begins at a byte of a text, if one does.
fn letter(text: &str, at: usize) -> Option<char> {
    text.get(at..)?.chars().next().filter(|character| character.is_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_of_the_day_are_known() {
        for text in [
            "What's the weather in Oslo?",
            "Who won the game TODAY?",
            "today's headlines",
            "What time is it",
            "the latest iPhone",
            "Wie ist das Wetter?",
            "quel est le prix du pain",
            "what is the date",
        ] {
            assert!(asks_of_the_day(text), "{text}");
        }
        for text in
            ["What is the capital of France?", "I know nowt", "Explain tcp", "", "update it"]
        {
            assert!(!asks_of_the_day(text), "{text}");
        }
    }

    #[test]
    fn answers_of_the_day_are_known() {
        for text in [
            "Today is Monday.",
            "As of today, none.",
            "It is raining right now.",
            "Today’s date: 1",
        ] {
            assert!(tells_the_day(text), "{text}");
        }
        for text in ["Paris.", "Nobody knows today.", "The toast is current"] {
            assert!(!tells_the_day(text), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn words_are_found_in_a_text_as_in_its_plain_form(
            parts in proptest::collection::vec(
                proptest::sample::select(vec![
                    "today", "NOW", "x", "mañana", "MAÑANA", "’", "é", " ", "-", "what", "time", "İ", "日", "9", "\u{a0}",
                ]),
                0..8,
            ),
        ) {
            let (text, words) = (parts.concat(), ["now", "what time", "mañana", "today"]);
            let plain = plain(&text);
            let is_there = words.iter().any(|words| plain.contains(&format!(" {words} ")));
            let phrases = finder(words.iter()).unwrap();
            proptest::prop_assert_eq!(has_any(&text, &phrases), is_there, "{:?}", text);
        }
    }

    #[test]
    fn refusals_are_known_by_how_they_begin() {
        for text in [
            "I'm sorry, but I can't help with that.",
            "I’m sorry, I can’t assist with that request.",
            "I cannot provide that.",
            "Unfortunately, I am unable to do so.",
            "As an AI, I have no opinion.",
        ] {
            assert!(declines(text), "{text}");
        }
        for text in
            ["Paris.", "Sorry seems to be the hardest word.", "You can say: I can't help it"]
        {
            assert!(!declines(text), "{text}");
        }
    }

    #[test]
    fn timestamps_are_known() {
        for text in ["Now: 2026-11-21", "2026-11-21T10:00:00Z", "it is 09:15.", "(23:59)"] {
            assert!(has_timestamp(text), "{text}");
        }
        for text in ["call 555-12-34", "ratio 3:4", "12026-11-211", "1:2:3", "v1-2-3", "", "a-b:c"]
        {
            assert!(!has_timestamp(text), "{text}");
        }
    }
}
