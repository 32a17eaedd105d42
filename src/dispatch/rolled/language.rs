//! The language that a request is in, as well as its last words tell.

use whatlang::Info;

/// How much of the end of a body is looked at. A few sentences settle it.
const TAIL_BYTES: usize = 1_024;
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

/// The code of the language (ISO 639-3), or where that is not certain the name of the script.
pub(super) fn of(body: &[u8]) -> Option<String> {
    let tail = body.get(body.len().saturating_sub(TAIL_BYTES)..).unwrap_or_default();
    let said = said(&String::from_utf8_lossy(tail));
    if said.chars().filter(|c| c.is_alphabetic()).count() < LEAST_LETTERS {
        return None;
    }
    let found: Info = whatlang::detect(&said)?;
    Some(match found.is_reliable() {
        true => found.lang().code().to_owned(),
        false => found.script().name().to_owned(),
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
        assert!(["rus", "Cyrillic"].contains(&super::of(escaped).unwrap().as_str()));
        assert_eq!(super::of(br#"[{"role":"user","content":"17"}]"#), None);
        assert_eq!(super::of(b"\xff\xfe"), None);
    }
}
