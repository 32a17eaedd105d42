//! Faults, as the codecs of the gateway see them.

use super::*;
use crate::failure::{Failure, FailureKind};

fn ask_for(dialect: Dialect, wish: &str, stream: bool) -> Script {
    let mut engine = Engine::new(Scenario::instant());
    let text = format!("[[sim:tokens=8,{wish}]]");
    let (path, body) = ask(dialect, &text, json!({"stream": stream}));
    post(&mut engine, &path, &body)
}

fn failure(dialect: Dialect, wish: &str) -> Failure {
    let script = ask_for(dialect, wish, true);
    let (status, headers, _) = head(&script);
    dialect.codec().decode_failure(status, headers, &script.bytes())
}

#[test]
fn statuses_come_with_the_dialects_own_body() {
    use FailureKind::{AuthFault, CallerFault, NotServed, Overloaded, RateLimited, ServerFault};
    let table = [
        (400, CallerFault),
        (401, AuthFault),
        (404, NotServed),
        (429, RateLimited),
        (500, ServerFault),
        (529, Overloaded),
    ];
    for dialect in Dialect::ALL {
        for (status, kind) in table {
            let failure = failure(dialect, &format!("status={status}"));
            assert_eq!(failure.kind, kind, "{dialect} {status}");
            assert_eq!(failure.retry_after, None);
            assert!(!failure.message.is_empty(), "{dialect} {status}");
        }
        let failure = failure(dialect, "status=503,retry_after=2s");
        assert_eq!(failure.kind, Overloaded, "{dialect}");
        assert_eq!(failure.retry_after, Some(Duration::from_secs(2)));
    }
}

#[test]
fn retry_after_may_lie_or_be_no_number() {
    let value = |wish: &str| {
        let script = ask_for(Dialect::OpenAiChat, wish, false);
        head(&script).1.get("retry-after").and_then(|v| v.to_str().ok()).map(str::to_owned)
    };
    assert_eq!(value("status=429,retry_after=1500ms").as_deref(), Some("2"));
    assert_eq!(value("status=429,retry_after=soon").as_deref(), Some("soon"));
    assert_eq!(value("status=429"), None);
}

#[test]
fn a_cut_stream_keeps_its_tokens_and_fails() {
    for dialect in Dialect::ALL {
        for wish in ["cut_after=3", "cut_in_frame=3", "no_terminal"] {
            let script = ask_for(dialect, wish, true);
            assert!(script.runs_to_end(), "{wish}");
            let failure = deltas(dialect, &script).expect_err("a cut is noticed");
            assert_eq!(failure.kind, FailureKind::MidStream, "{dialect} {wish}");
            let text = String::from_utf8_lossy(&script.bytes()).into_owned();
            assert!(!text.contains("[DONE]") && !text.contains("message_stop"), "{text}");
        }
    }
}

#[test]
fn an_error_event_ends_the_stream() {
    for dialect in Dialect::ALL {
        let failure = deltas(dialect, &ask_for(dialect, "error_event=3", true));
        let failure = failure.expect_err("the error is noticed");
        assert!(!failure.message.is_empty(), "{dialect}: {failure:?}");
    }
}

#[test]
fn a_malformed_frame_is_found() {
    for dialect in Dialect::ALL {
        let failure = deltas(dialect, &ask_for(dialect, "malformed_frame=3", true));
        assert!(failure.is_err(), "{dialect}");
    }
}

#[test]
fn a_missing_last_marker_loses_nothing() {
    for dialect in Dialect::ALL {
        let script = ask_for(dialect, "no_done_marker", true);
        let text = String::from_utf8_lossy(&script.bytes()).into_owned();
        assert!(!text.contains("[DONE]") && !text.contains("message_stop"), "{text}");
        let deltas = deltas(dialect, &script).expect("the finish reason tells the end");
        assert_eq!(content::words(&text_of(&deltas)).len(), 8, "{dialect}");
    }
}

#[test]
fn characters_are_split_over_chunks() {
    for dialect in Dialect::ALL {
        for wish in ["split_utf8", "split_utf8,say=plain"] {
            let script = ask_for(dialect, wish, true);
            let split = script.steps.iter().any(|step| {
                matches!(&step.action, Action::Chunk(bytes) if std::str::from_utf8(bytes).is_err())
            });
            assert!(split, "{dialect} {wish}");
            deltas(dialect, &script).expect("whole again when put together");
        }
    }
}

#[test]
fn an_empty_completion_is_complete_and_empty() {
    for dialect in Dialect::ALL {
        let deltas = deltas(dialect, &ask_for(dialect, "empty_completion", true));
        assert_eq!(text_of(&deltas.expect("complete")), "", "{dialect}");
    }
}

