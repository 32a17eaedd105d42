//! Recorded streams between this wire and the others: what both can say is kept.

use super::recordings::{every, streams};
use super::*;

/// Writes deltas with a codec and reads them back with it.
fn through(codec: &dyn Codec, deltas: &[Delta]) -> Said {
    let mut encoder = codec.stream_encoder(context());
    let mut wire = Vec::new();
    for delta in deltas {
        encoder.push(delta, &mut wire);
    }
    Said::of_deltas(&decode_with(codec, &wire).unwrap())
}

/// What every wire can say: no signatures, and no word for a stop text.
fn common(mut said: Said) -> Said {
    said.signatures.clear();
    for finish in said.finish.iter_mut().flatten() {
        if let FinishReason::StopSequence(_) = finish {
            *finish = FinishReason::Stop;
        }
    }
    said
}

#[test]
fn recorded_streams_of_this_wire_can_be_told_in_every_other() {
    for recording in streams() {
        let deltas = decode_events(&recording.events).unwrap();
        let expected = common(Said::of_deltas(&deltas));
        for dialect in Dialect::ALL {
            let told = common(through(dialect.codec(), &deltas));
            assert_eq!(told, expected, "{} as {dialect}", recording.id);
        }
    }
}

#[test]
fn recorded_streams_of_other_wires_can_be_told_in_this_one() {
    let others = [("chat.completions", Dialect::OpenAiChat), ("messages", Dialect::Anthropic)];
    for (api, dialect) in others {
        for (id, body) in every(api) {
            // Recordings of errors and cuts have nothing to tell.
            let Ok(deltas) = decode_with(dialect.codec(), &body) else {
                continue;
            };
            let mut expected = common(Said::of_deltas(&deltas));
            if let Some(usage) = &mut expected.usage {
                // This wire has no count for what was written to a cache.
                usage.input += std::mem::take(&mut usage.cache_write);
            }
            for (calls, finish) in expected.calls.iter_mut().zip(&mut expected.finish) {
                calls.retain(|(_, _, arguments)| arguments.is_object());
                normalise(finish, !calls.is_empty());
            }
            let told = common(through(&Gemini, &deltas));
            assert_eq!(told, expected, "{id}");
        }
    }
}

/// This wire tells calls from their presence, and has no pause and no refusal of its own.
fn normalise(finish: &mut Option<FinishReason>, has_calls: bool) {
    *finish = finish.take().map(|reason| match reason {
        FinishReason::Stop | FinishReason::ToolCalls | FinishReason::Pause if has_calls => {
            FinishReason::ToolCalls
        }
        FinishReason::ToolCalls | FinishReason::Pause => FinishReason::Stop,
        FinishReason::Refusal => FinishReason::ContentFilter,
        FinishReason::Other(_) => FinishReason::Other("OTHER".to_owned()),
        FinishReason::Stop
        | FinishReason::StopSequence(_)
        | FinishReason::Length
        | FinishReason::ContentFilter => reason,
    });
}
