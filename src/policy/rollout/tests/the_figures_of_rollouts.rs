//! Rollouts against simulated traffic: how soon regressions are found, and how seldom good
//! candidates are rolled back.
//!
//! ```sh
//! cargo nextest run --no-capture -E 'test(the_figures_of_rollouts)'
//! ```
//!
//! prints all of it. Builds without optimisation run fewer rollouts, unless `FULL_FIGURES` is set:
//! then they take as long as it takes for 1,000 of candidates that are no worse.

#![expect(clippy::print_stdout, reason = "the tables are what one runs it for")]

use std::fmt::Write as _;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, LogNormal, Normal};

use super::*;
use crate::clock::Instant;
use crate::units::HumanDuration;

const LANGUAGES: [&str; 8] = ["en", "de", "fr", "es", "it", "ja", "zh", "pt"];
/// The part of the traffic in each language; the second has 15 %.
const PARTS: [f64; 8] = [0.30, 0.15, 0.13, 0.12, 0.10, 0.08, 0.07, 0.05];

/// Whether as many rollouts are run as was promised.
fn is_full() -> bool {
    !cfg!(debug_assertions) || std::env::var_os("FULL_FIGURES").is_some()
}

/// What requests are like on one side.
#[derive(Debug, Clone, Copy)]
struct World {
    errors: f64,
    /// Errors in the second language.
    errors_there: f64,
    incomplete: f64,
    invalid: f64,
    refusals: f64,
    first_token: f64,
    cost: f64,
    quality: f64,
}

const USUAL: World = World {
    errors: 0.01,
    errors_there: 0.01,
    incomplete: 0.005,
    invalid: 0.02,
    refusals: 0.01,
    first_token: 500.0,
    cost: 2_000.0,
    quality: 0.75,
};

/// What is measured of a request; the rest is left out to save time.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Scope {
    Flags,
    Everything,
}

impl World {
    fn errors(errors: f64) -> Self {
        Self { errors, errors_there: errors, ..USUAL }
    }

    fn readings(&self, rng: &mut StdRng, scope: Scope, language: usize) -> Readings {
        let errors = if language == 1 { self.errors_there } else { self.errors };
        let has_failed = rng.random_bool(errors);
        let mut readings = Readings::default()
            .with_flag(Guardrail::Errors, has_failed)
            .with_flag(Guardrail::Incomplete, rng.random_bool(self.incomplete))
            .with_flag(Guardrail::InvalidOutput, rng.random_bool(self.invalid))
            .with_flag(Guardrail::Refusals, rng.random_bool(self.refusals));
        if scope == Scope::Everything && !has_failed {
            let mut near = |middle: f64, spread| {
                LogNormal::new(middle.ln(), spread).unwrap().sample(&mut *rng)
            };
            let tokens = near(300.0, 0.8);
            readings = readings
                .with(Guardrail::FirstToken, near(self.first_token, 0.6))
                .with(Guardrail::Pace, near(20.0, 0.4))
                .with(Guardrail::Cost, near(self.cost, 0.9))
                .with(Guardrail::Longer, tokens)
                .with(Guardrail::Shorter, tokens)
                .with(Guardrail::Quality, Normal::new(self.quality, 0.2).unwrap().sample(rng));
        }
        readings
    }
}

/// Who sends the requests.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Crowd {
    /// Each request is its own unit.
    Requests,
    /// 3,000 users, of whom a few send much and one in 33 sees half of their requests fail, the
    /// busiest among them, whatever the side. Users are assigned; they are the units of the
    /// analysis, or requests are, wrongly.
    Users { are_units: bool },
}

impl Crowd {
    /// The unit that is assigned, and the rate of errors that it brings with it.
    fn draw(self, rng: &mut StdRng) -> (u64, Option<f64>) {
        match self {
            Self::Requests => (rng.random(), None),
            Self::Users { .. } => {
                let user = (3_000.0 * rng.random::<f64>().powi(3)) as u64;
                (user, Some(if user.is_multiple_of(33) { 0.5 } else { 0.005 }))
            }
        }
    }
}

