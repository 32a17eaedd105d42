//! A pool under traffic in virtual time: how fast the sampling leaves a target that goes bad, how it
//! finds back, and how still it is when nothing happens.
//!
//! Arrivals are Poisson, times to a first token lognormal (σ 0.45). The rank works alone here: no
//! breaker, no ejection, no failover.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, Exp, LogNormal};

use super::*;

const OUTPUT_TOKENS: f64 = 200.0;

/// How a simulated target behaves.
#[derive(Debug, Clone, Copy)]
struct Behaviour {
    /// Median seconds to the first token.
    ttft: f64,
    /// Seconds per output token.
    token: f64,
    /// Share of answers that take eight times as long.
    stragglers: f64,
    /// Share of attempts that fail, and after how many seconds.
    failures: (f64, f64),
}

const WELL: Behaviour =
    Behaviour { ttft: 0.5, token: 0.02, stragglers: 0.0, failures: (0.0, 0.0) };

/// An average in time that rises and falls at different speeds.
#[derive(Debug, Clone, Copy)]
struct Average {
    value: Option<f64>,
    at: f64,
}

/// What `fleet` would remember of a target.
#[derive(Debug, Clone, Copy)]
struct Estimates {
    ttft: Average,
    token: Average,
    good: f64,
    all: f64,
    counted_at: f64,
}

/// The time constants of the average of times to a first token, in seconds.
#[derive(Debug, Clone, Copy)]
struct Feed {
    rise: f64,
    fall: f64,
}

/// The one that reaches all figures.
const FEED: Feed = Feed { rise: 3.0, fall: 15.0 };
/// Peak-EWMA as Finagle has it: up at once.
const PEAK: Feed = Feed { rise: 0.0, fall: 15.0 };

const PENALTY_SECONDS: f64 = 5.0;
const HALF_LIFE: f64 = 30.0;
const PRIOR_ATTEMPTS: f64 = 10.0;
const PRIOR_SUCCESS: f64 = 0.99;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Event {
    FirstToken { target: usize, ttft: f64 },
    Failure { target: usize, after: f64 },
    End { target: usize, token: f64 },
}

struct Simulation {
    feed: Feed,
    rps: f64,
    now: f64,
    behaviours: Vec<Behaviour>,
    estimates: Vec<Estimates>,
    in_flight: Vec<u32>,
    queue: BinaryHeap<Reverse<(u64, usize)>>,
    events: Vec<Event>,
    /// When each request came and which target it went to.
    picks: Vec<(f64, usize)>,
    rng: StdRng,
}

impl Average {
    const NEW: Self = Self { value: None, at: 0.0 };

    fn add(&mut self, sample: f64, now: f64, rise: f64, fall: f64) {
        let value = self.value.unwrap_or(sample);
        let tau = if sample > value { rise } else { fall };
        let keep = if tau > 0.0 { (-(now - self.at) / tau).exp() } else { 0.0 };
        self.value = Some(value * keep + sample * (1.0 - keep));
        self.at = now;
    }
}

impl Estimates {
    fn count(&mut self, is_good: bool, now: f64) {
        let keep = 0.5_f64.powf((now - self.counted_at) / HALF_LIFE);
        self.good = self.good * keep + f64::from(u8::from(is_good));
        self.all = self.all * keep + 1.0;
        self.counted_at = now;
    }

    fn success(&self, now: f64) -> f64 {
        let keep = 0.5_f64.powf((now - self.counted_at) / HALF_LIFE);
        (self.good * keep + PRIOR_ATTEMPTS * PRIOR_SUCCESS) / (self.all * keep + PRIOR_ATTEMPTS)
    }
}

impl Simulation {
    fn new(behaviours: &[Behaviour], rps: f64, feed: Feed, seed: u64) -> Self {
        let new = Estimates {
            ttft: Average::NEW,
            token: Average::NEW,
            good: 0.0,
            all: 0.0,
            counted_at: 0.0,
        };
        Self {
            feed,
            rps,
            now: 0.0,
            behaviours: behaviours.to_vec(),
            estimates: vec![new; behaviours.len()],
            in_flight: vec![0; behaviours.len()],
            queue: BinaryHeap::new(),
            events: Vec::new(),
            picks: Vec::new(),
            rng: StdRng::seed_from_u64(seed),
        }
    }

    fn run_until(&mut self, end: f64) {
        loop {
            self.now += Exp::new(self.rps).unwrap().sample(&mut self.rng);
            let arrival = self.now.min(end);
            while let Some(Reverse((at, event))) = self.queue.peek().copied()
                && at as f64 / 1e6 <= arrival
            {
                self.queue.pop();
                self.on_event(self.events[event], at as f64 / 1e6);
            }
            if self.now >= end {
                self.now = end;
                return;
            }
            self.on_request();
        }
    }

