//! Every recording decodes, and says what a simple reading of it says.

use std::fs;
use std::path::{Path, PathBuf};

use super::*;
use crate::chat::Usage;

pub(super) struct Recording {
    pub(super) id: String,
    kind: String,
    status: u16,
    /// As bytes of the wire.
    body: Vec<u8>,
    /// As JSON, one value for each event.
    pub(super) events: Vec<Value>,
    request: Value,
    url: String,
}

#[expect(clippy::print_stdout, reason = "a test that is skipped says so")]
fn skip(root: &Path) {
    println!("skipped: no recordings in {}", root.display());
}

/// The recordings of an API, by the second word of their id; empty where there are none.
fn recordings(apis: &[&str]) -> Vec<Recording> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/fixtures");
    let mut out = Vec::new();
    for provider in ["gemini", "vertex"] {
        let Ok(folder) = fs::read_dir(root.join(provider)) else {
            skip(&root);
            return out;
        };
        for entry in folder {
            let file = fs::read(entry.unwrap().path()).unwrap();
            let value: Value = serde_json::from_slice(&file).unwrap();
            if apis.contains(&value["id"].as_str().unwrap().split('-').nth(1).unwrap()) {
                out.push(read(&value));
            }
        }
    }
    out.sort_by(|a, b| a.id.cmp(&b.id));
    assert!(!out.is_empty(), "the folder is there but holds nothing of {apis:?}");
    out
}

/// Recorded answers of this wire's streaming API.
pub(super) fn streams() -> Vec<Recording> {
    let mut all = recordings(&["sgc"]);
    all.retain(|recording| recording.status == 200);
    all
}

/// Id and bytes of every recorded stream of server-sent events of an API, by any provider.
pub(super) fn every(api: &str) -> Vec<(String, Vec<u8>)> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/fixtures");
    let Ok(folders) = fs::read_dir(&root) else {
        skip(&root);
        return Vec::new();
    };
    let mut out = Vec::new();
    for folder in folders.map(|folder| folder.unwrap().path()).filter(|path| path.is_dir()) {
        for entry in fs::read_dir(folder).unwrap() {
            let file = fs::read(entry.unwrap().path()).unwrap();
            let value: Value = serde_json::from_slice(&file).unwrap();
            let is_wanted = value["api"] == api && value["kind"] == "sse";
            if let Some(body) = value["response"]["body_text"].as_str().filter(|_| is_wanted) {
                out.push((value["id"].to_string(), body.as_bytes().to_vec()));
            }
        }
    }
    assert!(!out.is_empty(), "the folder is there but holds nothing of {api}");
    out
}

fn read(value: &Value) -> Recording {
    let response = &value["response"];
    let text = response["body_text"].as_str().unwrap_or_default();
    let kind = value["kind"].as_str().unwrap().to_owned();
    let (body, events) = match kind.as_str() {
        "json" => (response["body"].to_string().into_bytes(), vec![response["body"].clone()]),
        "sse" => {
            let data = text.lines().filter_map(|line| line.strip_prefix("data:"));
            let events = data.map(|data| serde_json::from_str(data).unwrap()).collect();
            (text.as_bytes().to_vec(), events)
        }
        "json-array-stream" => {
            let events: Value = serde_json::from_str(text).unwrap();
            (text.as_bytes().to_vec(), events.as_array().unwrap().clone())
        }
        other => panic!("unknown kind {other}"),
    };
    Recording {
        id: value["id"].as_str().unwrap().to_owned(),
        status: u16::try_from(response["status"].as_u64().unwrap()).unwrap(),
        request: value["request"]["body"].clone(),
        url: value["request"]["url"].as_str().unwrap().to_owned(),
        kind,
        body,
        events,
    }
}

fn deltas_of(recording: &Recording) -> Vec<Delta> {
    let deltas = match recording.kind.as_str() {
        "sse" => decode_sse(&recording.body),
        _ => decode_events(&recording.events),
    };
    deltas.unwrap_or_else(|failure| panic!("{}: {failure}", recording.id))
}

/// Reads events without the codec: text, thinking, calls and counts of all alternatives.
fn simple_reading(events: &[Value]) -> Said {
    let mut said = Said::default();
    let mut counts = [0; 5];
    let mut counted = false;
    for event in events {
        let names = [
            "promptTokenCount",
            "cachedContentTokenCount",
            "toolUsePromptTokenCount",
            "candidatesTokenCount",
            "thoughtsTokenCount",
        ];
        for (count, name) in counts.iter_mut().zip(names) {
            if let Some(value) = event["usageMetadata"][name].as_u64() {
                *count = value;
                counted = true;
            }
        }
        for (at, candidate) in event["candidates"].as_array().into_iter().flatten().enumerate() {
            let choice = candidate["index"].as_u64().unwrap_or(at as u64);
            let at = said.room(u32::try_from(choice).unwrap());
            simple_parts(candidate, &mut said, at);
            let calls = !said.calls[at].is_empty();
            let finish = match candidate["finishReason"].as_str() {
                Some("STOP" | "UNEXPECTED_TOOL_CALL") if calls => FinishReason::ToolCalls,
                Some("STOP") => FinishReason::Stop,
                Some("MAX_TOKENS") => FinishReason::Length,
                Some("SAFETY" | "MODEL_ARMOR") => FinishReason::ContentFilter,
                Some(other) => FinishReason::Other(other.to_owned()),
                None if candidate["finishReason"] == 1 && calls => FinishReason::ToolCalls,
                None if candidate["finishReason"] == 1 => FinishReason::Stop,
                None => continue,
            };
            said.finish[at] = Some(finish);
        }
    }
    let [prompt, cached, tools, output, thoughts] = counts;
    said.usage = counted.then(|| Usage {
        input: prompt - cached + tools,
        cached_input: cached,
        cache_write: 0,
        output,
        reasoning: thoughts,
    });
    said
}

