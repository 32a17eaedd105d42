//! Tests of entries: who finds which, and what goes first.

use proptest::prelude::*;

use super::super::tests::{HOUR, at, kept, owner, words};
use super::*;

const ASK: &str = "What is the capital of France?";

fn put(entries: &mut Entries, caller: &str, text: &str, vector: &Embedding) -> EntryId {
    let until = Instant::now() + HOUR;
    entries.put(words(caller, text), vector, (kept(owner(caller), text), until))
}

fn found(entries: &Entries, caller: &str, text: &str) -> Result<String, &'static str> {
    match entries.nearest(&words(caller, text), &at(1.0), Instant::now(), |_| true) {
        Nearest::Agrees(neighbour) => Ok(neighbour.text.to_string()),
        Nearest::Differs(difference) => Err(difference.as_str()),
        Nearest::Nothing => Err("nothing"),
    }
}

#[test]
fn nothing_passes_from_one_tenant_to_another() {
    let mut entries = Entries::new(1_000_000);
    put(&mut entries, "ann", ASK, &at(1.0));
    assert_eq!(found(&entries, "ann", "What's the capital of France?"), Ok(ASK.to_owned()));
    assert_eq!(found(&entries, "bob", ASK), Err("nothing"));
}

#[test]
fn the_most_similar_that_agrees_is_found_and_not_the_most_similar() {
    let mut entries = Entries::new(1_000_000);
    put(&mut entries, "ann", "What is the capital of Spain?", &at(0.99));
    assert_eq!(found(&entries, "ann", ASK), Err("name"));
    put(&mut entries, "ann", "What's the capital of France?", &at(0.80));
    put(&mut entries, "ann", "What is France's capital?", &at(0.90));
    assert_eq!(found(&entries, "ann", ASK), Ok("What is France's capital?".to_owned()));
    put(&mut entries, "bob", ASK, &at(0.49));
    assert_eq!(found(&entries, "bob", ASK), Err("nothing"), "that is no neighbour");
}

#[test]
fn what_is_past_its_time_or_may_not_be_given_is_passed_over_however_many_there_are() {
    let mut entries = Entries::new(1_000_000);
    let now = Instant::now();
    for n in 0..30_u8 {
        let text = format!("{ASK}{}", "?".repeat(n.into()));
        let (said, until) = match n % 2 {
            0 => ("expired", now),
            _ => ("not this", now + HOUR),
        };
        entries.put(words("ann", &text), &at(1.0), (kept(owner("ann"), said), until));
    }
    let may = |kept: &Kept| kept.said != "not this";
    let look = |entries: &Entries| match entries.nearest(&words("ann", ASK), &at(1.0), now, may) {
        Nearest::Agrees(neighbour) => Some((neighbour.similarity * 100.0).round()),
        Nearest::Differs(_) | Nearest::Nothing => None,
    };
    assert_eq!(look(&entries), None);
    put(&mut entries, "ann", "What's the capital of France?", &at(0.8));
    assert_eq!(look(&entries), Some(80.0));
}

#[test]
fn the_same_words_are_kept_once_and_the_last_answer_stays() {
    let mut entries = Entries::new(1_000_000);
    let until = Instant::now() + HOUR;
    for said in ["one", "two"] {
        entries.put(words("ann", ASK), &at(1.0), (kept(owner("ann"), said), until));
    }
    assert_eq!(entries.size().0, 1);
    let Nearest::Agrees(neighbour) =
        entries.nearest(&words("ann", ASK), &at(1.0), Instant::now(), |_| true)
    else {
        panic!("it is there")
    };
    assert_eq!(neighbour.kept.said, "two");
}

#[test]
fn what_was_used_longest_ago_goes_first() {
    let mut entries = Entries::new(u64::MAX);
    let texts = ["What is a map?", "What is a set?", "What is a bag?"];
    let ids = texts.map(|text| put(&mut entries, "ann", text, &at(1.0)));
    entries.max_bytes = entries.bytes;
    entries.touch(ids[0]);
    put(&mut entries, "ann", "What is a box?", &at(1.0));
    assert_eq!(found(&entries, "ann", texts[0]), Ok(texts[0].to_owned()));
    assert!(found(&entries, "ann", texts[1]).is_err());
}

