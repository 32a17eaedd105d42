//! Numbers and texts as people read them, the same on the terminal and on the page.

use std::borrow::Cow;
use std::fmt::Write as _;

use crate::compat::Category;
use crate::compat::verdict::{Criterion, Measure};

/// A bound of a ratio beyond which it says nothing: a hundred times as much.
const FAR: f64 = 99.0;

/// `91.3 %`
pub(super) fn percent(part: f64) -> String {
    format!("{} %", decimals(part * 100.0, 1))
}

/// `-3.2 pts`
pub(super) fn points(part: f64) -> String {
    format!("{} pts", signed(part * 100.0, 1))
}

/// `$0.0042`: with as many digits as are needed to see something.
pub(super) fn dollars(micro_usd: f64) -> String {
    let dollars = micro_usd / 1e6;
    let places = match dollars {
        large if large >= 0.995 => 2,
        cents if cents >= 0.01 => 3,
        small if small >= 0.0001 => 5,
        _ => 6,
    };
    if micro_usd <= 0.0 { "$0".to_owned() } else { format!("${dollars:.places$}") }
}

/// `850 ms`, `1.24 s`, `2 min 5 s`, `3 h 12 min`
pub(super) fn time(ms: f64) -> String {
    let seconds = (ms / 1_000.0).round() as u64;
    if ms < 1_000.0 {
        format!("{ms:.0} ms")
    } else if ms < 60_000.0 {
        format!("{:.2} s", ms / 1_000.0)
    } else if seconds < 3_600 {
        format!("{} min {} s", seconds / 60, seconds % 60)
    } else {
        format!("{} h {} min", seconds / 3_600, seconds / 60 % 60)
    }
}

/// `12,345`
pub(super) fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `2026-11-21 03:00`, in UTC.
pub(super) fn moment(unix_ms: u64) -> String {
    let ms = i64::try_from(unix_ms).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(ms)
        .map(|at| at.strftime("%Y-%m-%d %H:%M").to_string())
        .unwrap_or_default()
}

/// With so many decimals, less those that are nothing.
pub(super) fn decimals(value: f64, places: usize) -> String {
    let text = format!("{value:.places$}");
    let text = if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    };
    if text == "-0" { "0".to_owned() } else { text }
}

fn signed(value: f64, places: usize) -> String {
    let text = decimals(value, places);
    if value > 0.0 && text != "0" { format!("+{text}") } else { text }
}

/// What is compared, in a word.
pub(super) const fn name(measure: Measure) -> &'static str {
    match measure {
        Measure::PassRate => "pass rate",
        Measure::Critical => "critical cases",
        Measure::Preference => "judge prefers",
        Measure::Length => "length",
        Measure::Cost => "cost",
        Measure::Latency => "latency",
    }
}

/// What one side has, in the measure's unit.
pub(super) fn value(measure: Measure, value: f64, of: u64) -> String {
    match measure {
        Measure::PassRate | Measure::Preference => percent(value),
        Measure::Critical => format!("{value:.0} of {of}"),
        Measure::Length => format!("{} tokens", decimals(value, 0)),
        Measure::Cost => dollars(value),
        Measure::Latency => time(value),
    }
}

/// A difference, in the measure's unit.
pub(super) fn difference(measure: Measure, difference: f64) -> String {
    match measure {
        Measure::PassRate | Measure::Preference => points(difference),
        Measure::Critical => decimals(difference, 0),
        Measure::Length | Measure::Cost | Measure::Latency => {
            format!("{} %", signed(difference * 100.0, 1))
        }
    }
}

/// Whether it has bounds that say something: of one case it is not known how cases vary, and
/// critical cases are counted.
pub(super) fn has_interval(criterion: &Criterion) -> bool {
    criterion.measure != Measure::Critical && criterion.is_bounded()
}

/// Both bounds: `-3.2 to +1.1`; `one case` where there are none.
pub(super) fn interval(criterion: &Criterion) -> String {
    if !criterion.is_bounded() {
        return "one case".to_owned();
    }
    match criterion.measure {
        Measure::Critical => String::new(),
        Measure::PassRate
        | Measure::Preference
        | Measure::Length
        | Measure::Cost
        | Measure::Latency => {
            let bound = |bound: f64| {
                if bound > FAR { "?".to_owned() } else { signed(bound * 100.0, 1) }
            };
            format!("{} to {}", bound(criterion.low), bound(criterion.high))
        }
    }
}

/// What the criterion asks for.
pub(super) fn needs(criterion: &Criterion) -> String {
    let limit = difference(criterion.measure, criterion.limit);
    match criterion.measure {
        Measure::Critical => "no new failure".to_owned(),
        Measure::PassRate | Measure::Preference => format!("above {limit}"),
        Measure::Length | Measure::Cost | Measure::Latency => format!("below {limit}"),
    }
}

/// How many, with the word for it: `1 case`, `3 cases`.
pub fn counted(count: u64, word: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{} {word}{plural}", grouped(count))
}

/// What a case is there for, in a word.
pub(super) const fn category(category: Category) -> &'static str {
    match category {
        Category::Functional => "functional",
        Category::Semantic => "semantic",
        Category::Edge => "edge",
        Category::Performance => "performance",
    }
}

/// A text in which characters that a reader would not see, or that turn around what follows, are
/// shown by their numbers: `\x1b`, `\u{202e}`. Lines and tabs stay.
pub(super) fn visible(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_hidden) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for letter in text.chars() {
        // Writing into a string does not fail.
        let _ = match u32::from(letter) {
            code if is_hidden(letter) && code < 0x100 => write!(shown, "\\x{code:02x}"),
            code if is_hidden(letter) => write!(shown, "\\u{{{code:x}}}"),
            _ => shown.write_char(letter),
        };
    }
    Cow::Owned(shown)
}

/// Control characters but for lines and tabs, and marks of the direction of writing.
fn is_hidden(letter: char) -> bool {
    let turns = matches!(letter, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    turns || (letter.is_control() && !matches!(letter, '\n' | '\r' | '\t'))
}
