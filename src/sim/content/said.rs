//! One alternative of an answer: how a stream tells it, and the whole.

use crate::chat::{Choice, Delta, FinishReason, Logprob, Opaque, Part, TopLogprob, Usage};

/// One alternative of an answer, cut into tokens.
#[derive(Debug, Clone, Default, PartialEq)]
pub(in crate::sim) struct Said {
    pub(in crate::sim) reasoning: Vec<String>,
    pub(in crate::sim) reasoning_opaque: Option<Opaque>,
    pub(in crate::sim) text: Vec<String>,
    pub(in crate::sim) text_opaque: Option<Opaque>,
    pub(in crate::sim) calls: Vec<Call>,
    pub(in crate::sim) finish: Option<FinishReason>,
    /// How many alternatives to each token, where log probabilities are asked for.
    pub(in crate::sim) logprobs: Option<u32>,
}

/// A tool call, its arguments cut into tokens.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::sim) struct Call {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) pieces: Vec<String>,
    pub(super) opaque: Option<Opaque>,
}

// === impl Said ===

impl Said {
    /// A complete answer without content.
    pub(in crate::sim) fn nothing() -> Self {
        Self { finish: Some(FinishReason::Stop), ..Self::default() }
    }

    /// Sees to it that there is a character to split.
    pub(in crate::sim) fn ensure_multibyte(&mut self) {
        if self.text.iter().all(|token| token.is_ascii()) {
            self.text.push(" 🌊".to_owned());
        }
    }

    /// The answer as a stream tells it: one group of deltas for each token.
    pub(in crate::sim) fn beats(&self, choice: u32) -> Vec<Vec<Delta>> {
        let mut beats: Vec<Vec<Delta>> = Vec::new();
        for text in &self.reasoning {
            beats.push(vec![Delta::Reasoning { choice, text: text.clone() }]);
        }
        if let Some(opaque) = &self.reasoning_opaque {
            attach(&mut beats, Delta::ReasoningOpaque { choice, opaque: opaque.clone() });
        }
        for text in &self.text {
            let mut beat = vec![Delta::Text { choice, text: text.clone() }];
            if let Some(top) = self.logprobs {
                beat.push(Delta::Logprobs { choice, tokens: vec![logprob(text, top)] });
            }
            beats.push(beat);
        }
        if let Some(opaque) = &self.text_opaque {
            attach(&mut beats, Delta::TextOpaque { choice, opaque: opaque.clone() });
        }
        for (call, ordinal) in self.calls.iter().zip(0..) {
            let (id, name, opaque) = (call.id.clone(), call.name.clone(), call.opaque.clone());
            beats.push(vec![Delta::ToolCall { choice, call: ordinal, id, name, opaque }]);
            for json in &call.pieces {
                let json = json.clone();
                beats.push(vec![Delta::ToolArguments { choice, call: ordinal, json }]);
            }
        }
        beats
    }

    /// The answer as a whole.
    pub(in crate::sim) fn choice(&self, index: u32) -> Choice {
        let mut parts = Vec::new();
        if !self.reasoning.is_empty() || self.reasoning_opaque.is_some() {
            let opaque = self.reasoning_opaque.clone();
            parts.push(Part::Reasoning { text: self.reasoning.concat(), opaque });
        }
        if !self.text.is_empty() {
            let (text, opaque) = (self.text.concat(), self.text_opaque.clone());
            parts.push(Part::Text { text, cache: None, opaque });
        }
        for call in &self.calls {
            parts.push(Part::ToolCall {
                id: call.id.clone(),
                name: call.name.clone(),
                arguments: call.pieces.concat(),
                opaque: call.opaque.clone(),
            });
        }
        let logprobs = match self.logprobs {
            Some(top) => self.text.iter().map(|token| logprob(token, top)).collect(),
            None => Vec::new(),
        };
        Choice { index, parts, finish: self.finish.clone(), logprobs }
    }

    /// Tokens of the answer, thinking apart.
    pub(in crate::sim) fn usage(&self) -> Usage {
        let calls: usize = self.calls.iter().map(|call| 1 + call.pieces.len()).sum();
        Usage {
            output: (self.text.len() + calls) as u64,
            reasoning: self.reasoning.len() as u64,
            ..Usage::default()
        }
    }

    /// Honours stop texts first, then the limit of tokens, thinking included.
    pub(super) fn stop_early(&mut self, stops: &[String], limit: Option<u64>) {
        let text = self.text.concat();
        let stops = stops.iter().filter(|stop| !stop.is_empty());
        let first = stops.filter_map(|stop| text.find(stop.as_str()).map(|at| (at, stop))).min();
        if let Some((at, stop)) = first {
            cut_at_byte(&mut self.text, at);
            self.finish = Some(FinishReason::StopSequence(Some(stop.clone())));
        }
        if let Some(limit) = limit {
            self.cut_to(usize::try_from(limit).unwrap_or(usize::MAX));
        }
    }

    fn cut_to(&mut self, limit: usize) {
        let mut room = limit;
        let mut keep = |tokens: &mut Vec<String>| {
            let cut = tokens.len() > room;
            tokens.truncate(room);
            room -= tokens.len();
            cut
        };
        let mut cut = keep(&mut self.reasoning);
        cut |= keep(&mut self.text);
        let mut calls = Vec::new();
        for mut call in std::mem::take(&mut self.calls) {
            // The name of a tool is a token too.
            let mut name = vec![String::new()];
            cut |= keep(&mut name);
            if name.is_empty() {
                break;
            }
            cut |= keep(&mut call.pieces);
            calls.push(call);
        }
        self.calls = calls;
        if cut {
            self.finish = Some(FinishReason::Length);
        }
    }
}

fn attach(beats: &mut Vec<Vec<Delta>>, delta: Delta) {
    match beats.last_mut() {
        Some(beat) => beat.push(delta),
        None => beats.push(vec![delta]),
    }
}

fn cut_at_byte(tokens: &mut Vec<String>, at: usize) {
    let mut left = at;
    for token in tokens.iter_mut() {
        let keep = left.min(token.len());
        token.truncate(keep);
        left -= keep;
    }
    tokens.retain(|token| !token.is_empty());
}

/// Log probabilities that look like a sure model's: they fall with the token's length.
fn logprob(token: &str, top: u32) -> Logprob {
    #[expect(clippy::cast_precision_loss, reason = "a token's length is small")]
    let value = -0.01 * token.len() as f64;
    let alternatives = (0..top.min(20)).map(|rank| {
        let text = if rank == 0 { token.to_owned() } else { format!("{token}{rank}") };
        TopLogprob {
            bytes: Some(text.clone().into_bytes()),
            token: text,
            logprob: value - f64::from(rank),
        }
    });
    Logprob {
        token: token.to_owned(),
        logprob: value,
        bytes: Some(token.as_bytes().to_vec()),
        top: alternatives.collect(),
    }
}