/// How a simulated rollout ended.
#[derive(Debug)]
struct Ending {
    phase: Phase,
    /// The share when it was rolled back, or in the end.
    share: Share,
    candidates: u64,
    last: Option<Decision>,
}

/// Runs a rollout until it is over or the candidate has answered `limit` requests. One request a
/// second.
fn run(seed: u64, plan: Plan, candidate: &World, scope: Scope, limit: u64, crowd: Crowd) -> Ending {
    let mut rng = StdRng::seed_from_u64(seed);
    let (mut rollout, _) = Rollout::begin(&format!("r{seed}"), plan, 0).unwrap();
    let (mut candidates, mut last) = (0, None);
    let mut share = rollout.share();
    for now_ms in (0..).step_by(1_000) {
        if matches!(rollout.phase(), Phase::Done | Phase::RolledBack) || candidates >= limit {
            break;
        }
        share = rollout.share();
        let (unit, errors) = crowd.draw(&mut rng);
        let draw = rollout.salt().draw(&unit.to_le_bytes());
        let arm = draw.arm(share);
        let unit = (crowd == Crowd::Users { are_units: true }).then(|| draw.fingerprint());
        let mut drawn: f64 = rng.random();
        let language = PARTS.iter().position(|part| {
            drawn -= part;
            drawn < 0.0
        });
        let language = language.unwrap_or(0);
        let world = if arm == Arm::Candidate { candidate } else { &USUAL };
        let world = errors.map_or(*world, World::errors);
        let readings = world.readings(&mut rng, scope, language);
        candidates += u64::from(arm == Arm::Candidate);
        let has_failed = readings.of(Guardrail::Errors) == Some(1.0);
        let hard = if has_failed { HardFailure::Failed } else { HardFailure::No };
        let traits = Traits { language: Some(LANGUAGES[language].into()), ..Traits::default() };
        let mut actions = rollout.on(Event::Exposed { arm, share, unit }, now_ms);
        let seen = Observation { arm, share, unit, hard: Some(hard), readings, traits };
        actions.extend(rollout.on(Event::Observed(seen), now_ms));
        actions.extend(rollout.on(Event::Tick, now_ms));
        for action in actions {
            if let Action::Record(decision) = action {
                last = Some(decision);
            }
        }
    }
    Ending { phase: rollout.phase(), share, candidates, last }
}

/// One stage at 5 % that does not pass.
fn at_five_percent() -> Plan {
    let stage = Stage {
        share: Share::from_percent(5.0).unwrap(),
        min_time: HumanDuration::secs(u64::MAX / 10_000),
        min_requests: 0,
    };
    Plan { stages: vec![stage], ..Plan::default() }
}

/// 5, 25 and 50 % as the requests come; at one request a second the times do not matter.
fn three_stages() -> Plan {
    let stage = |percent, min_requests| Stage {
        share: Share::from_percent(percent).unwrap(),
        min_time: HumanDuration::secs(60),
        min_requests,
    };
    let stages = vec![stage(5.0, 500), stage(25.0, 1_000), stage(50.0, 2_000)];
    Plan { stages, longest_hold: HumanDuration::secs(1_000_000), ..Plan::default() }
}

/// Median and 90th percentile of the requests that the candidate answered until it was rolled back;
/// one that was not counts as the limit.
fn detection(runs: u64, candidate: &World, scope: Scope, limit: u64) -> (u64, u64, Ending) {
    let mut endings: Vec<_> = (0..runs)
        .map(|seed| run(seed, at_five_percent(), candidate, scope, limit, Crowd::Requests))
        .collect();
    endings.sort_by_key(|ending| ending.candidates);
    let at = |part: f64| endings[(part * (endings.len() - 1) as f64).round() as usize].candidates;
    let (median, p90) = (at(0.5), at(0.9));
    (median, p90, endings.swap_remove(endings.len() / 2))
}

