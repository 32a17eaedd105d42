//! Tests of reservations over several allowances.

use proptest::prelude::*;

use super::*;

const UNIX_MS: u64 = 1_795_239_900_000;

fn moment() -> Moment {
    Moment { now: Instant::now(), unix_ms: UNIX_MS, alone_of: None }
}

fn after(moment: Moment, passed: Duration) -> Moment {
    let ms = u64::try_from(passed.as_millis()).unwrap();
    Moment { now: moment.now + passed, unix_ms: moment.unix_ms + ms, ..moment }
}

fn per_minute(counted: Counted, limit: u64, at: Moment) -> (Dimension, Meter) {
    let bucket = Bucket::new(Rate::per_minute(limit), limit / 6, at.now);
    (Dimension::of(counted, Period::Minute), Meter::Bucket(bucket))
}

fn budget(micro_usd: u64, at: Moment) -> (Dimension, Meter) {
    let window = Window::new(Period::Day, micro_usd, at.unix_ms);
    (Dimension::of(Counted::Money, Period::Day), Meter::Window(window))
}

fn slots(limit: u64) -> (Dimension, Meter) {
    (Dimension::CONCURRENT, Meter::Slots(Slots::new(limit)))
}

fn request(input_tokens: u64, output_tokens: u64, micro_usd: u64) -> Amounts {
    Amounts { input_tokens, output_tokens, micro_usd, cached_tokens: 0 }
}

fn left(allowance: &Allowance, at: Moment) -> Vec<u64> {
    allowance.meters().iter().map(|(_, meter)| meter.standing(at).1).collect()
}

#[test]
fn nothing_is_taken_where_one_dimension_lacks_something() {
    let at = moment();
    let mut caller = Allowance::new(
        vec![
            per_minute(Counted::Requests, 600, at),
            per_minute(Counted::Tokens, 60_000, at),
            slots(4),
        ],
        0,
    );
    let mut team = Allowance::new(vec![budget(1_000, at)], 0);
    let before = (left(&caller, at), left(&team, at));
    let verdict = reserve(&mut [&mut caller, &mut team], &request(100, 100, 1_001), at);
    let dimension = Dimension::of(Counted::Money, Period::Day);
    assert_eq!(verdict, Verdict::Refused(Refusal { which: 1, dimension, wait: None }));
    assert_eq!((left(&caller, at), left(&team, at)), before);
    let verdict = reserve(&mut [&mut caller, &mut team], &request(100, 100, 1_000), at);
    assert_eq!(verdict, Verdict::Admitted);
    assert_eq!((left(&caller, at), left(&team, at)), (vec![99, 9_800, 3], vec![0]));
}

#[test]
fn the_longest_wait_is_told_with_its_dimension() {
    let at = moment();
    let mut allowance = Allowance::new(
        vec![per_minute(Counted::Requests, 6, at), per_minute(Counted::Tokens, 60_000, at)],
        0,
    );
    assert_eq!(reserve(&mut [&mut allowance], &request(29_900, 100, 0), at), Verdict::Admitted);
    let Verdict::Refused(refusal) = reserve(&mut [&mut allowance], &request(1, 0, 0), at) else {
        panic!("both are used up");
    };
    assert_eq!(refusal.dimension.as_str(), "tokens_per_minute");
    // 9.999 s of advance, then 20,001 tokens at 1,000 a second; a request would be there in 10 s.
    assert_eq!(refusal.wait, Some(Duration::from_secs(30)));
}

#[test]
fn a_request_that_never_got_to_a_provider_has_used_nothing() {
    let at = moment();
    let mut allowance = Allowance::new(
        vec![per_minute(Counted::Requests, 600, at), slots(1), budget(1_000, at)],
        0,
    );
    let before = left(&allowance, at);
    let amounts = request(10, 10, 500);
    assert_eq!(reserve(&mut [&mut allowance], &amounts, at), Verdict::Admitted);
    assert_ne!(left(&allowance, at), before);
    assert_eq!(allowance.settle(&amounts, None, at, at), []);
    allowance.release(at, at);
    assert_eq!(left(&allowance, at), before);
}

