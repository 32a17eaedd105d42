//! Whole answers of routes that race late attempts: asked for as streams, and put together.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::Router;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tidegate::dialect::Dialect;
use tidegate::upstream::UpstreamRequest;

use crate::rig::{Ask, Rig, read};
use crate::scripted::{CHAT_FINISH, DONE, Reply, scripted};

/// Pairs of which the first is nearly always asked first: chances are the same in every run.
const ROUTES: &str = r#"
[defaults]
timeouts = { first_token = "3s", between_tokens = "2s", total = "30s" }
[routes.raced]
targets = [{ model = "chat/alpha", weight = 1000 }, { model = "claude/beta" }]
hedge = { enabled = true, max_extra_requests = "50%", max_extra_spend = "50%" }
[routes.patient]
targets = [{ model = "chat/alpha", weight = 1000 }, { model = "claude/beta" }]
timeouts = { first_token = "20s" }
hedge = { enabled = true, max_extra_requests = "50%", max_extra_spend = "50%" }
[routes.turned]
targets = [{ model = "claude/alpha", weight = 1000 }, { model = "gem/beta" }]
hedge = { enabled = true, max_extra_requests = "50%", max_extra_spend = "50%" }
[routes.plain]
targets = [{ model = "chat/alpha", weight = 1000 }, { model = "claude/beta" }]
[routes.alone]
targets = [{ model = "chat/alpha" }]
"#;
const RACED: [&str; 2] = ["raced", "turned"];
const CALLERS: [Dialect; 2] = [Dialect::OpenAiChat, Dialect::Anthropic];

/// A gateway whose providers answer what the function says, and what they were sent.
fn over(
    rig: &Rig,
    answer: impl Fn(&UpstreamRequest) -> Reply + Send + Sync + 'static,
) -> (Router, Arc<Mutex<Vec<Value>>>) {
    let seen = Arc::<Mutex<Vec<Value>>>::default();
    let sink = Arc::clone(&seen);
    let transport = scripted(move |request: &UpstreamRequest| {
        sink.lock().push(serde_json::from_slice(&request.body).unwrap());
        answer(request)
    });
    (rig.over(transport), seen)
}

fn is_for(request: &UpstreamRequest, provider: &str) -> bool {
    format!("{:?}", request.origin).contains(provider)
}

fn text_of(answer: &Value) -> &str {
    let chat = answer.pointer("/choices/0/message/content");
    chat.or_else(|| answer.pointer("/content/0/text")).and_then(Value::as_str).unwrap_or_default()
}

#[tokio::test(start_paused = true)]
async fn a_whole_answer_is_the_same_whether_it_came_as_a_stream_or_not() {
    let rig = Rig::instant(ROUTES);
    let tool = json!([{ "type": "function", "function": { "name": "look", "parameters": { "type": "object" } } }]);
    for text in ["[[sim:say=the tide comes in]]", "[[sim:call=look,call=look]]"] {
        let ask = Ask::chat("plain", text).having("tools", tool.clone()).whole();
        let mut plain = rig.ask(&ask).await.json();
        let mut raced = rig.ask(&Ask { model: "raced".to_owned(), ..ask }).await.json();
        for answer in [&mut plain, &mut raced] {
            answer["id"] = json!(0);
            // Who serves says more of an answer than there is to say.
            answer.as_object_mut().unwrap().remove("system_fingerprint");
            answer.as_object_mut().unwrap().remove("service_tier");
            let calls = answer["choices"][0]["message"]["tool_calls"].as_array_mut();
            calls.into_iter().flatten().for_each(|call| call["id"] = json!(0));
        }
        for key in ["object", "created", "model", "usage"] {
            assert_eq!(raced[key], plain[key], "{key}: {raced:#} {plain:#}");
        }
        for key in ["content", "tool_calls", "role"] {
            let pointer = format!("/choices/0/message/{key}");
            assert_eq!(raced.pointer(&pointer), plain.pointer(&pointer), "{raced:#} {plain:#}");
        }
        assert_eq!(raced["choices"][0]["finish_reason"], plain["choices"][0]["finish_reason"]);
    }
}

