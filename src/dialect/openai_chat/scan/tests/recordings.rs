//! The scanner against a full parse, over recordings and over what they may turn into.

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use serde_json::value::RawValue;

use super::*;

/// The same judgement by way of a full parse, as slow and plain as can be.
#[derive(Debug, Default)]
struct Oracle {
    summary: StreamSummary,
    usage: Option<WireUsage>,
    is_done: bool,
    seen: std::collections::BTreeMap<u64, Ending>,
}

/// What is known of one alternative.
#[derive(Debug, Default)]
struct Ending {
    has_calls: bool,
    finish: Option<FinishReason>,
}

impl Oracle {
    fn scan(&mut self, frame: &[u8]) -> Result<FrameKind, FailureKind> {
        let fail = |value: &Value| {
            Err(failure::failure_from_error_value(value, FailureKind::MidStream).kind)
        };
        let text = String::from_utf8_lossy(frame);
        if let Some(error) = text.lines().find_map(|line| line.strip_prefix("error:")) {
            return fail(&serde_json::from_str(error).unwrap_or(Value::Null));
        }
        let event = sse::parse(frame);
        let data = event.data.trim();
        if event.name == "error" {
            return fail(&serde_json::from_str(data).unwrap_or(Value::Null));
        }
        if data.is_empty() {
            return Ok(FrameKind::Preamble);
        }
        if data == "[DONE]" {
            self.is_done = true;
            return Ok(FrameKind::Terminal);
        }
        serde_json::from_str::<Box<RawValue>>(data).map_err(|_| FailureKind::MidStream)?;
        let value: Value = serde_json::from_str(data).expect("text that no mutation makes");
        let Some(object) = value.as_object() else { return Err(FailureKind::MidStream) };
        let choices = value["choices"].as_array().cloned().unwrap_or_default();
        let of_choices = choices.iter().map(|choice| &choice["usage"]);
        let counted: Vec<&Value> = [&value["usage"], &value["x_groq"]["usage"]]
            .into_iter()
            .chain(of_choices)
            .filter(|usage| usage.is_object())
            .collect();
        if object.get("error").is_some_and(|error| !error.is_null())
            || (choices.is_empty() && counted.is_empty() && failure::is_error(object))
        {
            return fail(&value);
        }
        for usage in counted.iter().filter_map(|usage| WireUsage::read(usage)) {
            self.usage.get_or_insert_default().merge(usage);
        }
        let mut has_content = false;
        for (choice, position) in choices.iter().zip(0..) {
            has_content |= self.choice(choice, position);
        }
        Ok(match (has_content, choices.is_empty(), counted.is_empty()) {
            (true, ..) => FrameKind::Semantic,
            (false, true, false) => FrameKind::UsageOnly,
            _ => FrameKind::Preamble,
        })
    }

    fn choice(&mut self, choice: &Value, position: u64) -> bool {
        if !choice.is_object() {
            return false;
        }
        let delta = [&choice["delta"], &choice["message"]].into_iter().find(|d| d.is_object());
        let mut found = match delta {
            Some(delta) => self.delta(delta),
            None => self.text(&choice["text"]),
        };
        let index = choice["index"].as_u64().unwrap_or(position);
        let ending = self.seen.entry(index).or_default();
        let calls = delta.map(|delta| [&delta["tool_calls"], &delta["function_call"]]);
        ending.has_calls |= calls.into_iter().flatten().any(is_call);
        if let Some(reason) = choice["finish_reason"].as_str().and_then(finish_reason) {
            ending.finish.get_or_insert(reason);
            found = true;
        }
        found
    }

    fn delta(&mut self, delta: &Value) -> bool {
        let mut found = self.text(&delta["content"]) | self.text(&delta["refusal"]);
        // The first that is filled, in the order they came.
        let thinking = delta.as_object().unwrap().iter().find(|(key, value)| {
            matches!(key.as_str(), "reasoning_content" | "reasoning")
                && (value.as_str().is_some_and(|text| !text.is_empty()) || is_filled(value))
        });
        if let Some((_, text)) = thinking {
            found |= self.text(text);
        }
        for key in ["tool_calls", "function_call"] {
            if is_call(&delta[key]) {
                self.summary.has_tool_calls = true;
                found = true;
                self.arguments(&delta[key]);
            }
        }
        let others = ["reasoning_details", "audio", "images"];
        found | others.iter().any(|key| is_filled(&delta[*key]))
    }

