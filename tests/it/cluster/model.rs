//! The script that answers questions, against a model in Rust: same numbers to the last bit.
//!
//! The script takes the time from its server; here that one line is replaced, so that both see the
//! same times.

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::servers::redis::Redis;

const SCRIPT: &str = include_str!("../../../src/cluster/draw.lua");

/// A bucket as `Source::Bucket` describes it, by the book.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    rate_micro: f64,
    burst: f64,
    max_debt: f64,
    level: f64,
    from: f64,
}

impl Bucket {
    fn refill(&mut self, now: f64) {
        self.from = self.from.min(now + self.full_us());
        if now > self.from {
            let gained = (now - self.from) * self.rate_micro / 1e12;
            self.level = self.burst.min(self.level + gained);
            self.from = now;
        }
        self.level = self.level.min(self.burst);
    }

    fn full_us(&self) -> f64 {
        self.burst * 1e12 / self.rate_micro
    }

    fn take(&mut self, now: f64, most: f64, least: f64) -> [f64; 3] {
        self.refill(now);
        let need = least.min(self.burst);
        let refused = most > 0.0 && self.level < need;
        let granted = if refused { 0.0 } else { most.min(least.max(self.level.floor())).max(0.0) };
        let missing = (least.max(1.0).min(self.burst) - self.level).max(0.0);
        let wait = (self.from - now).max(0.0) + missing * 1e12 / self.rate_micro;
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
        self.level = self.burst.min(self.level + amount);
        [0.0, self.level.floor(), 0.0]
    }

    fn spend(&mut self, now: f64, amount: f64) {
        if self.level >= self.burst && amount > 0.0 {
            self.from = now + self.full_us();
        }
        self.level = (self.level - amount).max(-self.max_debt);
    }
}

/// Asks the script at a time of our own.
fn ask(
    connection: &mut redis::Connection,
    script: &redis::Script,
    now: f64,
    [rate, burst, debt]: [f64; 3],
    (want, amount, least): (&str, f64, f64),
) -> [f64; 3] {
    let whole = |number: f64| format!("{number:.0}");
    let mut call = script.prepare_invoke();
    call.key("bucket").arg("each").arg("node").arg("bucket");
    call.arg(whole(rate)).arg(whole(burst)).arg(whole(debt));
    call.arg(want).arg(whole(amount)).arg(whole(least)).arg(whole(now));
    let answer: Vec<i64> = call.invoke(connection).unwrap();
    [answer[0] as f64, answer[1] as f64, answer[2] as f64]
}

#[test]
fn the_script_and_the_model_agree_to_the_last_bit() {
    let redis = Redis::start();
    let mut connection = redis.connection();
    let time = "redis.call('TIME')";
    assert!(SCRIPT.contains(time));
    let code = SCRIPT
        .replace(time, "{0, ARGV[#ARGV]}")
        // Keys expire by the server's clock, which is not ours here.
        .replace("'PX', expire_ms(full_in)", "'PX', 60000000");
    let script = redis::Script::new(&code);
    for seed in 0..60 {
        let mut chance = SmallRng::seed_from_u64(seed);
        let _: () = redis::cmd("FLUSHALL").query(&mut connection).unwrap();
        // From a request a minute to ten thousand dollars a second in micro-dollars.
        let rate_micro = 10_f64.powf(chance.random_range(4.2..16.0)).round().min(9e15);
        let burst = (rate_micro / 1e6 * chance.random_range(0.5..60.0)).round().max(1.0);
        let max_debt = (burst * chance.random_range(0.0..3.0)).round();
        let mut now = 1_790_000_000_000_000.0;
        let mut model = Bucket { rate_micro, burst, max_debt, level: burst, from: now };
        for step in 0..200 {
            now += (10_f64.powf(chance.random_range(0.0..7.6))).floor();
            if chance.random_ratio(1, 50) {
                // The clock of the server is set back.
                now -= 30_000_000.0;
            }
            let amount = (burst * 10_f64.powf(chance.random_range(-3.0..0.3))).round();
            let least = (amount * chance.random::<f64>()).round();
            let (want, expected) = match chance.random_range(0..10) {
                0 => (("book", amount, 0.0), model.book(now, amount)),
                1 | 2 => (("return", amount, 0.0), model.give(now, amount)),
                3 => (("take", 0.0, 0.0), model.take(now, 0.0, 0.0)),
                4 => (("take", amount, amount), model.take(now, amount, amount)),
                _ => (("take", amount, least), model.take(now, amount, least)),
            };
            let answer = ask(&mut connection, &script, now, [rate_micro, burst, max_debt], want);
            assert_eq!(answer, expected, "seed {seed}, step {step}: {want:?} of {model:?}");
            let kept: Option<String> =
                redis::cmd("GET").arg("bucket").query(&mut connection).unwrap();
            match kept {
                None => assert_eq!(model.level, model.burst, "seed {seed}, step {step}"),
                Some(kept) => {
                    let kept: Vec<f64> =
                        kept.split(' ').map(|part| part.parse().unwrap()).collect();
                    assert_eq!(kept, [model.level, model.from], "seed {seed}, step {step}");
                }
            }
        }
    }
}

#[test]
fn a_cold_bucket_gives_no_more_than_its_limit_in_its_first_minute() {
    // 60 a minute with a burst of ten seconds; whoever asks, asks all the time.
    let mut bucket =
        Bucket { rate_micro: 1e6, burst: 10.0, max_debt: 10.0, level: 10.0, from: 0.0 };
    let granted: f64 = (0..60_000).map(|ms| bucket.take(ms as f64 * 1e3, 5.0, 1.0)[0]).sum();
    assert!((59.0..=60.0).contains(&granted), "{granted}");
}
