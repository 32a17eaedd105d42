//! Several nodes that share a limit, and their authority: a whole minute in virtual time.
//!
//! The nodes do what `limits` does: a request that finds nothing asks and waits for the answer,
//! what is low is asked for after each request, and four times a second each looks at what is
//! overdue. The authority is the bucket of one node, which the script in `cluster` agrees with, and
//! answers later.

#![expect(clippy::print_stdout, reason = "a simulation prints its figures")]

use std::num::NonZeroU32;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::quota::{Bucket, Moment, Rate};

/// How long an answer takes.
const ROUND_TRIP_MS: u64 = 2;
/// How often a request asks before it does without.
const MAX_FETCHES: u32 = 4;

/// What limits a key.
#[derive(Clone, Copy)]
struct Limit {
    per_minute: u64,
    burst: u64,
    /// Units of a request.
    amount: u64,
    /// Of which it uses so many hundredths, half a second later.
    used_percent: u64,
}

/// What came of it.
#[derive(Debug)]
struct Figures {
    admitted: u64,
    used: u64,
    refused: u64,
    round_trips: u64,
}

struct Authority {
    bucket: Bucket,
    round_trips: u64,
}

struct Node {
    shared: Shared,
    /// Requests that wait for an answer, with how often they have asked.
    waiting: Vec<u32>,
    answer: Option<(u64, Granted, Common)>,
    /// When what runs ends.
    running: Vec<(u64, Moment)>,
}

fn moment(now: Instant) -> Moment {
    Moment { now, unix_ms: 1_795_239_900_000, alone_of: None }
}

fn requests(per_minute: u64) -> Limit {
    // As `Rule` has it where nothing else is said.
    let burst = (per_minute / 6).max(per_minute.min(10));
    Limit { per_minute, burst, amount: 1, used_percent: 100 }
}

fn tokens(per_minute: u64, amount: u64, used_percent: u64) -> Limit {
    let burst = (per_minute / 6).max(per_minute.min(5_000));
    Limit { per_minute, burst, amount, used_percent }
}

// === impl Authority ===

impl Authority {
    /// Grants what is there of `want`, or nothing where that is less than `at_least`.
    fn draw(&mut self, need: Need, now: Instant) -> Granted {
        self.round_trips += 1;
        let there = |bucket: &Bucket| u64::try_from(bucket.level(now)).unwrap_or_default();
        let (mut granted, mut next_in) = (0, Duration::ZERO);
        match self.bucket.wait(need.at_least, now) {
            None => {
                granted = need.want.min(there(&self.bucket)).max(need.at_least);
                self.bucket.take(granted, now);
            }
            Some(wait) => next_in = wait,
        }
        Granted { granted, left: there(&self.bucket), next_in, is_unsettled: false }
    }

    fn tell(&mut self, tell: Tell, now: Instant) -> Granted {
        self.round_trips += 1;
        match tell {
            Tell::Return(amount) => self.bucket.give_back(amount, now),
            Tell::Book(amount) => self.bucket.take(amount, now),
            Tell::Held(_) => panic!("it is a bucket"),
        }
        let left = u64::try_from(self.bucket.level(now)).unwrap_or_default();
        Granted { granted: 0, left, next_in: Duration::ZERO, is_unsettled: false }
    }
}

