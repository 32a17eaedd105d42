use super::*;

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
