//! What is written is read back as what it was.

use proptest::prelude::*;

use super::*;
use crate::chat::{Choice, Extra, Logprob, Opaque, OpaqueKind, TopLogprob, Usage};

fn opaque() -> impl Strategy<Value = Option<Opaque>> {
    prop::option::of("[a-z]{1,6}")
        .prop_map(|value| value.map(|value| Opaque { kind: OpaqueKind::GeminiSignature, value }))
}

fn arguments() -> impl Strategy<Value = String> {
    prop::collection::btree_map("[a-z]{1,3}", "\\PC{0,6}", 0..3)
        .prop_map(|all| serde_json::to_string(&all).unwrap())
}

fn part() -> impl Strategy<Value = Part> {
    prop_oneof![
        ("\\PC{1,12}", opaque()).prop_map(|(text, opaque)| Part::Text {
            text,
            cache: None,
            opaque
        }),
        ("\\PC{1,12}", opaque()).prop_map(|(text, opaque)| Part::Reasoning { text, opaque }),
        "[A-Za-z0-9+/]{4,8}".prop_map(|data| png(&data)),
        ("[a-z]{1,8}", arguments(), opaque()).prop_map(|(name, arguments, opaque)| {
            Part::ToolCall { id: String::new(), name, arguments, opaque }
        }),
        Just(Part::Other {
            dialect: "gemini".into(),
            value: json!({ "executableCode": { "language": "PYTHON", "code": "1" } }),
        }),
    ]
}

fn finish() -> impl Strategy<Value = FinishReason> {
    prop_oneof![
        Just(FinishReason::Stop),
        Just(FinishReason::Length),
        Just(FinishReason::ContentFilter),
        Just(FinishReason::Other("OTHER".into())),
    ]
}

fn usage() -> impl Strategy<Value = Option<Usage>> {
    prop::option::of((0_u64..99, 0_u64..99, 0_u64..99, 0_u64..99).prop_map(
        |(input, cached_input, output, reasoning)| Usage {
            input,
            cached_input,
            cache_write: 0,
            output,
            reasoning,
        },
    ))
}

fn completion() -> impl Strategy<Value = Completion> {
    let choice = (prop::collection::vec(part(), 0..5), finish());
    (prop::collection::vec(choice, 1..3), usage(), 0_u64..2_000_000_000).prop_map(
        |(choices, usage, created)| Completion {
            id: "r-1".into(),
            model: "m-1".into(),
            created,
            choices: choices.into_iter().enumerate().map(number).collect(),
            usage,
            extra_dialect: "gemini".into(),
            extra: Extra::new(),
        },
    )
}

fn number((at, (mut parts, finish)): (usize, (Vec<Part>, FinishReason))) -> Choice {
    let mut has_calls = false;
    for (nth, part) in parts.iter_mut().enumerate() {
        if let Part::ToolCall { id, .. } = part {
            *id = format!("id-{at}-{nth}");
            has_calls = true;
        }
    }
    let is_call = has_calls && finish == FinishReason::Stop;
    let finish = if is_call { FinishReason::ToolCalls } else { finish };
    Choice { index: at as u32, parts, finish: Some(finish), logprobs: Vec::new() }
}

