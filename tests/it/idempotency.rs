//! Requests that are sent again are not carried out again: one node, in process, on a running
//! clock, because the store does not wait for a paused one.

use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use http::Request;
use http_body_util::BodyExt;
use serde_json::json;
use tidegate::dialect::Dialect;
use tokio::task::JoinSet;
use tower::ServiceExt;

use crate::rig::{Ask, End, Got, Rig, read};
use crate::support::eventually;

mod nodes;

const CALLERS: [Dialect; 2] = [Dialect::OpenAiChat, Dialect::Anthropic];
const BUSY: &str = "[[sim:ttft=100ms,gap=10ms,tokens=20]]";

fn keyed(ask: Ask, key: &str) -> Ask {
    ask.with("idempotency-key", key)
}

/// A key, and an answer that takes a while.
fn busy(dialect: Dialect, key: &str) -> Ask {
    keyed(Ask::new(dialect, "chat/alpha", BUSY), key)
}

/// How many requests reached the providers.
fn calls(rig: &Rig) -> u64 {
    rig.sim.stats().total.requests
}

/// Waits until nothing goes on, so that what is kept is in the store.
async fn settled(rig: &Rig) {
    eventually(|| rig.gateway.executions().running() == 0).await;
}

async fn ask_at_once(rig: &Rig, asks: impl IntoIterator<Item = Ask>) -> Vec<Got> {
    let mut asking = JoinSet::new();
    for ask in asks {
        let router = rig.router.clone();
        asking.spawn(async move { read(&router, &ask).await });
    }
    asking.join_all().await
}

/// The error code of an answer, on either wire.
fn code(got: &Got) -> String {
    let error = got.json()["error"].clone();
    let code = error.get("code").or_else(|| error.get("type"));
    code.and_then(|code| code.as_str()).unwrap_or_default().to_owned()
}

async fn next(response: &mut Response) -> Option<String> {
    let frame = response.body_mut().frame().await?;
    Some(String::from_utf8(frame.unwrap().into_data().unwrap().to_vec()).unwrap())
}

#[tokio::test]
async fn a_hundred_at_once_are_one_call_and_a_hundred_identical_answers() {
    let rig = Rig::instant("");
    for (dialect, upstream, stream) in [
        (Dialect::OpenAiChat, "chat/alpha", true),
        (Dialect::OpenAiChat, "claude/alpha", true),
        (Dialect::OpenAiChat, "gem/alpha", false),
        (Dialect::Anthropic, "chat/alpha", true),
        (Dialect::Anthropic, "claude/alpha", false),
    ] {
        let what = format!("{dialect} from {upstream}, streamed: {stream}");
        let before = calls(&rig);
        let mut ask = keyed(Ask::new(dialect, upstream, BUSY), &what.replace(' ', "_"));
        ask.stream = stream;
        let answers = ask_at_once(&rig, std::iter::repeat_n(ask, 100)).await;
        assert_eq!(calls(&rig) - before, 1, "{what}");
        let first = &answers[0];
        assert_eq!(first.status, 200, "{what}: {}", first.body);
        assert!(first.body.len() > 100, "{what}: {}", first.body);
        if stream {
            assert_eq!(first.end(), End::Terminal, "{what}");
        }
        for got in &answers {
            assert_eq!((got.status, &got.body), (first.status, &first.body), "{what}");
            assert_eq!(got.header("x-request-id"), first.header("x-request-id"), "{what}");
            assert_eq!(got.header("content-type"), first.header("content-type"), "{what}");
            assert_eq!(got.header("idempotent-replayed"), "", "{what}");
        }
        let joined: Vec<_> =
            answers.iter().filter(|got| got.header("x-tidegate-cache") == "coalesced").collect();
        assert_eq!(joined.len(), 99, "{what}");
        assert!(
            joined.iter().all(|got| !got.header("x-tidegate-duplicate-id").is_empty()),
            "{what}"
        );
    }
}

