//! Nights with noisy answers, seeded: how often an unchanged provider is called changed, and how
//! soon a change is found. `FULL_FIGURES=1 cargo nextest run -E 'test(verdict::tests::nights)'
//! --no-capture` makes many more, and prints all figures.

#![expect(clippy::print_stdout, reason = "the figures are what one runs it for")]

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use rand_distr::{Beta, Distribution as _};

use super::*;

/// Answers to each case a night.
const SAMPLES: u32 = 10;

/// A provider that becomes worse.
#[derive(Debug, Clone, Copy)]
struct Provider {
    cases: usize,
    /// How cases are spread between never and always passed.
    spread: (f64, f64),
    /// By how much of all answers it becomes worse: everywhere, or in some cases that break.
    fall: f64,
    in_some_cases: bool,
    /// How many nights it is as it was.
    before: usize,
    /// The part of a night's answers to a case that are all the same.
    alike: f64,
}

/// Most answers are the same every time; a few cases are open.
const STABLE: Provider = Provider {
    cases: 39,
    spread: (0.9, 0.1),
    fall: 0.0,
    in_some_cases: false,
    before: 7,
    alike: 0.0,
};
/// Every case fails now and then.
const NOISY: Provider = Provider { spread: (8.0, 1.0), ..STABLE };

// === impl Provider ===

impl Provider {
    /// The chance to pass each case, before and after.
    fn chances(&self, rng: &mut StdRng) -> Vec<(f64, f64)> {
        let spread = Beta::new(self.spread.0, self.spread.1).unwrap();
        let before: Vec<f64> = (0..self.cases).map(|_| spread.sample(rng)).collect();
        let mut left = self.fall * self.cases as f64;
        let kept = 1.0 - left / before.iter().sum::<f64>();
        let after = |chance: f64| match self.in_some_cases {
            false => chance * kept,
            true => {
                let lost = chance.min(left);
                left -= lost;
                chance - lost
            }
        };
        before.iter().copied().zip(before.iter().copied().map(after)).collect()
    }

    /// What is said night by night, from the second one on.
    fn nights(&self, seed: u64, nights: usize) -> impl Iterator<Item = Judgement> {
        let mut rng = StdRng::seed_from_u64(seed);
        let chances = self.chances(&mut rng);
        let mut cases: Vec<CaseNights> = (0..self.cases).map(case).collect();
        let terms = Terms { samples: SAMPLES, max_samples: SAMPLES, ..Terms::default() };
        let (before, alike) = (self.before, self.alike);
        let night = move |night: usize| {
            for (case, (good, bad)) in cases.iter_mut().zip(&chances) {
                let chance = if night < before { *good } else { *bad };
                let shared = rng.random::<f64>() < chance;
                let mut is_good = || match rng.random::<f64>() < alike {
                    true => shared,
                    false => rng.random::<f64>() < chance,
                };
                let passed = (0..SAMPLES).map(|_| u32::from(is_good())).sum();
                case.nights.push(CaseNight { passed, answered: SAMPLES });
                if case.nights.len() > MOST_NIGHTS as usize + 1 {
                    case.nights.remove(0);
                }
            }
            (night > 0).then(|| judge_nights(&cases, &[], &terms))
        };
        (0..nights).filter_map(night)
    }

    /// How many of so many providers are called changed within 30 nights from the second on.
    fn alarms(&self, runs: u32) -> u32 {
        let is_alarm = |judgement: Judgement| judgement.verdict == Verdict::Incompatible;
        let alarms = (0..u64::from(runs)).filter(|seed| self.nights(*seed, 31).any(is_alarm));
        let alarms = alarms.count() as u32;
        if is_full() {
            println!("{self:?}: {:.1} % alarm", 100.0 * f64::from(alarms) / f64::from(runs));
        }
        alarms
    }

    /// In how many of so many a fall is found by its first, third and seventh night.
    fn found(&self, runs: u32) -> [u32; 3] {
        let mut found = [0; 3];
        for seed in 0..u64::from(runs) {
            let mut judgements = self.nights(seed, self.before + 7).skip(self.before - 1);
            let first = judgements.position(|one| one.verdict == Verdict::Incompatible);
            for (found, within) in found.iter_mut().zip([1, 3, 7]) {
                *found += u32::from(first.is_some_and(|night| night < within));
            }
        }
        if is_full() {
            println!("{self:?}: found by night 1, 3, 7: {found:?} of {runs}");
        }
        found
    }
}

fn case(number: usize) -> CaseNights {
    let id = format!("case-{number:04}");
    CaseNights { id, is_critical: false, nights: Vec::new(), unanswered: 0 }
}

fn is_full() -> bool {
    std::env::var_os("FULL_FIGURES").is_some()
}

fn runs(quick: u32, full: u32) -> u32 {
    if is_full() { full } else { quick }
}

#[test]
fn of_unchanged_providers_one_in_twenty_is_called_changed_in_a_month() {
    let alike = 0.3;
    for provider in [STABLE, NOISY, Provider { alike, ..STABLE }, Provider { alike, ..NOISY }] {
        let runs = runs(60, 1_000);
        let alarms = provider.alarms(runs);
        // As many as one of 1,000 would have at 5 %.
        let expected = 0.05 * f64::from(runs);
        let most = expected + 3.09 * (expected * 0.95).sqrt();
        assert!(f64::from(alarms) <= most, "{alarms} of {runs}: {provider:?}");
    }
}

