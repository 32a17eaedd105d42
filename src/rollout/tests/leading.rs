//! Tests of the leader: nothing is lost, nothing counts twice, nobody acts twice.

use super::*;

#[tokio::test]
async fn a_candidate_that_fails_is_rolled_back_for_all_nodes() {
    for place in places() {
        let (mut a, b) = (Node::of(&place), Node::of(&place));
        let record = a.begin(plan(&[5.0, 50.0], 1_000)).await;
        assert_eq!((a.share(), b.share()), (Some(5.0), None));
        b.ledger.load().await.unwrap();
        assert_eq!(b.share(), Some(5.0));

        let mut led = Led::by(&a);
        led.after(0.0).await;
        a.note(&record.id, &traffic(1, 2_000, 0.0, 1.0)).await;
        led.after(0.2).await;
        let now = a.ledger.find(&record.id).await.unwrap();
        assert_eq!(now.rollout.phase(), Phase::RolledBack);
        assert!(!now.is_live && now.is_harm && now.ended_at_ms == Some(NOW));
        assert_eq!(a.share(), None);
        assert!(a.ledger.rollouts().steering().is_harmful(&record.id));
        b.ledger.load().await.unwrap();
        assert_eq!(b.share(), None);
        assert!(b.ledger.rollouts().steering().is_harmful(&record.id));

        let decisions = b.ledger.decisions(&record.id, 10).await.unwrap();
        assert_eq!(decisions.len(), 1);
        assert_eq!(decisions[0].actor, "gateway");
        let sentence = &decisions[0].decision.sentence;
        assert!(sentence.contains("candidate fail"), "{sentence}");
        let again = a.ledger.begin(new_rollout(plan(&[5.0], 1)), None, &by(), |_| false).await;
        assert!(matches!(again, Err(RolloutError::Quarantined { .. })), "{again:?}");
        let mut forced = new_rollout(plan(&[5.0], 1));
        forced.force = true;
        a.ledger.begin(forced, None, &by(), |_| false).await.unwrap();
        // A minute later nobody is told to leave it any more.
        a.clock.0.store(NOW + 61_000, Ordering::Relaxed);
        a.ledger.steer();
        assert!(!a.ledger.rollouts().steering().is_harmful(&record.id));
        // Notes that come late are of no use to anybody.
        a.note(&record.id, &traffic(2, 10, 0.0, 0.0)).await;
        led.after(11.0).await;
        assert_eq!(a.count("rollout_notes").await, 0);
    }
}

#[tokio::test]
async fn what_a_killed_leader_had_read_and_not_written_is_read_again_once() {
    for place in places() {
        let (mut a, b) = (Node::of(&place), Node::of(&place));
        let plan = plan(&[5.0, 50.0], 1_000_000);
        let record = a.begin(plan.clone()).await;
        let seen = traffic(7, 1_500, 0.01, 0.02);
        let (first, then) = seen.split_at(900);

        let mut led = Led::by(&a);
        led.after(0.0).await;
        a.note(&record.id, first).await;
        led.after(0.2).await;
        led.after(2.0).await;
        let written = b.ledger.find(&record.id).await.unwrap();
        assert_eq!(written.rollout, reference(&record.id, plan.clone(), first));
        a.note(&record.id, then).await;
        led.after(0.2).await;
        // It has read all of it, and is killed before it writes.
        drop(led);
        let written = b.ledger.find(&record.id).await.unwrap();
        assert_eq!(written.rollout, reference(&record.id, plan.clone(), first));

        let mut next = Led::by(&b);
        next.after(0.0).await;
        assert!(!next.leader.is_leading(), "the lease of the killed one is still fresh");
        next.take_over().await;
        next.after(2.1).await;
        let written = b.ledger.find(&record.id).await.unwrap();
        assert_eq!(written.rollout, reference(&record.id, plan, &seen));
        assert_eq!(b.count("rollout_notes").await, 0);
    }
}

