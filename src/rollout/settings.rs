//! `[rollouts]`: when candidates do not get more traffic.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

/// Progressive rollouts of prompt versions and models.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RolloutSettings {
    /// Times in which no candidate gets more traffic than it has. Less, and rolling back, is always
    /// possible.
    #[schemars(extend("examples" = [[{"from": "2026-12-20", "to": "2027-01-03", "why": "holidays"}]]))]
    pub freeze: Vec<FreezeSettings>,
}

/// A time in which no candidate gets more traffic.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FreezeSettings {
    /// The first day, in UTC, such as `2026-12-20`, or a moment such as `2026-12-20T18:00:00Z`.
    pub from: String,
    /// The last day, or the moment at which it ends.
    pub to: String,
    /// The reason, for whoever is refused.
    pub why: String,
}

/// More than anybody plans.
const MOST_FREEZES: usize = 100;

// === impl RolloutSettings ===

impl RolloutSettings {
    /// The freeze at a moment, in Unix milliseconds.
    pub fn freeze_at(&self, now_ms: u64) -> Option<&FreezeSettings> {
        self.freeze.iter().find(|freeze| {
            let ends = freeze.begin_ms().zip(freeze.end_ms());
            ends.is_some_and(|(from, to)| (from..to).contains(&now_ms))
        })
    }

    /// What the types cannot rule out: the key, and what it must be.
    pub fn problems(&self) -> Vec<(&'static str, &'static str)> {
        if self.freeze.len() > MOST_FREEZES {
            return vec![("freeze", "must be at most 100")];
        }
        let is_wrong = |freeze: &FreezeSettings| match (freeze.begin_ms(), freeze.end_ms()) {
            (Some(from), Some(to)) => to <= from,
            (None, _) | (_, None) => true,
        };
        let wrong = "`from` and `to` must be days such as 2026-12-20 or moments such as \
                     2026-12-20T18:00:00Z, `from` first";
        self.freeze
            .iter()
            .find(|freeze| is_wrong(freeze))
            .map(|_| ("freeze", wrong))
            .into_iter()
            .collect()
    }
}

// === impl FreezeSettings ===

impl FreezeSettings {
    fn begin_ms(&self) -> Option<u64> {
        moment(&self.from, Some)
    }

    /// The end of the last day.
    fn end_ms(&self) -> Option<u64> {
        moment(&self.to, |day| day.tomorrow().ok())
    }
}

fn moment(text: &str, midnight_of: impl Fn(Date) -> Option<Date>) -> Option<u64> {
    let at = match text.parse::<Timestamp>() {
        Ok(at) => at,
        Err(_) => midnight_of(text.parse().ok()?)?.to_zoned(TimeZone::UTC).ok()?.timestamp(),
    };
    u64::try_from(at.as_millisecond()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(from: &str, to: &str) -> RolloutSettings {
        let freeze = FreezeSettings { from: from.into(), to: to.into(), why: "holidays".into() };
        RolloutSettings { freeze: vec![freeze] }
    }

    fn at(text: &str) -> u64 {
        u64::try_from(text.parse::<Timestamp>().unwrap().as_millisecond()).unwrap()
    }

    #[test]
    fn a_freeze_ends_with_its_last_day() {
        let settings = settings("2026-12-20", "2027-01-03");
        assert_eq!(settings.problems(), []);
        for (moment, is_frozen) in [
            ("2026-12-19T23:59:59Z", false),
            ("2026-12-20T00:00:00Z", true),
            ("2027-01-03T23:59:59Z", true),
            ("2027-01-04T00:00:00Z", false),
        ] {
            assert_eq!(settings.freeze_at(at(moment)).is_some(), is_frozen, "{moment}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for (from, to) in [("", ""), ("2026-12-20", "soon"), ("2027-01-03", "2026-12-20")] {
            assert_eq!(settings(from, to).problems()[0].0, "freeze", "{from} {to}");
        }
        assert_eq!(settings("2026-12-20T18:00:00Z", "2026-12-20").problems(), []);
    }
}
