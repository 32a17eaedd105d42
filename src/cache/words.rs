//! Words that give away what must not be kept: questions of the day, and refusals.
//!
//! They are looked for as whole words, in a few languages. A word too many costs a request that is
//! asked again; one too few is an old answer to a question of the day, so the lists are generous.

use std::sync::LazyLock;

use finder::Finder;

mod finder;

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

/// Bytes at each end of a question that are looked at.
const LOOKED_AT: usize = 4 * 1024;

/// Longer ones are looked at by their ends.
const ALL_LOOKED_AT: usize = 3 * LOOKED_AT;

/// Bytes at the beginning of an answer in which it declines: more than an apology and a refusal
/// take.
const BEGINNING: usize = 160;

/// Whether a question is one of the day.
///
/// Of a long text only the beginning and the end are looked at: a question stands there, and what
/// lies between is what it is about. Hardly any document is without a "now".
pub(super) fn asks_of_the_day(text: &str) -> bool {
    static FINDER: LazyLock<Finder> =
        LazyLock::new(|| Finder::of(OF_THE_DAY.iter().chain(&PHRASES_OF_THE_DAY)));
    let tail = text.len().saturating_sub(LOOKED_AT);
    if text.len() <= ALL_LOOKED_AT {
        return FINDER.finds_in(text);
    }
    // A word that is cut reads as another one, at worst as one of these.
    let (head, tail) = (text.floor_char_boundary(LOOKED_AT), text.ceil_char_boundary(tail));
    [text.get(..head), text.get(tail..)].into_iter().flatten().any(|end| FINDER.finds_in(end))
}

/// Whether a text says which day it is from.
pub(super) fn tells_the_day(text: &str) -> bool {
    static FINDER: LazyLock<Finder> = LazyLock::new(|| Finder::of(TELLS_THE_DAY.iter()));
    FINDER.finds_in(text)
}

/// Whether an answer is a refusal in words.
pub(super) fn declines(text: &str) -> bool {
    let text = text.trim_start();
    let head = text.get(..text.floor_char_boundary(BEGINNING)).unwrap_or(text);
    // Most answers begin with another letter than any refusal.
    let mut beginnings = DECLINES.iter().chain(&APOLOGIES);
    if let Some(first) = head.chars().find(|it| it.is_alphanumeric()).filter(char::is_ascii)
        && !beginnings.any(|words| words.starts_with(first.to_ascii_lowercase()))
    {
        return false;
    }
    let plain = plain(head);
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
    fn a_long_question_is_known_by_its_beginning_and_its_end() {
        let document = "It is now or never. ".repeat(1_000);
        let plain = "é".repeat(LOOKED_AT);
        for (text, is_known) in [
            (format!("{plain}{document}{plain}"), false),
            (format!("What is new today? {plain}{document}{plain}"), true),
            (format!("{plain}{document}{plain} Which of it is current?"), true),
            (document.clone(), true),
        ] {
            assert_eq!(asks_of_the_day(&text), is_known, "{}", text.len());
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
            let finder = Finder::of(words.iter());
            proptest::prop_assert_eq!(finder.finds_in(&text), is_there, "{:?}", text);
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
            "– “I’m unable to …”",
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
