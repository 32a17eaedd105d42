//! Streams, in every shape that providers send.

use serde_json::json;

use super::*;
use crate::failure::FailureKind;

fn chunk(choices: Value) -> Value {
    json!({ "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 5, "model": "m",
            "choices": choices })
}

/// A chunk of the first alternative.
fn delta(delta: Value) -> Value {
    chunk(json!([{ "index": 0, "delta": delta, "finish_reason": null }]))
}

fn end(reason: &str) -> Value {
    chunk(json!([{ "index": 0, "delta": {}, "finish_reason": reason }]))
}

fn calls(pieces: Value) -> Value {
    delta(json!({ "tool_calls": pieces }))
}

/// The only alternative of a stream of these chunks.
fn read(chunks: &[Value]) -> Told {
    let (mut all, _) = told(&decode_stream(&with_done(chunks)).unwrap());
    assert_eq!(all.len(), 1);
    all.remove(0)
}

fn called(found: &Told) -> Vec<(&str, &str, &str)> {
    found.calls.iter().map(|(id, name, json)| (id.as_str(), name.as_str(), json.as_str())).collect()
}

fn function(name: &str, arguments: &str) -> Value {
    json!({ "name": name, "arguments": arguments })
}

#[test]
fn parallel_calls_that_all_have_index_0_are_told_apart_by_their_ids() {
    let told = read(&[
        calls(
            json!([{ "index": 0, "id": "a", "type": "function", "function": function("f", "{\"x\":") }]),
        ),
        calls(json!([{ "index": 0, "id": "a", "function": function("f", "1}") }])),
        calls(json!([{ "index": 0, "id": "b", "function": function("f", "{}") }])),
        end("stop"),
    ]);
    assert_eq!(called(&told), [("a", "f", "{\"x\":1}"), ("b", "f", "{}")]);
    assert_eq!(told.finish, Some(FinishReason::ToolCalls));
}

#[test]
fn whole_calls_without_index_or_type_in_one_delta_are_read() {
    let told = read(&[
        calls(
            json!([{ "id": "a", "function": function("f", "{}") }, { "id": "b", "function": function("g", "") }]),
        ),
        end("tool_calls"),
    ]);
    assert_eq!(called(&told), [("a", "f", "{}"), ("b", "g", "")]);
}

#[test]
fn ids_that_are_empty_null_or_absent_later_change_nothing() {
    for id in [json!(""), json!(null)] {
        let told = read(&[
            calls(
                json!([{ "index": 0, "id": "a", "function": { "name": "f", "arguments": null } }]),
            ),
            calls(
                json!([{ "index": 0, "id": id, "type": id, "function": { "name": id, "arguments": "{" } }]),
            ),
            calls(json!([{ "index": 0, "function": { "arguments": "}" } }])),
            end("tool_calls"),
        ]);
        assert_eq!(called(&told), [("a", "f", "{}")]);
    }
}

#[test]
fn calls_without_ids_get_some_and_names_may_be_repeated() {
    let told = read(&[
        calls(json!([{ "index": 0, "function": function("f", "{\"a\":") }])),
        calls(json!([{ "index": 0, "function": function("f", "1}") }])),
        calls(json!([{ "index": 0, "function": function("f", "{}") }])),
        calls(json!([{ "function": function("g", "{}") }])),
        end("tool_calls"),
    ]);
    let ids: std::collections::HashSet<&String> = told.calls.iter().map(|call| &call.0).collect();
    assert_eq!(ids.len(), 3);
    let calls: Vec<_> =
        told.calls.iter().map(|(_, name, json)| (name.as_str(), json.as_str())).collect();
    assert_eq!(calls, [("f", "{\"a\":1}"), ("f", "{}"), ("g", "{}")]);
}

#[test]
fn a_new_id_on_every_piece_is_still_one_call() {
    let told = read(&[
        calls(json!([{ "index": 0, "id": "r1", "function": function("f", "") }])),
        calls(json!([{ "index": 0, "id": "r2", "function": { "arguments": "{" } }])),
        calls(json!([{ "index": 0, "id": "r3", "function": { "arguments": "}" } }])),
        end("tool_calls"),
    ]);
    assert_eq!(called(&told), [("r1", "f", "{}")]);
}

