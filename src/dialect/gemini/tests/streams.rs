//! Streams of our own: order, ends, cuts, and pieces of any size.

use proptest::prelude::*;

use super::*;

fn chunk(parts: Value, finish: Option<&str>) -> Value {
    let mut candidate = json!({ "content": { "parts": parts, "role": "model" }, "index": 0 });
    if let Some(finish) = finish {
        candidate["finishReason"] = finish.into();
    }
    json!({ "candidates": [candidate], "responseId": "r-1", "modelVersion": "gemini-x" })
}

fn stream() -> Vec<Value> {
    let mut last = chunk(json!([{ "text": "", "thoughtSignature": "c2ln" }]), Some("STOP"));
    last["usageMetadata"] = json!({
        "promptTokenCount": 10, "cachedContentTokenCount": 4, "toolUsePromptTokenCount": 3,
        "candidatesTokenCount": 5, "thoughtsTokenCount": 2, "totalTokenCount": 20,
    });
    vec![
        chunk(json!([{ "text": "hmm", "thought": true }]), None),
        chunk(json!([{ "text": "Größe: " }, { "text": "5 🦀" }]), None),
        chunk(json!([{ "functionCall": { "name": "f", "args": { "a": 1 } } }]), None),
        chunk(json!([{ "functionCall": { "name": "f", "args": {} } }]), None),
        last,
    ]
}

#[test]
fn a_stream_is_read_in_order_and_ends_when_the_connection_does() {
    let mut decoder = Gemini.stream_decoder();
    let mut out = Vec::new();
    for event in stream() {
        decoder.push(&SseEvent { name: "", data: event.to_string().into() }, &mut out).unwrap();
    }
    assert!(!out.iter().any(|delta| matches!(delta, Delta::Finish { .. } | Delta::End)));
    decoder.finish(&mut out).unwrap();
    let kinds: Vec<_> = out
        .iter()
        .map(|delta| serde_json::to_value(delta).unwrap()["kind"].as_str().unwrap().to_owned())
        .collect();
    let expected = "start reasoning text text tool_call tool_arguments tool_call tool_arguments text_opaque finish usage end";
    assert_eq!(kinds.join(" "), expected);
    let said = Said::of_deltas(&out);
    assert_eq!(said.finish, [Some(FinishReason::ToolCalls)]);
    let usage = said.usage.unwrap();
    assert_eq!((usage.input, usage.cached_input, usage.output, usage.reasoning), (9, 4, 5, 2));
    let before = out.len();
    decoder.finish(&mut out).unwrap();
    assert_eq!(out.len(), before, "an end is told once");
}

#[test]
fn made_ids_are_the_same_each_time_and_differ_between_answers() {
    let ids = |events: &[Value]| -> Vec<String> {
        let said = Said::of_deltas(&decode_events(events).unwrap());
        said.calls[0].iter().map(|(id, ..)| id.clone()).collect()
    };
    let first = ids(&stream());
    assert_eq!(first, ids(&stream()));
    assert_ne!(first[0], first[1]);
    let mut other = stream();
    other[0]["responseId"] = "r-2".into();
    assert!(ids(&other).iter().all(|id| !first.contains(id)));
}

#[test]
fn a_stream_without_a_finish_reason_was_cut() {
    let events = stream();
    let failure = decode_events(&events[..4]).unwrap_err();
    assert_eq!(failure.kind, FailureKind::MidStream);
    assert_eq!(decode_events(&[]).unwrap_err().kind, FailureKind::MidStream);
    let mut scanner = Gemini.scanner();
    for event in &events[..4] {
        scanner.scan(format!("data: {event}\r\n\r\n").as_bytes()).unwrap();
    }
    assert!(!scanner.is_complete());
}

#[test]
fn a_finish_reason_with_every_piece_is_told_once_and_the_last_one_stands() {
    let events = [
        chunk(json!([{ "text": "a" }]), Some("STOP")),
        chunk(json!([{ "text": "b" }]), Some("STOP")),
        chunk(json!([{ "text": "c" }]), Some("MAX_TOKENS")),
    ];
    let said = Said::of_deltas(&decode_events(&events).unwrap());
    assert_eq!(said.text, ["abc"]);
    assert_eq!(said.finish, [Some(FinishReason::Length)]);
}

