//! How much is left of what limits a request, for the headers of its reply.

use std::time::Duration;

use super::Locked;
use crate::quota::{Counted, Moment};

/// How much is left of what is nearest to its end, of each kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Standing {
    /// When it was so, in milliseconds since 1970.
    pub at_ms: u64,
    /// Of requests.
    pub requests: Option<Level>,
    /// Of tokens in and out together.
    pub tokens: Option<Level>,
    /// Of tokens of prompts.
    pub input_tokens: Option<Level>,
    /// Of tokens of answers.
    pub output_tokens: Option<Level>,
}

/// How much is left of one limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Level {
    /// The limit.
    pub limit: u64,
    /// What is left of it now.
    pub remaining: u64,
    /// How long until nothing of it is used.
    pub reset: Duration,
}

/// The standing of a request, once it has or has not taken its part.
pub(super) fn of(subjects: &[Locked<'_>], moment: Moment) -> Standing {
    let mut standing = Standing { at_ms: moment.unix_ms, ..Standing::default() };
    for (dimension, meter) in subjects.iter().flat_map(|subject| subject.meters()) {
        let place = match dimension.counted {
            Counted::Requests => &mut standing.requests,
            Counted::Tokens => &mut standing.tokens,
            Counted::InputTokens => &mut standing.input_tokens,
            Counted::OutputTokens => &mut standing.output_tokens,
            Counted::Money | Counted::Concurrent => continue,
        };
        let (limit, remaining, reset) = meter.standing(moment);
        let level = Level { limit, remaining, reset };
        if place.is_none_or(|nearest| level.is_nearer_than(nearest)) {
            *place = Some(level);
        }
    }
    standing
}

// === impl Standing ===

impl Standing {
    /// What is left of tokens, of whichever kind is limited.
    pub fn any_tokens(&self) -> Option<Level> {
        let all = [self.tokens, self.input_tokens, self.output_tokens];
        all.into_iter()
            .flatten()
            .reduce(|nearest, level| if level.is_nearer_than(nearest) { level } else { nearest })
    }
}

// === impl Level ===

impl Level {
    /// Whether less of it can be used now; of equals, the one for which one waits longer.
    fn is_nearer_than(self, other: Self) -> bool {
        self.remaining < other.remaining
            || (self.remaining == other.remaining && self.reset > other.reset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_that_lets_least_through_now_is_told() {
        let level = |limit, remaining, reset_s| {
            Some(Level { limit, remaining, reset: Duration::from_secs(reset_s) })
        };
        let told = |input_tokens, output_tokens| {
            Standing { input_tokens, output_tokens, ..Standing::default() }.any_tokens()
        };
        // Of 600 a minute 100 may be used at once, which is a small part, and more than 3 of 12.
        let (wide, narrow) = (level(600, 100, 1), level(12, 3, 45));
        assert_eq!(told(wide, narrow), narrow);
        assert_eq!(told(narrow, wide), narrow);
        let (soon, late) = (level(600, 0, 1), level(12, 0, 45));
        assert_eq!(told(soon, late), late);
        assert_eq!(told(late, soon), late);
    }
}
