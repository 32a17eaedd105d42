//! The task of an execution: from the claim of its row to the outcome in the store.

use std::collections::VecDeque;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderName, HeaderValue, StatusCode};
use http_body::Body;

use super::execution::{Execution, Head};
use super::relay::{self, Told};
use super::{Asked, IfRunning, Shared, Work, word};
use crate::clock::Instant;
use crate::cluster::{Follower, Relay};
use crate::dispatch::{Ending, Stop};
use crate::idempotency::{Claimed, Fence, IdempotencySettings, Kept, RowId};
use crate::journal::Reuse;
use crate::rejection::{Duplicate, Rejection};
use crate::store::StoreError;

/// After which pause the row of another node is looked at again: at first, and at most.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
const MAX_LOOK_AGAIN: Duration = Duration::from_millis(500);
/// After which pause an outcome is written again that the store did not take: at first, and at
/// most.
const WRITE_AGAIN: Duration = Duration::from_millis(500);
const MAX_WRITE_AGAIN: Duration = Duration::from_secs(10);
/// How long an outcome waits for a store that is away. Meanwhile it is repeated from memory.
const UNWRITTEN_FOR: Duration = Duration::from_secs(600);
/// How long a reply that does not stand waits for its row to be gone.
const FORGET_WITHIN: Duration = Duration::from_secs(2);
/// How long a relayed stream may be silent before its row is looked at.
const SILENT_FOR: Duration = Duration::from_secs(1);
/// Tells OpenAI's and Anthropic's clients whether to try again, whatever the status.
const X_SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// The task of an execution.
pub(super) struct Lead {
    shared: Arc<Shared>,
    execution: Arc<Execution>,
    asked: Asked,
    settings: IdempotencySettings,
    stop: Stop,
}

/// What another node tells of the request that it carries out.
struct Log {
    follower: Follower,
    token: i64,
    read: VecDeque<Bytes>,
}

// === impl Lead ===

impl Lead {
    pub(super) fn new(
        shared: Arc<Shared>,
        execution: Arc<Execution>,
        asked: Asked,
        settings: IdempotencySettings,
        stop: Stop,
    ) -> Self {
        Self { shared, execution, asked, settings, stop }
    }

    /// Runs to the end.
    pub(super) async fn run<W: Work>(self, work: W) {
        let mut claimed = self.claim().await;
        let mut pause = LOOK_AGAIN;
        let mut log: Option<Log> = None;
        loop {
            let token = match claimed {
                Ok(Claimed::Ours { fence, taken_over }) => {
                    return self.execute(fence, taken_over, work).await;
                }
                Ok(Claimed::Done(kept)) => return self.replay(kept, work).await,
                Ok(Claimed::Mismatch) => return self.refuse(Duplicate::Mismatch, work),
                Err(duplicate) => return self.refuse(duplicate, work),
                Ok(Claimed::Running { token }) => token,
            };
            if self.asked.if_running == IfRunning::Conflict || !self.execution.is_followed() {
                return self.refuse(Duplicate::InProgress, work);
            }
            // Another node carries it out.
            if log.as_ref().is_none_or(|log| log.token != token) {
                log =
                    self.shared.relay.get().map(|relay| Log::of(relay, self.asked.claim.id, token));
            }
            let told = match &mut log {
                Some(log) => self.stop.unless(pin!(log.next(pause))).await,
                None => self.stop.unless(pin!(tokio::time::sleep(pause))).await.map(|()| None),
            };
            let Some(told) = told else {
                return self.turn_away(Rejection::Draining, work);
            };
            let head = told.and_then(|entry| relay::read_head(&entry));
            if let (Some(head), Some(log)) = (head, &mut log) {
                return self.pass_on(head, log, work).await;
            }
            pause = (pause * 3 / 2).min(MAX_LOOK_AGAIN);
            claimed = self.look_again().await;
        }
    }

