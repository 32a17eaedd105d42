//! Purges in the store.

use super::*;

#[tokio::test]
async fn a_purge_takes_the_rows_that_it_is_about_also_those_that_no_process_holds() {
    let of = |caller: &str| Owner {
        team: Some(TeamId::new("t")),
        route: RouteName::new(if caller == "bob" { "other" } else { "faq" }),
        prompt: Some("support@1".to_owned()),
        tags: vec![("env".to_owned(), caller.to_owned())],
        ..owner(caller)
    };
    let some = |text: &str| Some(text.to_owned());
    let purges = [
        (Purge { team: some("t"), ..Purge::default() }, 2_usize),
        (Purge { caller: some("ann"), ..Purge::default() }, 1),
        (Purge { route: some("other"), ..Purge::default() }, 1),
        (Purge { tag: Some(("env".to_owned(), "ann".to_owned())), ..Purge::default() }, 1),
        (Purge { prompt: some("support"), ..Purge::default() }, 2),
        (Purge { prompt: some("support@2"), ..Purge::default() }, 0),
        (Purge::default(), 3),
    ];
    for place in places() {
        for (purge, about) in purges.clone() {
            let mut writer = Node::at(place.again());
            for owner in [of("ann"), of("bob"), owner("eve")] {
                writer.keep(owner, ASK, writer.mark()).unwrap();
            }
            writer.turn().await.unwrap();
            assert_eq!(writer.rows().await, 3);
            let mut purger = Node::at(place.again());
            assert_eq!(purger.purge(&purge), 0, "it holds nothing");
            purger.turn().await.unwrap();
            assert_eq!(purger.rows().await, 3 - about, "{purge:?}");
            assert_eq!(purger.meanings.fill().entries, 3 - about as u64);
            writer.turn().await.unwrap();
            assert_eq!(writer.meanings.fill().entries, 3 - about as u64, "{purge:?}");
            purger.purge(&Purge::default());
            purger.turn().await.unwrap();
        }
    }
}

#[tokio::test]
async fn what_is_kept_after_a_purge_stays() {
    for place in places() {
        let mut here = Node::at(place.store.clone());
        here.keep(owner("ann"), ASK, here.mark()).unwrap();
        here.turn().await.unwrap();
        here.purge(&Purge::default());
        assert!(!here.has("ann", ASK));
        // The same words and others, before the purge has gone through the store.
        here.keep(owner("ann"), ASK, here.mark()).unwrap();
        here.keep(owner("ann"), "What is a set?", here.mark()).unwrap();
        for _ in 0..3 {
            here.turn().await.unwrap();
            assert!(here.has("ann", ASK) && here.has("ann", "What is a set?"));
            assert_eq!(here.rows().await, 2);
        }
        let mut there = Node::at(place.again());
        there.turn().await.unwrap();
        assert_eq!(there.meanings.fill().entries, 2);
    }
}

#[tokio::test]
async fn what_was_made_before_a_purge_and_written_after_it_does_not_come_back() {
    for place in places() {
        let (mut here, mut there) = (Node::at(place.store.clone()), Node::at(place.again()));
        // It is on its way to the store while the purge goes through the rows.
        there.keep(owner("ann"), ASK, there.mark()).unwrap();
        here.purge(&Purge::default());
        here.turn().await.unwrap();
        there.turn().await.unwrap();
        assert_eq!(there.rows().await, 1);
        here.turn().await.unwrap();
        assert!(!here.has("ann", ASK));
        there.turn().await.unwrap();
        assert_eq!((there.rows().await, there.meanings.fill().entries), (0, 0));
    }
}

#[tokio::test]
async fn a_purge_while_an_answer_is_kept_leaves_nothing() {
    for place in places() {
        let mut here = Node::at(place.store.clone());
        let mut kept = 0;
        for round in 0..60_u32 {
            let since = here.mark();
            let text = format!("What is number {round}?");
            let barrier = std::sync::Barrier::new(2);
            let result = std::thread::scope(|scope| {
                let purging = scope.spawn(|| {
                    barrier.wait();
                    here.purge(&Purge::default())
                });
                barrier.wait();
                let result = here.keep(owner("ann"), &text, since);
                purging.join().unwrap();
                result
            });
            kept += u32::from(result.is_ok());
            assert!(!here.has("ann", &text), "round {round}");
            here.turn().await.unwrap();
            here.turn().await.unwrap();
            assert!(!here.has("ann", &text), "round {round}");
            assert_eq!(here.rows().await, 0, "round {round}");
        }
        println!("kept first in {kept} of 60 rounds");
    }
}

