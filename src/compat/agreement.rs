//! Whether a judge judges as people do.
//!
//! Cohen's kappa ("A coefficient of agreement for nominal scales", Educational and Psychological
//! Measurement 20, 1960) is the agreement beyond what two would have by chance: a judge that passes
//! everything agrees with people on 90 % of good answers and has a kappa of 0. Its error is that of
//! Fleiss, Cohen and Everitt (Psychological Bulletin 72, 1969).

use serde::{Deserialize, Serialize};

use super::report::counted;

/// Labels that it takes at least to call a judge calibrated.
pub const FEWEST_LABELS: u64 = 100;
/// The kappa that it takes: "substantial agreement" begins here (Landis and Koch, Biometrics 33,
/// 1977).
pub const LEAST_KAPPA: f64 = 0.6;
/// What a normal variable exceeds with a chance of 2.5 %.
const Z: f64 = 1.959_964;

/// What a judge and people said of the same answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Agreement {
    /// Both said that the answer passes.
    pub both_pass: u64,
    /// Only the judge did.
    pub judge_only: u64,
    /// Only people did.
    pub human_only: u64,
    /// Neither did.
    pub both_fail: u64,
}

/// A kappa with its 95 % interval, all from -1 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Kappa {
    /// The estimate.
    pub value: f64,
    /// The lower bound.
    pub low: f64,
    /// The upper bound.
    pub high: f64,
}

// === impl Agreement ===

impl Agreement {
    /// From pairs: whether the judge passes an answer, and whether people do.
    pub fn of(labels: impl IntoIterator<Item = (bool, bool)>) -> Self {
        let mut agreement = Self::default();
        for label in labels {
            *match label {
                (true, true) => &mut agreement.both_pass,
                (true, false) => &mut agreement.judge_only,
                (false, true) => &mut agreement.human_only,
                (false, false) => &mut agreement.both_fail,
            } += 1;
        }
        agreement
    }

    /// How many answers were labelled.
    pub fn labels(&self) -> u64 {
        self.both_pass + self.judge_only + self.human_only + self.both_fail
    }

    /// The part that both say the same of, 0 to 1; `None` of no labels.
    pub fn rate(&self) -> Option<f64> {
        let labels = self.labels();
        (labels > 0).then(|| (self.both_pass + self.both_fail) as f64 / labels as f64)
    }

    /// Kappa. `None` where it is not defined: without labels, and where both say the same of all.
    pub fn kappa(&self) -> Option<Kappa> {
        let seen = self.rate()?;
        let count = self.labels() as f64;
        let part = |labels: u64| labels as f64 / count;
        let judge =
            [part(self.both_pass + self.judge_only), part(self.human_only + self.both_fail)];
        let human =
            [part(self.both_pass + self.human_only), part(self.judge_only + self.both_fail)];
        let chance = judge[0] * human[0] + judge[1] * human[1];
        if chance >= 1.0 {
            return None;
        }
        let value = (seen - chance) / (1.0 - chance);
        let agreeing: f64 = [(part(self.both_pass), 0), (part(self.both_fail), 1)]
            .into_iter()
            .map(|(both, at)| both * (1.0 - (judge[at] + human[at]) * (1.0 - value)).powi(2))
            .sum();
        let differing = part(self.judge_only) * (human[0] + judge[1]).powi(2)
            + part(self.human_only) * (human[1] + judge[0]).powi(2);
        let variance =
            agreeing + (1.0 - value).powi(2) * differing - (value - chance * (1.0 - value)).powi(2);
        let error = (variance.max(0.0) / count).sqrt() / (1.0 - chance);
        let bound = |bound: f64| bound.clamp(-1.0, 1.0);
        Some(Kappa { value, low: bound(value - Z * error), high: bound(value + Z * error) })
    }

    /// Whether what the judge says may count: enough labels, and enough agreement.
    pub fn is_calibrated(&self) -> bool {
        self.labels() >= FEWEST_LABELS
            && self.kappa().is_some_and(|kappa| kappa.value >= LEAST_KAPPA)
    }

    /// What keeps the judge from being calibrated, in words; nothing where it is.
    pub fn lacks(&self) -> Vec<String> {
        let mut lacks = Vec::new();
        let labels = self.labels();
        if labels < FEWEST_LABELS {
            let more = FEWEST_LABELS - labels;
            let more = counted(more, "more label");
            lacks.push(format!("{more}, of {FEWEST_LABELS} at least"));
        }
        match self.kappa() {
            None if labels == 0 => {}
            None => lacks.push(
                "labels of both kinds: where all answers pass, or all fail, agreement says nothing"
                    .to_owned(),
            ),
            Some(kappa) if kappa.value < LEAST_KAPPA => lacks.push(format!(
                "a kappa of {LEAST_KAPPA} at least; it is {:.2}. Where the two differ often, the \
                 rubrics leave room for it, or the judge is too weak",
                kappa.value
            )),
            Some(_) => {}
        }
        lacks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agreement(both_pass: u64, judge_only: u64, human_only: u64, both_fail: u64) -> Agreement {
        Agreement { both_pass, judge_only, human_only, both_fail }
    }

    /// 50 proposals read by two readers, a common example: agreement 0.7, by chance 0.5.
    #[test]
    fn kappa_is_that_of_the_textbook() {
        let kappa = agreement(20, 5, 10, 15).kappa().unwrap();
        assert!((kappa.value - 0.4).abs() < 1e-12, "{kappa:?}");
        assert!(
            (kappa.low - 0.1511).abs() < 2e-3 && (kappa.high - 0.6489).abs() < 2e-3,
            "{kappa:?}"
        );
    }

    #[test]
    fn a_judge_that_passes_everything_has_no_kappa_worth_having() {
        let flatters = agreement(90, 10, 0, 0);
        assert_eq!(flatters.rate(), Some(0.9));
        assert!(flatters.kappa().unwrap().value.abs() < 1e-12);
        assert!(!flatters.is_calibrated());
        assert_eq!(agreement(50, 0, 0, 0).kappa(), None);
        assert_eq!(Agreement::default().rate(), None);
    }

    #[test]
    fn a_judge_is_calibrated_with_enough_labels_and_agreement() {
        assert!(agreement(60, 5, 5, 30).is_calibrated());
        assert!(!agreement(60, 5, 5, 29).is_calibrated(), "99 labels");
        assert!(!agreement(50, 15, 15, 20).is_calibrated(), "a kappa of 0.34");
        assert_eq!(agreement(60, 5, 5, 30).lacks(), Vec::<String>::new());
        assert_eq!(agreement(60, 5, 5, 29).lacks(), ["1 more label, of 100 at least"]);
        assert!(agreement(50, 15, 15, 20).lacks()[0].contains("it is 0.34"));
        assert!(agreement(100, 0, 0, 0).lacks()[0].starts_with("labels of both kinds"));
        assert_eq!(Agreement::default().lacks(), ["100 more labels, of 100 at least"]);
    }

    #[test]
    fn labels_are_counted_by_who_said_what() {
        let labels = [(true, true), (true, false), (false, true), (false, false), (false, false)];
        assert_eq!(Agreement::of(labels), agreement(1, 1, 1, 2));
    }
}
