//! Every recording of this wire, against a reading of its own that shares no code with the codec.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::super::media::from_base64;
use super::*;
use crate::dialect::FrameKind;

fn folder() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/fixtures");
    if !folder.is_dir() {
        #[expect(clippy::print_stderr, reason = "a test that skips says so")]
        {
            eprintln!("skipped: the recordings are not at {}", folder.display());
        }
        return None;
    }
    Some(folder)
}

/// All recordings whose `api` is among `apis`.
fn recordings(apis: &[&str]) -> Vec<Value> {
    let Some(folder) = folder() else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for provider in std::fs::read_dir(folder).unwrap().flatten() {
        for file in std::fs::read_dir(provider.path()).into_iter().flatten().flatten() {
            let text = std::fs::read(file.path()).unwrap();
            let recording: Value = serde_json::from_slice(&text).unwrap();
            if apis.contains(&recording["api"].as_str().unwrap_or_default()) {
                found.push(recording);
            }
        }
    }
    assert!(found.len() > 5, "only {} recordings of {apis:?}", found.len());
    found
}

fn is_success(recording: &Value) -> bool {
    recording["response"]["status"] == 200
}

fn id(recording: &Value) -> &str {
    recording["id"].as_str().unwrap()
}

/// The stream of a recording as server-sent events; Bedrock's frames are unpacked.
fn stream_bytes(recording: &Value) -> Option<Vec<u8>> {
    match recording["kind"].as_str() {
        Some("sse") => Some(recording["response"]["body_text"].as_str()?.as_bytes().to_vec()),
        Some("eventstream") => {
            let bytes = from_base64(recording["response"]["body_base64"].as_str()?)?;
            let mut out = Vec::new();
            let mut rest = bytes.as_slice();
            while rest.len() > 16 {
                let word =
                    |at: usize| u32::from_be_bytes(rest[at..at + 4].try_into().unwrap()) as usize;
                let (total, headers) = (word(0), word(4));
                let payload: Value = serde_json::from_slice(&rest[12 + headers..total - 4]).ok()?;
                let event = from_base64(payload["bytes"].as_str()?)?;
                sse::write(&mut out, "", &event);
                rest = &rest[total..];
            }
            Some(out)
        }
        _ => None,
    }
}

/// What a recording says, read in the simplest way.
#[derive(Debug, Default, PartialEq)]
struct Simple {
    text: String,
    thinking: String,
    calls: Vec<(String, String, Value)>,
    stop_reason: String,
    input: u64,
    cached: u64,
    written: u64,
    output: u64,
}

impl Simple {
    fn block(&mut self, block: &Value) {
        match block["type"].as_str().unwrap() {
            "text" => self.text += block["text"].as_str().unwrap(),
            "thinking" => self.thinking += block["thinking"].as_str().unwrap(),
            "tool_use" => self.calls.push((
                block["id"].as_str().unwrap().into(),
                block["name"].as_str().unwrap().into(),
                block["input"].clone(),
            )),
            _ => {}
        }
    }

    fn usage(&mut self, usage: &Value) {
        let max = |now: u64, key: &str| now.max(usage[key].as_u64().unwrap_or(0));
        self.input = max(self.input, "input_tokens");
        self.cached = max(self.cached, "cache_read_input_tokens");
        self.written = max(self.written, "cache_creation_input_tokens");
        self.output = max(self.output, "output_tokens");
    }

    fn of_message(message: &Value) -> Self {
        let mut simple = Self::default();
        for block in message["content"].as_array().unwrap() {
            simple.block(block);
        }
        simple.usage(&message["usage"]);
        simple.stop_reason = message["stop_reason"].as_str().unwrap_or_default().into();
        simple
    }

    fn of_stream(bytes: &[u8]) -> Self {
        let mut simple = Self::default();
        let mut json = std::collections::BTreeMap::<usize, String>::new();
        let mut kinds = Vec::new();
        for line in std::str::from_utf8(bytes).unwrap().lines() {
            let Some(Ok(event)) = line.strip_prefix("data:").map(serde_json::from_str::<Value>)
            else {
                continue;
            };
            match event["type"].as_str().unwrap_or("completion") {
                "message_start" => simple.usage(&event["message"]["usage"]),
                "content_block_start" => {
                    let block = &event["content_block"];
                    simple.block(block);
                    kinds.push(block["type"].as_str().unwrap().to_owned());
                }
                "content_block_delta" => {
                    let delta = &event["delta"];
                    simple.text += delta["text"].as_str().unwrap_or_default();
                    simple.thinking += delta["thinking"].as_str().unwrap_or_default();
                    if kinds.last().unwrap() == "tool_use" {
                        let piece = delta["partial_json"].as_str().unwrap_or_default();
                        *json.entry(simple.calls.len() - 1).or_default() += piece;
                    }
                }
                "message_delta" => {
                    simple.usage(&event["usage"]);
                    simple.stop_reason = event["delta"]["stop_reason"].as_str().unwrap().into();
                }
                "completion" => {
                    simple.text += event["completion"].as_str().unwrap();
                    if let Some(word) = event["stop_reason"].as_str() {
                        simple.stop_reason = word.into();
                        let metrics = &event["amazon-bedrock-invocationMetrics"];
                        simple.input = metrics["inputTokenCount"].as_u64().unwrap();
                        simple.output = metrics["outputTokenCount"].as_u64().unwrap();
                    }
                }
                _ => {}
            }
        }
        for (call, json) in json.into_iter().filter(|(_, json)| !json.is_empty()) {
            simple.calls[call].2 = serde_json::from_str(&json).unwrap();
        }
        simple
    }

