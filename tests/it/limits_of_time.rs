//! Timeouts, deadlines and keep-alive comments, exact to the millisecond of a paused clock.

use std::time::Duration;

use tidegate::clock::Instant;
use tidegate::dialect::Dialect;
use tidegate::sim::Scenario;

use crate::rig::{Ask, End, Got, Rig, read};
use crate::scripted::{CHAT_FINISH, DONE, Reply, scripted};

const CALLERS: [Dialect; 2] = [Dialect::OpenAiChat, Dialect::Anthropic];

const ROUTES: &str = r#"
[routes.one]
targets = [{ model = "chat/alpha" }]
timeouts = { first_token = "20s", between_tokens = "50s", total = "200s" }
[routes.pair]
targets = [{ model = "chat/alpha" }, { model = "chat/beta", tier = 1 }]
timeouts = { first_token = "20s", between_tokens = "50s", total = "200s" }
[routes.raced]
targets = [{ model = "chat/alpha" }, { model = "claude/alpha" }]
hedge = { enabled = true }
[routes.early]
targets = [{ model = "chat/alpha" }, { model = "chat/beta", tier = 1 }]
timeouts = { first_token = "40s", between_tokens = "50s", total = "200s" }
keep_alive = { every = "15s", before_first_token = true }
"#;

const fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// Timers round up to the next millisecond.
fn assert_about(found: Duration, expected: Duration, what: &Got) {
    let late = found.checked_sub(expected);
    let on_time = late.is_some_and(|late| late <= Duration::from_millis(5));
    assert!(on_time, "{found:?} is not {expected:?}: {what:#?}");
}

fn comments(got: &Got) -> Vec<Duration> {
    let comments = got.pieces.iter().filter(|(_, piece)| piece.starts_with(": "));
    comments.map(|(at, _)| *at).collect()
}

#[tokio::test(start_paused = true)]
async fn a_silent_target_is_left_when_its_first_token_is_overdue() {
    let rig = Rig::instant(ROUTES);
    for fault in ["stall_before_head", "stall_after_head"] {
        let got = rig.ask(&Ask::chat("pair", &format!("[[sim:on=alpha,{fault}]]"))).await;
        assert_eq!((got.status.as_u16(), got.end()), (200, End::Terminal), "{got:#?}");
        assert_about(got.head_after, secs(20), &got);
    }
    let got = rig.ask(&Ask::chat("pair", "[[sim:stall_after_head]]")).await;
    assert_eq!(got.status, 504, "{got:#?}");
    assert_eq!(got.json()["error"]["code"], "first_token_timeout");
    assert_about(got.head_after, secs(40), &got);
}

#[tokio::test(start_paused = true)]
async fn a_target_that_hangs_on_a_whole_answer_leaves_time_for_the_next() {
    let rig = Rig::instant(ROUTES);
    let ask = Ask::chat("pair", "[[sim:on=alpha,stall_before_head]]").whole();
    let got = rig.ask(&ask).await;
    assert_eq!(got.status, 200, "{got:#?}");
    assert_about(got.head_after, secs(100), &got);
}

#[tokio::test(start_paused = true)]
async fn the_callers_own_deadline_is_kept() {
    let rig = Rig::instant(ROUTES);
    for dialect in CALLERS {
        for stream in [true, false] {
            let ask = Ask::new(dialect, "pair", "[[sim:stall_before_head]]");
            let got = rig.ask(&Ask { stream, ..ask }.with("x-tidegate-timeout-ms", 7_000)).await;
            assert_eq!(got.status, 504, "{got:#?}");
            assert_about(got.head_after, secs(7), &got);
            // The first token's limit is beyond the deadline; a whole answer's share is half of it.
            assert_eq!(got.header("x-tidegate-attempts"), if stream { "1" } else { "2" });
            if dialect == Dialect::OpenAiChat {
                assert_eq!(got.json()["error"]["code"], "deadline_passed");
            }
        }
        // Between the first target's time and the second's.
        let ask = Ask::new(dialect, "pair", "[[sim:stall_before_head]]");
        let got = rig.ask(&ask.with("x-tidegate-timeout-ms", 25_000)).await;
        assert_about(got.head_after, secs(25), &got);
        assert_eq!((got.status.as_u16(), got.header("x-tidegate-attempts")), (504, "2"));
    }
    for wrong in ["0", "-1", "soon", "86400001", ""] {
        let got = rig.ask(&Ask::chat("pair", "hi").with("x-tidegate-timeout-ms", wrong)).await;
        assert_eq!(got.status, 400, "{wrong}");
        assert_eq!(got.json()["error"]["param"], "x-tidegate-timeout-ms");
    }
}

