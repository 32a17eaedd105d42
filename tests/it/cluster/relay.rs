//! Logs of live answers, from one node to others.

use std::time::Duration;

use bytes::Bytes;
use tidegate::cluster::{Appended, FollowError, MAX_LOG_BYTES};
use tokio::task::JoinSet;

use super::{Member, PATIENCE};
use crate::servers::redis::Redis;

#[tokio::test]
async fn followers_on_other_nodes_get_every_entry_in_order() {
    let Some(redis) = Redis::start() else { return };
    let (writer, a, b) =
        (Member::join(&redis).await, Member::join(&redis).await, Member::join(&redis).await);
    let mut followers = JoinSet::new();
    // More than may wait on connections of their own.
    for index in 0..80 {
        let node = if index % 2 == 0 { &a } else { &b };
        let mut follower = node.cluster.relay().follow("x", 0);
        followers.spawn(async move {
            let mut all = Vec::new();
            while all.last().is_none_or(|last| last != "199") {
                let read = follower.read(PATIENCE).await.unwrap();
                assert!(!read.is_empty(), "nothing came for long");
                all.extend(read);
            }
            all
        });
    }
    let relay = writer.cluster.relay();
    for seq in 0..200 {
        let entry = Bytes::from(seq.to_string());
        assert_eq!(relay.append("x", seq, entry.clone()).await, Ok(Appended::Added));
        if seq % 50 == 7 {
            assert_eq!(relay.append("x", seq, entry).await, Ok(Appended::Known));
            // A writer that pauses lets followers catch up and wait.
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }
    let expected: Vec<_> = (0..200).map(|seq| Bytes::from(seq.to_string())).collect();
    for all in followers.join_all().await {
        assert_eq!(all, expected);
    }
    let mut late = a.cluster.relay().follow("x", 190);
    assert_eq!(late.read(Duration::ZERO).await.unwrap(), expected[190..]);
    assert_eq!(late.next_seq(), 200);
    assert!(late.read(Duration::from_millis(50)).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_log_is_bounded_and_has_no_gaps() {
    let Some(redis) = Redis::start() else { return };
    let node = Member::join(&redis).await;
    let relay = node.cluster.relay();
    assert_eq!(relay.append("x", 1, Bytes::from("b")).await, Ok(Appended::Gone));
    let half = Bytes::from(vec![7; MAX_LOG_BYTES / 2]);
    assert_eq!(relay.append("x", 0, half.clone()).await, Ok(Appended::Added));
    assert_eq!(relay.append("x", 1, half.clone()).await, Ok(Appended::Added));
    assert_eq!(relay.append("x", 2, Bytes::from("c")).await, Ok(Appended::Full));
    let mut follower = relay.follow("x", 0);
    assert_eq!(follower.read(Duration::ZERO).await.unwrap(), [half.clone(), half]);
    let mut connection = redis.connection();
    let keys: Vec<String> = redis::cmd("KEYS").arg("*relay*").query(&mut connection).unwrap();
    let ttl: i64 = redis::cmd("PTTL").arg(&keys[0]).query(&mut connection).unwrap();
    assert!((1..=600_000).contains(&ttl), "{ttl}");
}

#[tokio::test]
async fn a_follower_goes_on_when_the_server_is_back_and_notices_another_log() {
    let Some(mut redis) = Redis::start() else { return };
    let (writer, reader) = (Member::join(&redis).await, Member::join(&redis).await);
    let (relay, mut follower) = (writer.cluster.relay(), reader.cluster.relay().follow("x", 0));
    relay.append("x", 0, Bytes::from("a")).await.unwrap();
    assert_eq!(follower.read(PATIENCE).await.unwrap(), ["a"]);
    let mut waiting = JoinSet::new();
    waiting.spawn(async move {
        let lost = follower.read(PATIENCE).await;
        (follower, lost)
    });
    // Its connection is one more than each node keeps, two, and the one that looks.
    let mut connection = redis.connection();
    let clients = |connection: &mut redis::Connection| -> usize {
        let list: String = redis::cmd("CLIENT").arg("LIST").query(connection).unwrap();
        list.lines().filter(|line| line.contains("cmd=xread")).count()
    };
    while clients(&mut connection) == 0 {
        tokio::task::yield_now().await;
    }
    redis.kill();
    let (mut follower, lost) = waiting.join_next().await.unwrap().unwrap();
    assert!(matches!(lost, Err(FollowError::Unreachable(_))), "{lost:?}");
    redis.restart();
    writer.connected().await;
    reader.connected().await;
    // The server lost the log, so it cannot be gone on with; one that is begun again is another.
    assert_eq!(relay.append("x", 1, Bytes::from("b")).await, Ok(Appended::Gone));
    assert!(follower.read(Duration::ZERO).await.unwrap().is_empty());
    for seq in 0..3 {
        relay.append("x", seq, Bytes::from("z")).await.unwrap();
    }
    assert_eq!(follower.next_seq(), 1);
    assert_eq!(follower.read(PATIENCE).await.unwrap(), ["z", "z"]);
}