#[test]
fn interleaved_alternatives_and_calls_are_kept_apart() {
    let piece = |choice: u32, index: u32, id: &str, json: &str| {
        let name = if id.is_empty() { Value::Null } else { "f".into() };
        chunk(json!([{ "index": choice, "delta": { "tool_calls": [
            { "index": index, "id": id, "function": { "name": name, "arguments": json } } ] } }]))
    };
    let stream = with_done(&[
        piece(1, 0, "c", ""),
        piece(0, 0, "a", ""),
        piece(0, 1, "b", ""),
        piece(0, 0, "", "{}"),
        piece(1, 0, "", "[1]"),
        piece(0, 1, "", "[2]"),
        chunk(json!([{ "index": 0, "delta": {}, "finish_reason": "tool_calls" }])),
        chunk(json!([{ "index": 1, "delta": {}, "finish_reason": "length" }])),
    ]);
    let (all, _) = told(&decode_stream(&stream).unwrap());
    assert_eq!(called(&all[0]), [("a", "f", "{}"), ("b", "f", "[2]")]);
    assert_eq!(called(&all[1]), [("c", "f", "[1]")]);
    assert_eq!(all[1].finish, Some(FinishReason::Length));
}

#[test]
fn an_old_function_call_is_read() {
    let told = read(&[
        delta(json!({ "function_call": function("f", "") })),
        delta(json!({ "function_call": { "arguments": "{}" } })),
        end("function_call"),
    ]);
    assert_eq!((told.calls[0].1.as_str(), told.calls[0].2.as_str()), ("f", "{}"));
    assert_eq!(told.finish, Some(FinishReason::ToolCalls));
}

#[test]
fn content_before_the_choices_and_after_the_finish_is_read() {
    let stream = with_done(&[
        json!({ "id": "", "model": "", "created": 0, "choices": [], "prompt_filter_results": [] }),
        json!({ "id": "x", "model": "m", "created": 1.9, "choices": [{ "index": 0, "delta": { "role": null, "content": null } }] }),
        chunk(json!([{ "index": 0 }])),
        chunk(json!([{ "delta": { "content": "Hel" }, "finish_reason": "" }])),
        chunk(
            json!([{ "index": 0, "delta": { "content": "lo" }, "finish_reason": "eos", "text": "lo" }]),
        ),
        chunk(json!([{ "index": 0, "delta": { "content": "!" }, "finish_reason": "length" }])),
    ]);
    let deltas = decode_stream(&stream).unwrap();
    let Delta::Start { id, created, .. } = &deltas[0] else { panic!("{deltas:?}") };
    assert_eq!((id.as_str(), *created), ("x", 1));
    let (all, _) = told(&deltas);
    assert_eq!((all[0].text.as_str(), &all[0].finish), ("Hello!", &Some(FinishReason::Stop)));
}

#[test]
fn usage_is_merged_and_told_once() {
    let usage = |prompt: Value, completion: Value, cached: u64| {
        let mut all = delta(json!({}));
        all["usage"] = json!({ "prompt_tokens": prompt, "completion_tokens": completion,
            "prompt_tokens_details": { "cached_tokens": cached },
            "completion_tokens_details": { "reasoning_tokens": 3 } });
        all
    };
    let deltas = decode_stream(&with_done(&[
        usage(100.into(), Value::Null, 0),
        usage(100.into(), 4.into(), 0),
        end("stop"),
        usage(100.into(), 10.into(), 40),
    ]))
    .unwrap();
    let expected = Usage { input: 60, cached_input: 40, cache_write: 0, output: 7, reasoning: 3 };
    assert_eq!(told(&deltas).1, Some(expected));
}