#[test]
fn the_other_faults_do_what_they_are_called() {
    let openai = |wish: &str| ask_for(Dialect::OpenAiChat, wish, true);
    assert_eq!(openai("connect_refused").opening, Opening::Refuse);
    assert_eq!(openai("stall_before_head").opening, Opening::Stall);
    let stalled = openai("stall_after_head");
    assert_eq!(head(&stalled).0, StatusCode::OK);
    assert_eq!(stalled.steps.last().map(|step| &step.action), Some(&Action::Stall));
    assert!(!String::from_utf8_lossy(&stalled.bytes()).contains("\"content\":\"H"));
    let reset = openai("reset_after=2");
    assert_eq!(reset.steps.last().map(|step| &step.action), Some(&Action::Reset));
    let page = openai("html_502");
    assert_eq!(head(&page).0, StatusCode::BAD_GATEWAY);
    assert_eq!(head(&page).1["content-type"], "text/html; charset=utf-8");
    let odd = openai("wrong_content_type");
    assert_eq!(head(&odd).1["content-type"], "text/html; charset=utf-8");
    assert!(odd.bytes().ends_with(b"[DONE]\n\n"));
}

#[test]
fn a_whole_answer_is_cut_in_half() {
    for wish in ["cut_after=3", "reset_after=3", "stall_after=3"] {
        let script = ask_for(Dialect::OpenAiChat, wish, false);
        assert!(serde_json::from_slice::<Value>(&script.bytes()).is_err(), "{wish}");
        assert!(!script.bytes().is_empty());
    }
}

#[test]
fn a_wish_may_be_for_one_model_or_the_first_requests_only() {
    let mut engine = Engine::new(Scenario::instant());
    let mut status = |text: &str| {
        let (path, body) = ask(Dialect::OpenAiChat, text, json!({}));
        head(&post(&mut engine, &path, &body)).0.as_u16()
    };
    assert_eq!(status("[[sim:on=another,status=503]]"), 200);
    assert_eq!(status("[[sim:on=tide-small,status=503]]"), 503);
    let twice = "[[sim:first=2,status=503]]";
    assert_eq!([status(twice), status(twice), status(twice)], [503, 503, 200]);
}

#[test]
fn the_header_asks_for_faults_too() {
    let mut engine = Engine::new(Scenario::instant());
    let (path, body) = ask(Dialect::OpenAiChat, "Hello", json!({}));
    let mut headers = HeaderMap::new();
    headers.insert("x-sim-fault", HeaderValue::from_static("status=500"));
    let (bytes, now) = (body.to_string(), Moment::default());
    let script = send(&mut engine, &Method::POST, &path, &headers, bytes.as_bytes(), now);
    assert_eq!(head(&script).0, StatusCode::INTERNAL_SERVER_ERROR);
}

#[test]
fn a_wrong_wish_is_told() {
    let script = ask_for(Dialect::OpenAiChat, "cut_afer=3", false);
    assert_eq!(head(&script).0, StatusCode::BAD_REQUEST);
    for (text, part) in [
        ("cut_afer=3", "did you mean `cut_after`?"),
        ("status=200", "from 400 to 999"),
        ("cut_after=x", "wants a count"),
        ("retry_after=2s", "goes after a `status`"),
        ("no_terminal,split_utf8", "second fault"),
        ("", "no fault named"),
    ] {
        let problem = Fault::parse(text).expect_err(text);
        assert!(problem.contains(part), "{text}: {problem}");
    }
}

#[test]
fn faults_of_a_scenario_hit_their_share_and_their_requests() {
    let rule = |share, on_requests: &[u64], fault| FaultRule {
        share,
        on_requests: on_requests.to_vec(),
        fault: Fault::parse(fault).expect("a fault"),
    };
    let count = |rules: Vec<FaultRule>| {
        let mut scenario = Scenario::instant();
        scenario.models[0].1.faults = rules;
        let mut engine = Engine::new(scenario);
        let (path, body) = ask(Dialect::OpenAiChat, "Hello", json!({}));
        let statuses = (0..2_000).map(|_| head(&post(&mut engine, &path, &body)).0.as_u16());
        statuses.collect::<Vec<u16>>()
    };
    let statuses = count(vec![rule(0.0, &[3, 5], "status=503"), rule(0.1, &[], "status=500")]);
    assert_eq!((statuses[2], statuses[4]), (503, 503));
    let share = statuses.iter().filter(|status| **status == 500).count();
    assert!((150..=250).contains(&share), "{share}");
}
