//! When a webhook is sent again, and what an answer to one means.
//!
//! The times are those that Standard Webhooks recommends, each moved by up to a fifth so that what
//! failed together does not come back together. An answer of 2xx is the only success: redirects are
//! not followed, because a receiver's address was checked and the next one was not.

use std::time::Duration;

use http::StatusCode;

/// How long after the attempt before it an attempt is made; the first is made at once.
pub const PAUSES: [Duration; 10] = [
    Duration::ZERO,
    Duration::from_secs(5),
    Duration::from_secs(5 * 60),
    Duration::from_secs(30 * 60),
    Duration::from_secs(2 * 3_600),
    Duration::from_secs(5 * 3_600),
    Duration::from_secs(10 * 3_600),
    Duration::from_secs(14 * 3_600),
    Duration::from_secs(20 * 3_600),
    Duration::from_secs(24 * 3_600),
];

/// The largest share by which a pause is moved.
const JITTER: f64 = 0.2;
/// The longest pause that a receiver can ask for.
const LONGEST_PAUSE: Duration = Duration::from_secs(24 * 3_600);
/// How long a receiver that has too much to do is left alone at least.
const THROTTLE: Duration = Duration::from_secs(30);

/// What an attempt to deliver a webhook came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The receiver has it.
    Delivered,
    /// The receiver wants no webhooks any more (410).
    Gone,
    /// It failed.
    Failed {
        /// How long nothing shall be sent to the receiver, where it has too much to do.
        throttle: Option<Duration>,
    },
}

// === impl Verdict ===

impl Verdict {
    /// What an answer with this status means; `retry_after` is the pause that it asks for.
    pub fn of(status: StatusCode, retry_after: Option<Duration>) -> Self {
        match status {
            status if status.is_success() => Self::Delivered,
            StatusCode::GONE => Self::Gone,
            StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::GATEWAY_TIMEOUT => {
                let pause = retry_after.unwrap_or_default().clamp(THROTTLE, LONGEST_PAUSE);
                Self::Failed { throttle: Some(pause) }
            }
            _ => Self::Failed { throttle: retry_after.map(|after| after.min(LONGEST_PAUSE)) },
        }
    }
}

/// How long after attempt number `attempts` (counted from 1) failed the next one is made; `None`
/// where there is none. `draw` is a random number from 0 to 1.
pub fn pause_after(attempts: u32, throttle: Option<Duration>, draw: f64) -> Option<Duration> {
    let pause = PAUSES.get(usize::try_from(attempts).ok()?)?;
    let moved = pause.mul_f64(1.0 + JITTER * (2.0 * draw.clamp(0.0, 1.0) - 1.0));
    Some(moved.max(throttle.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_attempts_are_made_over_three_days() {
        let pauses: Vec<_> =
            (1..=10).map_while(|attempts| pause_after(attempts, None, 0.5)).collect();
        assert_eq!(pauses, PAUSES[1..]);
        let hours = pauses.iter().sum::<Duration>().as_secs_f64() / 3_600.0;
        assert!((75.5..75.7).contains(&hours), "{hours}");
        assert_eq!(pause_after(10, None, 0.5), None);
        assert_eq!(pause_after(u32::MAX, None, 0.5), None);
    }

    #[test]
    fn pauses_are_moved_by_up_to_a_fifth() {
        for attempts in 1..10 {
            let exact = PAUSES[attempts as usize];
            let soonest = pause_after(attempts, None, 0.0).unwrap();
            let latest = pause_after(attempts, None, 1.0).unwrap();
            assert_eq!((soonest, latest), (exact.mul_f64(0.8), exact.mul_f64(1.2)));
        }
    }

    #[test]
    fn a_receiver_that_asks_for_a_longer_pause_gets_it_up_to_a_day() {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        let asked = Verdict::of(status, Some(Duration::from_secs(60)));
        assert_eq!(asked, Verdict::Failed { throttle: Some(Duration::from_secs(60)) });
        assert_eq!(
            pause_after(1, Some(Duration::from_secs(60)), 0.5),
            Some(Duration::from_secs(60))
        );
        assert_eq!(pause_after(2, Some(Duration::from_secs(60)), 0.5), Some(PAUSES[2]));
        let for_ever = Verdict::of(status, Some(Duration::MAX));
        assert_eq!(for_ever, Verdict::Failed { throttle: Some(LONGEST_PAUSE) });
    }

    #[test]
    fn only_2xx_is_a_success_and_overload_is_throttled() {
        let of = |status: u16| Verdict::of(StatusCode::from_u16(status).unwrap(), None);
        for status in [200, 201, 202, 204, 299] {
            assert_eq!(of(status), Verdict::Delivered, "{status}");
        }
        for status in [301, 302, 304, 307, 308, 400, 401, 404, 500, 503] {
            assert_eq!(of(status), Verdict::Failed { throttle: None }, "{status}");
        }
        for status in [429, 502, 504] {
            assert_eq!(of(status), Verdict::Failed { throttle: Some(THROTTLE) }, "{status}");
        }
        assert_eq!(of(410), Verdict::Gone);
    }
}
