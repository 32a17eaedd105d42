//! Runs with noisy answers, seeded: how often a verdict is wrong, and how often a regression is
//! found. `FULL_FIGURES=1 cargo nextest run -E 'test(verdict::tests::simulation)' --no-capture`
//! makes many more runs, and prints all figures.

#![expect(clippy::print_stdout, reason = "the figures are what one runs it for")]

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use rand_distr::{Beta, Distribution as _, LogNormal, Normal};

use super::*;

/// How cases are spread between never and always passed.
#[derive(Debug, Clone, Copy)]
struct Spread(f64, f64);

/// Most answers are the same every time; a few cases are open.
const STABLE: Spread = Spread(0.9, 0.1);
/// Every case fails now and then.
const NOISY: Spread = Spread(8.0, 1.0);
/// Cases of all kinds.
const BROAD: Spread = Spread(1.5, 0.5);

/// How a candidate is worse.
#[derive(Debug, Clone, Copy)]
enum Loss {
    Nothing,
    /// Each case is passed less often, in proportion, so that the mean falls by so much.
    Everywhere(f64),
    /// Some cases are never passed any more, so many that the mean falls by so much.
    InSomeCases(f64),
}

#[derive(Debug, Clone)]
struct World {
    cases: usize,
    spread: Spread,
    loss: Loss,
    terms: Terms,
    /// One in so many cases is critical; 0 for none.
    critical: usize,
    /// One in so many cases has a judge prefer; 0 for none.
    preferred: usize,
    /// How often the judge takes what it sees first, whatever it is.
    position_bias: f64,
}

/// How often each verdict came.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    compatible: u32,
    incompatible: u32,
    inconclusive: u32,
    /// Pairs of a case at the last look, of all runs.
    samples: u32,
}

struct Simulated {
    rng: StdRng,
    /// The chance to pass each case: the baseline's and the candidate's.
    chances: Vec<(f64, f64)>,
    cases: Vec<PairedCase>,
    /// The typical length of answers to each case.
    lengths: Vec<f64>,
    noise: Normal<f64>,
    bias: f64,
}

// === impl World ===

impl World {
    fn new(cases: usize, spread: Spread, loss: Loss) -> Self {
        let terms = Terms::default();
        Self { cases, spread, loss, terms, critical: 0, preferred: 0, position_bias: 0.0 }
    }

    /// Chances whose mean difference is what the loss says, in this suite.
    fn chances(&self, rng: &mut StdRng) -> Vec<(f64, f64)> {
        let spread = Beta::new(self.spread.0, self.spread.1).unwrap();
        let baseline: Vec<f64> = (0..self.cases).map(|_| spread.sample(rng)).collect();
        let sum: f64 = baseline.iter().sum();
        match self.loss {
            Loss::Nothing => baseline.iter().map(|chance| (*chance, *chance)).collect(),
            Loss::Everywhere(loss) => {
                let kept = 1.0 - loss * self.cases as f64 / sum;
                baseline.iter().map(|chance| (*chance, chance * kept)).collect()
            }
            Loss::InSomeCases(loss) => {
                let mut left = loss * self.cases as f64;
                let break_some = |chance: &f64| {
                    let lost = chance.min(left);
                    left -= lost;
                    (*chance, chance - lost)
                };
                baseline.iter().map(break_some).collect()
            }
        }
    }

    /// A whole run: looks, confirmations and all.
    fn run(&self, seed: u64) -> (Judgement, u32) {
        let mut rng = StdRng::seed_from_u64(seed);
        let chances = self.chances(&mut rng);
        let cases = (0..self.cases)
            .map(|at| PairedCase {
                id: format!("case-{at:04}"),
                category: Category::Functional,
                is_critical: self.critical > 0 && at % self.critical == 0,
                baseline: Vec::new(),
                candidate: Vec::new(),
                preferences: Vec::new(),
            })
            .collect();
        let length = LogNormal::new(5.0, 0.8).unwrap();
        let lengths = (0..self.cases).map(|_| 20.0 + length.sample(&mut rng)).collect();
        let noise = Normal::new(0.0, 0.3).unwrap();
        let bias = self.position_bias;
        let mut simulated = Simulated { rng, chances, cases, lengths, noise, bias };
        let mut samples = self.terms.samples;
        loop {
            simulated.fill(samples, self.preferred);
            let look = Look { samples, can_ask_more: true };
            let mut judgement = judge(&simulated.cases, &self.terms, look);
            while !judgement.confirm.is_empty() {
                for id in &judgement.confirm {
                    let at: usize = id.trim_start_matches("case-").parse().unwrap();
                    simulated.ask(at, self.preferred);
                }
                judgement = judge(&simulated.cases, &self.terms, look);
            }
            match judgement.next_samples {
                Some(next) => samples = next,
                None => return (judgement, samples),
            }
        }
    }

