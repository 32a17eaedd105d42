//! Tests of what needs no server. Those with a real one are in `tests/it/cluster.rs`.

use std::time::Duration;

use bytes::Bytes;

use super::settings::Address;
use super::*;
use crate::clock::Instant;

fn address(url: &str) -> Result<Address, String> {
    url.parse().map_err(|error: ClusterSettingsError| error.to_string())
}

#[test]
fn urls_say_where_the_server_is_and_how_to_log_in() {
    let plain = address("redis://127.0.0.1").unwrap();
    assert_eq!(plain.to_string(), "redis://127.0.0.1:6379/0");
    assert!(!plain.tls);
    let full = address("rediss://me:p%40ss@redis.internal:7000/3").unwrap();
    assert_eq!(full.to_string(), "rediss://<secret>@redis.internal:7000/3");
    assert_eq!(format!("{full:?}"), full.to_string());
    assert_eq!(full.login.username(), Some("me"));
    assert_eq!(full.login.password(), Some("p@ss"));
    assert_eq!((full.tls, full.port, full.login.db()), (true, 7000, 3));
    assert_eq!(address("valkey://[::1]:1").unwrap().to_string(), "redis://[::1]:1/0");
}

#[test]
fn what_is_no_url_is_refused_without_being_shown() {
    for url in [
        "",
        "127.0.0.1:6379",
        "http://h",
        "redis://",
        "redis://hunter2@h/x",
        "redis://hunter2@h/-1",
        "redis://:hunter2@h?protocol=resp2",
        "redis://:hunter2#@h",
        "rediss://hunter2@h:99999",
    ] {
        let why = address(url).unwrap_err();
        assert!(!why.contains("hunter2"), "{url}: {why}");
        let settings = ClusterSettings { url: Some(RedisUrl::new(url)), ..Default::default() };
        assert_eq!(settings.problems(), [("url", why)]);
        assert!(!format!("{settings:?}").contains("hunter2"), "{settings:?}");
        assert!(!serde_json::to_string(&settings).unwrap().contains("hunter2"));
    }
}

#[test]
fn names_are_plain() {
    let named = |node: &str, namespace: &str| {
        let (node, namespace) = (Some(node.to_owned()), namespace.to_owned());
        ClusterSettings { url: None, node, namespace }.problems().len()
    };
    assert_eq!(named("eu-1.a_b", "t"), 0);
    assert_eq!(named("", "a b"), 2);
    assert_eq!(named("{x}", &"x".repeat(65)), 2);
}

#[test]
fn facts_are_read_as_they_were_written() {
    let parked = Parked {
        provider: "openai".to_owned(),
        credential: "0f".to_owned(),
        model: None,
        why: ParkedWhy::RateLimited,
        for_ms: 1_500,
    };
    let node = "a".to_owned();
    for fact in
        [Fact::KeysChanged, Fact::ConfigRevision { node, revision: 7 }, Fact::Parked(parked)]
    {
        let text = serde_json::to_string(&fact).unwrap();
        assert_eq!(serde_json::from_str::<Fact>(&text).unwrap(), fact, "{text}");
    }
}

#[test]
fn answers_of_another_shape_are_none() {
    assert_eq!(draw::grants(&[1, 2], 1), None);
    assert_eq!(draw::grants(&[1, 2, 3], 2), None);
    assert_eq!(draw::grants(&[1, 2, 3, 4, 5, 6], 1), None);
    let grant =
        Grant { granted: 1, left: -2, next_in: Duration::from_micros(3), is_unsettled: false };
    assert_eq!(draw::grants(&[1, -2, 3], 1), Some(vec![grant]));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_alone_has_the_same_face() {
    let cluster = Cluster::alone();
    assert!(cluster.is_alone());
    assert_eq!(cluster.live_nodes(), 1);
    assert_eq!(cluster.nodes().len(), 1);
    assert_eq!(cluster.health().state, ClusterState::Alone);
    assert_eq!(cluster.draw(&[]).await, Err(Unreachable::Alone));
    cluster.publish(Fact::KeysChanged);
    assert_eq!(cluster.health().facts_dropped, 0);
    let (_, upkeep) =
        Cluster::new(&ClusterSettings::default(), &crate::clock::FixedWallClock(1)).unwrap();
    upkeep.run().await;
}

#[tokio::test(start_paused = true)]
async fn a_log_in_process_is_followed_from_its_beginning() {
    let relay = Cluster::alone().relay().clone();
    let mut early = relay.follow("a", 0);
    let (entries, ()) = tokio::join!(early.read(Duration::from_secs(9)), async {
        assert_eq!(relay.append("a", 0, Bytes::from("one")).await, Ok(Appended::Added));
    });
    assert_eq!(entries.unwrap(), ["one"]);
    assert_eq!(relay.append("a", 0, Bytes::from("one")).await, Ok(Appended::Known));
    assert_eq!(relay.append("a", 2, Bytes::from("three")).await, Ok(Appended::Gone));
    assert_eq!(relay.append("a", 1, Bytes::from("two")).await, Ok(Appended::Added));
    assert_eq!(relay.follow("a", 0).read(Duration::ZERO).await.unwrap(), ["one", "two"]);
    assert_eq!(early.read(Duration::ZERO).await.unwrap(), ["two"]);
    let started = Instant::now();
    assert!(early.read(Duration::from_secs(3)).await.unwrap().is_empty());
    assert_eq!(started.elapsed(), Duration::from_secs(3));
    let large = Bytes::from(vec![0; MAX_LOG_BYTES]);
    assert_eq!(relay.append("a", 2, large).await, Ok(Appended::Full));
    tokio::time::advance(KEPT_FOR).await;
    assert_eq!(relay.append("a", 2, Bytes::from("three")).await, Ok(Appended::Gone));
}
