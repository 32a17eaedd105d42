//! Whether a provider has changed something: tonight's answers of an unchanged prompt on an
//! unchanged model, held against those of the nights before.
//!
//! One night of a small suite cannot tell a loss of five points from bad luck, but nights add up.
//! All nights that there are, up to four weeks, are split in two at every place, and the answers
//! before and after are compared: a scan for one change (Sen and Srivastava, Annals of Statistics
//! 3, 1975), made anew every night. Where answers became worse some nights ago the right split has
//! all of them on the right side, so that nothing dilutes what is seen, and says since when.
//!
//! Each split is asked the exact question of `rates`, with cases as strata: if nothing
//! has changed, any of a case's answers are as likely to be those after the split. Where nights
//! differ by more than answers do (a night's answers to a case are alike), the statistic is divided
//! by the root of the overdispersion that is seen within both parts (McCullagh and Nelder,
//! Generalized Linear Models, 1989, 4.5).
//!
//! Somebody looks every night, at every split. So each is held to a level at which, by simulation,
//! an unchanged provider is called changed in at most 5 % of *months*, not of nights.

use serde::{Deserialize, Serialize};

use super::critical::Critical;
use super::looks::Bounds;
use super::rates::{self, Against};
use super::{
    Criterion, ExactTest, Judgement, Look, Measure, Outcome, PairedCase, Terms, normal, ratios,
    terms, words,
};

/// Nights before tonight that count, where there are so many.
pub const MOST_NIGHTS: u32 = 28;
/// What the chance of a split must be below: of what a normal variable exceeds 3.6 with. Found by
/// simulation of 29 nights that are split everywhere, every night: 4 % of 30 nights have one such.
const LEVEL: f64 = 1.6e-4;
/// That of all critical cases together: 1 % of 30 nights.
const LEVEL_OF_CRITICAL: f64 = 3e-5;
/// How many answers' variance stands for what is known of the dispersion before anything is seen.
const PRIOR: f64 = 4.0;
/// The most work that an exact distribution of one split may be.
const EXACT_WORK: u64 = 250_000;

/// A case with what was answered to it, night by night.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaseNights {
    /// The case.
    pub id: String,
    /// Whether it may not be newly failed.
    pub is_critical: bool,
    /// All nights, the oldest first and tonight last; as many for each case.
    pub nights: Vec<CaseNight>,
    /// How many of tonight's answers are missing, or could not be judged.
    pub unanswered: u32,
}

/// The answers of one night to one case.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CaseNight {
    /// Those that pass.
    pub passed: u32,
    /// Those that were judged.
    pub answered: u32,
}

/// What nights say.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Drift {
    /// Nights that tonight is held against: all before the fall, where there is one.
    pub nights: u32,
    /// Nights since the fall, tonight included; 0 where there is none.
    pub fallen: u32,
    /// The chance of the least likely split, if nothing has changed; 1 where there is none.
    pub chance: f64,
    /// What it must be below.
    pub level: f64,
}

/// Nights in two parts.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Split {
    /// Nights of the second part.
    after: usize,
    chance: f64,
    difference: f64,
}

