//! How many pairs it takes, before a run and in the middle of one.

use serde::{Deserialize, Serialize};

use super::looks::Bounds;
use super::rates::Pairs;
use super::{Terms, normal, terms};

/// More than so many times as many pairs are asked for by nobody.
const MOST_TIMES: f64 = 1_024.0;
/// The part of pairs that differ, where nobody knows: what prompts on today's models show.
const USUAL_DISCORDANCE: f64 = 0.1;
/// How many times as many pairs it takes to rule out a loss where cases have several: bounds reckon
/// with a design effect that is never below 1, and with Student's quantile. Found by simulation.
const CLUSTERED: f64 = 1.15;
/// Less is not believed of any suite.
const LEAST_DISCORDANCE: f64 = 0.01;

/// What a run will be able to tell, known before it begins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Cases that will be asked.
    pub cases: u64,
    /// The part of pairs in which one side alone passes, as it is expected of a candidate that is
    /// no different.
    pub discordance: f64,
    /// Pairs it takes by the last look to call a candidate compatible that is no different, with
    /// the terms' power.
    pub pairs_for_margin: u64,
    /// The loss that is to be found: [`Terms::to_find`].
    pub regression: f64,
    /// Pairs it takes by the last look to find that loss, with the terms' power. It makes more
    /// pairs differ: by as much as it is, at most.
    pub pairs_for_regression: u64,
    /// What each look will be able to tell.
    pub looks: Vec<PlannedLook>,
}

/// What a look will be able to tell.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PlannedLook {
    /// Pairs of each case.
    pub samples: u32,
    /// Pairs of all.
    pub pairs: u64,
    /// The chance to have called a candidate compatible by then that is no different.
    pub compatible: f64,
    /// The chance to have called a candidate incompatible by then that is worse by the regression.
    pub regression: f64,
}

/// What a run over so many cases will be able to tell, where `discordance` of the pairs differ:
/// what an earlier run of the suite has seen, or `None` for 10 %.
pub fn plan(cases: u64, discordance: Option<f64>, terms: &Terms) -> Plan {
    let discordance = discordance.unwrap_or(USUAL_DISCORDANCE).clamp(LEAST_DISCORDANCE, 1.0);
    let ladder = terms.ladder();
    let holds = Bounds::new(&ladder, terms.error);
    let fails = Bounds::new(&ladder, terms.error * terms::PASS_RATE);
    let last = ladder.last().copied().unwrap_or(1);
    let pairs = cases.saturating_mul(u64::from(last)) as f64;
    let loss = terms.to_find();
    let with_loss = (discordance + loss).min(1.0);
    let widened = if last > 1 { discordance * CLUSTERED } else { discordance };
    let compatible = holds.power(terms.margin * (pairs / widened).sqrt());
    let regression = fails.power(loss * (pairs / with_loss).sqrt());
    let looks = ladder.iter().zip(compatible.iter().zip(&regression));
    Plan {
        cases,
        discordance,
        pairs_for_margin: size(holds.drift_for(terms.power), widened, terms.margin),
        regression: loss,
        pairs_for_regression: size(fails.drift_for(terms.power), with_loss, loss),
        looks: looks
            .map(|(samples, (compatible, regression))| PlannedLook {
                samples: *samples,
                pairs: cases.saturating_mul(u64::from(*samples)),
                compatible: *compatible,
                regression: *regression,
            })
            .collect(),
    }
}

/// Pairs for a statistic to have the mean `drift`, where so many pairs differ and the difference is
/// this far from what is to be ruled out (Connor, Biometrics 43, 1987).
pub(super) fn size(drift: f64, discordance: f64, distance: f64) -> u64 {
    (drift * drift * discordance / (distance * distance)).ceil() as u64
}

/// About how many pairs beyond those there are it takes to rule out a loss of the margin at the
/// bound `z`, with the terms' power, if they are of more cases of the same kind: by the bounds
/// themselves, with the discordance and the design effect that are seen, for the difference that is
/// seen, but none that is nearer to the margin than half of it. `None` where no number would do.
pub(super) fn further(pairs: &Pairs, terms: &Terms, z: f64) -> Option<u64> {
    let difference = pairs.difference().clamp(-terms.margin / 2.0, 0.0);
    let discordance = pairs.discordance().max(LEAST_DISCORDANCE).max(-difference);
    let power = normal::exceeded(1.0 - terms.power);
    let clears =
        |times: f64| pairs.low_of_more(times, (difference, discordance), z, power) > -terms.margin;
    let mut enough = 1.0;
    while !clears(enough) {
        enough *= 2.0;
        if enough > MOST_TIMES {
            return None;
        }
    }
    let (mut least, mut most) = (enough / 2.0, enough);
    while (most - least) * pairs.count as f64 > 1.0 {
        let middle = (least + most) / 2.0;
        if clears(middle) { most = middle } else { least = middle }
    }
    let needed = (most * pairs.count as f64).ceil() as u64;
    Some(needed.saturating_sub(pairs.count)).filter(|more| *more > 0)
}
