//! Tests of stages and decisions.

use super::*;
use crate::policy::rollout::assign::{Arm, UnitKind};
use crate::policy::rollout::hard::HardFailure;
use crate::policy::rollout::segments::Traits;
use crate::policy::rollout::test::{Observation, Pair, Readings};
use crate::units::HumanDuration;

const MINUTE_MS: u64 = 60_000;

fn share(percent: f64) -> Share {
    Share::from_percent(percent).unwrap()
}

fn stage(percent: f64, min_requests: u64) -> Stage {
    Stage { share: share(percent), min_time: HumanDuration::secs(60), min_requests }
}

fn plan(stages: Vec<Stage>) -> Plan {
    Plan { unit: UnitKind::Request, stages, ..Plan::default() }
}

fn begun() -> Rollout {
    Rollout::begin("r", plan(vec![stage(5.0, 10), stage(50.0, 10)]), 0).unwrap().0
}

fn seen(arm: Arm, share: Share, has_failed: bool) -> Event {
    Event::Observed(Observation {
        arm,
        share,
        unit: None,
        hard: Some(if has_failed { HardFailure::Failed } else { HardFailure::No }),
        readings: Readings::default().with_flag(Guardrail::Errors, has_failed),
        traits: Traits::default(),
    })
}

fn feed(rollout: &mut Rollout, arm: Arm, failed: u32, well: u32) -> Vec<Action> {
    let share = rollout.share();
    let of = |has_failed, times| (0..times).map(move |_| has_failed);
    of(false, well)
        .chain(of(true, failed))
        .flat_map(|has_failed| rollout.on(seen(arm, share, has_failed), 1_000))
        .collect()
}

fn verdicts(actions: &[Action]) -> Vec<Verdict> {
    let verdict = |action: &Action| match action {
        Action::Record(decision) => Some(decision.verdict),
        Action::Steer { .. }
        | Action::Page(_)
        | Action::ForgetAnswers
        | Action::Quarantine { .. }
        | Action::Refuse(_) => None,
    };
    actions.iter().filter_map(verdict).collect()
}

#[test]
fn stages_pass_with_time_and_requests_until_it_is_done() {
    let mut rollout = begun();
    feed(&mut rollout, Arm::Control, 0, 190);
    feed(&mut rollout, Arm::Candidate, 0, 9);
    assert!(rollout.on(Event::Tick, MINUTE_MS).is_empty(), "too few requests");
    feed(&mut rollout, Arm::Candidate, 0, 1);
    assert!(rollout.on(Event::Tick, MINUTE_MS - 1).is_empty(), "too early");
    let actions = rollout.on(Event::Tick, MINUTE_MS);
    assert_eq!(verdicts(&actions), [Verdict::Promote]);
    assert_eq!(actions[0], Action::Steer { share: share(50.0), is_shadow: false, is_harm: false });
    feed(&mut rollout, Arm::Candidate, 0, 10);
    assert_eq!(verdicts(&rollout.on(Event::Tick, 2 * MINUTE_MS)), [Verdict::Hold]);
    feed(&mut rollout, Arm::Control, 0, 9);
    assert!(rollout.on(Event::Tick, 2 * MINUTE_MS).is_empty(), "nothing to compare with");
    feed(&mut rollout, Arm::Control, 0, 1);
    assert_eq!(verdicts(&rollout.on(Event::Tick, 2 * MINUTE_MS)), [Verdict::Finish]);
    assert_eq!((rollout.phase(), rollout.share()), (Phase::Done, Share::ALL));
    assert_eq!(rollout.on(Event::Pause, 0), [Action::Refuse(Refusal::Over)]);
}

