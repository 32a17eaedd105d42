//! Every recorded answer of the family decodes to what a plain reading of its JSON says, whatever
//! way its bytes were cut, and survives being written and read again.

use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;

use proptest::prelude::*;

use super::*;
use crate::failure::FailureKind;

pub(super) struct Recording {
    pub(super) id: String,
    pub(super) status: u64,
    pub(super) whole: Value,
    pub(super) stream: Option<String>,
    request: Value,
}

/// All recordings of the family; none, with a word, where the folder is absent.
pub(super) fn recordings() -> Vec<Recording> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/fixtures");
    let Ok(folders) = fs::read_dir(&root) else {
        let mut note = std::io::stderr();
        let _ = std::io::Write::write_all(&mut note, b"skipped: no ../shared/fixtures here\n");
        return Vec::new();
    };
    let files = folders
        .flatten()
        .filter(|folder| folder.path().is_dir() && folder.file_name() != "_shape_only")
        .flat_map(|folder| fs::read_dir(folder.path()).unwrap().flatten());
    let mut all: Vec<Recording> = files
        .filter_map(|file| serde_json::from_slice::<Value>(&fs::read(file.path()).ok()?).ok())
        .filter(|recording| recording["api"] == "chat.completions")
        .map(|recording| Recording {
            id: recording["id"].as_str().unwrap().to_owned(),
            status: recording["response"]["status"].as_u64().unwrap(),
            whole: recording["response"]["body"].clone(),
            stream: (recording["kind"] == "sse")
                .then(|| recording["response"]["body_text"].as_str().unwrap().to_owned()),
            request: recording["request"]["body"].clone(),
        })
        .collect();
    all.sort_by(|a, b| a.id.cmp(&b.id));
    assert!(all.len() > 100, "only {} recordings", all.len());
    all
}

fn reads_like(read: (Vec<Told>, Option<Usage>), plain: (Vec<Told>, Option<Value>), id: &str) {
    let (told, usage) = read;
    let (plain, plain_usage) = plain;
    assert_eq!(told.len(), plain.len(), "{id}");
    for (told, plain) in told.iter().zip(&plain) {
        assert_eq!(told.text, plain.text, "{id}");
        assert_eq!(told.thinking, plain.thinking, "{id}");
        assert_eq!(told.refusal, plain.refusal, "{id}");
        assert_eq!(told.finish, plain.finish, "{id}");
        assert_eq!(told.calls.len(), plain.calls.len(), "{id}");
        for (call, plain) in told.calls.iter().zip(&plain.calls) {
            assert!(plain.0.is_empty() || call.0 == plain.0, "{id}: {call:?}");
            assert_eq!((&call.1, &call.2), (&plain.1, &plain.2), "{id}");
        }
    }
    let Some(plain_usage) = plain_usage else {
        assert_eq!(usage, None, "{id}");
        return;
    };
    let usage = usage.unwrap_or_else(|| panic!("{id}: no usage"));
    let count = |key: &str| plain_usage[key].as_u64().unwrap_or(0);
    // What the total holds beyond prompt and completion is thinking, or Mistral's sound.
    let beside = count("total_tokens")
        .saturating_sub(count("prompt_tokens"))
        .saturating_sub(count("completion_tokens"));
    let heard = if plain_usage["prompt_audio_seconds"].is_null() { 0 } else { beside };
    assert_eq!(usage.total_input(), count("prompt_tokens") + heard, "{id}: {plain_usage}");
    let thought = beside - heard;
    assert_eq!(usage.total_output(), count("completion_tokens") + thought, "{id}: {plain_usage}");
}

fn plain_finish(word: Option<&str>, calls: bool) -> Option<FinishReason> {
    match word {
        Some("length") => Some(FinishReason::Length),
        Some("content_filter") => Some(FinishReason::ContentFilter),
        Some("tool_calls" | "tool_call" | "function_call") => Some(FinishReason::ToolCalls),
        _ if calls => Some(FinishReason::ToolCalls),
        Some("") | None => None,
        Some("stop" | "eos") => Some(FinishReason::Stop),
        Some(other) => panic!("a finish reason this test does not know: {other}"),
    }
}

