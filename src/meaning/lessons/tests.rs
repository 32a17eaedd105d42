//! Tests of what is given, what is learnt, and how the labels of nodes come together.

#![expect(clippy::print_stdout, reason = "the figures of simulations are worth reading")]

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use proptest::prelude::*;

use super::super::tests::domain;
use super::*;

mod simulated;

const GOOD: Label = Label { similarity: 0.95, same: true, is_audit: false };

fn taught(labels: impl IntoIterator<Item = Label>) -> (Lessons, Arc<Domain>) {
    let (mut lessons, domain) = (Lessons::default(), domain("key a"));
    for label in labels {
        lessons.learn(&domain, label);
    }
    (lessons, domain)
}

/// One that gives answers from 0.95 on.
fn serving() -> (Lessons, Arc<Domain>) {
    taught(std::iter::repeat_n(GOOD, 600))
}

fn serves(lessons: &Lessons) -> bool {
    matches!(lessons.figures()[0].mode, Mode::Serve { .. })
}

#[test]
fn what_is_not_proven_is_compared_and_never_given() {
    let (mut lessons, domain) = taught([]);
    for n in 0..400 {
        for similarity in [0.5, 0.95, 1.0] {
            let decision = lessons.decide(&domain, similarity, 0.999, false);
            assert_eq!(
                decision,
                Decision::Compare { is_audit: false, may_be_given: false },
                "after {n}"
            );
        }
        lessons.learn(&domain, GOOD);
    }
}

#[test]
fn decisions_follow_similarity_chance_and_the_wish_for_shadow() {
    use Decision::{Compare, Give, Leave};
    let (mut lessons, domain) = serving();
    let cases = [
        (0.95, 0.5, false, Give),
        (1.0, AUDITED, false, Give),
        (0.95, 0.029, false, Compare { is_audit: true, may_be_given: true }),
        (0.94, 0.029, false, Compare { is_audit: false, may_be_given: false }),
        (0.94, 0.5, false, Leave),
        (f64::NAN, 0.5, false, Leave),
        (0.95, 0.5, true, Leave),
        (0.95, 0.0, true, Compare { is_audit: true, may_be_given: false }),
        (0.94, 0.0, true, Compare { is_audit: false, may_be_given: false }),
    ];
    for (similarity, chance, only_shadow, wanted) in cases {
        let decision = lessons.decide(&domain, similarity, chance, only_shadow);
        assert_eq!(decision, wanted, "{similarity} {chance} {only_shadow}");
    }
    assert_eq!(lessons.figures()[0].counts.not_given, 7);
}

#[test]
fn one_in_33_is_compared_above_and_below_the_threshold() {
    let (mut lessons, domain) = serving();
    let mut random = StdRng::seed_from_u64(1);
    for similarity in [0.9, 0.97] {
        let compared = (0..100_000).filter(|_| {
            let decision = lessons.decide(&domain, similarity, random.random(), false);
            matches!(decision, Decision::Compare { .. })
        });
        let share = compared.count() as f64 / 100_000.0;
        assert!((share - 0.03).abs() < 0.002, "{similarity}: {share}");
    }
}

#[test]
fn an_alarm_ends_the_giving_is_counted_and_what_was_proven_is_forgotten() {
    let (mut lessons, domain) = serving();
    let wrong = Label { same: false, is_audit: true, ..GOOD };
    let needed = (1..50).find(|_| {
        lessons.learn(&domain, wrong);
        !serves(&lessons)
    });
    let figures = lessons.figures().remove(0);
    assert_eq!((needed, figures.alarms, figures.audited), (Some(2), 1, None), "{figures:?}");
    assert_eq!(figures.labels, 1, "the one that raised it");
    // A late audit of the time before counts as a label and does no more.
    lessons.learn(&domain, wrong);
    assert_eq!(lessons.figures()[0].alarms, 1);
    let clean = lessons.decide(&domain, 0.99, 0.5, false);
    assert_eq!(clean, Decision::Compare { is_audit: false, may_be_given: false });
}

#[test]
fn twenty_audits_without_a_verdict_suspend_and_one_verdict_resumes() {
    let (mut lessons, domain) = serving();
    let give = |lessons: &mut Lessons| lessons.decide(&domain, 0.99, 0.5, false) == Decision::Give;
    for _ in 0..1_000 {
        // What would not have been given says nothing of audits.
        lessons.miss_judge(&domain, false);
    }
    for n in 0..20 {
        assert!(give(&mut lessons), "after {n}");
        lessons.miss_judge(&domain, true);
    }
    assert!(!give(&mut lessons) && lessons.figures()[0].is_suspended);
    let compare = lessons.decide(&domain, 0.99, 0.999, false);
    assert_eq!(
        compare,
        Decision::Compare { is_audit: true, may_be_given: false },
        "every one may be the verdict"
    );
    lessons.miss_judge(&domain, true);
    lessons.learn(&domain, Label { is_audit: true, ..GOOD });
    assert!(give(&mut lessons) && !lessons.figures()[0].is_suspended);
    for _ in 0..19 {
        lessons.miss_judge(&domain, true);
    }
    lessons.learn(&domain, GOOD);
    lessons.miss_judge(&domain, true);
    assert!(give(&mut lessons), "not in a row");
}

