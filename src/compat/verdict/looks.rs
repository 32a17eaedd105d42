//! How much each look at a run may err, so that all looks together err no more than they may.
//!
//! A run is looked at a few times that are known before it begins (see [`Terms::ladder`]), so a
//! group-sequential test has more power than a confidence sequence, which pays for looks that are
//! never made (Spotify's comparison says the same of large samples). Error is spent in proportion
//! to the samples (Lan and DeMets, "Discrete sequential boundaries for clinical trials", Biometrika
//! 70, 1983; the power family of Kim and DeMets with exponent 1): early looks count for something,
//! since most runs end at the first. The level of each look follows from the joint normal
//! distribution of the statistics, integrated from look to look (Armitage, McPherson and Rowe, JRSS
//! A 132, 1969).
//!
//! [`Terms::ladder`]: super::Terms::ladder

use super::normal;

/// Points of the grid that a density is kept at.
const POINTS: usize = 61;
/// How far from its mean, in standard deviations, a density is followed.
const REACH: f64 = 6.0;

/// What a statistic that is looked at again and again must exceed at each look.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Bounds {
    /// The part of all samples that each look has, growing to 1.
    pub(super) parts: Vec<f64>,
    /// The standardised statistic to exceed there.
    pub(super) z: Vec<f64>,
}

/// A density of the statistic's score (its value times the root of the part) over those runs that
/// have gone on until here.
struct Density {
    /// Where the grid begins, and its step.
    start: f64,
    step: f64,
    at: Vec<f64>,
}

// === impl Bounds ===

impl Bounds {
    /// The bounds of looks after so many samples a case, the last at all of them, that together are
    /// exceeded with a chance of `level` where there is nothing to find.
    pub(super) fn new(ladder: &[u32], level: f64) -> Self {
        Self::until(ladder, level, ladder.len())
    }

    /// Those of the first `looks` looks only.
    pub(super) fn until(ladder: &[u32], level: f64, looks: usize) -> Self {
        let all = f64::from(ladder.last().copied().unwrap_or(1).max(1));
        let parts = ladder.iter().take(looks).map(|samples| f64::from(*samples) / all);
        let parts: Vec<f64> = parts.collect();
        let mut z = Vec::with_capacity(parts.len());
        let (mut spent, mut before, mut past) = (0.0, 0.0, None::<Density>);
        for part in &parts {
            let allowed = level * part - spent;
            let bound = match &past {
                None => normal::exceeded(allowed),
                Some(density) => solve(|z| density.exceeding(z, before, *part), allowed),
            };
            past = Some(match past {
                None => Density::first(*part, 0.0, bound),
                Some(density) => density.next(part - before, 0.0, bound * part.sqrt()),
            });
            z.push(bound);
            (spent, before) = (level * part, *part);
        }
        Self { parts, z }
    }

    /// The chance of having exceeded a bound by each look, where the statistic has the mean `drift`
    /// with all samples.
    pub(super) fn power(&self, drift: f64) -> Vec<f64> {
        let (mut all, mut before, mut past) = (0.0, 0.0, None::<Density>);
        let mut power = Vec::with_capacity(self.z.len());
        for (part, bound) in self.parts.iter().zip(&self.z) {
            let edge = bound * part.sqrt();
            all += match &past {
                None => 1.0 - normal::below(bound - drift * part.sqrt()),
                Some(density) => density.exceeding_score(edge, (part - before, drift)),
            };
            power.push(all);
            past = Some(match past {
                None => Density::first(*part, drift, *bound),
                Some(density) => density.next(part - before, drift, edge),
            });
            before = *part;
        }
        power
    }

    /// The bound of a look, by its number from 0; of the last, where there are no more.
    pub(super) fn at(&self, number: usize) -> f64 {
        self.z.get(number).or(self.z.last()).copied().unwrap_or(f64::INFINITY)
    }

    /// The mean that the statistic must have with all samples, for `power` by the last look.
    pub(super) fn drift_for(&self, power: f64) -> f64 {
        let (mut low, mut high) = (0.0, 12.0);
        for _ in 0..30 {
            let drift = f64::midpoint(low, high);
            let reached = self.power(drift).last().copied().unwrap_or(0.0);
            if reached < power { low = drift } else { high = drift }
        }
        high
    }
}

/// Where a falling function has this value.
fn solve(of: impl Fn(f64) -> f64, value: f64) -> f64 {
    let (mut low, mut high) = (0.0, 8.0);
    for _ in 0..32 {
        let middle = f64::midpoint(low, high);
        if of(middle) > value { low = middle } else { high = middle }
    }
    f64::midpoint(low, high)
}

// === impl Density ===

impl Density {
    /// After the first look, of what did not exceed its bound.
    fn first(part: f64, drift: f64, bound: f64) -> Self {
        let (deviation, mean) = (part.sqrt(), drift * part);
        let mut density = Self::grid(mean - REACH * deviation, bound * deviation);
        let start = density.start;
        let step = density.step;
        for (index, at) in density.at.iter_mut().enumerate() {
            let score = start + step * index as f64;
            *at = normal::density((score - mean) / deviation) / deviation;
        }
        density
    }

    fn grid(start: f64, end: f64) -> Self {
        let end = end.max(start + 1e-6);
        Self { start, step: (end - start) / (POINTS - 1) as f64, at: vec![0.0; POINTS] }
    }

    /// Points with their weights by Simpson's rule.
    fn points(&self) -> impl Iterator<Item = (f64, f64)> + '_ {
        self.at.iter().enumerate().map(|(index, at)| {
            let is_end = index == 0 || index + 1 == POINTS;
            let weight = if is_end {
                1.0
            } else if index % 2 == 1 {
                4.0
            } else {
                2.0
            };
            (self.start + self.step * index as f64, at * weight * self.step / 3.0)
        })
    }

    /// After another look, `more` of the samples later.
    fn next(&self, more: f64, drift: f64, edge: f64) -> Self {
        let deviation = more.sqrt();
        let mut density = Self::grid(self.start + drift * more - REACH * deviation, edge);
        let (start, step) = (density.start, density.step);
        for (index, at) in density.at.iter_mut().enumerate() {
            let score = start + step * index as f64;
            *at = self
                .points()
                .map(|(from, weight)| {
                    weight * normal::density((score - from - drift * more) / deviation) / deviation
                })
                .sum();
        }
        density
    }

    fn exceeding(&self, z: f64, before: f64, part: f64) -> f64 {
        self.exceeding_score(z * part.sqrt(), (part - before, 0.0))
    }

    fn exceeding_score(&self, edge: f64, (more, drift): (f64, f64)) -> f64 {
        let deviation = more.sqrt();
        self.points()
            .map(|(from, weight)| {
                weight * (1.0 - normal::below((edge - from - drift * more) / deviation))
            })
            .sum()
    }
}
