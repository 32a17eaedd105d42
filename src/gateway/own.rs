//! What the gateway asks models on its own behalf: over the same credentials, breakers and prices as
//! a caller's request, and with an entry of the caller `gateway` in the journal.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::HeaderMap;

use super::Gateway;
use super::jobs::new_request_id;
use crate::cache::CacheWish;
use crate::callers::Caller;
use crate::clock::Instant;
use crate::config::Snapshot;
use crate::dialect::Envelope;
use crate::dispatch::{Answer, Call, Lane};
use crate::failure::Midstream;
use crate::journal::EndpointKind;
use crate::rejection::Rejection;
use crate::units::{MicroUsd, Priority};

/// The tag of such requests. Its value says what they are for.
const TAG: &str = "tidegate";

/// Asks on the gateway's behalf, for one purpose.
#[derive(Debug, Clone)]
pub(super) struct Own {
    snapshot: Arc<ArcSwap<Snapshot>>,
    lane: Lane,
    caller: Arc<Caller>,
    purpose: &'static str,
    priority: Priority,
    cache: CacheWish,
}

/// What is asked.
#[derive(Debug)]
pub(super) struct Errand {
    pub(super) kind: EndpointKind,
    /// On the wire of the endpoint's own dialect.
    pub(super) body: Vec<u8>,
    /// For the whole of it.
    pub(super) timeout: Duration,
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Came {
    pub(super) body: Result<Bytes, Rejection>,
    /// As far as it is known at once.
    pub(super) cost: MicroUsd,
}

// === impl Own ===

impl Own {
    pub(super) fn new(
        gateway: &Gateway,
        lane: Lane,
        purpose: &'static str,
        priority: Priority,
        cache: CacheWish,
    ) -> Self {
        let snapshot = Arc::clone(&gateway.snapshot);
        Self { snapshot, lane, caller: Arc::new(Caller::gateway()), purpose, priority, cache }
    }

    /// Asks, once.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cancels the attempt upstream; the journal has it as abandoned.
    pub(super) async fn ask(&self, errand: Errand) -> Came {
        let Errand { kind, body, timeout } = errand;
        let envelope = match Envelope::read(body.into()) {
            Ok(envelope) => envelope,
            Err(rejection) => return Came { body: Err(rejection), cost: MicroUsd::default() },
        };
        let (request_id, dialect) = (new_request_id(), kind.dialect());
        let ledger = &self.lane.ledger;
        let mut account =
            ledger.open(request_id.clone(), &self.caller, kind, dialect, Instant::now());
        account.on_priority(self.priority);
        let call = Call {
            request_id,
            caller: Arc::clone(&self.caller),
            kind,
            dialect,
            envelope,
            prompted: None,
            rolled: None,
            timeout: Some(timeout),
            priority: self.priority,
            cache: self.cache,
            midstream: Midstream::Terminate,
            sticky: None,
            client_retries: 0,
            resumable: false,
            may_be_cut: false,
            stale: None,
            held_back: None,
            forwarded: HeaderMap::new(),
            snapshot: self.snapshot.load_full(),
        };
        account.on_call(&call, vec![(TAG.to_owned(), self.purpose.to_owned())]);
        let (body, served) = match self.lane.complete(Box::new(call), account).await {
            Ok(Answer::Whole(body, served))
                if served.by.is_some() || served.from_cache.is_some() =>
            {
                (Ok(body), served)
            }
            // Words that a route has for callers are no answer of a model.
            Ok(Answer::Whole(_, served)) => (Err(internal("no model answered")), served),
            Ok(Answer::Stream(_, served)) => (Err(internal("the answer is a stream")), served),
            Err(refused) => (Err(refused.rejection), refused.served),
        };
        Came { body, cost: served.cost.unwrap_or_default() }
    }
}

fn internal(detail: &str) -> Rejection {
    Rejection::Internal { detail: detail.to_owned() }
}