#[tokio::test]
async fn a_later_one_gets_the_same_again() {
    let rig = Rig::instant("");
    for dialect in CALLERS {
        for stream in [false, true] {
            let what = format!("{dialect}, streamed: {stream}");
            let key = format!("{dialect}-{stream}");
            let mut ask = busy(dialect, &key);
            ask.stream = stream;
            let before = calls(&rig);
            let first = rig.ask(&ask).await;
            settled(&rig).await;
            let again = rig.ask(&ask).await;
            assert_eq!(calls(&rig) - before, 1, "{what}");
            assert_eq!((again.status, &again.body), (first.status, &first.body), "{what}");
            assert_eq!(again.header("idempotent-replayed"), "true", "{what}");
            assert_ne!(again.header("x-tidegate-duplicate-id"), "", "{what}");
            for name in ["content-type", "x-request-id", "x-tidegate-served-by", "x-tidegate-cache"]
            {
                assert_eq!(again.header(name), first.header(name), "{what} {name}");
            }
            // Members in another order and with other blanks say the same.
            let body = serde_json::to_string_pretty(&ask.body()).unwrap();
            let request = Request::post(ask.path()).header("idempotency-key", &key);
            let request = request.body(Body::from(format!("\n{body}\n"))).unwrap();
            let response = rig.router.clone().oneshot(request).await.unwrap();
            assert_eq!(response.headers()["idempotent-replayed"], "true", "{what}");
        }
    }
    // The same key for another endpoint is another key.
    let got = rig.ask(&busy(Dialect::Anthropic, "openai-chat-true")).await;
    assert_eq!(got.header("idempotent-replayed"), "");
}

#[tokio::test]
async fn a_key_is_for_one_request() {
    let rig = Rig::instant("");
    for dialect in CALLERS {
        let ask = busy(dialect, "one");
        let others = [
            Ask { text: "something else".to_owned(), ..ask.clone() },
            ask.clone().having("temperature", json!(0.5)),
            ask.clone().with("anthropic-beta", "tools"),
            ask.clone().with("x-resumable", true),
        ];
        // While it is carried out, and after.
        for open in [Some(rig.open(&ask).await), None] {
            for other in &others {
                let got = rig.ask(other).await;
                assert_eq!(got.status, 422, "{dialect}: {}", got.body);
                if dialect == Dialect::OpenAiChat {
                    assert_eq!(code(&got), "idempotency_key_reused");
                    assert_eq!(got.json()["error"]["param"], "Idempotency-Key");
                }
            }
            drop(open);
            settled(&rig).await;
        }
        // What changes nothing about the request may differ.
        let same = ask.with("x-tidegate-priority", 1).with("x-stainless-retry-count", 1);
        assert_eq!(rig.ask(&same).await.header("idempotent-replayed"), "true");
    }
    assert_eq!(calls(&rig), 2);
    for bad in ["", "two words", &"k".repeat(256)] {
        let got = rig.ask(&busy(Dialect::OpenAiChat, bad)).await;
        assert_eq!((got.status.as_u16(), code(&got).as_str()), (400, "invalid_request"), "{bad:?}");
    }
    assert_eq!(calls(&rig), 2);
}

#[tokio::test]
async fn who_does_not_want_to_wait_is_told_to_come_back() {
    let rig = Rig::instant("");
    let ask = busy(Dialect::OpenAiChat, "busy");
    let open = rig.open(&ask).await;
    let impatient = ask.clone().with("x-idempotency", "conflict");
    let got = rig.ask(&impatient).await;
    assert_eq!((got.status.as_u16(), code(&got).as_str()), (409, "idempotency_in_progress"));
    assert_eq!(got.header("retry-after"), "1");
    drop(open);
    settled(&rig).await;
    assert_eq!(rig.ask(&impatient).await.header("idempotent-replayed"), "true");
    // Alone it is carried out as any.
    let alone = busy(Dialect::OpenAiChat, "alone").with("x-idempotency", "conflict");
    assert_eq!(rig.ask(&alone).await.status, 200);
    assert_eq!(calls(&rig), 2);
}

#[tokio::test]
async fn who_comes_late_reads_along_from_the_beginning() {
    let rig = Rig::instant("");
    let slow = "[[sim:ttft=10ms,gap=50ms,tokens=20]]";
    let ask = keyed(Ask::chat("chat/alpha", slow), "late");
    let mut first = rig.open(&ask).await;
    let mut heard = String::new();
    while heard.matches("data:").count() < 5 {
        heard.push_str(&next(&mut first).await.unwrap());
    }
    let mut second = rig.open(&ask).await;
    let caught_up = next(&mut second).await.unwrap();
    assert!(caught_up.starts_with(&heard), "{caught_up:?} after {heard:?}");
    assert!(!caught_up.contains("[DONE]"), "it was over");
    let mut rest = caught_up;
    while let Some(piece) = next(&mut second).await {
        rest.push_str(&piece);
    }
    while let Some(piece) = next(&mut first).await {
        heard.push_str(&piece);
    }
    assert_eq!(rest, heard);
    assert!(rest.ends_with("data: [DONE]\n\n"), "{rest}");
    assert_eq!(calls(&rig), 1);
}