#[tokio::test(start_paused = true)]
async fn the_total_bounds_an_answer_that_never_ends() {
    let rig = Rig::instant(ROUTES);
    for dialect in CALLERS {
        // A token each second, for longer than anybody waits.
        let ask = Ask::new(dialect, "one", "[[sim:tokens=500,gap=1s]]");
        let got = rig.ask(&ask.clone()).await;
        assert_eq!((got.status.as_u16(), got.end()), (200, End::Error));
        assert_about(got.end_after, secs(200), &got);
        for route in ["one", "raced"] {
            let ask = Ask { model: route.to_owned(), ..ask.clone() };
            let got = rig.ask(&ask.clone().with("x-tidegate-timeout-ms", 10_500)).await;
            assert_eq!(got.end(), End::Error);
            assert!(got.body.contains("was over before its answer was complete"), "{got:#?}");
            assert_about(got.end_after, Duration::from_millis(10_500), &got);
            assert!(comments(&got).is_empty(), "it was never silent: {got:#?}");
            // Collected, where late attempts are raced.
            let got = rig.ask(&ask.whole().with("x-tidegate-timeout-ms", 10_500)).await;
            assert_eq!(got.status, 504, "{got:#?}");
        }
    }
    // A target that goes on answering is not to blame for how long it may.
    let targets = rig.gateway.fleet().targets(Instant::now());
    assert!(targets.iter().all(|target| target.failures == 0), "{targets:#?}");
    let whole = Ask::chat("one", "[[sim:stall_after_head]]").whole();
    let got = rig.ask(&whole).await;
    assert_eq!(got.status, 504);
    assert_about(got.head_after, secs(200), &got);
    assert_eq!(rig.sim.stats().total.in_flight, 0);
}

