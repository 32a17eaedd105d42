//! What providers bill: the tokens that they have really read and made.
//!
//! A prompt is billed once its provider begins to work on it, and a token when it is made, which is
//! on the provider's own time, however slowly it is fetched. Who leaves pays for what was made by
//! then; who is refused, or gets no connection, pays nothing.

use std::time::Duration;

use crate::chat::Usage;

/// What one request was billed for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bill {
    /// The simulated host; empty on a socket that names none.
    pub host: String,
    /// The model.
    pub model: String,
    /// What the request called itself by `[[sim:label=…]]`; empty where it did not.
    pub label: String,
    /// The tokens.
    pub usage: Usage,
    /// Whether the provider was left before it had said everything.
    pub is_cancelled: bool,
}

/// What a request will be billed for, as time goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tab {
    /// What the request calls itself.
    pub label: String,
    /// The prompt, and all of the answer.
    pub usage: Usage,
    /// When each token of the answer is made, since the request came in; those that a fault
    /// prevents are left out.
    pub beats: Vec<Duration>,
}

// === impl Tab ===

impl Tab {
    /// What is to be paid when so much time has passed. Thinking comes first.
    pub fn by(&self, elapsed: Duration) -> Usage {
        let made = self.beats.iter().take_while(|beat| **beat <= elapsed).count() as u64;
        let made = made.min(self.usage.total_output());
        let reasoning = self.usage.reasoning.min(made);
        Usage { output: made - reasoning, reasoning, ..self.usage }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_billed_when_they_are_made() {
        let usage = Usage { input: 7, output: 2, reasoning: 1, ..Usage::default() };
        let beats = [10, 20, 30].map(Duration::from_millis).to_vec();
        let tab = Tab { label: String::new(), usage, beats };
        let by = |ms| {
            let usage = tab.by(Duration::from_millis(ms));
            (usage.input, usage.reasoning, usage.output)
        };
        assert_eq!(
            [0, 10, 29, 30, 99].map(by),
            [(7, 0, 0), (7, 1, 0), (7, 1, 1), (7, 1, 2), (7, 1, 2)]
        );
    }
}
