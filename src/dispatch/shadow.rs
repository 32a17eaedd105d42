//! Requests that are asked again, of a candidate by which nobody is served yet.
//!
//! In a rollout's shadow stage the control serves everybody. Of a sample of the requests the
//! candidate is asked the same, behind the caller's back and at the lowest priority; its answer is
//! measured, compared with the control's, and thrown away. Both count as one pair when both have
//! ended. What the candidate's answers cost is the gateway's, and the rollout's cap bounds it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::HeaderMap;
use http_body_util::BodyExt as _;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::mpsc;

use super::prompted::{self, Lookup};
use super::rolled::{Rolled, Watched};
use super::{Answer, Call, Lane, Whose};
use crate::cache::CacheWish;
use crate::callers::Caller;
use crate::clock::Instant;
use crate::config::Snapshot;
use crate::dialect::{Envelope, Splice};
use crate::failure::Midstream;
use crate::ids::RequestId;
use crate::journal::EndpointKind;
use crate::policy::rollout::{Arm, Pair, Readings};
use crate::prompt::Prompts;
use crate::rejection::Rejection;
use crate::rollout::Subject;
use crate::units::Priority;

#[cfg(test)]
mod tests;

/// Requests that wait to be asked again. Clones are the same.
#[derive(Debug, Clone)]
pub struct Shadows {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// Bounded; full means that a request is not asked again.
    asked: mpsc::Sender<Shadowed>,
    untaken: Mutex<Option<mpsc::Receiver<Shadowed>>>,
    halves: Mutex<Halves>,
    dropped: AtomicU64,
}

/// A request that the candidate is to be asked, too.
#[derive(Debug)]
pub struct Shadowed {
    kind: EndpointKind,
    /// As its caller sent it; where a route's model is rolled out, with the prompt in it that it
    /// names.
    body: Bytes,
    forwarded: HeaderMap,
    side: Rolled,
    /// The caller's request.
    pair: RequestId,
}

/// Pairs of which one side has ended.
#[derive(Debug, Default)]
struct Halves {
    by_request: HashMap<RequestId, (Arm, Readings)>,
    /// In the order in which they came, so that those whose other half never comes go first.
    order: VecDeque<RequestId>,
}

/// Requests that may wait to be asked again.
const MOST_WAITING: usize = 64;
/// A larger request is not asked again: so many of them may wait.
const MAX_BODY_BYTES: usize = 1024 * 1024;
/// Pairs of which one side is awaited.
const MOST_HALVES: usize = 1_024;

// === impl Shadows ===

impl Shadows {
    #[expect(clippy::new_without_default, reason = "there is a reader to be taken")]
    /// None yet.
    pub fn new() -> Self {
        let (asked, untaken) = mpsc::channel(MOST_WAITING);
        let untaken = Mutex::new(Some(untaken));
        let (halves, dropped) = (Mutex::default(), AtomicU64::new(0));
        Self { shared: Arc::new(Shared { asked, untaken, halves, dropped }) }
    }

    /// Those who are to be asked. `None` after the first time.
    pub fn take(&self) -> Option<mpsc::Receiver<Shadowed>> {
        self.shared.untaken.lock().take()
    }

    /// Requests that were not asked again because too many waited.
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }

    /// Has the candidate asked what a call asks, and says by what both are told as a pair. `None`
    /// where too many wait.
    pub(super) fn ask(&self, call: &Call, side: &Rolled) -> Option<RequestId> {
        let pair = call.request_id.clone();
        let body = match side.steered.subject {
            Subject::Prompt { .. } => call.sent().clone(),
            Subject::Route { .. } => call.envelope.body().clone(),
        };
        if body.len() > MAX_BODY_BYTES {
            return None;
        }
        let shadowed = Shadowed {
            kind: call.kind,
            body,
            forwarded: call.forwarded.clone(),
            side: Rolled { arm: Arm::Candidate, ..side.clone() },
            pair: pair.clone(),
        };
        if self.shared.asked.try_send(shadowed).is_err() {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(pair)
    }

    /// One side of a pair has ended, with these readings or with none that can be compared. The
    /// pair, when it is the second.
    pub(super) fn ended(
        &self,
        pair: &RequestId,
        (arm, unit): (Arm, Option<u32>),
        readings: Option<Readings>,
    ) -> Option<Pair> {
        let mut halves = self.shared.halves.lock();
        let Some(readings) = readings else {
            halves.by_request.remove(pair);
            return None;
        };
        match halves.by_request.remove(pair) {
            Some((other, earlier)) if other != arm => {
                let (candidate, control) = match arm {
                    Arm::Candidate => (readings, earlier),
                    Arm::Control => (earlier, readings),
                };
                Some(Pair { unit, candidate, control })
            }
            Some(_) | None => {
                halves.keep(pair, (arm, readings));
                None
            }
        }
    }
}

