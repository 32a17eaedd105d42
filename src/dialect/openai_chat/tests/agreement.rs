//! Looking at an answer and decoding it give the same usage and the same ending.

use super::recorded::recordings;
use super::*;
use crate::dialect::{Expected, StreamFinish, StreamSummary};

/// What a decoder makes of a stream's usage and of how its first alternative ended.
fn ending(stream: &str) -> Result<(Option<Usage>, Option<FinishReason>), Failure> {
    let deltas = decode_stream(stream.as_bytes())?;
    let mut usage = None;
    let mut finishes = Vec::new();
    for delta in deltas {
        if let Delta::Usage { usage: counted } = delta {
            usage = Some(counted);
        } else if let Delta::Finish { choice, reason } = delta {
            finishes.push((choice, reason));
        }
    }
    let first = finishes.into_iter().min_by_key(|(choice, _)| *choice);
    Ok((usage, first.map(|(_, reason)| reason)))
}

fn scanned(stream: &str) -> Result<StreamSummary, Failure> {
    let mut scanner = codec().scanner();
    for frame in sse::frames(stream.as_bytes()) {
        scanner.scan(frame)?;
    }
    Ok(scanner.summary().clone())
}

#[test]
fn scanner_and_decoder_agree_on_usage_and_ending_of_every_recorded_stream() {
    let mut seen = 0;
    for recording in recordings() {
        let (id, Some(stream)) = (&recording.id, &recording.stream) else { continue };
        match (scanned(stream), ending(stream)) {
            (Ok(summary), Ok(decoded)) => {
                assert_eq!((summary.usage, summary.finish), decoded, "{id}");
                seen += 1;
            }
            (Err(_), Err(_)) => {}
            (scanned, decoded) => panic!("{id}: {scanned:?}, but {decoded:?}"),
        }
    }
    assert!(seen == 0 || seen > 90, "{seen}");
}

#[test]
fn scanner_and_decoder_agree_on_usage_and_ending_of_every_recorded_answer() {
    let mut seen = 0;
    for recording in recordings().iter().filter(|one| one.status == 200 && one.stream.is_none()) {
        let id = &recording.id;
        let body = recording.whole.to_string();
        let decoded = codec().decode_reply(body.as_bytes());
        // The scanner refuses an answer with nothing in it by itself; behind the decoder the
        // engine does.
        if id == "openrouter-chat-json-text-8ec569c6" {
            assert!(decoded.is_ok() && codec().scan_reply(body.as_bytes()).is_err());
            continue;
        }
        match (codec().scan_reply(body.as_bytes()), decoded) {
            (Ok(summary), Ok(completion)) => {
                assert_eq!(summary.usage, completion.usage, "{id}");
                assert_eq!(summary.finish, completion.choices[0].finish, "{id}");
                seen += 1;
            }
            (Err(_), Err(_)) => {}
            (scanned, decoded) => panic!("{id}: {scanned:?}, but {decoded:?}"),
        }
    }
    assert!(seen == 0 || seen > 30, "{seen}");
}