    fn of_completion(completion: &Completion) -> Self {
        let choice = &completion.choices[0];
        let thinking = choice.parts.iter().map(|part| match part {
            Part::Reasoning { text, .. } => text.as_str(),
            _ => "",
        });
        let usage = completion.usage.unwrap_or_default();
        Self {
            text: plain_text(&choice.parts),
            thinking: thinking.collect(),
            calls: calls(&choice.parts),
            stop_reason: match choice.finish.as_ref().unwrap() {
                FinishReason::Stop => "end_turn",
                FinishReason::StopSequence(_) => "stop_sequence",
                FinishReason::Length => "max_tokens",
                FinishReason::ToolCalls => "tool_use",
                FinishReason::Pause => "pause_turn",
                FinishReason::Refusal => "refusal",
                other => panic!("no recording ends with {other:?}"),
            }
            .into(),
            input: usage.input,
            cached: usage.cached_input,
            written: usage.cache_write,
            output: usage.total_output(),
        }
    }
}

fn is_claude(recording: &Value) -> bool {
    let url = recording["request"]["url"].as_str().unwrap_or_default();
    recording["api"] == "messages" || url.contains("anthropic")
}

fn whole_recordings() -> Vec<Value> {
    let mut all = recordings(&["messages", "invoke"]);
    all.retain(|recording| {
        let body = &recording["response"]["body"];
        is_success(recording) && is_claude(recording) && body.is_object()
    });
    all
}

fn streams() -> Vec<(String, Vec<u8>)> {
    let mut all = recordings(&["messages", "invoke-stream"]);
    all.retain(|recording| {
        is_success(recording) && is_claude(recording) && recording["recorded"] != false
    });
    all.iter().filter_map(|one| Some((id(one).to_owned(), stream_bytes(one)?))).collect()
}

#[test]
fn every_whole_recording_says_what_it_says() {
    let all = whole_recordings();
    assert!(folder().is_none() || all.len() >= 14, "{}", all.len());
    for recording in all {
        let body = &recording["response"]["body"];
        let bytes = body.to_string();
        let completion = Anthropic.decode_reply(bytes.as_bytes()).unwrap();
        assert_eq!(
            Simple::of_completion(&completion),
            Simple::of_message(body),
            "{}",
            id(&recording)
        );

        let summary = Anthropic.scan_reply(bytes.as_bytes()).unwrap();
        assert_eq!(summary.usage, completion.usage, "{}", id(&recording));
        assert_eq!(summary.finish, completion.choices[0].finish, "{}", id(&recording));
        assert_eq!(summary.model, completion.model, "{}", id(&recording));
        let has_calls = !calls(&completion.choices[0].parts).is_empty();
        assert_eq!(summary.has_tool_calls, has_calls, "{}", id(&recording));
    }
}

#[test]
fn every_whole_recording_survives_being_written_and_read_again() {
    for recording in whole_recordings() {
        let bytes = recording["response"]["body"].to_string();
        let first = Anthropic.decode_reply(bytes.as_bytes()).unwrap();
        let second = Anthropic.decode_reply(&Anthropic.encode_reply(&first, &context())).unwrap();
        let drop_empty = |completion: &Completion| {
            let mut parts = completion.choices[0].parts.clone();
            parts.retain(|part| part.as_text() != Some(""));
            parts
        };
        assert_eq!(drop_empty(&first), drop_empty(&second), "{}", id(&recording));
        assert_eq!(first.choices[0].finish, second.choices[0].finish, "{}", id(&recording));
        assert_eq!(first.usage, second.usage, "{}", id(&recording));
        assert_eq!(first.extra, second.extra, "{}", id(&recording));
    }
}

