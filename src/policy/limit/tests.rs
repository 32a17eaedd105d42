//! Tests of adaptive limits.

#![expect(clippy::print_stdout, reason = "a simulation prints its figures")]

use super::*;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand_distr::{Distribution, LogNormal};

const MS: Duration = Duration::from_millis(1);

fn aimd() -> ConcurrencyLimit {
    ConcurrencyLimit::aimd(AimdSettings::default(), Instant::now())
}

// === Backends ===

/// A target behind a limit, in steps of 10 ms, with more demand than it can serve.
struct Backend {
    rng: StdRng,
    start: Instant,
    now: Instant,
    /// Streams it serves at once.
    capacity: usize,
    /// Whether it turns away what it cannot serve, rather than queue it.
    rejects: bool,
    /// When each served stream gives its first token and its end.
    served: Vec<(Instant, Instant, bool, Instant)>,
    /// When each waiting stream was sent.
    waiting: std::collections::VecDeque<Instant>,
}

impl Backend {
    const TTFT: Duration = Duration::from_millis(300);

    fn new(capacity: usize, rejects: bool) -> Self {
        let now = Instant::now();
        Self {
            rng: StdRng::seed_from_u64(7),
            start: now,
            now,
            capacity,
            rejects,
            served: Vec::new(),
            waiting: std::collections::VecDeque::new(),
        }
    }

    fn in_flight(&self) -> u32 {
        (self.served.len() + self.waiting.len()) as u32
    }

    fn serve(&mut self, sent: Instant) {
        let ttft = LogNormal::new(0.0, 0.3).unwrap().sample(&mut self.rng);
        let length = LogNormal::new(1.0, 0.5).unwrap().sample(&mut self.rng);
        let first = self.now + Self::TTFT.mul_f64(ttft);
        self.served.push((first, first + Duration::from_secs_f64(length), false, sent));
    }

    /// Advances by 10 ms, sending as much as the limit lets.
    fn step(&mut self, limit: &mut ConcurrencyLimit) {
        self.now += 10 * MS;
        let now = self.now;
        self.served.retain(|stream| stream.1 > now);
        let in_flight = self.in_flight();
        for (first, _, told, sent) in &mut self.served {
            if !*told && *first <= now {
                *told = true;
                let ratio = (*first - *sent).div_duration_f64(Self::TTFT);
                limit.on_first_token(ratio, in_flight, now);
            }
        }
        while self.served.len() < self.capacity {
            let Some(sent) = self.waiting.pop_front() else { break };
            self.serve(sent);
        }
        // At most one a step starts: demand is 100 a second.
        if limit.limit() == 0 || self.in_flight() < limit.limit() {
            limit.on_start(self.in_flight() + 1, now);
            if self.served.len() < self.capacity {
                self.serve(now);
            } else if self.rejects {
                limit.on_reject(self.in_flight() + 1, now);
            } else {
                self.waiting.push_back(now);
            }
        }
    }

    /// Runs until so many seconds after the start; yields the limit of each second.
    fn run(&mut self, limit: &mut ConcurrencyLimit, until: u64) -> Vec<u32> {
        let mut limits = Vec::new();
        while self.now < self.start + Duration::from_secs(until) {
            for _ in 0..100 {
                self.step(limit);
            }
            limits.push(limit.limit());
        }
        limits
    }
}

fn check_convergence(name: &str, mut limit: ConcurrencyLimit, rejects: bool) {
    let mut backend = Backend::new(100, rejects);
    backend.run(&mut limit, 120);
    let settled = backend.run(&mut limit, 180);
    let (low, high) = (*settled.iter().min().unwrap(), *settled.iter().max().unwrap());
    println!("{name}: knee 100, limit {low} to {high}");
    assert!((80..=120).contains(&low) && (80..=120).contains(&high), "{settled:?}");
    let mean = settled.iter().sum::<u32>() as f64 / settled.len() as f64;
    assert!(f64::from(low) > mean * 0.8 && f64::from(high) < mean * 1.2, "{settled:?}");

    backend.capacity = 50;
    let halved = backend.run(&mut limit, 240);
    let seconds = halved.iter().position(|limit| (40..=60).contains(limit)).unwrap() + 1;
    println!("{name}: capacity halves, limit within 20 % after {seconds} s: {halved:?}");
    assert!(seconds <= 10, "{halved:?}");
    let stays = &halved[30..];
    assert!(stays.iter().all(|limit| (40..=60).contains(limit)), "{stays:?}");
}