#[tokio::test]
async fn it_goes_on_when_its_caller_leaves() {
    let rig = Rig::instant("");
    for stream in [true, false] {
        let before = calls(&rig);
        let mut ask = busy(Dialect::OpenAiChat, if stream { "gone" } else { "gone-whole" });
        ask.stream = stream;
        // Before the head, and within the answer.
        let left = tokio::time::timeout(Duration::from_millis(30), rig.open(&ask)).await;
        assert!(left.is_err(), "it was too quick");
        if stream {
            drop(rig.open(&ask).await);
        }
        settled(&rig).await;
        let got = rig.ask(&ask).await;
        assert_eq!(got.status, 200);
        assert_eq!(got.header("idempotent-replayed"), "true");
        assert_eq!(calls(&rig) - before, 1);
        assert_eq!(rig.sim.stats().total.cancelled, 0);
    }
}

#[tokio::test]
async fn what_may_come_out_differently_is_not_kept() {
    let routes = "[routes.tried]\ntargets = [{ model = \"chat/alpha\" }]\nretry = { attempts = 1 }\n\
                  [routes.told]\ntargets = [{ model = \"chat/beta\" }]\nretry = { attempts = 1 }\n\
                  degrade = { scripted = \"Later, please.\" }\n";
    let rig = Rig::instant(routes);
    // What the provider does the first time it is asked, and what the caller gets.
    let cases = [
        ("tried", "status=500", 502),
        ("tried", "status=529", 503),
        ("tried", "status=429", 429),
        ("tried", "connect_refused", 502),
        ("tried", "cut_after=0", 502),
        // The route's own words are no answer to remember.
        ("told", "status=500", 200),
    ];
    for (number, (route, fault, status)) in cases.into_iter().enumerate() {
        for stream in [false, true] {
            // A number of tokens of its own: blocks that read the same are counted together.
            let tokens = 2 * number + usize::from(stream) + 10;
            let text = format!("[[sim:first=1,{fault},tokens={tokens}]]");
            let mut ask = keyed(Ask::chat(route, &text), &format!("passing-{number}-{stream}"));
            ask.stream = stream;
            let failed = rig.ask(&ask).await;
            assert_eq!(failed.status, status, "{fault}: {}", failed.body);
            let again = rig.ask(&ask).await;
            assert_eq!(again.status, 200, "{fault}: {}", again.body);
            assert_eq!(again.header("idempotent-replayed"), "", "{fault}");
            assert!(!again.body.contains("Later, please."), "{fault}");
            settled(&rig).await;
            let third = rig.ask(&ask).await;
            assert_eq!(third.body, again.body, "{fault}");
            assert_eq!(third.header("idempotent-replayed"), "true", "{fault}");
        }
    }
    // Refused before any attempt: the same key serves for the corrected request.
    let wrong = keyed(Ask::chat("nobody/has-it", "hi"), "corrected");
    assert_eq!(rig.ask(&wrong).await.status, 404);
    let wrong = keyed(Ask::chat("tried", "hi"), "corrected").having("messages", json!(null));
    assert_eq!(rig.ask(&wrong).await.status, 400);
    assert_eq!(rig.ask(&keyed(Ask::chat("tried", "hi"), "corrected")).await.status, 200);
}

#[tokio::test]
async fn what_would_only_be_paid_for_again_is_kept() {
    let rig = Rig::instant("");
    // What the provider does, and what the caller gets for good.
    for (fault, status, body) in [
        // The request itself is wrong.
        ("status=400", 400, "invalid_request"),
        ("status=422", 422, "invalid_request"),
        // The beginning of an answer was sent, and will be on the bill.
        ("cut_after=5", 200, "upstream_disconnected"),
    ] {
        let ask = keyed(Ask::chat("chat/alpha", &format!("[[sim:{fault}]]")), fault);
        let first = rig.ask(&ask).await;
        assert_eq!(first.status, status, "{fault}: {}", first.body);
        assert!(first.body.contains(body), "{fault}: {}", first.body);
        settled(&rig).await;
        let before = calls(&rig);
        let again = rig.ask(&ask).await;
        assert_eq!((again.status, again.body.as_str()), (first.status, first.body.as_str()));
        assert_eq!(again.header("idempotent-replayed"), "true", "{fault}");
        assert_eq!(calls(&rig), before, "{fault}");
    }
}

