//! Tests of the breaker.

use super::*;

mod figures;

/// One line of a table: at that second, what happens, and what it changes.
enum Step {
    /// So many attempts with the end, all at once.
    Each(u32, End),
    /// Nothing, but the state is that.
    Is(&'static str),
    /// An attempt is refused.
    Refused,
    /// A trial begins and is kept under the number.
    Begin(usize),
    /// The kept attempt ends.
    Finish(usize, End),
    Suspect(bool),
}

#[derive(Clone, Copy)]
enum End {
    Good,
    Slow,
    Hard,
    Soft,
    Neutral,
    /// A hard failure with `retry-after` in seconds.
    RetryAfter(u64),
}

use End::{Good, Hard, Neutral, RetryAfter, Slow, Soft};
use Step::{Begin, Each, Finish, Is, Refused, Suspect};

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn settle(breaker: &mut Breaker, pass: Pass, end: End, now: Instant) -> Option<Transition> {
    match end {
        Good => breaker.on_success(pass, now),
        Slow => breaker.on_slow_success(pass, 0.5, now),
        Hard => breaker.on_failure(pass, Severity::Hard, None, 0.5, now),
        Soft => breaker.on_failure(pass, Severity::Soft, None, 0.5, now),
        RetryAfter(after) => breaker.on_failure(pass, Severity::Hard, Some(secs(after)), 0.5, now),
        Neutral => {
            breaker.on_neutral(pass);
            None
        }
    }
}

/// Plays a table and returns the transitions as `second: what`. `u` is 0.5 throughout: no jitter.
fn play(steps: &[(u64, Step)]) -> Vec<String> {
    let start = Instant::now();
    let mut breaker = Breaker::new(Settings::default());
    let mut kept = [None; 8];
    let mut seen = Vec::new();
    for (line, (at, step)) in steps.iter().enumerate() {
        let now = start + secs(*at);
        let mut note = |transition: Option<Transition>| {
            seen.extend(transition.map(|transition| match transition {
                Transition::Opened { until, reason } => {
                    format!("{at}: {} for {} s", reason.as_str(), (until - now).as_secs())
                }
                Transition::HalfOpened => format!("{at}: half open"),
                Transition::Closed => format!("{at}: closed"),
            }));
        };
        note(breaker.poll(now));
        assert_eq!(breaker.would_admit(now), breaker.clone().admit(now).is_some(), "line {line}");
        match step {
            Each(times, end) => {
                for _ in 0..*times {
                    let pass = breaker.admit(now).unwrap_or_else(|| panic!("refused, line {line}"));
                    note(settle(&mut breaker, pass, *end, now));
                }
            }
            Is(state) => assert_eq!(breaker.state(now).as_str(), *state, "line {line}"),
            Refused => assert_eq!(breaker.admit(now), None, "line {line}"),
            Begin(slot) => {
                kept[*slot] = breaker.admit(now);
                assert!(kept[*slot].is_some(), "line {line}");
            }
            Finish(slot, end) => note(settle(&mut breaker, kept[*slot].unwrap(), *end, now)),
            Suspect(suspect) => breaker.set_suspect(*suspect),
        }
    }
    seen
}

#[test]
fn five_hard_failures_in_a_row_open_it_and_four_do_not() {
    let seen = play(&[(0, Each(4, Hard)), (1, Each(1, Good)), (2, Each(4, Hard))]);
    assert_eq!(seen, [""; 0], "5 good of 9 is too few for a ratio and no run");
    assert_eq!(play(&[(0, Each(5, Hard))]), ["0: run for 30 s"]);
    // However far apart.
    let hours: Vec<_> = (0..5).map(|hour| (hour * 3_600, Each(1, Hard))).collect();
    assert_eq!(play(&hours), ["14400: run for 30 s"]);
}

#[test]
fn soft_failures_and_neutral_ends_make_no_run_and_break_none() {
    assert_eq!(play(&[(0, Each(9, Soft)), (0, Each(50, Neutral)), (0, Is("closed"))]), [""; 0]);
    let seen =
        play(&[(0, Each(4, Hard)), (1, Each(1, Soft)), (2, Each(9, Neutral)), (3, Each(1, Hard))]);
    assert_eq!(seen, ["3: run for 30 s"]);
}

#[test]
fn half_of_twenty_attempts_in_ten_seconds_open_it() {
    let half = |at| [(at, Each(10, Good)), (at, Each(9, Soft))];
    let [good, soft] = half(0);
    assert_eq!(play(&[good, soft, (9, Each(1, Soft))]), ["9: failed for 30 s"]);
    // Failures that have left the window do not count.
    let [good, soft] = half(0);
    assert_eq!(play(&[good, soft, (10, Each(12, Good)), (10, Each(8, Soft))]), [""; 0]);
}

#[test]
fn four_of_five_slow_successes_open_it() {
    assert_eq!(play(&[(0, Each(4, Good)), (0, Each(15, Slow))]), [""; 0]);
    assert_eq!(play(&[(0, Each(4, Good)), (0, Each(16, Slow))]), ["0: slow for 30 s"]);
}

#[test]
fn a_quiet_target_opens_on_half_of_ten_attempts_in_a_minute() {
    let mut steps: Vec<_> =
        (0..9).map(|n| (n * 6, Each(1, if n % 2 == 0 { Good } else { Soft }))).collect();
    steps.push((54, Each(1, Soft)));
    assert_eq!(play(&steps), ["54: quiet_failed for 30 s"]);
    // Spread over more than a minute, ten never come together.
    let steps: Vec<_> = (0..50).map(|n| (n * 7, Each(1, Soft))).collect();
    assert_eq!(play(&steps), [""; 0]);
}

#[test]
fn retry_after_lengthens_the_cooldown_up_to_the_cap() {
    let opened = |after| play(&[(0, Each(4, Hard)), (0, Each(1, RetryAfter(after)))]);
    assert_eq!(opened(10), ["0: run for 30 s"]);
    assert_eq!(opened(90), ["0: run for 90 s"]);
    assert_eq!(opened(86_400), ["0: run for 300 s"]);
}

#[test]
fn nothing_passes_while_open_and_three_trials_after() {
    let seen = play(&[
        (0, Each(5, Hard)),
        (29, Refused),
        (29, Is("open")),
        (30, Begin(0)),
        (30, Begin(1)),
        (30, Begin(2)),
        (30, Refused),
        (31, Finish(0, Good)),
        (31, Refused),
        (31, Is("half_open")),
        (32, Finish(1, Hard)),
        (32, Refused),
        (33, Finish(2, Good)),
    ]);
    assert_eq!(seen, ["0: run for 30 s", "30: half open", "33: closed"]);
}

#[test]
fn two_bad_trials_of_any_sort_open_it_for_twice_as_long() {
    for bad in [Hard, Soft, Slow, RetryAfter(20)] {
        let seen = play(&[
            (0, Each(5, Hard)),
            (30, Begin(0)),
            (30, Begin(1)),
            (31, Finish(0, bad)),
            (32, Finish(1, bad)),
        ]);
        assert_eq!(seen, ["0: run for 30 s", "30: half open", "32: trials for 60 s"]);
    }
}

#[test]
fn the_cooldown_doubles_up_to_five_minutes_and_is_forgiven_after_five_closed() {
    let mut steps = vec![(0, Each(5, Hard))];
    let mut at = 0;
    for cooldown in [30, 60, 120, 240, 300, 300] {
        at += cooldown;
        steps.push((at, Each(2, Hard)));
    }
    steps.extend([(at + 300, Each(2, Good)), (at + 599, Each(5, Hard))]);
    steps.extend([(at + 899, Each(2, Good)), (at + 1_199, Each(5, Hard))]);
    let seen = play(&steps);
    let opened: Vec<_> = seen.iter().filter_map(|line| line.split(" for ").nth(1)).collect();
    let doubled = ["30 s", "60 s", "120 s", "240 s", "300 s", "300 s", "300 s"];
    assert_eq!(opened[..7], doubled);
    assert_eq!(opened[7..], ["300 s", "30 s"], "after 299 s closed, and after 300 s");
}

#[test]
fn jitter_spreads_the_cooldown_by_a_fifth_either_way() {
    let now = Instant::now();
    for (u, expected) in [(0.0, 24.0), (0.5, 30.0), (1.0, 36.0), (7.0, 36.0), (-1.0, 24.0)] {
        let mut breaker = Breaker::new(Settings { max_run: 1, ..Settings::default() });
        let pass = breaker.admit(now).unwrap();
        let opened = breaker.on_failure(pass, Severity::Hard, None, u, now);
        let Some(Transition::Opened { until, reason: Reason::Run }) = opened else {
            panic!("{opened:?}")
        };
        assert!(((until - now).as_secs_f64() - expected).abs() < 1e-6, "{u}");
        assert_eq!(breaker.state(now), State::Open { until });
    }
}

#[test]
fn a_trial_that_ends_neutrally_gives_its_lease_back_without_a_verdict() {
    let seen = play(&[
        (0, Each(5, Hard)),
        (30, Each(1_000, Neutral)),
        (40, Begin(0)),
        (40, Begin(1)),
        (40, Begin(2)),
        (41, Finish(0, Neutral)),
        (41, Finish(0, Neutral)),
        (41, Begin(3)),
        (41, Refused),
        (42, Finish(1, Good)),
        (42, Finish(3, Good)),
    ]);
    assert_eq!(seen, ["0: run for 30 s", "30: half open", "42: closed"]);
}

#[test]
fn a_lease_expires_and_its_late_verdict_still_counts_but_frees_nobody_elses() {
    let seen = play(&[
        (0, Each(5, Hard)),
        (30, Begin(0)),
        (30, Begin(1)),
        (30, Begin(2)),
        (59, Refused),
        (60, Begin(3)),
        (60, Begin(4)),
        (60, Begin(5)),
        (61, Refused),
        (61, Finish(0, Neutral)),
        (61, Refused),
        (62, Finish(1, Good)),
        (62, Is("half_open")),
        (63, Finish(2, Good)),
    ]);
    assert_eq!(seen, ["0: run for 30 s", "30: half open", "63: closed"]);
}

#[test]
fn attempts_of_an_earlier_phase_have_no_say() {
    for late in [Good, Slow, Hard, Soft, Neutral, RetryAfter(300)] {
        let seen = play(&[
            // Kept from before it opens, then ended while open, half open and closed again.
            (0, Begin(0)),
            (0, Begin(1)),
            (0, Begin(2)),
            (0, Begin(3)),
            (0, Each(5, Hard)),
            (1, Finish(0, late)),
            (1, Is("open")),
            (30, Begin(4)),
            (30, Begin(5)),
            (30, Finish(1, late)),
            (30, Finish(2, late)),
            (30, Is("half_open")),
            (31, Finish(4, Good)),
            (31, Finish(5, Good)),
            (31, Each(4, Hard)),
            (31, Finish(3, late)),
            (31, Finish(4, late)),
            (31, Is("closed")),
            (31, Each(1, Hard)),
        ]);
        let expected = ["0: run for 30 s", "30: half open", "31: closed", "31: run for 60 s"];
        assert_eq!(seen, expected);
    }
}

#[test]
fn trials_of_an_earlier_half_open_phase_have_no_say() {
    let seen = play(&[
        (0, Each(5, Hard)),
        (30, Begin(0)),
        (30, Begin(1)),
        (30, Begin(2)),
        (31, Finish(0, Hard)),
        (31, Finish(1, Hard)),
        (91, Begin(3)),
        (91, Begin(4)),
        (91, Begin(5)),
        // Its number is that of a lease which is out.
        (91, Finish(2, Neutral)),
        (91, Refused),
        (91, Finish(2, Good)),
        (91, Finish(3, Good)),
        (92, Is("half_open")),
        (92, Finish(4, Good)),
    ]);
    let expected =
        ["0: run for 30 s", "30: half open", "31: trials for 60 s", "91: half open", "92: closed"];
    assert_eq!(seen, expected);
}

#[test]
fn under_a_suspect_provider_one_trial_runs_at_a_time() {
    let seen = play(&[
        (0, Each(5, Hard)),
        (1, Suspect(true)),
        (30, Begin(0)),
        (30, Refused),
        (31, Finish(0, Good)),
        (31, Begin(1)),
        (31, Refused),
        (32, Suspect(false)),
        (32, Begin(2)),
        (32, Refused),
        (33, Finish(1, Good)),
    ]);
    assert_eq!(seen, ["0: run for 30 s", "30: half open", "33: closed"]);
}

#[test]
fn recovery_forgets_the_past_and_tells_its_age() {
    let start = Instant::now();
    let mut breaker = Breaker::new(Settings { cooldown: secs(1), ..Settings::default() });
    assert_eq!(breaker.closed_since(start), None, "never opened: no slow start");
    for _ in 0..5 {
        let pass = breaker.admit(start).unwrap();
        settle(&mut breaker, pass, Hard, start);
    }
    let recovered = start + secs(1);
    assert_eq!(breaker.closed_since(recovered), None);
    for _ in 0..2 {
        let pass = breaker.admit(recovered).unwrap();
        settle(&mut breaker, pass, Good, recovered);
    }
    assert_eq!(breaker.closed_since(recovered + secs(7)), Some(secs(7)));
    let sums = breaker.history.sums(recovered);
    assert_eq!(sums, ([0; 4], [0; 4]), "the window of the outage is gone");
}

#[test]
fn any_number_of_trials_comes_to_a_decision() {
    for trials in 0..=12 {
        for verdicts in 0_u32..1 << MAX_TRIALS {
            let now = Instant::now();
            let mut breaker = Breaker::new(Settings { max_run: 1, trials, ..Settings::default() });
            let pass = breaker.admit(now).unwrap();
            settle(&mut breaker, pass, Hard, now);
            let later = now + secs(30);
            let decided = (0..trials.clamp(1, MAX_TRIALS)).any(|n| {
                let pass = breaker.admit(later).expect("undecided, so there is a trial left");
                let end = if verdicts >> n & 1 == 1 { Good } else { Hard };
                settle(&mut breaker, pass, end, later).is_some()
            });
            assert!(decided, "{trials} trials, verdicts {verdicts:b}");
        }
    }
}

#[test]
fn a_provider_is_suspect_when_half_of_its_targets_and_at_least_two_are_open() {
    #[rustfmt::skip]
    let table = [
        (0, 0, false), (1, 1, false), (1, 2, false), (2, 2, true), (2, 3, true), (2, 4, true),
        (2, 5, false), (3, 5, true), (3, 6, true), (3, 7, false),
    ];
    for (open, targets, suspect) in table {
        assert_eq!(provider_suspect(open, targets), suspect, "{open} of {targets}");
    }
}

#[test]
fn a_target_all_of_whose_streams_break_opens_though_each_had_begun_well() {
    let start = Instant::now();
    let mut breaker = Breaker::new(Settings::default());
    let mut opened = None;
    for n in 0..200 {
        let now = start + Duration::from_millis(50 * n);
        let Some(pass) = breaker.admit(now) else { break };
        let _ = breaker.on_success(pass, now);
        // One in ten goes well to its end.
        if n % 10 != 0 {
            let broken = breaker.on_broken(pass, Severity::Hard, None, 0.5, now);
            opened = opened.or(broken.map(|_| n));
        }
    }
    assert!(opened.is_some_and(|n| n <= 40), "{opened:?}");
}