/// A minute of requests, which come in those milliseconds that `comes` names, to nodes by chance.
fn minute(nodes: u32, limit: Limit, seed: u64, comes: impl Fn(u64) -> u32) -> Figures {
    let start = Instant::now();
    let mut chance = SmallRng::seed_from_u64(seed);
    let rate = Rate::per_minute(limit.per_minute);
    let mut authority = Authority { bucket: Bucket::new(rate, limit.burst, start), round_trips: 0 };
    let node = || Node {
        shared: Shared::bucket(rate, limit.burst, start),
        waiting: Vec::new(),
        answer: None,
        running: Vec::new(),
    };
    let mut all: Vec<_> = (0..nodes).map(|_| node()).collect();
    let mut figures = Figures { admitted: 0, used: 0, refused: 0, round_trips: 0 };
    let of = NonZeroU32::new(nodes).unwrap();
    for ms in 0..60_000_u64 {
        let at = moment(start + Duration::from_millis(ms));
        for (index, node) in (0_u64..).zip(&mut all) {
            let answer = node.answer.take_if(|(due, _, _)| *due <= ms);
            if let Some((_, grant, common)) = answer {
                node.shared.on_grant(grant, &common, of, at);
                for fetches in std::mem::take(&mut node.waiting) {
                    node.request(fetches, limit, (ms, at), (&mut authority, &mut figures));
                }
            }
            let ended = node.running.extract_if(.., |(until, _)| *until <= ms);
            let used = limit.amount * limit.used_percent / 100;
            let settled: Vec<_> = ended.map(|(_, since)| since).collect();
            for since in settled {
                node.shared.settle(limit.amount, used, since, at);
                figures.used += used;
            }
            if ms % 250 == index * 80
                && let Some(tell) = node.shared.tell(When::Due, at)
            {
                let common = node.shared.common(at);
                node.answer = Some((ms + ROUND_TRIP_MS, authority.tell(tell, at.now), common));
            }
        }
        for _ in 0..comes(ms) {
            let node = &mut all[chance.random_range(0..nodes as usize)];
            node.request(0, limit, (ms, at), (&mut authority, &mut figures));
        }
    }
    let running: usize = all.iter().map(|node| node.running.len()).sum();
    figures.used += running as u64 * limit.amount * limit.used_percent / 100;
    figures.round_trips = authority.round_trips;
    figures
}

// === impl Node ===

impl Node {
    /// A request comes, or has waited for an answer so many times.
    fn request(
        &mut self,
        fetches: u32,
        limit: Limit,
        (ms, at): (u64, Moment),
        (authority, figures): (&mut Authority, &mut Figures),
    ) {
        match self.shared.lacks(limit.amount, at) {
            Some(Lack::Unasked) if fetches < MAX_FETCHES => {
                self.waiting.push(fetches + 1);
                self.shared.on_missed(limit.amount);
                return self.ask(limit.amount, (ms, at), authority);
            }
            Some(Lack::Unasked | Lack::For(_) | Lack::TooLarge | Lack::Unsettled(_)) => {
                figures.refused += 1;
            }
            None => {
                self.shared.take(limit.amount, at);
                self.running.push((ms + 500, at));
                figures.admitted += limit.amount;
            }
        }
        self.shared.on_request(limit.amount, at.now);
        self.ask(0, (ms, at), authority);
    }

    fn ask(&mut self, waiting: u64, (ms, at): (u64, Moment), authority: &mut Authority) {
        if let Some(need) = self.shared.need(waiting, waiting > 0, at) {
            let common = self.shared.common(at);
            self.answer = Some((ms + ROUND_TRIP_MS, authority.draw(need, at.now), common));
        }
    }
}

/// The same with one bucket that nobody shares: what of the limit the load leaves room for.
fn minute_of_one_bucket(limit: Limit, comes: impl Fn(u64) -> u32) -> u64 {
    let start = Instant::now();
    let mut bucket = Bucket::new(Rate::per_minute(limit.per_minute), limit.burst, start);
    let used = limit.amount * limit.used_percent / 100;
    let mut running: Vec<u64> = Vec::new();
    let mut admitted = 0;
    for ms in 0..60_000 {
        let now = start + Duration::from_millis(ms);
        for _ in running.extract_if(.., |until| *until <= ms) {
            bucket.settle(limit.amount, used, now);
        }
        for _ in 0..comes(ms) {
            if bucket.wait(limit.amount, now).is_none() {
                bucket.take(limit.amount, now);
                running.push(ms + 500);
                admitted += 1;
            }
        }
    }
    admitted * used
}