fn add_message(told: &mut Told, message: &Value) {
    let text = |key: &str| message[key].as_str().unwrap_or_default();
    told.text.push_str(text("content"));
    for piece in message["content"].as_array().into_iter().flatten() {
        told.text.push_str(piece["text"].as_str().unwrap_or_default());
        for thought in piece["thinking"].as_array().into_iter().flatten() {
            told.thinking.push_str(thought["text"].as_str().unwrap());
        }
    }
    let mut thinking = [text("reasoning_content"), text("reasoning")].concat();
    if thinking.is_empty() {
        let details = message["reasoning_details"].as_array().into_iter().flatten();
        thinking = details.filter_map(|detail| detail["text"].as_str()).collect();
    }
    told.thinking.push_str(&thinking);
    told.refusal.push_str(text("refusal"));
    for call in message["tool_calls"].as_array().into_iter().flatten() {
        let of = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (id, name) = (of(&call["id"]), of(&call["function"]["name"]));
        let json = of(&call["function"]["arguments"]);
        // In the recordings a call has its id and name on its first piece; all later pieces have
        // its index, counted from 0 within the alternative.
        if name.is_empty() || told.calls.iter().any(|known| !id.is_empty() && known.0 == id) {
            let index = call["index"].as_u64().map_or(told.calls.len() - 1, |at| at as usize);
            told.calls[index].2.push_str(&json);
        } else {
            told.calls.push((id, name, json));
        }
    }
    let legacy = &message["function_call"];
    let name = legacy["name"].as_str().unwrap_or_default();
    let json = legacy["arguments"].as_str().unwrap_or_default();
    if !name.is_empty() {
        told.calls.push((String::new(), name.to_owned(), json.to_owned()));
    } else if let Some(call) = told.calls.last_mut() {
        call.2.push_str(json);
    }
}

fn plain_whole(body: &Value) -> (Vec<Told>, Option<Value>) {
    let choices = body["choices"].as_array().unwrap().iter().map(|choice| {
        let mut told = Told::default();
        add_message(&mut told, &choice["message"]);
        told.finish = plain_finish(choice["finish_reason"].as_str(), !told.calls.is_empty());
        told
    });
    (choices.collect(), body.get("usage").filter(|usage| !usage.is_null()).cloned())
}

fn plain_stream(text: &str) -> (Vec<Told>, Option<Value>) {
    let mut all: Vec<Told> = Vec::new();
    let mut words: Vec<Option<String>> = Vec::new();
    let mut usage = None;
    let text = text.replace("\r\n", "\n");
    for data in text.lines().filter_map(|line| line.strip_prefix("data:")) {
        let Ok(chunk) = serde_json::from_str::<Value>(data) else { continue };
        for from in [&chunk["usage"], &chunk["x_groq"]["usage"]] {
            if !from["completion_tokens"].is_null() {
                usage = Some(from.clone());
            }
        }
        for choice in chunk["choices"].as_array().into_iter().flatten() {
            let index = choice["index"].as_u64().unwrap_or(0) as usize;
            all.resize_with(all.len().max(index + 1), Told::default);
            words.resize(all.len(), None);
            add_message(&mut all[index], &choice["delta"]);
            if let Some(word) = choice["finish_reason"].as_str() {
                words[index].get_or_insert(word.to_owned());
            }
        }
    }
    for (told, word) in all.iter_mut().zip(words) {
        let calls = !told.calls.is_empty();
        told.finish = plain_finish(word.as_deref(), calls).or(Some(FinishReason::Stop));
    }
    (all, usage)
}

#[test]
fn recorded_answers_say_what_their_json_says() {
    let mut seen = 0;
    for recording in recordings().iter().filter(|one| one.status == 200 && one.stream.is_none()) {
        let id = &recording.id;
        let body = recording.whole.to_string();
        let read = codec().decode_reply(body.as_bytes());
        if recording.whole.get("error").is_some() {
            let failure = read.expect_err(id);
            assert!(!failure.message.is_empty(), "{id}");
            continue;
        }
        let completion = read.unwrap_or_else(|failure| panic!("{id}: {failure}"));
        reads_like(told_whole(&completion), plain_whole(&recording.whole), id);
        let again = codec().decode_reply(&codec().encode_reply(&completion, &context())).unwrap();
        let (mut told, usage) = told_whole(&completion);
        for choice in &mut told {
            // An ending must be named on the way out.
            choice.finish.get_or_insert(FinishReason::Stop);
        }
        assert_eq!(told_whole(&again), (told, usage), "{id}");
        seen += 1;
    }
    assert!(seen == 0 || seen > 30, "{seen}");
}

