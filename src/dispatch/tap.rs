//! Reads an answer beside its caller: the bytes that the caller gets, in the caller's dialect,
//! whole or as they stream, to the pieces that they mean.
//!
//! A tap never holds a byte up and changes none. It works on whatever passes, so that nothing needs
//! to be known of the provider that said it.

use bytes::Bytes;

use super::Call;
use crate::chat::{Assembler, Completion, Delta};
use crate::dialect::Dialect;
use crate::dialect::StreamDecoder;
use crate::dialect::sse::{self, FrameBuffer};
use crate::failure::{Failure, FailureKind};
use crate::journal::EndpointKind;

/// Reads a streamed answer.
#[derive(Debug)]
pub(super) struct Tap {
    frames: FrameBuffer,
    decoder: Box<dyn StreamDecoder>,
    deltas: Vec<Delta>,
}

/// How much of a stream is gathered before it is read: a token that is alone costs the memory that
/// all of this lies in, which the next stream's token has long pushed out of the processor's cache.
const BATCH_BYTES: usize = 4 * 1024;

/// A streamed answer, put together up to a size.
#[derive(Debug)]
pub(super) struct Gatherer {
    /// What is not read yet.
    unread: Vec<u8>,
    tap: Tap,
    assembler: Assembler,
    /// Bytes that may still come.
    room: usize,
    state: Gathered,
}

/// What is known of a streamed answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gathered {
    /// It is still coming.
    Coming,
    /// It is larger than what is wanted.
    TooLarge,
    /// It cannot be read, or it broke.
    Broken,
}

/// Why there is no answer to be had of what passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missed {
    /// It is larger than what is wanted.
    TooLarge,
    /// It cannot be read, or it has no end.
    Broken,
}

// === impl Tap ===

impl Tap {
    /// For an answer in this dialect.
    pub(super) fn new(dialect: Dialect) -> Self {
        let decoder = dialect.codec().stream_decoder();
        Self { frames: FrameBuffer::new(), decoder, deltas: Vec::new() }
    }

    /// Takes what the caller gets next, and says what it means.
    ///
    /// # Errors
    ///
    /// The error event of the stream, or what cannot be read.
    pub(super) fn push(&mut self, bytes: Bytes) -> Result<std::vec::Drain<'_, Delta>, Failure> {
        let whole = self.frames.push(bytes)?;
        for frame in sse::frames(&whole) {
            self.decoder.push(&sse::parse(frame), &mut self.deltas)?;
        }
        Ok(self.deltas.drain(..))
    }

    /// What came before an error.
    pub(super) fn rest(&mut self) -> std::vec::Drain<'_, Delta> {
        self.deltas.drain(..)
    }
}

// === impl Gatherer ===

impl Gatherer {
    /// For an answer in this dialect of at most so many bytes.
    pub(super) fn new(dialect: Dialect, max_bytes: usize) -> Self {
        Self {
            unread: Vec::new(),
            tap: Tap::new(dialect),
            assembler: Assembler::default(),
            room: max_bytes,
            state: Gathered::Coming,
        }
    }

    /// Takes what the caller gets next.
    pub(super) fn push(&mut self, bytes: &Bytes) {
        if self.unread.len() + bytes.len() > BATCH_BYTES {
            self.read_all();
        }
        if self.state != Gathered::Coming {
            return;
        }
        if bytes.len() >= BATCH_BYTES {
            return self.read(bytes.clone());
        }
        if self.unread.capacity() == 0 {
            self.unread.reserve_exact(BATCH_BYTES);
        }
        self.unread.extend_from_slice(bytes);
    }

    /// Reads what was not read yet.
    fn read_all(&mut self) {
        let unread = std::mem::take(&mut self.unread);
        if !unread.is_empty() {
            self.read(unread.into());
        }
    }

    fn read(&mut self, bytes: Bytes) {
        if self.state != Gathered::Coming {
            return;
        }
        let Tap { frames, decoder, deltas } = &mut self.tap;
        let Ok(whole) = frames.push(bytes) else {
            return self.give_up(Gathered::Broken);
        };
        for frame in sse::frames(&whole) {
            if let Some((choice, text)) = decoder.text_of(frame) {
                let Some(left) = self.room.checked_sub(text.len()) else {
                    return self.give_up(Gathered::TooLarge);
                };
                self.room = left;
                if !text.is_empty() {
                    self.assembler.push_text(choice, &text);
                }
                continue;
            }
            if decoder.push(&sse::parse(frame), deltas).is_err() {
                return self.give_up(Gathered::Broken);
            }
            let size = deltas.iter().map(size_of_delta).sum();
            let Some(left) = self.room.checked_sub(size) else {
                return self.give_up(Gathered::TooLarge);
            };
            self.room = left;
            deltas.drain(..).for_each(|delta| self.assembler.push(delta));
        }
    }

    /// What was gathered is of no use.
    fn give_up(&mut self, state: Gathered) {
        self.state = state;
        self.unread = Vec::new();
        self.assembler = Assembler::default();
    }

    /// The answer, of which everything has passed.
    ///
    /// # Errors
    ///
    /// Why there is none.
    pub(super) fn finish(mut self) -> Result<Completion, Missed> {
        self.read_all();
        match self.state {
            Gathered::TooLarge => Err(Missed::TooLarge),
            Gathered::Coming if self.assembler.is_ended() => Ok(self.assembler.finish()),
            Gathered::Coming | Gathered::Broken => Err(Missed::Broken),
        }
    }
}

