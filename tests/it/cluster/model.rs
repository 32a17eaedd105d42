//! The script that answers questions, against the bucket of `quota` and against a model in doubles.
//!
//! With the model it agrees to the last bit. With the bucket, which counts in whole millionths and
//! nanoseconds, it agrees but for a rounding of what is left. The script takes the time from its
//! server; here that one line is replaced, so that all see the same times.

use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tidegate::clock::Instant;
use tidegate::quota::{Bucket, Rate};

use crate::servers::redis::Redis;

const SCRIPT: &str = include_str!("../../../src/cluster/draw.lua");

/// The rules of `quota::Bucket` in doubles and microseconds.
#[derive(Debug, Clone, Copy)]
struct Model {
    rate_micro: f64,
    burst: f64,
    level: f64,
    at: f64,
}

// === impl Model ===

impl Model {
    fn new(rate_micro: f64, burst: f64, now: f64) -> Self {
        let at = now - (burst - 1.0) * 1e12 / rate_micro;
        Self { rate_micro, burst, level: burst, at }
    }

    fn advance(&self) -> f64 {
        (self.burst - 1.0) * 1e12 / self.rate_micro
    }

    fn refill(&mut self, now: f64) {
        self.at = self.at.min(now + self.advance());
        if now <= self.at || self.level >= self.burst {
            return;
        }
        let until_full = (self.burst - self.level) * 1e12 / self.rate_micro;
        if until_full <= now - self.at {
            self.level = self.burst;
            self.at += until_full;
        } else {
            self.level += (now - self.at) * self.rate_micro / 1e12;
            self.at = now;
        }
    }

    fn take(&mut self, now: f64, most: f64, least: f64) -> [f64; 3] {
        self.refill(now);
        let refused = most > 0.0 && self.level < least.min(self.burst);
        let granted = if refused { 0.0 } else { most.min(least.max(self.level.floor())).max(0.0) };
        let missing = (least.max(1.0).min(self.burst) - self.level).max(0.0);
        let wait = (self.at - now).max(0.0) + missing * 1e12 / self.rate_micro;
        let wait = if most > 0.0 && granted == 0.0 { wait.ceil().min(9e15) } else { 0.0 };
        self.spend(now, granted);
        [granted, self.level.floor(), wait]
    }

    fn book(&mut self, now: f64, amount: f64) -> [f64; 3] {
        self.refill(now);
        self.spend(now, amount);
        [amount, self.level.floor(), 0.0]
    }

    fn give(&mut self, now: f64, amount: f64) -> [f64; 3] {
        self.refill(now);
        if self.level < self.burst {
            self.level = self.burst.min(self.level + amount);
        }
        [0.0, self.level.floor(), 0.0]
    }

    fn spend(&mut self, now: f64, amount: f64) {
        if amount == 0.0 {
            return;
        }
        if self.level >= self.burst {
            let rested = (now - self.at).max(0.0);
            self.at = self.at.max(now + rested.min(self.advance()));
        }
        self.level -= amount;
    }
}

/// The script, at times of our own.
struct Asked {
    script: redis::Script,
    connection: redis::Connection,
}

// === impl Asked ===

impl Asked {
    fn new(redis: &Redis) -> Self {
        let (time, expiry) = ("redis.call('TIME')", "expire_ms(rested_in)");
        assert!(SCRIPT.contains(time) && SCRIPT.contains(expiry));
        // Keys expire by the server's clock, which is not ours here.
        let code = SCRIPT.replace(time, "{0, ARGV[#ARGV]}").replace(expiry, "600000");
        Self { script: redis::Script::new(&code), connection: redis.connection() }
    }

    fn forget(&mut self) {
        let _: () = redis::cmd("FLUSHALL").query(&mut self.connection).unwrap();
    }

    fn ask(
        &mut self,
        now: f64,
        [rate, burst]: [f64; 2],
        (want, amount, least): (&str, f64, f64),
    ) -> [f64; 3] {
        let whole = |number: f64| format!("{number:.0}");
        let mut call = self.script.prepare_invoke();
        call.key("bucket").key("memory").arg("node").arg("bucket");
        call.arg(whole(rate)).arg(whole(burst)).arg(whole(burst)).arg(&["0", "0", "0"]);
        call.arg(want).arg(whole(amount)).arg(whole(least)).arg(whole(now));
        let answer: Vec<i64> = call.invoke(&mut self.connection).unwrap();
        [answer[0] as f64, answer[1] as f64, answer[2] as f64]
    }

    fn kept(&mut self) -> Option<Vec<f64>> {
        let kept: Option<String> =
            redis::cmd("GET").arg("bucket").query(&mut self.connection).unwrap();
        kept.map(|kept| kept.split(' ').map(|part| part.parse().unwrap()).collect())
    }
}

