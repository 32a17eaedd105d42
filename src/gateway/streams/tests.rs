//! Streams over answers that a test makes up, on a paused clock.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;

use super::*;
use crate::rejection::Rejection;

/// An answer that a test feeds.
struct Fed {
    events: UnboundedReceiver<Bytes>,
    has_told_its_end: bool,
    until: Option<Instant>,
    alarm: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl Source for Fed {
    fn poll_events(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        self.events.poll_recv(cx)
    }

    fn poll_overdue(&mut self, cx: &mut Context<'_>) -> Poll<Rejection> {
        let Some(until) = self.until else { return Poll::Pending };
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
        alarm.as_mut().poll(cx).map(|()| Rejection::DeadlinePassed { within: Duration::ZERO })
    }

    fn has_told_its_end(&self) -> bool {
        self.has_told_its_end
    }
}

const LIMITS: Limits =
    Limits { per_stream: 10_000, total: 40_000, kept_for: Duration::from_secs(300) };

fn fed() -> (UnboundedSender<Bytes>, Fed) {
    let (feed, events) = unbounded_channel();
    (feed, Fed { events, has_told_its_end: false, until: None, alarm: None })
}

fn opened(id: &str) -> Opened {
    Opened {
        id: RequestId::new(id),
        owner: CallerId::new("me"),
        dialect: Dialect::OpenAiChat,
        served: Served::default(),
    }
}

/// An event of about a thousand bytes.
fn kilobyte(n: usize) -> Bytes {
    format!("data: {n:0>900}\n\n").into()
}

/// Lets all tasks run until they wait.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

async fn read_on(reader: Reader) -> String {
    let read = reader.collect();
    let body = tokio::time::timeout(Duration::from_secs(1), read).await.expect("it ends").unwrap();
    String::from_utf8(body.to_bytes().to_vec()).unwrap()
}

fn find(streams: &Streams, id: &str) -> Arc<Stream> {
    streams.find(id, &CallerId::new("me")).expect("it is there")
}

#[tokio::test(start_paused = true)]
async fn readers_get_the_same_numbered_events_however_late_they_come() {
    let streams = Streams::new(LIMITS);
    let (feed, source) = fed();
    let first = streams.start(source, opened("a")).ok().expect("there is room");
    feed.send("data: one\n\ndata: two\n\n: hush\n\n".into()).unwrap();
    settle().await;
    let late = find(&streams, "a").read_after(1).unwrap();
    feed.send("data: three\n\n".into()).unwrap();
    drop(feed);
    assert_eq!(
        read_on(first).await,
        "id: 1\ndata: one\n\nid: 2\ndata: two\n\nid: 3\ndata: three\n\n"
    );
    let rest = "id: 2\ndata: two\n\nid: 3\ndata: three\n\n";
    assert_eq!(read_on(late).await, rest);
    assert_eq!(read_on(find(&streams, "a").read_after(1).unwrap()).await, rest);
    assert_eq!(read_on(find(&streams, "a").read_after(3).unwrap()).await, "");
    let ahead = find(&streams, "a").read_after(4).unwrap_err();
    assert!(matches!(ahead, Rejection::Invalid { .. }), "{ahead}");
}

#[tokio::test(start_paused = true)]
async fn comments_are_passed_on_and_not_kept() {
    let streams = Streams::new(LIMITS);
    let (feed, source) = fed();
    let mut reader = streams.start(source, opened("a")).ok().expect("there is room");
    for _ in 0..3 {
        feed.send(": hush\n\n".into()).unwrap();
        settle().await;
        let frame = reader.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(frame, ": keep-alive\n\n");
    }
    feed.send("data: one\n\n".into()).unwrap();
    drop(feed);
    assert_eq!(read_on(reader).await, "id: 1\ndata: one\n\n");
}

#[tokio::test(start_paused = true)]
async fn without_readers_the_oldest_events_make_room() {
    let streams = Streams::new(LIMITS);
    let (feed, source) = fed();
    drop(streams.start(source, opened("a")));
    for n in 1..=50 {
        feed.send(kilobyte(n)).unwrap();
    }
    drop(feed);
    settle().await;
    assert_eq!(streams.running(), 0);
    let stream = find(&streams, "a");
    let Err(Rejection::StreamPast { after: 0, oldest }) = stream.read_after(0) else {
        panic!("the beginning is still there");
    };
    assert!((40..45).contains(&oldest), "{oldest}");
    assert!(stream.read_after(oldest - 2).is_err());
    let rest = read_on(stream.read_after(oldest - 1).unwrap()).await;
    assert!(rest.starts_with(&format!("id: {oldest}\n")), "{rest}");
    assert_eq!(rest.matches("data: ").count() as u64, 51 - oldest);
    assert!(streams.bytes() <= LIMITS.per_stream + 1_024, "{}", streams.bytes());
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_loses_nothing_and_one_that_left_holds_up_nothing() {
    let streams = Streams::new(LIMITS);
    let (feed, source) = fed();
    let slow = streams.start(source, opened("a")).ok().expect("there is room");
    let slower = find(&streams, "a").read_after(0).unwrap();
    for n in 1..=50 {
        feed.send(kilobyte(n)).unwrap();
    }
    drop(feed);
    settle().await;
    assert!(streams.bytes() <= LIMITS.per_stream + 1_024, "{}", streams.bytes());
    assert_eq!(streams.running(), 1, "the answer waits for its readers");
    drop(slower);
    let got = read_on(slow).await;
    let whole: String = (1..=50)
        .map(|n| format!("id: {n}\n{}", String::from_utf8(kilobyte(n).to_vec()).unwrap()))
        .collect();
    assert_eq!(got, whole);
    assert_eq!(streams.running(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_event_larger_than_the_limit_is_passed_on() {
    let streams = Streams::new(LIMITS);
    let (feed, source) = fed();
    let reader = streams.start(source, opened("a")).ok().expect("there is room");
    let large = format!("data: {}\n\n", "x".repeat(2 * LIMITS.per_stream));
    feed.send(format!("data: a\n\n{large}data: b\n\n").into()).unwrap();
    drop(feed);
    assert_eq!(
        read_on(reader).await,
        format!("id: 1\ndata: a\n\nid: 2\n{large}id: 3\ndata: b\n\n")
    );
    settle().await;
    let past = find(&streams, "a").read_after(1).unwrap_err();
    assert!(matches!(past, Rejection::StreamPast { after: 1, oldest: 3 }), "{past:?}");
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_stream_says_so_once_and_is_forgotten() {
    for is_told in [false, true] {
        let streams = Streams::new(LIMITS);
        let (feed, mut source) = fed();
        source.has_told_its_end = is_told;
        let reader = streams.start(source, opened("a")).ok().expect("there is room");
        feed.send("data: one\n\n".into()).unwrap();
        settle().await;
        streams.cancel(&find(&streams, "a"));
        settle().await;
        assert!(feed.is_closed(), "upstream is let go of");
        assert_eq!((streams.running(), streams.len()), (0, 0));
        assert!(streams.find("a", &CallerId::new("me")).is_none());
        let got = read_on(reader).await;
        let (first, last) = got.split_at("id: 1\ndata: one\n\n".len());
        assert_eq!(first, "id: 1\ndata: one\n\n");
        assert_eq!(last.contains("stream_cancelled"), !is_told, "{last}");
        assert_eq!(last.is_empty(), is_told, "{last}");
        assert_eq!(streams.bytes(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn readers_are_told_when_the_gateway_ends_before_the_stream() {
    let streams = Streams::new(LIMITS);
    let (feed, source) = fed();
    let reader = streams.start(source, opened("a")).ok().expect("there is room");
    feed.send("data: one\n\n".into()).unwrap();
    settle().await;
    drop(streams);
    let got = read_on(reader).await;
    assert!(got.starts_with("id: 1\ndata: one\n\nid: 2\n") && got.contains("draining"), "{got}");
}

#[tokio::test(start_paused = true)]
async fn only_its_owner_finds_a_stream_and_not_for_ever() {
    let streams = Streams::new(LIMITS);
    let (feed, source) = fed();
    drop(streams.start(source, opened("a")));
    assert!(streams.find("a", &CallerId::new("you")).is_none());
    assert!(streams.find("b", &CallerId::new("me")).is_none());
    // The time counts from the end.
    tokio::time::sleep(2 * LIMITS.kept_for).await;
    find(&streams, "a");
    drop(feed);
    settle().await;
    tokio::time::sleep(LIMITS.kept_for - Duration::from_millis(10)).await;
    find(&streams, "a");
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert!(streams.find("a", &CallerId::new("me")).is_none());
    assert_eq!((streams.len(), streams.bytes()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn upkeep_forgets_what_nobody_asks_for() {
    let streams = Streams::new(LIMITS);
    let (feed, source) = fed();
    drop(streams.start(source, opened("a")));
    drop(feed);
    let upkeep = streams.upkeep();
    let _elapsed = tokio::time::timeout(LIMITS.kept_for + 2 * UPKEEP, upkeep).await;
    assert_eq!((streams.len(), streams.bytes()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn all_streams_together_are_bounded() {
    let streams = Streams::new(LIMITS);
    let mut feeds = Vec::new();
    let mut refused = 0;
    for n in 0..100 {
        let (feed, source) = fed();
        match streams.start(source, opened(&n.to_string())) {
            Ok(_left) => feeds.push(feed),
            // What is refused is given back, and still works.
            Err(mut source) => {
                feed.send(kilobyte(n)).unwrap();
                assert_eq!(source.events.recv().await, Some(kilobyte(n)));
                refused += 1;
            }
        }
    }
    // A stream costs something before its first event.
    assert_eq!((feeds.len(), refused), (30, 70));
    for n in 0..50 {
        for feed in &feeds {
            feed.send(kilobyte(n)).unwrap();
        }
        settle().await;
        // The newest event of each is always kept.
        assert!(streams.bytes() <= LIMITS.total + feeds.len() * 1_000, "{}", streams.bytes());
    }
    drop(feeds);
    settle().await;
    assert_eq!((streams.running(), streams.len()), (0, 30));
    tokio::time::sleep(LIMITS.kept_for).await;
    let (_feed, source) = fed();
    assert!(streams.start(source, opened("later")).is_ok(), "there is room again");
    assert_eq!(streams.len(), 1);
}

/// Readers and the answer on several threads, over a ring that is always full: nobody is lost,
/// nobody waits for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn threads_do_not_miss_each_other() {
    const EVENTS: u64 = 5_000;
    let streams = Streams::new(Limits { per_stream: 3_000, ..LIMITS });
    let (feed, source) = fed();
    let first = streams.start(source, opened("a")).ok().expect("there is room");
    let mut readers = vec![first];
    readers.extend((0..3).map(|_| find(&streams, "a").read_after(0).unwrap()));
    let mut reading = JoinSet::new();
    for (index, mut reader) in readers.into_iter().enumerate() {
        // One of them leaves early.
        let leaves_at = if index == 3 { EVENTS / 2 } else { EVENTS };
        reading.spawn(async move {
            let mut got = String::new();
            while let Some(frame) = reader.frame().await {
                got.push_str(std::str::from_utf8(&frame.unwrap().into_data().unwrap()).unwrap());
                if got.ends_with(&format!("data: {leaves_at:0>100}\n\n")) {
                    break;
                }
                tokio::task::yield_now().await;
            }
            (index, got)
        });
    }
    for n in 1..=EVENTS {
        feed.send(format!("data: {n:0>100}\n\n").into()).unwrap();
        if n % 7 == 0 {
            tokio::task::yield_now().await;
        }
    }
    drop(feed);
    let whole: String = (1..=EVENTS).map(|n| format!("id: {n}\ndata: {n:0>100}\n\n")).collect();
    let all = tokio::time::timeout(Duration::from_secs(20), reading.join_all()).await;
    for (index, got) in all.expect("they end") {
        assert!(whole.starts_with(&got), "reader {index}");
        assert!(got == whole || index == 3, "reader {index} got {} bytes", got.len());
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_stalls_does_not_stop_the_clock_of_the_request() {
    let streams = Streams::new(LIMITS);
    let (feed, mut source) = fed();
    source.until = Some(Instant::now() + Duration::from_secs(30));
    let stalled = streams.start(source, opened("a")).ok().expect("there is room");
    (0..15).for_each(|n| feed.send(kilobyte(n)).unwrap());
    tokio::time::sleep(Duration::from_secs(29)).await;
    assert_eq!(streams.running(), 1);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(feed.is_closed(), "upstream is let go of");
    assert_eq!(streams.running(), 0);
    let read = read_on(stalled).await;
    let events: Vec<&str> = read.split_terminator("\n\n").collect();
    assert!((9..15).contains(&events.len()), "{}", events.len());
    assert!(events.last().unwrap().contains("deadline_passed"), "{read}");
}