// === impl Halves ===

impl Halves {
    fn keep(&mut self, pair: &RequestId, half: (Arm, Readings)) {
        while self.order.len() >= MOST_HALVES {
            if let Some(oldest) = self.order.pop_front() {
                self.by_request.remove(&oldest);
            }
        }
        self.order.push_back(pair.clone());
        self.by_request.insert(pair.clone(), half);
    }
}

// === impl Lane ===

impl Lane {
    /// Asks the candidate what a caller has asked, as the request `id`, and throws its answer away:
    /// when this returns, the account of it is settled.
    ///
    /// # Errors
    ///
    /// Why it cannot be asked; what becomes of the asking itself is in the journal.
    pub async fn shadow(
        &self,
        shadowed: Shadowed,
        id: RequestId,
        (snapshot, prompts): (Arc<Snapshot>, Arc<Prompts>),
    ) -> Result<(), Rejection> {
        let Shadowed { kind, body, forwarded, side, pair } = shadowed;
        if !self.may_shadow(&side) {
            return Ok(());
        }
        let caller = Arc::new(Caller::gateway());
        let (envelope, prompted) = match &side.steered.subject {
            Subject::Prompt { to, .. } => {
                let body = pinned(body, &to.to_string())?;
                let whose = Whose { user: None, caller: &caller.id, request: id.as_str() };
                let prompts = &|| Arc::clone(&prompts);
                let rollouts = &self.rolling.rollouts;
                prompted::read(kind, body, Lookup { prompts, rollouts, whose })?
            }
            Subject::Route { .. } => (Envelope::read(body)?, None),
        };
        let ledger = &self.ledger;
        let mut account = ledger.open(id.clone(), &caller, kind, kind.dialect(), Instant::now());
        account.on_priority(Priority::LOWEST);
        let mut call = Call {
            request_id: id,
            caller,
            kind,
            dialect: kind.dialect(),
            envelope,
            prompted,
            rolled: None,
            timeout: None,
            priority: Priority::LOWEST,
            // An answer that is kept says nothing of the candidate.
            cache: CacheWish { no_store: true, ..CacheWish::default() },
            midstream: Midstream::Terminate,
            sticky: None,
            client_retries: 0,
            resumable: false,
            may_be_cut: false,
            stale: None,
            held_back: None,
            share: None,
            forwarded,
            snapshot,
        };
        account.on_call(&call, vec![("tidegate".to_owned(), "shadow".to_owned())]);
        account.on_part(Box::new(Watched::new(&side, &call, Some(pair))));
        call.rolled = self.on_candidate(&call, side).map(Box::new);
        // What comes of it is in its account; the answer is nobody's.
        if let Ok(Answer::Stream(mut stream, _)) = self.complete(Box::new(call), account).await {
            while let Some(Ok(_)) = stream.frame().await {}
        }
        Ok(())
    }

    /// Whether the rollout is still in its shadow, with money left.
    fn may_shadow(&self, side: &Rolled) -> bool {
        let steering = self.rolling.rollouts.steering();
        let now = steering.prompts.values().chain(steering.routes.values());
        let shadow = now.filter(|now| now.id == side.steered.id).find_map(|now| now.shadow);
        shadow.is_some_and(|shadow| shadow.left.0 > 0)
    }
}

/// The body with its prompt pinned to a version.
fn pinned(sent: Bytes, version: &str) -> Result<Bytes, Rejection> {
    let envelope = Envelope::read(sent)?;
    let raw = envelope.raw("prompt").unwrap_or_default();
    let mut prompt: Value = serde_json::from_slice(raw)
        .map_err(|error| Rejection::invalid("prompt", error.to_string()))?;
    if let Some(prompt) = prompt.as_object_mut() {
        prompt.insert("version".to_owned(), Value::from(version));
    }
    let mut splice = Splice::new(&envelope);
    splice.set("prompt", prompt.to_string().into_bytes());
    Ok(splice.finish())
}
