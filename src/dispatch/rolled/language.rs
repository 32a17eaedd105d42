//! The language that a request is in, as well as its last words tell.

use std::cell::RefCell;
use std::sync::{Arc, LazyLock};

use whatlang::{Detector, Info, Lang};

/// How much of the end of a body is looked at. A sentence or two settle it, and each letter costs.
const TAIL_BYTES: usize = 384;
/// Languages that are told apart. Each one of a script that many share costs as much as the others
/// together, so these are those with the most traffic; others are known by their script.
const LANGUAGES: [Lang; 24] = [
    Lang::Eng,
    Lang::Spa,
    Lang::Por,
    Lang::Fra,
    Lang::Deu,
    Lang::Ita,
    Lang::Nld,
    Lang::Pol,
    Lang::Tur,
    Lang::Vie,
    Lang::Ind,
    Lang::Swe,
    Lang::Rus,
    Lang::Ukr,
    Lang::Ara,
    Lang::Pes,
    Lang::Heb,
    Lang::Hin,
    Lang::Ben,
    Lang::Tha,
    Lang::Ell,
    Lang::Cmn,
    Lang::Jpn,
    Lang::Kor,
];
static DETECTOR: LazyLock<Detector> =
    LazyLock::new(|| Detector::with_allowlist(LANGUAGES.to_vec()));
/// Fewer letters tell nothing.
const LEAST_LETTERS: usize = 12;
/// Words of the wire, which are in no language.
const WORDS_OF_THE_WIRE: [&str; 12] = [
    "role",
    "user",
    "assistant",
    "system",
    "content",
    "type",
    "text",
    "input_text",
    "messages",
    "prompt",
    "variables",
    "model",
];

/// How many units a thread remembers; of two that fall on one place the later one stays.
const REMEMBERED: usize = 4_096;

/// A unit whose language is known.
#[derive(Debug, Clone)]
struct Known {
    unit: u32,
    language: Arc<str>,
}

thread_local! {
    static KNOWN: RefCell<Vec<Option<Known>>> = RefCell::new(vec![None; REMEMBERED]);
}

/// The language of a unit's request. A unit keeps the one in which it was first understood, on this
/// thread: telling it takes as long as a whole request does otherwise.
pub(super) fn of_unit(unit: Option<u32>, body: &[u8]) -> Option<Arc<str>> {
    let Some(unit) = unit else { return of(body) };
    let place = unit as usize % REMEMBERED;
    KNOWN.with_borrow_mut(|known| {
        let known = known.get_mut(place)?;
        if let Some(known) = known.as_ref().filter(|known| known.unit == unit) {
            return Some(Arc::clone(&known.language));
        }
        let language = of(body)?;
        *known = Some(Known { unit, language: Arc::clone(&language) });
        Some(language)
    })
}

/// The code of the language (ISO 639-3), or where that is not certain the name of the script.
fn of(body: &[u8]) -> Option<Arc<str>> {
    let tail = body.get(body.len().saturating_sub(TAIL_BYTES)..).unwrap_or_default();
    let said = said(&String::from_utf8_lossy(tail));
    if said.chars().filter(|c| c.is_alphabetic()).count() < LEAST_LETTERS {
        return None;
    }
    let found: Info = DETECTOR.detect(&said)?;
    Some(match found.is_reliable() {
        true => found.lang().code().into(),
        false => found.script().name().into(),
    })
}

/// The texts of a piece of JSON, without its keys as far as they are known.
fn said(json: &str) -> String {
    let mut said = String::with_capacity(json.len());
    for piece in json.split('"') {
        if WORDS_OF_THE_WIRE.contains(&piece) || !piece.chars().any(char::is_alphabetic) {
            continue;
        }
        // What was cut off in the middle of an escape is taken as it stands.
        let unescaped: Option<String> = serde_json::from_str(&format!("\"{piece}\"")).ok();
        said.push_str(unescaped.as_deref().unwrap_or(piece));
        said.push(' ');
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_last_words_tell_the_language_also_where_they_are_escaped() {
        let of = |text: &str| {
            let body = json!([{"role": "system", "content": "Be brief."}, {"role": "user", "content": text}]);
            of(body.to_string().as_bytes())
        };
        let german = "Wie kann ich mein Passwort zurücksetzen, wenn ich keinen Zugang mehr habe?";
        assert_eq!(of(german).as_deref(), Some("deu"));
        let english = "How can I change my password when I have lost access to my account?";
        assert_eq!(of(english).as_deref(), Some("eng"));
        assert_eq!(of("パスワードを変更する方法を教えてください").as_deref(), Some("jpn"));
        let escaped = br#"[{"role":"user","content":"\u043a\u0430\u043a \u0438\u0437\u043c\u0435\u043d\u0438\u0442\u044c \u043f\u0430\u0440\u043e\u043b\u044c \u043e\u0442 \u0443\u0447\u0435\u0442\u043d\u043e\u0439 \u0437\u0430\u043f\u0438\u0441\u0438"}]"#;
        assert!(["rus", "Cyrillic"].contains(&&*super::of(escaped).unwrap()));
        assert_eq!(super::of(br#"[{"role":"user","content":"17"}]"#), None);
        assert_eq!(super::of(b"\xff\xfe"), None);
    }

    #[test]
    fn a_unit_keeps_the_language_in_which_it_was_first_understood() {
        let german = "Wie kann ich mein Passwort zurücksetzen, wenn ich keinen Zugang mehr habe?";
        let english = "How can I change my password when I have lost access to my account?";
        let of = |unit, text: &str| {
            let language = of_unit(unit, json!([{"content": text}]).to_string().as_bytes());
            language.as_deref().map(str::to_owned)
        };
        let some = |language: &str| Some(language.to_owned());
        assert_eq!(of(Some(7), "17"), None);
        assert_eq!(of(Some(7), german), some("deu"));
        assert_eq!(of(Some(7), english), some("deu"));
        assert_eq!(of(None, english), some("eng"));
        // Another one on its place.
        assert_eq!(of(Some(7 + REMEMBERED as u32), english), some("eng"));
        assert_eq!(of(Some(7), english), some("eng"));
    }
}
