//! Numbers, however they are written, and the units that stand at them.

use super::Language;

/// Units that may stand at a number without a space, and the word that stands for them.
const UNITS: [(&str, &str); 50] = [
    ("am", "am"),
    ("pm", "pm"),
    ("kg", "kilogram"),
    ("g", "gram"),
    ("mg", "milligram"),
    ("mcg", "microgram"),
    ("µg", "microgram"),
    ("lb", "pound"),
    ("lbs", "pound"),
    ("oz", "ounce"),
    ("km", "kilometer"),
    ("m", "meter"),
    ("cm", "centimeter"),
    ("mm", "millimeter"),
    ("mi", "mile"),
    ("ft", "foot"),
    ("yd", "yard"),
    ("l", "liter"),
    ("ml", "milliliter"),
    ("dl", "deciliter"),
    ("cl", "centiliter"),
    ("gb", "gigabyte"),
    ("mb", "megabyte"),
    ("kb", "kilobyte"),
    ("tb", "terabyte"),
    ("gib", "gibibyte"),
    ("mib", "mebibyte"),
    ("ghz", "gigahertz"),
    ("mhz", "megahertz"),
    ("khz", "kilohertz"),
    ("hz", "hertz"),
    ("ms", "millisecond"),
    ("s", "second_unit"),
    ("sec", "second_unit"),
    ("min", "minute"),
    ("mins", "minute"),
    ("h", "hour"),
    ("hr", "hour"),
    ("hrs", "hour"),
    ("kmh", "kmh"),
    ("mph", "mph"),
    ("c", "celsius"),
    ("f", "fahrenheit"),
    ("w", "watt"),
    ("kw", "kilowatt"),
    ("kwh", "kilowatthour"),
    ("v", "volt"),
    ("mah", "milliamperehour"),
    ("mm2", "mm2"),
    ("mbps", "mbps"),
];