#[test]
fn by_rejections_the_limit_finds_the_knee_and_follows_when_it_halves() {
    check_convergence("aimd", aimd(), true);
}

#[test]
fn by_first_tokens_the_limit_finds_the_knee_and_follows_when_it_halves() {
    let gradient = ConcurrencyLimit::gradient(GradientSettings::default(), Instant::now());
    check_convergence("gradient", gradient, false);
}

/// A server of prefills alone: every awaited first token slows the others down.
#[test]
fn on_awaited_first_tokens_the_limit_settles_where_they_take_the_tolerated_time() {
    let (knee, mut now) = (40.0, Instant::now());
    let mut limit = ConcurrencyLimit::gradient(GradientSettings::default(), now);
    let mut rng = StdRng::seed_from_u64(3);
    let mut settled = Vec::new();
    for second in 0..600 {
        for _ in 0..100 {
            now += 10 * MS;
            let in_flight = limit.limit();
            let load = (f64::from(in_flight) / knee).max(1.0);
            limit.on_start(in_flight, now);
            let spread = LogNormal::new(0.0, 0.3).unwrap().sample(&mut rng);
            limit.on_first_token(load * spread, in_flight, now);
        }
        if second >= 120 {
            settled.push(limit.limit());
        }
    }
    let (low, high) = (*settled.iter().min().unwrap(), *settled.iter().max().unwrap());
    println!("prefill: tolerated at 60, limit {low} to {high} over 8 minutes of full load");
    // Gradient2's small queue puts it a little above the 60 that the tolerance alone would give.
    assert!(low >= 54 && high <= 80, "{low} to {high}");
}

// === Rules ===

#[test]
fn a_limit_that_is_not_used_does_not_grow() {
    let mut limit = aimd();
    let mut now = Instant::now();
    limit.on_reject(36, now);
    for _ in 0..60 {
        now += 1_000 * MS;
        limit.on_start(15, now);
    }
    assert_eq!(limit.limit(), 32);
    for _ in 0..3 {
        now += 1_000 * MS;
        limit.on_start(20, now);
    }
    assert_eq!(limit.limit(), 34, "two windows with 20 of 32 in flight have ended");
}

#[test]
fn a_burst_of_rejections_is_one_fall() {
    let mut limit = aimd();
    let now = Instant::now();
    for each in 0..50 {
        limit.on_reject(36, now + each * MS);
    }
    assert_eq!(limit.limit(), 32);
    limit.set_settle_time(3_000 * MS);
    limit.on_reject(36, now + 2_000 * MS);
    assert_eq!(limit.limit(), 32, "within the median time to the first token");
    limit.on_reject(36, now + 3_000 * MS);
    assert_eq!(limit.limit(), 29);
}

#[test]
fn there_is_no_limit_before_a_rejection_that_says_something() {
    let mut limit = aimd();
    let mut now = Instant::now();
    for _ in 0..100 {
        now += 1_000 * MS;
        limit.on_start(5_000, now);
    }
    assert_eq!(limit.limit(), 0);
    limit.on_reject(4, now);
    assert_eq!(limit.limit(), 0, "no limit is as low as what was in flight");
    limit.on_reject(5, now);
    assert_eq!(limit.limit(), 4);
    let mut limit = aimd();
    limit.on_reject(5_000, now);
    assert_eq!(limit.limit(), 4_500);
}

#[test]
fn a_large_limit_recovers_in_minutes() {
    let mut limit = aimd();
    let mut now = Instant::now();
    limit.on_reject(1_112, now);
    for _ in 0..20 {
        limit.on_reject(1_112, now);
        now += 1_000 * MS;
    }
    let low = limit.limit();
    assert!((100..150).contains(&low), "{low}");
    let seconds = (0..).find(|_| {
        now += 1_000 * MS;
        limit.on_start(limit.limit(), now);
        limit.limit() >= 1_000
    });
    assert!(seconds.is_some_and(|seconds| seconds < 150), "{seconds:?}");
}

#[test]
fn a_limit_is_forgotten_after_ten_minutes_without_a_rejection() {
    let mut limit = aimd();
    let now = Instant::now();
    limit.on_reject(100, now);
    limit.on_start(10, now + 300_000 * MS);
    limit.on_reject(10, now + 300_000 * MS);
    limit.on_start(10, now + 899_000 * MS);
    assert_eq!(limit.limit(), 81);
    limit.on_start(10, now + 900_000 * MS);
    assert_eq!(limit.limit(), 0);
}

