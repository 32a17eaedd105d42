//! Streams, both ways, and the scanner.

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::chat::{Opaque, OpaqueKind};
use crate::dialect::{FrameKind, StreamSummary};
use crate::failure::FailureKind;

const START: &str = r#"{"type":"message_start","message":{"id":"msg_1","model":"m","usage":{"input_tokens":7,"output_tokens":1}}}"#;
const STOP: &str = r#"{"type":"message_stop"}"#;

fn end(reason: &str) -> String {
    format!(
        r#"{{"type":"message_delta","delta":{{"stop_reason":"{reason}"}},"usage":{{"output_tokens":5}}}}"#
    )
}

/// A stream of events without names, as some gateways send them.
fn stream(events: &[&str]) -> Vec<u8> {
    let mut out = Vec::new();
    for event in events {
        sse::write(&mut out, "", event.as_bytes());
    }
    out
}

fn block(index: u64, block: Value) -> String {
    json!({"type": "content_block_start", "index": index, "content_block": block}).to_string()
}

fn piece(index: u64, delta: Value) -> String {
    json!({"type": "content_block_delta", "index": index, "delta": delta}).to_string()
}

fn close(index: u64) -> String {
    json!({"type": "content_block_stop", "index": index}).to_string()
}

fn scan(bytes: &[u8]) -> (Vec<FrameKind>, StreamSummary, bool, bool) {
    let mut scanner = Anthropic.scanner();
    let kinds = frames(bytes).into_iter().map(|frame| scanner.scan(frame).unwrap()).collect();
    let summary = scanner.summary().clone();
    (kinds, summary, scanner.is_complete(), scanner.saw_terminal())
}

fn events(bytes: &[u8]) -> Vec<Value> {
    let read = |frame| {
        let event = sse::parse(frame);
        let value: Value = serde_json::from_str(&event.data).unwrap();
        assert_eq!(value["type"], event.name);
        value
    };
    frames(bytes).into_iter().map(read).collect()
}

fn start() -> Delta {
    Delta::Start { id: "msg_1".into(), model: "m".into(), created: 0, usage: Usage::default() }
}

fn text(text: &str) -> Delta {
    Delta::Text { choice: 0, text: text.into() }
}

fn call(call: u32) -> Delta {
    let (id, name) = (format!("call_{call}"), format!("f{call}"));
    Delta::ToolCall { choice: 0, call, id, name, opaque: None }
}

fn arguments(call: u32, json: &str) -> Delta {
    Delta::ToolArguments { choice: 0, call, json: json.into() }
}

fn finish(reason: FinishReason) -> Delta {
    Delta::Finish { choice: 0, reason }
}

#[test]
fn a_stream_is_understood_step_by_step() {
    let bytes = stream(&[
        START,
        r#"{"type": "ping"}"#,
        &block(0, json!({"type": "text", "text": ""})),
        &piece(0, json!({"type": "text_delta", "text": "Hé"})),
        &close(0),
        &block(1, json!({"type": "tool_use", "id": "t1", "name": "f", "input": {}})),
        &piece(1, json!({"type": "input_json_delta", "partial_json": ""})),
        &piece(1, json!({"type": "input_json_delta", "partial_json": "{\"a\":1}"})),
        &close(1),
        r#"{"type":"a_new_kind_of_event","x":1}"#,
        &end("tool_use"),
        STOP,
    ]);
    let usage = Usage { input: 7, output: 1, ..Usage::default() };
    assert_eq!(
        decode_stream(&bytes).unwrap(),
        [
            Delta::Start { id: "msg_1".into(), model: "m".into(), created: 0, usage },
            text("Hé"),
            Delta::ToolCall { choice: 0, call: 0, id: "t1".into(), name: "f".into(), opaque: None },
            arguments(0, "{\"a\":1}"),
            finish(FinishReason::ToolCalls),
            Delta::Usage { usage: Usage { output: 5, ..usage } },
            Delta::End,
        ]
    );
    let (kinds, summary, is_complete, saw_terminal) = scan(&bytes);
    use FrameKind::{Preamble as P, Semantic as S, Terminal as T};
    assert_eq!(kinds, [P, P, P, S, P, S, P, S, P, P, S, T]);
    assert_eq!(summary.text.head(), "Hé{\"a\":1}");
    assert!(summary.has_tool_calls && is_complete && saw_terminal);
}