/// Judges tonight. `last` has tonight's answers in pairs with those of one earlier night, for
/// lengths, costs, times and what a judge prefers.
pub fn judge_nights(cases: &[CaseNights], last: &[PairedCase], terms: &Terms) -> Judgement {
    let counted: Vec<&CaseNights> = cases.iter().filter(|case| case.is_comparable()).collect();
    let steepest = steepest(&counted, terms.margin);
    let fall = steepest.filter(|split| split.chance <= LEVEL);
    let before = |case: &CaseNights| case.before(fall.map_or(1, |fall| fall.after));
    let tonight =
        Against::of(counted.iter().map(|case| (case.tonight().pair(), before(case).pair())));
    let bound = |share: f64| Bounds::new(&[1], terms.error * share).at(0);
    let (holds, fails) = (bound(1.0), bound(terms::OTHERS));
    let broken = broken(&counted);

    let mut criteria = Vec::new();
    criteria.extend(rate(&tonight, (fall, steepest), (terms, holds)));
    criteria.extend(critical(&counted, &broken));
    let pairs: Vec<&PairedCase> = last.iter().collect();
    criteria.extend(ratios::preference(&pairs, terms, (holds, fails)));
    criteria.extend(ratios::all(&pairs, terms, terms.samples, (holds, fails)));

    let nights = counted.first().map_or(0, |case| case.nights.len().saturating_sub(1));
    let fallen = fall.map_or(0, |fall| fall.after);
    let turned = |wanted| turned(&counted, fallen.max(1), wanted);
    let mut judgement = Judgement {
        criteria,
        newly_failing: turned((true, false)),
        newly_passing: turned((false, true)),
        samples: terms.samples,
        pairs: tonight.answers(),
        discordance: tonight.discordance(),
        unanswered: cases.iter().map(|case| u64::from(case.unanswered)).sum(),
        drift: Some(Drift {
            nights: (nights + usize::from(fallen > 0) - fallen) as u32,
            fallen: fallen as u32,
            chance: steepest.map_or(1.0, |split| split.chance),
            level: LEVEL,
        }),
        ..Judgement::nothing()
    };
    let look = Look { samples: terms.samples, can_ask_more: false };
    judgement.decide(&Critical::default(), terms, look);
    judgement.reasons = words::reasons(&judgement, &Critical::newly(broken), terms);
    judgement
}

/// The pass rate: as good as before, where tonight shows it; worse, where there is a fall that
/// tonight does not speak against.
fn rate(
    tonight: &Against,
    (fall, steepest): (Option<Split>, Option<Split>),
    (terms, holds): (&Terms, f64),
) -> Option<Criterion> {
    if tonight.answers() == 0 {
        return None;
    }
    let (low, high) = tonight.bounds(holds);
    let difference = tonight.difference();
    let outcome = if low > -terms.margin {
        Outcome::Holds
    } else if fall.is_some() && difference < 0.0 {
        Outcome::Fails
    } else {
        Outcome::Unclear
    };
    Some(Criterion {
        measure: Measure::PassRate,
        baseline: tonight.rate() - difference,
        candidate: tonight.rate(),
        difference,
        low,
        high,
        limit: -terms.margin,
        gates: true,
        outcome,
        equivalence: None,
        test: steepest.map(|split| ExactTest { chance: split.chance, level: LEVEL }),
        pairs: tonight.answers(),
    })
}

/// The critical cases that have become worse and are so tonight, sorted. Each has nights enough to
/// be asked by itself, so that none has to be asked once more.
fn broken(cases: &[&CaseNights]) -> Vec<String> {
    let critical: Vec<_> = cases.iter().filter(|case| case.is_critical).collect();
    let level = LEVEL_OF_CRITICAL / critical.len().max(1) as f64;
    let is_broken = |case: &&&&CaseNights| {
        let split = steepest(&[***case], 0.0).filter(|split| split.chance <= level);
        split.is_some_and(|split| case.tonight().rate() < case.before(split.after).rate())
    };
    let mut broken: Vec<_> =
        critical.iter().filter(is_broken).map(|case| case.id.clone()).collect();
    broken.sort();
    broken
}

fn critical(cases: &[&CaseNights], broken: &[String]) -> Option<Criterion> {
    let critical = || cases.iter().filter(|case| case.is_critical);
    let count = critical().count();
    let passed = critical().filter(|case| case.before(1).rate() > 0.5).count() as f64;
    let lost = broken.len() as f64;
    (count > 0).then(|| Criterion {
        measure: Measure::Critical,
        baseline: passed,
        candidate: passed - lost,
        difference: -lost,
        low: -lost,
        high: -lost,
        limit: 0.0,
        gates: true,
        outcome: if broken.is_empty() { Outcome::Holds } else { Outcome::Fails },
        equivalence: None,
        test: None,
        pairs: count as u64,
    })
}

