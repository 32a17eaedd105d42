//! A report on a terminal: the verdict first, then why, then what to do.

use std::fmt::Write as _;

use super::numbers::{self, counted};
use super::{CaseReport, Report, Standing};
use crate::compat::Same;
use crate::compat::verdict::{Criterion, Outcome, Verdict};

/// Cases of a kind that are listed.
const LISTED: usize = 12;
/// The narrowest page that anything is laid out for.
const NARROW: usize = 60;

/// How a summary is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// Whether the terminal shows colours, and whoever reads it wants them.
    pub color: bool,
    /// Columns.
    pub width: usize,
}

/// What a piece of text is, which decides its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tone {
    Good,
    Bad,
    Open,
    Heading,
    Quiet,
}

struct Page {
    style: Style,
    text: String,
}

// === impl Report ===

impl Report {
    /// The report as a page of a terminal. It ends with a line break.
    pub fn summary(&self, style: Style) -> String {
        let style = Style { width: style.width.max(NARROW), ..style };
        let mut page = Page { style, text: String::new() };
        page.verdict(self);
        page.criteria(&self.judgement.criteria);
        let newly_failing = match self.judgement.verdict {
            Verdict::Compatible => "Newly failing, within what is allowed",
            Verdict::Incompatible | Verdict::Inconclusive => "Newly failing",
        };
        page.cases(newly_failing, self, &[Standing::NewlyFailing]);
        page.cases("Passing less often", self, &[Standing::Worse]);
        page.cases("Newly passing", self, &[Standing::NewlyPassing]);
        page.cases("Flaky with both, not counted", self, &[Standing::Quarantined]);
        page.facts(self);
        page.next(self);
        page.text
    }

    /// The verdict in one sentence.
    pub fn headline(&self) -> String {
        if self.is_of_nights() {
            return self.headline_of_night();
        }
        let says = match self.judgement.verdict {
            Verdict::Compatible => "is as good as",
            Verdict::Incompatible => "is worse than",
            Verdict::Inconclusive => "is not proven to be as good as",
        };
        let (candidate, baseline) = (&self.run.candidate, &self.run.baseline);
        if candidate.model == baseline.model {
            format!("{} {says} {} on {}", candidate.prompt, baseline.prompt, baseline.model)
        } else if candidate.prompt == baseline.prompt {
            format!("{} on {} {says} on {}", candidate.prompt, candidate.model, baseline.model)
        } else {
            format!("{candidate} {says} {baseline}")
        }
    }

    pub(super) fn with_standing(&self, of: &[Standing]) -> Vec<&CaseReport> {
        self.cases.iter().filter(|case| of.contains(&case.standing)).collect()
    }
}

// === impl CaseReport ===

impl CaseReport {
    /// Why it fails, in a line; empty if it does not.
    pub(super) fn why(&self) -> String {
        self.failures
            .first()
            .map(|check| format!("{}: {}", check.kind, check.reason))
            .unwrap_or_default()
    }
}

// === impl Page ===

impl Page {
    fn verdict(&mut self, report: &Report) {
        let judgement = &report.judgement;
        if let Some(caveat) = report.caveat() {
            let state = report.state.as_str().to_uppercase();
            let lead = (format!("{}  ", self.painted(&state, Tone::Open)), columns(&state) + 2);
            self.led(lead, &format!("{caveat}. What is known so far:"));
            self.line("");
        }
        let tone = match judgement.verdict {
            Verdict::Compatible => Tone::Good,
            Verdict::Incompatible => Tone::Bad,
            Verdict::Inconclusive if report.run.first_night => Tone::Heading,
            Verdict::Inconclusive => Tone::Open,
        };
        let verdict = report.word().to_uppercase();
        let mut reasons = judgement.reasons.iter();
        // Of a first night this is all there is to say.
        let first = report.run.ended_early.as_ref().filter(|_| report.run.first_night);
        let first = first.map(|why| why.replacen("first night: ", "", 1));
        let why = reasons.next().cloned().or(first).unwrap_or_else(|| report.headline());
        let lead = (format!("{}  ", self.painted(&verdict, tone)), columns(&verdict) + 2);
        self.led(lead, &why);
        for reason in reasons {
            self.led(("  - ".to_owned(), 4), reason);
        }
        if let Some(unanswered) = &report.unanswered {
            self.led(("  - ".to_owned(), 4), &unanswered.in_words());
        }
        self.line("");
        let sides = [("baseline", &report.run.baseline), ("candidate", &report.run.candidate)];
        for (name, side) in sides.into_iter().skip(usize::from(report.run.first_night)) {
            let name = format!("  {name:<11}");
            self.led((name, 13), &side.to_string());
        }
        self.line("");
    }

