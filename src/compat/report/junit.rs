//! A report as JUnit XML, which CI systems show: one suite of the criteria, one of the cases.
//!
//! What is red there is what the verdict says. A case that is newly failed in a compatible run is
//! within the margin: it is passed there, and says so.

use std::time::Duration;

use quick_junit::{NonSuccessKind, TestCase, TestCaseStatus, TestSuite};

use super::numbers;
use super::{CaseReport, Report, Standing, Tally, Unanswered, Unjudged};
use crate::compat::Same;
use crate::compat::verdict::{Criterion, Outcome, Verdict};

// === impl Report ===

impl Report {
    /// The report as JUnit XML.
    ///
    /// # Errors
    ///
    /// What the writer of XML says; letters that XML cannot hold are left out before.
    pub fn junit(&self) -> Result<String, String> {
        let mut report = quick_junit::Report::new(format!("tidegate compat {}", self.run.suite));
        let mut verdict = TestSuite::new(format!("{}: verdict", self.run.suite));
        for (name, value) in self.properties() {
            verdict.add_property((name, value.as_str()));
        }
        verdict.add_test_case(self.verdict_case());
        verdict.add_test_cases(self.judgement.criteria.iter().map(|one| self.criterion_case(one)));
        let mut cases = TestSuite::new(self.run.suite.as_str());
        cases.add_test_cases(self.cases.iter().map(|case| self.test_case(case)));
        if let Some(ended) = self.run.ended_ms {
            report.set_time(Duration::from_millis(ended.saturating_sub(self.run.started_ms)));
        }
        report.add_test_suites([verdict, cases]);
        report.to_string().map_err(|error| error.to_string())
    }

    fn properties(&self) -> Vec<(&'static str, String)> {
        let (run, judgement) = (&self.run, &self.judgement);
        vec![
            ("verdict", self.word().to_owned()),
            ("reason", judgement.reasons.first().cloned().unwrap_or_default()),
            ("state", self.state.as_str().to_owned()),
            ("run", run.id.clone()),
            ("baseline", run.baseline.to_string()),
            ("candidate", run.candidate.to_string()),
            ("suite_hash", run.suite_hash.clone()),
            ("seed", run.seed.to_string()),
            ("pairs", judgement.pairs.to_string()),
            ("unanswered", judgement.unanswered.to_string()),
            ("cost_usd", dollars(run.cost_micro_usd.saturating_add(run.judging_micro_usd))),
            ("judging_usd", dollars(run.judging_micro_usd)),
        ]
    }

    /// The verdict itself: what is not decided is not green.
    fn verdict_case(&self) -> TestCase {
        let mut status = match self.judgement.verdict {
            Verdict::Compatible => TestCaseStatus::success(),
            Verdict::Incompatible => TestCaseStatus::non_success(NonSuccessKind::Failure),
            // There is nothing to fail.
            Verdict::Inconclusive if self.run.first_night => TestCaseStatus::success(),
            Verdict::Inconclusive => TestCaseStatus::non_success(NonSuccessKind::Error),
        };
        let ended_early = self.run.ended_early.iter();
        let unjudged = self.unjudged.iter().map(Unjudged::in_words);
        let same = Same::in_words(&self.run.same);
        let unanswered = self.unanswered.iter().map(Unanswered::in_words);
        let pair = self.run.pair.and_then(|pair| pair.in_words());
        let says = self.judgement.reasons.iter().chain(ended_early).cloned();
        let says: Vec<_> = says.chain(unanswered).chain(unjudged).chain(same).chain(pair).collect();
        status.set_message(self.word());
        status.set_description(says.join("\n"));
        let mut case = TestCase::new("verdict", status);
        case.set_classname(format!("{}.verdict", self.run.suite));
        case.set_system_out(format!("{}\n{}", self.headline(), says.join("\n")));
        case
    }

