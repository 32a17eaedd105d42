//! What hedging wins and what it costs: lognormal times to a first token (median 0.5 s, σ 0.45),
//! 3 % of them eight times as long.

#![expect(clippy::print_stdout, reason = "a simulation prints its figures")]

use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use rand_distr::{Distribution, LogNormal};

use super::super::*;

const REQUESTS: usize = 50_000;
const DEADLINE: Duration = Duration::from_secs(60);

/// A window of the last times to a first token; losers are in it with what they had waited.
#[derive(Debug, Default)]
struct Window {
    samples: Vec<f64>,
    next: usize,
}

/// How a run went.
#[derive(Debug)]
struct Outcome {
    /// Seconds to the first token of each request, sorted.
    seconds: Vec<f64>,
    hedges: usize,
    /// Requests whose delay passed, so that without a budget they had been hedged.
    late: usize,
    wins: usize,
}

impl Window {
    const SIZE: usize = 2_000;

    fn add(&mut self, sample: f64) {
        if self.samples.len() < Self::SIZE {
            self.samples.push(sample);
        } else {
            self.samples[self.next] = sample;
            self.next = (self.next + 1) % Self::SIZE;
        }
    }

    fn quantile(&self, q: f64) -> Quantile {
        let mut sorted = self.samples.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        let value = sorted.get((q * sorted.len() as f64) as usize);
        Quantile {
            value: value.copied().map(Duration::from_secs_f64),
            samples: sorted.len() as u64,
        }
    }
}

impl Outcome {
    fn quantile(&self, q: f64) -> f64 {
        self.seconds[(q * self.seconds.len() as f64) as usize]
    }

    fn hedge_share(&self) -> f64 {
        self.hedges as f64 / self.seconds.len() as f64
    }
}

fn first_token(slowdown: f64, rng: &mut impl Rng) -> f64 {
    let seconds: f64 = LogNormal::new(0.5_f64.ln(), 0.45).unwrap().sample(rng);
    seconds * slowdown * if rng.random_bool(0.03) { 8.0 } else { 1.0 }
}

/// Two targets alike. After `slow_after` requests both are four times slower. The delay is
/// refreshed every 100 requests, or never again after the slowdown if it `is_stale`.
fn run(is_hedging: bool, slow_after: usize, is_stale: bool) -> Outcome {
    let settings = Settings::default();
    let mut rng = StdRng::seed_from_u64(11);
    let mut budget = HedgeBudget::new();
    let mut window = Window::default();
    let (mut q95, mut q50, mut q99) =
        (Quantile::default(), Quantile::default(), Quantile::default());
    let mut outcome = Outcome { seconds: Vec::new(), hedges: 0, late: 0, wins: 0 };
    for request in 0..REQUESTS {
        let slowdown = if request >= slow_after { 4.0 } else { 1.0 };
        if request % 100 == 0 && !(is_stale && request >= slow_after) {
            q95 = window.quantile(settings.quantile());
            (q50, q99) = (window.quantile(0.5), window.quantile(0.99));
        }
        budget.on_primary(&settings);
        // Both are always drawn, so that runs with and without hedges see the same first legs.
        let first = first_token(slowdown, &mut rng);
        let second = first_token(slowdown, &mut rng);
        let delay = delay(q95, Quantile::default(), DEADLINE, &settings);
        let facts = Facts {
            delay,
            remaining: DEADLINE - delay,
            median_of_other: q50.value,
            q99_of_first: q99.value,
            ..super::facts()
        };
        let is_late = first > delay.as_secs_f64() && eligible(&facts, &settings).is_ok();
        outcome.late += usize::from(is_late);
        if !(is_hedging && is_late && budget.try_withdraw()) {
            window.add(first);
            outcome.seconds.push(first);
            continue;
        }
        outcome.hedges += 1;
        let hedged = delay.as_secs_f64() + second;
        outcome.wins += usize::from(hedged < first);
        // The loser is cancelled: what is known of it is that it took longer than that.
        window.add(first.min(hedged));
        window.add(second.min(first - delay.as_secs_f64()));
        outcome.seconds.push(first.min(hedged));
    }
    outcome.seconds.sort_unstable_by(f64::total_cmp);
    outcome
}

#[test]
fn the_99th_percentile_is_more_than_halved_for_at_most_5_percent_more_requests() {
    let (without, with) = (run(false, usize::MAX, false), run(true, usize::MAX, false));
    let (before, after) = (without.quantile(0.99), with.quantile(0.99));
    println!(
        "p99 {before:.2} s -> {after:.2} s ({:+.0} %), p99.9 {:.2} s -> {:.2} s, p50 {:.3} s -> {:.3} s, \
         extra requests {:.2} %, hedges that won {:.2}",
        (after / before - 1.0) * 100.0,
        without.quantile(0.999),
        with.quantile(0.999),
        without.quantile(0.5),
        with.quantile(0.5),
        with.hedge_share() * 100.0,
        with.wins as f64 / with.hedges as f64,
    );
    assert!(after <= 0.45 * before, "{before} s -> {after} s");
    assert!(with.hedge_share() <= 0.05, "{}", with.hedge_share());
}

#[test]
fn a_general_slowdown_is_not_hedged_into() {
    for is_stale in [false, true] {
        let (without, with) = (run(false, 10_000, is_stale), run(true, 10_000, is_stale));
        let (before, after) = (without.quantile(0.5), with.quantile(0.5));
        println!(
            "all 4 x slower, delay {}: hedges {:.2} % of requests (late {:.0} %), p50 {before:.3} s -> {after:.3} s",
            if is_stale { "stale" } else { "refreshed" },
            with.hedge_share() * 100.0,
            with.late as f64 / REQUESTS as f64 * 100.0,
        );
        assert!(with.hedge_share() <= 0.05, "{}", with.hedge_share());
        assert!((after / before - 1.0).abs() < 0.03, "p50 moved from {before} s to {after} s");
    }
}
