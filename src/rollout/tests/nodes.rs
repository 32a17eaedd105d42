//! Tests of what nodes know: of each other's changes, and of rollouts while the store is away.

use super::*;
use crate::policy::rollout::Bound;

#[tokio::test]
async fn a_node_that_only_polls_knows_a_change_within_a_second() {
    for place in places().into_iter().filter(|place| place.server.is_some()) {
        let (a, b) = (Node::of(&place), Node::of(&place));
        let changes = async {
            let record = a.begin(plan(&[1.0, 50.0], 1)).await;
            let mut slowest = Duration::ZERO;
            for percent in [1.0, 25.0, 10.0, 60.0, 0.0] {
                let share = Share::from_percent(percent).unwrap();
                if percent > 1.0 || percent == 0.0 {
                    a.command(&record.id, Event::SetShare(share)).await.unwrap();
                }
                assert_eq!(a.share(), Some(percent), "at once where it was said");
                let said = Instant::now();
                while b.share() != Some(percent) {
                    tokio::task::yield_now().await;
                }
                slowest = slowest.max(said.elapsed());
            }
            slowest
        };
        let slowest = tokio::select! {
            slowest = changes => slowest,
            () = b.ledger.clone().run() => unreachable!("it runs for ever"),
        };
        assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    }
}

#[tokio::test]
async fn nodes_say_which_revision_they_serve() {
    for place in places() {
        let a = Node::of(&place);
        let record = a.begin(plan(&[1.0, 50.0], 1)).await;
        a.command(&record.id, Event::Pause).await.unwrap();
        let seen = async {
            loop {
                let nodes = a.ledger.nodes(&record.id).await.unwrap();
                if nodes.first().is_some_and(|node| node.revision == 2) {
                    return nodes;
                }
            }
        };
        let nodes = tokio::select! {
            nodes = seen => nodes,
            () = a.ledger.clone().run() => unreachable!("it runs for ever"),
        };
        assert_eq!(nodes, [NodeSeen { name: "a".to_owned(), revision: 2, at_ms: NOW }]);
    }
}