#[test]
fn recorded_streams_say_what_their_json_says() {
    let mut seen = 0;
    for recording in recordings() {
        let (id, Some(stream)) = (&recording.id, &recording.stream) else { continue };
        let read = decode_stream(stream.as_bytes());
        if id.contains("error-in-stream") || stream.contains("\nerror:") {
            let failure = read.expect_err(id);
            assert!(!failure.message.is_empty(), "{id}");
            continue;
        }
        let deltas = read.unwrap_or_else(|failure| panic!("{id}: {failure}"));
        reads_like(told(&deltas), plain_stream(stream), id);
        let again = decode_stream(&encode_stream(&deltas)).unwrap();
        assert_eq!(told(&again), told(&deltas), "{id}");
        seen += 1;
    }
    assert!(seen == 0 || seen > 90, "{seen}");
}

#[test]
fn recorded_requests_are_understood() {
    for recording in recordings().iter().filter(|one| one.status == 200) {
        if recording.request.get("model").is_none() {
            continue;
        }
        let body = recording.request.to_string();
        let chat = codec().decode_request(body.as_bytes());
        let chat = chat.unwrap_or_else(|error| panic!("{}: {error}", recording.id));
        let quirks = Quirks::default();
        let target =
            RequestTarget { model: "m", label: "p/m", quirks: &quirks, output_tokens: None };
        let wire = codec().encode_request(&chat, &target, &mut Dropped::default()).unwrap();
        let again = codec().decode_request(&wire.body).unwrap();
        let same = ChatRequest { model: "m".to_owned(), include_usage: chat.stream, ..chat };
        assert_eq!(again, same, "{}", recording.id);
    }
}

#[test]
fn a_recorded_stream_cut_anywhere_is_never_taken_for_a_whole_one() {
    for recording in recordings() {
        let Some(stream) = &recording.stream else { continue };
        let Ok(deltas) = decode_stream(stream.as_bytes()) else { continue };
        let whole = told(&deltas);
        let frames: Vec<usize> =
            (0..stream.len()).filter(|at| stream.as_bytes()[..*at].ends_with(b"\n\n")).collect();
        for at in frames.iter().step_by(7) {
            let Ok(deltas) = decode_stream(&stream.as_bytes()[..*at]) else { continue };
            let part = told(&deltas);
            for (cut, full) in part.0.iter().zip(&whole.0) {
                assert_eq!(cut.finish, full.finish, "{} cut at {at}", recording.id);
            }
        }
    }
}

fn all() -> &'static [Recording] {
    static ALL: OnceLock<Vec<Recording>> = OnceLock::new();
    ALL.get_or_init(recordings)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn damaged_traffic_is_read_or_refused_but_never_panics(
        pick in any::<prop::sample::Index>(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
    ) {
        if !all().is_empty() {
            let recording = &all()[pick.index(all().len())];
            let whole = recording.whole.to_string();
            let request = recording.request.to_string();
            let stream = recording.stream.as_deref().unwrap_or_default();
            for bytes in [whole.as_bytes(), request.as_bytes(), stream.as_bytes()] {
                let mut bytes = bytes.to_vec();
                for (at, byte) in &damage {
                    if !bytes.is_empty() {
                        let at = at.index(bytes.len());
                        bytes[at] = *byte;
                    }
                }
                let _ = codec().decode_request(&bytes);
                let _ = codec().decode_reply(&bytes);
                if let Ok(deltas) = decode_stream(&bytes) {
                    told(&deltas);
                }
            }
        }
    }

    #[test]
    fn cuts_anywhere_change_nothing(pick in any::<prop::sample::Index>(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12)) {
        let streams: Vec<&String> = all().iter().filter_map(|one| one.stream.as_ref()).collect();
        if !streams.is_empty() {
            let bytes = streams[pick.index(streams.len())].as_bytes();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            cuts.sort_unstable();
            let mut from = 0;
            let mut pieces = Vec::new();
            for cut in cuts {
                pieces.push(&bytes[from..cut]);
                from = cut;
            }
            pieces.push(&bytes[from..]);
            prop_assert_eq!(decode_pieces(pieces), decode_stream(bytes));
        }
    }
}

#[test]
fn an_error_after_content_is_a_broken_stream() {
    for recording in recordings().iter().filter(|one| one.id.contains("error-in-stream")) {
        let stream = recording.stream.as_ref().unwrap();
        let failure = decode_stream(stream.as_bytes()).expect_err(&recording.id);
        if stream.contains("\"content\":\"") && !stream.contains("PROCESSING") {
            assert_eq!(failure.kind, FailureKind::MidStream, "{}", recording.id);
        }
    }
}