    /// A table. On a narrow page the interval takes the place of what is needed.
    fn criteria(&mut self, criteria: &[Criterion]) {
        if criteria.is_empty() {
            return;
        }
        let is_wide = self.style.width >= 110;
        let mut rows = vec![
            vec!["", "baseline", "candidate", "difference", "interval", "needs", ""]
                .into_iter()
                .map(str::to_owned)
                .collect::<Vec<_>>(),
        ];
        rows.extend(criteria.iter().map(cells));
        if !is_wide {
            rows.iter_mut().for_each(|row| {
                row.remove(5);
            });
        }
        let widths: Vec<usize> = (0..rows.first().map_or(0, Vec::len))
            .map(|at| rows.iter().filter_map(|row| row.get(at)).map(|cell| columns(cell)).max())
            .map(Option::unwrap_or_default)
            .collect();
        for (number, row) in rows.iter().enumerate() {
            let mut line = String::from(" ");
            let last = row.len().saturating_sub(1);
            for (at, (cell, width)) in row.iter().zip(&widths).enumerate() {
                let room = " ".repeat(width.saturating_sub(columns(cell)));
                let tone = match number.checked_sub(1).and_then(|number| criteria.get(number)) {
                    None => Some(Tone::Quiet),
                    Some(criterion) if at == last => Some(tone(criterion)),
                    Some(_) => None,
                };
                let cell = tone.map_or_else(|| cell.clone(), |tone| self.painted(cell, tone));
                // Words are on the left, figures on the right.
                let _ = if at == 0 || at == last {
                    write!(line, " {cell}{room}")
                } else {
                    write!(line, " {room}{cell} ")
                };
            }
            self.line(line.trim_end());
        }
        if criteria.iter().any(|criterion| !criterion.gates) {
            let note = self.painted("  In brackets: told, decides nothing.", Tone::Quiet);
            self.line(&note);
        }
        self.line("");
    }

    fn cases(&mut self, title: &str, report: &Report, of: &[Standing]) {
        let cases = report.with_standing(of);
        if cases.is_empty() {
            return;
        }
        let heading = self.painted(title, Tone::Heading);
        self.line(&format!("{heading} ({})", cases.len()));
        let listed = cases.iter().take(LISTED);
        let width = listed.clone().map(|case| columns(&case.id)).max().unwrap_or(0);
        let width = width.min(self.style.width / 3);
        for case in listed {
            let mark = if case.is_critical { "!" } else { " " };
            let id = fitted(&case.id, width);
            let counts = format!(
                "{}/{} -> {}/{}",
                case.baseline.passed,
                case.baseline.answered,
                case.candidate.passed,
                case.candidate.answered
            );
            let room = self.style.width.saturating_sub(width + columns(&counts) + 8);
            let why = case.why();
            let why = if why.is_empty() { case.description.clone() } else { why };
            let why = self.painted(&shortened(&why, room), Tone::Quiet);
            self.line(format!("  {mark} {id}  {counts}  {why}").trim_end());
        }
        if cases.len() > LISTED {
            self.line(&format!("    and {} more", cases.len() - LISTED));
        }
        self.line("");
    }

