//! Tests of turns.

use proptest::prelude::*;

use super::*;

fn head(priority: u8, lane: &str) -> Head {
    Head { priority, lane: lane.to_owned() }
}

fn taken(shares: &[Share]) -> Vec<(u8, &str, u32)> {
    shares.iter().map(|share| (share.head.priority, &*share.head.lane, share.jobs)).collect()
}

fn nobody() -> HashMap<String, u32> {
    HashMap::new()
}

#[test]
fn places_are_divided_evenly_and_the_turn_goes_round() {
    let mut turns = Turns::default();
    let heads = || vec![head(2, "a"), head(2, "b"), head(2, "c")];
    let first = turns.allot(heads(), &nobody(), 8, 6);
    assert_eq!(taken(&first), [(2, "a", 2), (2, "b", 2), (2, "c", 2)]);
    assert_eq!(taken(&turns.allot(heads(), &nobody(), 8, 1)), [(2, "a", 1)]);
    assert_eq!(taken(&turns.allot(heads(), &nobody(), 8, 1)), [(2, "b", 1)]);
    assert_eq!(taken(&turns.allot(heads(), &nobody(), 8, 2)), [(2, "c", 1), (2, "a", 1)]);
}

#[test]
fn the_more_important_jobs_go_first() {
    let heads = vec![head(3, "a"), head(0, "b"), head(3, "c")];
    let shares = Turns::default().allot(heads.clone(), &nobody(), 4, 3);
    assert_eq!(taken(&shares), [(0, "b", 3)]);
    let shares = Turns::default().allot(heads, &nobody(), 4, 8);
    assert_eq!(taken(&shares), [(0, "b", 4), (3, "a", 2), (3, "c", 2)]);
}

#[test]
fn nobody_has_more_places_than_the_cap() {
    let running = HashMap::from([("a".to_owned(), 3), ("b".to_owned(), 9)]);
    let heads = vec![head(1, "a"), head(1, "b"), head(2, "a"), head(2, "c")];
    let shares = Turns::default().allot(heads, &running, 4, 100);
    assert_eq!(taken(&shares), [(1, "a", 1), (2, "c", 4)]);
}

#[test]
fn who_rests_is_left_out_until_it_does_not() {
    let mut turns = Turns::default();
    let heads = || vec![head(1, "a"), head(1, "b")];
    turns.rest(HashSet::from(["a".to_owned()]));
    assert_eq!(taken(&turns.allot(heads(), &nobody(), 8, 4)), [(1, "b", 4)]);
    turns.rest(HashSet::new());
    assert_eq!(taken(&turns.allot(heads(), &nobody(), 8, 4)), [(1, "a", 2), (1, "b", 2)]);
}

#[test]
fn nothing_is_allotted_of_nothing() {
    assert_eq!(Turns::default().allot(vec![head(1, "a")], &nobody(), 4, 0), []);
    assert_eq!(Turns::default().allot(Vec::new(), &nobody(), 4, 4), []);
}

/// A flood beside single jobs: everybody with a job gets a place within as many rounds as there
/// are lanes.
#[test]
fn a_flood_does_not_starve_the_others() {
    let mut turns = Turns::default();
    let mut served = std::collections::BTreeSet::new();
    let lanes: Vec<_> = (0..20).map(|lane| format!("lane-{lane:02}")).collect();
    for _ in 0..20 {
        let heads = lanes.iter().map(|lane| head(2, lane)).collect();
        for share in turns.allot(heads, &nobody(), 100, 1) {
            served.insert(share.head.lane);
        }
    }
    assert_eq!(served.len(), 20);
}

proptest! {
    #[test]
    fn shares_never_exceed_the_places_or_a_cap(
        heads in prop::collection::btree_set((0_u8..5, 0_u8..9), 0..20),
        running in prop::collection::hash_map(0_u8..9, 0_u32..9, 0..9),
        cap in 0_u32..9,
        free in 0_u32..40,
    ) {
        let heads: Vec<_> = heads.iter().map(|(p, lane)| head(*p, &lane.to_string())).collect();
        let running: HashMap<_, _> =
            running.iter().map(|(lane, count)| (lane.to_string(), *count)).collect();
        let shares = Turns::default().allot(heads.clone(), &running, cap, free);
        prop_assert!(shares.iter().map(|share| share.jobs).sum::<u32>() <= free);
        for lane in heads.iter().map(|head| &head.lane) {
            let of_lane = shares.iter().filter(|share| share.head.lane == *lane);
            let before = running.get(lane).copied().unwrap_or(0);
            let total = before + of_lane.map(|share| share.jobs).sum::<u32>();
            prop_assert!(total <= cap.max(before));
        }
        // Nothing is left over that somebody could have had.
        let given: u32 = shares.iter().map(|share| share.jobs).sum();
        let could: u32 = heads.iter().map(|head| &head.lane)
            .collect::<std::collections::BTreeSet<_>>().into_iter()
            .map(|lane| cap.saturating_sub(running.get(lane).copied().unwrap_or(0))).sum();
        prop_assert!(given > 0 || free == 0 || could == 0);
    }
}
