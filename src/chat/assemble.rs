//! The pieces of a streamed answer, put together to a whole one.

use super::{Choice, Completion, Delta, Opaque, Part};

/// Puts the [`Delta`]s of one answer together: the inverse of [`Completion::into_deltas`].
///
/// Memory grows with what is pushed; whoever reads the stream bounds it.
#[derive(Debug, Default)]
pub struct Assembler {
    completion: Completion,
    ended: bool,
}

// === impl Assembler ===

impl Assembler {
    /// Takes the next piece.
    pub fn push(&mut self, delta: Delta) {
        match delta {
            Delta::Start { id, model, created, .. } => {
                let completion = &mut self.completion;
                (completion.id, completion.model, completion.created) = (id, model, created);
            }
            Delta::Text { choice, text } => self.push_text(choice, &text),
            Delta::TextOpaque { choice, opaque } => self.seal_text(choice, opaque),
            Delta::Reasoning { choice, text } => self.append_reasoning(choice, text),
            Delta::ReasoningOpaque { choice, opaque } => self.seal_reasoning(choice, opaque),
            Delta::Refusal { choice, text } => match self.parts(choice).last_mut() {
                Some(Part::Refusal { text: so_far }) => so_far.push_str(&text),
                _ => self.parts(choice).push(Part::Refusal { text }),
            },
            Delta::ToolCall { choice, id, name, opaque, .. } => {
                let arguments = String::new();
                self.parts(choice).push(Part::ToolCall { id, name, arguments, opaque });
            }
            Delta::ToolArguments { choice, call, json } => {
                self.append_arguments(choice, call, &json)
            }
            Delta::Logprobs { choice, mut tokens } => {
                self.choice(choice).logprobs.append(&mut tokens);
            }
            Delta::Other { choice, dialect, value } => {
                self.parts(choice).push(Part::Other { dialect, value });
            }
            Delta::Finish { choice, reason } => self.choice(choice).finish = Some(reason),
            Delta::Usage { usage } => self.completion.usage = Some(usage),
            Delta::End => self.ended = true,
        }
    }

    /// Takes the next piece of an alternative's text.
    pub fn push_text(&mut self, choice: u32, piece: &str) {
        match self.parts(choice).last_mut() {
            Some(Part::Text { text, opaque: None, .. }) => text.push_str(piece),
            _ => self.parts(choice).push(Part::text(piece)),
        }
    }

    /// Whether the wire's own end was seen; an answer without it was cut.
    pub fn is_ended(&self) -> bool {
        self.ended
    }

    /// The answer so far, its alternatives in order.
    pub fn finish(mut self) -> Completion {
        self.completion.choices.sort_by_key(|choice| choice.index);
        self.completion
    }

    fn choice(&mut self, index: u32) -> &mut Choice {
        let choices = &mut self.completion.choices;
        let at = choices.iter().position(|choice| choice.index == index).unwrap_or_else(|| {
            choices.push(Choice { index, ..Choice::default() });
            choices.len() - 1
        });
        &mut choices[at]
    }

    fn parts(&mut self, choice: u32) -> &mut Vec<Part> {
        &mut self.choice(choice).parts
    }

    /// Attaches state to the text so far.
    fn seal_text(&mut self, choice: u32, state: Opaque) {
        match self.parts(choice).last_mut() {
            Some(Part::Text { opaque: opaque @ None, .. }) => *opaque = Some(state),
            _ => {
                let text = String::new();
                self.parts(choice).push(Part::Text { text, cache: None, opaque: Some(state) });
            }
        }
    }

    fn append_reasoning(&mut self, choice: u32, piece: String) {
        match self.parts(choice).last_mut() {
            Some(Part::Reasoning { text, opaque: None }) => text.push_str(&piece),
            _ => self.parts(choice).push(Part::Reasoning { text: piece, opaque: None }),
        }
    }

