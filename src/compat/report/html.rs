//! A report as one page: no network, no fonts or scripts of others, light and dark.
//!
//! What models and suites say is hostile until shown otherwise. Everything that the template prints
//! is escaped unless it is a drawing of ours, and the page's own policy (a Content-Security-Policy
//! with the digest of its one script) forbids whatever would run all the same. The page can be read
//! without the script, which only filters.

use std::borrow::Cow;

use base64::Engine as _;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, Error, Output, State, Value, escape_formatter};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use similar::{ChangeTag, TextDiff};

use super::numbers::{self, counted};
use super::{
    CaseReport, Distribution, Report, RunFacts, ShownAnswer, ShownPair, Standing, Tally,
    Unanswered, plots, summary,
};
use crate::compat::verdict::Criterion;
use crate::compat::{Preference, Same};

const PAGE: &str = include_str!("page.html");
const LOOKS: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");
/// Texts that have less in common are not compared word by word: every other word would be marked.
const ALIKE: f32 = 0.35;

/// All that the template prints.
#[derive(Serialize)]
struct Page<'a> {
    digest: String,
    looks: Value,
    script: Value,
    run: &'a RunFacts,
    /// Where the run is, where that is not its end.
    state: &'static str,
    caveat: Option<String>,
    is_not_judged_in_full: bool,
    verdict: &'static str,
    class: &'static str,
    headline: String,
    baseline: String,
    candidate: String,
    reasons: Vec<String>,
    steps: Vec<String>,
    facts: Vec<(&'static str, String)>,
    rows: Vec<Row>,
    nights: usize,
    trend: Option<Value>,
    spreads: Vec<Spread>,
    kinds: Vec<Kind>,
    cases: Vec<CaseView<'a>>,
}

/// A row of the table of criteria.
#[derive(Serialize)]
struct Row {
    name: &'static str,
    baseline: String,
    candidate: String,
    difference: String,
    interval: String,
    needs: String,
    outcome: &'static str,
    class: &'static str,
    plot: Value,
}

/// A drawing of how something is spread.
#[derive(Serialize)]
struct Spread {
    name: &'static str,
    baseline: String,
    candidate: String,
    plot: Value,
}

/// A kind of cases, to choose from.
#[derive(Serialize)]
struct Kind {
    id: &'static str,
    words: &'static str,
    count: usize,
}

/// A case.
#[derive(Serialize)]
struct CaseView<'a> {
    case: &'a CaseReport,
    standing: &'static str,
    words: &'static str,
    category: &'static str,
    why: String,
    /// Whether it is shown opened: the first one, if something is wrong with it.
    is_bad: bool,
    baseline: SideView<'a>,
    candidate: SideView<'a>,
    question: &'a str,
    vars: Vec<(&'a str, String)>,
    pairs: Vec<PairView<'a>>,
    more: String,
}

/// How one side did in a case.
#[derive(Serialize)]
struct SideView<'a> {
    tally: &'a Tally,
    /// One mark for each answer.
    marks: Vec<bool>,
    figures: String,
}

/// Two answers, side by side.
#[derive(Serialize)]
struct PairView<'a> {
    number: u32,
    prefers: &'static str,
    sides: [AnswerView<'a>; 2],
}

/// One of them.
#[derive(Serialize)]
struct AnswerView<'a> {
    name: &'static str,
    answer: &'a ShownAnswer,
    /// The text in pieces: whether a piece is only on this side.
    pieces: Vec<(bool, String)>,
    figures: String,
    verdict: &'static str,
    class: &'static str,
}

// === impl Report ===

impl Report {
    /// The report as one self-contained page.
    ///
    /// # Errors
    ///
    /// What the template engine says; never because of what a report contains.
    pub fn html(&self) -> Result<String, String> {
        let mut templates = Environment::new();
        templates.set_auto_escape_callback(|_| AutoEscape::Html);
        templates.set_formatter(format_visibly);
        let verdict = self.judgement.verdict;
        let page = Page {
            digest: base64::engine::general_purpose::STANDARD.encode(Sha256::digest(SCRIPT)),
            looks: drawing(LOOKS.to_owned()),
            script: drawing(SCRIPT.to_owned()),
            run: &self.run,
            state: self.state.as_str(),
            caveat: self.caveat(),
            is_not_judged_in_full: self.unjudged.is_some(),
            verdict: self.word(),
            class: match self.run.first_night {
                true => "told",
                false => plots::verdict_class(verdict),
            },
            headline: self.headline(),
            baseline: self.run.baseline.to_string(),
            candidate: self.run.candidate.to_string(),
            reasons: self.reasons(),
            steps: self.next_steps(),
            facts: self.facts(),
            rows: self.judgement.criteria.iter().map(Row::of).collect(),
            nights: self.trend.len(),
            trend: (self.trend.len() > 1).then(|| drawing(plots::trend(&self.trend))),
            spreads: self.distributions.iter().map(Spread::of).collect(),
            kinds: self.kinds(),
            cases: self.cases.iter().map(CaseView::of).collect(),
        };
        let page = Value::from(Serde(&page));
        templates.render_str(PAGE, page).map_err(|error| format!("{error:#}"))
    }