#[test]
fn regressions_are_found_within_the_requests_that_were_promised() {
    let runs = if is_full() { 200 } else { 41 };
    let mut table = String::new();
    // The bars of error rates, with a fifth more where few runs make the median uncertain.
    let leeway = if is_full() { 1.0 } else { 1.2 };
    for (errors, bar) in [(0.5, 8.0), (0.1, 80.0), (0.05, 220.0), (0.03, 800.0)] {
        let limit = 4_000;
        let (median, p90, ending) = detection(runs, &World::errors(errors), Scope::Flags, limit);
        writeln!(table, "errors {errors:<6} median {median:>6} p90 {p90:>6}  {}", said(&ending))
            .unwrap();
        assert!(
            median as f64 <= bar * leeway,
            "{errors}: median {median}, promised {bar}\n{table}"
        );
    }
    println!("{table}");
}

#[test]
fn subtler_regressions_are_found_too() {
    let runs = if is_full() { 100 } else { 11 };
    let mut table = String::new();
    let worlds = [
        ("errors 1 -> 2 %", World::errors(0.02), Scope::Flags, 3_500),
        ("first token x1.3", World { first_token: 650.0, ..USUAL }, Scope::Everything, 300),
        ("cost +30 %", World { cost: 2_600.0, ..USUAL }, Scope::Everything, 500),
        ("JSON validity -3 points", World { invalid: 0.05, ..USUAL }, Scope::Flags, 700),
        ("refusals +2 points", World { refusals: 0.03, ..USUAL }, Scope::Flags, 900),
        ("quality -5 points", World { quality: 0.70, ..USUAL }, Scope::Everything, 900),
    ];
    for (name, world, scope, bar) in worlds {
        let (median, p90, ending) = detection(runs, &world, scope, 8_000);
        writeln!(table, "{name:<24} median {median:>6} p90 {p90:>6}  {}", said(&ending)).unwrap();
        assert!(median <= bar, "{name}: median {median}, bar {bar}\n{table}");
    }
    println!("{table}");
}

#[test]
fn a_regression_in_one_of_eight_segments_is_found_before_half_of_the_traffic_has_it() {
    let runs = if is_full() { 200 } else { 15 };
    let mut table = String::new();
    for errors_there in [0.5, 0.2, 0.1] {
        let world = World { errors_there, ..USUAL };
        let endings: Vec<_> = (0..runs)
            .map(|seed| run(seed, three_stages(), &world, Scope::Flags, 50_000, Crowd::Requests))
            .collect();
        let half = Share::from_percent(50.0).unwrap();
        let before = endings
            .iter()
            .filter(|ending| ending.phase == Phase::RolledBack && ending.share < half)
            .count();
        let of_segment = |ending: &&Ending| {
            ending.last.as_ref().is_some_and(|last| matches!(last.cause, Cause::Segment(..)))
        };
        let named = endings.iter().filter(of_segment).count();
        let mut candidates: Vec<_> = endings.iter().map(|ending| ending.candidates).collect();
        candidates.sort_unstable();
        let median = candidates[candidates.len() / 2];
        let shown = endings.iter().find(|ending| of_segment(ending)).map_or_else(String::new, said);
        writeln!(
            table,
            "errors {errors_there} in 15 %: {before} of {runs} before 50 %, {named} by the segment, \
             median {median}  {shown}"
        )
        .unwrap();
        let part = if is_full() { 0.9 } else { 0.8 };
        assert!(before as f64 >= part * runs as f64, "{table}");
    }
    println!("{table}");
}