#[test]
fn a_block_only_this_dialect_knows_comes_whole() {
    let bytes = stream(&[
        START,
        &block(0, json!({"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}})),
        &piece(0, json!({"type": "input_json_delta", "partial_json": "{\"q\":"})),
        &piece(0, json!({"type": "input_json_delta", "partial_json": "\"x\"}"})),
        &close(0),
        &block(1, json!({"type": "compaction", "content": null})),
        &piece(1, json!({"type": "compaction_delta", "content": "so "})),
        &piece(1, json!({"type": "compaction_delta", "content": "far"})),
        &close(1),
        &end("end_turn"),
        STOP,
    ]);
    let whole = whole(&decode_stream(&bytes).unwrap());
    let other = |value| Part::Other { dialect: "anthropic".into(), value };
    let search =
        json!({"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"q": "x"}});
    assert_eq!(
        whole.choices[0].parts,
        [other(search), other(json!({"type": "compaction", "content": "so far"}))]
    );
    let (kinds, summary, ..) = scan(&bytes);
    assert_eq!(kinds.iter().position(|kind| *kind == FrameKind::Semantic), Some(4));
    assert!(summary.text.is_empty() && !summary.has_tool_calls);
}

#[test]
fn an_end_without_a_stop_reason_is_a_cut() {
    let cut = stream(&[START, &piece(0, json!({"type": "text_delta", "text": "Hi"}))]);
    assert_eq!(decode_stream(&cut).unwrap_err().kind, FailureKind::MidStream);
    assert!(!scan(&cut).2);
    assert_eq!(decode_stream(b"").unwrap_err().kind, FailureKind::MidStream);

    let mut implied = cut;
    implied.extend(stream(&[&end("end_turn")]));
    assert_eq!(decode_stream(&implied).unwrap().last(), Some(&Delta::End));
    let (_, _, is_complete, saw_terminal) = scan(&implied);
    assert!(is_complete && !saw_terminal);
    implied.extend_from_slice(Anthropic.missing_terminal());
    assert!(scan(&implied).3);
}

#[test]
fn what_follows_the_end_is_ignored() {
    let bytes =
        stream(&[START, &end("end_turn"), STOP, "[DONE]", "{broken", r#"{"type":"error"}"#]);
    let deltas = decode_stream(&bytes).unwrap();
    assert_eq!(deltas.iter().filter(|delta| **delta == Delta::End).count(), 1);
    assert!(scan(&bytes).3);
}

#[test]
fn an_error_event_is_an_overload_before_the_first_token_and_a_break_after_it() {
    let error = r#"{"type":"error","error":{"details":null,"type":"overloaded_error","message":"Overloaded"} }"#;
    let text = piece(0, json!({"type": "text_delta", "text": "Hi"}));
    for (events, kind) in [
        (vec![error], FailureKind::Overloaded),
        (vec![START, error], FailureKind::Overloaded),
        (vec![START, &text, error], FailureKind::MidStream),
        (vec![START, "{not json}"], FailureKind::MidStream),
    ] {
        let bytes = stream(&events);
        let failure = decode_stream(&bytes).unwrap_err();
        assert_eq!(failure.kind, kind, "{events:?}");
        let mut scanner = Anthropic.scanner();
        let scanned = frames(&bytes).into_iter().find_map(|frame| scanner.scan(frame).err());
        assert_eq!(scanned, Some(failure));
    }
    let named = b"event: error\ndata: {\"error\":{\"type\":\"api_error\",\"message\":\"m\"}}\n\n";
    assert_eq!(decode_stream(named).unwrap_err().kind, FailureKind::ServerFault);
}

#[test]
fn input_that_came_with_the_opening_counts_where_no_piece_follows() {
    let opening = block(0, json!({"type": "tool_use", "id": "", "name": "f", "input": {"a": 1}}));
    let bytes = stream(&[START, &opening, &close(0), &end("tool_use"), STOP]);
    let completion = whole(&decode_stream(&bytes).unwrap());
    let expected = ("toolu_1_0".to_owned(), "f".to_owned(), json!({"a": 1}));
    assert_eq!(calls(&completion.choices[0].parts), [expected]);
}

#[test]
fn blocks_that_never_close_are_bounded() {
    let opening = block(0, json!({"type": "text", "text": ""}));
    let bytes = stream(&vec![opening.as_str(); 300]);
    assert_eq!(decode_stream(&bytes).unwrap_err().kind, FailureKind::MidStream);
}

#[test]
fn another_dialects_stream_is_written_in_blocks() {
    let usage = Usage { input: 3, cached_input: 2, cache_write: 0, output: 9, reasoning: 0 };
    let bytes = encode_stream(&[
        Delta::Reasoning { choice: 0, text: "hm".into() },
        text("Hel"),
        text("lo"),
        call(0),
        arguments(0, "{\"a\":"),
        call(1),
        arguments(1, "{\"b\":2}"),
        arguments(0, "1}"),
        Delta::Text { choice: 1, text: "unsayable".into() },
        finish(FinishReason::Stop),
        Delta::Usage { usage },
        Delta::End,
    ]);
    let said: Vec<_> = events(&bytes)
        .into_iter()
        .map(|mut event| {
            let kind = event["type"].take();
            let detail = [&event["content_block"], &event["delta"]]
                .into_iter()
                .find(|value| !value.is_null())
                .map(|value| value.to_string().replace('"', "'"));
            let index = event["index"].as_u64().map_or("-".into(), |index| index.to_string());
            format!("{} {index} {}", kind.as_str().unwrap(), detail.unwrap_or_default())
        })
        .collect();
    assert_eq!(
        said,
        [
            "message_start - ",
            "content_block_start 0 {'type':'thinking','thinking':'','signature':''}",
            "content_block_delta 0 {'type':'thinking_delta','thinking':'hm'}",
            "content_block_stop 0 ",
            "content_block_start 1 {'type':'text','text':''}",
            "content_block_delta 1 {'type':'text_delta','text':'Hel'}",
            "content_block_delta 1 {'type':'text_delta','text':'lo'}",
            "content_block_stop 1 ",
            "content_block_start 2 {'type':'tool_use','id':'call_0','name':'f0','input':{}}",
            "content_block_delta 2 {'type':'input_json_delta','partial_json':''}",
            "content_block_delta 2 {'type':'input_json_delta','partial_json':'{\\'a\\':'}",
            "content_block_delta 2 {'type':'input_json_delta','partial_json':'1}'}",
            "content_block_stop 2 ",
            "content_block_start 3 {'type':'tool_use','id':'call_1','name':'f1','input':{}}",
            "content_block_delta 3 {'type':'input_json_delta','partial_json':''}",
            "content_block_delta 3 {'type':'input_json_delta','partial_json':'{\\'b\\':2}'}",
            "content_block_stop 3 ",
            "message_delta - {'stop_reason':'tool_use','stop_sequence':null}",
            "message_stop - ",
        ]
    );
    let all = events(&bytes);
    assert_eq!(all[0]["message"]["id"], "msg_req-01");
    assert_eq!(all[0]["message"]["model"], "route");
    assert_eq!(all[all.len() - 2]["usage"]["input_tokens"], 3);
    assert_eq!(all[all.len() - 2]["usage"]["cache_read_input_tokens"], 2);
}

#[test]
fn calls_announced_together_keep_their_own_arguments() {
    let bytes = encode_stream(&[
        start(),
        call(0),
        call(1),
        call(2),
        arguments(2, "{\"c\":3}"),
        arguments(0, "null"),
        arguments(1, " "),
        arguments(1, "{\"b\":\"}\"}"),
        finish(FinishReason::ToolCalls),
        Delta::End,
    ]);
    let completion = whole(&decode_stream(&bytes).unwrap());
    let inputs: Vec<_> = calls(&completion.choices[0].parts)
        .into_iter()
        .map(|(_, name, input)| (name, input))
        .collect();
    assert_eq!(
        inputs,
        [
            ("f0".to_owned(), json!({})),
            ("f1".to_owned(), json!({"b": "}"})),
            ("f2".to_owned(), json!({"c": 3})),
        ]
    );
}

#[test]
fn the_answer_is_announced_once_and_with_its_first_piece() {
    for first in [text("a"), call(0), finish(FinishReason::ContentFilter)] {
        let mut encoder = Anthropic.stream_encoder(context());
        let mut out = Vec::new();
        encoder.push(&first, &mut out);
        assert_eq!(events(&out)[0]["type"], "message_start");
        encoder.push(&start(), &mut out);
        encoder.push(&Delta::End, &mut out);
        let all = events(&out);
        let count = all.iter().filter(|event| event["type"] == "message_start").count();
        assert_eq!((count, &all[all.len() - 1]["type"]), (1, &json!("message_stop")));
    }
}

#[test]
fn the_gateways_own_words_ride_on_the_usage() {
    let mut encoder = Anthropic.stream_encoder(context());
    let mut out = Vec::new();
    for delta in [start(), text("a"), finish(FinishReason::Length)] {
        encoder.push(&delta, &mut out);
    }
    encoder.set_extension(json!({"cost_usd": "0.1"}));
    encoder.push(&Delta::Usage { usage: Usage::default() }, &mut out);
    encoder.push(&Delta::End, &mut out);
    let all = events(&out);
    assert_eq!(all[4]["tidegate"]["cost_usd"], "0.1");
    assert_eq!(all[4]["delta"]["stop_reason"], "max_tokens");
}

#[test]
fn the_scanner_reads_any_order_of_keys_and_any_spacing() {
    for data in [
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"a\n\"é\u00e9"}}"#,
        r#"{"delta": {"text": "a\n\"é\u00e9", "type": "text_delta"}, "index": 0, "type": "content_block_delta"}"#,
        r#"{ "index" : 0 , "type" : "content_block_delta" , "delta" : { "type" : "text_delta" , "text" : "a\n\"é\u00e9" } }   "#,
    ] {
        let (kinds, summary, ..) = scan(&stream(&[START, data]));
        assert_eq!(kinds[1], FrameKind::Semantic, "{data}");
        assert_eq!(summary.text.head(), "a\n\"éé");
    }
    // Quotes inside of the text do not deceive it.
    let text = r#""type":"message_stop" {"text":"no"} "stop_reason":"x""#;
    let data = piece(0, json!({"type": "text_delta", "text": text}));
    let (_, summary, is_complete, _) = scan(&stream(&[START, &data]));
    assert_eq!(summary.text.head(), text);
    assert!(!is_complete);
    // Several lines of data are read as one event.
    let split = b"event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\ndata: \"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"x\"}}\n\n";
    assert_eq!(scan(split).1.text.head(), "x");
}

fn deltas() -> impl Strategy<Value = Vec<Delta>> {
    let words = "[a-z\"\\\\\n é{}]{1,12}";
    let signature = |value: &str, kind| Delta::ReasoningOpaque {
        choice: 0,
        opaque: Opaque { kind, value: value.into() },
    };
    let content = prop_oneof![
        words.prop_map(|text| vec![Delta::Text { choice: 0, text }]),
        words.prop_map(move |text| vec![
            Delta::Reasoning { choice: 0, text },
            signature("s", OpaqueKind::AnthropicSignature),
        ]),
        Just(vec![signature("d", OpaqueKind::AnthropicRedacted)]),
        words.prop_map(|word| vec![call(0), arguments(0, &json!({"k": word}).to_string())]),
        Just(vec![call(0)]),
        words.prop_map(|word| vec![Delta::Other {
            choice: 0,
            dialect: "anthropic".into(),
            value: json!({"type": "server_tool_use", "input": {"q": word}}),
        }]),
    ];
    let usage = (0..99_u64, 0..99_u64, 0..99_u64, 1..99_u64, 0..99_u64);
    (prop::collection::vec(content, 0..8), usage).prop_map(|(content, usage)| {
        let (input, cached_input, cache_write, output, reasoning) = usage;
        let mut deltas = vec![start()];
        deltas.extend(content.into_iter().flatten());
        // Calls are numbered in their order.
        let mut calls = 0;
        for delta in &mut deltas {
            match delta {
                Delta::ToolCall { call, id, .. } => {
                    *call = calls;
                    *id = format!("call_{calls}");
                    calls += 1;
                }
                Delta::ToolArguments { call, .. } => *call = calls - 1,
                _ => {}
            }
        }
        let reason = if calls > 0 { FinishReason::ToolCalls } else { FinishReason::Stop };
        deltas.push(finish(reason));
        let usage = Usage { input, cached_input, cache_write, output, reasoning };
        deltas.push(Delta::Usage { usage });
        deltas.push(Delta::End);
        deltas
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(deltas in deltas()) {
        let bytes = encode_stream(&deltas);
        let read = decode_stream(&bytes).unwrap();
        prop_assert_eq!(whole(&read), whole(&deltas));
        prop_assert_eq!(read.last(), Some(&Delta::End));
        let completion = whole(&read);
        let again = Anthropic.decode_reply(&Anthropic.encode_reply(&completion, &context())).unwrap();
        let mut expected = completion.choices;
        for part in &mut expected[0].parts {
            if let Part::ToolCall { arguments, .. } = part
                && arguments.is_empty()
            {
                *arguments = "{}".into();
            }
        }
        prop_assert_eq!(again.choices, expected);
    }

    #[test]
    fn where_the_network_cuts_changes_nothing(deltas in deltas(), cuts in prop::collection::vec(0..4_000_usize, 0..9)) {
        let bytes = encode_stream(&deltas);
        let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut % (bytes.len() + 1)).collect();
        cuts.push(bytes.len());
        cuts.sort_unstable();
        let (mut buffer, mut from) = (Vec::new(), 0);
        let mut decoder = Anthropic.stream_decoder();
        let mut scanner = Anthropic.scanner();
        let mut read = Vec::new();
        for cut in cuts {
            buffer.extend_from_slice(&bytes[from..cut]);
            from = cut;
            while let Some(len) = sse::frame_len(&buffer) {
                decoder.push(&sse::parse(&buffer[..len]), &mut read).unwrap();
                scanner.scan(&buffer[..len]).unwrap();
                buffer.drain(..len);
            }
        }
        decoder.finish(&mut read).unwrap();
        prop_assert_eq!(&read, &decode_stream(&bytes).unwrap());
        prop_assert_eq!(scanner.summary(), &scan(&bytes).1);
        let completion = whole(&read);
        prop_assert_eq!(scanner.summary().usage, completion.usage);
        prop_assert_eq!(&scanner.summary().finish, &completion.choices[0].finish);
        prop_assert!(scanner.is_complete() && scanner.saw_terminal());
    }

    #[test]
    fn no_frame_makes_it_panic(frame in "(data: |event: |\\{|\"type\":|\"text\":\"|\\\\|\"content_block_delta\"|\"delta\"|\n|[a-z{}\\[\\]:,\"0-9 ]){0,40}") {
        let mut deltas = Vec::new();
        let _ = Anthropic.stream_decoder().push(&sse::parse(frame.as_bytes()), &mut deltas);
        let _ = Anthropic.scanner().scan(frame.as_bytes());
        let _ = Anthropic.decode_reply(frame.as_bytes());
        let _ = Anthropic.decode_request(frame.as_bytes());
        let _ = Anthropic.decode_failure(StatusCode::BAD_REQUEST, &HeaderMap::new(), frame.as_bytes());
    }
}
