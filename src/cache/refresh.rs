//! When an answer is made anew before its time is over, so that not everybody misses it at once.
//!
//! XFetch (Vattani, Chierichetti, Lowenstein, "Optimal Probabilistic Cache Stampede Prevention",
//! VLDB 2015): each hit draws whether it is the one that asks again, likelier the nearer the end
//! and the longer an answer takes. That request is treated as a miss: it waits for its answer as
//! the first one did, and everybody else is given the kept one meanwhile.

use std::time::Duration;

/// How eager to be: 1 is optimal where the time that an answer takes varies little.
const BETA: f64 = 1.0;

/// Whether the request that finds an answer asks again. `left` is the answer's time, `took` how
/// long it took to be made, `chance` uniform in 0..1.
pub(super) fn is_early(left: Duration, took: Duration, chance: f64) -> bool {
    // ln is of (0, 1], so the product is never negative.
    let ahead = took.as_secs_f64() * BETA * -(1.0 - chance).ln();
    ahead >= left.as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn far_from_its_end_an_answer_is_never_made_anew() {
        for chance in [0.0, 0.5, 0.999_999] {
            assert!(!is_early(SECOND * 3_600, SECOND, chance), "{chance}");
        }
    }

    #[test]
    fn at_its_end_it_always_is() {
        for chance in [0.0, 0.5, 0.999_999] {
            assert!(is_early(Duration::ZERO, SECOND, chance), "{chance}");
        }
    }

    #[test]
    fn the_share_of_requests_that_ask_again_falls_by_e_with_each_answers_time() {
        for (left, share) in [(1, 0.368), (2, 0.135), (3, 0.050)] {
            let early =
                (0..10_000).filter(|n| is_early(SECOND * left, SECOND, f64::from(*n) / 10_000.0));
            #[expect(clippy::cast_precision_loss, reason = "at most 10,000")]
            let found = early.count() as f64 / 10_000.0;
            assert!((found - share).abs() < 0.001, "{left}: {found}");
        }
    }

    #[test]
    fn what_took_no_time_is_made_anew_by_nobody() {
        assert!(!is_early(SECOND, Duration::ZERO, 0.999_999));
    }
}