#[test]
fn labels_of_one_domain_say_nothing_of_another() {
    let (mut lessons, _) = serving();
    let other = domain("key b");
    assert_ne!(lessons.decide(&other, 0.99, 0.5, false), Decision::Give);
    let Terms { route, tenant, space, judge, identity, settings } = other.terms.clone();
    let stricter = threshold::Settings { delta: 0.005, ..settings };
    let terms = |judge: &str, settings| Terms {
        route: route.clone(),
        tenant: tenant.clone(),
        space: space.clone(),
        judge: judge.to_owned(),
        identity: identity.clone(),
        settings,
    };
    let keys = [terms(&judge, settings), terms("other", settings), terms(&judge, stricter)]
        .map(|terms| Domain::of(terms).key().to_hex());
    assert!(keys[0] != keys[1] && keys[1] != keys[2] && keys[0] != keys[2]);
}

// === What the store has ===

/// Writes what waits as a store would: where nobody was quicker.
fn write(lessons: &mut Lessons, store: &mut (Calibration, i64)) -> Vec<Unstored> {
    let unstored = lessons.unstored();
    for lesson in &unstored {
        if lesson.version == store.1 {
            *store = (lesson.calibration.clone(), lesson.version + 1);
        }
    }
    unstored
}

fn labels(lessons: &Lessons) -> u64 {
    lessons.figures().first().map_or(0, |figures| figures.labels)
}

#[test]
fn labels_that_come_while_others_are_written_stay_in_line() {
    let (mut lessons, domain) = taught([GOOD; 3]);
    let mut store = (Calibration::default(), 0);
    let [written] = write(&mut lessons, &mut store).try_into().unwrap();
    lessons.learn(&domain, Label { same: false, ..GOOD });
    lessons.on_written(written);
    assert_eq!((labels(&lessons), lessons.of(&domain).pending.len()), (4, 1));
    let [written] = write(&mut lessons, &mut store).try_into().unwrap();
    lessons.on_written(written);
    assert!(lessons.unstored().is_empty());
    assert_eq!((store.0.threshold.labels(), store.1), (4, 2));
}

#[test]
fn what_comes_back_from_the_store_before_it_is_known_to_be_written_counts_once() {
    let (mut lessons, domain) = taught([GOOD; 3]);
    let mut store = (Calibration::default(), 0);
    let [written] = write(&mut lessons, &mut store).try_into().unwrap();
    lessons.on_stored(&domain, store.0.clone(), store.1);
    assert_eq!(labels(&lessons), 3);
    lessons.learn(&domain, GOOD);
    lessons.on_written(written);
    assert_eq!((labels(&lessons), lessons.of(&domain).pending.len()), (4, 1));
}

#[test]
fn what_others_wrote_on_top_is_not_undone_by_word_of_an_earlier_writing() {
    let (mut lessons, domain) = taught([GOOD; 3]);
    let mut store = (Calibration::default(), 0);
    let [written] = write(&mut lessons, &mut store).try_into().unwrap();
    let (mut other, _) = taught([]);
    other.on_stored(&domain, store.0.clone(), store.1);
    other.learn(&domain, GOOD);
    write(&mut other, &mut store);
    lessons.on_stored(&domain, store.0.clone(), store.1);
    lessons.on_written(written);
    assert_eq!((labels(&lessons), lessons.of(&domain).version), (4, 2));
    assert!(lessons.unstored().is_empty());
}

#[test]
fn a_writing_of_which_no_word_came_is_found_out_and_not_counted_again() {
    let (mut lessons, domain) = taught([GOOD; 3]);
    let mut store = (Calibration::default(), 0);
    // The connection is lost after the store has taken it; more labels come; then it is tried
    // again.
    write(&mut lessons, &mut store);
    lessons.learn(&domain, GOOD);
    write(&mut lessons, &mut store);
    assert_eq!(store.1, 1, "somebody was quicker: it was us");
    lessons.on_conflict(&domain, Some(store.clone()));
    assert_eq!((labels(&lessons), lessons.of(&domain).pending.len()), (4, 1));
    let [written] = write(&mut lessons, &mut store).try_into().unwrap();
    lessons.on_written(written);
    assert_eq!((labels(&lessons), store.0.threshold.labels(), store.1), (4, 4, 2));
}

