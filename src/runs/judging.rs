//! What judges are asked besides runs: answers that people have labelled. Whoever makes runs in
//! this process asks; whoever wants to know waits.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use super::{Runs, RunsError};
use crate::clock::Instant;
use crate::compat::{Ask, Reply};

/// What a judge is to be asked.
#[derive(Debug)]
pub(crate) struct Judging {
    /// The judge: what a chat completion names as its model.
    pub(crate) judge: String,
    /// The questions.
    pub(crate) asks: Vec<Ask>,
    /// When whoever wants to know waits no longer. No question is begun later.
    pub(crate) by: Instant,
    /// Takes what is known of each question then.
    pub(crate) tell: oneshot::Sender<Vec<Option<Reply>>>,
}

/// Where questions are handed over to the thread that asks.
#[derive(Debug)]
pub(super) struct Hatch {
    send: mpsc::Sender<Judging>,
    /// Until it is taken.
    receive: Mutex<Option<mpsc::Receiver<Judging>>>,
}

/// Hand-overs that may wait.
const MOST_WAITING: usize = 4;
/// How much longer than it has the other side is waited for.
const PATIENCE: Duration = Duration::from_secs(3);

// === impl Hatch ===

impl Hatch {
    pub(super) fn new() -> Self {
        let (send, receive) = mpsc::channel(MOST_WAITING);
        Self { send, receive: Mutex::new(Some(receive)) }
    }
}

// === impl Runs ===

impl Runs {
    /// Has a judge asked, and says what is known of each question, in their order, when all are
    /// answered or the time is over. Questions under way then are finished, and what was answered
    /// is never asked again: who asks the same once more comes further.
    ///
    /// # Errors
    ///
    /// [`RunsError::NoJudge`].
    ///
    /// # Cancel safety
    ///
    /// The questions are asked all the same until the time is over.
    pub async fn judge(
        &self,
        judge: &str,
        asks: Vec<Ask>,
        within: Duration,
    ) -> Result<Vec<Option<Reply>>, RunsError> {
        if self.shared.hatch.receive.lock().is_some() {
            return Err(RunsError::NoJudge);
        }
        let (tell, told) = oneshot::channel();
        let by = Instant::now() + within;
        let judging = Judging { judge: judge.to_owned(), asks, by, tell };
        self.shared.hatch.send.try_send(judging).map_err(|_| RunsError::NoJudge)?;
        match tokio::time::timeout_at(by + PATIENCE, told).await {
            Ok(Ok(replies)) => Ok(replies),
            Ok(Err(_)) | Err(_) => Err(RunsError::NoJudge),
        }
    }

    /// Takes the place of the one who asks; there is one.
    pub(crate) fn judgings(&self) -> Option<mpsc::Receiver<Judging>> {
        self.shared.hatch.receive.lock().take()
    }
}