#[test]
fn what_was_used_takes_the_place_of_the_estimate() {
    let at = moment();
    let tokens = per_minute(Counted::Tokens, 60_000, at);
    let mut allowance = Allowance::new(vec![tokens, budget(1_000, at)], 100);
    let reserved = request(1_000, 500, 900);
    assert_eq!(reserve(&mut [&mut allowance], &reserved, at), Verdict::Admitted);
    // A cached token counts a tenth.
    let used = Amounts { cached_tokens: 400, ..request(600, 700, 800) };
    let crossings = allowance.settle(&reserved, Some(&used), at, at);
    assert_eq!(left(&allowance, at), [10_000 - 600 - 40 - 700, 200]);
    let dimension = Dimension::of(Counted::Money, Period::Day);
    assert_eq!(crossings, [Crossing { dimension, threshold: Threshold::Most }]);
}

#[test]
fn a_running_answer_is_topped_up_in_all_dimensions_or_in_none() {
    let at = moment();
    let tokens = per_minute(Counted::Tokens, 60_000, at);
    let requests = per_minute(Counted::Requests, 600, at);
    let mut allowance = Allowance::new(vec![requests, tokens, budget(1_000, at), slots(1)], 0);
    assert_eq!(reserve(&mut [&mut allowance], &request(0, 0, 900), at), Verdict::Admitted);
    assert_eq!(allowance.top_up(&request(0, 256, 100), at, at), None);
    assert_eq!(left(&allowance, at), [99, 9_744, 0, 0]);
    let stopped = allowance.top_up(&request(0, 256, 100), at, at);
    assert_eq!(stopped, Some(Dimension::of(Counted::Money, Period::Day)));
    assert_eq!(left(&allowance, at), [99, 9_744, 0, 0]);
    allowance.book(&request(0, 256, 100), at, at);
    assert_eq!(left(&allowance, at), [99, 9_488, 0, 0]);
    allowance.settle(&request(0, 512, 1_100), Some(&request(0, 400, 1_050)), at, at);
    allowance.release(at, at);
    let later = after(at, Duration::from_secs(60));
    assert_eq!(left(&allowance, later), [100, 10_000, 0, 1]);
}

#[test]
fn a_subject_is_a_combination_and_nothing_a_caller_says_can_make_it_another() {
    let tags = [("env".to_owned(), "a|route=x%".to_owned())];
    let of = Subject { caller: "k1", team: None, route: "smart", model: "sim/m", tags: &tags };
    let rule = |by: &[&str]| Rule {
        by: by.iter().filter_map(|by| By::parse(by)).collect(),
        ..Rule::of_keys()
    };
    assert_eq!(rule(&["caller"]).subject(&of).as_deref(), Some("key|caller=k1"));
    assert_eq!(
        rule(&["tag:env", "route"]).subject(&of).as_deref(),
        Some("key|env=a%7Croute=x%25|route=smart")
    );
    assert_eq!(rule(&["team"]).subject(&of), None, "it has no team");
    assert_eq!(rule(&["tag:other"]).subject(&of).as_deref(), Some("key|other="));
    assert_eq!(rule(&[]).subject(&of).as_deref(), Some("key"));
    let elsewhere = Rule { routes: vec!["other".to_owned()], ..rule(&["caller"]) };
    assert_eq!(elsewhere.subject(&of), None);
    let long = "x".repeat(5_000);
    let long = rule(&["caller"]).subject(&Subject { caller: &long, ..of }).unwrap();
    assert!(long.len() < 200, "{}", long.len());
}

