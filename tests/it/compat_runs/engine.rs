//! What becomes of answers, refusals and busy providers; judges; caps; cancelling.

use super::*;

fn good(_: &provider::Call, _: usize) -> Said {
    Said::text("good")
}

/// All samples of a run, as its report shows them: how many of the new model have no answer.
async fn judgement(gate: &Program, id: &str) -> Value {
    let run = over(gate, id).await;
    assert_eq!(run["state"], "done", "{run}");
    run
}

async fn report(gate: &Program, id: &str) -> Value {
    gate.get_json(&format!("/admin/v1/compat/runs/{id}/report")).await
}

#[tokio::test]
async fn equal_models_are_compatible_and_the_journal_says_who_asked() {
    let provider = Counting::new(1, good).await;
    let gate = Program::serve(&config(&provider, "concurrency = 4"));
    push(&gate, &suite(20, &contains_good())).await;
    let run = judgement(&gate, &begin(&gate, json!({"samples": 10})).await).await;
    assert_eq!(run["verdict"], "compatible", "{run}");
    assert_eq!(run["samples"], json!({"each": 10, "done": 400, "planned": 400, "reused": 0}));
    assert_eq!(provider.count(), 400);
    assert!(provider.most_at_once() <= 4, "{}", provider.most_at_once());
    let seeds: std::collections::BTreeSet<_> =
        provider.calls().iter().map(|call| call.seed).collect();
    assert_eq!(seeds, (1..=10).map(Some).collect());
    let journal = gate
        .until("/admin/v1/requests?limit=500", |page| page["data"].as_array().unwrap().len() == 400)
        .await;
    let request = &journal["data"][0];
    assert_eq!(request["tags"], json!({"tidegate": "compat"}), "{request}");
    assert_eq!(gate.metric("tidegate_compat_runs_total").await, 1.0);
}

#[tokio::test]
async fn a_busy_provider_loses_no_sample() {
    let says = |call: &provider::Call, before: usize| match before % 7 {
        0..3 if before < 60 => Said::Busy(1),
        3 if before < 60 => Said::Status(503, "overloaded"),
        _ => good(call, before),
    };
    let provider = Counting::new(1, says).await;
    let gate = Program::serve(&config(&provider, "concurrency = 8"));
    push(&gate, &suite(10, &contains_good())).await;
    let run = judgement(&gate, &begin(&gate, json!({"samples": 3})).await).await;
    assert_eq!(run["judgement"]["unanswered"], 0, "{run}");
    assert!(run["judgement"]["pairs"].as_u64() >= Some(30), "{run}");
}

#[tokio::test]
async fn a_refusal_is_an_answer_and_a_request_that_is_wrong_is_none() {
    let says = |call: &provider::Call, before: usize| match call.case {
        Some(0) => Said::Status(400, "content_policy_violation"),
        Some(1) if call.model == "claude-new" => Said::Status(400, "unsupported_value"),
        _ => good(call, before),
    };
    let provider = Counting::new(1, says).await;
    let gate = Program::serve(&config(&provider, "samples = 3\nmax_samples = 3"));
    push(&gate, &suite(10, &contains_good())).await;
    let id = begin(&gate, json!({})).await;
    let run = judgement(&gate, &id).await;
    let unanswered = report(&gate, &id).await["unanswered"].clone();
    assert_eq!((&unanswered["answers"], &unanswered["commonest"]), (&json!(3), &json!(3)));
    assert_eq!(unanswered["model"], "mock/claude-new");
    let why = unanswered["why"].as_str().unwrap_or_default();
    assert!(why.starts_with("400 unsupported_value"), "{why}");
    assert_eq!(run["judgement"]["unanswered"], 3, "{run}");
    assert_eq!(run["judgement"]["pairs"], 27, "{run}");
    assert_eq!(provider.count(), 60, "none is asked again");
}

#[tokio::test]
async fn a_baseline_is_asked_once_a_day() {
    let provider = Counting::new(1, good).await;
    let config = config(&provider, "samples = 3\nmax_samples = 3").replace("\"0s\"", "\"24h\"");
    let gate = Program::serve(&config);
    push(&gate, &suite(10, &contains_good())).await;
    judgement(&gate, &begin(&gate, json!({})).await).await;
    let run = judgement(&gate, &begin(&gate, json!({"seed": 7})).await).await;
    assert_eq!((provider.of("gpt-base"), provider.of("claude-new")), (30, 60));
    // What is reused is no work: neither done nor to do.
    let samples = json!({"each": 3, "done": 30, "planned": 30, "reused": 30});
    assert_eq!(run["samples"], samples, "{run}");
}