    /// Ends a block of thinking, or is a hidden one of its own.
    fn seal_reasoning(&mut self, choice: u32, state: Opaque) {
        match self.parts(choice).last_mut() {
            Some(Part::Reasoning { opaque: opaque @ None, .. }) => *opaque = Some(state),
            _ => {
                let text = String::new();
                self.parts(choice).push(Part::Reasoning { text, opaque: Some(state) });
            }
        }
    }

    /// Arguments of a call that was never opened belong to nothing and are left out.
    fn append_arguments(&mut self, choice: u32, call: u32, json: &str) {
        let calls = self.parts(choice).iter_mut().filter_map(|part| match part {
            Part::ToolCall { arguments, .. } => Some(arguments),
            Part::Text { .. }
            | Part::Media(_)
            | Part::ToolResult { .. }
            | Part::Reasoning { .. }
            | Part::Refusal { .. }
            | Part::Other { .. } => None,
        });
        let nth = usize::try_from(call).unwrap_or(usize::MAX);
        if let Some(arguments) = { calls }.nth(nth) {
            arguments.push_str(json);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::{FinishReason, OpaqueKind, Usage};
    use proptest::prelude::*;

    fn opaque(value: &str) -> Opaque {
        Opaque { kind: OpaqueKind::AnthropicSignature, value: value.to_owned() }
    }

    fn assembled(deltas: Vec<Delta>) -> Assembler {
        let mut assembler = Assembler::default();
        deltas.into_iter().for_each(|delta| assembler.push(delta));
        assembler
    }

    fn answer() -> Completion {
        let call = |id: &str, arguments: &str| Part::ToolCall {
            id: id.to_owned(),
            name: "look".to_owned(),
            arguments: arguments.to_owned(),
            opaque: None,
        };
        let parts = vec![
            Part::Reasoning { text: "hm".to_owned(), opaque: Some(opaque("s")) },
            Part::Reasoning { text: String::new(), opaque: Some(opaque("hidden")) },
            Part::text("It is "),
            call("a", "{\"x\":1}"),
            call("b", ""),
        ];
        let first = Choice { parts, finish: Some(FinishReason::ToolCalls), ..Choice::default() };
        let refusal = vec![Part::Refusal { text: "no".to_owned() }];
        let finish = Some(FinishReason::Refusal);
        let second = Choice { index: 1, parts: refusal, finish, ..Choice::default() };
        Completion {
            id: "id".to_owned(),
            model: "model".to_owned(),
            created: 7,
            choices: vec![first, second],
            usage: Some(Usage { input: 3, output: 4, ..Usage::default() }),
            ..Completion::default()
        }
    }

    #[test]
    fn an_answer_taken_apart_is_put_together_as_it_was() {
        let assembler = assembled(answer().into_deltas());
        assert!(assembler.is_ended());
        assert_eq!(assembler.finish(), answer());
    }

    #[test]
    fn an_answer_without_its_end_is_known_to_be_cut() {
        let mut deltas = answer().into_deltas();
        deltas.pop();
        assert!(!assembled(deltas).is_ended());
    }

    #[test]
    fn arguments_of_a_call_that_was_never_opened_are_left_out() {
        let json = "{}".to_owned();
        let whole = assembled(vec![Delta::ToolArguments { choice: 0, call: 3, json }]).finish();
        assert!(whole.choices[0].parts.is_empty());
    }

    proptest! {
        #[test]
        fn where_text_is_cut_changes_nothing(text in "[a-zé ]{1,40}", cut in 0usize..40) {
            let at = text.char_indices().nth(cut).map_or(text.len(), |(at, _)| at);
            let (head, tail) = text.split_at(at);
            let pieces = [head, tail].into_iter().filter(|piece| !piece.is_empty());
            let deltas = pieces.map(|text| Delta::Text { choice: 0, text: text.to_owned() });
            let whole = assembled(deltas.collect()).finish();
            prop_assert_eq!(whole.choices[0].parts.clone(), vec![Part::text(text)]);
        }
    }
}
