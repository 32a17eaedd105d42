//! A shared answer whose readers run on threads of their own.

use std::time::Duration;

use super::super::{rig, text};
use super::{assert_landed, coalesced, together_over};
use crate::rig::Ask;
use crate::scripted::{CHAT_FINISH, DONE, Reply, scripted};

const PIECES: usize = 2_000;
const ROUNDS: u64 = 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn on_several_threads_everybody_gets_every_piece_in_its_place() {
    let rig = rig();
    let router = rig.over(scripted(|_| {
        // The others join meanwhile; from then on every piece is there when it is asked for.
        let stream = Reply::stream().waits(Duration::from_millis(200));
        let stream = (0..PIECES).fold(stream, |stream, n| stream.says(&format!("{n} ")));
        stream.chunk(CHAT_FINISH).chunk(DONE)
    }));
    let said: String = (0..PIECES).map(|n| format!("{n} ")).collect();
    for round in 0..ROUNDS {
        let ask = Ask::chat("faq", &format!("Count, round {round}."));
        let all = together_over(&router, [ask.clone(), ask.clone(), ask]).await;
        for got in &all {
            assert!(text(got) == said, "round {round}: {got:#?}");
        }
    }
    assert_eq!(coalesced(&rig, "shared"), 2 * ROUNDS);
    assert_landed(&rig);
}
