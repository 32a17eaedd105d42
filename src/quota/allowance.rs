//! All that one limit allows one subject, and reservations over several of them.

use std::ops::DerefMut;
use std::time::Duration;

use super::meter::{Lack, Meter};
use super::settings::{Counted, Dimension};
use super::window::Threshold;
use super::{Amounts, Moment, Refusal, Verdict};

/// What one limit allows one subject: a meter for each dimension.
#[derive(Debug, Clone, Default)]
pub struct Allowance {
    meters: Vec<(Dimension, Meter)>,
    /// What a token counts that the provider had kept, in thousandths.
    cached_permille: u16,
}

/// A part of a limit was used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crossing {
    /// Of what.
    pub dimension: Dimension,
    /// How much of it.
    pub threshold: Threshold,
}

/// Takes `amounts` from all allowances, or from none. Where several lack something the longest wait
/// is told, because anything shorter would only end at the next refusal.
///
/// Nothing may change the allowances meanwhile: they are borrowed, or locked.
pub fn reserve<A>(allowances: &mut [A], amounts: &Amounts, moment: Moment) -> Verdict
where
    A: DerefMut<Target = Allowance>,
{
    let mut worst: Option<Refusal> = None;
    let mut is_unasked = false;
    let mut unsettled: Option<Duration> = None;
    for (which, allowance) in allowances.iter().enumerate() {
        for (dimension, meter) in &allowance.meters {
            let amount = allowance.amount(*dimension, amounts);
            let wait = match meter.lacks(amount, moment) {
                None => continue,
                Some(Lack::Unasked) => {
                    is_unasked = true;
                    continue;
                }
                Some(Lack::Unsettled(wait)) => {
                    unsettled = unsettled.max(Some(wait));
                    continue;
                }
                Some(Lack::For(wait)) => Some(wait),
                Some(Lack::TooLarge) => None,
            };
            let rank = |wait: Option<Duration>| wait.unwrap_or(Duration::MAX);
            if worst.is_none_or(|worst| rank(wait) > rank(worst.wait)) {
                worst = Some(Refusal { which, dimension: *dimension, wait });
            }
        }
    }
    let verdict = match (worst, unsettled) {
        (Some(refusal), _) => Verdict::Refused(refusal),
        (None, _) if is_unasked => return Verdict::Unasked,
        (None, Some(wait)) => return Verdict::Unsettled(wait),
        (None, None) => Verdict::Admitted,
    };
    for allowance in allowances {
        allowance.on_request(amounts, moment);
        if verdict == Verdict::Admitted {
            allowance.take(amounts, moment);
        }
    }
    verdict
}

// === impl Allowance ===

impl Allowance {
    /// Meters, each for another dimension. `cached_permille` is what a token of the prompt counts
    /// that the provider had kept, in thousandths of another one (0 to 1,000).
    pub fn new(meters: Vec<(Dimension, Meter)>, cached_permille: u16) -> Self {
        Self { meters, cached_permille: cached_permille.min(1_000) }
    }

    /// Takes `amounts`, whether or not they are there: see [`reserve`].
    pub fn take(&mut self, amounts: &Amounts, moment: Moment) {
        let cached = self.cached_permille;
        for (dimension, meter) in &mut self.meters {
            meter.take(amounts.of(dimension.counted, cached), moment);
        }
    }

    /// Takes more for what was admitted at `since`, from all dimensions or from none; only what is
    /// more than nothing. The dimension that has no more, where one has not.
    pub fn top_up(&mut self, more: &Amounts, since: Moment, moment: Moment) -> Option<Dimension> {
        let cached = self.cached_permille;
        let uses = |(dimension, meter): &mut (Dimension, Meter), at| {
            let amount = more.of(dimension.counted, cached);
            let is_measured = !dimension.counted.is_per_request() && amount > 0;
            (is_measured && !meter.top_up(amount, since, moment)).then_some((at, *dimension))
        };
        let mut meters = self.meters.iter_mut().enumerate();
        let (at, stopped) = meters.find_map(|(at, meter)| uses(meter, at))?;
        give_back(self.meters.iter_mut().take(at), (more, cached), since, moment);
        Some(stopped)
    }