#[test]
fn thinking_beside_the_completion_is_seen_in_the_total() {
    for details in [json!({ "reasoning_tokens": 28 }), json!(null)] {
        let mut last = end("stop");
        last["usage"] = json!({ "prompt_tokens": 66, "completion_tokens": 6, "total_tokens": 100,
            "completion_tokens_details": details });
        let usage = told(&decode_stream(&with_done(&[last])).unwrap()).1.unwrap();
        assert_eq!((usage.output, usage.reasoning, usage.total()), (6, 28, 100));
    }
}

#[test]
fn a_stream_is_whole_after_done_or_after_all_finish_reasons() {
    let text = delta(json!({ "content": "Hi" }));
    let whole = [text.clone(), end("stop")];
    assert!(decode_stream(&stream_of(&whole)).is_ok());
    let no_reason = told(&decode_stream(&with_done(&whole[..1])).unwrap());
    assert_eq!(no_reason.0[0].finish, Some(FinishReason::Stop));
    let cut = decode_stream(&stream_of(&whole[..1])).unwrap_err();
    assert_eq!(cut.kind, FailureKind::MidStream);
    let other = chunk(json!([{ "index": 1, "delta": { "content": "x" } }]));
    assert!(decode_stream(&stream_of(&[text, other, end("stop")])).is_err());
    assert!(decode_stream(b"").is_err());
    assert!(decode_stream(b": only a comment\n\n").is_err());
}

#[test]
fn errors_in_a_stream_are_failures() {
    let error =
        json!({ "error": { "message": "slow down", "code": 429, "type": "rate_limit_error" } });
    let first = decode_stream(&stream_of(std::slice::from_ref(&error))).unwrap_err();
    assert_eq!((first.kind, first.message.as_str()), (FailureKind::RateLimited, "slow down"));
    let mut beside = delta(json!({ "content": "" }));
    beside["error"] = error["error"].clone();
    for broken in [error, beside, end("error")] {
        let stream = stream_of(&[delta(json!({ "content": "Hi" })), broken]);
        assert_eq!(decode_stream(&stream).unwrap_err().kind, FailureKind::MidStream);
    }
    for event in [
        "event: error\ndata: {\"message\":\"no\"}\n\n",
        "event: error\ndata: no\n\n",
        "data: {\n\n",
        "data: 5\n\n",
    ] {
        let failure = decode_stream(event.as_bytes()).unwrap_err();
        assert!(!failure.message.is_empty(), "{event}");
    }
}

#[test]
fn every_framing_of_the_standard_is_read() {
    let one = delta(json!({ "content": "é" })).to_string();
    let two = end("stop").to_string();
    let (head, tail) = two.split_at(two.find(',').unwrap() + 1);
    let stream = format!(
        "\u{feff}: hello\r\n\r\nid: 1\r\nretry: 5\r\ndata:{one}\r\n\r\n\r\ndata: {head}\r\ndata: {tail}\r\n\r\ndata: [DONE]\r\n\r\n"
    );
    let bytes = stream.as_bytes();
    let whole = decode_stream(bytes).unwrap();
    assert_eq!(told(&whole).0[0].text, "é");
    for cut in 0..bytes.len() {
        assert_eq!(decode_pieces([&bytes[..cut], &bytes[cut..]]).unwrap(), whole, "cut at {cut}");
    }
}

#[test]
fn thinking_comes_from_any_of_its_fields() {
    let found = read(&[
        delta(json!({ "reasoning_content": "a", "content": null })),
        delta(
            json!({ "reasoning": "b", "reasoning_details": [{ "type": "reasoning.text", "text": "b" }] }),
        ),
        delta(
            json!({ "reasoning": "", "reasoning_details": [{ "type": "reasoning.summary", "summary": "c" }] }),
        ),
        delta(
            json!({ "content": [{ "type": "thinking", "thinking": [{ "type": "text", "text": "d" }] }, { "type": "text", "text": "<think>x</think>" }] }),
        ),
        end("stop"),
    ]);
    assert_eq!((found.thinking.as_str(), found.text.as_str()), ("abcd", "<think>x</think>"));
}

