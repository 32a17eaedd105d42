//! Rest after failures: an embedder that is down or overwhelmed is left alone for a while, so that
//! those who ask need not wait to learn what the last ones learnt.
//!
//! ```text
//!             three failures in a row              the rest is over
//!   Working ─────────────────────────▶ Resting ─────────────────────▶ Trying
//!     ▲                                  ▲                              │
//!     │            any success           │  the trial fails: twice the rest
//!     └──────────────────────────────────┴──────────────────────────────┘
//! ```
//!
//! It decides and nothing else; `now` comes from outside.

use std::time::Duration;

use crate::clock::Instant;

/// Failures in a row after which there is a rest. One or two are a hiccup.
const MAX_RUN: u32 = 3;
/// The first rest; each further one is twice as long.
const FIRST: Duration = Duration::from_secs(1);
/// The longest.
const LONGEST: Duration = Duration::from_secs(30);

/// Whether an embedder may be asked.
#[derive(Debug, Default)]
pub(super) struct Rest {
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// So many failures since the last success.
    Working { run: u32 },
    /// For the so-manieth time in a row, from 1.
    Resting { until: Instant, rests: u32 },
    /// One request finds out whether it works again.
    Trying { rests: u32 },
}

/// Leave to ask once. How it went is to be told to [`Rest::on_end`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(super) enum Permit {
    /// As usual.
    Ask,
    /// To find out whether it works again.
    Try,
}

/// How it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// There are vectors.
    Success,
    /// The embedder did not do its work, or not in time.
    Failure,
    /// That says nothing of the embedder: the asker left, or the text was at fault.
    Neither,
}

// === impl Rest ===

impl Rest {
    /// Whether it may be asked now; `None` while it rests.
    pub(super) fn permit(&mut self, now: Instant) -> Option<Permit> {
        match self.state {
            State::Working { .. } => Some(Permit::Ask),
            State::Resting { until, rests } if until <= now => {
                self.state = State::Trying { rests };
                Some(Permit::Try)
            }
            State::Resting { .. } | State::Trying { .. } => None,
        }
    }

    /// Takes note of how it went.
    pub(super) fn on_end(&mut self, permit: Permit, end: End, now: Instant) {
        self.state = match (self.state, permit, end) {
            (_, _, End::Success) => State::Working { run: 0 },
            (State::Working { run }, _, End::Failure) if run + 1 >= MAX_RUN => resting(1, now),
            (State::Working { run }, _, End::Failure) => State::Working { run: run + 1 },
            (State::Trying { rests }, Permit::Try, End::Failure) => {
                resting(rests.saturating_add(1), now)
            }
            // The trial told nothing: the next one tries.
            (State::Trying { rests }, Permit::Try, End::Neither) => {
                State::Resting { until: now, rests }
            }
            // What was asked before the rest is no news.
            (state @ (State::Resting { .. } | State::Trying { .. }), _, _)
            | (state @ State::Working { .. }, _, End::Neither) => state,
        };
    }
}

impl Default for State {
    fn default() -> Self {
        Self::Working { run: 0 }
    }
}

/// The so-manieth rest in a row.
fn resting(rests: u32, now: Instant) -> State {
    let doublings = rests.saturating_sub(1).min(10);
    State::Resting { until: now + (FIRST * (1 << doublings)).min(LONGEST), rests }
}

#[cfg(test)]
mod tests {
    use super::*;
    use End::{Failure, Neither, Success};

    /// What happens, at a millisecond since the start.
    enum Step {
        /// May it be asked?
        Permit(Option<Permit>),
        End(Permit, End),
    }
    use Permit::{Ask, Try};
    use Step::{End as Ends, Permit as Asks};

    const WORKS: Step = Asks(Some(Ask));
    const RESTS: Step = Asks(None);
    const FAILED: Step = Ends(Ask, Failure);
    const TRIES: Step = Asks(Some(Try));

    fn run(name: &str, steps: &[(u64, Step)]) {
        let start = Instant::now();
        let mut rest = Rest::default();
        for (at, (ms, step)) in steps.iter().enumerate() {
            let now = start + Duration::from_millis(*ms);
            match step {
                Asks(expected) => {
                    assert_eq!(rest.permit(now), *expected, "{name}, step {at}, {ms} ms");
                }
                Ends(permit, end) => rest.on_end(*permit, *end, now),
            }
        }
    }

    #[test]
    fn three_failures_in_a_row_are_followed_by_a_rest_and_one_trial() {
        run(
            "a rest of a second",
            &[
                (0, FAILED),
                (0, FAILED),
                (0, WORKS),
                (5, FAILED),
                (5, RESTS),
                (1_004, RESTS),
                (1_005, TRIES),
                (1_005, RESTS),
                (9_999, RESTS),
                (9_999, Ends(Try, Success)),
                (9_999, WORKS),
                (9_999, WORKS),
            ],
        );
        run(
            "a success between",
            &[
                (0, FAILED),
                (0, FAILED),
                (0, Ends(Ask, Success)),
                (0, FAILED),
                (0, FAILED),
                (0, WORKS),
            ],
        );
        run(
            "what says nothing neither counts nor ends the run",
            &[
                (0, FAILED),
                (0, Ends(Ask, Neither)),
                (0, FAILED),
                (0, Ends(Ask, Neither)),
                (0, WORKS),
                (0, FAILED),
                (0, RESTS),
            ],
        );
    }

    #[test]
    fn only_a_trial_or_a_success_changes_a_rest() {
        run(
            "stragglers do not prolong it",
            &[
                (0, FAILED),
                (0, FAILED),
                (0, FAILED),
                (900, FAILED),
                (1_000, TRIES),
                (1_001, FAILED),
                (1_002, Ends(Try, Success)),
                (1_002, WORKS),
            ],
        );
        run(
            "a straggler that succeeds ends it",
            &[(0, FAILED), (0, FAILED), (0, FAILED), (10, Ends(Ask, Success)), (10, WORKS)],
        );
        run(
            "a trial that told nothing is made anew, by one",
            &[
                (0, FAILED),
                (0, FAILED),
                (0, FAILED),
                (1_000, TRIES),
                (1_500, Ends(Try, Neither)),
                (1_500, TRIES),
                (1_500, RESTS),
                (1_500, Ends(Try, Failure)),
                (3_499, RESTS),
                (3_500, TRIES),
            ],
        );
    }

    #[test]
    fn rests_double_up_to_half_a_minute_and_begin_anew_after_a_success() {
        let mut now = Instant::now();
        let mut rest = Rest::default();
        for _ in 0..MAX_RUN {
            rest.on_end(Ask, Failure, now);
        }
        for expected in [1, 2, 4, 8, 16, 30, 30, 30].into_iter().chain([30; 100]) {
            now += Duration::from_secs(expected) - Duration::from_millis(1);
            assert_eq!(rest.permit(now), None, "{expected}");
            now += Duration::from_millis(1);
            assert_eq!(rest.permit(now), Some(Try), "{expected}");
            rest.on_end(Try, Failure, now);
        }
        now += LONGEST;
        assert_eq!(rest.permit(now), Some(Try));
        rest.on_end(Try, Success, now);
        for _ in 0..MAX_RUN {
            assert_eq!(rest.permit(now), Some(Ask));
            rest.on_end(Ask, Failure, now);
        }
        assert_eq!(rest.permit(now + FIRST - Duration::from_millis(1)), None);
        assert_eq!(rest.permit(now + FIRST), Some(Try));
    }
}