    fn standings(&self) -> Vec<Standing> {
        (0..self.behaviours.len())
            .map(|target| Standing {
                success: self.estimates[target].success(self.now),
                ttft_seconds: self.estimates[target].ttft.value,
                token_seconds: self.estimates[target].token.value,
                in_flight: self.in_flight[target],
                output_tokens: OUTPUT_TOKENS,
                limit: 0,
                ..super::tests::standing()
            })
            .collect()
    }

    fn on_request(&mut self) {
        let settings = Settings::default();
        let standings = self.standings();
        let pool = Pool::of(&standings, &settings);
        let scores: Vec<_> = standings.iter().map(|s| score(s, &settings, &pool)).collect();
        let target = pick(&scores, &settings, || self.rng.random()).unwrap();
        self.picks.push((self.now, target));
        self.in_flight[target] += 1;

        let Behaviour { ttft, token, stragglers, failures: (failing, after) } =
            self.behaviours[target];
        if self.rng.random_bool(failing) {
            return self.at(after, Event::Failure { target, after });
        }
        let mut ttft = LogNormal::new(ttft.ln(), 0.45).unwrap().sample(&mut self.rng);
        if self.rng.random_bool(stragglers) {
            ttft *= 8.0;
        }
        self.at(ttft, Event::FirstToken { target, ttft });
        self.at(ttft + token * OUTPUT_TOKENS, Event::End { target, token });
    }

    fn at(&mut self, after: f64, event: Event) {
        self.queue.push(Reverse((((self.now + after) * 1e6) as u64, self.events.len())));
        self.events.push(event);
    }

    fn on_event(&mut self, event: Event, now: f64) {
        let Feed { rise, fall } = self.feed;
        match event {
            Event::FirstToken { target, ttft } => {
                self.estimates[target].ttft.add(ttft, now, rise, fall);
            }
            Event::Failure { target, after } => {
                self.in_flight[target] -= 1;
                let estimates = &mut self.estimates[target];
                estimates.ttft.add(PENALTY_SECONDS.max(after), now, rise, fall);
                estimates.count(false, now);
            }
            Event::End { target, token } => {
                self.in_flight[target] -= 1;
                self.estimates[target].token.add(token, now, 60.0, 60.0);
                self.estimates[target].count(true, now);
            }
        }
    }

    /// Share of the requests between two instants that went to a target.
    fn share(&self, target: usize, from: f64, to: f64) -> f64 {
        let within = || self.picks.iter().filter(|(at, _)| (from..to).contains(at));
        within().filter(|(_, picked)| *picked == target).count() as f64 / within().count() as f64
    }
}

#[test]
fn explore() {
    let slow = Behaviour { ttft: 1.5, token: 0.06, ..WELL };
    let slow_ttft = Behaviour { ttft: 1.5, ..WELL };
    let sink = Behaviour { failures: (1.0, 0.02), ..WELL };
    let flaky = Behaviour { failures: (0.2, 0.5), ..WELL };
    for feed in [FEED, PEAK, Feed { rise: 2.0, fall: 15.0 }, Feed { rise: 5.0, fall: 15.0 }, Feed { rise: 15.0, fall: 15.0 }, Feed { rise: 5.0, fall: 10.0 }] {
        println!("{feed:?}");
        for stragglers in [0.0, 0.03] {
            let b = |x: Behaviour| Behaviour { stragglers, ..x };
            for rps in [5.0, 20.0, 60.0] {
                let mut line = format!("  str {stragglers} rps {rps}: ");
                for (name, bad, at) in [("sink", sink, 2.0), ("slow", slow, 5.0), ("slowttft", slow_ttft, 5.0), ("flaky", flaky, 10.0)] {
                    let (mut share, mut first, mut back) = (0.0, 0.0, 0.0);
                    const N: u64 = 6;
                    for seed in 0..N {
                        let mut sim = Simulation::new(&[b(WELL); 3], rps, feed, seed);
                        sim.run_until(120.0);
                        sim.behaviours[0] = b(bad);
                        sim.run_until(180.0);
                        first += sim.share(0, 120.0 + at, 120.0 + at + 5.0) / N as f64;
                        share += sim.share(0, 120.0 + at, 180.0) / N as f64;
                        sim.behaviours[0] = b(WELL);
                        sim.run_until(400.0);
                        back += sim.share(0, 300.0, 400.0) / N as f64;
                    }
                    line += &format!("{name} {first:.3}/{share:.3}/{back:.3} ");
                }
                let mut sim = Simulation::new(&[b(WELL); 3], rps, feed, 99);
                sim.run_until(60.0 + 2000.0);
                let shares: Vec<f64> = (0..200).map(|n| sim.share(0, 60.0 + 10.0 * f64::from(n), 70.0 + 10.0 * f64::from(n))).collect();
                let mean = shares.iter().sum::<f64>() / 200.0;
                let std = (shares.iter().map(|s| (s - mean).powi(2)).sum::<f64>() / 200.0).sqrt();
                println!("{line} steady {mean:.3} std {std:.3}");
            }
        }
    }
}
