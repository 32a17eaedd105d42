//! What holds for any text.

use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn any_text_goes_through_as_it_is(words in any::<String>(), other in any::<String>()) {
        let prompt = prompt(SMALL);
        let rendered = prompt.render(object(json!({"company": words}))).unwrap();
        prop_assert_eq!(&rendered.messages[0].text, &format!("You help {words}."));
        prop_assert_eq!(rendered.messages.len(), 1);
        if other != "company" {
            let error = prompt.render(object(json!({"company": words, &*other: 1}))).unwrap_err();
            prop_assert!(matches!(error, RenderError::Variables(_)));
        }
    }

    #[test]
    fn any_template_is_a_problem_or_renders_to_the_same_twice(source in "[a{}%# |.()\\[\\]'x0-9]{0,40}") {
        let text = format!("[[messages]]\nrole = 'user'\ncontent = {}", json!(source));
        let (prompts, problems) = read_at("prompts/help/1.0.0.toml", &text);
        if let Ok(prompt) = prompts.find("help", &Wanted::Unsaid) {
            prop_assert!(problems.is_empty());
            prop_assert_eq!(prompt.render(Map::new()), prompt.render(Map::new()));
        } else {
            prop_assert!(!problems.is_empty());
        }
    }

    #[test]
    fn any_words_for_a_version_are_read_or_refused(text in "[\\^~v]?[0-9a-z.]{0,12}") {
        if let Ok(Wanted::Within(from, below)) = Wanted::parse(&text) {
            prop_assert!(from < below);
        }
    }
}
