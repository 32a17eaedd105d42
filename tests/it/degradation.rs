//! A lesser answer where the full one cannot be had, and never one that hides the caller's mistake.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tidegate::dialect::Dialect;
use tidegate::journal::StoredRequest;
use tidegate::upstream::UpstreamRequest;

use crate::rig::{Ask, End, Got, Rig, events, read};
use crate::scripted::{CHAT_FINISH, DONE, Reply, scripted};

const ROUTES: &str = r#"
[providers.sized]
dialect = "openai-chat"
base_url = "sim://sized/v1"
credentials = [{ none = true }]
models = [
  { id = "small", context_tokens = 2_000 },
  { id = "medium", context_tokens = 3_000 },
  { id = "large", context_tokens = 4_000 },
]
[routes.sizes]
targets = [
  { model = "sized/small" }, { model = "sized/medium", tier = 1 }, { model = "sized/large", tier = 2 },
]
[routes.shortened]
targets = [{ model = "sized/medium" }, { model = "sized/small", tier = 1 }]
degrade = { reduced_context = true, scripted = "Back soon." }
[routes.tiers]
targets = [{ model = "chat/alpha" }, { model = "chat/beta", tier = 1 }]
[routes.polite]
targets = [{ model = "chat/alpha" }, { model = "claude/beta", tier = 1 }]
timeouts = { first_token = "3s", total = "5s" }
degrade = { scripted = "I'm having trouble right now." }
[routes.polite-vectors]
targets = [{ model = "chat/vectors" }]
degrade = { scripted = "I'm having trouble right now." }
[routes.early]
targets = [{ model = "chat/alpha" }]
timeouts = { first_token = "3s", total = "5s" }
keep_alive = { every = "1s", before_first_token = true }
degrade = { scripted = "I'm having trouble right now." }
"#;

const TOO_LONG: &str = r#"{"error":{"message":"too many tokens","type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}}"#;
const WORDS: &str = "I'm having trouble right now.";

/// The bodies that providers were sent.
type Seen = Arc<Mutex<Vec<Value>>>;

/// A gateway whose providers answer what the function says of the request's body.
fn over(rig: &Rig, answer: impl Fn(&Value) -> Reply + Send + Sync + 'static) -> (Router, Seen) {
    let seen = Seen::default();
    let sink = Arc::clone(&seen);
    let transport = scripted(move |request: &UpstreamRequest| {
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        sink.lock().push(body.clone());
        answer(&body)
    });
    (rig.over(transport), seen)
}

fn answers(text: &str) -> Reply {
    Reply::stream().says(text).chunk(CHAT_FINISH).chunk(DONE)
}