    /// Claims the row.
    async fn claim(&self) -> Result<Claimed, Duplicate> {
        let (rows, claim) = (&self.shared.rows, &self.asked.claim);
        if self.shared.is_crowded(&claim.caller, &self.settings) {
            // Keys that are there already can be looked up.
            let found = rows.find(claim).await.map_err(|error| self.unavailable(&error))?;
            return found.ok_or(Duplicate::TooMany);
        }
        rows.claim(claim, self.settings.ttl.0).await.map_err(|error| self.unavailable(&error))
    }

    /// Looks what has become of the row, and claims it if it can be claimed now.
    async fn look_again(&self) -> Result<Claimed, Duplicate> {
        let found = self.shared.rows.find(&self.asked.claim).await;
        match found.map_err(|error| self.unavailable(&error))? {
            Some(found) => Ok(found),
            None => self.claim().await,
        }
    }

    /// Nobody knows whether the request was carried out, so it must not be.
    fn unavailable(&self, error: &StoreError) -> Duplicate {
        tracing::warn!(
            request.id = %self.asked.claim.request_id,
            "an idempotency key cannot be looked up: {}",
            error.chain()
        );
        Duplicate::Unavailable
    }

    fn refuse<W: Work>(&self, duplicate: Duplicate, work: W) {
        self.shared.metrics.requests.idempotent(word(duplicate));
        self.turn_away(Rejection::Duplicate(duplicate), work);
    }

    fn turn_away<W: Work>(&self, rejection: Rejection, work: W) {
        work.refuse(&rejection);
        self.leave();
        self.execution.begin(Err(rejection));
    }

    /// Repeats what is kept.
    async fn replay<W: Work>(&self, kept: Kept, work: W) {
        let Kept { status, headers, body: Some(body) } = kept else {
            return self.refuse(Duplicate::TooLarge, work);
        };
        self.shared.metrics.requests.idempotent("replayed");
        work.repeat(Reuse::Replayed, status);
        // As one piece, which needs no room to be made.
        self.execution.push(body, &self.stop).await;
        self.execution.end();
        self.leave();
        self.execution.begin(Ok(relay::head_of(status, &headers, Reuse::Replayed)));
    }

    /// Passes on what another node makes, from its beginning.
    async fn pass_on<W: Work>(&self, head: Head, log: &mut Log, work: W) {
        self.shared.metrics.requests.idempotent("relayed");
        work.repeat(Reuse::Coalesced, head.status.as_u16());
        self.execution.begin(Ok(head));
        let mut passed_on = 0;
        while self.execution.is_followed() {
            let Some(next) = self.stop.unless(pin!(log.next(SILENT_FOR))).await else {
                return self.execution.break_off(Rejection::Draining);
            };
            match next.as_ref().and_then(relay::read) {
                Some(Told::Data(data)) => {
                    passed_on += data.len();
                    if !self.execution.push(data, &self.stop).await {
                        return self.execution.break_off(Rejection::Draining);
                    }
                    continue;
                }
                Some(Told::End) => return self.execution.end(),
                None => {}
            }
            match self.shared.rows.find(&self.asked.claim).await {
                Ok(Some(Claimed::Done(Kept { body: Some(body), .. }))) => {
                    let rest = body.slice(passed_on.min(body.len())..);
                    return match self.execution.push(rest, &self.stop).await {
                        true => self.execution.end(),
                        false => self.execution.break_off(Rejection::Draining),
                    };
                }
                Ok(Some(Claimed::Running { token })) if token == log.token => {}
                // Neither the log nor the store can be read: it may come back.
                Err(_) => tokio::time::sleep(SILENT_FOR).await,
                Ok(_) => {
                    let what = "the rest of the answer, which another node was making,";
                    return self.execution.break_off(Rejection::Unavailable { what });
                }
            }
        }
    }

    /// Has the reply made, and keeps it where it stands.
    async fn execute<W: Work>(&self, fence: Fence, taken_over: bool, work: W) {
        let result = if taken_over { "taken_over" } else { "executed" };
        self.shared.metrics.requests.idempotent(result);
        self.shared.count(&self.asked.claim.caller);
        self.execution.claimed(fence);
        let make = self.make(fence, work);
        match self.shared.relay.get().filter(|_| self.asked.streams) {
            None => make.await,
            Some(relay) => {
                let log = relay::log_of(self.asked.claim.id, fence.token());
                tokio::join!(make, relay::tell(relay, &log, &self.execution));
            }
        }
    }