#[tokio::test]
async fn of_two_leaders_only_one_acts() {
    for place in places() {
        let (mut a, b) = (Node::of(&place), Node::of(&place));
        let record = a.begin(plan(&[5.0, 50.0], 1_000_000)).await;
        let (mut first, mut second) = (Led::by(&a), Led::by(&b));
        first.after(0.0).await;
        second.after(0.0).await;
        a.note(&record.id, &traffic(3, 400, 0.0, 0.0)).await;
        first.after(0.2).await;
        // The first one stands still with what it has read in memory; the second one leads, reads
        // what comes, and rolls back.
        second.take_over().await;
        a.note(&record.id, &traffic(4, 400, 0.0, 1.0)).await;
        second.after(0.2).await;
        let after = b.ledger.find(&record.id).await.unwrap();
        assert_eq!(after.rollout.phase(), Phase::RolledBack);
        // The first one wakes up, believes to lead, and finds out.
        first.leader.stop().await.unwrap();
        first.after(0.0).await;
        first.after(5.0).await;
        assert_eq!(a.ledger.fences_failed(), 1);
        let now = a.ledger.find(&record.id).await.unwrap();
        assert_eq!((now.version, &now.rollout), (after.version, &after.rollout));
        assert_eq!(a.count("rollout_decisions").await, 1);
        assert_eq!(a.count("audit WHERE action = 'rollout.roll_back'").await, 1);
    }
}

#[tokio::test]
async fn a_command_between_reading_and_writing_comes_first_and_no_note_is_lost() {
    for place in places() {
        let (mut a, b) = (Node::of(&place), Node::of(&place));
        let plan = plan(&[5.0, 50.0], 1_000_000);
        let record = a.begin(plan.clone()).await;
        let mut led = Led::by(&a);
        led.after(0.0).await;
        let seen = traffic(5, 800, 0.01, 0.01);
        a.note(&record.id, &seen).await;
        led.after(0.2).await;
        b.command(&record.id, Event::Pause).await.unwrap();
        // What the leader has in memory is of before the pause. It is not what is written.
        led.after(2.1).await;
        led.after(2.1).await;
        let now = b.ledger.find(&record.id).await.unwrap();
        let mut expected = Rollout::begin(&record.id, plan, NOW).unwrap().0;
        expected.on(Event::Pause, NOW);
        for seen in &seen {
            let (arm, share, unit) = (seen.arm, seen.share, seen.unit);
            expected.on(Event::Exposed { arm, share, unit }, NOW);
            expected.on(Event::Observed(seen.clone()), NOW);
        }
        assert_eq!(now.rollout, expected);
        assert_eq!(b.count("rollout_notes").await, 0);
    }
}

#[tokio::test]
async fn a_batch_that_is_written_again_counts_once() {
    for place in places() {
        let mut a = Node::of(&place);
        let plan = plan(&[5.0, 50.0], 1_000_000);
        let record = a.begin(plan.clone()).await;
        let mut led = Led::by(&a);
        led.after(0.0).await;
        let seen = traffic(6, 100, 0.01, 0.01);
        a.note(&record.id, &seen).await;
        let mut connection = a.ledger.shared.store.connect().await.unwrap();
        let row = "SELECT node, seq, notes FROM rollout_notes";
        let row = sqlx::query(row).fetch_one(&mut connection).await.unwrap();
        led.after(0.2).await.after(2.1).await;
        assert_eq!(a.count("rollout_notes").await, 0);
        // The node never heard that it was written.
        sqlx::query(
            "INSERT INTO rollout_notes (rollout, node, seq, notes) VALUES ($1, $2, $3, $4)",
        )
        .bind(&record.id)
        .bind(row.try_get::<String, _>("node").unwrap())
        .bind(row.try_get::<i64, _>("seq").unwrap())
        .bind(row.try_get::<String, _>("notes").unwrap())
        .execute(&mut connection)
        .await
        .unwrap();
        a.note(&record.id, &traffic(8, 50, 0.01, 0.01)).await;
        led.after(0.2).await.after(2.1).await;
        let all = [seen, traffic(8, 50, 0.01, 0.01)].concat();
        let now = a.ledger.find(&record.id).await.unwrap();
        assert_eq!(now.rollout, reference(&record.id, plan, &all));
        assert_eq!(a.count("rollout_notes").await, 0);
    }
}