/// Adds the parts of a candidate.
fn simple_parts(candidate: &Value, said: &mut Said, at: usize) {
    for part in candidate["content"]["parts"].as_array().into_iter().flatten() {
        let text = part["text"].as_str().unwrap_or_default();
        if part["thought"] == true {
            said.thoughts[at].push_str(text);
        } else {
            said.text[at].push_str(text);
        }
        if let Some(name) = part["functionCall"]["name"].as_str() {
            let id = part["functionCall"]["id"].as_str().unwrap_or_default();
            let args = part["functionCall"]["args"].clone();
            said.calls[at].push((id.to_owned(), name.to_owned(), args));
        }
        let is_other = ["executableCode", "codeExecutionResult", "toolCall", "toolResponse"]
            .iter()
            .any(|kind| part.get(kind).is_some());
        if let Some(signature) = part["thoughtSignature"].as_str().filter(|_| !is_other) {
            said.signatures[at].push(signature.to_owned());
        }
    }
}

/// Takes made ids back, after a look that they are there and differ.
fn forget_made_ids(said: &mut Said) {
    let mut ids: Vec<&String> = said.calls.iter().flatten().map(|(id, ..)| id).collect();
    let count = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), count, "ids differ");
    for (id, ..) in said.calls.iter_mut().flatten() {
        assert!(!id.is_empty());
        if id.len() == 29 && id.starts_with("call_") {
            id.clear();
        }
    }
}

#[test]
fn every_recorded_reply_decodes_to_what_it_says() {
    for recording in recordings(&["gc"]) {
        if recording.status != 200 {
            continue;
        }
        let completion = Gemini.decode_reply(&recording.body);
        let completion = completion.unwrap_or_else(|e| panic!("{}: {e}", recording.id));
        let mut said = Said::of_completion(&completion);
        forget_made_ids(&mut said);
        assert_eq!(said, simple_reading(&recording.events), "{}", recording.id);
        let summary = Gemini.scan_reply(&recording.body).unwrap();
        assert_eq!(summary.usage, completion.usage, "{}", recording.id);
        assert_eq!(summary.finish, completion.choices[0].finish, "{}", recording.id);
        assert_eq!(summary.model, completion.model);
        assert!(!completion.id.is_empty());
        let again = Gemini.encode_reply(&completion, &context());
        let again = Gemini.decode_reply(&again).unwrap();
        assert_eq!(again, completion, "{}: written and read again", recording.id);
    }
}

#[test]
fn every_recorded_stream_decodes_to_what_it_says() {
    for recording in recordings(&["sgc"]) {
        if recording.status != 200 {
            continue;
        }
        let deltas = deltas_of(&recording);
        let mut said = Said::of_deltas(&deltas);
        forget_made_ids(&mut said);
        assert_eq!(said, simple_reading(&recording.events), "{}", recording.id);
        assert_eq!(deltas.last(), Some(&Delta::End), "{}", recording.id);
    }
}

#[test]
fn the_scanner_agrees_with_the_decoder_on_every_recorded_stream() {
    for recording in recordings(&["sgc"]) {
        if recording.kind != "sse" || recording.status != 200 {
            continue;
        }
        let said = Said::of_deltas(&deltas_of(&recording));
        let mut scanner = Gemini.scanner();
        let mut rest = recording.body.as_slice();
        let mut first_semantic = None;
        let mut frames = 0;
        while let Some(len) = sse::frame_len(rest) {
            assert!(!scanner.is_complete() || frames > 0);
            let (frame, tail) = rest.split_at(len);
            if scanner.scan(frame).unwrap() == FrameKind::Semantic {
                first_semantic.get_or_insert(frames);
            }
            frames += 1;
            rest = tail;
        }
        assert!(scanner.is_complete(), "{}", recording.id);
        assert!(first_semantic.is_some(), "{}", recording.id);
        let summary = scanner.summary();
        assert_eq!(summary.usage, said.usage, "{}", recording.id);
        assert_eq!(summary.finish, said.finish[0], "{}", recording.id);
        assert_eq!(summary.has_tool_calls, !said.calls[0].is_empty(), "{}", recording.id);
        let text: usize = said.text.iter().chain(&said.thoughts).map(String::len).sum();
        assert!(summary.text.bytes() >= text as u64, "{}", recording.id);
    }
}