#[test]
fn an_alternative_that_does_not_end_leaves_the_stream_cut() {
    let both = json!({ "candidates": [
        { "content": { "parts": [{ "text": "a" }] }, "index": 0, "finishReason": "STOP" },
        { "content": { "parts": [{ "text": "b" }] }, "index": 1 },
    ]});
    assert_eq!(decode_events(&[both]).unwrap_err().kind, FailureKind::MidStream);
}

#[test]
fn a_blocked_prompt_is_an_answer_that_a_filter_removed() {
    let blocked = json!({ "promptFeedback": { "blockReason": "SAFETY" }, "responseId": "r" });
    let said = Said::of_deltas(&decode_events(std::slice::from_ref(&blocked)).unwrap());
    assert_eq!(said.finish, [Some(FinishReason::ContentFilter)]);
    let reply = Gemini.decode_reply(blocked.to_string().as_bytes()).unwrap();
    assert_eq!(reply.choices[0].finish, Some(FinishReason::ContentFilter));
    assert_eq!(reply.extra["promptFeedback"]["blockReason"], "SAFETY");
    let failure = Gemini.decode_reply(b"{\"candidates\": []}").unwrap_err();
    assert_eq!(failure.kind, FailureKind::Degenerate);
}

#[test]
fn finish_reasons_are_words_or_numbers() {
    let table = [
        (json!("STOP"), FinishReason::Stop),
        (json!(1), FinishReason::Stop),
        (json!(2), FinishReason::Length),
        (json!(3), FinishReason::ContentFilter),
        (json!("RECITATION"), FinishReason::ContentFilter),
        (json!("PROHIBITED_CONTENT"), FinishReason::ContentFilter),
        (json!("MODEL_ARMOR"), FinishReason::ContentFilter),
        (json!("MALFORMED_FUNCTION_CALL"), FinishReason::Other("MALFORMED_FUNCTION_CALL".into())),
        (json!("UNEXPECTED_TOOL_CALL"), FinishReason::Other("UNEXPECTED_TOOL_CALL".into())),
        (json!("NEW_WORD"), FinishReason::Other("NEW_WORD".into())),
        (json!(99), FinishReason::Other("99".into())),
    ];
    for (word, reason) in table {
        let mut event = chunk(json!([{ "text": "x" }]), None);
        event["candidates"][0]["finishReason"] = word.clone();
        let said = Said::of_deltas(&decode_events(&[event]).unwrap());
        assert_eq!(said.finish, [Some(reason)], "{word}");
    }
}

#[test]
fn an_error_event_ends_the_stream_with_the_providers_words() {
    let error = json!({ "error": { "code": 503, "message": "busy", "status": "UNAVAILABLE" } });
    for event in [error.clone(), json!([error])] {
        let failure = decode_events(&[stream()[0].clone(), event.clone()]).unwrap_err();
        assert_eq!((failure.kind, failure.message.as_str()), (FailureKind::Overloaded, "busy"));
        let mut scanner = Gemini.scanner();
        let frame = format!("data: {event}\r\n\r\n");
        assert_eq!(scanner.scan(frame.as_bytes()).unwrap_err().kind, FailureKind::Overloaded);
    }
}

#[test]
fn events_that_cannot_be_read_are_failures_and_comments_are_nothing() {
    for data in ["{", "nonsense", "3", "\"text\"", "[1]"] {
        let event = SseEvent { name: "", data: data.into() };
        let failure = Gemini.stream_decoder().push(&event, &mut Vec::new()).unwrap_err();
        assert_eq!(failure.kind, FailureKind::MidStream, "{data}");
    }
    let mut out = Vec::new();
    let mut decoder = Gemini.stream_decoder();
    decoder.push(&SseEvent::default(), &mut out).unwrap();
    assert!(out.is_empty());
    let kind = Gemini.scanner().scan(b": keep-alive\n\n").unwrap();
    assert_eq!(kind, FrameKind::Preamble);
}

#[test]
fn a_scanner_tells_counts_from_content() {
    let mut scanner = Gemini.scanner();
    let usage = b"data: {\"usageMetadata\": {\"promptTokenCount\": 3}}\r\n\r\n";
    assert_eq!(scanner.scan(usage).unwrap(), FrameKind::UsageOnly);
    let empty = b"data: {\"candidates\": [{\"content\": {\"role\": \"model\"}}]}\r\n\r\n";
    assert_eq!(scanner.scan(empty).unwrap(), FrameKind::Preamble);
    let text = format!("data: {}\r\n\r\n", stream()[1]);
    assert_eq!(scanner.scan(text.as_bytes()).unwrap(), FrameKind::Semantic);
    assert_eq!(scanner.summary().usage.unwrap().input, 3);
    assert_eq!(scanner.summary().text.head(), "Größe: 5 🦀");
}