type Words = [(&'static str, u64)];

const ENGLISH: &Words = &[
    ("zero", 0),
    ("two", 2),
    ("three", 3),
    ("four", 4),
    ("five", 5),
    ("six", 6),
    ("seven", 7),
    ("eight", 8),
    ("nine", 9),
    ("ten", 10),
    ("eleven", 11),
    ("twelve", 12),
    ("thirteen", 13),
    ("fourteen", 14),
    ("fifteen", 15),
    ("sixteen", 16),
    ("seventeen", 17),
    ("eighteen", 18),
    ("nineteen", 19),
    ("twenty", 20),
    ("thirty", 30),
    ("forty", 40),
    ("fifty", 50),
    ("sixty", 60),
    ("seventy", 70),
    ("eighty", 80),
    ("ninety", 90),
];

const GERMAN: &Words = &[
    ("null", 0),
    ("zwei", 2),
    ("drei", 3),
    ("vier", 4),
    ("fünf", 5),
    ("sechs", 6),
    ("sieben", 7),
    ("acht", 8),
    ("neun", 9),
    ("zehn", 10),
    ("elf", 11),
    ("zwölf", 12),
    ("zwanzig", 20),
    ("dreißig", 30),
    ("hundert", 100),
];

const FRENCH: &Words = &[
    ("zéro", 0),
    ("deux", 2),
    ("trois", 3),
    ("quatre", 4),
    ("cinq", 5),
    ("six", 6),
    ("sept", 7),
    ("huit", 8),
    ("neuf", 9),
    ("dix", 10),
    ("onze", 11),
    ("douze", 12),
    ("vingt", 20),
    ("trente", 30),
    ("cent", 100),
];

const SPANISH: &Words = &[
    ("cero", 0),
    ("dos", 2),
    ("tres", 3),
    ("cuatro", 4),
    ("cinco", 5),
    ("seis", 6),
    ("siete", 7),
    ("ocho", 8),
    ("nueve", 9),
    ("diez", 10),
    ("once", 11),
    ("doce", 12),
    ("veinte", 20),
    ("treinta", 30),
    ("cien", 100),
];

/// English words for the place in a row. "Second" is none of them after a number, where it is a
/// time.
const ORDINALS: &Words = &[
    ("first", 1),
    ("second", 2),
    ("third", 3),
    ("fourth", 4),
    ("fifth", 5),
    ("sixth", 6),
    ("seventh", 7),
    ("eighth", 8),
    ("ninth", 9),
    ("tenth", 10),
    ("twelfth", 12),
    ("twentieth", 20),
];

/// Whether this may stand at a number without a space.
pub(super) fn is_unit(text: &str) -> bool {
    matches!(text, "k" | "st" | "nd" | "rd" | "th") || unit(text).is_some()
}

/// The word that an abbreviated unit stands for.
pub(super) fn unit(text: &str) -> Option<&'static str> {
    UNITS.iter().find(|(short, _)| *short == text).map(|(_, word)| *word)
}

/// The key of a number: `=` and its digits, or `#` and its place in a row. None for what is no
/// number. What only looks like one number to us (a date, a time, a version, a range) keeps its
/// signs.
pub(super) fn key(word: &str, language: Language) -> Option<String> {
    if word.starts_with(|c: char| c.is_ascii_digit()) {
        if let Some((hour, minute)) = hour_and_minute(word).filter(|(hour, _)| *hour > 12) {
            return Some(format!("=t{}", hour * 60 + minute));
        }
        return Some(format!("={}", digits(word, language)));
    }
    let words = match language {
        Language::English | Language::Unknown => ENGLISH,
        Language::German => GERMAN,
        Language::French => FRENCH,
        Language::Spanish => SPANISH,
        Language::Italian
        | Language::Portuguese
        | Language::Dutch
        | Language::Polish
        | Language::Russian
        | Language::Chinese
        | Language::Japanese
        | Language::Other => &[],
    };
    let of = |words: &Words| words.iter().find(|(text, _)| *text == word).map(|(_, value)| *value);
    if let Some(value) = of(words) {
        return Some(format!("={value}"));
    }
    let ordinal = matches!(language, Language::English | Language::Unknown).then(|| of(ORDINALS));
    ordinal.flatten().map(|value| format!("#{value}"))
}

/// "15:30". Up to noon it may be in the morning or in the evening.
fn hour_and_minute(text: &str) -> Option<(u32, u32)> {
    let (hour, minute) = text.split_once(':')?;
    let (hour, minute) = (hour.parse().ok()?, Some(minute).filter(|m| m.len() == 2)?.parse().ok()?);
    (hour < 24 && minute < 60).then_some((hour, minute))
}

/// The key of a time of day, of the key of its number and "am" or "pm": "3 pm" is "15:00".
pub(super) fn time_of_day(key: &str, half: &str) -> Option<String> {
    let number = key.strip_prefix('=')?;
    let whole = || Some((number.parse().ok()?, 0));
    let (hour, minute) = hour_and_minute(number).or_else(whole)?;
    let noon = match half {
        "am" => 0,
        "pm" => 12,
        _ => return None,
    };
    (1..=12).contains(&hour).then(|| format!("=t{}", (hour % 12 + noon) * 60 + minute))
}

/// Joins what belongs to one number: "twenty" and "five", "2" and "thousand", "12" and "th". True
/// if `next` was taken into `key`. `spelled` is the language of a number in words.
pub(super) fn joins(key: &mut String, next: &str, spelled: Option<Language>) -> bool {
    let Some(before) = key.strip_prefix('=').and_then(|digits| digits.parse::<u64>().ok()) else {
        return false;
    };
    let times = match next {
        "hundred" => 100,
        "k" | "thousand" | "tausend" | "mille" | "mil" => 1_000,
        "million" | "millionen" => 1_000_000,
        "billion" => 1_000_000_000,
        "st" | "nd" | "rd" | "th" => {
            *key = format!("#{before}");
            return true;
        }
        _ => 0,
    };
    if times > 0 {
        *key = format!("={}", before.saturating_mul(times));
        return true;
    }
    if !matches!(spelled, Some(Language::English | Language::Unknown)) {
        return false;
    }
    // "Twenty-five", "twenty-fifth". "20 five dollar bills" are not 25.
    let tens = before % 10 == 0 && (20..=90).contains(&before);
    let find = |words: &Words| {
        words.iter().find(|(text, value)| *text == next && (1..10).contains(value)).map(|w| w.1)
    };
    match (find(ENGLISH), find(ORDINALS)) {
        (Some(ones), _) if tens => *key = format!("={}", before + ones),
        (None, Some(ones)) if tens => *key = format!("#{}", before + ones),
        _ => return false,
    }
    true
}

/// Digits without the marks that only group them.
fn digits(text: &str, language: Language) -> String {
    let english = matches!(language, Language::English | Language::Unknown);
    let (group, point) = if english { (',', '.') } else { ('.', ',') };
    let mut groups = text.split(group);
    let head = groups.next().unwrap_or_default().len();
    let rest: Vec<&str> = groups.collect();
    let last = rest.len().saturating_sub(1);
    let grouped = (1..=3).contains(&head)
        && rest.iter().enumerate().all(|(n, part)| {
            let whole = if n == last { part.split(point).next().unwrap_or_default() } else { part };
            whole.len() == 3 && whole.chars().all(|c| c.is_ascii_digit())
        });
    if !rest.is_empty() && grouped { text.replace(group, "") } else { text.to_owned() }
}