#[tokio::test]
async fn what_is_too_long_is_shared_while_it_comes_and_not_repeated() {
    let rig = Rig::instant("[idempotency]\nmax_body = \"1KB\"\n");
    let long = "[[sim:ttft=50ms,gap=1ms,tokens=300]]";
    for stream in [true, false] {
        let mut ask = keyed(Ask::chat("chat/alpha", long), if stream { "long" } else { "whole" });
        ask.stream = stream;
        ask.members.push(("max_tokens", json!(5_000)));
        let before = calls(&rig);
        let answers = ask_at_once(&rig, std::iter::repeat_n(ask.clone(), 10)).await;
        for got in &answers {
            assert_eq!((got.status, &got.body), (answers[0].status, &answers[0].body));
        }
        assert!(answers[0].body.len() > 1_000, "{}", answers[0].body.len());
        settled(&rig).await;
        let got = rig.ask(&ask).await;
        assert_eq!(
            (got.status.as_u16(), code(&got).as_str()),
            (410, "idempotency_result_too_large")
        );
        assert_eq!(calls(&rig) - before, 1);
    }
    // Who comes when the beginning is gone is told so, too.
    let ask = keyed(Ask::chat("chat/alpha", "[[sim:gap=10ms,tokens=300]]"), "too-late");
    let ask = ask.having("max_tokens", json!(5_000));
    let mut first = rig.open(&ask).await;
    let mut heard = 0;
    while heard < 6_000 {
        heard += next(&mut first).await.unwrap().len();
    }
    let got = rig.ask(&ask).await;
    assert_eq!((got.status.as_u16(), code(&got).as_str()), (410, "idempotency_result_too_large"));
    drop(first);
    settled(&rig).await;
    assert_eq!(rig.gateway.executions().bytes(), 0, "memory is given back");
}

#[tokio::test]
async fn a_store_that_is_away_costs_only_those_who_need_it() {
    let rig = Rig::instant("");
    rig.break_store();
    let ask = busy(Dialect::OpenAiChat, "away");
    let got = rig.ask(&ask).await;
    assert_eq!((got.status.as_u16(), code(&got).as_str()), (503, "idempotency_unavailable"));
    assert_eq!(got.header("retry-after"), "1");
    assert_eq!(calls(&rig), 0);
    assert_eq!(rig.ask(&Ask::chat("chat/alpha", "hi")).await.status, 200);
    assert_eq!(calls(&rig), 1);
    rig.mend_store();
    assert_eq!(rig.ask(&ask).await.status, 200);
}

#[tokio::test]
async fn one_is_charged_and_the_others_are_told_apart() {
    let rig = Rig::instant("");
    let ask = busy(Dialect::OpenAiChat, "bill");
    ask_at_once(&rig, std::iter::repeat_n(ask.clone(), 4)).await;
    settled(&rig).await;
    rig.ask(&ask).await;
    rig.ask(&Ask { text: "other".to_owned(), ..ask }).await;
    let metrics = rig.gateway.render_metrics();
    for line in [
        "tidegate_requests_total{code=\"\",endpoint=\"chat\",outcome=\"complete\"} 1",
        "tidegate_requests_total{code=\"\",endpoint=\"chat\",outcome=\"coalesced\"} 3",
        "tidegate_requests_total{code=\"\",endpoint=\"chat\",outcome=\"replayed\"} 1",
        "tidegate_idempotent_requests_total{result=\"executed\"} 1",
        "tidegate_idempotent_requests_total{result=\"joined\"} 3",
        "tidegate_idempotent_requests_total{result=\"replayed\"} 1",
        "tidegate_idempotent_requests_total{result=\"mismatch\"} 1",
        "tidegate_request_seconds_count 2",
    ] {
        assert!(metrics.contains(&format!("{line}\n")), "{line} is not in\n{metrics}");
    }
    let mut journal = rig.journal_on_a_running_clock().await;
    journal.sort_by_key(|request| (request.reuse.clone(), request.status));
    let seen: Vec<_> = journal
        .iter()
        .map(|it| (it.reuse.as_deref(), it.status, it.attempts, it.usage.total() > 0))
        .collect();
    let coalesced = (Some("coalesced"), 200, 0, false);
    let wanted = [
        (None, 200, 1, true),
        (None, 422, 0, false),
        coalesced,
        coalesced,
        coalesced,
        (Some("replayed"), 200, 0, false),
    ];
    assert_eq!(seen, wanted);
}