#[test]
fn what_has_no_room_alone_pushes_nothing_out() {
    let mut entries = Entries::new(20_000);
    put(&mut entries, "ann", ASK, &at(1.0));
    let large = kept(owner("ann"), &"x".repeat(30_000));
    entries.put(words("ann", "What is a map?"), &at(1.0), (large, Instant::now() + HOUR));
    assert_eq!(found(&entries, "ann", ASK), Ok(ASK.to_owned()));
    assert_eq!(entries.size().0, 1);
    // Neither does one of another space that came under the same name.
    let other = Embedding::towards(vec![1.0; 3]).unwrap();
    put(&mut entries, "ann", "What is a map?", &other);
    assert_eq!(entries.size().0, 1);
}

#[test]
fn a_scan_of_questions_and_namespaces_stays_within_its_bytes() {
    let max = 2_000_000;
    let mut entries = Entries::new(max);
    for n in 0..6_000 {
        let caller = format!("caller {}", n % 900);
        put(&mut entries, &caller, &format!("What is number {n}?"), &at(1.0));
        assert!(entries.size().1 <= max, "{n}");
    }
    assert!(entries.size().0 > 500, "{:?}", entries.size());
    for id in entries.ids_of(|_, _| true) {
        assert!(entries.remove(id));
    }
    assert!(entries.is_empty_everywhere() && entries.bytes == 0, "{entries:?}");
}

#[derive(Debug, Clone)]
enum Step {
    Put { caller: u8, text: u8, size: usize, is_other_space: bool },
    Remove { caller: u8, text: u8 },
    Touch { caller: u8, text: u8 },
}

fn step() -> impl Strategy<Value = Step> {
    let place = || (0..4_u8, 0..8_u8);
    prop_oneof![
        4 => (place(), 0..4_000_usize, prop::bool::weighted(0.1)).prop_map(
            |((caller, text), size, is_other_space)| Step::Put { caller, text, size, is_other_space }
        ),
        2 => place().prop_map(|(caller, text)| Step::Remove { caller, text }),
        1 => place().prop_map(|(caller, text)| Step::Touch { caller, text }),
    ]
}

proptest! {
    #[test]
    fn whatever_comes_and_goes_leaves_nothing_behind(
        steps in prop::collection::vec(step(), 1..120), max in 0..60_000_u64,
    ) {
        let mut entries = Entries::new(max);
        let query = |caller: u8, text: u8| {
            words(&caller.to_string(), &format!("What is number {text}?"))
        };
        let id = |caller, text| {
            let query = query(caller, text);
            Entries::id_of(query.namespace, &query.text)
        };
        for step in steps {
            match step {
                Step::Put { caller, text, size, is_other_space } => {
                    let vector = Embedding::towards(vec![1.0; 2 + usize::from(is_other_space)]);
                    let kept = kept(owner("ann"), &"x".repeat(size));
                    let until = Instant::now() + HOUR;
                    entries.put(query(caller, text), &vector.unwrap(), (kept, until));
                }
                Step::Remove { caller, text } => _ = entries.remove(id(caller, text)),
                Step::Touch { caller, text } => entries.touch(id(caller, text)),
            }
            let held: usize = entries.namespaces.values().map(|space| space.held.len()).sum();
            let vectors: usize = entries.namespaces.values().map(|space| space.index.len()).sum();
            let all = entries.homes.len();
            prop_assert!(entries.bytes <= max);
            prop_assert_eq!((held, vectors, entries.uses.len()), (all, all, all));
        }
        for id in entries.ids_of(|_, _| true) {
            prop_assert!(entries.remove(id));
            prop_assert!(!entries.remove(id));
        }
        prop_assert!(entries.is_empty_everywhere());
        prop_assert_eq!(entries.bytes, 0);
    }
}
