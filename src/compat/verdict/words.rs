//! Judgements in sentences.

use super::critical::Critical;
use super::{Criterion, Drift, ExactTest, Judgement, Measure, Outcome, Terms, Verdict};

/// How many cases a sentence names.
const NAMED: usize = 5;

/// Why the verdict is what it is, the weightiest first.
pub(super) fn reasons(judgement: &Judgement, critical: &Critical, terms: &Terms) -> Vec<String> {
    let mut reasons = Vec::new();
    if judgement.is_full_of_holes(terms) {
        reasons.push(format!(
            "{} of {} no answer that could be judged; at most {} may lack one",
            judgement.unanswered,
            asked(judgement),
            percent(terms.max_unanswered),
        ));
    }
    if judgement.pairs == 0 {
        reasons.push("there is no pair to compare".to_owned());
    }
    let wanted: &[Outcome] = match judgement.verdict {
        Verdict::Compatible => &[Outcome::Holds],
        Verdict::Incompatible => &[Outcome::Fails],
        Verdict::Inconclusive => &[Outcome::Fails, Outcome::Unclear],
    };
    let said = judgement.criteria.iter().filter(|one| one.gates && wanted.contains(&one.outcome));
    reasons.extend(said.map(|criterion| sentence(criterion, judgement, critical)));
    let told = judgement
        .criteria
        .iter()
        .filter(|criterion| !criterion.gates && criterion.outcome == Outcome::Fails);
    reasons.extend(
        told.map(|one| {
            format!("{} (told only, gates nothing)", sentence(one, judgement, critical))
        }),
    );
    if !judgement.quarantined.is_empty() {
        let count = judgement.quarantined.len();
        reasons.push(format!(
            "{count} flaky {} not counted: {}",
            if count == 1 { "case is" } else { "cases are" },
            names(&judgement.quarantined),
        ));
    }
    reasons
}

/// `39 pairs have`, of all that were asked; of a night answers.
fn asked(judgement: &Judgement) -> String {
    let count = judgement.unanswered + judgement.pairs;
    let what = if judgement.drift.is_some() { "answer" } else { "pair" };
    match count {
        1 => format!("1 {what} has"),
        count => format!("{count} {what}s have"),
    }
}

fn sentence(criterion: &Criterion, judgement: &Judgement, critical: &Critical) -> String {
    match criterion.measure {
        Measure::PassRate => rate(criterion, judgement),
        Measure::Critical => critical_cases(critical),
        Measure::Preference => format!(
            "the judge prefers the candidate in {} and the baseline in {} of {} pairs (wins less \
             losses {}; needs above {})",
            percent(criterion.candidate),
            percent(criterion.baseline),
            criterion.pairs,
            interval(criterion, "points"),
            points(criterion.limit),
        ),
        Measure::Length => ratio(criterion, "longer", "shorter"),
        Measure::Cost => ratio(criterion, "costlier", "cheaper"),
        Measure::Latency => ratio(criterion, "slower", "faster"),
    }
}

fn rate(criterion: &Criterion, judgement: &Judgement) -> String {
    if let Some(drift) = &judgement.drift {
        return rate_of_nights(criterion, drift);
    }
    let seen = format!(
        "the candidate passes {} of answers, the baseline {} ({}, interval {}, {} pairs)",
        percent(criterion.candidate),
        percent(criterion.baseline),
        points(criterion.difference),
        interval(criterion, "points"),
        criterion.pairs,
    );
    let test = criterion.by_test().map(|test| format!("; {test}")).unwrap_or_default();
    match (criterion.outcome, judgement.samples_needed) {
        (Outcome::Holds, _) => format!("{seen}: not worse by {}", margin(criterion.limit)),
        (Outcome::Fails, _) => format!("{seen}: worse{test}"),
        (Outcome::Unclear, None) => {
            format!("{seen}: it could be worse by {}{test}", margin(criterion.limit))
        }
        (Outcome::Unclear, Some(needed)) => format!(
            "{seen}: it could be worse by {}{test}; about {needed} more {}, of more cases, would tell",
            margin(criterion.limit),
            if needed == 1 { "pair" } else { "pairs" },
        ),
    }
}