#[test]
fn every_streamed_recording_says_what_it_says() {
    let all = streams();
    assert!(folder().is_none() || all.len() >= 34, "{}", all.len());
    for (id, bytes) in all {
        let deltas = decode_stream(&bytes).unwrap_or_else(|failure| panic!("{id}: {failure}"));
        assert_eq!(Simple::of_completion(&whole(&deltas)), Simple::of_stream(&bytes), "{id}");
        assert_eq!(deltas.last(), Some(&Delta::End), "{id}");
        assert_eq!(deltas.iter().filter(|delta| **delta == Delta::End).count(), 1, "{id}");
    }
}

#[test]
fn every_streamed_recording_survives_being_written_and_read_again() {
    for (id, bytes) in streams() {
        let first = decode_stream(&bytes).unwrap();
        let second = decode_stream(&encode_stream(&first)).unwrap();
        let (first, second) = (whole(&first), whole(&second));
        assert_eq!(first.choices, second.choices, "{id}");
        assert_eq!(first.usage.unwrap_or_default(), second.usage.unwrap(), "{id}");
    }
}

#[test]
fn the_scanner_agrees_with_the_decoder_on_every_streamed_recording() {
    for (id, bytes) in streams() {
        let mut decoder = Anthropic.stream_decoder();
        let mut scanner = Anthropic.scanner();
        let mut deltas = Vec::new();
        let (mut first_decoded, mut first_scanned) = (None, None);
        for (at, frame) in frames(&bytes).into_iter().enumerate() {
            let from = deltas.len();
            decoder.push(&sse::parse(frame), &mut deltas).unwrap();
            let kind = scanner.scan(frame).unwrap();
            if deltas[from..].iter().any(Delta::is_semantic) {
                first_decoded.get_or_insert(at);
            }
            if kind == FrameKind::Semantic {
                first_scanned.get_or_insert(at);
            }
        }
        let is_complete = decoder.finish(&mut deltas).is_ok();
        let whole = whole(&deltas);
        assert_eq!(first_decoded, first_scanned, "{id}");
        assert_eq!(scanner.is_complete(), is_complete, "{id}");
        let summary = scanner.summary();
        assert_eq!(summary.usage, whole.usage, "{id}");
        assert_eq!(summary.finish, whole.choices[0].finish, "{id}");
        assert_eq!(summary.model, whole.model, "{id}");
        assert_eq!(summary.has_tool_calls, !calls(&whole.choices[0].parts).is_empty(), "{id}");
        assert_eq!(summary.text.bytes(), sampled_bytes(&deltas), "{id}");
    }
}

fn sampled_bytes(deltas: &[Delta]) -> u64 {
    let len = |delta: &Delta| match delta {
        Delta::Text { text, .. } | Delta::Reasoning { text, .. } => text.len(),
        Delta::ToolArguments { json, .. } => json.len(),
        _ => 0,
    };
    deltas.iter().map(len).sum::<usize>() as u64
}

#[test]
fn requests_of_real_clients_are_read_and_written_again() {
    let quirks = Quirks::default();
    let mut seen = 0;
    for recording in recordings(&["messages"]) {
        let mut body = recording["request"]["body"].clone();
        if !is_success(&recording) || recording["recorded"] == false {
            continue;
        }
        // Vertex has the model in the address.
        body.as_object_mut().unwrap().entry("model").or_insert("m".into());
        let chat = Anthropic
            .decode_request(body.to_string().as_bytes())
            .unwrap_or_else(|rejection| panic!("{}: {rejection}", id(&recording)));
        let mut dropped = Dropped::default();
        let wire = Anthropic.encode_request(&chat, &target(&quirks), &mut dropped).unwrap();
        assert_eq!(dropped, Dropped::default(), "{}", id(&recording));
        let again = Anthropic.decode_request(&wire.body).unwrap();
        let chat = crate::chat::ChatRequest { model: "claude-x".into(), ..chat };
        assert_eq!(again.extra, chat.extra, "{}", id(&recording));
        assert_eq!(again, normal(chat), "{}", id(&recording));
        seen += 1;
    }
    assert!(folder().is_none() || seen >= 40, "{seen}");
}

/// What writing changes on purpose: neighbouring turns are merged and empty ones left out.
fn normal(mut chat: crate::chat::ChatRequest) -> crate::chat::ChatRequest {
    for message in &mut chat.messages {
        message.parts.retain(|part| part.as_text() != Some(""));
    }
    chat.messages.retain(|message| !message.parts.is_empty());
    for tool in &mut chat.tools {
        tool.strict = tool.strict.filter(|strict| *strict);
    }
    chat.messages.dedup_by(|next, before| {
        let same = next.role == before.role && next.role != crate::chat::Role::Tool;
        if same {
            before.parts.append(&mut next.parts);
        }
        same
    });
    chat
}