    fn text(&mut self, value: &Value) -> bool {
        match value {
            Value::String(text) => {
                self.summary.text.push(text);
                !text.is_empty()
            }
            Value::Array(parts) => {
                parts.iter().for_each(|part| self.part(part));
                !parts.is_empty()
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => false,
        }
    }

    fn part(&mut self, part: &Value) {
        let thoughts = part["thinking"].as_array().into_iter().flatten();
        let texts = thoughts.map(|thought| thought["text"].as_str());
        let own = part.as_str().or_else(|| part["text"].as_str());
        [own].into_iter().chain(texts).flatten().for_each(|text| self.summary.text.push(text));
    }

    fn arguments(&mut self, calls: &Value) {
        let functions: Vec<&Value> = match calls {
            Value::Array(calls) => calls.iter().map(|call| &call["function"]).collect(),
            Value::Object(_) => vec![calls],
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
        };
        let arguments = functions.iter().filter_map(|function| function["arguments"].as_str());
        arguments.for_each(|text| self.summary.text.push(text));
    }

    fn is_complete(&self) -> bool {
        self.is_done
            || (!self.seen.is_empty() && self.seen.values().all(|one| one.finish.is_some()))
    }

    /// How the first alternative ended. Until the end is told it is the first that did.
    fn finish(&self) -> Option<FinishReason> {
        let ended = |one: &&Ending| self.is_done || one.finish.is_some();
        let first = self.seen.values().find(ended)?;
        let finish = first.finish.clone().unwrap_or(FinishReason::Stop);
        let calls = first.has_calls && finish == FinishReason::Stop;
        Some(if calls { FinishReason::ToolCalls } else { finish })
    }
}

/// Whether there is a call in either field for them.
fn is_call(value: &Value) -> bool {
    let is_blank = |text: &Value| text.is_null() || text == "";
    match value.as_object() {
        Some(call) => !call.values().all(is_blank),
        None => is_filled(value),
    }
}

fn is_filled(value: &Value) -> bool {
    match value {
        Value::Array(items) => !items.is_empty(),
        Value::Object(members) => !members.is_empty(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// Runs both over a stream and compares what they say.
fn compare(stream: &[u8], what: &str) {
    let (mut scanner, mut oracle) = (ChatScanner::default(), Oracle::default());
    for frame in sse::frames(stream) {
        let expected = oracle.scan(frame);
        let got = scanner.scan(frame).map_err(|failure| failure.kind);
        assert_eq!(got, expected, "{what}: {}", String::from_utf8_lossy(frame));
        if got.is_err() {
            return;
        }
    }
    assert_eq!(scanner.is_complete(), oracle.is_complete(), "{what}");
    assert_eq!(scanner.saw_terminal(), oracle.is_done, "{what}");
    let (got, expected) = (scanner.summary(), &oracle.summary);
    assert_eq!(got.usage, oracle.usage.map(WireUsage::disjoint), "{what}");
    assert_eq!(got.finish, oracle.finish(), "{what}");
    assert_eq!(got.has_tool_calls, expected.has_tool_calls, "{what}");
    assert_eq!(got.text.bytes(), expected.text.bytes(), "{what}");
}

#[allow(clippy::print_stderr, reason = "a test that is skipped says so")]
pub(super) fn recordings() -> Vec<(String, Value)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/fixtures");
    let Ok(index) = std::fs::read_to_string(root.join("INDEX.tsv")) else {
        eprintln!("skipped: no recordings at {}", root.display());
        return Vec::new();
    };
    let ours = |line: &&str| {
        matches!(line.split('\t').nth(2), Some("chat.completions" | "completions" | "embeddings"))
    };
    let path = |line: &str| -> PathBuf {
        let mut fields = line.split('\t');
        let (id, provider) = (fields.next().unwrap(), fields.next().unwrap());
        root.join(provider).join(format!("{id}.json"))
    };
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).unwrap();
        (path.display().to_string(), serde_json::from_str(&text).unwrap())
    };
    index.lines().filter(ours).map(path).map(read).collect()
}

fn streams() -> Vec<(String, String)> {
    let text = |(name, value): (String, Value)| {
        let is_stream = value["kind"] == "sse";
        Some((name, value["response"]["body_text"].as_str().filter(|_| is_stream)?.to_owned()))
    };
    recordings().into_iter().filter_map(text).collect()
}

#[test]
fn recorded_streams_are_judged_as_by_a_full_parse() {
    let streams = streams();
    assert!(streams.is_empty() || streams.len() > 90, "{}", streams.len());
    for (name, stream) in streams {
        compare(stream.as_bytes(), &name);
        compare(stream.replace('\n', "\r\n").as_bytes(), &name);
    }
}

#[test]
fn recorded_streams_end_well_unless_they_have_an_error() {
    for (name, stream) in streams() {
        let mut scanner = ChatScanner::default();
        let results: Vec<_> =
            sse::frames(stream.as_bytes()).map(|frame| scanner.scan(frame)).collect();
        if name.contains("error-in-stream") || name.contains("d5dd45e7") {
            assert!(results.iter().any(Result::is_err), "{name}");
            continue;
        }
        assert!(results.iter().all(Result::is_ok), "{name}: {results:?}");
        assert!(results.contains(&Ok(FrameKind::Semantic)), "{name}");
        assert!(scanner.is_complete(), "{name}");
    }
}

#[test]
fn recorded_answers_are_understood_or_refused() {
    let (mut seen, mut sampled) = (0, 0);
    for (name, value) in recordings() {
        let response = &value["response"];
        // Embeddings of a make of their own are another wire.
        let is_other = name.contains("-embeddings-")
            && response["status"] == 200
            && response["body"]["data"].is_null();
        if value["kind"] != "json" || is_other {
            continue;
        }
        seen += 1;
        let status = response["status"].as_u64().unwrap();
        let body = response["body"].to_string();
        let result = scan_reply(body.as_bytes());
        if status >= 400 {
            assert!(result.is_err(), "{name}");
        } else if name.contains("tool-result-021bad66") {
            assert_eq!(result.unwrap_err().kind, FailureKind::ServerFault);
        } else if name.contains("openrouter-chat-json-text-8ec569c6") {
            assert_eq!(result.unwrap_err().kind, FailureKind::Degenerate, "an empty answer");
        } else {
            let summary = result.unwrap_or_else(|failure| panic!("{name}: {failure}"));
            let usage = response["body"].get("usage").and_then(WireUsage::read);
            assert_eq!(summary.usage, usage.map(WireUsage::disjoint), "{name}");
            let mut oracle = Oracle::default();
            for choice in response["body"]["choices"].as_array().into_iter().flatten() {
                if choice["message"].is_object() {
                    oracle.delta(&choice["message"]);
                } else {
                    oracle.text(&choice["text"]);
                }
            }
            assert_eq!(summary.text, oracle.summary.text, "{name}");
            assert_eq!(summary.has_tool_calls, oracle.summary.has_tool_calls, "{name}");
            sampled += usize::from(!summary.text.is_empty());
        }
    }
    assert!(seen == 0 || (seen > 60 && sampled > 30), "{seen} {sampled}");
}

/// One edit of one byte.
fn mutate(stream: &mut Vec<u8>, at: usize, how: u8, with: u8) {
    // A mutation of framing or of an escape says nothing about the scanner's judgement.
    if stream.is_empty() || matches!(stream[at], b'\n' | b'\\' | b'u') {
        return;
    }
    match how {
        0 => drop(stream.remove(at)),
        1 => stream[at] = with,
        _ => stream.insert(at, with),
    }
}

proptest! {
    #[test]
    fn damaged_streams_are_judged_as_by_a_full_parse(
        pick in any::<prop::sample::Index>(),
        edits in prop::collection::vec(
            (any::<prop::sample::Index>(), 0u8..3, prop::sample::select(b"\"{}[],: a0nt".to_vec())),
            1..4,
        ),
    ) {
        static STREAMS: std::sync::LazyLock<Vec<(String, String)>> = std::sync::LazyLock::new(streams);
        if STREAMS.is_empty() {
            return Ok(());
        }
        let (name, stream) = pick.get(&STREAMS);
        let mut stream = stream.clone().into_bytes();
        stream.truncate(20_000);
        for (at, how, with) in edits {
            let at = at.index(stream.len());
            mutate(&mut stream, at, how, with);
        }
        compare(&stream, name);
    }

    #[test]
    fn made_up_streams_are_judged_as_by_a_full_parse(
        chunks in prop::collection::vec(chunk(), 0..12),
        spaced in any::<bool>(),
    ) {
        let mut stream = Vec::new();
        for chunk in &chunks {
            let mut text = chunk.to_string();
            if spaced {
                // As Python writes it, and in several lines of data.
                text = serde_json::to_string_pretty(chunk).unwrap().replace('\n', "\ndata: ");
            }
            sse::write(&mut stream, "", text.as_bytes());
        }
        compare(&stream, "made up");
    }
}

fn word() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        Just(Value::from("")),
        Just(Value::from("\"error\":{}, \"usage\":{\"prompt_tokens\":1}")),
        "[a-zé\\\\\"\n]{0,5}".prop_map(Value::from),
        Just(serde_json::json!([])),
        Just(serde_json::json!([{"type": "text", "text": "t"}, {"thinking": [{"text": "u"}]}])),
    ]
}

