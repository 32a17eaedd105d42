//! From which cosine on a namespace may serve: learnt from labels, with a bound on the error per
//! hit.
//!
//! # Why per hit
//!
//! A promise about all answers, misses included, says little: at a hit rate of 20 % an error of 1 %
//! over all answers is one of 5 % among hits. What a caller meets is a hit, so `delta` counts hits.
//!
//! # The rule
//!
//! A label says of a would-be hit (one that passed every filter) how similar the texts were and
//! whether the kept answer would have done. For a threshold t let UB(t) be the upper
//! Clopper-Pearson bound of the share of errors among the labels with a similarity of at least t.
//! The walk goes down from 0.99 in steps of 0.01 and stops at the first t with UB(t) > delta. The
//! one before it serves; if there is none, nothing is served and the namespace stays in shadow.
//!
//! This is fixed sequence testing, the simplest form of "Learn then Test" (Angelopoulos et al.,
//! 2021): the hypotheses "the error at t exceeds delta" are tested in an order that does not depend
//! on the outcomes, each at the full level, and testing ends with the first that is not rejected.
//! To serve at a bad threshold the first bad one in the order must have been rejected, and that is
//! a single test, so the chance is at most `1 - confidence`, however many thresholds there are.
//!
//! A threshold with fewer labels than one and a half times what a clean record would need is passed
//! over, not failed, unless these are all there are: among so few one error would end the walk at
//! its start. The order stays fixed, because how many labels lie above t depends on similarities
//! only.
//!
//! # Looking more than once
//!
//! Labels go on arriving and the walk is repeated, so the chances of error of its repetitions add
//! up. They share one allowance: each look, at twice the labels of the one before, gets half of
//! what is left. So the chance that a generation of labels ever leads to a bad threshold is at most
//! `1 - confidence`.
//!
//! # Forgetting
//!
//! Labels live in two halves. When the newer is full the older is dropped, and a new generation
//! begins. What drifts faster than that is found by `audit`, which sends the namespace back to
//! shadow at once.
//!
//! # A judge that errs
//!
//! A judge that calls good answers wrong only makes the bound larger. One that misses a share of
//! the wrong answers hides them: if it misses at most m of them, the error is at most what is seen
//! divided by 1 - m. [`Settings::judge_misses`] is that share, and the bound is divided
//! accordingly. A judge that lies on a fifth of all labels shows at least a fifth of errors:
//! nothing is served.

use serde::{Deserialize, Serialize};

use super::bounds;

/// The highest threshold, in hundredths.
const TOP: usize = 99;

/// The lowest. What is less similar is no candidate.
const FLOOR: usize = 50;

const STEPS: usize = TOP - FLOOR + 1;

/// What the rule is held to.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The share of hits that may be wrong: 0.01 is one of a hundred.
    pub delta: f64,
    /// How sure that must be: 0.95.
    pub confidence: f64,
    /// The share of wrong answers that the judge may take for right ones, at most. Below 1.
    pub judge_misses: f64,
    /// Labels at or above a threshold without which it is not even considered, however clean they
    /// are. The bound itself asks for 460 at the settings as they come.
    pub min_labels: u64,
    /// Labels that are remembered at most; half of them at least once there are so many.
    pub keep: u64,
}

/// What a namespace does with a would-be hit.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "mode")]
pub enum Mode {
    /// Ask the model, and let a judge say whether the kept answer would have done.
    Shadow,
    /// Give the kept answer if the similarity is at least `threshold`; below it, as in shadow.
    Serve {
        /// A cosine, in hundredths: 0.5 to 0.99.
        threshold: f64,
        /// The error per hit that is not exceeded, with the confidence asked for.
        bound: f64,
    },
}

/// Labels at one step of similarity.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Count {
    same: u64,
    different: u64,
}

/// The labels of a half.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Half {
    /// From [`FLOOR`] to [`TOP`].
    counts: Vec<Count>,
    labels: u64,
}

/// What is known of one namespace: a tenant's route, an embedder and a judge. It must be made anew
/// if one of them changes. Takes 1.6 KB, however many labels it has seen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Threshold {
    older: Half,
    newer: Half,
    mode: Mode,
    /// Looks at this generation so far.
    looks: i32,
    /// The labels at which the next look is due.
    next_look: u64,
}

// === impl Settings ===

impl Default for Settings {
    fn default() -> Self {
        Self { delta: 0.01, confidence: 0.95, judge_misses: 0.2, min_labels: 300, keep: 4_000 }
    }
}

impl Settings {
    /// The share of errors that may be seen where so many are missed.
    fn visible_delta(&self) -> f64 {
        self.delta * (1.0 - self.judge_misses.clamp(0.0, 1.0))
    }

    /// The confidence that the nth look of a generation, from 0, must reach.
    fn confidence_of(&self, look: i32) -> f64 {
        1.0 - (1.0 - self.confidence) * 0.5_f64.powi(look.min(30) + 1)
    }

    /// Labels that it takes at or above a threshold; none if the settings rule every threshold out.
    fn needed(&self, confidence: f64) -> Option<u64> {
        let needed = bounds::trials_needed(self.visible_delta(), confidence)?;
        Some(needed.max(self.min_labels).max(1))
    }
}

// === impl Mode ===

