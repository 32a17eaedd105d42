//! Tests of what becomes of jobs.

use super::*;

const RULE: RetryRule = RetryRule { attempts: 3, pause: Duration::from_secs(2) };
const LONG: Duration = Duration::from_secs(86_400);
const FAULT: Setback = Setback { passes: true, was_tried: true, retry_after: None };

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn an_attempt_that_failed_is_repeated_later_and_later_until_the_third() {
    let again = |after| Next::Again { after: secs(after), counts: true };
    assert_eq!(RULE.after(FAULT, 0, LONG, 0.0), again(2));
    assert_eq!(RULE.after(FAULT, 1, LONG, 0.0), again(8));
    assert_eq!(RULE.after(FAULT, 2, LONG, 0.0), Next::Over(JobState::Failed));
    let latest = RULE.after(FAULT, 1, LONG, 1.0);
    assert_eq!(latest, again(10), "a quarter later at most");
}

#[test]
fn what_cannot_pass_is_not_tried_again() {
    let hopeless = Setback { passes: false, ..FAULT };
    assert_eq!(RULE.after(hopeless, 0, LONG, 0.5), Next::Over(JobState::Failed));
}

#[test]
fn what_was_refused_before_a_provider_was_asked_is_put_off_for_as_long_as_it_takes() {
    let refused = Setback { was_tried: false, retry_after: Some(secs(30)), ..FAULT };
    for failures in 0..=2 {
        let next = RULE.after(refused, failures, LONG, 0.0);
        assert!(
            matches!(next, Next::Again { after, counts: false } if after >= secs(30)),
            "{next:?}"
        );
    }
    let silent = Setback { retry_after: None, ..refused };
    assert_eq!(RULE.after(silent, 0, LONG, 0.0), Next::Again { after: PUT_OFF, counts: false });
    assert_eq!(RULE.after(refused, 0, secs(20), 0.0), Next::Over(JobState::Expired));
}

#[test]
fn pauses_that_others_ask_for_are_kept_up_to_a_quarter_of_an_hour() {
    let asked = Setback { retry_after: Some(secs(60)), ..FAULT };
    assert_eq!(RULE.after(asked, 0, LONG, 0.0), Next::Again { after: secs(60), counts: true });
    let absurd = Setback { retry_after: Some(Duration::MAX), ..FAULT };
    assert_eq!(
        RULE.after(absurd, 0, LONG, 0.0),
        Next::Again { after: LONGEST_PAUSE, counts: true }
    );
    let rule = RetryRule { attempts: u32::MAX, pause: LONG };
    assert_eq!(
        rule.after(FAULT, 1_000_000, LONG, 0.0),
        Next::Again { after: LONGEST_PAUSE, counts: true }
    );
}

#[test]
fn a_deadline_ends_it() {
    assert_eq!(RULE.after(FAULT, 0, Duration::ZERO, 0.0), Next::Over(JobState::Expired));
    assert_eq!(RULE.after(FAULT, 0, secs(2), 0.0), Next::Over(JobState::Expired));
}

#[test]
fn states_have_words_that_lead_back_to_them() {
    for state in JobState::ALL {
        assert_eq!(JobState::parse(state.as_str()), Some(state));
    }
    assert_eq!(JobState::parse("done"), None);
    assert_eq!(JobState::ALL.into_iter().filter(|state| state.is_final()).count(), 4);
}