#[test]
fn every_recorded_stream_keeps_its_meaning_when_written_again() {
    for recording in recordings(&["sgc"]) {
        if recording.status != 200 {
            continue;
        }
        let deltas = deltas_of(&recording);
        let mut encoder = Gemini.stream_encoder(context());
        let mut wire = Vec::new();
        for delta in &deltas {
            encoder.push(delta, &mut wire);
        }
        let again = decode_sse(&wire).unwrap();
        assert_eq!(Said::of_deltas(&again), Said::of_deltas(&deltas), "{}", recording.id);
    }
}

#[test]
fn every_recorded_array_comes_apart_wherever_it_is_cut() {
    for recording in recordings(&["sgc"]) {
        if recording.kind != "json-array-stream" {
            continue;
        }
        for size in [1, 2, 7, 64, 1_000, usize::MAX] {
            let mut reader = JsonArrayReader::default();
            let mut events: Vec<Value> = Vec::new();
            for piece in recording.body.chunks(size.min(recording.body.len())) {
                reader.push(piece);
                while let Some(object) = reader.next_object().unwrap() {
                    events.push(serde_json::from_slice(&object).unwrap());
                }
            }
            assert!(reader.is_closed());
            assert_eq!(events, recording.events, "{} in pieces of {size}", recording.id);
        }
    }
}

#[test]
fn every_recorded_error_is_a_failure_with_words() {
    let mut kinds = Vec::new();
    for recording in recordings(&["gc", "sgc"]) {
        if recording.status == 200 {
            continue;
        }
        let status = StatusCode::from_u16(recording.status).unwrap();
        let failure = Gemini.decode_failure(status, &HeaderMap::new(), &recording.body);
        assert!(!failure.message.is_empty(), "{}", recording.id);
        assert_eq!(failure.status, Some(status));
        kinds.push((recording.id, failure.kind, failure.retry_after.is_some()));
    }
    let kind_of = |id: &str| kinds.iter().find(|(known, ..)| known == id);
    if kinds.is_empty() {
        return;
    }
    let (_, kind, has_delay) = kind_of("gemini-gc-json-429-8056f6bc").unwrap();
    assert_eq!((*kind, *has_delay), (FailureKind::RateLimited, true));
    let (_, kind, _) = kind_of("gemini-sgc-json-400-906a0092").unwrap();
    assert_eq!(*kind, FailureKind::AuthFault);
}

#[test]
fn every_recorded_request_is_read_and_can_be_written_again() {
    let quirks = Quirks::default();
    for recording in recordings(&["gc", "sgc"]) {
        if !recording.request.is_object() || recording.status != 200 {
            continue;
        }
        let read = Gemini.decode_request(recording.request.to_string().as_bytes());
        let chat = read.unwrap_or_else(|e| panic!("{}: {e}", recording.id));
        let mut dropped = Dropped::default();
        let (model, _) = parse_path(&recording.url).unwrap();
        let target = target(model, &quirks);
        let wire = Gemini.encode_request(&chat, &target, &mut dropped);
        let wire = wire.unwrap_or_else(|e| panic!("{}: {e}", recording.id));
        assert_eq!(dropped, Dropped::default(), "{}", recording.id);
        let again = Gemini.decode_request(&wire.body).unwrap();
        let texts = |chat: &ChatRequest| -> Vec<String> {
            let parts = chat.messages.iter().flat_map(|message| &message.parts);
            parts
                .filter_map(Part::as_text)
                .filter(|text| !text.is_empty())
                .map(str::to_owned)
                .collect()
        };
        assert_eq!(texts(&again), texts(&chat), "{}", recording.id);
        assert_eq!(again.sampling, chat.sampling, "{}", recording.id);
        assert_eq!(again.reasoning, chat.reasoning, "{}", recording.id);
        assert_eq!(again.extra, chat.extra, "{}", recording.id);
        assert_eq!(again.tools.len(), chat.tools.len(), "{}", recording.id);
    }
}

#[test]
fn every_recorded_embedding_becomes_openais() {
    for recording in recordings(&["embeddings"]) {
        if recording.request.get("requests").is_none() {
            continue;
        }
        let inputs = recording.request["requests"].as_array().unwrap().len();
        let request = EmbeddingsRequest {
            inputs: vec!["x".to_owned(); inputs],
            dimensions: None,
            is_base64: false,
        };
        let reply = decode_embeddings(&recording.body, &request, "m").unwrap();
        assert_eq!(reply["data"].as_array().unwrap().len(), inputs, "{}", recording.id);
        assert_eq!(
            reply["data"][0]["embedding"], recording.events[0]["embeddings"][0]["values"],
            "{}",
            recording.id
        );
    }
}
