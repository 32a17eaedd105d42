//! A pool under traffic in virtual time: how fast the sampling leaves a target that goes bad, how
//! it finds back, and how still it is when nothing happens.
//!
//! Arrivals are Poisson, times to a first token lognormal (σ 0.45). The rank works alone here: no
//! breaker, no ejection, no failover. Shares are means over several seeds, in the five seconds
//! after the time by which the target must have lost its traffic.

#![expect(clippy::print_stdout, reason = "a simulation prints its figures")]

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, Exp, LogNormal};

use super::super::*;
use crate::clock::Instant;

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

const WELL: Behaviour = Behaviour { ttft: 0.5, token: 0.02, stragglers: 0.0, failures: (0.0, 0.0) };

/// What `fleet` would remember of a target.
#[derive(Debug, Clone, Copy)]
struct Estimates {
    ttft: FirstTokens,
    token: Option<f64>,
    token_at: f64,
    good: f64,
    all: f64,
    counted_at: f64,
}

/// Peak-EWMA as Finagle has it: up at once.
fn peak() -> FirstTokenSettings {
    FirstTokenSettings {
        rise: Duration::ZERO,
        fall: Duration::from_secs(15),
        cap: f64::INFINITY,
        ..FirstTokenSettings::default()
    }
}

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
    feed: FirstTokenSettings,
    rps: f64,
    start: Instant,
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

impl Estimates {
    fn count(&mut self, is_good: bool, now: f64) {
        let keep = 0.5_f64.powf((now - self.counted_at) / HALF_LIFE);
        self.good = self.good * keep + f64::from(u8::from(is_good));
        self.all = self.all * keep + 1.0;
        self.counted_at = now;
    }

    fn on_token(&mut self, seconds: f64, now: f64) {
        let keep = (-(now - self.token_at) / 60.0).exp();
        self.token = Some(self.token.unwrap_or(seconds) * keep + seconds * (1.0 - keep));
        self.token_at = now;
    }

    fn success(&self, now: f64) -> f64 {
        let keep = 0.5_f64.powf((now - self.counted_at) / HALF_LIFE);
        (self.good * keep + PRIOR_ATTEMPTS * PRIOR_SUCCESS) / (self.all * keep + PRIOR_ATTEMPTS)
    }
}

impl Simulation {
    fn new(behaviours: &[Behaviour], rps: f64, feed: FirstTokenSettings, seed: u64) -> Self {
        let new = Estimates {
            ttft: FirstTokens::default(),
            token: None,
            token_at: 0.0,
            good: 0.0,
            all: 0.0,
            counted_at: 0.0,
        };
        Self {
            feed,
            rps,
            start: Instant::now(),
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
                ttft_seconds: self.estimates[target].ttft.seconds(),
                idle_seconds: self.estimates[target].ttft.idle_seconds(self.instant(self.now)),
                token_seconds: self.estimates[target].token,
                in_flight: self.in_flight[target],
                output_tokens: OUTPUT_TOKENS,
                limit: 0,
                ..super::standing()
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
            return self.schedule(after, Event::Failure { target, after });
        }
        let mut ttft = LogNormal::new(ttft.ln(), 0.45).unwrap().sample(&mut self.rng);
        if self.rng.random_bool(stragglers) {
            ttft *= 8.0;
        }
        self.schedule(ttft, Event::FirstToken { target, ttft });
        self.schedule(ttft + token * OUTPUT_TOKENS, Event::End { target, token });
    }

    fn schedule(&mut self, after: f64, event: Event) {
        self.queue.push(Reverse((((self.now + after) * 1e6) as u64, self.events.len())));
        self.events.push(event);
    }

    fn on_event(&mut self, event: Event, now: f64) {
        let (feed, instant) = (self.feed, self.instant(now));
        match event {
            Event::FirstToken { target, ttft } => {
                let waited = Duration::from_secs_f64(ttft);
                self.estimates[target].ttft.on_answer(waited, &feed, instant);
            }
            Event::Failure { target, after } => {
                self.in_flight[target] -= 1;
                let waited = Duration::from_secs_f64(after);
                self.estimates[target].ttft.on_failure(waited, None, &feed, instant);
                self.estimates[target].count(false, now);
            }
            Event::End { target, token } => {
                self.in_flight[target] -= 1;
                self.estimates[target].on_token(token, now);
                self.estimates[target].count(true, now);
            }
        }
    }

    fn instant(&self, seconds: f64) -> Instant {
        self.start + Duration::from_secs_f64(seconds)
    }

    /// Share of the requests between two instants that went to a target.
    fn share(&self, target: usize, from: f64, to: f64) -> f64 {
        let within = || self.picks.iter().filter(|(at, _)| (from..to).contains(at));
        within().filter(|(_, picked)| *picked == target).count() as f64 / within().count() as f64
    }
}

/// Share of answers that take eight times as long, and requests per second.
const TRAFFIC: [(f64, f64); 3] = [(0.0, 20.0), (0.03, 20.0), (0.03, 60.0)];

/// Shares of one of three targets that goes bad after two minutes for one minute.
#[derive(Debug)]
struct Course {
    /// In the five seconds after it must have lost its traffic.
    bad: f64,
    /// From 120 s after its recovery on, for 100 s.
    recovered: f64,
}