#[test]
fn limits_of_a_key_take_the_place_of_the_same_ones() {
    let at = moment();
    let limits = LimitSettings {
        requests_per_minute: Some(600),
        concurrent: Some(4),
        ..LimitSettings::default()
    };
    let rule = Rule { limits, ..Rule::of_keys() };
    let own = LimitSettings {
        requests_per_minute: Some(6),
        usd_per_day: Some("0.5".parse().unwrap()),
        ..LimitSettings::default()
    };
    let allowance = rule.allowance(Some(&own), false, at);
    let limits: Vec<_> = allowance
        .meters()
        .iter()
        .map(|(dimension, meter)| (dimension.as_str(), meter.standing(at).0))
        .collect();
    assert_eq!(limits, [("requests_per_minute", 6), ("usd_per_day", 500_000), ("concurrent", 4)]);
    // Six may come at once, which is the least burst.
    assert_eq!(left(&allowance, at), [6, 500_000, 4]);
}

#[test]
fn a_changed_limit_keeps_what_was_used_of_it() {
    let at = moment();
    let mut allowance = Allowance::new(vec![budget(1_000, at), slots(2)], 0);
    assert_eq!(reserve(&mut [&mut allowance], &request(0, 0, 400), at), Verdict::Admitted);
    allowance.adapt(Allowance::new(vec![slots(5), budget(500, at)], 0), at);
    assert_eq!(left(&allowance, at), [4, 100]);
}

#[test]
fn what_is_expected_of_an_answer_is_what_nine_of_ten_need() {
    let mut now = Instant::now();
    let mut outputs = Outputs::new();
    assert_eq!(outputs.expect(None, now), UNKNOWN_OUTPUT_TOKENS);
    assert_eq!(outputs.expect(Some(16), now), 16);
    for tokens in 1..=100 {
        outputs.observe(tokens * 10, now);
    }
    now += Duration::from_secs(2);
    let expected = outputs.expect(Some(128_000), now);
    assert!((880..=920).contains(&expected), "{expected}");
    assert_eq!(outputs.expect(Some(100), now), 100);
}

#[test]
fn every_key_of_the_settings_is_a_dimension_of_that_name() {
    let settings = LimitSettings::default();
    let names: Vec<_> = settings.each().iter().map(|(dimension, _)| dimension.as_str()).collect();
    let keys = serde_json::to_value(&settings).unwrap();
    let keys: Vec<_> = keys.as_object().unwrap().keys().cloned().collect();
    let mut sorted = names.clone();
    sorted.sort_unstable();
    let mut keys_sorted = keys.clone();
    keys_sorted.sort();
    assert_eq!(sorted, keys_sorted);
    let text = r#"{"requests_per_minute": 60, "usd_per_day": "5", "concurrent": 3}"#;
    let settings: LimitSettings = serde_json::from_str(text).unwrap();
    let limits: Vec<_> =
        settings.dimensions().map(|(dimension, limit)| (dimension.as_str(), limit)).collect();
    assert_eq!(
        limits,
        [("requests_per_minute", 60), ("usd_per_day", 5_000_000), ("concurrent", 3)]
    );
}

proptest! {
    #[test]
    fn reservations_are_all_or_nothing_and_never_over_the_limit(
        requests in prop::collection::vec((1_u64..400, 0_u64..400, 0_u64..200_u64, 0_u64..2_000, 0_u64..150), 1..60),
    ) {
        let mut at = moment();
        let start = at;
        let mut caller = Allowance::new(vec![
            per_minute(Counted::Requests, 600, at),
            per_minute(Counted::InputTokens, 30_000, at),
            per_minute(Counted::OutputTokens, 20_000, at),
            slots(5),
        ], 0);
        let mut team = Allowance::new(vec![budget(5_000, at)], 0);
        let mut open: Vec<(Amounts, u64, Moment)> = Vec::new();
        let mut spent = 0;
        for (input, output, money, passed_ms, percent) in requests {
            at = after(at, Duration::from_millis(passed_ms));
            let before = (left(&caller, at), left(&team, at));
            let amounts = request(input, output, money);
            match reserve(&mut [&mut caller, &mut team], &amounts, at) {
                Verdict::Admitted => open.push((amounts, percent, at)),
                Verdict::Refused(_) => prop_assert_eq!((left(&caller, at), left(&team, at)), before),
                Verdict::Unasked | Verdict::Unsettled(_) => {
                    prop_assert!(false, "nothing is shared");
                }
            }
            prop_assert!(open.len() <= 5);
            let reserved: u64 = open.iter().map(|(amounts, _, _)| amounts.micro_usd).sum();
            prop_assert!(open.is_empty() || spent > 5_000 || spent + reserved <= 5_000 + 100);
            if open.len() == 5 {
                let (amounts, percent, since) = open.remove(0);
                let used = request(
                    amounts.input_tokens, amounts.output_tokens * percent / 100,
                    amounts.micro_usd * percent.min(100) / 100,
                );
                spent += used.micro_usd;
                caller.settle(&amounts, Some(&used), since, at);
                caller.release(since, at);
                team.settle(&amounts, Some(&used), since, at);
            }
        }
        for (amounts, _, since) in open {
            caller.settle(&amounts, None, since, at);
            team.settle(&amounts, None, since, at);
        }
        prop_assert_eq!(left(&team, at), vec![5_000 - spent]);
        let _ = start;
    }
}

