//! Judgements in sentences.

use super::critical::Critical;
use super::{Criterion, Judgement, Measure, Outcome, Terms, Verdict};

/// How many cases a sentence names.
const NAMED: usize = 5;

/// Why the verdict is what it is, the weightiest first.
pub(super) fn reasons(judgement: &Judgement, critical: &Critical, terms: &Terms) -> Vec<String> {
    let mut reasons = Vec::new();
    if judgement.is_full_of_holes(terms) {
        reasons.push(format!(
            "{} of {} pairs have no answer that could be judged; at most {} may lack one",
            judgement.unanswered,
            judgement.unanswered + judgement.pairs,
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
    let seen = format!(
        "the candidate passes {} of answers, the baseline {} ({}, interval {}, {} pairs)",
        percent(criterion.candidate),
        percent(criterion.baseline),
        points(criterion.difference),
        interval(criterion, "points"),
        criterion.pairs,
    );
    match (criterion.outcome, judgement.samples_needed) {
        (Outcome::Holds, _) => format!("{seen}: not worse by {}", margin(criterion.limit)),
        (Outcome::Fails, _) => format!("{seen}: worse"),
        (Outcome::Unclear, None) => {
            format!("{seen}: it could be worse by {}", margin(criterion.limit))
        }
        (Outcome::Unclear, Some(needed)) => format!(
            "{seen}: it could be worse by {}; about {needed} more pairs, of more cases, would tell",
            margin(criterion.limit)
        ),
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

fn ratio(criterion: &Criterion, more: &str, less: &str) -> String {
    let (size, word) = if criterion.difference < 0.0 {
        (-criterion.difference, less)
    } else {
        (criterion.difference, more)
    };
    format!(
        "answers are {} {word} (interval {}; may be {} {more})",
        percent(size),
        interval(criterion, "%"),
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
