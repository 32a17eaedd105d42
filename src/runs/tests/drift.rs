//! Nights of a prompt against itself, and what has drifted.

use super::*;
use crate::compat::Only;
use crate::compat::report::PairRuns;

fn night(version: &str) -> NewRun {
    let kept = side(version, "a/one");
    let (baseline, candidate) = (kept.clone(), kept);
    NewRun { kind: RunKind::Drift, baseline, candidate, ..new_run() }
}

/// A night with these answers of the candidate, which has nothing to compare with.
async fn answered(node: &Node, samples: &[NewSample]) -> RunRecord {
    let run = node.begin(night("2.0.0")).await;
    node.pass(1);
    let held = node.holding();
    node.runs.take_up(&run.id, &held).await.unwrap().unwrap();
    node.runs.commit(&run.id, samples, None, &held).await.unwrap();
    let (state, progress) = (RunState::Done, Progress::default());
    let ending = Ending { state, reason: None, judgement: None, judge: None, progress };
    node.runs.end(&run.id, &ending, &held).await.unwrap();
    node.pass(1);
    node.runs.find(&run.id).await.unwrap()
}

#[tokio::test]
async fn what_has_drifted_stays_so_until_a_night_is_as_good_as_before() {
    for place in places() {
        let node = Node::of(&place).await;
        let of = |version| node.judged(night(version), "incompatible");
        let drifts = async || node.runs.drifts().await.unwrap();
        let drifted = async || node.runs.drifted().await.unwrap().into_iter().collect::<Vec<_>>();
        let suite = || "of-files".to_owned();
        assert_eq!((drifts().await, drifted().await), (vec![], vec![]));
        let open = node.judged(night("2.0.0"), "inconclusive").await;
        assert_eq!(drifts().await, [open], "what is undecided is told");
        assert_eq!(drifted().await, [(suite(), false)]);

        let bad = of("2.0.0").await;
        assert_eq!((drifts().await, drifted().await), (vec![bad.clone()], vec![(suite(), true)]));
        node.judged(night("2.0.0"), "inconclusive").await;
        assert_eq!((drifts().await, drifted().await), (vec![bad], vec![(suite(), true)]));
        node.judged(night("2.0.0"), "compatible").await;
        assert_eq!((drifts().await, drifted().await), (vec![], vec![(suite(), false)]));

        // Another version in production begins anew, with its first night.
        of("2.0.0").await;
        assert_eq!(drifted().await, [(suite(), true)]);
        let held = node.holding();
        let first = node.begin(night("2.1.0")).await;
        node.pass(1);
        node.runs.take_up(&first.id, &held).await.unwrap().unwrap();
        let (state, progress) = (RunState::Done, Progress::default());
        let ending = Ending { state, reason: None, judgement: None, judge: None, progress };
        node.runs.end(&first.id, &ending, &held).await.unwrap();
        assert_eq!((drifts().await, drifted().await), (vec![], vec![(suite(), false)]));
        assert!(node.runs.find(&first.id).await.unwrap().is_first_night());
    }
}

#[tokio::test]
async fn the_nights_before_are_those_of_the_same_side_that_still_have_their_answers() {
    for place in places() {
        let node = Node::of(&place).await;
        let failed = |case: &str, number| {
            let mut new = sample(case, true, number, "no");
            if let Some(grade) = &mut new.row.grade {
                *grade = Grade { passed: false, ..grade.clone() };
            }
            new
        };
        let unjudged = {
            let mut new = sample("a", true, 2, "what");
            new.row.grade = None;
            new
        };
        let answers =
            [sample("a", true, 0, "yes"), failed("a", 1), unjudged, sample("b", true, 0, "x")];
        let first = answered(&node, &answers).await;
        let second = answered(&node, &[sample("a", true, 0, "yes")]).await;
        node.judged(night("3.0.0"), "compatible").await;
        node.judged(new_run(), "compatible").await;
        let tonight = node.begin(night("2.0.0")).await;
        let nights = node.runs.nights_before(&tonight).await.unwrap();
        assert_eq!(nights, [second.clone(), first.clone()], "the newest first");
        let mut read = node.runs.answers_of_night(&first.id).await.unwrap();
        read.sort_by_key(|one| std::cmp::Reverse(one.answered));
        let counts: Vec<_> = read.iter().map(|one| (one.passed, one.answered)).collect();
        assert_eq!(counts, [(1, 2), (1, 1)], "what nobody could judge is left out");

        node.pass(HOUR_MS);
        assert!(node.runs.sweep(Duration::from_secs(1)).await.unwrap() > 0);
        assert_eq!(node.runs.nights_before(&tonight).await.unwrap(), []);
    }
}

#[tokio::test]
async fn how_often_a_pair_was_compared_is_counted_up_to_each_run() {
    for place in places() {
        let node = Node::of(&place).await;
        let first = node.judged(new_run(), "incompatible").await;
        let other = NewRun { baseline: side("1.9.0", "openai/gpt-5"), ..new_run() };
        let other = node.judged(other, "inconclusive").await;
        node.begin(new_run()).await;
        let second = node.judged(new_run(), "inconclusive").await;
        // Money was spent, or the time, before there was a pair.
        node.ended(new_run(), json!({"verdict": "inconclusive", "pairs": 0})).await;
        let third = node.judged(new_run(), "compatible").await;
        for (run, number, not_compatible) in
            [(first, 1, 1), (other, 1, 1), (second, 2, 2), (third, 3, 2)]
        {
            let pair = node.runs.runs_of_pair(&run).await.unwrap();
            assert_eq!(pair, PairRuns { number, not_compatible }, "{}", run.id);
        }
    }
}

#[tokio::test]
async fn a_night_goes_on_until_it_has_ended() {
    for place in places() {
        let node = Node::of(&place).await;
        let goes_on = async || node.runs.night_goes_on("of-files").await.unwrap();
        node.begin(new_run()).await;
        assert!(!goes_on().await, "another kind of run is no night");
        let run = node.begin(night("2.0.0")).await;
        assert!(goes_on().await);
        assert!(!node.runs.night_goes_on("other").await.unwrap());
        node.runs.cancel(&run.id, &by()).await.unwrap();
        assert!(!goes_on().await);
    }
}

#[tokio::test]
async fn the_matrix_knows_nothing_of_runs_of_some_cases() {
    for place in places() {
        let node = Node::of(&place).await;
        let newest = async || node.runs.newest_verdicts("reply").await.unwrap();
        let only = NewRun { only: Some(Only::parse("incidents").unwrap()), ..new_run() };
        node.judged(only.clone(), "compatible").await;
        assert_eq!(newest().await, []);
        let whole = node.judged(new_run(), "incompatible").await;
        node.judged(only, "compatible").await;
        assert_eq!(newest().await, [whole], "what is newer and of some cases hides nothing");
    }
}