#[test]
fn a_candidate_that_fails_is_rolled_back_with_its_evidence() {
    let mut rollout = begun();
    feed(&mut rollout, Arm::Control, 1, 189);
    let mut actions = Vec::new();
    for _ in 0..40 {
        actions.extend(feed(&mut rollout, Arm::Candidate, 1, 4));
    }
    assert_eq!(verdicts(&actions), [Verdict::RollBack], "once");
    assert_eq!((rollout.phase(), rollout.share()), (Phase::RolledBack, Share::NONE));
    assert_eq!(actions[0], Action::Steer { share: Share::NONE, is_shadow: false, is_harm: true });
    assert_eq!(actions[1], Action::ForgetAnswers);
    let Action::Record(decision) = &actions[3] else { panic!("{actions:?}") };
    assert_eq!(decision.cause, Cause::Guardrail(Guardrail::Errors));
    assert_eq!(decision.revision, rollout.revision());
    assert!(decision.findings[0].evidence >= decision.findings[0].needed);
    assert!(decision.sentence.starts_with("candidate fails 20.0 % of"), "{}", decision.sentence);
    assert!(decision.sentence.contains("control 0.5 % of 190"), "{}", decision.sentence);
}

#[test]
fn a_candidate_that_does_not_work_at_all_is_gone_after_five_requests() {
    let mut rollout = begun();
    feed(&mut rollout, Arm::Control, 0, 95);
    let actions = feed(&mut rollout, Arm::Candidate, 5, 0);
    assert_eq!(verdicts(&actions), [Verdict::RollBack]);
    assert!(rollout.analysis().requests() <= 5);
}

#[test]
fn harm_below_the_margin_pauses_once_and_who_resumes_has_accepted_it() {
    let mut plan = plan(vec![stage(5.0, 10)]);
    for rule in &mut plan.guardrails.0 {
        if rule.guardrail == Guardrail::Errors {
            rule.margin = crate::policy::rollout::Margin::Points(0.5);
        }
    }
    let (mut rollout, _) = Rollout::begin("r", plan, 0).unwrap();
    feed(&mut rollout, Arm::Control, 1, 189);
    let mut actions = Vec::new();
    for _ in 0..12 {
        actions.extend(feed(&mut rollout, Arm::Candidate, 1, 4));
    }
    assert_eq!(verdicts(&actions), [Verdict::Pause]);
    assert_eq!(rollout.phase(), Phase::Paused(PausedBy::SlightHarm(Guardrail::Errors)));
    assert!(matches!(&actions[0], Action::Page(why) if why.contains("less harm than the margin")));
    assert_eq!(verdicts(&rollout.on(Event::Resume, 1_000)), [Verdict::Resume]);
    assert_eq!(verdicts(&feed(&mut rollout, Arm::Candidate, 1, 4)), []);
    assert_eq!(rollout.phase(), Phase::Running);
}

#[test]
fn the_share_can_be_set_at_any_time_and_stages_go_on_from_there() {
    let stages = vec![stage(1.0, 0), stage(20.0, 0), stage(60.0, 0)];
    let (mut rollout, _) = Rollout::begin("r", plan(stages), 0).unwrap();
    rollout.on(Event::Pause, 0);
    assert_eq!(verdicts(&rollout.on(Event::SetShare(share(25.0)), 0)), [Verdict::Set]);
    assert_eq!((rollout.share(), rollout.stage().0), (share(25.0), 1));
    assert!(rollout.on(Event::Tick, 2 * MINUTE_MS).is_empty(), "it is still paused");
    rollout.on(Event::Resume, 0);
    assert_eq!(verdicts(&rollout.on(Event::Tick, 2 * MINUTE_MS)), [Verdict::Promote]);
    assert_eq!(rollout.share(), share(60.0));
    assert_eq!(rollout.on(Event::Resume, 0), [Action::Refuse(Refusal::NotPaused)]);
    assert_eq!(verdicts(&rollout.on(Event::SetShare(Share::NONE), 0)), [Verdict::Set]);
    assert_eq!(rollout.phase(), Phase::Paused(PausedBy::Operator));
    assert!(rollout.on(Event::Tick, 9 * MINUTE_MS).is_empty(), "it does not grow again by itself");
}

#[test]
fn a_candidate_without_a_control_beside_it_does_not_pass() {
    let mut rollout = begun();
    feed(&mut rollout, Arm::Candidate, 0, 500);
    let actions = rollout.on(Event::Tick, MINUTE_MS);
    assert_eq!(verdicts(&actions), [Verdict::Hold]);
    let Action::Record(held) = &actions[0] else { panic!("{actions:?}") };
    assert!(held.sentence.contains("it takes 10 to compare"), "{}", held.sentence);
}

