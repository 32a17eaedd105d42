//! Coming back over real sockets, to the real program.

use std::time::Duration;

use serde_json::Value;
use tidegate::clock::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::last_id;
use crate::process::{Answer, PATIENCE, Program, read_answer};
use crate::rig::{Ask, End, end_of};

/// A gateway with two data threads over a simulator on a socket.
fn config(sim: &Program) -> String {
    format!(
        "[server]\nworker_threads = 2\n\
         [providers.chat]\ndialect = \"openai-chat\"\nbase_url = \"http://{}/v1\"\n\
         credentials = [{{ none = true }}]\nmodels = [{{ id = \"alpha\" }}]\n",
        sim.address
    )
}

/// Asks for a resumable stream on a real socket, reads so many events and leaves.
async fn begin(gate: &Program, text: &str, count: usize) -> (String, String) {
    let body = Ask::chat("chat/alpha", text).body().to_string();
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nx-resumable: true\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut caller = gate.connect().await;
    caller.write_all(request.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    let read = async {
        loop {
            caller.read_buf(&mut bytes).await.unwrap();
            let answer = Answer::of(&bytes);
            if answer.body.matches("id: ").count() >= count && answer.body.ends_with("\n\n") {
                return answer;
            }
        }
    };
    let answer = tokio::time::timeout(PATIENCE, read).await.expect("it answers in time");
    (answer.header("x-tidegate-stream-id").to_owned(), answer.body)
}

fn simple(method: &str, id: &str, header: &str) -> String {
    format!("{method} /v1/streams/{id} HTTP/1.1\r\nhost: x\r\n{header}connection: close\r\n\r\n")
}

#[tokio::test]
async fn on_real_sockets_a_caller_comes_back() {
    let sim = Program::sim("");
    let gate = Program::serve(&config(&sim));
    let (id, start) = begin(&gate, "[[sim:ttft=1ms,gap=30ms,tokens=30]]", 3).await;
    let header = format!("last-event-id: {}\r\n", last_id(&start));
    let rest = gate.send(simple("GET", &id, &header)).await;
    assert_eq!((rest.status, rest.is_whole), (200, true), "{rest:?}");
    // Whichever data thread accepts a connection, the streams are the same.
    for _ in 0..10 {
        let whole = gate.send(simple("GET", &id, "")).await;
        assert_eq!(format!("{start}{}", rest.body), whole.body);
        assert_eq!(end_of(&whole.body), End::Terminal);
    }
    let stats = sim.get_json("/sim/stats").await;
    assert_eq!((&stats["requests"], &stats["cancelled"]), (&1.into(), &0.into()), "{stats}");
}

#[tokio::test]
async fn on_real_sockets_delete_reaches_the_provider_within_a_tenth_of_a_second() {
    let sim = Program::sim("");
    let gate = Program::serve(&config(&sim));
    let mut best = Duration::MAX;
    // The machine may be busy, the gateway is not: the best of several counts.
    for round in 1..=5 {
        let (id, _) = begin(&gate, "[[sim:ttft=1ms,gap=30ms,tokens=10000]]", 2).await;
        let mut reader = gate.connect().await;
        reader.write_all(simple("GET", &id, "").as_bytes()).await.unwrap();
        // It reads once the first byte is there.
        reader.readable().await.unwrap();
        let started = Instant::now();
        assert_eq!(gate.send(simple("DELETE", &id, "")).await.status, 204);
        sim.until("/sim/stats", |stats| stats["cancelled"] == round).await;
        best = best.min(started.elapsed());
        let told = read_answer(&mut reader).await;
        assert_eq!((told.is_whole, end_of(&told.body)), (true, End::Error), "{told:?}");
        let is_written = |page: &Value| page["data"][0]["id"] == id.as_str();
        gate.until("/admin/v1/requests?outcome=client_gone", is_written).await;
        gate.until("/health", |health| health["in_flight"] == 0).await;
    }
    assert!(best < Duration::from_millis(100), "{best:?}");
}

#[tokio::test]
async fn a_stop_waits_for_streams_that_nobody_reads() {
    let sim = Program::sim("");
    let gate = Program::serve(&config(&sim));
    let (id, _) = begin(&gate, "[[sim:ttft=1ms,gap=20ms,tokens=40]]", 2).await;
    gate.ask_to_stop();
    let gate = gate.stopped().await;
    let gate = Program::serve_in(gate.kill(), &config(&sim), None);
    let last = gate.get_json("/admin/v1/requests").await;
    assert_eq!(last["data"][0]["id"], id.as_str(), "{last}");
    assert_eq!(last["data"][0]["outcome"], "complete", "{last}");
}

#[tokio::test]
async fn a_stop_does_not_wait_for_ever_for_streams_that_nobody_reads() {
    let sim = Program::sim("");
    let config = config(&sim).replace("[server]", "[server]\ndrain_timeout = \"300ms\"");
    let gate = Program::serve(&config);
    let (id, _) = begin(&gate, "[[sim:ttft=1ms,gap=100ms,tokens=10000]]", 2).await;
    gate.ask_to_stop();
    let gate = gate.stopped().await;
    sim.until("/sim/stats", |stats| stats["cancelled"] == 1).await;
    let gate = Program::serve_in(gate.kill(), &config, None);
    let last = gate.get_json("/admin/v1/requests").await;
    assert_eq!(last["data"][0]["id"], id.as_str(), "{last}");
    assert_eq!(last["data"][0]["outcome"], "cut", "{last}");
    assert_eq!(last["data"][0]["error_code"], "draining", "{last}");
}