#[tokio::test]
async fn a_judge_of_another_family_judges_each_answer_once() {
    let says = |call: &provider::Call, _: usize| match call.model.as_str() {
        "gemini-judge" => Said::text(r#"{"reason": "fine", "score": 1, "pass": true}"#),
        _ => Said::text(&format!("answer to {:?}", call.case)),
    };
    let provider = Counting::new(1, says).await;
    let compat = "samples = 3\nmax_samples = 3\n[compat.judge]\n\
                  models = [\"mock/gpt-base\", \"mock/gemini-judge\"]\ntrust_uncalibrated = true";
    let gate = Program::serve(&config(&provider, compat));
    push(&gate, &suite(5, &json!({"type": "llm-rubric", "value": "is polite"}))).await;
    let run = judgement(&gate, &begin(&gate, json!({})).await).await;
    // Six answers to each case, and all of them say the same.
    assert_eq!(provider.of("gemini-judge"), 5, "{run}");
    assert_eq!(run["judgement"]["pairs"], 15, "{run}");
    let run = judgement(&gate, &begin(&gate, json!({"seed": 9})).await).await;
    assert_eq!(provider.of("gemini-judge"), 5, "no other run asks again: {run}");
}

#[tokio::test]
async fn where_nobody_may_judge_nobody_is_asked_and_it_is_said() {
    let provider = Counting::new(1, good).await;
    let compat = "samples = 1\nmax_samples = 1\n[compat.judge]\nmodels = [\"mock/gpt-base\"]";
    let gate = Program::serve(&config(&provider, compat));
    push(&gate, &suite(3, &json!({"type": "llm-rubric", "value": "is polite"}))).await;
    let id = begin(&gate, json!({})).await;
    judgement(&gate, &id).await;
    assert_eq!(provider.count(), 6);
    let report = gate.get(&format!("/admin/v1/compat/runs/{id}/report")).await.body;
    assert!(report.contains("nobody judges"), "{report}");
}

#[tokio::test]
async fn a_cancelled_run_asks_nothing_more() {
    let provider = Counting::new(50, good).await;
    let gate = Program::serve(&config(&provider, "concurrency = 4"));
    push(&gate, &suite(100, &contains_good())).await;
    let id = begin(&gate, json!({})).await;
    assert!(eventually(PATIENCE, async || provider.count() >= 20).await);
    let cancelled = admin(&gate, &format!("/compat/runs/{id}/cancel"), &json!({})).await;
    assert_eq!(cancelled.status, 200, "{cancelled:?}");
    // What is on its way arrives.
    let count = provider.count();
    let more = eventually(Duration::from_millis(300), async || provider.count() > count + 8);
    assert!(!more.await, "{count} {}", provider.count());
    let run = over(&gate, &id).await;
    assert_eq!((&run["state"], &run["verdict"]), (&json!("cancelled"), &Value::Null));
    assert_eq!(report(&gate, &id).await["state"], "cancelled");
}

#[tokio::test]
async fn a_run_ends_where_its_money_does_with_what_it_knows() {
    let provider = Counting::new(1, good).await;
    let priced = config(&provider, "concurrency = 4").replace(
        "{ id = \"gpt-base\" }, { id = \"claude-new\" }",
        "{ id = \"gpt-base\", usd_per_million = { input = \"100\", output = \"100\" } }, \
         { id = \"claude-new\", usd_per_million = { input = \"100\", output = \"100\" } }",
    );
    let gate = Program::serve(&priced);
    push(&gate, &suite(100, &contains_good())).await;
    // An answer has 15 tokens, which are 1,500 millionths: some 40 answers.
    let id = begin(&gate, json!({"max_cost_usd": "0.06"})).await;
    let run = judgement(&gate, &id).await;
    assert_eq!((provider.count(), &run["cost_usd"]), (40, &json!("0.060000")), "{run}");
    assert!(run["reason"].as_str().unwrap().contains("$0.06"), "{run}");
    assert_eq!(run["verdict"], "inconclusive", "{run}");
    assert_eq!(run["judgement"]["unanswered"], 0, "what was not asked is no hole: {run}");
    assert_eq!(report(&gate, &id).await["state"], "capped");

    // A cap that not even one answer fits under, as far as anybody knows before it.
    let run = judgement(&gate, &begin(&gate, json!({"max_cost_usd": "0.001"})).await).await;
    assert_eq!((provider.count(), &run["verdict"]), (40, &json!("inconclusive")), "{run}");
}