#[test]
fn logprobs_sound_and_sources_are_kept() {
    let token = json!({ "token": "Hi", "logprob": -0.5, "bytes": [72, 105], "top_logprobs": [{ "token": "Yo", "logprob": -1.0, "bytes": null }] });
    let mut sourced = end("stop");
    sourced["citations"] = json!(["https://a"]);
    let deltas = decode_stream(&with_done(&[
        chunk(json!([{ "index": 0, "delta": { "content": "Hi" }, "logprobs": { "content": [token] } }])),
        delta(json!({ "audio": { "id": "x", "data": "AAA" } })),
        sourced,
    ]))
    .unwrap();
    let again = decode_stream(&encode_stream(&deltas)).unwrap();
    assert_eq!(again, deltas);
    let others = deltas.iter().filter(|delta| matches!(delta, Delta::Other { .. })).count();
    assert_eq!(others, 2);
    let Some(Delta::Logprobs { tokens, .. }) =
        deltas.iter().find(|delta| matches!(delta, Delta::Logprobs { .. }))
    else {
        panic!("{deltas:?}")
    };
    assert_eq!(
        (tokens[0].bytes.as_deref(), tokens[0].top[0].token.as_str()),
        (Some(&[72, 105][..]), "Yo")
    );
}

#[test]
fn a_written_stream_is_what_sdks_expect() {
    let usage = Usage { input: 5, cached_input: 2, cache_write: 0, output: 3, reasoning: 1 };
    let deltas = [
        Delta::Start {
            id: "msg_1".to_owned(),
            model: "claude".to_owned(),
            created: 9,
            usage: Usage::default(),
        },
        Delta::Text { choice: 0, text: "Hi".to_owned() },
        Delta::ToolCall {
            choice: 0,
            call: 0,
            id: "c".to_owned(),
            name: "f".to_owned(),
            opaque: None,
        },
        Delta::ToolArguments { choice: 0, call: 0, json: "{}".to_owned() },
        Delta::Finish { choice: 0, reason: FinishReason::ToolCalls },
        Delta::Usage { usage },
        Delta::End,
    ];
    let write = |include_usage: bool| {
        let mut encoder = codec().stream_encoder(ReplyContext { include_usage, ..context() });
        encoder.set_extension(json!({ "cost_usd": "0.1" }));
        let mut out = Vec::new();
        for delta in &deltas {
            encoder.push(delta, &mut out);
        }
        String::from_utf8(out).unwrap()
    };
    let envelope =
        r#""id":"chatcmpl-req1","object":"chat.completion.chunk","created":9,"model":"claude""#;
    let data = |choices: &str| format!("data: {{{envelope},\"choices\":[{choices}]}}\n\n");
    let choice = |delta: &str, finish: &str| {
        data(&format!(r#"{{"index":0,"delta":{delta},"logprobs":null,"finish_reason":{finish}}}"#))
    };
    let mut expected = choice(r#"{"role":"assistant","content":"Hi"}"#, "null");
    expected += &choice(
        r#"{"tool_calls":[{"index":0,"id":"c","type":"function","function":{"name":"f","arguments":""}}]}"#,
        "null",
    );
    expected += &choice(r#"{"tool_calls":[{"index":0,"function":{"arguments":"{}"}}]}"#, "null");
    expected += &choice("{}", "\"tool_calls\"");
    assert_eq!(write(false), format!("{expected}data: [DONE]\n\n"));
    expected += &format!(
        "data: {{{envelope},\"choices\":[],\"usage\":{},\"tidegate\":{{\"cost_usd\":\"0.1\"}}}}\n\n",
        r#"{"prompt_tokens":7,"completion_tokens":4,"total_tokens":11,"prompt_tokens_details":{"cached_tokens":2},"completion_tokens_details":{"reasoning_tokens":1}}"#
    );
    assert_eq!(write(true), format!("{expected}data: [DONE]\n\n"));
}

#[test]
fn a_call_that_never_gets_a_name_is_a_broken_stream() {
    let stream =
        with_done(&[calls(json!([{ "index": 0, "id": "a", "function": { "arguments": "{}" } }]))]);
    assert_eq!(decode_stream(&stream).unwrap_err().kind, FailureKind::MidStream);
}