/// From a few microseconds to half a minute.
fn pause_us(chance: &mut SmallRng) -> f64 {
    10_f64.powf(chance.random_range(0.0..7.6)).floor()
}

#[test]
fn the_script_and_its_model_agree_to_the_last_bit() {
    let Some(redis) = Redis::start() else { return };
    let mut asked = Asked::new(&redis);
    for seed in 0..60 {
        let mut chance = SmallRng::seed_from_u64(seed);
        asked.forget();
        // From a request a minute to some thousand dollars a second in micro-dollars.
        let rate_micro = 10_f64.powf(chance.random_range(4.2..16.0)).round().min(9e15);
        let mut burst = (rate_micro / 1e6 * chance.random_range(0.5..60.0)).round().max(1.0);
        let mut now = 1_790_000_000_000_000.0;
        let mut known: Option<Model> = None;
        for step in 0..200 {
            now += pause_us(&mut chance);
            if chance.random_ratio(1, 50) {
                // The clock of the server is set back.
                now -= 30_000_000.0;
            }
            if chance.random_ratio(1, 50) {
                // An operator changes the limit.
                burst = (burst * chance.random_range(0.5..2.0)).round().max(1.0);
            }
            // One that has been full for long is as one that nobody has asked about.
            let model = known.get_or_insert_with(|| Model::new(rate_micro, burst, now));
            model.level = (model.level + burst - model.burst).min(burst);
            model.burst = burst;
            let amount = (burst * 10_f64.powf(chance.random_range(-3.0..0.3))).round();
            let least = (amount * chance.random::<f64>()).round();
            let (want, expected) = match chance.random_range(0..10) {
                0 => (("book", amount, 0.0), model.book(now, amount)),
                1 | 2 => (("return", amount, 0.0), model.give(now, amount)),
                3 => (("take", 0.0, 0.0), model.take(now, 0.0, 0.0)),
                4 => (("take", amount, amount), model.take(now, amount, amount)),
                _ => (("take", amount, least), model.take(now, amount, least)),
            };
            let answer = asked.ask(now, [rate_micro, burst], want);
            assert_eq!(answer, expected, "seed {seed}, step {step}: {want:?} of {model:?}");
            match asked.kept() {
                None => known = None,
                Some(kept) => {
                    let expected = [model.level, model.at, model.burst];
                    assert_eq!(kept, expected, "seed {seed}, step {step}");
                }
            }
        }
    }
}

#[test]
fn the_script_decides_as_the_bucket_of_one_node_does() {
    let Some(redis) = Redis::start() else { return };
    let mut asked = Asked::new(&redis);
    let (mut decisions, mut roundings) = (0, 0);
    for seed in 0..60 {
        let mut chance = SmallRng::seed_from_u64(seed);
        asked.forget();
        let per_minute = 10_f64.powf(chance.random_range(0.0..8.0)).round();
        let burst = (per_minute / 6.0 * chance.random_range(0.1..6.0)).round().max(1.0);
        let start = Instant::now() + Duration::from_secs(86_400);
        let mut bucket = Bucket::new(Rate::per_minute(per_minute as u64), burst as u64, start);
        let rate_micro = (per_minute * 1e6 / 60.0).round();
        let epoch = 1_790_000_000_000_000.0;
        let mut passed = 0.0;
        for step in 0..200 {
            passed += pause_us(&mut chance);
            let at = start + Duration::from_micros(passed as u64);
            let amount = (burst * 10_f64.powf(chance.random_range(-3.0..0.1))).round().max(1.0);
            let want = ["take", "take", "take", "return", "book"][chance.random_range(0..5)];
            let answer = asked.ask(epoch + passed, [rate_micro, burst], (want, amount, amount));
            let context = format!("seed {seed}, step {step}: {want} {amount} of {bucket:?}");
            match want {
                "take" => {
                    let is_free = bucket.wait(amount as u64, at).is_none();
                    let is_granted = answer[0] > 0.0;
                    decisions += 1;
                    if is_free != is_granted {
                        // Both are right to within a rounding of the level.
                        roundings += 1;
                        let wait = bucket.wait(amount as u64, at).unwrap_or_default();
                        let wait_us = wait.as_micros() as f64 + answer[2];
                        assert!(wait_us * rate_micro / 1e12 < 0.01, "{wait_us}: {context}");
                        // What one took and the other did not is taken there as well.
                        match is_granted {
                            true => bucket.take(amount as u64, at),
                            false => continue,
                        }
                    } else if is_free {
                        bucket.take(amount as u64, at);
                    }
                }
                "book" => bucket.take(amount as u64, at),
                _ => bucket.give_back(amount as u64, at),
            }
            let off = (bucket.level(at) as f64 - answer[1]).abs();
            assert!(off <= 1.0, "{} and {answer:?}: {context}", bucket.level(at));
        }
    }
    assert!(decisions > 5_000 && roundings * 100 < decisions, "{roundings} of {decisions}");
}
