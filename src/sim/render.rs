//! Writes what was made up with the dialect's own encoder.

use super::content::Said;
use super::engine::Turn;
use super::error::Complaint;
use super::fault::Fault;
use super::route::ChatPath;
use super::script::Step;
use super::timing::{self, Frames, Pace};
use crate::chat::{ChatRequest, Completion, Delta, FinishReason, Usage};
use crate::dialect::{Dialect, ReplyContext, StreamEncoder};
use http::StatusCode;

/// How an answer goes out.
#[derive(Debug)]
pub(super) struct Form<'a> {
    pub(super) path: &'a ChatPath,
    pub(super) pace: &'a Pace,
    pub(super) fault: Option<&'a Fault>,
}

/// The body of a completion.
pub(super) fn completion(
    turn: &Turn<'_>,
    chat: &ChatRequest,
    said: &[Said],
    usage: Usage,
    form: &Form<'_>,
) -> Vec<Step> {
    let context = ReplyContext {
        request_id: turn.id.clone(),
        model: chat.model.clone(),
        created: turn.now.unix_ms / 1_000,
        include_usage: chat.include_usage || form.path.dialect != Dialect::OpenAiChat,
    };
    if !chat.stream {
        let body = match form.fault {
            Some(Fault::ErrorEvent(_)) => {
                error(turn).body(form.path.dialect, &turn.id).to_string().into_bytes()
            }
            _ => {
                let completion = whole(turn, chat, said, usage, form.fault);
                form.path.dialect.codec().encode_reply(&completion, &context)
            }
        };
        return timing::whole(body, form.fault);
    }
    let start = Delta::Start {
        id: answer_id(form.path.dialect, turn),
        model: chat.model.clone(),
        created: context.created,
        usage: Usage { output: 0, reasoning: 0, ..usage },
    };
    let encoder = form.path.dialect.codec().stream_encoder(context);
    let mut frames = frames(encoder, &start, said, usage);
    frames.error = error(turn).event(form.path.dialect, &turn.id);
    if form.path.dialect == Dialect::Gemini {
        // Gemini's last event is the finish itself; there is no marker after it.
        let last = std::mem::take(&mut frames.end);
        frames.usage.extend(last);
    }
    if form.path.array {
        as_array(&mut frames);
    }
    timing::stream(frames, form.pace, form.fault)
}

fn whole(
    turn: &Turn<'_>,
    chat: &ChatRequest,
    said: &[Said],
    usage: Usage,
    fault: Option<&Fault>,
) -> Completion {
    let mut choices: Vec<_> =
        said.iter().zip(0..).map(|(said, index)| said.choice(index)).collect();
    if fault == Some(&Fault::NoTerminal) {
        choices.iter_mut().for_each(|choice| choice.finish = None);
    }
    Completion {
        id: answer_id(turn.dialect, turn),
        model: chat.model.clone(),
        created: turn.now.unix_ms / 1_000,
        choices,
        usage: Some(usage),
        ..Completion::default()
    }
}

/// The id of an answer as the dialect's provider makes them.
fn answer_id(dialect: Dialect, turn: &Turn<'_>) -> String {
    let unique = turn.id.trim_start_matches("req_");
    match dialect {
        Dialect::OpenAiChat => format!("chatcmpl-{unique}"),
        Dialect::Anthropic => format!("msg_{unique}"),
        Dialect::Gemini => unique.to_owned(),
    }
}

/// One frame for each token; alternatives take turns, as those of real providers do.
fn frames(
    mut encoder: Box<dyn StreamEncoder>,
    start: &Delta,
    said: &[Said],
    usage: Usage,
) -> Frames {
    let mut write = |deltas: &[Delta]| {
        let mut bytes = Vec::new();
        deltas.iter().for_each(|delta| encoder.push(delta, &mut bytes));
        bytes
    };
    let mut frames = Frames { preamble: write(std::slice::from_ref(start)), ..Frames::default() };
    let mut choices: Vec<_> =
        said.iter().zip(0..).map(|(said, choice)| said.beats(choice).into_iter()).collect();
    loop {
        let before = frames.tokens.len();
        for choice in &mut choices {
            frames.tokens.extend(choice.next().map(|beat| write(&beat)));
        }
        if frames.tokens.len() == before {
            break;
        }
    }
    let finish: Vec<Delta> = said
        .iter()
        .zip(0..)
        .map(|(said, choice)| Delta::Finish {
            choice,
            reason: said.finish.clone().unwrap_or(FinishReason::Stop),
        })
        .collect();
    frames.finish = write(&finish);
    frames.usage = write(&[Delta::Usage { usage }]);
    frames.end = write(&[Delta::End]);
    frames
}

fn error(turn: &Turn<'_>) -> Complaint {
    let status = match turn.dialect {
        Dialect::OpenAiChat => StatusCode::INTERNAL_SERVER_ERROR,
        Dialect::Anthropic => StatusCode::from_u16(529).unwrap_or(StatusCode::SERVICE_UNAVAILABLE),
        Dialect::Gemini => StatusCode::SERVICE_UNAVAILABLE,
    };
    Complaint::of_status(status, turn.dialect, "")
}

/// Turns server-sent events into the elements of one JSON array, as Gemini streams them without
/// `alt=sse`.
fn as_array(frames: &mut Frames) {
    let mut first = true;
    let error = std::mem::take(&mut frames.error);
    let parts = [&mut frames.preamble].into_iter().chain(&mut frames.tokens);
    for part in parts.chain([&mut frames.finish, &mut frames.usage]) {
        *part = elements(part, &mut first);
    }
    frames.error = elements(&error, &mut false);
    frames.end = elements(&frames.end, &mut first);
    frames.end.extend_from_slice(b"]");
}

fn elements(frames: &[u8], first: &mut bool) -> Vec<u8> {
    let mut rest = frames;
    let mut out = Vec::new();
    while let Some((frame, tail)) =
        crate::dialect::sse::frame_len(rest).and_then(|length| rest.split_at_checked(length))
    {
        rest = tail;
        if let Some(data) = crate::dialect::sse::first_data(frame) {
            out.extend_from_slice(if *first { b"[" } else { b",\r\n" });
            out.extend_from_slice(data);
            *first = false;
        }
    }
    out
}