    /// Why the verdict is what it is, and what failed.
    fn reasons(&self) -> Vec<String> {
        let unanswered = self.unanswered.iter().map(Unanswered::in_words);
        self.judgement.reasons.iter().cloned().chain(unanswered).collect()
    }

    fn facts(&self) -> Vec<(&'static str, String)> {
        let (run, judgement) = (&self.run, &self.judgement);
        let mut facts = vec![
            ("Run", format!("{} ({})", run.id, run.kind)),
            ("State", self.state.as_str().to_owned()),
            ("Suite", format!("{} ({:?})", run.suite, run.depth).to_lowercase()),
            ("Began", format!("{} UTC", numbers::moment(run.started_ms))),
        ];
        if let Some(ended) = run.ended_ms {
            facts.push(("Took", numbers::time(ended.saturating_sub(run.started_ms) as f64)));
        }
        facts.push(("Asked", self.extent(" × ")));
        if !self.is_of_nights() {
            facts.push(("Look", format!("{} of {}", judgement.look.0, judgement.look.1)));
        }
        if let Some(pair) = run.pair.and_then(|pair| pair.in_words()) {
            facts.push(("Again", pair));
        }
        let judging = if run.judging_micro_usd > 0 {
            format!(" + {} judges", numbers::dollars(run.judging_micro_usd as f64))
        } else {
            String::new()
        };
        facts.push(("Cost", format!("{}{judging}", numbers::dollars(run.cost_micro_usd as f64))));
        facts.push(("Seed", run.seed.to_string()));
        if judgement.unanswered > 0 {
            facts.push(("Unanswered", counted(judgement.unanswered, "pair")));
        }
        if let Some(why) = run.ended_early.as_ref().filter(|_| self.caveat().is_none()) {
            facts.push(("Note", why.clone()));
        }
        if let Some(same) = Same::in_words(&run.same) {
            facts.push(("The same", same));
        }
        if let Some(unjudged) = &self.unjudged {
            facts.push(("Not judged", unjudged.in_words()));
        }
        if let Some(judge) = &self.judge {
            facts.push(("Judge", judge.in_words().trim_start_matches("Judge ").to_owned()));
        }
        facts
    }

    fn kinds(&self) -> Vec<Kind> {
        let kind = |standing: Standing| Kind {
            id: standing.as_str(),
            words: standing.in_words(),
            count: self.with_standing(&[standing]).len(),
        };
        Standing::ALL.into_iter().map(kind).filter(|kind| kind.count > 0).collect()
    }
}

/// Prints texts of others escaped, with what a reader would not see shown by its number.
fn format_visibly(
    out: &mut Output<'_>,
    state: &mut State<'_, '_>,
    value: &Value,
) -> Result<(), Error> {
    match value.as_str().filter(|_| !value.is_safe()).map(numbers::visible) {
        Some(Cow::Owned(shown)) => escape_formatter(out, state, &Value::from(shown)),
        Some(Cow::Borrowed(_)) | None => escape_formatter(out, state, value),
    }
}

/// What is ours, and printed as it is.
fn drawing(ours: String) -> Value {
    Value::from_safe_string(ours)
}

// === impl Row ===

impl Row {
    fn of(criterion: &Criterion) -> Self {
        let measure = criterion.measure;
        let interval = numbers::interval(criterion);
        let plot = match numbers::has_interval(criterion) {
            true => plots::interval(criterion),
            false => String::new(),
        };
        Self {
            name: numbers::name(measure),
            baseline: numbers::value(measure, criterion.baseline, criterion.pairs),
            candidate: numbers::value(measure, criterion.candidate, criterion.pairs),
            difference: numbers::difference(measure, criterion.difference),
            interval,
            needs: numbers::needs(criterion),
            outcome: summary::outcome(criterion),
            class: plots::outcome_class(criterion),
            plot: drawing(plot),
        }
    }
}