/// How requests come: so many at once in a millisecond of the minute.
struct Load {
    name: &'static str,
    comes: fn(u64, f64) -> u32,
}

/// So many at once as come in a millisecond at a rate a second, evenly.
fn evenly(ms: u64, per_s: f64) -> u32 {
    let until = |ms: u64| (ms as f64 * per_s / 1_000.0).floor();
    (until(ms + 1) - until(ms)) as u32
}

/// All of them ask for two and a half times what is allowed, or more.
const LOADS: [Load; 4] = [
    Load { name: "steady, 3x", comes: |ms, rate| evenly(ms, 3.0 * rate) },
    Load {
        name: "2 s of 5x, 1 s of none",
        comes: |ms, rate| if ms % 3_000 < 2_000 { evenly(ms, 5.0 * rate) } else { 0 },
    },
    Load {
        name: "4 s of 10x, 4 s of none",
        comes: |ms, rate| if ms % 8_000 < 4_000 { evenly(ms, 10.0 * rate) } else { 0 },
    },
    Load {
        name: "a heap every 5 s",
        comes: |ms, rate| if ms % 5_000 == 0 { (rate * 15.0).ceil() as u32 } else { 0 },
    },
];

#[test]
fn a_minute_of_bursts_admits_what_the_limit_allows_on_one_node_and_on_three() {
    let limits = [
        ("60 requests", requests(60)),
        ("600 requests", requests(600)),
        ("6,000 requests", requests(6_000)),
        ("20,000 tokens, 500 each", tokens(20_000, 500, 100)),
        ("100,000 tokens, 1,000 each, 60 % used", tokens(100_000, 1_000, 60)),
        ("1,200,000 tokens, 2,000 each, 60 % used", tokens(1_200_000, 2_000, 60)),
    ];
    let mut outside = Vec::new();
    for (name, limit) in limits {
        for load in &LOADS {
            for nodes in [1, 3] {
                let used = limit.amount * limit.used_percent / 100;
                let rate = limit.per_minute as f64 / 60.0 / used as f64;
                let share = |seed| {
                    let figures = minute(nodes, limit, seed, |ms| (load.comes)(ms, rate));
                    let used = figures.used as f64 / limit.per_minute as f64;
                    let trips = figures.round_trips as f64 * 20.0 * limit.amount as f64
                        / figures.admitted as f64;
                    (used, trips)
                };
                let shares = [share(1), share(2), share(3)];
                let least = shares.iter().map(|(used, _)| *used).fold(f64::MAX, f64::min);
                let most = shares.iter().map(|(used, _)| *used).fold(0.0, f64::max);
                let trips = shares.iter().map(|(_, trips)| *trips).fold(0.0, f64::max);
                let line = format!(
                    "{name:<40} {:<24} {nodes} nodes: {least:.3} to {most:.3}, \
                     {trips:.1} round trips for 20",
                    load.name
                );
                let possible = minute_of_one_bucket(limit, |ms| (load.comes)(ms, rate));
                let possible = possible as f64 / limit.per_minute as f64;
                println!("{line}; {possible:.3} of one bucket");
                // One bucket does not get what comes after the last request.
                let bar = 0.95_f64.min(0.97 * possible)..=1.02;
                if !bar.contains(&least) || !bar.contains(&most) {
                    outside.push(line);
                }
            }
        }
    }
    assert!(outside.is_empty(), "{outside:#?}");
}

#[test]
fn a_key_within_its_limit_costs_a_round_trip_for_twenty_requests_and_none_is_refused() {
    for nodes in [1, 3] {
        // 100 requests a second of a limit of 200.
        let figures = minute(nodes, requests(12_000), 1, |ms| u32::from(ms % 10 == 0));
        assert_eq!((figures.admitted, figures.refused), (6_000, 0), "{nodes} nodes");
        assert!(figures.round_trips * 20 <= figures.admitted, "{nodes}: {figures:?}");
    }
}
