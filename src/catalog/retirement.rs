//! When models are taken out of service, and what to use instead.

use std::fmt;

use jiff::civil::Date;

use super::{Model, ModelKind, Provider};
use crate::problems::nearest;

/// A model that is taken out of service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retirement {
    /// The first day on which it does not answer any more, by its provider's word.
    pub on: Date,
    /// Days until then; 0 today, less than 0 when that is over.
    pub days_left: i32,
}

/// Who says what stands for a model that goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProposedBy {
    /// Its provider's file names it.
    Catalog,
    /// It is the nearest of the same provider that stays: a proposal of ours.
    Nearest,
}

// === impl Retirement ===

impl Retirement {
    /// How many days ahead a retirement is told of.
    pub const NEAR_DAYS: i32 = 90;

    /// Seen from a day.
    pub fn seen_from(today: Date, on: Date) -> Self {
        // Two days of the calendar are never further apart than an `i32` counts.
        let days_left = (on - today).get_days();
        Self { on, days_left }
    }

    /// Whether the model answers no more.
    pub const fn is_over(self) -> bool {
        self.days_left <= 0
    }

    /// Whether it is over or within the next [`Retirement::NEAR_DAYS`].
    pub const fn is_near(self) -> bool {
        self.days_left <= Self::NEAR_DAYS
    }
}

impl fmt::Display for Retirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let days = |days: u32| if days == 1 { "1 day".to_owned() } else { format!("{days} days") };
        let count = self.days_left.unsigned_abs();
        match self.days_left {
            0 => write!(f, "retires today, {}", self.on),
            1.. => write!(f, "retires on {}, in {}", self.on, days(count)),
            ..0 => write!(f, "was retired on {}, {} ago", self.on, days(count)),
        }
    }
}

// === impl ProposedBy ===

impl ProposedBy {
    /// The word for the admin API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Catalog => "catalog",
            Self::Nearest => "nearness",
        }
    }
}

// === impl Model ===

impl Model {
    /// When it is taken out of service, seen from a day; `None` where no date is known.
    pub fn retirement(&self, today: Date) -> Option<Retirement> {
        self.retires_on.map(|on| Retirement::seen_from(today, on))
    }

    /// Whether it stays longer than what is near, and longer than `other`.
    pub fn outlives(&self, other: &Self, today: Date) -> bool {
        let stays = self.retirement(today).is_none_or(|retirement| !retirement.is_near());
        stays && self.retires_on.is_none_or(|on| other.retires_on.is_none_or(|gone| on > gone))
    }

    /// The nearest of `candidates` that can stand for this model: of the same kind, with every
    /// feature and at least the same window, and staying when this one goes. Nearest is what costs
    /// most nearly the same; of those the newest by what is known of it, then the first.
    pub fn nearest_of<'a, T: AsRef<Self>>(
        &self,
        candidates: impl IntoIterator<Item = &'a T>,
        today: Date,
    ) -> Option<&'a T> {
        let fits = |candidate: &&T| {
            let candidate = candidate.as_ref();
            candidate.name != self.name
                && candidate.listed
                && candidate.kind == self.kind
                && self.features.iter().all(|feature| candidate.features.has(feature))
                && self
                    .context_tokens
                    .is_none_or(|own| candidate.context_tokens.is_some_and(|tokens| tokens >= own))
                && candidate.outlives(self, today)
        };
        candidates.into_iter().filter(fits).min_by(|one, other| {
            let (one, other) = (one.as_ref(), other.as_ref());
            let apart = self.apart(one).total_cmp(&self.apart(other));
            apart.then_with(|| other.as_of.cmp(&one.as_of))
        })
    }

    /// How far apart the prices of a usual request are, as a ratio's logarithm.
    fn apart(&self, other: &Self) -> f64 {
        match (self.usual_cost(), other.usual_cost()) {
            (Some(own), Some(cost)) => (own.max(1.0) / cost.max(1.0)).ln().abs(),
            (None, None) => 0.0,
            (Some(_), None) | (None, Some(_)) => f64::INFINITY,
        }
    }

    /// What is wrong with the name of the replacement that a model of `provider` has: one of the
    /// same provider, or `provider/model` of one of `known`.
    pub fn replacement_problem(&self, provider: &Provider, known: &[&Provider]) -> Option<String> {
        let name = self.replacement.as_deref()?;
        let (other, rest) = name.split_once('/').unwrap_or_default();
        if name == self.name.as_str()
            || (other == provider.id.as_str() && rest == self.name.as_str())
        {
            return Some("is the model itself".to_owned());
        }
        let is_there = |known: &&Provider| {
            known.id.as_str() == other && (known.open_models || known.model(rest).is_some())
        };
        if provider.model(name).is_some() || is_there(&provider) || known.iter().any(is_there) {
            return None;
        }
        let own = provider.models.iter().map(|model| model.name.as_str().to_owned());
        let all = known.iter().flat_map(|known| {
            known.models.iter().map(|model| format!("{}/{}", known.id, model.name))
        });
        let names: Vec<_> = own.chain(all).filter(|near| near != self.name.as_str()).collect();
        let hint = nearest(name, names.iter().map(String::as_str))
            .map_or_else(String::new, |near| format!(" (did you mean {near:?}?)"));
        Some(format!("unknown model {name:?}{hint}"))
    }

    /// What three tokens of prompt and one of answer cost, in 1e-12 US dollars.
    fn usual_cost(&self) -> Option<f64> {
        let rates = self.prices?.rates;
        let input = rates.input.pico_usd(3);
        let output = if self.kind == ModelKind::Embedding { 0 } else { rates.output.pico_usd(1) };
        #[expect(clippy::cast_precision_loss, reason = "only compared")]
        let cost = (input + output) as f64;
        Some(cost)
    }
}

#[cfg(test)]
mod tests;
