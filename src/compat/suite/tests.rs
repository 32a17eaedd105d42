use super::*;
use crate::compat::assertion::{GradeTerms, Graded};
use crate::compat::{Answer, Ask, Reply};

/// Reads one file.
fn read(text: &str) -> Result<Suite, String> {
    let mut problems = Problems::new();
    let files = [(PathBuf::from("suite.yaml"), text.to_owned())];
    Suite::parse("suite", &files, &mut problems).ok_or_else(|| problems.to_string())
}

#[test]
fn a_suite_is_asked_and_graded() {
    let suite = read(
        r#"
description: Capitals
prompts:
  - "What is the capital of {{country}}?"
providers: [openai:chat:gpt-4o-mini, anthropic:messages:claude-sonnet-4-5]
tests:
  - description: France
    vars: {country: France}
    assert:
      - {type: contains, value: Paris}
      - {type: llm-rubric, value: "names {{country}}"}
"#,
    )
    .expect("a suite");
    assert_eq!(suite.models[1].model, "anthropic/claude-sonnet-4-5");
    let case = &suite.cases[0];
    let question = suite.question(0, &case.vars).expect("a question");
    assert_eq!(question[0].text, "What is the capital of France?");
    let answer = Answer { text: "It is Paris.".to_owned(), ..Answer::default() };
    let terms = GradeTerms { judges_count: true, ..GradeTerms::default() };
    let Graded::Asks(asks) = case.grade(&answer, "q", &|_| None, terms) else { panic!("asks") };
    let [Ask::Rubric { rubric, .. }] = asks.as_slice() else { panic!("{asks:?}") };
    assert_eq!(rubric, "names France");
    let reply = Reply::Rated { passed: true, score: 0.5, reason: "well".to_owned() };
    let graded = case.grade(&answer, "q", &|_| Some(reply.clone()), terms);
    let Graded::Done(grade) = graded else { panic!("{graded:?}") };
    assert!(grade.passed);
    assert!((grade.score - 0.75).abs() < 1e-9, "{grade:?}");
}