#[test]
fn a_frozen_rollout_does_not_grow_but_still_shrinks_and_rolls_back() {
    let mut rollout = begun();
    feed(&mut rollout, Arm::Candidate, 0, 10);
    rollout.on(Event::Freeze, 0);
    assert!(rollout.on(Event::Tick, MINUTE_MS).is_empty());
    assert_eq!(rollout.on(Event::Promote, 0), [Action::Refuse(Refusal::Frozen)]);
    assert_eq!(rollout.on(Event::SetShare(share(10.0)), 0), [Action::Refuse(Refusal::Frozen)]);
    assert_eq!(verdicts(&rollout.on(Event::SetShare(share(2.0)), 0)), [Verdict::Set]);
    let actions = rollout.on(Event::RollBack("a customer complained".into()), 0);
    assert_eq!(verdicts(&actions), [Verdict::RollBack]);
    let is_page = |action: &Action| matches!(action, Action::Page(_));
    assert!(!actions.iter().any(is_page), "who did it knows");
}

#[test]
fn a_split_that_is_off_stops_decisions_until_somebody_resumes() {
    let mut rollout = Rollout::begin("r", plan(vec![stage(50.0, 10)]), 0).unwrap().0;
    let mut actions = Vec::new();
    for _ in 0..100 {
        let (arm, share) = (Arm::Control, share(50.0));
        actions.extend(rollout.on(Event::Exposed { arm, share, unit: None }, 0));
    }
    assert_eq!(verdicts(&actions), [Verdict::Pause]);
    assert_eq!(rollout.phase(), Phase::Paused(PausedBy::SampleRatio));
    feed(&mut rollout, Arm::Control, 0, 500);
    for _ in 0..20 {
        assert!(feed(&mut rollout, Arm::Candidate, 1, 4).is_empty(), "no figure is trusted");
    }
    rollout.on(Event::Resume, 0);
    assert_eq!(verdicts(&feed(&mut rollout, Arm::Candidate, 1, 0)), [Verdict::RollBack]);
}

#[test]
fn a_shadow_stage_compares_pairs_and_rolls_back_before_anybody_sees_an_answer() {
    let stages = vec![stage(0.0, 50), stage(5.0, 10)];
    let pair = |candidate, control| {
        let readings = |bad| Readings::default().with_flag(Guardrail::InvalidOutput, bad);
        let (candidate, control) = (readings(candidate), readings(control));
        Event::Compared(Pair { unit: None, candidate, control })
    };
    let (mut rollout, actions) = Rollout::begin("r", plan(stages.clone()), 0).unwrap();
    assert_eq!(actions, [Action::Steer { share: Share::NONE, is_shadow: true, is_harm: false }]);
    for at in 0..50 {
        assert!(rollout.on(pair(at % 10 == 0, at % 10 == 0), 0).is_empty(), "both alike");
    }
    assert_eq!(verdicts(&rollout.on(Event::Tick, MINUTE_MS)), [Verdict::Promote]);

    let (mut rollout, _) = Rollout::begin("r", plan(stages), 0).unwrap();
    let needed = (1..100).find(|_| !rollout.on(pair(true, false), 0).is_empty()).unwrap();
    assert!(needed < 20, "{needed}");
    assert_eq!(rollout.phase(), Phase::RolledBack);
}

#[test]
fn one_bad_user_on_the_candidate_does_not_roll_it_back() {
    let mut rollout = begun();
    feed(&mut rollout, Arm::Control, 5, 495);
    for at in 0..400 {
        let has_failed = at % 8 != 0;
        let Event::Observed(mut observation) = seen(Arm::Candidate, share(5.0), has_failed) else {
            unreachable!()
        };
        observation.unit = Some(77);
        assert!(rollout.on(Event::Observed(observation), 0).is_empty());
    }
}