#[test]
fn a_call_that_was_cut_is_left_out_and_said_so() {
    let mut encoder = Gemini.stream_encoder(context());
    let mut wire = Vec::new();
    let deltas = [
        Delta::ToolCall { choice: 0, call: 0, id: "a".into(), name: "f".into(), opaque: None },
        Delta::ToolArguments { choice: 0, call: 0, json: "{\"x\":".into() },
        Delta::Finish { choice: 0, reason: FinishReason::Length },
        Delta::End,
    ];
    for delta in &deltas {
        encoder.push(delta, &mut wire);
    }
    let said = Said::of_deltas(&decode_sse(&wire).unwrap());
    assert_eq!(said.finish, [Some(FinishReason::Length)]);
    assert!(said.calls[0].is_empty());
    assert!(String::from_utf8(wire).unwrap().contains("a call of `f` was left out"));
}

#[test]
fn an_array_reader_refuses_what_is_no_array() {
    for bytes in [&b"nonsense"[..], b"[1, 2]", b"data: {}"] {
        let mut reader = JsonArrayReader::default();
        reader.push(bytes);
        assert_eq!(reader.next_object().unwrap_err().kind, FailureKind::MidStream);
    }
    let mut reader = JsonArrayReader::default();
    reader.push(b"[{\"a\": \"}]\\\"{\"}, {\"b\": [{}]}");
    assert_eq!(&reader.next_object().unwrap().unwrap()[..], b"{\"a\": \"}]\\\"{\"}");
    assert_eq!(&reader.next_object().unwrap().unwrap()[..], b"{\"b\": [{}]}");
    assert_eq!(reader.next_object().unwrap(), None);
    assert!(!reader.is_closed());
}

/// Frames bytes that arrive in pieces, as the transport does.
fn decode_pieces(pieces: &[&[u8]]) -> Vec<Delta> {
    let mut decoder = Gemini.stream_decoder();
    let mut out = Vec::new();
    let mut buffer: Vec<u8> = Vec::new();
    for piece in pieces {
        buffer.extend_from_slice(piece);
        while let Some(len) = sse::frame_len(&buffer) {
            let rest = buffer.split_off(len);
            decoder.push(&sse::parse(&buffer), &mut out).unwrap();
            buffer = rest;
        }
    }
    decoder.finish(&mut out).unwrap();
    out
}

proptest! {
    #[test]
    fn chunk_boundaries_change_nothing(cuts in prop::collection::vec(0_usize..2_000, 0..12)) {
        let mut wire = Vec::new();
        for event in stream() {
            encoder::frame(&event, &mut wire);
        }
        let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut % wire.len()).collect();
        cuts.push(wire.len());
        cuts.sort_unstable();
        let mut pieces = Vec::new();
        let mut from = 0;
        for cut in cuts {
            pieces.push(&wire[from..cut]);
            from = cut;
        }
        prop_assert_eq!(decode_pieces(&pieces), decode_sse(&wire).unwrap());
        let mut reader = JsonArrayReader::default();
        let mut events = Vec::new();
        let array = Value::from(stream()).to_string();
        let mut from = 0;
        for piece in &pieces {
            let to = (from + piece.len()).min(array.len());
            reader.push(&array.as_bytes()[from..to]);
            from = to;
            while let Some(object) = reader.next_object().unwrap() {
                events.push(serde_json::from_slice::<Value>(&object).unwrap());
            }
        }
        reader.push(&array.as_bytes()[from..]);
        while let Some(object) = reader.next_object().unwrap() {
            events.push(serde_json::from_slice::<Value>(&object).unwrap());
        }
        prop_assert_eq!(events, stream());
    }

    #[test]
    fn no_bytes_make_the_readers_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Gemini.decode_reply(&bytes);
        let _ = Gemini.decode_request(&bytes);
        let _ = Gemini.scanner().scan(&bytes);
        let _ = Gemini.decode_failure(StatusCode::BAD_REQUEST, &HeaderMap::new(), &bytes);
        let _ = Gemini.stream_decoder().push(&sse::parse(&bytes), &mut Vec::new());
        let mut reader = JsonArrayReader::default();
        reader.push(&bytes);
        while let Ok(Some(_)) = reader.next_object() {}
    }
}