    fn counts(&self, runs: u32) -> Counts {
        let mut counts = Counts::default();
        for seed in 0..u64::from(runs) {
            let (judgement, samples) = self.run(seed);
            counts.samples += samples;
            *match judgement.verdict {
                Verdict::Compatible => &mut counts.compatible,
                Verdict::Incompatible => &mut counts.incompatible,
                Verdict::Inconclusive => &mut counts.inconclusive,
            } += 1;
        }
        let part = |count: u32| f64::from(count) / f64::from(runs) * 100.0;
        if is_full() {
            println!(
                "{:>4} cases, {:?}, {:?}: compatible {:.1} %, incompatible {:.1} %, inconclusive \
                 {:.1} %, {:.1} pairs a case",
                self.cases,
                self.spread,
                self.loss,
                part(counts.compatible),
                part(counts.incompatible),
                part(counts.inconclusive),
                f64::from(counts.samples) / f64::from(runs),
            );
        }
        counts
    }
}

fn is_full() -> bool {
    std::env::var_os("FULL_FIGURES").is_some()
}

fn runs(quick: u32, full: u32) -> u32 {
    if is_full() { full } else { quick }
}

/// Fails if `count` of `runs` is more than would be seen in one of 1,000 suites at this rate.
fn assert_rare(count: u32, runs: u32, rate: f64) {
    let expected = rate * f64::from(runs);
    let most = expected + 3.09 * (expected * (1.0 - rate)).sqrt();
    assert!(f64::from(count) <= most, "{count} of {runs} are more than {:.0} %", rate * 100.0);
}

// === impl Simulated ===

impl Simulated {
    fn fill(&mut self, samples: u32, preferred: usize) {
        for at in 0..self.cases.len() {
            while self.cases[at].baseline.len() < samples as usize {
                self.ask(at, preferred);
            }
        }
    }

    fn ask(&mut self, at: usize, preferred: usize) {
        let (baseline, candidate) = self.chances[at];
        let typical = self.lengths[at];
        let (baseline, candidate) =
            (self.answer(baseline, typical), self.answer(candidate, typical));
        let case = &mut self.cases[at];
        case.baseline.push(baseline);
        case.candidate.push(candidate);
        if preferred > 0 && at.is_multiple_of(preferred) {
            let preference = self.prefer(baseline, candidate);
            self.cases[at].preferences.push(preference);
        }
    }

    fn answer(&mut self, chance: f64, typical: f64) -> Sample {
        let factor = self.noise.sample(&mut self.rng).exp();
        Sample {
            passed: Some(self.rng.random_bool(chance.clamp(0.0, 1.0))),
            output_tokens: (typical * factor) as u64,
            cost_micro_usd: (50.0 + typical * factor * 8.0) as u64,
            latency_ms: (300.0 + typical * factor * 12.0) as u64,
        }
    }

    /// A judge that sees both orders, and takes what it sees first now and then. It likes what
    /// passes better, and otherwise a coin's side.
    fn prefer(&mut self, baseline: Sample, candidate: Sample) -> Preference {
        let honest = match (baseline.passed, candidate.passed) {
            (Some(true), Some(false)) => Preference::Baseline,
            (Some(false), Some(true)) => Preference::Candidate,
            _ if self.rng.random_bool(0.5) => Preference::Baseline,
            _ => Preference::Candidate,
        };
        let mut says = |first| if self.rng.random_bool(self.bias) { first } else { honest };
        let orders = (says(Preference::Baseline), says(Preference::Candidate));
        if orders.0 == orders.1 { orders.0 } else { Preference::Tie }
    }
}