#[tokio::test]
async fn while_the_store_is_away_entries_are_in_memory_purges_wait_and_labels_stay_in_line() {
    for mut place in places() {
        let Some(server) = &mut place.server else { continue };
        let mut here = Node::at(place.store.clone());
        here.keep(owner("ann"), ASK, here.mark()).unwrap();
        here.learn("key ann", 5);
        here.turn().await.unwrap();
        server.stop();
        here.keep(owner("ann"), "What is a set?", here.mark()).unwrap();
        here.keep(owner("bob"), "What is a set?", here.mark()).unwrap();
        here.learn("key ann", 7);
        here.turn().await.unwrap_err();
        assert_eq!(here.meanings.writes(), [("written", 1), ("dropped", 0), ("failed", 2)]);
        let ann = Purge { caller: Some("ann".to_owned()), ..Purge::default() };
        assert_eq!(here.purge(&ann), 2);
        here.turn().await.unwrap_err();
        assert!(here.has("bob", "What is a set?") && !here.has("ann", ASK));
        assert_eq!(here.labels(), [12]);
        server.start_again();
        recover(&mut here).await;
        assert_eq!(here.rows().await, 0);
        assert!(here.has("bob", "What is a set?") && !here.has("ann", ASK));
        let mut there = Node::at(place.again());
        there.turn().await.unwrap();
        assert_eq!((there.labels(), there.meanings.fill().entries), (vec![12], 0));
    }
}

#[tokio::test]
async fn a_purge_is_carried_out_by_whoever_is_started_next() {
    for place in places() {
        let mut here = Node::at(place.store.clone());
        here.keep(owner("ann"), ASK, here.mark()).unwrap();
        here.turn().await.unwrap();
        // It is written down, and no more: the node ends.
        here.meanings.core.cache.purge(&Purge::default());
        let Node { meanings, calibrations, read, .. } = &mut here;
        meanings.core.note_purges(&calibrations.purges, read).await.unwrap();
        assert_eq!(calibrations.purges.all().await.unwrap().len(), 1);
        drop(here);
        let mut next = Node::at(place.again());
        next.turn().await.unwrap();
        assert_eq!(next.meanings.fill().entries, 0);
        assert!(next.calibrations.purges.all().await.unwrap().is_empty());
        let (changes, _) = next.rows.changes(Cursor::default(), PAGE).await.unwrap();
        assert!(changes.iter().all(|change| matches!(change, Change::Removed(_))), "{changes:?}");
    }
}

#[tokio::test]
async fn a_node_without_an_embedder_carries_out_purges_and_reads_nothing_else() {
    for place in places() {
        let mut here = Node::at(place.store.clone());
        here.keep(owner("ann"), ASK, here.mark()).unwrap();
        here.turn().await.unwrap();
        let mut without = Node::at(place.again());
        without.meanings.set_embedders(std::collections::BTreeMap::new());
        without.turn().await.unwrap();
        assert_eq!(without.meanings.fill().entries, 0);
        without.meanings.core.cache.purge(&Purge::default());
        without.turn().await.unwrap();
        let (changes, _) = without.rows.changes(Cursor::default(), PAGE).await.unwrap();
        assert!(changes.iter().all(|change| matches!(change, Change::Removed(_))), "{changes:?}");
    }
}

#[tokio::test]
async fn the_same_words_are_found_without_a_vector_and_without_proof() {
    for place in places() {
        let mut here = Node::at(place.store.clone());
        here.keep(owner("ann"), ASK, here.mark()).unwrap();
        here.turn().await.unwrap();
        let mut there = Node::at(place.again());
        there.turn().await.unwrap();
        let recall = |caller: &str, text: &str, may: bool| {
            there.meanings.recall(&words(caller, text), |_| may, Instant::now())
        };
        assert_eq!(recall("ann", ASK, true), Some(kept(owner("ann"), "It maps.")));
        assert_eq!(recall("ann", ASK, false), None);
        assert_eq!(recall("bob", ASK, true), None);
        assert_eq!(recall("ann", "What's a hash map?", true), None);
        assert!(there.meanings.figures().is_empty());
    }
}
