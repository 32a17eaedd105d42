//! Tests of recordings.

use super::*;

fn wanted(count: u32) -> NewRecording {
    let (prompt, time) = ("help".to_owned(), Duration::from_secs(60));
    NewRecording { prompt, count, time, redact: true }
}

fn captured(number: u32) -> Captured {
    let vars = json!({"mail": format!("a{number}@example.com"), "n": number});
    Captured {
        request: format!("req_{number}"),
        vars: vars.as_object().unwrap().clone(),
        text: format!("answer {number} to a{number}@example.com"),
        model: "openai/gpt-5".to_owned(),
        at_ms: 1_700_000_000_000,
    }
}

#[tokio::test(start_paused = true)]
async fn it_ends_with_its_last_case_and_is_forgotten_an_hour_later() {
    let recordings = Recordings::default();
    assert!(recordings.is_idle() && recordings.claim("help").is_none());
    let id = recordings.begin(wanted(2), 0).unwrap();
    assert!(!recordings.is_idle() && recordings.claim("other").is_none());
    assert!(matches!(recordings.begin(wanted(2), 0), Err(RunsError::Recorded(_))));
    recordings.claim("help").unwrap().keep(captured(1));
    recordings.claim("help").unwrap().keep(captured(1));
    assert_eq!(recordings.find(&id).unwrap().left_out, 1, "the same variables");
    let (second, third) = (recordings.claim("help").unwrap(), recordings.claim("help"));
    assert!(third.is_none(), "one is missing, and it is on its way");
    second.keep(captured(2));
    let found = recordings.find(&id).unwrap();
    assert_eq!((found.state, found.cases), (RecordingState::Complete, 2));
    assert!(recordings.is_idle());
    for wanted in ["[email]", "answer 2", "gpt-5", "2023-11-14T22:13:20", "similar", "semantic"] {
        assert!(found.text.contains(wanted), "{wanted}: {}", found.text);
    }
    assert!(!found.text.contains('@'), "{}", found.text);
    tokio::time::advance(KEEP).await;
    assert!(recordings.find(&id).is_none());
}

#[tokio::test(start_paused = true)]
async fn it_ends_with_its_time_and_what_comes_later_is_dropped() {
    let recordings = Recordings::default();
    let id = recordings.begin(wanted(2), 0).unwrap();
    let slot = recordings.claim("help").unwrap();
    tokio::time::advance(Duration::from_secs(60)).await;
    assert!(recordings.claim("help").is_none());
    assert!(recordings.is_idle(), "whoever comes next sees that it is over");
    slot.keep(captured(1));
    let found = recordings.find(&id).unwrap();
    assert_eq!((found.state, found.cases), (RecordingState::TimedOut, 0));
}

#[tokio::test(start_paused = true)]
async fn what_is_forgotten_keeps_nothing_and_memory_is_bounded() {
    let recordings = Recordings::default();
    let plain = NewRecording { redact: false, ..wanted(500) };
    let id = recordings.begin(plain, 0).unwrap();
    let slot = recordings.claim("help").unwrap();
    let slots: Vec<_> = std::iter::from_fn(|| recordings.claim("help")).collect();
    assert_eq!(slots.len(), 63);
    drop(slots);
    let mut number = 0;
    while let Some(slot) = recordings.claim("help") {
        number += 1;
        slot.keep(Captured { text: "x".repeat(MAX_ANSWER_BYTES), ..captured(number) });
    }
    let found = recordings.find(&id).unwrap();
    assert_eq!((found.state, found.cases), (RecordingState::Full, number as usize - 1));
    assert!(found.text.len() < MAX_BYTES + MAX_BYTES / 8);
    assert!(recordings.forget(&id) && !recordings.forget(&id));
    slot.keep(captured(0));
    assert!(recordings.find(&id).is_none());
    for count in [0, 501] {
        assert!(matches!(recordings.begin(wanted(count), 0), Err(RunsError::Invalid { .. })));
    }
}