    fn facts(&mut self, report: &Report) {
        let (run, judgement) = (&report.run, &report.judgement);
        let reused: u32 =
            report.cases.iter().map(|case| case.baseline.reused + case.candidate.reused).sum();
        let mut facts = vec![
            format!("run {} of {} UTC", run.id, numbers::moment(run.started_ms)),
            format!("suite {}", run.suite),
            report.extent(" x "),
        ];
        if !report.is_of_nights() {
            facts.push(format!("look {} of {}", judgement.look.0, judgement.look.1));
        }
        facts.push(format!("seed {}", run.seed));
        if let Some(ended) = run.ended_ms {
            facts.push(numbers::time(ended.saturating_sub(run.started_ms) as f64));
        }
        facts.push(numbers::dollars(run.cost_micro_usd as f64));
        if run.judging_micro_usd > 0 {
            facts.push(format!("judges {}", numbers::dollars(run.judging_micro_usd as f64)));
        }
        if reused > 0 {
            facts.push(format!("{} reused", counted(u64::from(reused), "answer")));
        }
        if judgement.unanswered > 0 {
            facts.push(format!("{} unanswered", counted(judgement.unanswered, "pair")));
        }
        facts.extend(run.pair.and_then(|pair| pair.in_words()));
        self.wrapped(&facts.join(", "), "");
        if let Some(why) =
            run.ended_early.as_ref().filter(|_| !run.first_night && report.caveat().is_none())
        {
            self.wrapped(&format!("Note: {why}."), "");
        }
        if let Some(same) = Same::in_words(&run.same) {
            self.wrapped(&format!("Note: {same}."), "");
        }
        if let Some(unjudged) = &report.unjudged {
            self.wrapped(&format!("Note: {}.", unjudged.in_words()), "");
        }
        if let Some(judge) = &report.judge {
            self.wrapped(&judge.in_words(), "");
        }
        self.line("");
    }

    fn next(&mut self, report: &Report) {
        let heading = self.painted("Next", Tone::Heading);
        self.line(&heading);
        for step in report.next_steps() {
            self.wrapped(&step, "  ");
        }
    }

    fn painted(&self, text: &str, tone: Tone) -> String {
        if !self.style.color || text.is_empty() {
            return text.to_owned();
        }
        let code = match tone {
            Tone::Good => "1;32",
            Tone::Bad => "1;31",
            Tone::Open => "1;33",
            Tone::Heading => "1",
            Tone::Quiet => "2",
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }

    fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    fn wrapped(&mut self, text: &str, margin: &str) {
        self.led((margin.to_owned(), columns(margin)), text);
    }

    /// Words in lines that are no longer than the page. The first begins with the lead, which has
    /// so many columns; the others are four in.
    fn led(&mut self, (lead, width): (String, usize), text: &str) {
        let text = printable(text);
        let (mut line, mut used, mut is_empty) = (lead, width, true);
        for word in text.split_whitespace() {
            if !is_empty && used + 1 + columns(word) > self.style.width {
                self.line(&line);
                (line, used, is_empty) = ("    ".to_owned(), 4, true);
            }
            if !is_empty {
                line.push(' ');
                used += 1;
            }
            line.push_str(word);
            used += columns(word);
            is_empty = false;
        }
        self.line(&line);
    }
}

fn tone(criterion: &Criterion) -> Tone {
    match (criterion.gates, criterion.outcome) {
        (false, _) => Tone::Quiet,
        (true, Outcome::Holds) => Tone::Good,
        (true, Outcome::Fails) => Tone::Bad,
        (true, Outcome::Unclear) => Tone::Open,
    }
}

/// What a criterion says, in a word or two.
pub(super) fn outcome(criterion: &Criterion) -> &'static str {
    match (criterion.outcome, criterion.gates) {
        (Outcome::Holds, true) => "holds",
        (Outcome::Fails, true) => "FAILS",
        (Outcome::Unclear, true) => "unclear",
        (Outcome::Holds, false) => "(holds)",
        (Outcome::Fails, false) => "(worse)",
        (Outcome::Unclear, false) => "(unclear)",
    }
}

fn cells(criterion: &Criterion) -> Vec<String> {
    let measure = criterion.measure;
    vec![
        numbers::name(measure).to_owned(),
        numbers::value(measure, criterion.baseline, criterion.pairs),
        numbers::value(measure, criterion.candidate, criterion.pairs),
        numbers::difference(measure, criterion.difference),
        numbers::interval(criterion),
        numbers::needs(criterion),
        outcome(criterion).to_owned(),
    ]
}

fn columns(text: &str) -> usize {
    text.chars().count()
}

/// In so many columns: filled up, or cut.
fn fitted(text: &str, width: usize) -> String {
    let text = shortened(text, width);
    let room = " ".repeat(width.saturating_sub(columns(&text)));
    text + &room
}

/// On one line of at most so many columns.
fn shortened(text: &str, width: usize) -> String {
    let text = printable(text);
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if columns(&text) <= width {
        return text;
    }
    let mut cut: String = text.chars().take(width.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

/// Without what a terminal would obey, since a model may have said it: it is shown as `\x1b`.
fn printable(text: &str) -> String {
    numbers::visible(&text.replace(['\n', '\r', '\t'], " ")).into_owned()
}
