//! Domains whose errors and judges are known, over many runs.

use super::*;

/// A domain in operation: what would be a hit is compared or given as decided.
struct World {
    random: StdRng,
    lessons: Lessons,
    domain: Arc<Domain>,
    /// The chance that a kept answer would not do, and that the judge says the opposite of what is.
    wrong: f64,
    lies: f64,
    audits: u64,
}

impl World {
    fn new(seed: u64, wrong: f64, lies: f64) -> Self {
        let random = StdRng::seed_from_u64(seed);
        let (lessons, domain) = (Lessons::default(), domain("key a"));
        Self { random, lessons, domain, wrong, lies, audits: 0 }
    }

    /// One would-be hit; whether it was given.
    fn step(&mut self) -> bool {
        let similarity = self.random.random_range(0.8..1.0);
        let chance = self.random.random();
        match self.lessons.decide(&self.domain, similarity, chance, false) {
            Decision::Give => return true,
            Decision::Leave => {}
            Decision::Compare { is_audit, .. } => {
                let same =
                    self.random.random_bool(self.wrong) == self.random.random_bool(self.lies);
                self.audits += u64::from(is_audit);
                self.lessons.learn(&self.domain, Label { similarity, same, is_audit });
            }
        }
        false
    }
}

#[test]
fn a_judge_that_lies_on_a_fifth_of_all_labels_never_lets_anything_be_given() {
    for (seed, wrong) in [(1, 0.0), (2, 0.01), (3, 0.2), (4, 0.5)] {
        let mut world = World::new(seed, wrong, 0.2);
        let given = (0..20_000).filter(|_| world.step()).count();
        assert_eq!(given, 0, "seed {seed}, {wrong} wrong");
    }
}

#[test]
fn a_domain_with_three_times_the_error_is_given_in_one_run_of_twenty_at_most() {
    let gives = |seed| {
        let mut world = World::new(seed, 0.03, 0.0);
        (0..8_000).any(|_| world.step())
    };
    let given = (0..200).filter(|seed| gives(*seed)).count();
    println!("3 % wrong: anything was given in {given} of 200 runs");
    assert!(given <= 10, "{given}");
}

#[test]
fn a_good_domain_comes_to_be_given() {
    let mut world = World::new(7, 0.001, 0.0);
    let given = (0..8_000).filter(|_| world.step()).count();
    println!("0.1 % wrong: {given} of 8000 were given");
    assert!(given > 2_000, "{given}");
}

#[test]
fn a_domain_that_becomes_bad_is_given_no_more_after_some_dozen_audits() {
    let mut needed = Vec::new();
    for seed in 0..60 {
        let mut world = World::new(seed, 0.0, 0.0);
        (0..6_000).for_each(|_| _ = world.step());
        assert!(serves(&world.lessons), "seed {seed}");
        (world.wrong, world.audits) = (0.1, 0);
        while serves(&world.lessons) {
            world.step();
            assert!(world.audits < 1_000, "seed {seed}");
        }
        assert_eq!(world.lessons.figures()[0].alarms, 1);
        needed.push(world.audits);
    }
    needed.sort_unstable();
    let (p50, p95) = (needed[30], needed[57]);
    println!("from 0 % to 10 % wrong: found after {p50} audited hits (p95: {p95}), of 60 runs");
    assert!(p50 <= 100 && p95 <= 200, "{p50} {p95}");
}