// === impl Spread ===

impl Spread {
    fn of(distribution: &Distribution) -> Self {
        Self {
            name: numbers::name(distribution.measure),
            baseline: plots::middle(distribution, &distribution.baseline),
            candidate: plots::middle(distribution, &distribution.candidate),
            plot: drawing(plots::histogram(distribution)),
        }
    }
}

// === impl CaseView ===

impl<'a> CaseView<'a> {
    fn of(case: &'a CaseReport) -> Self {
        let shown = case.shown.as_ref();
        let vars = shown.map(|shown| {
            let vars = shown.vars.iter().map(|(name, value)| {
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                (name.as_str(), text)
            });
            vars.collect()
        });
        let pairs = shown.map(|shown| shown.pairs.iter().map(PairView::of).collect());
        let more = shown.map_or(0, |shown| shown.more);
        Self {
            case,
            standing: case.standing.as_str(),
            words: case.standing.in_words(),
            category: numbers::category(case.category),
            why: case.why(),
            is_bad: case.standing.is_bad(),
            baseline: SideView::of(&case.baseline),
            candidate: SideView::of(&case.candidate),
            question: shown.map_or("", |shown| shown.question.as_str()),
            vars: vars.unwrap_or_default(),
            pairs: pairs.unwrap_or_default(),
            more: if more == 0 { String::new() } else { counted(u64::from(more), "more pair") },
        }
    }
}

// === impl SideView ===

impl<'a> SideView<'a> {
    fn of(tally: &'a Tally) -> Self {
        let figures = format!(
            "{} tokens, {}, p95 {}",
            numbers::decimals(tally.output_tokens, 0),
            numbers::dollars(tally.cost_micro_usd),
            numbers::time(tally.p95_latency_ms as f64)
        );
        Self { tally, marks: (0..tally.answered).map(|at| at < tally.passed).collect(), figures }
    }
}

// === impl PairView ===

impl<'a> PairView<'a> {
    fn of(pair: &'a ShownPair) -> Self {
        let (baseline, candidate) = pieces(&pair.baseline.text, &pair.candidate.text);
        Self {
            number: pair.sample + 1,
            prefers: match pair.preference {
                Some(Preference::Candidate) => "the judge prefers the candidate",
                Some(Preference::Baseline) => "the judge prefers the baseline",
                Some(Preference::Tie) => "the judge calls it a tie",
                None => "",
            },
            sides: [
                AnswerView::of("baseline", &pair.baseline, baseline),
                AnswerView::of("candidate", &pair.candidate, candidate),
            ],
        }
    }
}

// === impl AnswerView ===

impl<'a> AnswerView<'a> {
    fn of(name: &'static str, answer: &'a ShownAnswer, pieces: Vec<(bool, String)>) -> Self {
        let (verdict, class) = match answer.passed {
            Some(true) => ("passes", "good"),
            Some(false) => ("fails", "bad"),
            None => ("not judged", "told"),
        };
        let figures = format!(
            "{} tokens, {}, {}",
            numbers::grouped(answer.output_tokens),
            numbers::dollars(answer.cost_micro_usd as f64),
            numbers::time(answer.latency_ms as f64)
        );
        Self { name, answer, pieces, figures, verdict, class }
    }
}

/// Pieces of a text: each with whether only this side has it.
type Pieces = Vec<(bool, String)>;

/// Both texts in pieces, by words. Texts that are hardly alike are one piece each.
fn pieces(baseline: &str, candidate: &str) -> (Pieces, Pieces) {
    let difference = TextDiff::from_words(baseline, candidate);
    if difference.ratio() < ALIKE {
        return (vec![(false, baseline.to_owned())], vec![(false, candidate.to_owned())]);
    }
    let (mut left, mut right) = (Vec::new(), Vec::new());
    for change in difference.iter_all_changes() {
        let word = change.value();
        match change.tag() {
            ChangeTag::Equal => {
                push(&mut left, false, word);
                push(&mut right, false, word);
            }
            ChangeTag::Delete => push(&mut left, true, word),
            ChangeTag::Insert => push(&mut right, true, word),
        }
    }
    (left, right)
}

fn push(pieces: &mut Pieces, is_own: bool, word: &str) {
    match pieces.last_mut() {
        Some((last, text)) if *last == is_own => text.push_str(word),
        Some(_) | None => pieces.push((is_own, word.to_owned())),
    }
}