fn course(bad: Behaviour, within: f64, rps: f64, feed: FirstTokenSettings) -> Course {
    const SEEDS: u64 = 12;
    let mut course = Course { bad: 0.0, recovered: 0.0 };
    for seed in 0..SEEDS {
        let well = Behaviour { stragglers: bad.stragglers, ..WELL };
        let mut simulation = Simulation::new(&[well; 3], rps, feed, seed);
        simulation.run_until(120.0);
        simulation.behaviours[0] = bad;
        simulation.run_until(180.0);
        simulation.behaviours[0] = well;
        simulation.run_until(400.0);
        let from = 120.0 + within;
        course.bad += simulation.share(0, from, from + 5.0) / SEEDS as f64;
        course.recovered += simulation.share(0, 300.0, 400.0) / SEEDS as f64;
    }
    course
}

/// The standard deviation of the share of one of three equal targets in 10 s, over 40 minutes.
fn unrest(stragglers: f64, rps: f64, feed: FirstTokenSettings) -> f64 {
    const WINDOWS: u32 = 240;
    let well = Behaviour { stragglers, ..WELL };
    let mut simulation = Simulation::new(&[well; 3], rps, feed, 99);
    simulation.run_until(60.0 + 10.0 * f64::from(WINDOWS));
    let shares = (0..WINDOWS).map(|window| {
        let from = 60.0 + 10.0 * f64::from(window);
        simulation.share(0, from, from + 10.0)
    });
    let (sum, squares) = shares.fold((0.0, 0.0), |(sum, sq), x| (sum + x, sq + x * x));
    (squares / f64::from(WINDOWS) - (sum / f64::from(WINDOWS)).powi(2)).sqrt()
}

#[rustfmt::skip] // A table reads best as a table.
fn ways_to_go_bad() -> [(&'static str, Behaviour, f64); 3] {
    [
        ("fails in 20 ms", Behaviour { failures: (1.0, 0.02), ..WELL },             2.0),
        ("3 x slower",     Behaviour { ttft: 1.5, token: 0.06, ..WELL },            5.0),
        ("20 % errors",    Behaviour { failures: (0.2, 0.5), ..WELL },             10.0),
    ]
}

#[test]
fn a_target_that_goes_bad_loses_its_traffic_and_finds_back() {
    for (stragglers, rps) in TRAFFIC {
        for (name, bad, within) in ways_to_go_bad() {
            let course =
                course(Behaviour { stragglers, ..bad }, within, rps, FirstTokenSettings::default());
            println!(
                "{name}, {rps} rps, {:.0} % stragglers: {:.1} % after {within} s, {:.1} % 120 s after \
                 recovery",
                stragglers * 100.0,
                course.bad * 100.0,
                course.recovered * 100.0,
            );
            assert!(course.bad < 0.10, "{name}: {course:?}");
            assert!((0.25..0.42).contains(&course.recovered), "{name}: {course:?}");
        }
    }
}

#[test]
fn a_quiet_pool_finds_back_as_well() {
    for (name, bad, within) in ways_to_go_bad() {
        let (mut bad_share, mut recovered) = (0.0, 0.0);
        const SEEDS: u64 = 60;
        for seed in 0..SEEDS {
            let mut simulation =
                Simulation::new(&[WELL; 3], 0.5, FirstTokenSettings::default(), seed);
            simulation.run_until(300.0);
            simulation.behaviours[0] = bad;
            simulation.run_until(420.0);
            simulation.behaviours[0] = WELL;
            simulation.run_until(640.0);
            bad_share += simulation.share(0, 300.0 + within, 420.0) / SEEDS as f64;
            recovered += simulation.share(0, 540.0, 640.0) / SEEDS as f64;
        }
        println!(
            "{name}, 0.5 rps: {:.1} % while bad, {:.1} % 120 s after recovery",
            bad_share * 100.0,
            recovered * 100.0
        );
        assert!(bad_share < 0.18, "{name}: {bad_share}");
        assert!(recovered > 0.25, "{name}: {recovered}");
    }
}

#[test]
fn a_steady_pool_moves_by_less_than_5_points() {
    for (stragglers, rps) in TRAFFIC {
        let unrest = unrest(stragglers, rps, FirstTokenSettings::default());
        println!(
            "steady, {rps} rps, {:.0} % stragglers: {:.1} points (draws alone: {:.1})",
            stragglers * 100.0,
            unrest * 100.0,
            (2.0_f64 / 9.0 / (10.0 * rps)).sqrt() * 100.0
        );
        assert!(unrest < 0.05, "{unrest}");
    }
}

/// Why the average may not jump: one slow answer in thirty is enough to keep all estimates at
/// random heights, so that the pool never rests and a slow target hides among them.
#[test]
fn an_average_that_jumps_neither_rests_nor_sees() {
    let (_, slow, within) = ways_to_go_bad()[1];
    let course = course(Behaviour { stragglers: 0.03, ..slow }, within, 60.0, peak());
    let unrest = unrest(0.03, 60.0, peak());
    println!("peak: {:.1} % after {within} s, {:.1} points", course.bad * 100.0, unrest * 100.0);
    assert!(course.bad > 0.20, "{course:?}");
    assert!(unrest > 0.10, "{unrest}");
}