#[test]
fn a_candidate_that_is_no_different_is_hardly_ever_incompatible() {
    for (cases, quick) in [(50, 60), (120, 30), (300, 10), (700, 4)] {
        for spread in [STABLE, NOISY, BROAD] {
            let world =
                World { critical: 10, preferred: 3, ..World::new(cases, spread, Loss::Nothing) };
            let runs = runs(quick, 2_000);
            assert_rare(world.counts(runs).incompatible, runs, 0.05);
        }
    }
}

#[test]
fn a_candidate_that_is_worse_by_the_margin_is_hardly_ever_compatible() {
    for (cases, quick) in [(50, 40), (120, 20), (300, 6), (700, 3)] {
        for spread in [STABLE, NOISY, BROAD] {
            for loss in [Loss::Everywhere(0.03), Loss::InSomeCases(0.03)] {
                let world = World::new(cases, spread, loss);
                let runs = runs(quick, 2_000);
                assert_rare(world.counts(runs).compatible, runs, 0.05);
            }
        }
    }
}

/// As large as the tool itself says, from the discordance that a run of two equal sides has shown.
#[test]
fn a_loss_of_five_points_is_found_at_the_size_that_was_announced() {
    for spread in [STABLE, NOISY, BROAD] {
        let equal = World::new(2_000, spread, Loss::Nothing).run(99).0;
        let seen = equal.discordance;
        let terms = Terms::default();
        let announced = plan(1, Some(seen), &terms).pairs_for_regression;
        let cases = announced.div_ceil(u64::from(terms.max_samples)) as usize;
        for loss in [Loss::Everywhere(0.05), Loss::InSomeCases(0.05)] {
            let runs = runs(60, 2_000);
            if is_full() {
                println!("discordance {seen:.3}: {announced} pairs announced");
            }
            let found = World::new(cases, spread, loss).counts(runs).incompatible;
            assert_rare(runs - found, runs, 0.2);
        }
    }
}

#[test]
fn a_candidate_that_is_no_different_is_compatible_at_the_size_that_was_announced() {
    for spread in [STABLE, NOISY, BROAD] {
        let seen = World::new(2_000, spread, Loss::Nothing).run(99).0.discordance;
        let terms = Terms::default();
        let announced = plan(1, Some(seen), &terms).pairs_for_margin;
        let cases = announced.div_ceil(u64::from(terms.max_samples)) as usize;
        let runs = runs(30, 2_000);
        if is_full() {
            println!("discordance {seen:.3}: {announced} pairs announced");
        }
        let found = World::new(cases, spread, Loss::Nothing).counts(runs).compatible;
        assert_rare(runs - found, runs, 0.2);
    }
}

/// A judge that takes what it sees first in a third of its sittings, in both orders: those are
/// ties. Its coin is another than the fair judge's, so a run that is hardly decided may stay open.
#[test]
fn a_judge_that_likes_what_it_sees_first_changes_no_verdict() {
    for (loss, right) in
        [(Loss::Nothing, Verdict::Compatible), (Loss::Everywhere(0.25), Verdict::Incompatible)]
    {
        let runs = runs(5, 200);
        let mut changed = 0;
        for seed in 0..u64::from(runs) {
            let fair = World { preferred: 1, ..World::new(600, STABLE, loss) };
            let biased = World { position_bias: 0.35, ..fair.clone() };
            let (fair, biased) = (fair.run(seed).0, biased.run(seed).0);
            changed += u32::from(fair.verdict != biased.verdict);
            for judgement in [fair, biased] {
                let is_right = [right, Verdict::Inconclusive].contains(&judgement.verdict);
                assert!(is_right, "{:#?}", judgement.reasons);
            }
        }
        if is_full() {
            println!("{loss:?}: {changed} of {runs} verdicts changed by position bias");
        }
        assert_rare(changed, runs, 0.02);
    }
}
