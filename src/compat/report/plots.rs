//! Drawings of the page, as SVG. They contain numbers and words of ours only, nothing that a model
//! or a suite has said: so they are put into the page as they are.

use std::fmt::Write as _;

use super::numbers;
use super::{Distribution, Night};
use crate::compat::verdict::{Criterion, Measure, Outcome, Verdict};

/// An interval on a line: the part that is too bad is shaded, nothing and the limit are marked.
pub(super) fn interval(criterion: &Criterion) -> String {
    const WIDTH: f64 = 240.0;
    const EDGE: f64 = 8.0;
    // Wider intervals than this say nothing; they run off the plot.
    let reach = [criterion.low, criterion.high, criterion.limit * 1.8, criterion.difference];
    let reach = reach.iter().fold(0.0_f64, |reach, at| reach.max(at.abs())) * 1.12;
    let reach =
        reach.clamp(1e-6, (criterion.limit.abs() * 8.0).max(criterion.difference.abs() * 1.5));
    let x = |at: f64| {
        let part = (at / reach).clamp(-1.0, 1.0);
        EDGE + (part + 1.0) / 2.0 * (WIDTH - 2.0 * EDGE)
    };
    let (from, to) =
        if criterion.limit < 0.0 { (0.0, x(criterion.limit)) } else { (x(criterion.limit), WIDTH) };
    let class = outcome_class(criterion);
    let (low, high, middle) = (x(criterion.low), x(criterion.high), x(criterion.difference));
    let (zero, limit) = (x(0.0), x(criterion.limit));
    format!(
        "<svg class=\"interval {class}\" viewBox=\"0 0 {WIDTH} 26\" role=\"img\" \
         aria-label=\"{label}\"><rect class=\"zone\" x=\"{from:.1}\" y=\"2\" width=\"{width:.1}\" \
         height=\"22\"/><line class=\"zero\" x1=\"{zero:.1}\" x2=\"{zero:.1}\" y1=\"2\" y2=\"24\"/>\
         <line class=\"limit\" x1=\"{limit:.1}\" x2=\"{limit:.1}\" y1=\"2\" y2=\"24\"/>\
         <line class=\"range\" x1=\"{low:.1}\" x2=\"{high:.1}\" y1=\"13\" y2=\"13\"/>\
         <line class=\"range\" x1=\"{low:.1}\" x2=\"{low:.1}\" y1=\"9\" y2=\"17\"/>\
         <line class=\"range\" x1=\"{high:.1}\" x2=\"{high:.1}\" y1=\"9\" y2=\"17\"/>\
         <circle class=\"dot\" cx=\"{middle:.1}\" cy=\"13\" r=\"4.5\"/></svg>",
        label = numbers::interval(criterion),
        width = to - from,
    )
}

/// What a criterion's colours are called.
pub(super) const fn outcome_class(criterion: &Criterion) -> &'static str {
    match (criterion.gates, criterion.outcome) {
        (false, _) => "told",
        (true, Outcome::Holds) => "good",
        (true, Outcome::Fails) => "bad",
        (true, Outcome::Unclear) => "open",
    }
}

/// What a verdict's colours are called.
pub(super) const fn verdict_class(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Compatible => "good",
        Verdict::Incompatible => "bad",
        Verdict::Inconclusive => "open",
    }
}

