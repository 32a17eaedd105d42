//! What is known to be used of limits, where the server knows it, and where it has forgotten.

use std::time::Duration;

use tidegate::cluster::{Draw, Source, Want};

use super::{LOOK, Member, settle, take, told, window};
use crate::servers::redis::Redis;

#[tokio::test]
async fn a_budget_is_never_below_what_is_known_to_be_used() {
    let Some(redis) = Redis::start() else { return };
    settle(&redis);
    let node = Member::join(&redis).await;
    assert_eq!(node.one(window("usd", 100, 40, take(10))).await.unwrap().left, 50);
    assert_eq!(node.one(window("usd", 100, 35, LOOK)).await.unwrap().left, 50);
    assert_eq!(node.one(window("usd", 100, 70, LOOK)).await.unwrap().left, 20);
    assert_eq!(node.one(window("usd", 100, 70, Want::Book(30))).await.unwrap().left, -10);
    assert_eq!(node.one(window("usd", 100, 70, take(1))).await.unwrap().granted, 0);
}

#[tokio::test]
async fn a_server_without_a_memory_adds_up_what_nodes_tell_it_before_it_grants_anything() {
    let Some(redis) = Redis::start() else { return };
    settle(&redis);
    let (a, b) = (Member::join(&redis).await, Member::join(&redis).await);
    assert_eq!(a.one(told("n", 20, (Some(0), 0, 0), take(13))).await.unwrap().left, 7);
    assert_eq!(b.one(told("n", 20, (Some(0), 0, 0), take(7))).await.unwrap().left, 0);
    let _: () = redis::cmd("FLUSHALL").query(&mut redis.connection()).unwrap();
    let ask = told("n", 20, (Some(13), 13, 0), take(7));
    let asked = a.one(ask.clone()).await.unwrap();
    assert!(asked.is_unsettled && asked.granted == 0, "{asked:?}");
    assert!(asked.next_in <= Duration::from_secs(2), "{asked:?}");
    // What is told twice counts once.
    for _ in 0..2 {
        assert_eq!(b.one(told("n", 20, (Some(7), 7, 0), LOOK)).await.unwrap().left, 0);
    }
    settle(&redis);
    let asked = a.one(ask).await.unwrap();
    assert_eq!((asked.granted, asked.left, asked.is_unsettled), (0, 0, false));
    // What a node gives back is there again.
    assert_eq!(b.one(told("n", 20, (Some(4), 20, 0), LOOK)).await.unwrap().left, 3);
}

#[tokio::test]
async fn what_dead_nodes_used_is_known_by_what_the_others_heard() {
    let Some(redis) = Redis::start() else { return };
    settle(&redis);
    let (a, b) = (Member::join(&redis).await, Member::join(&redis).await);
    // Five are of a node that is no more. Both know of 25, and what each has is among them.
    assert_eq!(a.one(told("n", 100, (Some(13), 25, 0), LOOK)).await.unwrap().left, 75);
    assert_eq!(b.one(told("n", 100, (Some(7), 25, 0), LOOK)).await.unwrap().left, 75);
    assert_eq!(a.one(told("n", 100, (Some(13), 25, 0), take(10))).await.unwrap().left, 65);
    // A node that starts now has it from the journal, and knows of nobody's stock.
    let c = Member::join(&redis).await;
    assert_eq!(c.one(told("n", 100, (Some(0), 0, 30), take(5))).await.unwrap().left, 60);
}

#[tokio::test]
async fn what_was_before_a_limit_comes_on_top_of_what_all_nodes_have_had_since() {
    let Some(redis) = Redis::start() else { return };
    settle(&redis);
    let nodes = [Member::join(&redis).await, Member::join(&redis).await];
    let ask = |held: i64, before: i64, want: Want| {
        let (id, ends_at_ms) = ("2096".to_owned(), 4_000_000_000_000);
        let held = Some(held);
        let of =
            Source::Window { limit: 100, id, ends_at_ms, held, heard: 0, before, is_beside: true };
        Draw { key: "new".to_owned(), of, want }
    };
    // Both use it before they know what was used before it was there.
    nodes[0].one(ask(0, 0, take(5))).await.unwrap();
    nodes[1].one(ask(0, 0, take(3))).await.unwrap();
    assert_eq!(nodes[0].one(ask(5, 50, LOOK)).await.unwrap().left, 42);
    assert_eq!(nodes[1].one(ask(3, 50, LOOK)).await.unwrap().left, 42);
    assert_eq!(nodes[1].one(ask(3, 50, take(2))).await.unwrap().left, 40);
}

#[tokio::test]
async fn a_bucket_that_the_server_forgot_is_no_fuller_than_a_node_knows() {
    let Some(redis) = Redis::start() else { return };
    let node = Member::join(&redis).await;
    let ask = |most, want| {
        let of = Source::Bucket { rate_micro_per_s: 1, burst: 100, most };
        Draw { key: "b".to_owned(), of, want }
    };
    assert_eq!(node.one(ask(100, take(70))).await.unwrap().left, 30);
    let _: () = redis::cmd("FLUSHALL").query(&mut redis.connection()).unwrap();
    assert_eq!(node.one(ask(30, take(5))).await.unwrap().left, 25);
    assert_eq!(node.one(ask(100, LOOK)).await.unwrap().left, 25, "it is remembered again");
}