    fn criterion_case(&self, criterion: &Criterion) -> TestCase {
        let interval = match numbers::has_interval(criterion) {
            true => format!(" (interval {})", numbers::interval(criterion)),
            false => String::new(),
        };
        let test = criterion.by_test().map(|test| format!("; {test}")).unwrap_or_default();
        let says = format!(
            "{} against {}: {}{interval}, needs {}{test}",
            numbers::value(criterion.measure, criterion.candidate, criterion.pairs),
            numbers::value(criterion.measure, criterion.baseline, criterion.pairs),
            numbers::difference(criterion.measure, criterion.difference),
            numbers::needs(criterion),
        );
        let mut status = match (criterion.gates, criterion.outcome) {
            (true, Outcome::Fails) => TestCaseStatus::non_success(NonSuccessKind::Failure),
            (true, Outcome::Unclear) => TestCaseStatus::skipped(),
            (true, Outcome::Holds) | (false, _) => TestCaseStatus::success(),
        };
        status.set_message(says.as_str());
        let mut case = TestCase::new(numbers::name(criterion.measure), status);
        case.set_classname(format!("{}.verdict", self.run.suite));
        case.set_system_out(says);
        case
    }

    fn counts(case: &CaseReport) -> String {
        format!(
            "the candidate passes {} of {}, the baseline {} of {}",
            case.candidate.passed,
            case.candidate.answered,
            case.baseline.passed,
            case.baseline.answered
        )
    }

    fn test_case(&self, case: &CaseReport) -> TestCase {
        let tonight = &case.candidate;
        let counts = if self.run.first_night {
            format!("{} of {} answers pass", tonight.passed, tonight.answered)
        } else {
            Self::counts(case)
        };
        let is_compatible = self.judgement.verdict == Verdict::Compatible;
        let mut status = match case.standing {
            Standing::NewlyFailing if !is_compatible => {
                TestCaseStatus::non_success(NonSuccessKind::Failure)
            }
            Standing::Unanswered if self.run.first_night && case.candidate.answered > 0 => {
                TestCaseStatus::success()
            }
            Standing::Quarantined | Standing::Unanswered => TestCaseStatus::skipped(),
            Standing::NewlyFailing
            | Standing::Worse
            | Standing::NewlyPassing
            | Standing::Better
            | Standing::StillFailing
            | Standing::StillPassing => TestCaseStatus::success(),
        };
        let message = match case.standing {
            Standing::Quarantined => "flaky with both sides, not counted".to_owned(),
            Standing::Unanswered if self.run.first_night => counts.clone(),
            Standing::Unanswered => "no pair of answers".to_owned(),
            Standing::NewlyFailing
            | Standing::Worse
            | Standing::NewlyPassing
            | Standing::Better
            | Standing::StillFailing
            | Standing::StillPassing => counts.clone(),
        };
        status.set_message(message);
        let why = case.failures.iter().map(|check| format!("{}: {}\n", check.kind, check.reason));
        let why: String = why.collect();
        status.set_description(format!("{counts}\n{why}"));
        let mut test = TestCase::new(case.id.as_str(), status);
        test.set_classname(format!("{}.{}", self.run.suite, numbers::category(case.category)));
        test.set_time(Duration::from_millis(case.candidate.p95_latency_ms));
        test.set_system_out(format!("{}\n{counts}\n{why}", case.standing.in_words()));
        for (side, tally) in [("baseline", &case.baseline), ("candidate", &case.candidate)] {
            for (name, value) in properties_of(tally) {
                test.add_property((format!("{side}_{name}"), value));
            }
        }
        test
    }
}

fn dollars(micro_usd: u64) -> String {
    format!("{:.6}", micro_usd as f64 / 1e6)
}

fn properties_of(tally: &Tally) -> [(&'static str, String); 5] {
    [
        ("passed", tally.passed.to_string()),
        ("answered", tally.answered.to_string()),
        ("tokens", format!("{:.0}", tally.output_tokens)),
        ("cost_usd", format!("{:.6}", tally.cost_micro_usd / 1e6)),
        ("p95_ms", tally.p95_latency_ms.to_string()),
    ]
}