#[test]
fn good_candidates_are_hardly_ever_rolled_back_however_often_one_looks() {
    let runs = if is_full() { 1_000 } else { 25 };
    let began = Instant::now();
    let endings: Vec<_> = (0..runs)
        .map(|seed| run(seed, three_stages(), &USUAL, Scope::Everything, 20_000, Crowd::Requests))
        .collect();
    let rolled_back: Vec<_> =
        endings.iter().filter(|ending| ending.phase == Phase::RolledBack).map(said).collect();
    let paused = endings.iter().filter(|ending| matches!(ending.phase, Phase::Paused(_))).count();
    let done = endings.iter().filter(|ending| ending.phase == Phase::Done).count();
    println!(
        "A/A: {} of {runs} rolled back, {paused} paused, {done} done; {:?}\n{}",
        rolled_back.len(),
        began.elapsed(),
        rolled_back.join("\n")
    );
    assert!(rolled_back.len() as f64 <= at_most(runs), "{rolled_back:?}");
    assert!(done as f64 >= 0.9 * runs as f64, "only {done} of {runs} were finished");
}

#[test]
fn users_who_fail_wherever_they_are_do_not_roll_a_good_candidate_back() {
    let runs = if is_full() { 500 } else { 8 };
    let rolled_back = |are_units| {
        let of = |seed| {
            let crowd = Crowd::Users { are_units };
            run(seed, three_stages(), &USUAL, Scope::Flags, 20_000, crowd)
        };
        (0..runs).filter(|seed| of(*seed).phase == Phase::RolledBack).count()
    };
    let (users, requests) = (rolled_back(true), rolled_back(false));
    println!(
        "A/A with unlike users: {users} of {runs} rolled back; {requests} if requests were units"
    );
    assert!(users as f64 <= at_most(runs), "{users} of {runs}");
    assert!(
        requests as f64 >= 0.1 * runs as f64,
        "users are not unlike enough for this to say much"
    );
}

#[test]
fn an_observation_costs_little() {
    let mut rng = StdRng::seed_from_u64(1);
    let (mut rollout, _) = Rollout::begin("r", at_five_percent(), 0).unwrap();
    let share = rollout.share();
    let traits = Traits {
        caller: Some("web".into()),
        language: Some("de".into()),
        prompt_size: Some("small".into()),
        provider: Some("openai".into()),
    };
    let events: Vec<_> = (0..20_000_u32)
        .map(|unit| {
            let draw = rollout.salt().draw(&unit.to_le_bytes());
            let readings = USUAL.readings(&mut rng, Scope::Everything, 0);
            let (arm, unit) = (draw.arm(share), Some(draw.fingerprint()));
            let (hard, traits) = (Some(HardFailure::No), traits.clone());
            Event::Observed(Observation { arm, share, unit, hard, readings, traits })
        })
        .collect();
    let began = Instant::now();
    for event in events {
        rollout.on(event, 0);
    }
    let each = began.elapsed() / 20_000;
    let stored = serde_json::to_string(&rollout).unwrap().len();
    let names: Vec<_> = (0..1_000).map(|n| format!("user-{n}")).collect();
    let began = Instant::now();
    let salt = rollout.salt();
    let candidates = (0..1_000)
        .flat_map(|_| &names)
        .filter(|name| salt.draw(name.as_bytes()).arm(share) == Arm::Candidate)
        .count();
    let assigned = began.elapsed() / 1_000_000;
    println!("{each:?} an observation, {assigned:?} an assignment, {stored} bytes stored");
    assert!(candidates > 0);
    // 5 us when optimised, on a busy machine; many times that without.
    assert!(each < Duration::from_micros(if is_full() { 5 } else { 500 }), "{each:?}");
    assert!(stored < 600_000, "{stored}");
}

/// One in a hundred; of a few, one.
fn at_most(runs: u64) -> f64 {
    (runs as f64 / ONE_IN).max(1.0)
}

fn said(ending: &Ending) -> String {
    ending.last.as_ref().map_or_else(String::new, |last| last.sentence.clone())
}
