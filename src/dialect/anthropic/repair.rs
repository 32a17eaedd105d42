//! JSON that was cut, closed.
//!
//! A token limit cuts arguments in the middle. Streams pass the pieces on as they are; a whole
//! answer on this wire must hold an object, so the text is closed after its last whole member.

/// How many places are tried from the end. The nearest comma or bracket is nearly always right;
/// a few more are needed where it stands before a key without a value.
const MAX_TRIES: usize = 8;

/// The longest whole object that `text` begins with, or `{}`.
pub(super) fn close(text: &str) -> String {
    let cuts = cuts(text);
    for (at, closers) in cuts.iter().rev().take(MAX_TRIES) {
        let head = text.get(..*at).unwrap_or_default();
        let candidate = format!("{head}{closers}");
        if serde_json::from_str::<serde::de::IgnoredAny>(&candidate).is_ok() {
            return candidate;
        }
    }
    "{}".to_owned()
}

/// Places outside of strings where the text could end, each with the brackets that close it.
fn cuts(text: &str) -> Vec<(usize, String)> {
    let mut open: Vec<char> = Vec::new();
    let mut cuts = std::collections::VecDeque::new();
    let (mut in_string, mut escaped) = (false, false);
    let mut note = |at: usize, open: &[char]| {
        if cuts.len() == MAX_TRIES {
            cuts.pop_front();
        }
        cuts.push_back((at, open.iter().rev().collect::<String>()));
    };
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if in_string => escaped = true,
            '"' => in_string = !in_string,
            _ if in_string => {}
            ',' => note(at, &open),
            '{' | '[' => {
                open.push(if c == '{' { '}' } else { ']' });
                note(at + 1, &open);
            }
            '}' | ']' => {
                open.pop();
                note(at + 1, &open);
            }
            _ => {}
        }
    }
    if !in_string {
        note(text.len(), &open);
    }
    cuts.into()
}