/// Reads a whole answer as the caller of `call` gets it.
///
/// # Errors
///
/// Where it cannot be read, or is none of words.
pub(super) fn read_whole(call: &Call, body: &[u8]) -> Result<Completion, Failure> {
    match call.kind {
        EndpointKind::Chat | EndpointKind::Messages | EndpointKind::Completions => {
            call.dialect.codec().decode_reply(body)
        }
        EndpointKind::Embeddings | EndpointKind::CountTokens => {
            Err(Failure::new(FailureKind::Degenerate, "no answer in words"))
        }
    }
}

/// Bytes that a piece adds to an answer.
fn size_of_delta(delta: &Delta) -> usize {
    match delta {
        Delta::Text { text, .. } | Delta::Reasoning { text, .. } | Delta::Refusal { text, .. } => {
            text.len()
        }
        Delta::TextOpaque { opaque, .. } | Delta::ReasoningOpaque { opaque, .. } => {
            opaque.value.len()
        }
        Delta::ToolCall { id, name, .. } => id.len() + name.len(),
        Delta::ToolArguments { json, .. } => json.len(),
        Delta::Logprobs { tokens, .. } => {
            let alternatives = tokens.iter().map(|token| 1 + token.top.len());
            alternatives.sum::<usize>().saturating_mul(A_LOGPROB)
        }
        Delta::Other { value, .. } => value.to_string().len(),
        Delta::Start { id, model, .. } => id.len() + model.len(),
        Delta::Finish { .. } | Delta::Usage { .. } | Delta::End => 0,
    }
}

/// What a token's log probability takes, about.
const A_LOGPROB: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::{FinishReason, Part};

    fn chunk(text: &str) -> Bytes {
        let text = serde_json::Value::from(text);
        let json = format!(
            "{{\"id\":\"x\",\"model\":\"m\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":{text}}}}}]}}"
        );
        format!("data: {json}\n\n").into()
    }

    const FINISH: &[u8] =
        b"data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
    const DONE: &[u8] = b"data: [DONE]\n\n";

    fn gathered(pieces: &[Bytes], max_bytes: usize) -> Result<Completion, Missed> {
        let mut gatherer = Gatherer::new(Dialect::OpenAiChat, max_bytes);
        for piece in pieces {
            gatherer.push(piece);
            assert!(gatherer.unread.len() <= BATCH_BYTES);
        }
        gatherer.finish()
    }

    #[test]
    fn a_stream_is_gathered_wherever_it_is_cut_and_whatever_comments_it_has() {
        let all = [
            &b": keep-alive\n\n"[..],
            &chunk("Par"),
            b": keep-alive\n\n",
            &chunk("is."),
            FINISH,
            DONE,
        ]
        .concat();
        for size in [1, 7, all.len()] {
            let pieces: Vec<_> = all.chunks(size).map(Bytes::copy_from_slice).collect();
            let completion = gathered(&pieces, 100).expect("an answer");
            let choice = &completion.choices[0];
            assert_eq!(choice.parts, [Part::text("Paris.")]);
            assert_eq!(choice.finish, Some(FinishReason::Stop));
        }
    }

    #[test]
    fn a_long_answer_is_gathered_in_batches_wherever_it_is_cut() {
        let words: Vec<String> = (0..200).map(|word| format!(" tide {word}")).collect();
        let mut all: Vec<u8> = words.iter().flat_map(|word| chunk(word)).collect();
        all.extend_from_slice(&[FINISH, DONE].concat());
        assert!(all.len() > 3 * BATCH_BYTES);
        let text = words.concat();
        // The id and the model count, too.
        let most = text.len() + "xm".len();
        for size in [1, 7, BATCH_BYTES - 1, BATCH_BYTES, BATCH_BYTES + 1, all.len()] {
            let pieces: Vec<_> = all.chunks(size).map(Bytes::copy_from_slice).collect();
            let completion = gathered(&pieces, most).expect("an answer");
            assert_eq!(completion.choices[0].parts, [Part::text(&text)], "{size}");
            assert_eq!(gathered(&pieces, most - 1).err(), Some(Missed::TooLarge), "{size}");
            assert_eq!(gathered(&pieces, most / 2).err(), Some(Missed::TooLarge), "{size}");
        }
        // A large piece behind small ones.
        let (small, large) = all.split_at(BATCH_BYTES / 2);
        let pieces = [Bytes::copy_from_slice(small), Bytes::copy_from_slice(large)];
        let completion = gathered(&pieces, most).expect("an answer");
        assert_eq!(completion.choices[0].parts, [Part::text(&text)]);
    }

    #[test]
    fn what_has_no_end_or_is_too_large_is_no_answer() {
        let (finish, done) = (Bytes::from_static(FINISH), Bytes::from_static(DONE));
        let (long, short) = (chunk(&"x".repeat(101)), chunk("x"));
        let error = Bytes::from_static(b"data: {\"error\":{\"message\":\"no\"}}\n\n");
        let cases = [
            (vec![short.clone(), finish.clone(), done.clone()], None),
            (vec![short.clone()], Some(Missed::Broken)),
            (vec![short.clone(), finish.clone()], Some(Missed::Broken)),
            (vec![short.clone(), error, finish.clone(), done.clone()], Some(Missed::Broken)),
            (vec![Bytes::from_static(b"data: {oops\n\n"), done.clone()], Some(Missed::Broken)),
            (vec![long, finish, done], Some(Missed::TooLarge)),
        ];
        for (pieces, wanted) in cases {
            assert_eq!(gathered(&pieces, 100).err(), wanted, "{pieces:?}");
        }
    }
}
