//! Streams that get to a limit of their caller's.

use super::{AnswerStream, Live, State};
use crate::clock::Instant;
use crate::limits::Flow;
use crate::tokens;

// === impl AnswerStream ===

impl AnswerStream {
    /// Counts what is sent towards the caller's limits.
    pub(super) fn count(&mut self) -> Flow {
        let (State::Live(live), Some(account)) = (&mut self.state, &mut self.account) else {
            return Flow::GoOn;
        };
        let is_told = live.wire.saw_terminal();
        let tokens = std::mem::take(&mut live.uncounted);
        if is_told { Flow::GoOn } else { account.on_tokens(tokens) }
    }

    /// Ends the answer where a limit ends it, as if the model had come to its `max_tokens`.
    pub(super) fn cut_short(&mut self) {
        let (State::Live(live), Some(account)) = (&mut self.state, &self.account) else { return };
        let input_tokens = tokens::guess(account.prompt_bytes());
        let Some(end) = live.wire.cut_short(input_tokens) else { return };
        self.keeping = None;
        self.expiry.clear();
        let State::Live(live) = std::mem::replace(&mut self.state, State::Last(end)) else {
            return;
        };
        let Live { wire, ticket, .. } = *live;
        if let Some(ticket) = ticket {
            ticket.succeed(None, Instant::now());
        }
        if let Some(account) = self.account.take() {
            account.cut_short(wire.summary());
        }
    }
}
