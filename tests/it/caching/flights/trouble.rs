//! Shared answers that go wrong: leaders that fail, streams that break, followers that are slow.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http_body_util::BodyExt;
use serde_json::{Value, json};
use tidegate::upstream::Transport;
use tokio::time::sleep;
use tower::ServiceExt;

use super::super::{cache, rig, text, upstream};
use super::{assert_landed, coalesced, together, together_over};
use crate::rig::{Ask, End, read};
use crate::scripted::{CHAT_FINISH, DONE, Reply, chat_chunk, scripted};

/// Providers of which the first so many calls fail after a while, and the others answer.
fn failing(failures: usize) -> (Arc<dyn Transport>, Arc<AtomicUsize>) {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let transport = scripted(move |request| {
        let while_others_come = Duration::from_millis(100);
        if counted.fetch_add(1, Ordering::Relaxed) < failures {
            let error = r#"{"error":{"message":"no","type":"invalid_request_error"}}"#;
            return Reply::status(400).waits(while_others_come).chunk(error);
        }
        let asked: Value = serde_json::from_slice(&request.body).unwrap();
        if asked["stream"] == true {
            let stream = Reply::stream().waits(while_others_come);
            return stream.says("Paris.").chunk(CHAT_FINISH).chunk(DONE);
        }
        let message = json!({ "role": "assistant", "content": "Paris." });
        let choice = json!({ "index": 0, "message": message, "finish_reason": "stop" });
        let body = json!({ "id": "c", "created": 1, "model": "m", "choices": [choice] });
        Reply::status(200).waits(while_others_come).chunk(body.to_string())
    });
    (transport, calls)
}

#[tokio::test(start_paused = true)]
async fn a_follower_takes_over_from_a_leader_that_fails() {
    let rig = rig();
    let (transport, calls) = failing(1);
    let ask = Ask::chat("faq", "One fails.");
    let asks = (0..20).map(|n| if n % 2 == 0 { ask.clone() } else { ask.clone().whole() });
    let all = together_over(&rig.over(transport), asks).await;
    assert_eq!(all[0].status, 400, "{:#?}", all[0]);
    assert!(all[1..].iter().all(|got| text(got) == "Paris."));
    let asked = all[1..].iter().filter(|got| cache(got) == "miss").count();
    let shared = all[1..].iter().filter(|got| cache(got) == "coalesced").count();
    assert_eq!((asked, shared), (1, 18));
    assert_eq!((calls.load(Ordering::Relaxed), coalesced(&rig, "took_over")), (2, 1));
    assert_landed(&rig);
}

#[tokio::test(start_paused = true)]
async fn the_same_rejection_twice_is_everybodys() {
    let rig = rig();
    let (transport, calls) = failing(usize::MAX);
    let ask = Ask::chat("faq", "All fail.");
    let all = together_over(&rig.over(transport), (0..50).map(|_| ask.clone())).await;
    assert!(all.iter().all(|got| got.status == 400), "{all:#?}");
    assert_eq!(calls.load(Ordering::Relaxed), 2);
    assert_landed(&rig);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_breaks_breaks_for_all_who_have_a_part_of_it() {
    let rig = rig();
    let broken = "Once. [[sim:first=1,cut_after=10,gap=20ms]] [[sim:tokens=20]]";
    let ask = Ask::chat("faq", broken);
    let all = together(&rig, [ask.clone(), ask.clone(), ask.clone().whole()]).await;
    for got in &all[..2] {
        assert_eq!((got.status.as_u16(), got.end()), (200, End::Error), "{got:#?}");
        assert!(got.body.contains("upstream_disconnected"), "{got:#?}");
    }
    assert_eq!(all[0].text(), all[1].text());
    assert!(!all[1].text().is_empty());
    // Who has nothing of it asks again.
    assert_eq!(cache(&all[2]), "miss");
    assert!(!text(&all[2]).is_empty());
    assert_eq!(upstream(&rig), 2);
    assert_landed(&rig);
}

#[tokio::test(start_paused = true)]
async fn who_waits_too_long_for_the_first_token_asks_anew_with_others_who_did() {
    let rig = rig();
    // What is usual has to be known.
    for n in 0..200 {
        let text = format!("{n} [[sim:ttft=50ms,tokens=5]]");
        assert_eq!(rig.ask(&Ask::chat("faq", &text)).await.status, 200);
    }
    let known = upstream(&rig);
    let ask = Ask::chat("faq", "Slow. [[sim:first=1,ttft=40s]] [[sim:tokens=30]]");
    let all = together(&rig, (0..10).map(|_| ask.clone())).await;
    assert_eq!(upstream(&rig) - known, 2);
    assert!(all[0].end_after >= Duration::from_secs(40), "{:?}", all[0].end_after);
    for got in &all[1..] {
        assert!(got.end_after < Duration::from_secs(3), "{:?}", got.end_after);
        assert_eq!(text(got), text(&all[1]));
    }
    assert_eq!(all[1..].iter().filter(|got| cache(got) == "miss").count(), 1, "it asked");
    assert_eq!(coalesced(&rig, "left"), 9);
    assert_landed(&rig);
}

#[tokio::test(start_paused = true)]
async fn a_slow_follower_holds_nobody_up_and_is_cut_off_when_it_is_too_far_behind() {
    for (pieces, end) in [(100, End::Terminal), (400, End::Error)] {
        let rig = rig();
        let router = rig.over(scripted(move |_| {
            let piece = "x".repeat(8_000);
            let begun = Reply::stream().waits(Duration::from_millis(100));
            let said = (0..pieces).fold(begun, |reply, _| {
                reply.chunk(chat_chunk(&piece)).waits(Duration::from_millis(1))
            });
            said.chunk(CHAT_FINISH).chunk(DONE)
        }));
        let ask = Ask::chat("faq", "Long.");
        let leading = tokio::spawn({
            let (router, ask) = (router.clone(), ask.clone());
            async move { read(&router, &ask).await }
        });
        sleep(Duration::from_millis(10)).await;
        let slow = router.clone().oneshot(ask.request()).await.unwrap();
        assert_eq!(slow.headers()["x-tidegate-cache"], "coalesced");
        let mut quick = read(&router, &ask).await;
        assert_eq!(quick.header("x-tidegate-cache"), "coalesced");
        assert_eq!(text(&quick).len(), pieces * 8_000);
        assert_eq!(text(&quick), text(&leading.await.unwrap()));
        let kept = rig.gateway.flights().bytes();
        assert!(kept > 800_000 && kept <= 2 << 20, "{kept}");
        let body = slow.into_body().collect().await.unwrap().to_bytes();
        quick.body = String::from_utf8(body.to_vec()).unwrap();
        assert_eq!(quick.end(), end);
        assert_landed(&rig);
    }
}