/// The loop writes the snapshot; here it is told by the file being there.
async fn until_saved(node: &Node, file: &std::path::Path, words: &str) {
    let is_saved = async {
        while !std::fs::read_to_string(file).is_ok_and(|text| text.contains(words)) {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        () = is_saved => {}
        () = node.ledger.clone().run() => unreachable!("it runs for ever"),
    }
}

#[tokio::test]
async fn a_node_that_starts_without_the_store_steers_as_before() {
    for mut place in places() {
        let Some(mut server) = place.server.take() else { continue };
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("callers.snapshot.rollouts");
        let a = Node::keeping(&place, Some(file.clone()));
        let record = a.begin(plan(&[1.0, 50.0], 1)).await;
        let share = Share::from_percent(25.0).unwrap();
        a.command(&record.id, Event::SetShare(share)).await.unwrap();
        until_saved(&a, &file, "2500").await;
        server.stop();
        let b = Node::keeping(&place, Some(file.clone()));
        b.ledger.load().await.unwrap_err();
        assert_eq!(b.share(), Some(25.0));
        assert!(b.ledger.trouble().is_some());
        // What runs goes on as it was.
        a.ledger.load().await.unwrap_err();
        assert_eq!(a.share(), Some(25.0));

        server.start_again();
        a.command(&record.id, Event::RollBack("odd".to_owned())).await.unwrap();
        until_saved(&a, &file, "rolled_back").await;
        server.stop();
        let b = Node::keeping(&place, Some(file));
        b.ledger.load().await.unwrap_err();
        assert_eq!(b.share(), None, "what was rolled back does not come back");
    }
}

#[tokio::test]
async fn notes_wait_while_the_store_is_away_and_are_counted_where_too_many_do() {
    for mut place in places() {
        let Some(mut server) = place.server.take() else { continue };
        let mut a = Node::of(&place);
        let plan = plan(&[5.0, 50.0], 1_000_000);
        let record = a.begin(plan.clone()).await;
        let seen = traffic(11, 5_000, 0.01, 0.01);
        server.stop();
        for seen in &seen {
            let noted = Noted::Observed(seen.clone());
            a.ledger.rollouts().note(Note { rollout: (*record.id).into(), noted });
        }
        a.notebook.flush().await.unwrap_err();
        assert_eq!((a.notebook.waiting(), a.ledger.lost_notes()), (5_000, 0));
        for seen in seen.iter().cycle().take(20_000) {
            let noted = Noted::Observed(seen.clone());
            a.ledger.rollouts().note(Note { rollout: (*record.id).into(), noted });
        }
        a.notebook.flush().await.unwrap_err();
        assert_eq!((a.notebook.waiting(), a.ledger.lost_notes()), (5_000, 20_000 - 16_384));

        server.start_again();
        a.notebook.flush().await.unwrap();
        a.notebook.flush().await.unwrap();
        let mut led = Led::by(&a);
        for _ in 0..20 {
            led.after(2.1).await;
        }
        let now = a.ledger.find(&record.id).await.unwrap();
        let candidates = |seen: &[Observation]| {
            seen.iter().filter(|seen| seen.arm == Arm::Candidate).count() as u64
        };
        let cycled: Vec<_> = seen.iter().cycle().take(16_384).cloned().collect();
        assert_eq!(now.rollout.analysis().requests(), candidates(&seen) + candidates(&cycled));
    }
}

#[tokio::test]
async fn a_rollout_of_the_same_requests_is_refused_unless_it_is_forced() {
    for place in places() {
        let a = Node::of(&place);
        let record = a.begin(plan(&[1.0], 1)).await;
        let busy = a.ledger.begin(new_rollout(plan(&[1.0], 1)), None, &by(), |_| false).await;
        assert!(matches!(busy, Err(RolloutError::Busy { id, .. }) if id == record.id));
        let prompt = |force| NewRollout {
            subject: Subject::of("prompt", "help", "1.0.0", "1.1.0").unwrap(),
            content: "prompt help x".to_owned(),
            force,
            ..new_rollout(plan(&[1.0], 1))
        };
        let meets = a.ledger.begin(prompt(false), None, &by(), |_| true).await;
        assert!(matches!(meets, Err(RolloutError::Meets { id, .. }) if id == record.id));
        let window = Some(("2026-12-24".to_owned(), "holidays".to_owned()));
        let frozen = a.ledger.begin(prompt(false), window.clone(), &by(), |_| false).await;
        assert!(matches!(frozen, Err(RolloutError::FreezeWindow { .. })));
        a.ledger.begin(prompt(true), window, &by(), |_| true).await.unwrap();
    }
}

#[tokio::test]
async fn a_rollout_that_is_done_steers_until_the_configuration_has_no_control() {
    for place in places() {
        let clock = Arc::new(Hands(AtomicU64::new(NOW)));
        let is_there = Arc::new(AtomicU64::new(1));
        let look = Arc::clone(&is_there);
        let around = Surroundings {
            is_steerable: Box::new(move |_| look.load(Ordering::Relaxed) == 1),
            ..Surroundings::none()
        };
        let rollouts = Rollouts::new();
        let ledger = RolloutLedger::new(place.again(), rollouts, "a", None, clock.clone(), around);
        let a = Node { notebook: Notebook::new(ledger.clone()), ledger, clock };
        let record = a.begin(plan(&[50.0], 1)).await;
        let record = a.command(&record.id, Event::Promote).await.unwrap();
        assert_eq!((record.rollout.phase(), a.share()), (Phase::Done, Some(100.0)));
        let busy = a.ledger.begin(new_rollout(plan(&[1.0], 1)), None, &by(), |_| false).await;
        assert!(matches!(busy, Err(RolloutError::Busy { .. })), "{busy:?}");
        // It can still be rolled back. Here it is not; the operator edits the file.
        is_there.store(0, Ordering::Relaxed);
        a.ledger.steer();
        assert_eq!(a.share(), None);
        a.ledger.settle_gone().await.unwrap();
        is_there.store(1, Ordering::Relaxed);
        a.ledger.steer();
        assert_eq!(a.share(), None, "a control that comes back is meant");
        a.ledger.begin(new_rollout(plan(&[1.0], 1)), None, &by(), |_| false).await.unwrap();
        let over = a.command(&record.id, Event::RollBack("late".to_owned())).await;
        assert!(matches!(over, Err(RolloutError::Refused(_))), "{over:?}");
    }
}

#[tokio::test]
async fn a_prompt_that_is_done_gives_its_labels_away_once_and_ends_a_minute_later() {
    for place in places() {
        let clock = Arc::new(Hands(AtomicU64::new(NOW)));
        let (moved, told) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (move_one, tell_one) = (Arc::clone(&moved), Arc::clone(&told));
        let around = Surroundings {
            finish: Box::new(move |connection, subject, by, _| {
                move_one.fetch_add(1, Ordering::Relaxed);
                let said = format!("{subject} by {}", by.name);
                Box::pin(async move {
                    let insert = "INSERT INTO settings (name, value) VALUES ($1, $2)";
                    let insert = sqlx::query(insert).bind("moved").bind(said.into_bytes());
                    insert.execute(connection).await.map(drop)
                })
            }),
            finished: Box::new(move || {
                tell_one.fetch_add(1, Ordering::Relaxed);
            }),
            ..Surroundings::none()
        };
        let wall: Arc<dyn WallClock> = Arc::<Hands>::clone(&clock);
        let ledger = RolloutLedger::new(place.again(), Rollouts::new(), "a", None, wall, around);
        let mut a = Node { notebook: Notebook::new(ledger.clone()), ledger, clock };
        let mut new = new_rollout(plan(&[5.0, 100.0], 1));
        new.subject = Subject::of("prompt", "help", "1.0.0", "1.1.0").unwrap();
        let record = a.ledger.begin(new, None, &by(), |_| false).await.unwrap();
        let mut led = Led::by(&a);
        led.after(0.0).await;
        a.note(&record.id, &traffic(3, 200, 0.0, 0.0)).await;
        for seconds in [61, 122] {
            a.clock.0.store(NOW + seconds * 1_000, Ordering::Relaxed);
            a.note(&record.id, &traffic(4, 200, 0.0, 0.0)).await;
            led.after(1.1).await.after(1.1).await;
        }
        let done = a.ledger.find(&record.id).await.unwrap();
        assert_eq!((done.rollout.phase(), done.is_live), (Phase::Done, true));
        assert_eq!(a.count("settings WHERE name = 'moved'").await, 1);
        let counts = || (moved.load(Ordering::Relaxed), told.load(Ordering::Relaxed));
        assert_eq!(counts(), (1, 1));
        let share = || {
            let steering = a.ledger.rollouts().steering();
            steering.prompts.values().next().map(|steered| steered.share.percent())
        };
        assert_eq!(share(), Some(100.0), "until all nodes know the labels");
        let over = a.command(&record.id, Event::RollBack("late".to_owned())).await;
        assert!(matches!(over, Err(RolloutError::Refused(_))), "{over:?}");
        a.clock.0.store(NOW + 200_000, Ordering::Relaxed);
        led.after(11.0).await;
        assert_eq!(share(), None);
        assert_eq!(counts(), (1, 1));
    }
}

#[tokio::test]
async fn what_is_not_known_to_be_compatible_begins_and_grows_by_force_alone() {
    for place in places() {
        let clock = Arc::new(Hands(AtomicU64::new(NOW)));
        let most = Arc::new(AtomicU64::new(500));
        let look = Arc::clone(&most);
        let around = Surroundings {
            bound: Box::new(move |_| {
                let most = Share::try_from(look.load(Ordering::Relaxed) as u16).unwrap();
                let bound = Bound { most, why: "run the suite".to_owned() };
                Box::pin(std::future::ready(Ok(bound)))
            }),
            ..Surroundings::none()
        };
        let wall: Arc<dyn WallClock> = Arc::<Hands>::clone(&clock);
        let ledger = RolloutLedger::new(place.again(), Rollouts::new(), "a", None, wall, around);
        let refused = |result: Result<_, RolloutError>| match result {
            Err(error @ (RolloutError::Incompatible { .. } | RolloutError::Bounded { .. })) => {
                error.to_string()
            }
            other => panic!("{other:?}"),
        };
        let large = new_rollout(plan(&[20.0, 100.0], 1));
        let told = refused(ledger.begin(large.clone(), None, &by(), |_| false).await);
        assert_eq!(told, "run the suite, or say \"force\": true");
        let small = new_rollout(plan(&[5.0, 100.0], 1));
        let record = ledger.begin(small, None, &by(), |_| false).await.unwrap();
        let promote = Command { event: Event::Promote, if_revision: None, reason: None };
        let told = refused(ledger.command(&record.id, &promote, None, &by()).await);
        assert!(told.ends_with("roll it back and begin it again with \"force\": true"), "{told}");
        most.store(10_000, Ordering::Relaxed);
        let grown = ledger.command(&record.id, &promote, None, &by()).await.unwrap();
        assert_eq!(grown.rollout.share(), Share::ALL);
        let end = Command { event: Event::RollBack("over".to_owned()), ..promote.clone() };
        ledger.command(&record.id, &end, None, &by()).await.unwrap();
        // Nothing is known again; who says so grows all the same.
        most.store(0, Ordering::Relaxed);
        let forced = NewRollout { force: true, ..large };
        let record = ledger.begin(forced, None, &by(), |_| false).await.unwrap();
        let grown = ledger.command(&record.id, &promote, None, &by()).await.unwrap();
        assert_eq!(grown.rollout.share(), Share::ALL);
    }
}