#[test]
fn a_fall_of_five_points_is_found_within_days_and_one_of_ten_at_once() {
    let of = |provider, cases, fall| Provider { cases, fall, ..provider };
    for (provider, least) in [
        // In parts of all, by the first, third and seventh night.
        (of(STABLE, 39, 0.05), [0.5, 0.9, 0.95]),
        (of(NOISY, 39, 0.05), [0.15, 0.6, 0.9]),
        (of(NOISY, 39, 0.1), [0.9, 0.95, 0.95]),
        (of(STABLE, 200, 0.05), [0.9, 0.95, 0.95]),
        (Provider { in_some_cases: true, ..of(STABLE, 200, 0.05) }, [0.9, 0.95, 0.95]),
    ] {
        let runs = runs(30, 400);
        let found = provider.found(runs);
        let is_enough = |(found, least): (&u32, &f64)| f64::from(*found) >= least * f64::from(runs);
        assert!(found.iter().zip(&least).all(is_enough), "{found:?} of {runs}: {provider:?}");
    }
}

/// Nights of 60 cases that are passed so many times of ten.
fn judged(nights: &[u32], spoil: impl Fn(&mut CaseNights)) -> Judgement {
    let night = |passed: &u32| CaseNight { passed: *passed, answered: SAMPLES };
    let mut cases: Vec<CaseNights> = (0..60).map(case).collect();
    for case in &mut cases {
        case.nights = nights.iter().map(night).collect();
        spoil(case);
    }
    let terms = Terms { samples: SAMPLES, max_samples: SAMPLES, ..Terms::default() };
    judge_nights(&cases, &[], &terms)
}

#[test]
fn a_fall_stays_one_until_a_night_is_as_good_as_those_before_it() {
    let good = judged(&[9, 9, 9], |_| {});
    assert_eq!(good.verdict, Verdict::Compatible, "{good:?}");
    assert_eq!(good.drift.unwrap().fallen, 0);
    let fallen = judged(&[9, 9, 9, 8, 8], |_| {});
    assert_eq!(fallen.verdict, Verdict::Incompatible, "{fallen:?}");
    let drift = fallen.drift.unwrap();
    assert_eq!((drift.nights, drift.fallen), (3, 2));
    assert!(drift.chance < drift.level);
    let why = &fallen.reasons[0];
    assert!(why.contains("tonight 80 % of answers pass, in the 3 nights before 90 %"), "{why}");
    assert!(why.ends_with("worse for 2 nights now"), "{why}");
    let weeks = judged(&[[9; 5].as_slice(), [8; 20].as_slice()].concat(), |_| {});
    assert_eq!(weeks.verdict, Verdict::Incompatible, "three weeks later it is still worse");
    let mended = judged(&[9, 9, 9, 8, 8, 9], |_| {});
    assert_eq!(mended.verdict, Verdict::Compatible, "{mended:?}");
    let better = judged(&[8, 8, 9, 9], |_| {});
    assert_eq!(better.verdict, Verdict::Compatible, "{better:?}");
}

#[test]
fn a_critical_case_that_breaks_is_found_among_many_in_one_night() {
    let breaks = |case: &mut CaseNights| {
        case.is_critical = *case.id < *"case-0020";
        if case.id == "case-0003" {
            *case.nights.last_mut().unwrap() = CaseNight { passed: 0, answered: SAMPLES };
        }
    };
    let broken = judged(&[10, 10, 10], breaks);
    assert_eq!(broken.verdict, Verdict::Incompatible, "{broken:?}");
    assert_eq!(broken.newly_failing, ["case-0003"]);
    assert!(broken.reasons[0].contains("newly fails critical cases: case-0003"), "{broken:?}");
    let once = judged(&[10, 10, 10], |case| {
        breaks(case);
        if case.id == "case-0003" {
            *case.nights.last_mut().unwrap() = CaseNight { passed: 9, answered: SAMPLES };
        }
    });
    assert_eq!(once.verdict, Verdict::Compatible, "one bad answer is none: {once:?}");
}

#[test]
fn nights_without_answers_and_cases_without_nights_decide_nothing() {
    let holes = judged(&[9, 9, 9], |case| case.unanswered = 2);
    assert_eq!(holes.verdict, Verdict::Inconclusive, "{holes:?}");
    assert_eq!((holes.pairs, holes.unanswered), (600, 120));
    let none = CaseNight::default();
    let away = judged(&[9, 9, 9, 9], |case| case.nights[1] = none);
    assert_eq!(away.verdict, Verdict::Compatible, "a night that has none is no night: {away:?}");
    let new = judged(&[9, 9, 9], |case| {
        if *case.id > *"case-0019" {
            case.nights[..2].fill(none);
        }
    });
    assert_eq!(new.pairs, 200, "cases that are new are compared tomorrow");
    let nothing = judge_nights(&[], &[], &Terms::default());
    assert_eq!((nothing.verdict, nothing.pairs), (Verdict::Inconclusive, 0));
    assert_eq!(nothing.reasons, ["there is no pair to compare"]);
}