#[tokio::test]
async fn a_row_is_held_while_its_execution_goes_on() {
    let rig = Rig::instant("");
    let open =
        rig.open(&keyed(Ask::chat("chat/alpha", "[[sim:gap=20ms,tokens=40]]"), "held")).await;
    rig.sql("UPDATE idempotency SET lease_until_ms = 0").await;
    rig.gateway.executions().renew().await;
    let held = "UPDATE idempotency SET done = 0 WHERE lease_until_ms > unixepoch() * 1000 + 25000";
    assert_eq!(rig.sql(held).await, 1);
    drop(open);
    settled(&rig).await;
    assert_eq!(rig.sql("UPDATE idempotency SET done = 1 WHERE done = 1").await, 1);
}

#[tokio::test]
async fn who_has_lost_a_row_does_not_write_it() {
    let rig = Rig::instant("");
    let ask = keyed(Ask::chat("chat/alpha", "[[sim:gap=20ms,tokens=20]]"), "lost");
    let open = rig.open(&ask).await;
    // Somebody else has taken it over.
    rig.sql("UPDATE idempotency SET token = token + 1, owner = 'another'").await;
    rig.gateway.executions().renew().await;
    let text = String::from_utf8(open.into_body().collect().await.unwrap().to_bytes().to_vec());
    assert!(text.unwrap().ends_with("data: [DONE]\n\n"), "its callers get what was paid for");
    settled(&rig).await;
    let untouched = "UPDATE idempotency SET done = 0 WHERE done = 0 AND owner = 'another'";
    assert_eq!(rig.sql(untouched).await, 1);
    let metrics = rig.gateway.render_metrics();
    let unwritten = "tidegate_idempotent_requests_total{result=\"unwritten\"} 1\n";
    assert!(metrics.contains(unwritten), "{metrics}");
}

#[tokio::test]
async fn a_caller_has_only_so_many_keys() {
    let rig = Rig::instant("[idempotency]\nmax_keys_per_caller = 100\n");
    let settings = rig.gateway.snapshot().settings.idempotency.clone();
    let there = busy(Dialect::OpenAiChat, "there");
    rig.ask(&there).await;
    settled(&rig).await;
    let filled = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 98) \
                  INSERT INTO idempotency SELECT randomblob(32), 'anonymous', randomblob(32), 1, \
                  'x', i, 1, 0, unixepoch() * 1000 + 60000, 'req', 200, '[]', NULL FROM n";
    rig.sql(filled).await;
    rig.gateway.executions().sweep(&settings).await;
    // One more is counted at once.
    let last = rig.ask(&busy(Dialect::OpenAiChat, "last")).await;
    assert_eq!(last.status, 200, "{}", last.body);
    let got = rig.ask(&busy(Dialect::OpenAiChat, "too-many")).await;
    assert_eq!((got.status.as_u16(), code(&got).as_str()), (429, "too_many_idempotency_keys"));
    assert_eq!(got.header("retry-after"), "60");
    // Those that are there serve on, and so do requests without one.
    assert_eq!(rig.ask(&there).await.header("idempotent-replayed"), "true");
    assert_eq!(rig.ask(&Ask::chat("chat/alpha", "hi")).await.status, 200);
    // Their time is over.
    let over = "UPDATE idempotency SET expires_at_ms = 1 WHERE owner = 'x'";
    assert_eq!(rig.sql(over).await, 98);
    rig.gateway.executions().sweep(&settings).await;
    assert_eq!(rig.sql("UPDATE idempotency SET done = done").await, 2);
    assert_eq!(rig.ask(&busy(Dialect::OpenAiChat, "too-many")).await.status, 200);
}
