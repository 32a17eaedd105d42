//! What is written down of captured answers.

use super::*;

fn new_case(id: &str, text: &str) -> NewCase {
    NewCase {
        threshold: None,
        id: id.to_owned(),
        description: text.to_owned(),
        category: Category::Semantic,
        is_critical: true,
        incident: Some(text.to_owned()),
        tags: vec![text.to_owned()],
        metadata: serde_json::Map::new(),
        vars: json!({"q": text, "list": [text, "b"], "deep": {"x y": [{"n": 1.5, "t": text}], "null": null}})
            .as_object()
            .cloned()
            .unwrap_or_default(),
        asserts: vec![json!({"type": "equals", "value": text}), json!({"type": "contains-any", "value": [text, "zz"]})],
    }
}

fn written_and_read(case: &NewCase) -> Suite {
    let text = write_cases(std::slice::from_ref(case));
    read(&text).unwrap_or_else(|why| panic!("{why}\n{text}"))
}

#[test]
fn cases_are_written_for_people() {
    let case = NewCase {
        threshold: None,
        id: "refund-1".to_owned(),
        description: "A refund".to_owned(),
        category: Category::Functional,
        is_critical: false,
        incident: None,
        tags: Vec::new(),
        metadata: serde_json::Map::new(),
        vars:
            json!({"message": "Hello,\n\n  my order\nis late.", "facts": ["a fact"], "yes": true})
                .as_object()
                .cloned()
                .unwrap_or_default(),
        asserts: vec![json!({"type": "similar", "value": "It comes {{soon}}.", "threshold": 0.8})],
    };
    let wanted = r#"# Cases of a compatibility suite, in promptfoo's format.
defaultTest:
  options:
    # A list is one value, not one case for each item.
    disableVarExpansion: true
tests:
  - description: "A refund"
    metadata:
      id: "refund-1"
      category: "functional"
    vars:
      message: |2-
        Hello,

          my order
        is late.
      facts: ["a fact"]
      "yes": true
    assert:
      - type: "similar"
        value: "It comes {{'{{'}}soon}}."
        threshold: 0.8
"#;
    assert_eq!(write_cases(&[case]), wanted);
    assert!(refused(&write_cases(&[])).contains("has no test"));
}

#[test]
fn marks_of_templates_are_the_text_itself_however_they_meet() {
    for text in
        ["{{", "{{%", "{{{%", "{{#", "{{{", "{%{#{{", "{{'{%'}}", "{ {", "}}{%-", "{{-%}", "a{"]
    {
        let suite = written_and_read(&new_case("one", text));
        let answer = Answer { text: text.to_owned(), ..Answer::default() };
        let graded = suite.cases[0].grade(&answer, "", &|_| None, GradeTerms::default());
        let Graded::Done(grade) = graded else { panic!("it asks") };
        assert!(grade.passed, "{text}: {grade:?}");
        assert_eq!(suite.cases[0].description, text);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_reads_as_the_same(
        text in prop_oneof![
            "\\PC{1,40}",
            "[a-z{}%#' \":\\[\\]\n&*!|>-]{1,40}",
            ".{1,20}",
            "( {0,3}[a-z#:-]{0,5}\n){1,4}[a-z]?",
        ],
    ) {
        prop_assume!(!text.starts_with("file://") && !text.is_empty());
        let case = new_case("one", &text);
        let suite = written_and_read(&case);
        let read = &suite.cases[0];
        let mut vars = case.vars.clone();
        // A line's end at the end of a text is taken off, as in promptfoo.
        if let Some(q) = text.strip_suffix('\n') {
            vars["q"] = json!(q);
        }
        prop_assert_eq!(&read.vars, &vars);
        prop_assert_eq!(&read.description, &text);
        prop_assert_eq!(read.incident.as_deref(), Some(text.as_str()));
        prop_assert_eq!(&read.tags, &case.tags);
        prop_assert!(read.is_critical);
        // The assertions mean the text itself, whatever it looks like.
        let answer = Answer { text: text.clone(), ..Answer::default() };
        let graded = read.grade(&answer, "", &|_| None, GradeTerms::default());
        let Graded::Done(grade) = graded else { panic!("it asks") };
        prop_assert!(grade.passed, "{:?}", grade);
    }

    #[test]
    fn redacting_changes_nothing_the_second_time(text in "[-a-z0-9@. +:()]{0,60}") {
        let once = redact(&text);
        prop_assert_eq!(redact(&once), once);
    }
}

#[test]
fn what_has_a_form_is_redacted() {
    #[rustfmt::skip] // A table reads best as a table.
    let cases = [
        ("Write to jörg.müller+x@mail.example.co.uk, please.", "Write to [email], please."),
        ("Call +49 (30) 1234-5678 or 030 12345678.", "Call [phone] or [phone]."),
        ("(555) 123-4567", "[phone]"),
        ("My card is 4111 1111 1111 1111, exp 12/28", "My card is [card], exp 12/28"),
        ("4111-1111-1111-1111", "[card]"),
        ("DE89 3704 0044 0532 0130 00 is mine", "[iban] is mine"),
        ("GB82WEST12345698765432", "[iban]"),
        ("key sk-proj-abcDEF123456789012345 works", "key [key] works"),
        ("tg-0123456789abcdef0123", "[key]"),
        ("AKIAIOSFODNN7EXAMPLE", "[key]"),
        ("ghp_abcdefghijklmnopqrstuvwxyz0123456789", "[key]"),
        ("Authorization: Bearer abc.def-ghi_jkl012345", "Authorization: [token]"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abc-_123", "[token]"),
        ("-----BEGIN RSA PRIVATE KEY-----\nabc\n-----END RSA PRIVATE KEY-----\nx", "[key]\nx"),
        ("from 192.168.17.4 and 2001:db8:0:0:0:0:2:1 and fe80::1:2", "from [ip] and [ip] and [ip]"),
    ];
    for (text, wanted) in cases {
        assert_eq!(redact(text), wanted);
    }
    let kept = [
        "Order 4711-0815 of 2026-11-21, total 1,299.00 EUR, version 1.2.3",
        "4111 1111 1111 1112 is no card, 12.11.2026 no telephone",
        "It took 1500 ms for 20000 tokens at 12:30:45.",
        "use sk-learn-tutorial and @decorators, a@b",
        "999.999.999.999",
        "a basic internationalization of the page",
        "",
    ];
    for text in kept {
        assert_eq!(redact(text), text);
    }
}
