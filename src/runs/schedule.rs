//! When the nightly runs begin.

use std::fmt;

use cronexpr::{Crontab, FallbackTimezoneOption, ParseOptions};
use jiff::Timestamp;

/// A cron expression of five fields in UTC.
#[derive(Clone)]
pub struct Schedule {
    crontab: Crontab,
}

// === impl Schedule ===

impl Schedule {
    /// Reads an expression such as `0 3 * * *`.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.split_whitespace().count() != 5 {
            return Err(format!("{text:?} has not five fields such as `0 3 * * *`"));
        }
        let mut options = ParseOptions::default();
        options.fallback_timezone_option = FallbackTimezoneOption::UTC;
        let crontab = cronexpr::parse_crontab_with(text.trim(), options)
            .map_err(|error| format!("{text:?} is no cron expression: {error}"))?;
        let schedule = Self { crontab };
        match schedule.next_after(0) {
            Some(_) => Ok(schedule),
            None => Err(format!("{text:?} never comes")),
        }
    }

    /// The first time after this one, both in Unix milliseconds. `None` where there is none within
    /// four years.
    pub fn next_after(&self, unix_ms: u64) -> Option<u64> {
        let after = Timestamp::from_millisecond(i64::try_from(unix_ms).ok()?).ok()?;
        let next = self.crontab.find_next(after).ok()?;
        u64::try_from(next.timestamp().as_millisecond()).ok()
    }
}

impl fmt::Debug for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Schedule").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> u64 {
        let at: Timestamp = text.parse().unwrap();
        u64::try_from(at.as_millisecond()).unwrap()
    }

    #[test]
    fn the_next_time_is_after_this_one_in_utc() {
        for (expression, now, next) in [
            ("0 3 * * *", "2026-11-21T02:59:59.999Z", "2026-11-21T03:00:00Z"),
            ("0 3 * * *", "2026-11-21T03:00:00Z", "2026-11-22T03:00:00Z"),
            ("*/15 * * * *", "2026-11-21T03:00:00.001Z", "2026-11-21T03:15:00Z"),
            ("30 1 * * MON", "2026-11-21T12:00:00Z", "2026-11-23T01:30:00Z"),
            ("0 0 29 2 *", "2026-11-21T12:00:00Z", "2028-02-29T00:00:00Z"),
        ] {
            let schedule = Schedule::parse(expression).unwrap();
            assert_eq!(schedule.next_after(at(now)), Some(at(next)), "{expression} after {now}");
        }
    }

    #[test]
    fn what_is_no_expression_or_never_comes_is_refused() {
        for wrong in
            ["", "daily", "0 3 * *", "0 3 * * * *", "61 3 * * *", "0 3 * * * UTC", "0 0 30 2 *"]
        {
            assert!(Schedule::parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