fn object(
    keys: &'static [&'static str],
    value: impl Strategy<Value = Value>,
) -> impl Strategy<Value = Value> {
    prop::collection::vec((prop::sample::select(keys), value), 0..4).prop_map(|pairs| {
        Value::Object(pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
    })
}

fn choice() -> impl Strategy<Value = Value> {
    let call = serde_json::json!([{"index": 0, "function": {"name": "f", "arguments": "{\"a"}}]);
    let legacy = |text: &str| serde_json::json!({"name": text, "arguments": text});
    let value =
        prop_oneof![4 => word(), 1 => Just(call), 1 => Just(legacy("")), 1 => Just(legacy("f"))];
    let keys = &[
        "role",
        "content",
        "refusal",
        "reasoning",
        "reasoning_content",
        "tool_calls",
        "function_call",
    ];
    let finish = prop::sample::select(vec![Value::Null, "".into(), "stop".into(), "eos".into()]);
    (0u64..3, object(keys, value), finish, 0..5).prop_map(|(index, delta, finish, shape)| {
        match shape {
            0 => serde_json::json!({"text": "t", "index": index, "finish_reason": finish}),
            1 => serde_json::json!({"finish_reason": finish, "delta": delta, "text": "x", "index": index}),
            2 => serde_json::json!({"message": delta, "finish_reason": finish}),
            4 => serde_json::json!({"index": index, "delta": delta, "finish_reason": finish,
                "usage": {"prompt_tokens": index + 1, "total_tokens": 9}}),
            _ => serde_json::json!({"index": index, "delta": delta, "finish_reason": finish}),
        }
    })
}

fn chunk() -> impl Strategy<Value = Value> {
    let usage = prop_oneof![
        3 => Just(Value::Null),
        1 => Just(serde_json::json!({"prompt_tokens": null, "completion_tokens": null})),
        1 => (0u64..50, 0u64..50, 0u64..60, 0u64..60).prop_map(|(p, c, cached, thought)| {
            serde_json::json!({
                "prompt_tokens": p, "completion_tokens": c, "total_tokens": p + c,
                "prompt_tokens_details": {"cached_tokens": cached},
                "completion_tokens_details": {"reasoning_tokens": thought},
            })
        }),
    ];
    let choices = prop::collection::vec(choice(), 0..3);
    (choices, usage, 0..9, "[ab]").prop_map(|(choices, usage, shape, id)| match shape {
        0 => serde_json::json!({"usage": usage, "id": id}),
        1 => serde_json::json!({"usage": usage, "choices": choices}),
        2 => serde_json::json!({"id": id, "choices": choices, "error": null, "usage": usage}),
        8 => {
            serde_json::json!({"id": id, "x_groq": {"id": id, "usage": usage}, "choices": choices})
        }
        3 => serde_json::json!({"id": id, "error": {"code": 502}, "choices": choices}),
        _ => serde_json::json!({"id": id, "model": "m", "choices": choices, "usage": usage}),
    })
}