#[test]
fn a_store_that_has_forgotten_or_is_an_old_copy_is_written_to_again() {
    let (mut lessons, domain) = taught([GOOD; 3]);
    let mut store = (Calibration::default(), 0);
    let mut copy = store.clone();
    for _ in 0..5 {
        lessons.learn(&domain, GOOD);
        let [written] = write(&mut lessons, &mut store).try_into().unwrap();
        lessons.on_written(written);
        if store.1 == 2 {
            copy = store.clone();
        }
    }
    assert_eq!((labels(&lessons), store.1), (8, 5));
    for (mut store, kept) in [(copy, 5), ((Calibration::default(), 0), 5)] {
        lessons.learn(&domain, GOOD);
        write(&mut lessons, &mut store);
        assert!(store.1 < 5, "it is not what is there");
        let found = (store.1 > 0).then(|| store.clone());
        lessons.on_conflict(&domain, found);
        let [written] = write(&mut lessons, &mut store).try_into().unwrap();
        lessons.on_written(written);
        assert!(labels(&lessons) > kept);
        assert_eq!(store.0.threshold.labels(), labels(&lessons));
    }
}

#[test]
fn labels_beyond_the_line_count_here_and_are_counted_as_lost() {
    let (mut lessons, domain) = taught(std::iter::repeat_n(GOOD, MOST_PENDING + 30));
    assert_eq!(lessons.figures()[0].counts.lost_labels, 30);
    assert_eq!(labels(&lessons), MOST_PENDING as u64 + 30);
    let mut store = (Calibration::default(), 0);
    let [written] = write(&mut lessons, &mut store).try_into().unwrap();
    lessons.on_written(written);
    assert_eq!((labels(&lessons), lessons.of(&domain).pending.len()), (MOST_PENDING as u64, 0));
}

#[test]
fn an_older_calibration_does_not_turn_back_what_is_known() {
    let (mut lessons, domain) = serving();
    let mut store = (Calibration::default(), 0);
    let [written] = write(&mut lessons, &mut store).try_into().unwrap();
    lessons.on_written(written);
    for version in [0, 1] {
        lessons.on_stored(&domain, Calibration::default(), version);
        assert!(serves(&lessons));
    }
    lessons.learn(&domain, GOOD);
    lessons.on_stored(&domain, Calibration::default(), 2);
    assert_eq!((serves(&lessons), labels(&lessons)), (false, 1), "the others found errors");
}

#[derive(Debug, Clone, Copy)]
enum Event {
    Learn {
        node: usize,
        same: bool,
        is_audit: bool,
    },
    /// Writes; the word that it was written may get lost, and what is there may be heard first.
    Write {
        node: usize,
        word_is_lost: bool,
        heard_first: bool,
    },
    Read {
        node: usize,
    },
}

fn event() -> impl Strategy<Value = Event> {
    let node = || 0..3_usize;
    prop_oneof![
        4 => (node(), prop::bool::weighted(0.9), any::<bool>())
            .prop_map(|(node, same, is_audit)| Event::Learn { node, same, is_audit }),
        3 => (node(), any::<bool>(), any::<bool>()).prop_map(|(node, word_is_lost, heard_first)| {
            Event::Write { node, word_is_lost, heard_first }
        }),
        1 => node().prop_map(|node| Event::Read { node }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Whatever order nodes write and read in, in the end all know all labels, each once.
    #[test]
    fn no_label_is_lost_and_none_counts_twice(
        events in prop::collection::vec(event(), 1..80),
    ) {
        let domain = domain("key a");
        let mut nodes = [Lessons::default(), Lessons::default(), Lessons::default()];
        let mut store = (Calibration::default(), 0);
        let mut learnt = 0;
        let turn = |lessons: &mut Lessons, store: &mut (Calibration, i64), lost, heard_first| {
            for unstored in lessons.unstored() {
                let is_taken = unstored.version == store.1;
                if is_taken {
                    *store = (unstored.calibration.clone(), store.1 + 1);
                }
                if heard_first {
                    lessons.on_stored(&domain, store.0.clone(), store.1);
                }
                match (is_taken, lost) {
                    (true, true) => {
                        // Nobody comes between: whoever waits for word looks next.
                        lessons.on_stored(&domain, store.0.clone(), store.1);
                    }
                    (true, false) => lessons.on_written(unstored),
                    (false, _) => lessons.on_conflict(&domain, Some(store.clone())),
                }
            }
        };
        for event in events {
            match event {
                Event::Learn { node, same, is_audit } => {
                    nodes[node].learn(&domain, Label { similarity: 0.9, same, is_audit });
                    learnt += 1;
                }
                Event::Write { node, word_is_lost, heard_first } => {
                    turn(&mut nodes[node], &mut store, word_is_lost, heard_first);
                }
                Event::Read { node } => {
                    nodes[node].on_stored(&domain, store.0.clone(), store.1);
                }
            }
        }
        // Each may lose two races to each other before all is written.
        for _ in 0..3 * nodes.len() {
            for node in nodes.iter_mut() {
                turn(node, &mut store, false, false);
            }
        }
        prop_assert_eq!(store.0.threshold.labels(), learnt);
        for node in &mut nodes {
            node.on_stored(&domain, store.0.clone(), store.1);
            prop_assert!(node.unstored().is_empty());
            let lesson = node.of(&domain);
            prop_assert_eq!(&lesson.now, &lesson.stored);
            prop_assert_eq!(&lesson.now.threshold, &store.0.threshold);
        }
    }
}

// === Simulations ===
