//! The task of an execution: from the claim of its row to the outcome in the store.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use http_body::Body;

use super::execution::{Execution, Head};
use super::{Asked, IfRunning, Shared, Work, word};
use crate::clock::Instant;
use crate::dispatch::Ending;
use crate::idempotency::{Claimed, Fence, IdempotencySettings, Kept};
use crate::rejection::{Duplicate, Rejection};
use crate::store::StoreError;

/// After which pause the row of another node is looked at again: at first, and at most.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
const MAX_LOOK_AGAIN: Duration = Duration::from_millis(500);
/// After which pause an outcome is written again that the store did not take: at first, and at most.
const WRITE_AGAIN: Duration = Duration::from_millis(500);
const MAX_WRITE_AGAIN: Duration = Duration::from_secs(10);
/// How long an outcome waits for a store that is away. Meanwhile it is repeated from memory.
const UNWRITTEN_FOR: Duration = Duration::from_secs(600);
/// How long a reply that does not stand waits for its row to be gone.
const FORGET_WITHIN: Duration = Duration::from_secs(2);
/// Headers that say how it stands with a caller at one moment, and are not repeated.
const OF_THE_MOMENT: &str = "x-ratelimit-";
/// Tells OpenAI's and Anthropic's clients whether to try again, whatever the status.
const X_SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// The task of an execution.
pub(super) struct Lead {
    shared: Arc<Shared>,
    execution: Arc<Execution>,
    asked: Asked,
    settings: IdempotencySettings,
}

// === impl Lead ===

impl Lead {
    pub(super) fn new(
        shared: Arc<Shared>,
        execution: Arc<Execution>,
        asked: Asked,
        settings: IdempotencySettings,
    ) -> Self {
        Self { shared, execution, asked, settings }
    }

    /// Runs to the end.
    pub(super) async fn run<W: Work>(self, work: W) {
        match self.claim().await {
            Ok(Claimed::Ours { fence, taken_over }) => {
                self.shared.metrics.requests.idempotent(if taken_over {
                    "taken_over"
                } else {
                    "executed"
                });
                self.shared.count(&self.asked.claim.caller);
                self.execution.claimed(fence);
                self.execute(fence, work).await;
            }
            Ok(Claimed::Done(kept)) => self.replay(kept, work).await,
            Ok(Claimed::Mismatch) => self.refuse(Duplicate::Mismatch, work),
            Ok(Claimed::Running) => self.refuse(Duplicate::InProgress, work),
            Err(duplicate) => self.refuse(duplicate, work),
        }
    }

    /// Claims the row, or waits until another node has done what the request asks.
    async fn claim(&self) -> Result<Claimed, Duplicate> {
        let (rows, claim) = (&self.shared.rows, &self.asked.claim);
        let ttl = self.settings.ttl.0;
        let away = |error: StoreError| self.unavailable(&error);
        let mut claimed = if self.shared.is_crowded(&claim.caller, &self.settings) {
            // Keys that are there already can be looked up.
            rows.find(claim).await.map_err(away)?.ok_or(Duplicate::TooMany)?
        } else {
            rows.claim(claim, ttl).await.map_err(away)?
        };
        let mut pause = LOOK_AGAIN;
        let is_wanted = || self.asked.if_running == IfRunning::Join && self.execution.is_followed();
        while claimed == Claimed::Running && is_wanted() {
            tokio::time::sleep(pause).await;
            pause = (pause * 3 / 2).min(MAX_LOOK_AGAIN);
            claimed = match rows.find(claim).await.map_err(away)? {
                Some(found) => found,
                None => rows.claim(claim, ttl).await.map_err(away)?,
            };
        }
        Ok(claimed)
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
        let rejection = Rejection::Duplicate(duplicate);
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
        work.repeat(status);
        let mut head = Head {
            status: StatusCode::from_u16(status).unwrap_or(StatusCode::OK),
            headers: HeaderMap::with_capacity(headers.len()),
            is_replay: true,
        };
        for (name, value) in &headers {
            if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), value.parse()) {
                head.headers.append(name, value);
            }
        }
        self.execution.push(body).await;
        self.execution.end();
        self.leave();
        self.execution.begin(Ok(head));
    }

    /// Has the reply made, and keeps it where it stands.
    async fn execute<W: Work>(&self, fence: Fence, work: W) {
        let ending = Ending::default();
        let (parts, mut body) = work.carry_out(ending.clone()).await.into_parts();
        let mut head = Head { status: parts.status, headers: parts.headers, is_replay: false };
        let is_whole = body.size_hint().exact().is_some();
        if !is_whole {
            self.execution.begin(Ok(head.clone()));
        }
        let mut whole = BytesMut::new();
        while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await
        {
            let Some(data) = frame.ok().and_then(|frame| frame.into_data().ok()) else { continue };
            if is_whole {
                whole.extend_from_slice(&data);
            } else {
                // A copy: a piece may be part of a buffer that is much larger.
                self.execution.push(Bytes::copy_from_slice(&data)).await;
            }
        }
        // As one piece, which needs no room to be made.
        self.execution.push(whole.freeze()).await;
        // Cancels and settles what has not ended by itself.
        drop(body);
        let stands = ending.stands().unwrap_or(head.status.is_success());
        if !stands {
            // Who is told to try again must not meet this reply again.
            self.forget(fence).await;
            self.leave();
        } else if is_retried(head.status) {
            head.headers.insert(X_SHOULD_RETRY, HeaderValue::from_static("false"));
        }
        self.execution.begin(Ok(head.clone()));
        self.execution.end();
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
        let kept = Kept { status: head.status.as_u16(), headers: kept_headers(head), body };
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

fn kept_headers(head: &Head) -> Vec<(String, String)> {
    let kept = head.headers.iter().filter(|(name, _)| !name.as_str().starts_with(OF_THE_MOMENT));
    let kept = kept.filter_map(|(name, value)| {
        Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))
    });
    kept.collect()
}
