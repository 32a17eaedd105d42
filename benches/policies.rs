//! What the policies beside ranking and limits cost a request, for people: `cargo bench --bench
//! policies`.
//!
//! One attempt asks the breaker, the mirror of the provider's limits, the budget of retries and the
//! queue of the target; a rollout draws a side, and an armed race is planned.

#![allow(missing_docs, reason = "criterion's macros make items without any")]

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use tidegate::clock::Instant;
use tidegate::policy::hedge::{self, Candidate, Facts, Quantile, Separation};
use tidegate::policy::quota::{Amounts, Mirror, QuotaSettings, Reading};
use tidegate::policy::retry::{AttemptLimits, Attempts, BudgetSettings, RetryBudget};
use tidegate::policy::rollout::{Salt, Share};
use tidegate::policy::shed::{Shed, ShedSettings, Ticket};
use tidegate::policy::{breaker, breaker::Breaker};
use tidegate::units::Dimension;

fn breakers(c: &mut Criterion) {
    let now = Instant::now();
    let mut breaker = Breaker::new(breaker::Settings::default());
    c.bench_function("breaker: admit and succeed", |b| {
        b.iter(|| {
            let pass = black_box(&mut breaker).admit(now);
            pass.and_then(|pass| breaker.on_success(pass, now))
        });
    });
}

/// A mirror that a provider has told of two limits.
fn mirror(now: Instant) -> Mirror {
    let mut mirror = Mirror::new(QuotaSettings::default());
    for dimension in [Dimension::Requests, Dimension::Tokens] {
        let (limit, reset) = (1_000_000_000, Some(Duration::from_secs(60)));
        let reading = Reading { dimension, limit, remaining: limit, reset, request_started: now };
        mirror.on_reading(reading, now);
    }
    mirror
}

fn provider_limits(c: &mut Criterion) {
    let now = Instant::now();
    let mut mirror = mirror(now);
    let (estimate, actual) = (Amounts::request(1_200, 300), Amounts::request(1_180, 240));
    c.bench_function("provider's limits: reserve and settle", |b| {
        b.iter(|| {
            if let Ok(reservation) = mirror.reserve(black_box(estimate), now) {
                mirror.settle(reservation, actual, now);
            }
        });
    });
}

fn retries(c: &mut Criterion) {
    let now = Instant::now();
    let mut budget = RetryBudget::new(BudgetSettings::default());
    c.bench_function("retry budget: a request and its second attempt", |b| {
        b.iter(|| {
            budget.deposit(black_box(now));
            if budget.try_withdraw(8, now) {
                budget.release();
            }
        });
    });
    c.bench_function("attempts: two targets", |b| {
        b.iter(|| {
            let mut attempts = Attempts::new(AttemptLimits::default());
            black_box((attempts.start(0_usize), attempts.start(1), attempts.exhausted()))
        });
    });
}

fn queues(c: &mut Criterion) {
    let now = Instant::now();
    let settings = ShedSettings::default;
    let ticket = |id: u64| Ticket { id, priority: 2, caller: id % 50, cost: 1_500 };
    let mut free = Shed::new(settings(), 64, 7, now);
    c.bench_function("queue: admitted at once", |b| {
        b.iter(|| {
            let verdict = free.offer(black_box(ticket(1)), 0.5, now);
            free.release(now);
            verdict
        });
    });
    let full = || {
        let mut full = Shed::new(settings(), 1, 7, now);
        for id in 0..512 {
            full.offer(ticket(id), 0.5, now);
        }
        full
    };
    c.bench_function("queue: 512 wait, one comes and one goes on", |b| {
        b.iter_batched_ref(
            full,
            |full| {
                let verdict = full.offer(ticket(1_000), 0.5, now);
                full.release(now);
                (verdict, full.next(now))
            },
            BatchSize::SmallInput,
        );
    });
}

fn races(c: &mut Criterion) {
    let settings = hedge::Settings::default();
    let own = Quantile { value: Some(Duration::from_millis(900)), samples: 500 };
    let candidate = |total_seconds| Candidate {
        separation: Separation::Provider,
        is_closed: true,
        headroom: 0.8,
        total_seconds,
    };
    let candidates = [1.2, 0.9, 1.4].map(candidate);
    let facts = Facts {
        is_interactive: true,
        choices: 1,
        has_server_state: false,
        is_pinned: false,
        prompt_tokens: 1_200,
        input_usd: 0.001,
        legs: 1,
        has_pushback: false,
        is_brown_out: false,
        is_panic: false,
        other: None,
        delay: Duration::from_millis(900),
        remaining: Duration::from_secs(20),
        median_of_other: Some(Duration::from_millis(400)),
        q99_of_first: Some(Duration::from_secs(5)),
    };
    c.bench_function("race: delay, second target, whether", |b| {
        b.iter(|| {
            let remaining = Duration::from_secs(20);
            let delay = hedge::delay(black_box(own), own, remaining, &settings);
            let second = hedge::second(&candidates, &settings);
            let other = second.and_then(|at| candidates.get(at).copied());
            hedge::eligible(&Facts { other, delay, ..facts }, &settings)
        });
    });
}

fn rollouts(c: &mut Criterion) {
    let salt = Salt::of("ro_0123456789abcdef");
    let share = Share::from_percent(5.0).unwrap_or_default();
    c.bench_function("rollout: draw a side", |b| {
        b.iter(|| salt.draw(black_box(b"user-4711")).arm(share));
    });
}

criterion_group!(benches, breakers, provider_limits, retries, queues, races, rollouts);
criterion_main!(benches);
