//! Personal things and secrets in a text, replaced by what they are.
//!
//! It is for cases that are captured from traffic, before anybody writes them down. It finds what
//! has a form: it does not know names or streets. So a person looks at what was captured, too.

use std::borrow::Cow;
use std::sync::LazyLock;

use regex::{Captures, Regex};

/// Whether what has a form really is one.
type IsOne = fn(&str) -> bool;

/// A form, what it stands for, and whether a match really is one.
struct Form {
    pattern: Regex,
    placeholder: &'static str,
    is_one: IsOne,
}

/// In the order in which they are looked for: a card is also a long number.
static FORMS: LazyLock<Vec<Form>> = LazyLock::new(|| {
    let always = |_: &str| true;
    #[rustfmt::skip] // A table reads best as a table.
    let forms: [(&str, &str, IsOne); 9] = [
        (r"-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|\z)", "[key]", always),
        (r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*", "[token]", always),
        (r"\b(?:sk|pk|rk|tg|gsk|xai|pplx|ghp|gho|ghs|ghu|github_pat|glpat|hf|xox[abprs]|AKIA|ASIA|AIza|ya29)[-_.A-Za-z0-9]{12,}", "[key]", has_digit_or_is_long),
        (r"(?i)\b(?:bearer|basic)\s+[A-Za-z0-9._~+/=-]{16,}", "[token]", has_digit_or_is_long),
        (r"(?i)[\p{L}\p{N}._%+-]+@[\p{L}\p{N}-]+(?:\.[\p{L}\p{N}-]+)*\.\p{L}{2,}", "[email]", always),
        (r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,4})?\b", "[iban]", is_iban),
        (r"\b\d(?:[ -]?\d){12,18}\b", "[card]", is_card),
        (r"\b(?:\d{1,3}\.){3}\d{1,3}\b|(?i)(?:\b[0-9a-f]{1,4}:){7}[0-9a-f]{1,4}\b|(?i)\b(?:[0-9a-f]{1,4}:){1,6}(?::[0-9a-f]{1,4}){1,6}\b", "[ip]", is_address),
        (r"(?:\+|\b00)?\(?\b\d[\d ()/.-]{6,20}\d\b", "[phone]", is_phone),
    ];
    let form = |(pattern, placeholder, is_one)| {
        Regex::new(pattern).ok().map(|pattern| Form { pattern, placeholder, is_one })
    };
    forms.into_iter().filter_map(form).collect()
});

/// The text with e-mail addresses, telephone and card numbers, IBANs, addresses of the Internet,
/// keys and tokens replaced by placeholders such as `[email]`. Takes linear time.
pub fn redact(text: &str) -> String {
    let mut text = Cow::Borrowed(text);
    for form in FORMS.iter() {
        let replaced = form.pattern.replace_all(&text, |found: &Captures<'_>| {
            let found = found.get(0).map_or("", |found| found.as_str());
            if (form.is_one)(found) { form.placeholder.to_owned() } else { found.to_owned() }
        });
        if let Cow::Owned(replaced) = replaced {
            text = Cow::Owned(replaced);
        }
    }
    text.into_owned()
}

fn digits(text: &str) -> impl DoubleEndedIterator<Item = u32> {
    text.chars().filter_map(|c| c.to_digit(10)).collect::<Vec<_>>().into_iter()
}

/// A word such as `sk-learn-tutorial` is no key.
fn has_digit_or_is_long(text: &str) -> bool {
    text.chars().any(|c| c.is_ascii_digit()) || text.len() >= 40
}

/// Luhn's check digit: ISO/IEC 7812-1, annex B.
fn is_card(text: &str) -> bool {
    let sum: u32 = digits(text)
        .rev()
        .enumerate()
        .map(|(at, digit)| match at % 2 {
            0 => digit,
            _ if digit > 4 => digit * 2 - 9,
            _ => digit * 2,
        })
        .sum();
    sum.is_multiple_of(10) && digits(text).any(|digit| digit != 0)
}

/// The remainder of ISO 13616: letters count from 10, the first four characters go to the end.
fn is_iban(text: &str) -> bool {
    let plain: Vec<char> = text.chars().filter(|c| !c.is_whitespace()).collect();
    if !(15..=34).contains(&plain.len()) {
        return false;
    }
    let (head, tail) = plain.split_at(4);
    let remainder = tail.iter().chain(head).filter_map(|c| c.to_digit(36)).fold(0, |sum, value| {
        let shifted = if value > 9 { sum * 100 } else { sum * 10 };
        (shifted + value) % 97
    });
    remainder == 1
}

fn is_address(text: &str) -> bool {
    text.parse::<std::net::IpAddr>().is_ok()
}

/// A number that begins as one does, or a long one in groups; no date, no number of an order.
fn is_phone(text: &str) -> bool {
    let count = digits(text).count();
    let begins = text.starts_with(['+', '(', '0']) && count >= 8;
    let is_grouped = text.contains([' ', '-', '/', '(']) && count >= 10;
    let parts: Vec<&str> = text.split(['-', '.', '/']).collect();
    let is_part = |part: &&str| {
        matches!(part.len(), 1 | 2 | 4) && part.bytes().all(|byte| byte.is_ascii_digit())
    };
    let is_date = parts.len() == 3 && parts.iter().all(is_part);
    count <= 15 && !is_date && (begins || is_grouped)
}
