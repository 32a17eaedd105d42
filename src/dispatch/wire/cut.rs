//! Answers that a limit ends.

use bytes::Bytes;

use super::{Notes, Part, Path, Translated, Wire, note};
use crate::chat::{Delta, FinishReason};
use crate::tokens;

// === impl Wire ===

impl Wire {
    /// Ends the answer here, as if the model had come to its `max_tokens`; what the caller is still
    /// owed. `input_tokens` is what its prompt is taken for. `None` where the answer passes as it
    /// came, so that nobody knows what is open in it.
    pub(in crate::dispatch) fn cut_short(&mut self, input_tokens: u64) -> Option<Bytes> {
        let Path::Translated(translated) = &mut self.lane else { return None };
        if self.ended {
            return None;
        }
        let end = translated.cut_short(input_tokens, &self.notes)?;
        self.ended = true;
        Some(end.into())
    }
}

// === impl Translated ===

impl Translated {
    fn cut_short(&mut self, input_tokens: u64, notes: &Notes) -> Option<Vec<u8>> {
        let (Part::First(encoder) | Part::Second(encoder, _)) = &mut self.part else { return None };
        let mut out = Vec::new();
        if self.summary.finish.is_none() {
            for choice in 0..self.choices {
                let finish = Delta::Finish { choice, reason: FinishReason::Length };
                note(&mut self.summary, &finish);
                encoder.push(&finish, &mut out);
            }
        }
        let mut usage = self.summary.usage.unwrap_or_default();
        if usage.total_input() == 0 {
            usage.input = input_tokens;
        }
        usage.output = usage.output.max(tokens::guess(self.summary.text.bytes()));
        encoder.set_extension(notes.extension(Some(usage), None));
        encoder.push(&Delta::Usage { usage }, &mut out);
        encoder.push(&Delta::End, &mut out);
        Some(out)
    }
}
