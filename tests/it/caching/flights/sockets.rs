//! Shared answers on real sockets.

use std::collections::BTreeSet;

use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;

use crate::process::{Program, post, read_answer};
use crate::rig::Ask;

/// A node over a simulator, with a route that keeps answers.
fn node(sim: &Program) -> Program {
    let faq = "[routes.faq]\ntargets = [{ model = \"far/alpha\" }]\ncache = { exact = true }";
    Program::serve_far(sim, faq)
}

/// Sends requests on connections of their own, all of them open before the first is written; every
/// second one is for a stream.
async fn crowd(nodes: &[Program], count: usize, text: &str) -> Vec<String> {
    let mut callers = Vec::new();
    for n in 0..count {
        callers.push((n, nodes[n % nodes.len()].connect().await));
    }
    let mut asking = JoinSet::new();
    for (n, mut caller) in callers {
        let ask = Ask::chat("faq", text);
        // Each node gets both.
        let ask = if (n / nodes.len()).is_multiple_of(2) { ask } else { ask.whole() };
        let request = post(ask.path(), ask.body().to_string().as_bytes());
        asking.spawn(async move {
            caller.write_all(&request).await.unwrap();
            let answer = read_answer(&mut caller).await;
            assert_eq!((answer.status, answer.is_whole), (200, true), "{answer:?}");
            match ask.stream {
                false => {
                    let json: Value = serde_json::from_str(&answer.body).unwrap();
                    json["choices"][0]["message"]["content"].as_str().unwrap().to_owned()
                }
                true => {
                    assert!(answer.body.ends_with("data: [DONE]\n\n"), "{answer:?}");
                    let events =
                        answer.body.lines().filter_map(|line| line.strip_prefix("data: {"));
                    let events = events.map(|json| {
                        let json: Value = serde_json::from_str(&format!("{{{json}")).unwrap();
                        json["choices"][0]["delta"]["content"].as_str().unwrap_or("").to_owned()
                    });
                    events.collect()
                }
            }
        });
    }
    asking.join_all().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_real_sockets_a_thousand_at_once_are_one_call_for_a_node() {
    for count in [1, 3] {
        let sim = Program::sim("");
        let nodes: Vec<_> = (0..count).map(|_| node(&sim)).collect();
        let text = "What is it? [[sim:ttft=4s,gap=5ms,tokens=40]]";
        let said = crowd(&nodes, 1_000, text).await;
        assert_eq!(said.len(), 1_000);
        let different: BTreeSet<_> = said.iter().collect();
        assert!(different.len() <= count && said[0].len() > 100, "{different:?}");
        let stats = sim.get_json("/sim/stats").await;
        assert_eq!(stats["requests"], count, "{stats}");
    }
}

#[tokio::test]
async fn on_real_sockets_the_connection_closes_with_the_last_caller() {
    let sim = Program::sim("");
    let node = node(&sim);
    let ask = Ask::chat("faq", "Long. [[sim:ttft=1ms,gap=50ms,tokens=500]]");
    let request = post(ask.path(), ask.body().to_string().as_bytes());
    let mut callers = Vec::new();
    for _ in 0..3 {
        let mut caller = node.connect().await;
        caller.write_all(&request).await.unwrap();
        caller.readable().await.unwrap();
        callers.push(caller);
    }
    let stats = sim.get_json("/sim/stats").await;
    assert_eq!((&stats["requests"], &stats["cancelled"]), (&1.into(), &0.into()), "{stats}");
    drop(callers);
    sim.until("/sim/stats", |stats| stats["cancelled"] == 1).await;
}

#[tokio::test]
async fn a_stop_waits_for_those_who_share_an_answer_on_whatever_threads_they_are() {
    let sim = Program::sim("");
    let gate = Program::serve_far(
        &sim,
        r#"
        [server]
        worker_threads = 2
        [routes.faq]
        targets = [{ model = "far/alpha" }]
        cache = { exact = true }
        "#,
    );
    let mut followers = Vec::new();
    for n in 0..12_u64 {
        let ask = Ask::chat("faq", &format!("What is {n}? [[sim:ttft=1ms,gap=20ms,tokens=60]]"));
        let request = post(ask.path(), ask.body().to_string().as_bytes());
        let mut leader = gate.connect().await;
        leader.write_all(&request).await.unwrap();
        leader.readable().await.unwrap();
        let mut follower = gate.connect().await;
        follower.write_all(&request).await.unwrap();
        follower.readable().await.unwrap();
        // The call goes on, on the thread of one who is gone.
        drop(leader);
        followers.push(follower);
        sim.until("/sim/stats", |stats| stats["requests"] == n + 1).await;
    }
    gate.ask_to_stop();
    for follower in &mut followers {
        let answer = read_answer(follower).await;
        assert!(answer.body.ends_with("data: [DONE]\n\n"), "{answer:?}");
    }
    gate.stopped().await;
}