/// Pass rates over nights.
pub(super) fn trend(nights: &[Night]) -> String {
    const WIDTH: f64 = 860.0;
    const HEIGHT: f64 = 150.0;
    const LEFT: f64 = 46.0;
    const TOP: f64 = 12.0;
    let rates = nights.iter().flat_map(|night| [night.baseline, night.candidate]);
    let least = rates.fold(1.0_f64, f64::min);
    let floor = ((least - 0.02) * 20.0).floor().max(0.0) / 20.0;
    let steps = nights.len().saturating_sub(1).max(1) as f64;
    let x = |at: usize| LEFT + at as f64 / steps * (WIDTH - LEFT - 14.0);
    let y = |rate: f64| TOP + (1.0 - rate) / (1.0 - floor).max(1e-6) * (HEIGHT - TOP - 26.0);
    let mut svg = format!(
        "<svg class=\"trend\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"pass rates\">"
    );
    for rate in [1.0, f64::midpoint(1.0, floor), floor] {
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{WIDTH}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
             <text class=\"end\" x=\"{label}\" y=\"{below:.1}\">{rate}</text>",
            at = y(rate),
            label = LEFT - 8.0,
            below = y(rate) + 4.0,
            rate = numbers::percent(rate),
        );
    }
    for (class, of) in [
        ("baseline", (|night| night.baseline) as fn(&Night) -> f64),
        ("candidate", |night| night.candidate),
    ] {
        let points = nights.iter().enumerate();
        let points: Vec<String> =
            points.map(|(at, night)| format!("{:.1},{:.1}", x(at), y(of(night)))).collect();
        let _ = write!(svg, "<polyline class=\"{class}\" points=\"{}\"/>", points.join(" "));
    }
    for (at, night) in nights.iter().enumerate() {
        let _ = write!(
            svg,
            "<circle class=\"night {class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"5\"><title>{date}: \
             {candidate} against {baseline}, {verdict}</title></circle>",
            class = verdict_class(night.verdict),
            x = x(at),
            y = y(night.candidate),
            date = numbers::moment(night.at_ms),
            candidate = numbers::percent(night.candidate),
            baseline = numbers::percent(night.baseline),
            verdict = night.verdict.as_str(),
        );
    }
    let day = |night: &Night| numbers::moment(night.at_ms).chars().take(10).collect::<String>();
    if let (Some(first), Some(last)) = (nights.first(), nights.last()) {
        let _ = write!(
            svg,
            "<text x=\"{LEFT}\" y=\"{bottom}\">{}</text><text class=\"end\" x=\"{WIDTH}\" \
             y=\"{bottom}\">{}</text>",
            day(first),
            day(last),
            bottom = HEIGHT - 4.0,
        );
    }
    svg.push_str("</svg>");
    svg
}

/// How both sides are spread: the candidate's bars before the baseline's.
pub(super) fn histogram(distribution: &Distribution) -> String {
    const WIDTH: f64 = 320.0;
    const HEIGHT: f64 = 130.0;
    const FLOOR: f64 = HEIGHT - 20.0;
    let all = |counts: &[u64]| counts.iter().sum::<u64>().max(1) as f64;
    let parts = |counts: &[u64]| -> Vec<f64> {
        counts.iter().map(|count| *count as f64 / all(counts)).collect()
    };
    let sides = [
        ("baseline", parts(&distribution.baseline)),
        ("candidate", parts(&distribution.candidate)),
    ];
    let most =
        sides.iter().flat_map(|(_, parts)| parts).fold(1e-9_f64, |most, part| most.max(*part));
    let bins = distribution.baseline.len().max(1) as f64;
    let width = WIDTH / bins;
    let mut svg = format!(
        "<svg class=\"histogram\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{} of \
         both sides\">",
        numbers::name(distribution.measure)
    );
    for (class, parts) in &sides {
        let mut path = format!("M0 {FLOOR}");
        for (bin, part) in parts.iter().enumerate() {
            let top = FLOOR - part / most * (FLOOR - 6.0);
            let _ = write!(
                path,
                " L{:.1} {top:.1} H{:.1}",
                bin as f64 * width,
                (bin + 1) as f64 * width
            );
        }
        let _ = write!(svg, "<path class=\"{class}\" d=\"{path} L{WIDTH} {FLOOR} Z\"/>");
    }
    let edges = &distribution.edges;
    let at = [
        (0, "start", 0.0),
        (edges.len() / 2, "middle", WIDTH / 2.0),
        (edges.len().saturating_sub(1), "end", WIDTH),
    ];
    for (edge, class, x) in at {
        if let Some(edge) = edges.get(edge) {
            let _ = write!(
                svg,
                "<text class=\"{class}\" x=\"{x}\" y=\"{y}\">{label}</text>",
                y = HEIGHT - 5.0,
                label = reading(distribution.measure, *edge),
            );
        }
    }
    svg.push_str("</svg>");
    svg
}

/// The value that half of the answers of a side are below, in words; about, from the bins.
pub(super) fn middle(distribution: &Distribution, counts: &[u64]) -> String {
    let half = counts.iter().sum::<u64>() as f64 / 2.0;
    let mut below = 0.0;
    for (bin, count) in counts.iter().enumerate() {
        let count = *count as f64;
        let (low, high) = (distribution.edges.get(bin), distribution.edges.get(bin + 1));
        if let (true, Some(low), Some(high)) = (below + count >= half && count > 0.0, low, high) {
            return reading(distribution.measure, low + (high - low) * (half - below) / count);
        }
        below += count;
    }
    String::new()
}

fn reading(measure: Measure, value: f64) -> String {
    match measure {
        Measure::Cost => numbers::dollars(value),
        Measure::Latency => numbers::time(value),
        Measure::PassRate | Measure::Critical | Measure::Preference | Measure::Length => {
            numbers::grouped(value.round().max(0.0) as u64)
        }
    }
}