    async fn make<W: Work>(&self, fence: Fence, work: W) {
        let ending = Ending::default();
        let (parts, mut body) = work.carry_out(ending.clone()).await.into_parts();
        let mut head = Head { status: parts.status, headers: parts.headers, reuse: None };
        let is_whole = body.size_hint().exact().is_some();
        if !is_whole {
            self.execution.begin(Ok(head.clone()));
        }
        let mut whole = BytesMut::new();
        let mut is_stopped = false;
        while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await
        {
            let Some(data) = frame.ok().and_then(|frame| frame.into_data().ok()) else { continue };
            if is_whole {
                whole.extend_from_slice(&data);
            // A copy: a piece may be part of a buffer that is much larger.
            } else if !self.execution.push(Bytes::copy_from_slice(&data), &self.stop).await {
                is_stopped = true;
                break;
            }
        }
        self.execution.push(whole.freeze(), &self.stop).await;
        // Cancels and settles what has not ended by itself.
        drop(body);
        let stands = !is_stopped && ending.stands().unwrap_or(head.status.is_success());
        if !stands {
            // Who is told to try again must not meet this reply again.
            self.forget(fence).await;
            self.leave();
        } else if is_retried(head.status) {
            head.headers.insert(X_SHOULD_RETRY, HeaderValue::from_static("false"));
        }
        self.execution.begin(Ok(head.clone()));
        match is_stopped {
            true => self.execution.break_off(Rejection::Draining),
            false => self.execution.end(),
        }
        if stands {
            self.keep(fence, &head).await;
            self.leave();
        }
    }

    /// Lets the request be made again. Where the store does not answer, that is so when the lease
    /// has run out.
    async fn forget(&self, fence: Fence) {
        self.shared.metrics.requests.idempotent("forgotten");
        let forgotten = tokio::time::timeout(FORGET_WITHIN, self.shared.rows.forget(fence)).await;
        if let Ok(Err(error)) = forgotten {
            tracing::warn!("an idempotency key was not forgotten: {}", error.chain());
        }
    }

    /// Writes the outcome, however long the store is away.
    async fn keep(&self, fence: Fence, head: &Head) {
        let body = self.execution.body();
        let kept = Kept { status: head.status.as_u16(), headers: head.kept_headers(), body };
        let until = Instant::now() + UNWRITTEN_FOR;
        let mut pause = WRITE_AGAIN;
        loop {
            let problem = match self.shared.rows.finish(fence, &kept, self.settings.ttl.0).await {
                Ok(true) => return,
                Ok(false) => "another node took it over".to_owned(),
                Err(_) if Instant::now() < until => {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(MAX_WRITE_AGAIN);
                    continue;
                }
                Err(error) => error.chain(),
            };
            self.shared.metrics.requests.idempotent("unwritten");
            tracing::error!(
                request.id = %self.asked.claim.request_id,
                "the outcome of an idempotency key was not kept: {problem}"
            );
            return;
        }
    }

    fn leave(&self) {
        self.shared.leave(self.asked.claim.id, &self.execution);
    }
}

// === impl Log ===

impl Log {
    fn of(relay: &Relay, id: RowId, token: i64) -> Self {
        let follower = relay.follow(&relay::log_of(id, token), 0);
        Self { follower, token, read: VecDeque::new() }
    }

    /// The next entry; none where none comes `within` this time.
    async fn next(&mut self, within: Duration) -> Option<Bytes> {
        if self.read.is_empty() {
            match self.follower.read(within).await {
                Ok(entries) => self.read.extend(entries),
                Err(_) => tokio::time::sleep(within).await,
            }
        }
        self.read.pop_front()
    }
}

impl Drop for Lead {
    /// The task is over, or its runtime ends before it is.
    fn drop(&mut self) {
        self.leave();
        self.execution.break_off(Rejection::Draining);
    }
}

/// Whether clients try again on such a status. One that stands would only be repeated.
fn is_retried(status: StatusCode) -> bool {
    status.is_server_error() || matches!(status.as_u16(), 408 | 409 | 429)
}