/// A completion as a stream, text and arguments in pieces.
fn deltas_of(completion: &Completion) -> Vec<Delta> {
    let mut out = vec![Delta::Start {
        id: completion.id.clone(),
        model: completion.model.clone(),
        created: completion.created,
        usage: Usage::default(),
    }];
    for choice in &completion.choices {
        let (choice, parts) = (choice.index, &choice.parts);
        let mut call = 0;
        for part in parts {
            match part {
                Part::Text { text, opaque, .. } => {
                    out.extend(text.chars().map(|c| Delta::Text { choice, text: c.into() }));
                    out.extend(opaque.clone().map(|opaque| Delta::TextOpaque { choice, opaque }));
                }
                Part::Reasoning { text, opaque } => {
                    out.push(Delta::Reasoning { choice, text: text.clone() });
                    let opaque = opaque.clone();
                    out.extend(opaque.map(|opaque| Delta::ReasoningOpaque { choice, opaque }));
                }
                Part::ToolCall { id, name, arguments, opaque } => {
                    let (id, name, opaque) = (id.clone(), name.clone(), opaque.clone());
                    out.push(Delta::ToolCall { choice, call, id, name, opaque });
                    out.extend(arguments.chars().map(|c| Delta::ToolArguments {
                        choice,
                        call,
                        json: c.into(),
                    }));
                    call += 1;
                }
                Part::Other { dialect, value } => out.push(Delta::Other {
                    choice,
                    dialect: dialect.clone(),
                    value: value.clone(),
                }),
                Part::Media(_) | Part::ToolResult { .. } | Part::Refusal { .. } => {}
            }
        }
    }
    for choice in &completion.choices {
        let reason = choice.finish.clone().unwrap();
        out.push(Delta::Finish { choice: choice.index, reason });
    }
    out.extend(completion.usage.map(|usage| Delta::Usage { usage }));
    out.push(Delta::End);
    out
}

proptest! {
    #[test]
    fn a_reply_that_is_written_is_read_back(completion in completion()) {
        let wire = Gemini.encode_reply(&completion, &context());
        prop_assert_eq!(Gemini.decode_reply(&wire).unwrap(), completion);
    }

    #[test]
    fn a_stream_that_is_written_is_read_back(completion in completion()) {
        let deltas = deltas_of(&completion);
        let mut encoder = Gemini.stream_encoder(context());
        let mut wire = Vec::new();
        for delta in &deltas {
            encoder.push(delta, &mut wire);
        }
        let read = decode_sse(&wire).unwrap();
        prop_assert_eq!(Said::of_deltas(&read), Said::of_deltas(&deltas));
        prop_assert_eq!(&read[0], &deltas[0]);
        let others = |deltas: &[Delta]| -> Vec<Delta> {
            let is_other = |delta: &&Delta| matches!(delta, Delta::Other { .. });
            deltas.iter().filter(is_other).cloned().collect()
        };
        prop_assert_eq!(others(&read), others(&deltas));
        let mut scanner = Gemini.scanner();
        let mut rest = wire.as_slice();
        while let Some(len) = sse::frame_len(rest) {
            let (frame, tail) = rest.split_at(len);
            scanner.scan(frame).unwrap();
            rest = tail;
        }
        prop_assert!(rest.is_empty());
        prop_assert!(scanner.is_complete());
        prop_assert_eq!(scanner.summary().usage, completion.usage);
    }
}

#[test]
fn log_probabilities_are_read_back() {
    let token = Logprob {
        token: "a".into(),
        logprob: -0.5,
        bytes: None,
        top: vec![TopLogprob { token: "b".into(), logprob: -1.5, bytes: None }],
    };
    let choice = Choice { logprobs: vec![token.clone()], ..Choice::default() };
    let completion = Completion { choices: vec![choice], ..Completion::default() };
    let wire = Gemini.encode_reply(&completion, &context());
    assert_eq!(Gemini.decode_reply(&wire).unwrap().choices[0].logprobs, vec![token.clone()]);
    let mut encoder = Gemini.stream_encoder(context());
    let mut wire = Vec::new();
    let logprobs = Delta::Logprobs { choice: 0, tokens: vec![token] };
    let finish = Delta::Finish { choice: 0, reason: FinishReason::Stop };
    for delta in [&logprobs, &finish, &Delta::End] {
        encoder.push(delta, &mut wire);
    }
    assert!(decode_sse(&wire).unwrap().contains(&logprobs));
}

#[test]
fn an_answer_without_a_name_gets_the_gateways() {
    let wire = Gemini.encode_reply(&Completion::default(), &context());
    let body: Value = serde_json::from_slice(&wire).unwrap();
    assert_eq!(body["responseId"], "req-1");
    assert_eq!(body["modelVersion"], "gemini-test");
}