/// Cases that turned: those that were mostly passed before the last so many nights and are not
/// tonight, or the other way round. Critical ones first, then by id.
fn turned(cases: &[&CaseNights], after: usize, wanted: (bool, bool)) -> Vec<String> {
    let turned = |case: &&&CaseNights| {
        (case.before(after).rate() > 0.5, case.tonight().rate() > 0.5) == wanted
    };
    let mut turned: Vec<_> = cases.iter().filter(turned).collect();
    turned.sort_by(|a, b| (!a.is_critical, &a.id).cmp(&(!b.is_critical, &b.id)));
    turned.into_iter().map(|case| case.id.clone()).collect()
}

/// The least likely split after which answers are worse by so much at least.
fn steepest(cases: &[&CaseNights], margin: f64) -> Option<Split> {
    let nights = cases.first()?.nights.len();
    let split = |after| {
        let parts: Vec<_> =
            cases.iter().map(|case| (case.after(after), case.before(after))).collect();
        let both = Against::of(parts.iter().map(|(after, before)| (after.pair(), before.pair())));
        let difference = both.difference();
        if difference > -margin || difference >= 0.0 {
            return None;
        }
        let strata = parts.iter().map(|(after, before)| (after.pair(), before.pair()));
        let chance = rates::chance_of_strata(strata, EXACT_WORK);
        // What is beyond the reach of numbers is far enough.
        let z = normal::exceeded(chance.max(1e-14)) / overdispersion(cases, after).sqrt();
        Some(Split { after, chance: 1.0 - normal::below(z), difference })
    };
    (1..nights).filter_map(split).min_by(|a, b| a.chance.total_cmp(&b.chance))
}

/// How many times as much nights vary within both parts of a split as answers alone would have
/// them, 1 at least.
fn overdispersion(cases: &[&CaseNights], after: usize) -> f64 {
    let (mut seen, mut expected) = (PRIOR, PRIOR);
    for case in cases {
        let (before, after) = case.nights.split_at(case.nights.len().saturating_sub(after));
        for part in [before, after] {
            let all = CaseNight::sum(part);
            let (count, rate) = (f64::from(all.answered), all.rate());
            if count < 2.0 || rate <= 0.0 || rate >= 1.0 {
                continue;
            }
            for night in part {
                let of_night = f64::from(night.answered);
                seen += (f64::from(night.passed) - of_night * rate).powi(2);
                expected += of_night * (count - of_night) * rate * (1.0 - rate) / (count - 1.0);
            }
        }
    }
    (seen / expected).max(1.0)
}

// === impl CaseNights ===

impl CaseNights {
    fn tonight(&self) -> CaseNight {
        self.nights.last().copied().unwrap_or_default()
    }

    /// The last so many nights.
    fn after(&self, nights: usize) -> CaseNight {
        CaseNight::sum(self.nights.get(self.place(nights)..).unwrap_or_default())
    }

    /// The nights before the last so many.
    fn before(&self, nights: usize) -> CaseNight {
        CaseNight::sum(self.nights.get(..self.place(nights)).unwrap_or_default())
    }

    fn place(&self, nights: usize) -> usize {
        self.nights.len().saturating_sub(nights)
    }

    fn is_comparable(&self) -> bool {
        self.tonight().answered > 0 && self.before(1).answered > 0
    }
}

// === impl CaseNight ===

impl CaseNight {
    fn sum(nights: &[Self]) -> Self {
        nights.iter().fold(Self::default(), |sum, night| Self {
            passed: sum.passed.saturating_add(night.passed),
            answered: sum.answered.saturating_add(night.answered),
        })
    }

    fn rate(self) -> f64 {
        f64::from(self.passed) / f64::from(self.answered.max(1))
    }

    fn pair(self) -> (u32, u32) {
        (self.passed, self.answered)
    }
}
