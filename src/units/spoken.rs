//! Times as people say them.

use std::fmt;
use std::time::Duration;

/// A time to wait, as people say it: `40 s`, `12 min`, `2 h 30 min`, `3 d 4 h`. Never less than it
/// is, and never more by a minute, or by an hour from two days on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spoken(pub Duration);

/// From here on nobody counts in seconds, in minutes, and without days.
const MINUTES_FROM_S: u64 = 2 * 60;
const HOURS_FROM_MIN: u64 = 2 * 60;
const DAYS_FROM_H: u64 = 48;

impl fmt::Display for Spoken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs().saturating_add(u64::from(self.0.subsec_nanos() > 0));
        if seconds < MINUTES_FROM_S {
            return write!(f, "{seconds} s");
        }
        let minutes = seconds.div_ceil(60);
        if minutes < HOURS_FROM_MIN {
            return write!(f, "{minutes} min");
        }
        let ((many, large), (few, small)) = match minutes.div_ceil(60) {
            hours if hours < DAYS_FROM_H => ((minutes / 60, "h"), (minutes % 60, "min")),
            hours => ((hours / 24, "d"), (hours % 24, "h")),
        };
        match few {
            0 => write!(f, "{many} {large}"),
            few => write!(f, "{many} {large} {few} {small}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_people_say_them_and_never_shorter() {
        for (ms, said) in [
            (0, "0 s"),
            (1, "1 s"),
            (59_001, "60 s"),
            (119_000, "119 s"),
            (119_001, "2 min"),
            (121_000, "3 min"),
            (7_140_000, "119 min"),
            (7_140_001, "2 h"),
            (9_000_000, "2 h 30 min"),
            (43_199_900, "12 h"),
            (43_200_000, "12 h"),
            (169_200_000, "47 h"),
            (169_200_001, "2 d"),
            (172_800_000, "2 d"),
            (270_000_000, "3 d 3 h"),
            (2_678_400_000, "31 d"),
        ] {
            assert_eq!(Spoken(Duration::from_millis(ms)).to_string(), said, "{ms} ms");
        }
        assert!(Spoken(Duration::MAX).to_string().ends_with(" h"));
    }
}