#[test]
fn the_limit_stays_within_its_bounds() {
    let mut now = Instant::now();
    let gradient = ConcurrencyLimit::gradient(GradientSettings::default(), now);
    let lasting = AimdSettings { max: 1_000, forget: Duration::MAX, ..AimdSettings::default() };
    for (mut limit, max) in [(ConcurrencyLimit::aimd(lasting, now), 1_000), (gradient, 512)] {
        for _ in 0..200 {
            now += 1_000 * MS;
            limit.on_reject(100, now);
        }
        assert_eq!(limit.limit(), 4);
        for _ in 0..20_000 {
            now += 200 * MS;
            limit.on_first_token(1.0, limit.limit(), now);
        }
        assert_eq!(limit.limit(), max);
    }
}

#[test]
fn ratios_that_are_no_numbers_are_not_counted() {
    let mut now = Instant::now();
    let mut limit = ConcurrencyLimit::gradient(GradientSettings::default(), now);
    for ratio in [f64::NAN, f64::INFINITY, -1.0, 0.0] {
        for _ in 0..30 {
            now += 100 * MS;
            limit.on_first_token(ratio, 20, now);
        }
    }
    assert_eq!(limit.limit(), 20);
}

// === Throttle ===

fn throttle() -> (Throttle, Instant) {
    let now = Instant::now();
    (Throttle::new(ThrottleSettings::default(), now), now)
}

#[test]
fn a_first_burst_does_not_throttle_itself() {
    let (mut throttle, now) = throttle();
    for _ in 0..100 {
        throttle.on_send(now);
    }
    assert_eq!(throttle.reject_probability(now), 0.0);
}

#[test]
fn throttling_grows_with_what_is_not_accepted() {
    let (mut throttle, now) = throttle();
    for each in 0..100 {
        throttle.on_send(now);
        if each < 60 { throttle.on_accept(now) } else { throttle.on_reject(now) }
    }
    assert_eq!(throttle.reject_probability(now), 0.0, "60 of 100 are accepted");
    for _ in 0..100 {
        throttle.on_send(now);
        throttle.on_reject(now);
    }
    let expected = (200.0 - 120.0) / 201.0;
    assert!((throttle.reject_probability(now) - expected).abs() < 1e-9);
}

#[test]
fn what_failed_for_another_reason_counts_neither_way() {
    let (mut throttle, now) = throttle();
    for _ in 0..3 {
        throttle.on_send(now);
        throttle.on_reject(now);
    }
    for _ in 0..50 {
        throttle.on_send(now);
        throttle.on_neutral(now, now + 5_000 * MS);
    }
    assert_eq!(throttle.reject_probability(now + 5_000 * MS), 0.75, "3 of 3 were turned away");
}

#[test]
fn rejections_are_forgotten_after_the_window() {
    let (mut throttle, now) = throttle();
    for _ in 0..10 {
        throttle.on_send(now);
        throttle.on_reject(now);
    }
    assert!(throttle.reject_probability(now + 100_000 * MS) > 0.9);
    assert_eq!(throttle.reject_probability(now + 121_000 * MS), 0.0);
    // Long after, an old request's end finds no slot of its own and changes nothing.
    let later = now + 500_000 * MS;
    for _ in 0..3 {
        throttle.on_send(later);
        throttle.on_reject(later);
    }
    throttle.on_neutral(now, later);
    assert_eq!(throttle.reject_probability(later), 0.75);
}

/// A target that accepts half of what it is sent: throttling leaves it alone; one that accepts a
/// tenth gets about twice what it accepts.
#[test]
fn about_half_of_the_rejected_are_still_sent_as_probes() {
    use rand::RngExt;
    let (mut throttle, mut now) = throttle();
    let mut rng = StdRng::seed_from_u64(11);
    let (mut sent, mut accepted) = (0, 0);
    for tick in 0..60_000 {
        now += 10 * MS;
        if rng.random::<f64>() < throttle.reject_probability(now) {
            continue;
        }
        throttle.on_send(now);
        // 10 a second of 100 are accepted.
        let accepts = tick % 10 == 0;
        if accepts {
            throttle.on_accept(now)
        } else {
            throttle.on_reject(now)
        }
        if tick > 20_000 {
            sent += 1;
            accepted += u32::from(accepts);
        }
    }
    println!("throttle: {sent} sent of 40,000, {accepted} accepted");
    assert!(sent < 20_000 && accepted > 100, "{sent} sent, {accepted} accepted");
}