#[test]
fn who_goes_by_what_is_said_to_be_left_is_not_refused() {
    let mut at = moment();
    let (_, mut meter) = per_minute(Counted::Requests, 600, at);
    for _ in 0..5 {
        let (limit, left, reset) = meter.standing(at);
        assert_eq!((limit, left, reset), (600, 100, Duration::ZERO));
        for taken in 1..=left {
            assert_eq!(meter.lacks(1, at), None, "{taken} of {left}");
            meter.take(1, at);
            let (of, now_left, _) = meter.standing(at);
            assert_eq!((of, now_left), (limit, left - taken));
        }
        // All of it is there again when that is said.
        at = after(at, meter.standing(at).2);
    }
}

#[test]
fn a_budget_is_told_to_be_used_up_when_it_is_and_not_when_a_large_request_does_not_fit() {
    let at = moment();
    let day = Dimension::of(Counted::Money, Period::Day);
    let mut allowance = Allowance::new(vec![budget(1_000, at)], 0);
    let spend = |allowance: &mut Allowance, amount: u64| {
        let amount = request(0, 0, amount);
        assert_eq!(reserve(&mut [&mut *allowance], &amount, at), Verdict::Admitted);
        let _ = allowance.settle(&amount, Some(&amount), at, at);
    };
    spend(&mut allowance, 150);
    let large = request(0, 0, 900);
    assert_eq!(allowance.exhausted(day, &large, at), None, "15 % are used");
    // What others have reserved may come back.
    assert_eq!(reserve(&mut [&mut allowance], &request(0, 0, 850), at), Verdict::Admitted);
    assert_eq!(allowance.exhausted(day, &request(0, 0, 1), at), None);
    let _ = allowance.settle(&request(0, 0, 850), Some(&request(0, 0, 800)), at, at);
    let told = allowance.exhausted(day, &request(0, 0, 60), at);
    assert_eq!(told, Some(Crossing { dimension: day, threshold: Threshold::All }));
    assert_eq!(allowance.exhausted(day, &request(0, 0, 60), at), None, "once");
}

#[test]
fn a_limit_is_named_by_whose_it_is() {
    let own = LimitSettings { requests_per_day: Some(3), ..LimitSettings::default() };
    let day = Dimension::of(Counted::Requests, Period::Day);
    let month = Dimension::of(Counted::Requests, Period::Month);
    let default = Rule { name: DEFAULT_RULE.into(), ..Rule::of_keys() };
    assert_eq!(default.whose(Some(&own), day), "the limit of the key itself");
    assert_eq!(default.whose(Some(&own), month), "the limit `default`");
    assert_eq!(default.whose(None, day), "the limit `default`");
    assert_eq!(Rule::of_keys().whose(Some(&own), day), "the limit of the key itself");
    assert_eq!(Rule::of_teams().whose(Some(&own), day), "the limit of the team itself");
}