    /// Undoes [`Self::top_up`].
    pub fn give_back(&mut self, more: &Amounts, since: Moment, moment: Moment) {
        let cached = self.cached_permille;
        give_back(self.meters.iter_mut(), (more, cached), since, moment);
    }

    /// Books `more` for what was admitted at `since`, whether or not it is there.
    pub fn book(&mut self, more: &Amounts, since: Moment, moment: Moment) {
        let cached = self.cached_permille;
        for (dimension, meter) in &mut self.meters {
            if !dimension.counted.is_per_request() {
                meter.book(more.of(dimension.counted, cached), since, moment);
            }
        }
    }

    /// Puts `actual` in the place of what was `reserved` at `since`. `None` gives all of it back,
    /// the request itself included: it never got to a provider. Tells which thresholds were
    /// crossed. Places are given back by [`Self::release`], which may be long before it is known
    /// what was used.
    pub fn settle(
        &mut self,
        reserved: &Amounts,
        actual: Option<&Amounts>,
        since: Moment,
        moment: Moment,
    ) -> Vec<Crossing> {
        let cached = self.cached_permille;
        let mut crossings = Vec::new();
        for (dimension, meter) in &mut self.meters {
            if dimension.counted == Counted::Concurrent {
                continue;
            }
            let of = |amounts: &Amounts| amounts.of(dimension.counted, cached);
            meter.settle(of(reserved), actual.map_or(0, of), since, moment);
            let Some(window) = meter.window_mut() else { continue };
            if let Some(threshold) = window.crossed(moment.unix_ms) {
                crossings.push(Crossing { dimension: *dimension, threshold });
            }
        }
        crossings
    }

    /// Gives the place of a request back, which has ended.
    pub fn release(&mut self, since: Moment, moment: Moment) {
        if let Some(slots) = self.meter_mut(Dimension::CONCURRENT) {
            slots.settle(1, 0, since, moment);
        }
    }

    /// Takes over the limits of `to`, a new allowance. What was used of a limit that both have
    /// stays used.
    pub fn adapt(&mut self, to: Self, moment: Moment) {
        let mut before = std::mem::replace(self, to);
        for (dimension, meter) in &mut self.meters {
            if let Some(used) = before.meter_mut(*dimension) {
                meter.take_over(used, moment);
            }
        }
    }

    /// Notes that a request did not fit into a dimension; tells where that means that it is used
    /// up, if that is news.
    pub fn exhausted(
        &mut self,
        dimension: Dimension,
        amounts: &Amounts,
        moment: Moment,
    ) -> Option<Crossing> {
        let amount = self.amount(dimension, amounts);
        let threshold = self.meter_mut(dimension)?.exhausted(amount, moment)?;
        Some(Crossing { dimension, threshold })
    }

    /// What a token counts that the provider had kept, in thousandths of another one.
    pub const fn cached_permille(&self) -> u16 {
        self.cached_permille
    }

    /// The meters.
    pub fn meters(&self) -> &[(Dimension, Meter)] {
        &self.meters
    }

    /// The meters, to be changed.
    pub fn meters_mut(&mut self) -> &mut [(Dimension, Meter)] {
        &mut self.meters
    }

    /// The meter of a dimension.
    pub fn meter_mut(&mut self, dimension: Dimension) -> Option<&mut Meter> {
        self.meters.iter_mut().find(|(of, _)| *of == dimension).map(|(_, meter)| meter)
    }

    /// Whether it is as a new one would be.
    pub fn is_unused(&self, moment: Moment) -> bool {
        self.meters.iter().all(|(_, meter)| meter.is_unused(moment))
    }

    fn on_request(&mut self, amounts: &Amounts, moment: Moment) {
        let cached = self.cached_permille;
        for (dimension, meter) in &mut self.meters {
            meter.on_request(amounts.of(dimension.counted, cached), moment);
        }
    }

    fn amount(&self, dimension: Dimension, amounts: &Amounts) -> u64 {
        amounts.of(dimension.counted, self.cached_permille)
    }
}

fn give_back<'a>(
    meters: impl Iterator<Item = &'a mut (Dimension, Meter)>,
    (more, cached): (&Amounts, u16),
    since: Moment,
    moment: Moment,
) {
    for (dimension, meter) in meters {
        if !dimension.counted.is_per_request() {
            meter.settle(more.of(dimension.counted, cached), 0, since, moment);
        }
    }
}
