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
    /// Whether less of it is left, as a part of the limit.
    fn is_nearer_than(self, other: Self) -> bool {
        let (mine, others) = (u128::from(self.remaining), u128::from(other.remaining));
        mine * u128::from(other.limit) < others * u128::from(self.limit)
    }
}