#[test]
fn a_rollout_that_was_stored_goes_on_where_it_was() {
    let mut rollout = begun();
    feed(&mut rollout, Arm::Control, 2, 300);
    feed(&mut rollout, Arm::Candidate, 1, 3);
    let stored = serde_json::to_string(&rollout).unwrap();
    let mut restored: Rollout = serde_json::from_str(&stored).unwrap();
    assert_eq!(restored, rollout);
    for _ in 0..30 {
        let ours = feed(&mut rollout, Arm::Candidate, 1, 3);
        assert_eq!(feed(&mut restored, Arm::Candidate, 1, 3), ours);
    }
    assert_eq!(rollout.phase(), Phase::RolledBack);
    assert_eq!(restored, rollout);
}

#[test]
fn an_undecided_stage_holds_and_then_asks() {
    let mut rollout = begun();
    feed(&mut rollout, Arm::Control, 2, 188);
    feed(&mut rollout, Arm::Candidate, 1, 4);
    feed(&mut rollout, Arm::Candidate, 1, 5);
    assert_eq!(verdicts(&rollout.on(Event::Tick, MINUTE_MS)), [Verdict::Hold]);
    assert!(rollout.on(Event::Tick, 2 * MINUTE_MS).is_empty(), "said once");
    let actions = rollout.on(Event::Tick, 24 * 60 * MINUTE_MS);
    assert_eq!(verdicts(&actions), [Verdict::Pause]);
    assert!(matches!(&actions[0], Action::Page(why) if why.starts_with("undecided for too long")));
}

#[test]
fn beyond_its_bound_a_rollout_grows_neither_by_itself_nor_by_hand() {
    let mut rollout = begun();
    let bound = Bound { most: share(5.0), why: "there is no verdict".to_owned() };
    assert!(rollout.on(Event::Bounded(bound), 0).is_empty());
    feed(&mut rollout, Arm::Control, 0, 190);
    feed(&mut rollout, Arm::Candidate, 0, 10);
    let actions = rollout.on(Event::Tick, MINUTE_MS);
    let [Action::Record(decision)] = &actions[..] else { panic!("{actions:?}") };
    assert_eq!((decision.verdict, &decision.cause), (Verdict::Hold, &Cause::Compatibility));
    assert!(decision.sentence.contains("there is no verdict"), "{}", decision.sentence);
    assert!(rollout.on(Event::Tick, MINUTE_MS + 1).is_empty(), "it is said once");
    for event in [Event::Promote, Event::SetShare(share(6.0))] {
        assert_eq!(rollout.on(event, 0), [Action::Refuse(Refusal::Bounded)]);
    }
    assert_eq!(verdicts(&rollout.on(Event::SetShare(share(4.0)), MINUTE_MS)), [Verdict::Set]);
    rollout.on(Event::SetShare(share(5.0)), MINUTE_MS);
    let stored = serde_json::to_string(&rollout).unwrap();
    let mut rollout: Rollout = serde_json::from_str(&stored).unwrap();
    assert_eq!(rollout.bound().most, share(5.0), "it is stored");
    rollout.on(Event::Bounded(Bound::NONE), MINUTE_MS);
    feed(&mut rollout, Arm::Control, 0, 190);
    feed(&mut rollout, Arm::Candidate, 0, 10);
    let actions = rollout.on(Event::Tick, 3 * MINUTE_MS);
    assert_eq!(verdicts(&actions), [Verdict::Promote], "{actions:?}");
}

#[test]
fn a_shadow_stage_needs_no_bound_and_a_bound_takes_nothing_back() {
    let stages = vec![stage(0.0, 1), stage(5.0, 1), stage(50.0, 1)];
    let mut rollout = Rollout::begin("r", plan(stages), 0).unwrap().0;
    let none = Bound { most: Share::NONE, why: "incompatible".to_owned() };
    rollout.on(Event::Bounded(none.clone()), 0);
    assert!(rollout.is_shadowing());
    rollout.on(Event::Bounded(Bound::NONE), 0);
    rollout.on(Event::SetShare(share(5.0)), 0);
    rollout.on(Event::Bounded(none), 0);
    assert_eq!(rollout.share(), share(5.0));
}
