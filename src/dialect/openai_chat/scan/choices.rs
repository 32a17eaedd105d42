//! The alternatives of a stream: which came up, and how they ended.

use super::super::wire::settle_finish;
use crate::chat::FinishReason;
use crate::dialect::{Expected, StreamFinish};

/// Which alternatives came up, which called tools, and which ended. The API allows 128; what lies
/// beyond is counted as the last.
#[derive(Debug, Default)]
pub(super) struct Choices {
    seen: u128,
    called: u128,
    finished: u128,
    /// How many were asked for; 0 where that is not known.
    expected: u32,
    /// Whether a reason has to be given, where that is known.
    finish: Option<StreamFinish>,
    /// Whether there was a field for the reason at all.
    has_field: bool,
    /// Whether usage came in an event of its own.
    is_counted: bool,
    /// How the lowest of those that ended did, by the provider's word alone.
    ending: Option<(u32, FinishReason)>,
}

// === impl Choices ===

impl Choices {
    /// Notes a piece of an alternative, and whether it calls tools.
    pub(super) fn see(&mut self, index: u32, has_calls: bool) {
        let bit = bit(index);
        self.seen |= bit;
        if has_calls {
            self.called |= bit;
        }
    }

    /// Notes the end of an alternative. The first word stands where it is repeated.
    pub(super) fn end(&mut self, index: u32, reason: FinishReason) {
        let bit = bit(index);
        if self.finished & bit == 0 {
            self.finished |= bit;
            if self.ending.as_ref().is_none_or(|(lowest, _)| index < *lowest) {
                self.ending = Some((index, reason));
            }
        }
    }

    /// Says how many have to end, and whether they have to say how.
    pub(super) fn expect(&mut self, expected: Expected) {
        self.expected = expected.choices.min(u128::BITS);
        self.finish = Some(expected.finish);
    }

    /// Notes that an alternative has a field for the reason, whatever is in it.
    pub(super) fn see_field(&mut self) {
        self.has_field = true;
    }

    /// Notes that usage came in an event of its own.
    pub(super) fn see_usage(&mut self) {
        self.is_counted = true;
    }

    /// Whether the last marker cannot be believed: an alternative came up and did not say why it
    /// ended, although it should have.
    pub(super) fn lack_finish(&self) -> bool {
        let is_known_to_omit = !self.has_field && self.is_counted;
        self.finish == Some(StreamFinish::Required)
            && self.seen & !self.finished != 0
            && !is_known_to_omit
    }

    /// Whether all that came up ended, and as many as were asked for.
    pub(super) fn are_finished(&self) -> bool {
        let all_came = self.finished.count_ones() >= self.expected;
        self.seen != 0 && self.seen == self.finished && all_came
    }

    /// How the first alternative ended, as far as is known: what is called after the word counts.
    pub(super) fn finish(&self) -> Option<FinishReason> {
        let (index, reason) = self.ending.as_ref()?;
        settle_finish(Some(reason.clone()), self.called & bit(*index) != 0)
    }

    /// The same where the stream is over: a few never say why they ended, but their last marker
    /// says that they did.
    pub(super) fn finish_at_end(&self) -> Option<FinishReason> {
        let first = 1_u128.checked_shl(self.seen.trailing_zeros())?;
        if self.finished & first != 0 {
            return self.finish();
        }
        settle_finish(None, self.called & first != 0).or(Some(FinishReason::Stop))
    }
}

fn bit(index: u32) -> u128 {
    1 << index.min(u128::BITS - 1)
}