/// Whatever happens in whatever order: two nodes lead, are killed, come back and stand still; in
/// the end every note is in the state once.
#[tokio::test]
async fn leaders_that_are_killed_at_any_point_lose_nothing_and_count_nothing_twice() {
    for place in places() {
        for seed in 0..4 {
            let mut rng = StdRng::seed_from_u64(seed);
            let mut nodes = [Node::of(&place), Node::of(&place)];
            let plan = plan(&[5.0, 50.0], 1_000_000);
            let mut new = new_rollout(plan.clone());
            let name = format!("smart-{seed}");
            new.content = format!("route {name} up/beta");
            new.subject = Subject::of("route", &name, "up/alpha", "up/beta").unwrap();
            let record = nodes[0].ledger.begin(new, None, &by(), |_| false).await.unwrap();
            let mut leds = [Led::by(&nodes[0]), Led::by(&nodes[1])];
            let mut seen = Vec::new();
            for round in 0..40 {
                let which = rng.random_range(0..2);
                match rng.random_range(0..10) {
                    0..4 => {
                        let more = traffic(seed * 1_000 + round, 30, 0.01, 0.01);
                        nodes[0].note(&record.id, &more).await;
                        seen.extend(more);
                    }
                    4 => leds[which] = Led::by(&nodes[which]),
                    _ => drop(leds[which].after(rng.random_range(0.0..2.5)).await),
                }
            }
            let mut last = Led::by(&nodes[1]);
            last.take_over().await;
            last.after(2.1).await;
            last.after(2.1).await;
            let now = nodes[1].ledger.find(&record.id).await.unwrap();
            assert_eq!(now.rollout, reference(&record.id, plan, &seen), "seed {seed}");
            nodes[1].command(&record.id, Event::RollBack("over".to_owned())).await.unwrap();
            last.leader.stop().await.unwrap();
        }
    }
}

#[tokio::test]
async fn stages_pass_by_themselves_but_not_in_a_freeze() {
    for place in places() {
        let mut a = Node::of(&place);
        let record = a.begin(plan(&[5.0, 50.0], 10)).await;
        let mut led = Led::by(&a);
        led.after(0.0).await;
        a.note(&record.id, &traffic(9, 600, 0.0, 0.0)).await;
        led.after(0.2).await;
        a.clock.0.store(NOW + 61_000, Ordering::Relaxed);
        let freeze = FreezeSettings {
            from: "2023-11-01".to_owned(),
            to: "2023-11-30".to_owned(),
            why: "holidays".to_owned(),
        };
        let frozen = RolloutSettings { freeze: vec![freeze] };
        led.now += Duration::from_secs(2);
        led.leader.step(led.now, &frozen).await.unwrap();
        assert_eq!(a.share(), Some(5.0));
        led.after(2.0).await;
        assert_eq!(a.share(), Some(50.0));
        // An operator may not let it grow either, but shrink.
        let window = || Some(("2023-11-30".to_owned(), "holidays".to_owned()));
        let set = |percent| Command {
            event: Event::SetShare(Share::from_percent(percent).unwrap()),
            if_revision: None,
            reason: None,
        };
        let grown = a.ledger.command(&record.id, &set(60.0), window(), &by()).await;
        assert!(matches!(grown, Err(RolloutError::FreezeWindow { .. })), "{grown:?}");
        a.ledger.command(&record.id, &set(10.0), window(), &by()).await.unwrap();
        assert_eq!(a.share(), Some(10.0));
    }
}

#[tokio::test]
async fn what_a_shadow_costs_is_taken_from_what_it_may_cost() {
    for place in places() {
        let a = Node::of(&place);
        let shadow =
            Stage { share: Share::NONE, min_time: HumanDuration::secs(60), min_requests: 1_000 };
        let mut new = new_rollout(plan(&[5.0], 1));
        new.plan.stages.insert(0, shadow);
        let sample = Share::from_percent(10.0).unwrap();
        new.shadow = Some(ShadowSettings { sample, usd: MicroUsd(1_000) });
        let record = a.ledger.begin(new, None, &by(), |_| false).await.unwrap();
        let left = |node: &Node| {
            let steering = node.ledger.rollouts().steering();
            steering.routes[&RouteName::new("smart")].shadow.map(|shadow| shadow.left)
        };
        assert_eq!(left(&a), Some(MicroUsd(1_000)));
        let readings = |cost| Readings::default().with(Guardrail::Cost, cost);
        for _ in 0..3 {
            let pair = Pair { unit: None, candidate: readings(150.0), control: readings(100.0) };
            a.ledger
                .rollouts()
                .note(Note { rollout: (*record.id).into(), noted: Noted::Compared(pair) });
            // What came of it does not matter to the money.
            let noted = Noted::Spent(MicroUsd(150));
            a.ledger.rollouts().note(Note { rollout: (*record.id).into(), noted });
        }
        let mut a = a;
        a.notebook.flush().await.unwrap();
        let mut led = Led::by(&a);
        led.after(0.0).await.after(2.1).await;
        assert_eq!(left(&a), Some(MicroUsd(550)));
        assert_eq!(a.ledger.find(&record.id).await.unwrap().spent, MicroUsd(450));
    }
}
