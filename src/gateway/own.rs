//! What the gateway asks models on its own behalf: over the same credentials, breakers and prices
//! as a caller's request, and with an entry of the caller `gateway` in the journal.

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
use crate::dispatch::prompted::{self, Lookup};
use crate::dispatch::{Answer, Call, Lane, Whose};
use crate::failure::Midstream;
use crate::ids::TargetId;
use crate::journal::EndpointKind;
use crate::prompt::Prompts;
use crate::rejection::Rejection;
use crate::units::{MicroUsd, Priority, Ratio};

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
    /// Where the prompt is looked up that the body names. `None`: it names none.
    pub(super) prompts: Option<Arc<Prompts>>,
    /// The part of what targets are known to allow that such requests may take together. `None`: as
    /// much as a caller.
    pub(super) share: Option<Ratio>,
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Came {
    pub(super) body: Result<Bytes, Rejection>,
    /// As far as it is known at once.
    pub(super) cost: MicroUsd,
    /// Who answered.
    pub(super) by: Option<TargetId>,
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

    /// How long a request to `model` has to wait for its share of what its targets are known to
    /// allow; `None` where there is room, as far as is known.
    pub(super) fn share_wait(&self, model: &str, share: Ratio) -> Option<Duration> {
        // One that stands for nothing is refused when it is asked.
        let route = self.snapshot.load().resolve(model).ok()?;
        self.lane.fleet.group(&route).guest_wait(share, Instant::now())
    }

    /// Asks, once.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cancels the attempt upstream; the journal has it as abandoned.
    pub(super) async fn ask(&self, errand: Errand) -> Came {
        let Errand { kind, body, timeout, prompts, share } = errand;
        let (request_id, dialect) = (new_request_id(), kind.dialect());
        let read = match prompts {
            None => Envelope::read(body.into()).map(|envelope| (envelope, None)),
            Some(prompts) => {
                let whose =
                    Whose { user: None, caller: &self.caller.id, request: request_id.as_str() };
                let (prompts, rollouts) = (&|| Arc::clone(&prompts), &self.lane.rolling.rollouts);
                prompted::read(kind, body.into(), Lookup { prompts, rollouts, whose })
            }
        };
        let (envelope, prompted) = match read {
            Ok(read) => read,
            Err(rejection) => {
                return Came { body: Err(rejection), cost: MicroUsd::default(), by: None };
            }
        };
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
            prompted,
            rolled: None,
            timeout: Some(timeout),
            priority: self.priority,
            share,
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
        Came { body, cost: served.cost.unwrap_or_default(), by: served.by }
    }
}

fn internal(detail: &str) -> Rejection {
    Rejection::Internal { detail: detail.to_owned() }
}