fn rate_of_nights(criterion: &Criterion, drift: &Drift) -> String {
    let nights = |count: u32| format!("{count} {}", if count == 1 { "night" } else { "nights" });
    let seen = format!(
        "tonight {} of answers pass, in the {} before {} ({}, interval {}, {} answers)",
        percent(criterion.candidate),
        nights(drift.nights),
        percent(criterion.baseline),
        points(criterion.difference),
        interval(criterion, "points"),
        criterion.pairs,
    );
    let test = criterion.by_test().map(|test| format!("; {test}")).unwrap_or_default();
    match criterion.outcome {
        Outcome::Holds => format!("{seen}: not worse by {}", margin(criterion.limit)),
        Outcome::Fails if drift.fallen == 1 => format!("{seen}: worse tonight{test}"),
        Outcome::Fails => format!("{seen}: worse for {} now{test}", nights(drift.fallen)),
        Outcome::Unclear => {
            let margin = margin(criterion.limit);
            format!("{seen}: it could be worse by {margin}{test}; more nights tell")
        }
    }
}

/// `5 points`, of a limit of -0.05.
fn margin(limit: f64) -> String {
    points(limit.abs()).trim_start_matches('+').to_owned()
}

fn critical_cases(critical: &Critical) -> String {
    if !critical.broken.is_empty() {
        return format!("newly fails critical cases: {}", names(&critical.broken));
    }
    if !critical.to_confirm.is_empty() {
        return format!(
            "fails critical cases that are to be asked once more: {}",
            names(&critical.to_confirm)
        );
    }
    if !critical.unsettled.is_empty() {
        return format!(
            "fails critical cases now and then that the baseline passes: {}",
            names(&critical.unsettled)
        );
    }
    "no critical case is newly failed".to_owned()
}

// === impl Criterion ===

impl Criterion {
    /// By which test it was decided, where the interval seems to say otherwise.
    pub fn by_test(&self) -> Option<String> {
        let ExactTest { chance, level } = self.test?;
        let decides = |to_zero: &str, needs: &str| {
            Some(format!(
                "the interval {to_zero} 0, but an exact test of the answers case by case decides: \
                 {} by chance, where {needs} {}",
                likelihood(chance),
                likelihood(level)
            ))
        };
        match self.outcome {
            Outcome::Fails if self.high >= 0.0 => decides("reaches", "it is enough to be below"),
            Outcome::Unclear if self.high < 0.0 && chance > level => {
                decides("is below", "it has to be at most")
            }
            Outcome::Fails | Outcome::Unclear | Outcome::Holds => None,
        }
    }
}

/// `0.41 %`, `less than 0.01 %`
fn likelihood(chance: f64) -> String {
    if chance < 0.0001 {
        return "less than 0.01 %".to_owned();
    }
    let text = format!("{:.2}", chance * 100.0);
    format!("{} %", text.trim_end_matches('0').trim_end_matches('.'))
}

fn ratio(criterion: &Criterion, more: &str, less: &str) -> String {
    let (size, word) = if criterion.difference < 0.0 {
        (-criterion.difference, less)
    } else {
        (criterion.difference, more)
    };
    let interval = match criterion.is_bounded() {
        true => format!("interval {}", interval(criterion, "%")),
        false => "one case tells no interval".to_owned(),
    };
    format!(
        "answers are {} {word} ({interval}; may be {} {more})",
        percent(size),
        percent(criterion.limit),
    )
}

fn names(cases: &[String]) -> String {
    let named = cases.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    match cases.len().saturating_sub(NAMED) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

/// `91.3 %`
fn percent(part: f64) -> String {
    format!("{} %", trimmed(part * 100.0))
}

/// `-4.2 to +1.1 points`
fn interval(criterion: &Criterion, unit: &str) -> String {
    format!("{} to {} {unit}", signed(criterion.low), signed(criterion.high))
}

/// `-3 points`
fn points(part: f64) -> String {
    format!("{} points", signed(part))
}

fn signed(part: f64) -> String {
    let text = trimmed(part * 100.0);
    if part > 0.0 && text != "0" { format!("+{text}") } else { text }
}

/// One decimal, if it is not nothing.
fn trimmed(value: f64) -> String {
    let text = format!("{value:.1}");
    let text = text.strip_suffix(".0").unwrap_or(&text);
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}
