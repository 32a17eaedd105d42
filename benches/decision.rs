//! What it costs to choose a target and to decide on limits, for people: `cargo bench --bench
//! decision`.
//!
//! Criterion reports means; after them, the 99th percentile of 100,000 decisions timed one by one.

#![allow(missing_docs, reason = "criterion's macros make items without any")]
#![allow(clippy::unwrap_used, reason = "a benchmark that fails, panics")]
#![expect(clippy::print_stdout, reason = "the percentile is for people to read")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tidegate::clock::Instant;
use tidegate::policy::prefix::Home;
use tidegate::policy::rank::{Admission, Pool, Prices, Settings, Standing, pick, plan, score};
use tidegate::quota::{
    Allowance, Amounts, Bucket, Counted, Dimension, Meter, Moment, Period, Rate, Slots, Verdict,
    Window, reserve,
};

fn targets(count: u32) -> Vec<Standing> {
    (0..count)
        .map(|n| Standing {
            admission: Admission::Yes,
            success: 0.99 - 0.01 * f64::from(n),
            ttft_seconds: (n % 5 != 4).then_some(0.4 + 0.05 * f64::from(n)),
            idle_seconds: 3.0 * f64::from(n),
            token_seconds: Some(0.02),
            input_tokens: 1_200.0,
            output_tokens: 300.0,
            prices: Prices { input: 0.15e-6, cached: 0.075e-6, output: 0.6e-6 },
            cached_share: 0.1,
            in_flight: n,
            limit: 64,
            is_self_hosted: n % 4 == 0,
            headroom: 1.0 - 0.05 * f64::from(n),
            weight: 1 + n % 3,
            slow_start: 1.0,
            is_suspect: n == 7,
            is_preferred: n == 2,
            home: Home::No,
        })
        .collect()
}

/// The tiers of a route with 16 targets: all alike, or as fallbacks of 8, which are drawn by score.
fn routes() -> [(&'static str, Vec<Vec<Standing>>); 2] {
    let halves = targets(16).chunks(8).map(<[_]>::to_vec).collect();
    [("16 targets", vec![targets(16)]), ("2 tiers of 8", halves)]
}

fn decide(tiers: &[Vec<Standing>], settings: &Settings, rng: &mut StdRng) -> usize {
    let plan = plan(tiers.iter().map(Vec::as_slice), settings, || rng.random());
    plan.order.len()
}

fn decisions(c: &mut Criterion) {
    let settings = Settings::default();
    let mut rng = StdRng::seed_from_u64(1);
    let mut group = c.benchmark_group("decision");
    let all = targets(16);
    group.bench_function("score and pick of 16 targets", |b| {
        b.iter(|| {
            let targets = black_box(&all);
            let pool = Pool::of(targets, &settings);
            let scores: [_; 16] = std::array::from_fn(|at| score(&targets[at], &settings, &pool));
            pick(&scores, &settings, || rng.random())
        });
    });
    for (name, tiers) in routes() {
        group.bench_function(format!("score and order of {name}"), |b| {
            b.iter(|| decide(black_box(&tiers), &settings, &mut rng));
        });
    }
    group.finish();
}

fn percentiles(_: &mut Criterion) {
    const DECISIONS: usize = 100_000;
    let settings = Settings::default();
    let mut rng = StdRng::seed_from_u64(2);
    for (name, tiers) in routes() {
        let mut nanos: Vec<u128> = (0..DECISIONS)
            .map(|_| {
                let start = Instant::now();
                black_box(decide(black_box(&tiers), &settings, &mut rng));
                start.elapsed().as_nanos()
            })
            .collect();
        nanos.sort_unstable();
        let at = |share: f64| nanos[(share * DECISIONS as f64) as usize];
        println!("score and order of {name}: p50 {} ns, p99 {} ns", at(0.5), at(0.99));
    }
}

/// Four buckets, slots and a budget.
fn allowance(at: Moment) -> Allowance {
    let flows = [Counted::Requests, Counted::Tokens, Counted::InputTokens, Counted::OutputTokens];
    let bucket = |counted| {
        let bucket = Bucket::new(Rate::per_minute(1_000_000_000_000), 500_000_000_000, at.now);
        (Dimension::of(counted, Period::Minute), Meter::Bucket(bucket))
    };
    let mut meters: Vec<_> = flows.map(bucket).into();
    meters.push((Dimension::CONCURRENT, Meter::Slots(Slots::new(64))));
    let day = Window::new(Period::Day, 1 << 50, at.unix_ms);
    meters.push((Dimension::of(Counted::Money, Period::Day), Meter::Window(day)));
    Allowance::new(meters, 100)
}

fn moment() -> Moment {
    Moment { now: Instant::now(), unix_ms: 1_795_239_900_000, alone_of: None }
}

/// One request: decided, and settled.
fn limit(allowance: &mut Allowance, at: Moment) {
    let expected =
        Amounts { input_tokens: 1_200, cached_tokens: 0, output_tokens: 300, micro_usd: 500 };
    let used = Amounts { output_tokens: 280, cached_tokens: 100, ..expected };
    assert_eq!(reserve(&mut [&mut *allowance], &expected, at), Verdict::Admitted);
    black_box(allowance.settle(&expected, Some(&used), at, at));
}

fn limits(c: &mut Criterion) {
    const DECISIONS: usize = 100_000;
    let mut all = allowance(moment());
    let mut group = c.benchmark_group("limits");
    group.bench_function("reserve and settle 6 dimensions", |b| {
        b.iter(|| limit(black_box(&mut all), moment()));
    });
    group.finish();
    let mut nanos: Vec<u128> = (0..DECISIONS)
        .map(|_| {
            let start = Instant::now();
            limit(black_box(&mut all), moment());
            start.elapsed().as_nanos()
        })
        .collect();
    nanos.sort_unstable();
    let at = |share: f64| nanos[(share * DECISIONS as f64) as usize];
    println!("reserve and settle 6 dimensions: p50 {} ns, p99 {} ns", at(0.5), at(0.99));
}

criterion_group!(benches, decisions, percentiles, limits);
criterion_main!(benches);
