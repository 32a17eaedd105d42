//! From scores to an order of attempts.

use super::{Exclusion, Few, Place, Pool, Score, Settings, Standing, score};

/// In which order to try the targets of a route.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// Whether so little was well that health was ignored. Then nothing may be hedged.
    pub is_panic: bool,
    /// The first serves, the others follow if it fails. Empty if nothing may be asked.
    pub order: Few<Place>,
}

/// One target in the draw.
#[derive(Debug, Clone, Copy, Default)]
struct Candidate {
    index: usize,
    total_seconds: f64,
    /// `weight·(Smin/S)^γ`, or `weight` where two choices are made.
    pull: f64,
}

/// Whether so little of a tier's weight is well that health says more about us than about the
/// targets. Targets that are excluded for other reasons than health count in neither number.
pub fn panic_mode(eligible_weight: f64, total_weight: f64, settings: &Settings) -> bool {
    eligible_weight < settings.panic_below * total_weight
}

/// Scores the targets of each tier and draws the order in which to try them.
///
/// The first tier that has a target to ask serves, and those after it follow. If in every tier less
/// than [`Settings::panic_below`] of the weight is well, exclusions for health are ignored, in all
/// tiers; a target that has no key, no quota or no rate left stays out even then. A fallback tier
/// that is well thus prevents a panic: it is what the fallback is for.
///
/// `random` yields numbers uniform in 0..1. No allocation for up to 16 targets a tier and in all.
pub fn plan<'a>(
    tiers: impl IntoIterator<Item = &'a [Standing], IntoIter: Clone>,
    settings: &Settings,
    mut random: impl FnMut() -> f64,
) -> Plan {
    let tiers = tiers.into_iter();
    let is_panic = is_panic(tiers.clone(), settings);
    let mut places = Few::new();
    for (tier, targets) in tiers.enumerate() {
        let scores = scores(targets, settings, is_panic);
        for index in order(&scores, settings, &mut random).iter() {
            places.push(Place { tier, index: *index });
        }
    }
    Plan { is_panic, order: places }
}

/// Scores the targets of one tier, in their order; those that are excluded too, so that people can
/// read what they would have. In a panic, exclusions for health are dropped.
pub fn scores(targets: &[Standing], settings: &Settings, is_panic: bool) -> Few<Score> {
    let pool = Pool::of(targets, settings);
    let scored = targets.iter().map(|target| {
        let mut score = score(target, settings, &pool);
        if is_panic && score.excluded.is_some_and(Exclusion::is_health) {
            score.excluded = None;
        }
        score
    });
    scored.collect()
}

/// Whether [`panic_mode`] holds in every tier that has a target to speak of.
pub fn is_panic<'a>(tiers: impl IntoIterator<Item = &'a [Standing]>, settings: &Settings) -> bool {
    let mut any = false;
    for targets in tiers {
        let (mut eligible, mut total) = (0.0, 0.0);
        for target in targets {
            let weight = f64::from(target.weight.max(1));
            match target.exclusion(settings) {
                None => (eligible, total) = (eligible + weight, total + weight),
                // It is well: to wait for it is better than to ask one that is not.
                Some(Exclusion::Full) => (eligible, total) = (eligible + weight, total + weight),
                Some(why) if why.is_health() => total += weight,
                Some(_) => {}
            }
        }
        if total > 0.0 {
            if !panic_mode(eligible, total, settings) {
                return false;
            }
            any = true;
        }
    }
    any
}

/// Draws one of the targets that are not excluded; `None` if all are.
pub fn pick(
    scores: &[Score],
    settings: &Settings,
    mut random: impl FnMut() -> f64,
) -> Option<usize> {
    let (candidates, draw) = candidates(scores, settings);
    let at = draw.one(&candidates, settings, &mut random)?;
    candidates.get(at).map(|candidate| candidate.index)
}

/// Draws all targets that are not excluded, one after the other without replacement.
pub fn order(scores: &[Score], settings: &Settings, mut random: impl FnMut() -> f64) -> Few<usize> {
    let (mut candidates, draw) = candidates(scores, settings);
    let mut order = Few::new();
    while let Some(at) = draw.one(&candidates, settings, &mut random)
        && let Some(candidate) = candidates.swap_remove(at)
    {
        order.push(candidate.index);
    }
    order
}

/// Writes into each score which share of the requests it gets, as [`pick`] draws.
pub fn shares(scores: &mut [Score], settings: &Settings) {
    let (candidates, draw) = candidates(scores, settings);
    let sum: f64 = candidates.iter().map(|candidate| candidate.pull).sum();
    let uniform = 1.0 / candidates.len().max(1) as f64;
    scores.iter_mut().for_each(|score| score.share = 0.0);
    for candidate in candidates.iter() {
        let part = candidate.pull / sum;
        let drawn = match draw {
            Draw::ByScore => part,
            Draw::BetterOfTwo => candidates
                .iter()
                .map(|other| {
                    let wins = match candidate.total_seconds.total_cmp(&other.total_seconds) {
                        std::cmp::Ordering::Less => 2.0,
                        std::cmp::Ordering::Equal => 1.0,
                        std::cmp::Ordering::Greater => 0.0,
                    };
                    wins * part * other.pull / sum
                })
                .sum(),
        };
        if let Some(score) = scores.get_mut(candidate.index) {
            score.share = settings.exploration * uniform + (1.0 - settings.exploration) * drawn;
        }
    }
}

/// How a pool is drawn from; decided by its size before anything is taken out.
#[derive(Debug, Clone, Copy)]
enum Draw {
    ByScore,
    BetterOfTwo,
}

fn candidates(scores: &[Score], settings: &Settings) -> (Few<Candidate>, Draw) {
    let eligible = || scores.iter().enumerate().filter(|(_, score)| score.excluded.is_none());
    let draw = if eligible().count() > settings.two_choices_above {
        Draw::BetterOfTwo
    } else {
        Draw::ByScore
    };
    let best = eligible().map(|(_, score)| score.total_seconds).fold(f64::INFINITY, f64::min);
    let candidates = eligible().map(|(index, score)| {
        let pull = match draw {
            Draw::ByScore => score.weight * (best / score.total_seconds).powf(settings.exponent),
            Draw::BetterOfTwo => score.weight,
        };
        Candidate { index, total_seconds: score.total_seconds, pull }
    });
    (candidates.collect(), draw)
}

// === impl Draw ===

impl Draw {
    /// Draws a position among `candidates`; `None` if there are none.
    fn one(
        self,
        candidates: &[Candidate],
        settings: &Settings,
        random: &mut impl FnMut() -> f64,
    ) -> Option<usize> {
        let last = candidates.len().checked_sub(1)?;
        if last == 0 {
            return Some(0);
        }
        if random() < settings.exploration {
            let at = (random() * candidates.len() as f64) as usize;
            return Some(at.min(last));
        }
        let first = by_pull(candidates, random());
        let Self::BetterOfTwo = self else { return Some(first) };
        let second = by_pull(candidates, random());
        let total = |at: usize| candidates.get(at).map_or(f64::INFINITY, |c| c.total_seconds);
        // With replacement: the worst still gets the square of its weight's share.
        Some(if total(second) < total(first) { second } else { first })
    }
}

fn by_pull(candidates: &[Candidate], random: f64) -> usize {
    let sum: f64 = candidates.iter().map(|candidate| candidate.pull).sum();
    let mut left = random * sum;
    for (at, candidate) in candidates.iter().enumerate() {
        left -= candidate.pull;
        if left < 0.0 {
            return at;
        }
    }
    // Rounding: nothing was left to subtract.
    candidates.len().saturating_sub(1)
}
