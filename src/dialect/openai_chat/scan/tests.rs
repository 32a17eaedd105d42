//! What the scanner sees in frames that it does not decode.

use super::*;
use crate::chat::{FinishReason, Usage};
use crate::dialect::StreamFinish;

mod recordings;

#[test]
fn a_plain_stream_is_understood() {
    let mut scanner = ChatScanner::default();
    let mut scan = |data: &str| scanner.scan(format!("data: {data}\n\n").as_bytes()).unwrap();
    let chunk = |rest: &str| format!(r#"{{"id":"a","model":"m","choices":{rest}}}"#);
    let role = r#"[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]"#;
    assert_eq!(scan(&chunk(role)), FrameKind::Preamble);
    let text = r#"[{"index":0,"delta":{"content":"h\u00e9 \"error\":"},"finish_reason":null}]"#;
    assert_eq!(scan(&chunk(text)), FrameKind::Semantic);
    let end = r#"[{"index":0,"delta":{},"finish_reason":"stop"}]"#;
    assert_eq!(scan(&chunk(end)), FrameKind::Semantic);
    let usage = r#"[],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}"#;
    assert_eq!(scan(&chunk(usage)), FrameKind::UsageOnly);
    assert_eq!(scan("[DONE]"), FrameKind::Terminal);
    assert!(scanner.is_complete() && scanner.saw_terminal());
    let summary = scanner.summary();
    assert_eq!(summary.text.head(), "hé \"error\":");
    assert_eq!(summary.finish, Some(FinishReason::Stop));
    let usage = Usage { input: 3, output: 2, ..Usage::default() };
    assert_eq!(summary.usage, Some(usage));
}

#[test]
fn an_event_like_the_last_one_says_the_same_with_another_text() {
    let event = |text: &str, end: &str| {
        format!(
            r#"data: {{"id":"a","choices":[{{"index":0,"delta":{{"content":"{text}"}},"finish_reason":null}}]{end}}}"#
        ) + "\n\n"
    };
    let usage = r#","usage":{"prompt_tokens":3,"completion_tokens":2}"#;
    let mut scanner = ChatScanner::default();
    for (text, end, expected) in [
        ("one", "", Ok(FrameKind::Semantic)),
        (" two", "", Ok(FrameKind::Semantic)),
        ("", "", Ok(FrameKind::Preamble)),
        (r#" \"thr\u00e9e\""#, "", Ok(FrameKind::Semantic)),
        (" four", usage, Ok(FrameKind::Semantic)),
        (" five", usage, Ok(FrameKind::Semantic)),
        (
            r#" six"},"finish_reason":null},{"index":1,"delta":{"content":"!"#,
            "",
            Ok(FrameKind::Semantic),
        ),
        (" a\u{1}b", "", Err(FailureKind::MidStream)),
        (r" \x", "", Err(FailureKind::MidStream)),
    ] {
        let kind = scanner.scan(event(text, end).as_bytes()).map_err(|failure| failure.kind);
        assert_eq!(kind, expected, "{text}");
    }
    assert_eq!(scanner.summary().text.head(), "one two \"thrée\" four five six!");
    assert_eq!(scanner.summary().usage.map(|usage| usage.output), Some(2));
    let end = |index: u32| {
        format!("data: {{\"choices\":[{{\"index\":{index},\"finish_reason\":\"stop\"}}]}}\n\n")
    };
    scanner.scan(end(0).as_bytes()).unwrap();
    assert!(!scanner.is_complete(), "a second alternative came up within what looked like a text");
    scanner.scan(end(1).as_bytes()).unwrap();
    assert!(scanner.is_complete());
}

#[test]
fn an_empty_answer_is_none() {
    let kind = |body: &str| scan_reply(body.as_bytes()).map_err(|failure| failure.kind);
    let empty = Err(FailureKind::Degenerate);
    assert_eq!(kind(r#"{"choices":[]}"#), empty);
    assert_eq!(kind(r#"{"choices":[{"message":{"content":""},"finish_reason":"stop"}]}"#), empty);
    assert_eq!(kind(r#"{"data":[]}"#), empty);
    assert_eq!(kind("<html>"), empty);
    assert_eq!(kind(r#"{"choices":[{"message":{"content":"#), empty);
    for filled in [
        r#"{"choices":[{"text":"","finish_reason":"stop"}]}"#,
        r#"{"choices":[{"message":{"content":""},"finish_reason":"length"}]}"#,
        r#"{"choices":[{"message":{"content":null},"finish_reason":"content_filter"}]}"#,
        r#"{"choices":[{"message":{"content":"","reasoning":"r"},"finish_reason":"stop"}]}"#,
        r#"{"choices":[{"message":{"refusal":"no"},"finish_reason":"stop"}]}"#,
        r#"{"choices":[{"message":{"tool_calls":[{}]},"finish_reason":"stop"}]}"#,
        r#"{"data":[{"embedding":[0.1]}],"usage":{"prompt_tokens":3,"total_tokens":3}}"#,
    ] {
        assert!(kind(filled).is_ok(), "{filled}");
    }
}

#[test]
fn errors_of_all_manners_end_a_stream() {
    for (frame, kind) in [
        (
            "data: {\"error\":{\"code\":502,\"message\":\"m\"},\"choices\":[]}\n\n",
            FailureKind::ServerFault,
        ),
        ("event: error\ndata: {\"message\":\"m\"}\n\n", FailureKind::MidStream),
        ("error: {\"error\":{\"message\":\"m\"}}\n\n", FailureKind::MidStream),
        (
            "data: {\"object\":\"error\",\"message\":\"m\",\"code\":429}\n\n",
            FailureKind::RateLimited,
        ),
        ("data: {\"detail\":\"m\"}\n\n", FailureKind::MidStream),
        ("data: <html>\n\n", FailureKind::MidStream),
        ("data: {\"choices\":[{]}\n\n", FailureKind::MidStream),
        ("data: {\"choices\":[]} x\n\n", FailureKind::MidStream),
        ("data: {\n\n", FailureKind::MidStream),
    ] {
        let failure = ChatScanner::default().scan(frame.as_bytes()).unwrap_err();
        assert_eq!(failure.kind, kind, "{frame}");
        assert!(!failure.message.is_empty(), "{frame}");
    }
}

#[test]
fn what_is_not_the_answer_is_let_pass() {
    for frame in [
        ": OPENROUTER PROCESSING\n\n",
        "\n\n",
        "data:\n\n",
        "event: ping\ndata: {}\n\n",
        "id: 7\nretry: 10\n\n",
        "data: {\"choices\":[],\"prompt_filter_results\":[]}\n\n",
        "data: {\"choices\":[{\"index\":0,\"finish_reason\":\"\"}]}\n\n",
    ] {
        let mut scanner = ChatScanner::default();
        assert_eq!(scanner.scan(frame.as_bytes()), Ok(FrameKind::Preamble), "{frame}");
        assert!(!scanner.is_complete());
    }
}

#[test]
fn a_stream_is_complete_when_every_alternative_has_ended() {
    let mut scanner = ChatScanner::default();
    let mut end = |index: u64, reason: &str| {
        let frame = format!(
            "data: {{\"choices\":[{{\"index\":{index},\"delta\":{{\"content\":\"a\"}},\"finish_reason\":{reason}}}]}}\n\n"
        );
        scanner.scan(frame.as_bytes()).unwrap();
        scanner.is_complete()
    };
    assert!(!end(0, "null"));
    assert!(!end(1, "null"));
    assert!(!end(1, "\"stop\""));
    assert!(end(0, "\"stop\""));
    assert!(!end(u64::MAX, "null"));
}

#[test]
fn a_stream_that_lacks_an_alternative_has_not_ended() {
    let chunk = |index: u32| {
        format!(
            "data: {{\"choices\":[{{\"index\":{index},\"delta\":{{\"content\":\"x\"}},\
             \"finish_reason\":\"stop\"}}]}}\n\n"
        )
    };
    let mut scanner = ChatScanner::default();
    scanner.expect(Expected { choices: 2, finish: StreamFinish::Required });
    scanner.scan(chunk(0).as_bytes()).unwrap();
    assert!(!scanner.is_complete(), "the second alternative never came");
    scanner.scan(chunk(1).as_bytes()).unwrap();
    assert!(scanner.is_complete());
}