fn fails(status: u16) -> Reply {
    Reply::status(status).chunk(r#"{"error":{"message":"no"}}"#)
}

/// Refuses what is longer than so many bytes.
fn takes(bytes: usize) -> impl Fn(&Value) -> Reply {
    move |body| match body["messages"].to_string().len() > bytes {
        true => Reply::status(400).chunk(TOO_LONG),
        false => answers("short enough"),
    }
}

fn models(seen: &Seen) -> Vec<String> {
    seen.lock().iter().map(|body| body["model"].as_str().unwrap().to_owned()).collect()
}

/// Instructions, turns of some 120 tokens each, and a question.
fn conversation(turns: usize) -> Value {
    let words = "the tide comes in ".repeat(15);
    let mut messages = vec![json!({ "role": "system", "content": "be brief" })];
    for turn in 0..turns {
        messages.push(json!({ "role": "user", "content": format!("{turn} {words}") }));
        messages.push(json!({ "role": "assistant", "content": words }));
    }
    messages.push(json!({ "role": "user", "content": "and now?" }));
    Value::Array(messages)
}

fn degradation(got: &Got) -> &str {
    got.header("x-tidegate-degradation")
}

async fn only(rig: Rig) -> StoredRequest {
    let mut journal = rig.journal().await;
    assert_eq!(journal.len(), 1, "{journal:#?}");
    journal.remove(0)
}

#[tokio::test(start_paused = true)]
async fn a_prompt_that_is_too_long_goes_to_the_longest_context_and_not_to_the_next() {
    let rig = Rig::instant(ROUTES);
    let (router, seen) = over(&rig, |body| match body["model"].as_str() {
        Some("large") => answers("it fits"),
        _ => Reply::status(400).chunk(TOO_LONG),
    });
    let got = read(&router, &Ask::chat("sizes", "hello")).await;
    assert_eq!((got.status.as_u16(), got.text().as_str()), (200, "it fits"), "{got:#?}");
    assert_eq!(models(&seen), ["small", "large"]);
    assert_eq!(got.header("x-tidegate-served-by"), "sized/large");
    assert_eq!(degradation(&got), "2", "a model of a later tier");
    drop(router);
    let entry = only(rig).await;
    assert_eq!((entry.degradation, entry.attempts, entry.outcome.as_str()), (2, 2, "complete"));
    assert_eq!(entry.failure.as_deref(), Some("context_too_long"));
}

#[tokio::test(start_paused = true)]
async fn where_no_context_is_longer_the_caller_learns_that_the_prompt_is_too_long() {
    let rig = Rig::instant(ROUTES);
    let (router, seen) = over(&rig, |_| Reply::status(400).chunk(TOO_LONG));
    let got = read(&router, &Ask::chat("sizes", "hello")).await;
    assert_eq!(got.status, 400);
    assert_eq!(got.json()["error"]["code"], "context_length_exceeded");
    assert_eq!(models(&seen), ["small", "large"], "what is too long for one is for a shorter one");
    assert_eq!(degradation(&got), "0");
}

#[tokio::test(start_paused = true)]
async fn the_oldest_turns_are_left_out_where_the_route_says_so() {
    let rig = Rig::instant(ROUTES);
    let (router, seen) = over(&rig, takes(8_000));
    let ask =
        Ask::chat("shortened", "").having("messages", conversation(20)).having("seed", 7.into());
    let got = read(&router, &ask).await;
    assert_eq!((got.status.as_u16(), got.text().as_str()), (200, "short enough"), "{got:#?}");
    assert_eq!((degradation(&got), got.header("x-tidegate-attempts")), ("1", "2"));
    assert_eq!(got.header("x-tidegate-served-by"), "sized/medium");
    assert_eq!(got.end(), End::Terminal);
    let bodies = seen.lock().clone();
    let (all, left) = (bodies[0]["messages"].as_array().unwrap(), &bodies[1]);
    let left_messages = left["messages"].as_array().unwrap();
    assert_eq!(all.len(), 42);
    assert_eq!(left_messages[0], json!({ "role": "system", "content": "be brief" }));
    let cut = all.len() - left_messages.len();
    assert!(cut > 0 && cut.is_multiple_of(2), "{cut} messages were left out");
    assert_eq!(left_messages[1..], all[cut + 1..], "the oldest turns, whole, and no others");
    assert_eq!((&left["seed"], &left["model"]), (&json!(7), &json!("medium")));
    drop(router);
    let entry = only(rig).await;
    assert_eq!((entry.degradation, entry.attempts, entry.outcome.as_str()), (1, 2, "complete"));
}

#[tokio::test(start_paused = true)]
async fn a_whole_answer_to_a_shortened_prompt_is_whole() {
    let rig = Rig::instant(ROUTES);
    let (router, _) = over(&rig, |body| {
        match body["messages"].to_string().len() > 8_000 {
        true => Reply::status(400).chunk(TOO_LONG),
        false => Reply::status(200).chunk(
            r#"{"id":"x","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"short"},"finish_reason":"stop"}]}"#,
        ),
    }
    });
    let ask = Ask::chat("shortened", "").having("messages", conversation(20)).whole();
    let got = read(&router, &ask).await;
    assert_eq!(got.json()["choices"][0]["message"]["content"], "short", "{got:#?}");
    assert_eq!(degradation(&got), "1");
}

#[tokio::test(start_paused = true)]
async fn a_single_turn_that_is_too_long_stays_the_callers_mistake() {
    let rig = Rig::instant(ROUTES);
    let (router, seen) = over(&rig, |_| Reply::status(400).chunk(TOO_LONG));
    let got = read(&router, &Ask::chat("shortened", &"word ".repeat(2_000))).await;
    assert_eq!(got.status, 400, "{got:#?}");
    assert_eq!(got.json()["error"]["code"], "context_length_exceeded", "no fixed words hide it");
    assert_eq!(models(&seen), ["medium"]);
}

#[tokio::test(start_paused = true)]
async fn a_shortened_prompt_that_nobody_answers_ends_in_fixed_words() {
    let rig = Rig::instant(ROUTES);
    let (router, _) = over(&rig, |body| match body["messages"].to_string().len() > 8_000 {
        true => Reply::status(400).chunk(TOO_LONG),
        false => fails(500),
    });
    let ask = Ask::chat("shortened", "").having("messages", conversation(20));
    let got = read(&router, &ask).await;
    assert_eq!((degradation(&got), got.text().as_str()), ("4", "Back soon."), "{got:#?}");
}

#[tokio::test(start_paused = true)]
async fn an_answer_of_a_later_tier_says_so() {
    let rig = Rig::instant(ROUTES);
    for (text, level) in [("hello", "0"), ("[[sim:on=alpha,status=500]]", "2")] {
        for ask in [Ask::chat("tiers", text), Ask::chat("tiers", text).whole()] {
            assert_eq!(degradation(&rig.ask(&ask).await), level, "{text}");
        }
    }
    let metrics = rig.gateway.metrics.render();
    assert!(metrics.contains("tidegate_degraded_total{level=\"2\"} 2"), "{metrics}");
    assert!(!metrics.contains("tidegate_degraded_total{level=\"0\"}"), "{metrics}");
    let journal = rig.journal().await;
    let levels: Vec<u64> = journal.iter().map(|entry| entry.degradation).collect();
    assert_eq!(levels, [0, 0, 2, 2]);
}

#[tokio::test(start_paused = true)]
async fn where_everything_fails_the_routes_own_words_are_a_normal_answer() {
    let rig = Rig::instant(ROUTES);
    for dialect in [Dialect::OpenAiChat, Dialect::Anthropic] {
        let ask = Ask::new(dialect, "polite", "[[sim:status=500]]");
        for ask in [ask.clone(), ask.clone().whole()] {
            let got = rig.ask(&ask).await;
            assert_eq!((got.status.as_u16(), degradation(&got)), (200, "4"), "{got:#?}");
            assert_eq!(got.header("x-tidegate-served-by"), "");
            assert_ne!(got.header("x-tidegate-attempts"), "0");
            if ask.stream {
                assert_eq!((got.text().as_str(), got.end()), (WORDS, End::Terminal), "{got:#?}");
                assert_eq!(got.header("content-type"), "text/event-stream; charset=utf-8");
                continue;
            }
            let answer = got.json();
            assert_eq!(answer["model"], "polite");
            let (text, usage) = match dialect {
                Dialect::Anthropic => ("/content/0/text", ["input_tokens", "output_tokens"]),
                Dialect::OpenAiChat | Dialect::Gemini => {
                    ("/choices/0/message/content", ["prompt_tokens", "completion_tokens"])
                }
            };
            assert_eq!(answer.pointer(text), Some(&json!(WORDS)), "{answer}");
            for key in usage {
                assert_eq!(answer["usage"][key], 0, "{answer}");
            }
        }
    }
    assert_eq!(rig.gateway.fleet().in_flight(), 0);
    for entry in rig.journal().await {
        assert_eq!((entry.degradation, entry.status, entry.outcome.as_str()), (4, 200, "complete"));
        assert_eq!((entry.failure.as_deref(), entry.error_code), (Some("server_fault"), None));
        assert_eq!((entry.usage.total(), entry.usage_estimated, entry.cost.0), (0, false, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_was_committed_early_goes_on_with_the_fixed_words() {
    let rig = Rig::instant(ROUTES);
    let got = rig.ask(&Ask::chat("early", "[[sim:stall_after_head]]")).await;
    assert_eq!(got.head_after, Duration::from_secs(1));
    assert_eq!((got.text().as_str(), got.end()), (WORDS, End::Terminal), "{got:#?}");
    let first = &events(&got.body)[0].1;
    assert!(first.contains("\"model\":\"early\""), "{first}");
    assert_eq!(degradation(&got), "", "the head went out before that was known");
    assert_eq!(only(rig).await.degradation, 4);
}

#[tokio::test(start_paused = true)]
async fn where_nobody_can_be_asked_or_the_deadline_passes_the_words_come_as_well() {
    let rig = Rig::instant(ROUTES);
    assert_eq!(degradation(&rig.ask(&Ask::chat("polite", "[[sim:status=500]]")).await), "4");
    for id in ["chat/alpha", "claude/beta"] {
        rig.gateway.fleet().target(id).unwrap().set_drained(true, None).unwrap();
    }
    let got = rig.ask(&Ask::chat("polite", "hello")).await;
    assert_eq!((degradation(&got), got.header("x-tidegate-attempts")), ("4", "0"), "{got:#?}");
    let rig = Rig::instant(ROUTES);
    let slow = Ask::chat("polite", "[[sim:stall_after_head]]").with("x-tidegate-timeout-ms", 2_000);
    let got = rig.ask(&slow).await;
    assert_eq!((degradation(&got), got.text().as_str()), ("4", WORDS), "{got:#?}");
    assert_eq!(got.end_after, Duration::from_secs(2));
}

#[tokio::test(start_paused = true)]
async fn the_words_never_hide_what_the_caller_has_to_know_or_could_not_read() {
    let rig = Rig::instant(ROUTES);
    let (down, mistake) = ("[[sim:status=500]]", "[[sim:status=400]]");
    let tool = json!([{ "type": "function", "function": { "name": "f", "parameters": {} } }]);
    let schema = json!({ "type": "json_schema", "json_schema": { "name": "s", "schema": {} } });
    let refused = [
        (400, Ask::chat("polite", mistake)),
        (
            502,
            Ask::chat("polite", down)
                .having("tools", tool.clone())
                .having("tool_choice", "required".into()),
        ),
        (502, Ask::chat("polite", down).having("response_format", schema)),
        (
            502,
            Ask::chat("polite", down).having("response_format", json!({ "type": "json_object" })),
        ),
        (502, Ask::chat("polite", down).having("n", 2.into())),
        (404, Ask::chat("nowhere", down)),
        (400, Ask::chat("polite-vectors", down)),
    ];
    for (status, ask) in refused {
        let got = rig.ask(&ask).await;
        assert_eq!((got.status.as_u16(), degradation(&got)), (status, "0"), "{ask:?} {got:#?}");
    }
    // A tool that may be called, and need not, is no hindrance.
    let got = rig.ask(&Ask::chat("polite", down).having("tools", tool)).await;
    assert_eq!(degradation(&got), "4", "{got:#?}");
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_was_to_be_continued_says_that_it_is_not() {
    let rig = Rig::instant(ROUTES);
    let ask = Ask::chat("tiers", "[[sim:cut_after=2]]").with("x-tidegate-midstream", "continue");
    let got = rig.ask(&ask).await;
    assert_eq!(
        (got.end(), got.header("x-tidegate-dropped")),
        (End::Error, "midstream"),
        "{got:#?}"
    );
    let early =
        Ask { model: "early".to_owned(), text: "[[sim:ttft=2s]]".to_owned(), ..ask.clone() };
    assert_eq!(rig.ask(&early).await.header("x-tidegate-dropped"), "midstream");
    let got = rig.ask(&ask.whole()).await;
    assert_eq!(got.header("x-tidegate-dropped"), "", "a whole answer is failed over: {got:#?}");
    let got = rig.ask(&Ask::chat("tiers", "hello")).await;
    assert_eq!(got.header("x-tidegate-dropped"), "");
}