#[tokio::test(start_paused = true)]
async fn providers_of_every_wire_are_asked_for_a_stream_and_the_caller_gets_it_whole() {
    let rig = Rig::instant(ROUTES);
    for route in RACED {
        for dialect in CALLERS {
            for say in
                ["[[sim:say=all of it]]", "[[sim:on=alpha,status=500]] [[sim:say=all of it]]"]
            {
                let got = rig.ask(&Ask::new(dialect, route, say).whole()).await;
                let what = format!("{route} {dialect} {say}: {got:#?}");
                assert_eq!(
                    (got.status.as_u16(), text_of(&got.json())),
                    (200, "all of it"),
                    "{what}"
                );
                assert_eq!(got.header("content-type"), "application/json", "{what}");
                assert_ne!(got.header("x-tidegate-cost-usd"), "", "{what}");
            }
        }
    }
    for entry in rig.journal().await {
        assert_eq!((entry.streamed, entry.usage_estimated), (false, false), "{entry:?}");
        assert!(entry.usage.total_output() > 0 && entry.first_token_ms.is_some(), "{entry:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_asked_for_is_a_stream_with_usage_and_the_callers_own_fields() {
    let rig = Rig::instant(ROUTES);
    let (router, seen) = over(&rig, |_| Reply::stream().says("all").chunk(CHAT_FINISH).chunk(DONE));
    let ask = Ask::chat("raced", "hello").having("unheard_of", json!({ "a": [1.50] })).whole();
    let got = read(&router, &ask).await;
    assert_eq!(text_of(&got.json()), "all", "{got:#?}");
    let plain = read(&router, &Ask { model: "plain".to_owned(), ..ask.clone() }).await;
    assert_eq!(plain.status, 502, "a stream was not asked for, and is no answer: {plain:#?}");
    let two = read(&router, &ask.having("n", 2.into())).await;
    assert_eq!(two.status, 502, "several alternatives are not raced: {two:#?}");
    let seen = seen.lock();
    assert_eq!(seen[0]["stream"], true);
    assert_eq!(seen[0]["stream_options"]["include_usage"], true);
    assert_eq!(seen[0]["unheard_of"], json!({ "a": [1.50] }));
    for other in &seen[1..] {
        assert!(!other["stream"].as_bool().unwrap_or_default(), "{other}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_breaks_off_is_answered_by_the_next_target() {
    let faults =
        ["cut_after=3", "reset_after=3", "error_event=3", "stall_after=3", "malformed_frame=3"];
    for route in RACED {
        for dialect in CALLERS {
            for fault in faults {
                let rig = Rig::instant(ROUTES);
                let text = format!(
                    "[[sim:on=alpha,{fault},say=A LEAKED LEAKED LEAKED LEAKED]] [[sim:on=beta,say=beta speaks]]"
                );
                let got = rig.ask(&Ask::new(dialect, route, &text).whole()).await;
                let what = format!("{route} {dialect} {fault}: {got:#?}");
                assert_eq!(
                    (got.status.as_u16(), text_of(&got.json())),
                    (200, "beta speaks"),
                    "{what}"
                );
                assert_eq!(got.header("x-tidegate-attempts"), "2", "{what}");
                assert!(!got.body.contains("LEAKED"), "{what}");
                // A stall is noticed between two tokens, and not at the end of the time.
                assert!(got.end_after <= Duration::from_secs(3), "{what}");
                assert_eq!(rig.gateway.fleet().in_flight(), 0, "{what}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_journal_says_what_an_answer_was_that_broke_off_and_was_given_by_another() {
    let rig = Rig::instant(ROUTES);
    let text = "[[sim:on=alpha,cut_after=3]] [[sim:on=beta,say=beta speaks]]";
    let got = rig.ask(&Ask::chat("raced", text).whole()).await;
    assert_eq!(got.header("x-tidegate-degradation"), "0", "of the same tier: {got:#?}");
    let entry = rig.journal().await.remove(0);
    assert_eq!((entry.outcome.as_str(), entry.attempts, entry.degradation), ("complete", 2, 0));
    assert_eq!(entry.failure.as_deref(), Some("mid_stream"), "{entry:?}");
    assert_eq!(entry.target.as_deref(), Some("claude/beta"));
}

#[tokio::test(start_paused = true)]
async fn a_silent_target_is_given_up_after_the_time_to_the_first_token() {
    let rig = Rig::instant(ROUTES);
    let text = "[[sim:on=alpha,stall_after_head]] [[sim:on=beta,ttft=8s]]";
    let got = rig.ask(&Ask::chat("raced", text).whole()).await;
    assert_eq!(got.status, 504, "{got:#?}");
    assert!(got.end_after <= Duration::from_millis(6_500), "{:?}", got.end_after);
    // Once it has begun, an answer may take longer than that.
    let text = "[[sim:ttft=1s,gap=1s,tokens=10]]";
    let got = rig.ask(&Ask::chat("raced", text).whole()).await;
    assert_eq!(got.status, 200, "{got:#?}");
    assert!(got.end_after >= Duration::from_secs(9), "{:?}", got.end_after);
}

#[tokio::test(start_paused = true)]
async fn the_first_token_decides_a_race_for_a_whole_answer() {
    let rig = Rig::instant(ROUTES);
    // Races are paid for by the requests before.
    let fast = AtomicU32::new(4);
    let (router, seen) = over(&rig, move |request| {
        match is_for(request, "chat") {
        true if fast.load(Ordering::Relaxed) > 0 => {
            fast.fetch_sub(1, Ordering::Relaxed);
            Reply::stream().says("fast").chunk(CHAT_FINISH).chunk(DONE)
        }
        true => Reply::stream().stalls(),
        false => Reply::stream()
            .chunk("event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"beta\",\"content\":[],\"usage\":{\"input_tokens\":3,\"output_tokens\":1}}}\n\n")
            .chunk("event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n")
            .chunk("event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"first\"}}\n\n")
            .waits(Duration::from_millis(900))
            .chunk("event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n")
            .chunk("event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":5}}\n\n")
            .chunk("event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"),
    }
    });
    let ask = Ask::chat("patient", "hello").whole();
    for _ in 0..4 {
        assert_eq!(text_of(&read(&router, &ask).await.json()), "fast");
    }
    let got = read(&router, &ask).await;
    assert_eq!(text_of(&got.json()), "first", "{got:#?}");
    assert_eq!(got.header("x-tidegate-hedged"), "true", "{got:#?}");
    assert_eq!(got.header("x-tidegate-overhead-us"), "0", "waiting for providers is not ours");
    assert_eq!(seen.lock().len(), 4 + 2);
    drop(router);
    assert_eq!(rig.gateway.fleet().in_flight(), 0);
    let entry = rig.journal().await.into_iter().find(|entry| entry.attempts == 2).unwrap();
    let first = Duration::from_millis(entry.first_token_ms.unwrap());
    assert_eq!(entry.latency_ms, (first + Duration::from_millis(900)).as_millis() as u64);
    assert_eq!((entry.usage.input, entry.usage.output, entry.attempts), (3, 5, 2));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_came_whole_although_a_stream_was_asked_for_stays_whole() {
    let rig = Rig::instant(ROUTES);
    let (router, _) = over(&rig, |_| {
        Reply::status(200).chunk(
            r#"{"id":"x","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"whole"},"finish_reason":"stop"}],"own":7}"#,
        )
    });
    let got = read(&router, &Ask::chat("raced", "hello").whole()).await;
    assert_eq!((text_of(&got.json()), &got.json()["own"]), ("whole", &json!(7)), "{got:#?}");
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_leaves_while_an_answer_is_collected_ends_the_attempt() {
    let rig = Rig::instant(ROUTES);
    let ask = Ask::chat("raced", "[[sim:gap=1s,tokens=10]]").whole();
    let left = tokio::time::timeout(Duration::from_secs(3), rig.open(&ask)).await;
    assert!(left.is_err());
    assert_eq!(rig.gateway.fleet().in_flight(), 0);
    assert_eq!(rig.sim.stats().total.in_flight, 0);
    assert_eq!(rig.journal().await[0].outcome, "client_gone");
}
