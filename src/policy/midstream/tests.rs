//! Tests of breaks within an answer.

use super::*;
use proptest::prelude::*;

const GOOD: Facts = Facts {
    is_opted_in: true,
    splices: 0,
    is_in_budget: true,
    has_tool_call: false,
    is_structured: false,
    has_logprobs: false,
    alternatives: 1,
    has_reasoning: false,
    has_other: false,
    has_ended: false,
    was_filtered: false,
    delivered_chars: 1,
    delivered_tokens: 499,
    context_tokens: 1_000,
    tokens_left: None,
    time_left: Duration::from_millis(2_501),
    ttft_p50: Duration::from_millis(500),
    has_native_prefill: true,
    is_other_model: false,
    allows_other_model: false,
};

#[test]
fn every_condition_counts() {
    assert_eq!(may_continue(&GOOD), Ok(()));
    let other = Facts { is_other_model: true, ..GOOD };
    assert_eq!(may_continue(&Facts { allows_other_model: true, ..other }), Ok(()));
    let time_left = Duration::from_millis(2_500);
    let table = [
        (Facts { is_opted_in: false, ..GOOD }, Why::NotOptedIn),
        (Facts { was_filtered: true, ..GOOD }, Why::Filtered),
        (Facts { splices: 1, ..GOOD }, Why::AlreadySpliced),
        (Facts { is_in_budget: false, ..GOOD }, Why::OverBudget),
        (Facts { has_tool_call: true, ..GOOD }, Why::ToolCall),
        (Facts { is_structured: true, ..GOOD }, Why::Structured),
        (Facts { has_logprobs: true, ..GOOD }, Why::Logprobs),
        (Facts { alternatives: 2, ..GOOD }, Why::Alternatives),
        (Facts { has_reasoning: true, ..GOOD }, Why::Reasoning),
        (Facts { has_other: true, ..GOOD }, Why::OtherContent),
        (Facts { has_ended: true, ..GOOD }, Why::Ended),
        (Facts { delivered_chars: 0, ..GOOD }, Why::NothingDelivered),
        (Facts { delivered_tokens: 500, ..GOOD }, Why::TooLong),
        (Facts { tokens_left: Some(0), ..GOOD }, Why::NoTokensLeft),
        (Facts { time_left, ..GOOD }, Why::NoTimeLeft),
        (Facts { has_native_prefill: false, ..GOOD }, Why::NoPrefill),
        (other, Why::OtherModel),
    ];
    for (facts, why) in table {
        assert_eq!(may_continue(&facts), Err(why));
    }
}

/// Text that repeats nothing: numbers in words would, so just numbers.
fn text(from: usize, to: usize) -> String {
    (from..to).map(|number| format!("{number} naïve 🦀, ")).collect()
}

/// Feeds a continuation in pieces of so many characters.
fn splice(delivered: &str, continuation: &str, size: usize) -> Result<String, Restarted> {
    let mut splice = Splice::new(delivered);
    let mut passed = String::new();
    let letters: Vec<char> = continuation.chars().collect();
    for piece in letters.chunks(size) {
        passed += &splice.push(&piece.iter().collect::<String>())?;
    }
    Ok(passed + &splice.finish()?)
}

#[test]
fn what_continues_passes_whole_whatever_its_pieces() {
    for size in [1, 7, 199, 200, 5_000] {
        let passed = splice(&text(0, 100), &text(100, 150), size).unwrap();
        assert_eq!(passed, text(100, 150));
    }
}

#[test]
fn nothing_passes_before_two_hundred_characters_came() {
    let mut splice = Splice::new(&text(0, 10));
    let first: String = text(10, 90).chars().take(199).collect();
    assert_eq!(splice.push(&first).unwrap(), "");
    assert_eq!(splice.push("é").unwrap(), first + "é");
    assert_eq!(splice.push("later").unwrap(), "later");
    assert_eq!(splice.finish().unwrap(), "");
}

#[test]
fn what_is_said_twice_is_removed() {
    let delivered = text(0, 100);
    for repeated in [99, 95, 80, 50] {
        let passed = splice(&delivered, &text(repeated, 150), 9).unwrap();
        assert_eq!(passed, text(100, 150), "repeated from {repeated}");
    }
}

#[test]
fn a_repetition_shorter_than_twelve_characters_is_chance() {
    let delivered = "It is what it is, and so on and on";
    assert_eq!(splice(delivered, " and on and more", 5).unwrap(), " and on and more");
    let delivered = "a sentence with a repeated ending";
    assert_eq!(splice(delivered, "epeated ending!", 5).unwrap(), "!");
    assert_eq!(splice(delivered, "ted ending!", 5).unwrap(), "ted ending!");
}

#[test]
fn an_answer_that_begins_again_is_refused() {
    let delivered = text(0, 100);
    assert_eq!(splice(&delivered, &delivered, 9), Err(Restarted));
    assert_eq!(splice(&delivered, &format!("\n {}", text(0, 60)), 9), Err(Restarted));
    let altered = text(0, 100).replacen("naïve", "naive", 2).replacen("🦀, ", "🦀,", 1);
    assert_eq!(splice(&delivered, &altered, 50), Err(Restarted));
    // Also when it ends before as much came as is held back.
    assert_eq!(splice(&delivered, &text(0, 3), 9), Err(Restarted));
}

#[test]
fn a_short_answer_said_again_from_its_beginning_goes_on() {
    assert_eq!(splice("The capital is", "The capital is Paris.", 4).unwrap(), " Paris.");
}

#[test]
fn white_space_cut_from_the_end_does_not_come_twice() {
    assert_eq!(prefill("one, two, \n"), "one, two,");
    assert_eq!(splice("one, two, ", " three", 2).unwrap(), "three");
    assert_eq!(splice("one, two, ", "three", 2).unwrap(), "three");
    assert_eq!(splice("one, two,", " three", 2).unwrap(), " three");
    assert_eq!(splice("one\n\n", "\n\n  two", 2).unwrap(), "  two");
}

#[test]
fn the_distance_counts_changes() {
    let letters = |text: &str| text.chars().collect::<Vec<_>>();
    assert_eq!(distance(&letters("kitten"), &letters("sitting")), 3);
    assert_eq!(distance(&letters(""), &letters("abc")), 3);
    assert_eq!(distance(&letters("naïve"), &letters("naive")), 1);
}

proptest! {
    #[test]
    fn a_splice_only_removes_from_the_beginning(
        delivered in "[a-c ]{0,300}", continuation in "\\PC{0,400}|[a-c ]{0,400}", size in 1_usize..50,
    ) {
        if let Ok(passed) = splice(&delivered, &continuation, size) {
            prop_assert!(continuation.ends_with(&passed));
            let cut: String = continuation.chars()
                .take(continuation.chars().count() - passed.chars().count()).collect();
            prop_assert!(delivered.ends_with(&cut) || cut.trim().is_empty());
        }
    }
}

#[test]
fn one_stream_in_a_hundred_is_continued_and_one_a_minute_in_any_case() {
    let mut budget = SpliceBudget::new();
    let start = Instant::now();
    budget.on_stream(start);
    assert!(budget.try_splice(start));
    assert!(!budget.try_splice(start + Duration::from_secs(30)));
    (0..299).for_each(|_| budget.on_stream(start + Duration::from_secs(30)));
    let spliced = (0..10).filter(|_| budget.try_splice(start + Duration::from_secs(31))).count();
    assert_eq!(spliced, 2, "three of three hundred, one of them before");
    assert!(budget.try_splice(start + Duration::from_secs(120)), "a minute later, one again");
}