#[tokio::test(start_paused = true)]
async fn a_stall_within_an_answer_is_an_error_and_comments_come_meanwhile() {
    let rig = Rig::instant(ROUTES);
    for dialect in CALLERS {
        let ask = Ask::new(dialect, "one", "[[sim:stall_after=2,say=one two three]]");
        let got = rig.ask(&ask).await;
        assert_eq!((got.text().as_str(), got.end()), ("one two", End::Error), "{got:#?}");
        assert_about(got.end_after, secs(50), &got);
        let at = comments(&got);
        assert_eq!(at.len(), 3, "{got:#?}");
        for (found, expected) in at.into_iter().zip([15, 30, 45]) {
            assert_about(found, secs(expected), &got);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn comments_stop_when_tokens_come_again() {
    let rig = Rig::instant(ROUTES);
    let router = rig.over(scripted(|_| {
        let begun = Reply::stream().says("one").waits(secs(20)).says(" two").waits(secs(10));
        begun.says(" three").waits(secs(16)).chunk(CHAT_FINISH).chunk(DONE)
    }));
    let got = read(&router, &Ask::chat("one", "hello")).await;
    assert_eq!((got.text().as_str(), got.end()), ("one two three", End::Terminal), "{got:#?}");
    let at = comments(&got);
    assert_eq!(at.len(), 2, "{got:#?}");
    assert_about(at[0], secs(15), &got);
    assert_about(at[1], secs(45), &got);
}

#[tokio::test(start_paused = true)]
async fn pings_within_an_answer_do_not_keep_it_alive() {
    let rig = Rig::instant(ROUTES);
    let empty_delta =
        "data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"\"}}]}\n\n";
    for dialect in CALLERS {
        for ping in [": still here\n\n", empty_delta] {
            let router = rig.over(scripted(move |_| {
                let begun = Reply::stream().says("one");
                (0..100).fold(begun, |reply, _| reply.waits(secs(5)).chunk(ping)).stalls()
            }));
            let got = read(&router, &Ask::new(dialect, "one", "hello")).await;
            assert_eq!((got.text().as_str(), got.end()), ("one", End::Error), "{got:#?}");
            assert_about(got.end_after, secs(50), &got);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn thinking_within_an_answer_keeps_it_alive() {
    let rig = Rig::instant(ROUTES);
    let thought = "data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{\"reasoning_content\":\"hm\"}}]}\n\n";
    for dialect in CALLERS {
        let router = rig.over(scripted(move |_| {
            let begun = Reply::stream().chunk(thought).waits(secs(40)).chunk(thought);
            begun.waits(secs(40)).says("one").waits(secs(40)).chunk(CHAT_FINISH).chunk(DONE)
        }));
        let got = read(&router, &Ask::new(dialect, "one", "hello")).await;
        assert_eq!((got.text().as_str(), got.end()), ("one", End::Terminal), "{got:#?}");
        assert_about(got.end_after, secs(120), &got);
    }
}

/// What a provider says to keep its connection alive is no token, and must not stand in for one.
#[tokio::test(start_paused = true)]
async fn a_slow_first_token_is_waited_for_in_silence_unless_comments_are_wanted() {
    let mut scenario = Scenario::instant();
    for (_, behaviour) in &mut scenario.models {
        behaviour.ttft = tidegate::sim::Latency::constant(secs(35));
    }
    let rig = Rig::new(scenario, ROUTES);
    let got = rig.ask(&Ask::chat("chat/alpha", "[[sim:say=one]]")).await;
    assert_about(got.head_after, secs(35), &got);
    assert!(comments(&got).is_empty());
    for dialect in CALLERS {
        let got = rig.ask(&Ask::new(dialect, "early", "[[sim:say=one]]")).await;
        assert_eq!((got.status.as_u16(), got.text().as_str()), (200, "one"), "{got:#?}");
        assert_eq!(got.end(), End::Terminal);
        assert_about(got.head_after, secs(15), &got);
        let at = comments(&got);
        assert_eq!(at.len(), 2, "{got:#?}");
        assert_about(at[0], secs(15), &got);
        assert_about(at[1], secs(30), &got);
        assert_about(got.end_after, secs(35), &got);
    }
}

#[tokio::test(start_paused = true)]
async fn an_early_commit_fails_over_and_ends_in_an_error_event() {
    let rig = Rig::instant(ROUTES);
    for dialect in CALLERS {
        let text = "[[sim:on=alpha,stall_before_head,say=ALPHA]] [[sim:on=beta,say=beta speaks]]";
        let got = rig.ask(&Ask::new(dialect, "early", text)).await;
        assert_eq!((got.text().as_str(), got.end()), ("beta speaks", End::Terminal), "{got:#?}");
        assert_about(got.end_after, secs(40), &got);
        // All fail, but the head has been sent.
        let got = rig.ask(&Ask::new(dialect, "early", "[[sim:stall_before_head]]")).await;
        assert_eq!((got.status.as_u16(), got.end()), (200, End::Error), "{got:#?}");
        assert_about(got.head_after, secs(15), &got);
        assert_about(got.end_after, secs(80), &got);
        // What fails before the first comment still has a status of its own.
        let got = rig.ask(&Ask::new(dialect, "early", "[[sim:status=400]]")).await;
        assert_eq!(got.status, 400, "{got:#?}");
    }
    assert_eq!(rig.gateway.fleet().in_flight(), 0);
    let outcomes: Vec<_> = rig.journal().await.into_iter().map(|entry| entry.outcome).collect();
    assert_eq!(outcomes.iter().filter(|outcome| *outcome == "complete").count(), 2);
    assert_eq!(outcomes.iter().filter(|outcome| *outcome == "failed").count(), 4);
}
