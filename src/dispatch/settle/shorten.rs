//! Leaving out the oldest turns of a conversation: which, is counted off the data threads.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::Ledger;
use super::estimate::{Job, Room};
use crate::chat::{self, ChatRequest, Reduced};
use crate::tokens;

/// How long the count is waited for. Many others may wait to be counted, and the caller waits, too;
/// what is not counted by then is guessed.
const COUNT_WITHIN: Duration = Duration::from_secs(1);

/// A conversation that is too long.
#[derive(Debug)]
pub(super) struct TooLong {
    chat: Arc<ChatRequest>,
    room: Option<u64>,
    reply: oneshot::Sender<Option<(ChatRequest, Reduced)>>,
    _room: Room,
}

// === impl Ledger ===

impl Ledger {
    /// Leaves out the oldest turns of a conversation that a model has refused as too long. What is
    /// left has at most `room` tokens, or about half of what there was where the room is not known
    /// or was enough by our count. Nothing where that cannot be reached. `bytes` is the length of
    /// the request.
    pub(in crate::dispatch) async fn reduce(
        &self,
        chat: ChatRequest,
        room: Option<u64>,
        bytes: usize,
    ) -> Option<(ChatRequest, Reduced)> {
        let chat = Arc::new(chat);
        let (reply, reduced) = oneshot::channel();
        // Where the job is not taken the reply is dropped with it, which ends the wait.
        if let Some(space) = self.waiting.take(bytes) {
            let job = TooLong { chat: Arc::clone(&chat), room, reply, _room: space };
            let _ = self.estimates.try_send(Job::Shorten(job));
        } else {
            drop(reply);
        }
        match tokio::time::timeout(COUNT_WITHIN, reduced).await {
            Ok(Ok(reduced)) => reduced,
            Ok(Err(_not_taken)) => shorten(&chat, room, guess),
            Err(_elapsed) => shorten(&chat, room, guess),
        }
    }
}

// === impl TooLong ===

impl TooLong {
    pub(super) fn carry_out(self) {
        // Whoever asked may have left.
        let _ = self.reply.send(shorten(&self.chat, self.room, tokens::count));
    }
}

fn shorten(
    chat: &ChatRequest,
    room: Option<u64>,
    count: fn(&str) -> u64,
) -> Option<(ChatRequest, Reduced)> {
    let mut chat = chat.clone();
    let all = chat::reduce(&mut chat, u64::MAX, count).tokens;
    let known = room.filter(|room| *room < all);
    let reduced = chat::reduce(&mut chat, known.unwrap_or(all / 2), count);
    let helps = reduced.turns > 0 && (reduced.fits || room.is_none());
    helps.then_some((chat, reduced))
}

/// Tokens by length, rather too many than too few: what is left has to fit.
fn guess(text: &str) -> u64 {
    let tokens = tokens::guess(text.len() as u64);
    tokens.saturating_add(tokens / 4)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::{Message, Role};
    use crate::clock::{Instant, SystemWallClock};
    use crate::dispatch::Rolling;
    use crate::journal::{Journal, JournalSettings};
    use crate::rollout::Rollouts;
    use crate::store::Store;
    use crate::telemetry::Metrics;

    fn conversation(turns: usize) -> ChatRequest {
        let words = "the tide comes in ".repeat(25);
        let turn = |_| [Message::text(Role::User, &words), Message::text(Role::Assistant, &words)];
        let mut messages: Vec<_> = (0..turns).flat_map(turn).collect();
        messages.insert(0, Message::text(Role::System, "be brief"));
        messages.push(Message::text(Role::User, "and now?"));
        ChatRequest { messages, ..ChatRequest::default() }
    }

    #[test]
    fn what_is_left_fits_the_room() {
        let (chat, reduced) = shorten(&conversation(10), Some(700), tokens::count).unwrap();
        assert!(reduced.fits && reduced.tokens <= 700 && reduced.tokens > 400, "{reduced:?}");
        assert_eq!(chat.messages[0].role, Role::System);
        assert_eq!(chat.messages.last().unwrap().parts[0].as_text(), Some("and now?"));
        assert_eq!(chat.messages.len() + reduced.messages, 22);
    }

    #[test]
    fn where_the_room_is_not_known_or_was_enough_by_our_count_half_is_left() {
        for room in [None, Some(1_000_000)] {
            let (_, reduced) = shorten(&conversation(10), room, tokens::count).unwrap();
            assert_eq!(reduced.turns, 6, "half of ten turns, instructions and a question");
        }
    }

    #[test]
    fn where_the_last_turn_alone_is_too_long_nothing_is_left_out() {
        assert_eq!(shorten(&conversation(10), Some(3), tokens::count), None);
        assert_eq!(shorten(&conversation(0), None, tokens::count), None);
    }

    #[tokio::test(start_paused = true)]
    async fn the_estimator_counts_and_where_it_is_busy_the_length_decides() {
        let store = Store::new("sqlite:/nowhere/tidegate.db".parse().unwrap());
        let clock = Arc::new(SystemWallClock);
        let (journal, _writer) = Journal::new(&JournalSettings::default(), store, clock.clone());
        let (ledger, estimator) = Ledger::new(
            journal,
            Arc::new(Metrics::new()),
            clock,
            None,
            Rolling::new(Rollouts::new()),
        );
        let began = Instant::now();
        let (_, guessed) = ledger.reduce(conversation(10), Some(700), 5_000).await.unwrap();
        assert_eq!(began.elapsed(), COUNT_WITHIN, "nobody counts");
        let (_open, closing) = tokio::sync::watch::channel(false);
        let began = Instant::now();
        let counted = tokio::select! {
            reduced = ledger.reduce(conversation(10), Some(700), 5_000) => reduced.unwrap().1,
            () = estimator.run(closing) => panic!("it ended by itself"),
        };
        assert_eq!(began.elapsed(), Duration::ZERO);
        assert!(counted.turns < guessed.turns, "{counted:?} {guessed:?}");
    }

    #[test]
    fn a_guess_is_rather_too_high() {
        let text = "The tide comes in twice a day, and goes out as often. ".repeat(25);
        assert!(guess(&text) > tokens::count(&text));
    }
}
