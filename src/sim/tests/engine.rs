//! The engine: what it answers, without any time passing.

use super::*;

#[test]
fn a_question_is_answered_with_itself() {
    for dialect in Dialect::ALL {
        let mut engine = Engine::new(Scenario::instant());
        let (path, body) = ask(dialect, "How high is the tide?", json!({}));
        let whole = reply(dialect, &post(&mut engine, &path, &body));
        let Part::Text { text, .. } = &whole.choices[0].parts[0] else {
            panic!("{whole:?}");
        };
        assert!(text.contains("simulated provider"), "{text}");
        assert!(text.contains("How high is the tide?"), "{text}");
        let usage = whole.usage.expect("usage");
        assert_eq!(usage.output, content::words(text).len() as u64);

        let mut engine = Engine::new(Scenario::instant());
        let (path, body) = ask(dialect, "How high is the tide?", json!({"stream": true}));
        let deltas = deltas(dialect, &post(&mut engine, &path, &body)).expect("a whole stream");
        assert_eq!(&text_of(&deltas), text, "stream and whole answer say the same");
        assert_eq!(deltas.last(), Some(&Delta::End));
    }
}