impl Mode {
    /// Whether a would-be hit of this similarity is served.
    pub fn serves(&self, similarity: f64) -> bool {
        match self {
            Self::Shadow => false,
            Self::Serve { threshold, .. } => {
                step(similarity).is_some_and(|step| Some(step) >= self::step(*threshold))
            }
        }
    }
}

// === impl Count ===

impl Count {
    const fn all(self) -> u64 {
        self.same + self.different
    }
}

// === impl Half ===

impl Half {
    fn empty() -> Self {
        Self { counts: vec![Count::default(); STEPS], labels: 0 }
    }
}

// === impl Threshold ===

impl Default for Threshold {
    fn default() -> Self {
        Self::new()
    }
}

impl Threshold {
    /// A namespace without labels, in shadow.
    pub fn new() -> Self {
        Self {
            older: Half::empty(),
            newer: Half::empty(),
            mode: Mode::Shadow,
            looks: 0,
            next_look: 0,
        }
    }

    /// What to do with a would-be hit now.
    pub const fn mode(&self) -> Mode {
        self.mode
    }

    /// Labels that are remembered, of any similarity from 0.5 on.
    pub const fn labels(&self) -> u64 {
        self.older.labels + self.newer.labels
    }

    /// The labels at which the mode is decided next: at first as many as prove enough without a
    /// single error, then twice as many as at the last look, or a full half. Always more than there
    /// are. None if the settings rule every threshold out.
    pub fn next_look(&self, settings: &Settings) -> Option<u64> {
        let first = settings.needed(settings.confidence_of(0))?;
        let due = if self.next_look == 0 { first } else { self.next_look };
        let half_full = self.older.labels + (settings.keep / 2).max(1);
        Some(due.min(half_full))
    }

    /// Of the labels with at least this similarity: how many there are, and how many say
    /// "different".
    pub fn seen(&self, similarity: f64) -> (u64, u64) {
        let lowest = step(similarity).unwrap_or(0);
        let above = self.counts().skip(lowest);
        above.fold((0, 0), |(all, wrong), count| (all + count.all(), wrong + count.different))
    }

    /// Takes note of a label: the similarity of a would-be hit, and whether the kept answer would
    /// have done. Labels below 0.5 and those that are no number are left out. Says the new mode if
    /// it changed.
    ///
    /// Would-be hits that are labelled must be chosen without regard to their similarity, or so
    /// that low ones are chosen rather more often than high ones, which makes the rule more
    /// careful.
    pub fn on_label(&mut self, settings: &Settings, similarity: f64, same: bool) -> Option<Mode> {
        let count = self.newer.counts.get_mut(step(similarity)?)?;
        if same {
            count.same += 1
        } else {
            count.different += 1
        }
        self.newer.labels += 1;
        let mut due = self.next_look > 0 && self.labels() >= self.next_look;
        if self.newer.labels >= (settings.keep / 2).max(1) {
            self.older = std::mem::replace(&mut self.newer, Half::empty());
            self.looks = 0;
            due = true;
        }
        if self.next_look == 0 {
            // The first look comes as soon as one threshold can be judged at all.
            let needed = settings.needed(settings.confidence_of(0));
            due = needed.is_some_and(|needed| self.labels() >= needed);
        }
        if !due {
            return None;
        }
        let before = self.mode;
        self.mode = self.look(settings);
        self.looks += 1;
        self.next_look = self.labels() * 2;
        (self.mode != before).then_some(self.mode)
    }

    /// Forgets everything and goes back to shadow: an audit has found too many errors.
    pub fn distrust(&mut self) {
        *self = Self::new();
    }

    /// Walks down from the top.
    fn look(&self, settings: &Settings) -> Mode {
        let confidence = settings.confidence_of(self.looks);
        let Some(needed) = settings.needed(confidence) else { return Mode::Shadow };
        let enough = needed.saturating_add(needed / 2).min(self.labels()).max(needed);
        let mut mode = Mode::Shadow;
        let (mut labels, mut errors) = (0, 0);
        let counts: Vec<_> = self.counts().collect();
        for (step, count) in counts.iter().enumerate().rev() {
            labels += count.all();
            errors += count.different;
            // Without labels of its own a step is no threshold.
            if labels < enough || count.all() == 0 {
                continue;
            }
            let visible = bounds::upper(errors, labels, confidence);
            if visible > settings.visible_delta() {
                break;
            }
            let bound = visible / (1.0 - settings.judge_misses.clamp(0.0, 1.0));
            mode = Mode::Serve { threshold: (FLOOR + step) as f64 / 100.0, bound };
        }
        mode
    }

    /// Both halves together, from the floor up.
    fn counts(&self) -> impl Iterator<Item = Count> {
        self.older.counts.iter().zip(&self.newer.counts).map(|(older, newer)| Count {
            same: older.same + newer.same,
            different: older.different + newer.different,
        })
    }
}

/// The step that a similarity lies on; none below the floor or for what is no number. What exceeds
/// a step by rounding alone does not lie below it.
fn step(similarity: f64) -> Option<usize> {
    let hundredths = (similarity * 100.0 + 1e-6).floor();
    if hundredths.is_nan() || hundredths < FLOOR as f64 {
        return None;
    }
    Some((hundredths as usize).min(TOP) - FLOOR)
}

#[cfg(test)]
mod tests;