#[test]
fn scanner_and_decoder_agree_where_no_recording_goes() {
    let call = r#""tool_calls":[{"index":0,"id":"c","function":{"name":"f","arguments":"{}"}}]"#;
    let counts = r#"{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}"#;
    let tool = Some(FinishReason::ToolCalls);
    let usage = Some(Usage { input: 3, output: 2, ..Usage::default() });
    let stop = r#""finish_reason":"stop""#;
    for (chunks, expected) in [
        // A call before "stop", after it, and without a word.
        (
            vec![format!(r#"[{{"delta":{{{call}}}}}]"#), format!("[{{{stop}}}]")],
            (None, tool.clone()),
        ),
        (
            vec![format!("[{{{stop}}}]"), format!(r#"[{{"delta":{{{call}}}}}]"#)],
            (None, tool.clone()),
        ),
        (vec![format!(r#"[{{"delta":{{{call}}}}}]"#)], (None, tool)),
        (vec![r#"[{"delta":{"content":"a"}}]"#.into()], (None, Some(FinishReason::Stop))),
        // A call with nothing in it is none.
        (
            vec![format!(
                r#"[{{"delta":{{"function_call":{{"name":"","arguments":""}}}},{stop}}}]"#
            )],
            (None, Some(FinishReason::Stop)),
        ),
        // Another alternative ends first, calls tools, and has no index.
        (
            vec![format!(
                r#"[{{"index":1,"delta":{{{call}}},{stop}}},{{"index":0,"finish_reason":"length"}}]"#
            )],
            (None, Some(FinishReason::Length)),
        ),
        (
            vec![format!(r#"[{{"finish_reason":"max_tokens"}},{{"delta":{{{call}}},{stop}}}]"#)],
            (None, Some(FinishReason::Length)),
        ),
        // Words of few, and usage in places of few.
        (vec![r#"[{"finish_reason":"STOP_TOKEN"}]"#.into()], (None, Some(FinishReason::Stop))),
        (
            vec![format!(r#"[{{{stop}}}],"x_groq":{{"id":"a","usage":{counts}}}"#)],
            (usage, Some(FinishReason::Stop)),
        ),
        (vec![format!(r#"[{{{stop},"usage":{counts}}}]"#)], (usage, Some(FinishReason::Stop))),
        // Nothing was counted, whatever the counters say.
        (
            vec![format!(r#"[{{{stop}}}],"usage":{{"prompt_tokens":0,"completion_tokens":0}}"#)],
            (None, Some(FinishReason::Stop)),
        ),
        // Counters that overlap come piece by piece.
        (
            vec![
                r#"[],"usage":{"prompt_tokens":3,"total_tokens":3}"#.into(),
                format!(r#"[{{{stop}}}],"usage":{{"completion_tokens":2,"total_tokens":5}}"#),
            ],
            (usage, Some(FinishReason::Stop)),
        ),
    ] {
        let mut stream = String::new();
        for choices in &chunks {
            stream.push_str(&format!("data: {{\"id\":\"x\",\"choices\":{choices}}}\n\n"));
        }
        stream.push_str("data: [DONE]\n\n");
        assert_eq!(ending(&stream).unwrap(), expected, "{stream}");
        let summary = scanned(&stream).unwrap();
        assert_eq!((summary.usage, summary.finish), expected, "{stream}");
    }
}

/// How scanner and decoder end with a stream of which this much is known.
fn endings(stream: &str, expected: Option<Expected>) -> [Result<bool, String>; 2] {
    let (mut scanner, mut decoder) = (codec().scanner(), codec().stream_decoder());
    if let Some(expected) = expected {
        scanner.expect(expected);
        decoder.expect(expected);
    }
    let mut out = Vec::new();
    let mut scanned = Ok(());
    let mut decoded = Ok(());
    for frame in sse::frames(stream.as_bytes()) {
        scanned = scanned.and_then(|()| scanner.scan(frame).map(|_| ()));
        decoded = decoded.and_then(|()| decoder.push(&sse::parse(frame), &mut out));
    }
    let message = |failure: Failure| failure.message;
    let decoded = decoded.map_err(message);
    [
        scanned.map(|()| scanner.is_complete()).map_err(message),
        decoded.map(|()| decoder.finish(&mut out).is_ok()),
    ]
}

const STRICT: Expected = Expected { choices: 1, finish: StreamFinish::Required };

#[test]
fn done_without_a_reason_is_a_cut_stream_where_reasons_are_given() {
    let text = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"},\"finish_reason\":null}]}\n\n";
    let bare = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\n";
    let stop = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
    let usage =
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":1}}\n\n";
    let done = "data: [DONE]\n\n";
    let lenient = Expected { finish: StreamFinish::MayBeMissing, ..STRICT };
    let cut = || Err("the stream ended with [DONE] but without a finish reason".to_owned());
    for (stream, strictly) in [
        (format!("{text}{stop}{done}"), Ok(true)),
        (format!("{text}{stop}{usage}{done}"), Ok(true)),
        (format!("{text}{done}"), cut()),
        (format!("{text}{usage}{done}"), cut()),
        (format!("{bare}{done}"), cut()),
        // This is how those end who do not know the field.
        (format!("{bare}{usage}{done}"), Ok(true)),
    ] {
        assert_eq!(endings(&stream, Some(STRICT)), [strictly.clone(), strictly], "{stream}");
        assert_eq!(endings(&stream, Some(lenient)), [Ok(true), Ok(true)], "{stream}");
        assert_eq!(endings(&stream, None), [Ok(true), Ok(true)], "{stream}");
    }
}

#[test]
fn an_alternative_that_never_came_is_missed_on_both_ways() {
    let end = |index: u32| {
        format!(
            "data: {{\"choices\":[{{\"index\":{index},\"delta\":{{\"content\":\"x\"}},\
             \"finish_reason\":\"stop\"}}]}}\n\n"
        )
    };
    let two = Some(Expected { choices: 2, ..STRICT });
    assert_eq!(endings(&end(0), Some(STRICT)), [Ok(true), Ok(true)]);
    assert_eq!(endings(&end(0), two), [Ok(false), Ok(false)]);
    assert_eq!(endings(&[end(0), end(1)].concat(), two), [Ok(true), Ok(true)]);
    // A provider that gives fewer and says that this is all is believed.
    assert_eq!(endings(&[&end(0), "data: [DONE]\n\n"].concat(), two), [Ok(true), Ok(true)]);
}

#[test]
fn recorded_streams_are_as_whole_to_those_who_expect_a_reason() {
    for recording in recordings() {
        let Some(stream) = &recording.stream else { continue };
        assert_eq!(endings(stream, Some(STRICT)), endings(stream, None), "{}", recording.id);
    }
}

/// Deltas of a stream, with every event read as a value where `by_value` says so: a field that
/// nobody knows makes no event plain.
fn deltas(stream: &str, by_value: bool) -> Result<Vec<Delta>, Failure> {
    let stream = match by_value {
        true => stream.replace("data: {", "data: {\"unheard_of\":1,"),
        false => stream.to_owned(),
    };
    decode_stream(stream.as_bytes())
}

#[test]
fn events_read_without_a_value_say_what_they_say_as_one() {
    let mut seen = 0;
    for recording in recordings() {
        let (id, Some(stream)) = (&recording.id, &recording.stream) else { continue };
        assert_eq!(deltas(stream, false), deltas(stream, true), "{id}");
        seen += 1;
    }
    assert!(seen == 0 || seen > 90, "{seen}");
    let chunk =
        |rest: &str| format!("data: {{\"id\":\"x\",\"model\":\"m\",\"created\":5,{rest}}}\n\n");
    let made = [
        r#""choices":[{"index":0,"delta":{"content":"a"},"finish_reason":null}]"#,
        r#""choices":[{"delta":{"role":"assistant","content":"b"}},{"delta":{"content":"c"}}]"#,
        r#""choices":[{"index":0,"delta":{"content":"d"},"finish_reason":"stop"}],"usage":null"#,
        r#""choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}"#,
        r#""choices":[{"index":0,"delta":{},"finish_reason":"error"}]"#,
        r#""choices":[{"index":0,"delta":{"content":"\u00e9\n"},"logprobs":null}]"#,
    ];
    for first in made {
        for second in made {
            let stream = [&chunk(first), &chunk(second), "data: [DONE]\n\n"].concat();
            assert_eq!(deltas(&stream, false), deltas(&stream, true), "{stream}");
        }
    }
}

#[test]
fn whatever_lines_a_frame_has_its_text_is_the_same_in_both_ways() {
    let chunk = |text: &str| {
        format!(
            "{{\"id\":\"x\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}}}}]}}"
        )
    };
    let frames = [
        format!("data: {}\n\n", chunk("a")),
        format!("data: {}\n\n", chunk("\u{e9}\\n\\\"")),
        format!("data: {}\r\n\r\n", chunk("b")),
        format!("data: {}\r\r", chunk("c")),
        format!("\u{feff}data: {}\n\n", chunk("d")),
        format!("data:{}\n\n", chunk("e")),
        format!(": x\ndata: {}\n\n", chunk("f")),
        format!("data: {}\nid: 5\n\n", chunk("g")),
        format!("data: {}\n\n", chunk("h").replace(",\"choices", "\ndata: ,\"choices")),
        format!("data: {}\n\n", chunk("")),
        format!("data: {}\nevent: error\n\n", chunk("i")),
    ];
    // `decode_stream` compares.
    for first in &frames {
        for second in &frames {
            let _ = decode_stream(
                [&frames[0], first, second, &frames[0]].map(String::as_str).concat().as_bytes(),
            );
        }
    }
    let whole = [&frames[0], &frames[1], &frames[2]].map(String::as_str).concat()
        + FINISH
        + "data: [DONE]\n\n";
    let text: String =
        decode_stream(whole.as_bytes())
            .expect("an answer")
            .iter()
            .filter_map(|delta| {
                if let Delta::Text { text, .. } = delta { Some(text.as_str()) } else { None }
            })
            .collect();
    assert_eq!(text, "a\u{e9}\n\"b");
}

const FINISH: &str =
    "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
