//! What is known of one request, from its admission to its end.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;

use super::Ledger;
use super::ending::Ending;
use crate::clock::Instant;
use crate::config::Route;
use crate::dialect::{StreamBreak, StreamSummary};
use crate::dispatch::rolled::Watched;
use crate::dispatch::stream::Named;
use crate::dispatch::trace::Trace;
use crate::dispatch::{Call, Served};
use crate::fleet::Slot;
use crate::ids::{ModelName, ProviderId, RequestId};
use crate::journal::Entry;
use crate::rejection::Rejection;
use crate::units::Priority;

mod attempts;
mod broken;
mod closing;
mod ended;
mod limits;
mod open;
mod replayed;
mod shared;

use open::Open;

/// What `x-tidegate-dropped` says where a broken stream was to be continued.
const MIDSTREAM: &str = "midstream";

/// The account of one request.
#[derive(Debug)]
#[must_use = "an account that is dropped counts as abandoned by its caller"]
pub struct Account {
    ledger: Arc<Ledger>,
    /// `None` once settled.
    pub(super) open: Option<Box<Open>>,
}

// === impl Account ===

impl Account {
    pub(super) fn new(ledger: Arc<Ledger>, entry: Entry, received: Instant) -> Self {
        Self { ledger, open: Some(Box::new(Open::new(entry, received))) }
    }

    /// Finds the request's place in its caller's trace, where traces are exported.
    pub fn on_head(&mut self, headers: &HeaderMap) {
        if let (Some(tracer), Some(open)) = (&self.ledger.tracer, &mut self.open) {
            open.trace = Some(Box::new(Trace::start(tracer, headers, open.received)));
        }
    }

    /// Notes that the process serves the request; until it is settled, no other has its slot.
    pub fn on_admitted(&mut self, slot: Slot) {
        if let Some(open) = &mut self.open {
            open.slot = Some(slot);
        }
    }

    /// Notes how much the request matters.
    pub fn on_priority(&mut self, priority: Priority) {
        if let Some(open) = &mut self.open {
            open.entry.priority = Some(priority);
        }
    }

    /// Gives its place back: the request has only to wait for another.
    pub fn step_aside(&mut self) {
        if let Some(open) = &mut self.open {
            open.slot = None;
        }
    }

    /// Has `ending` told, when the request has ended, whether its reply stands.
    pub fn tell(&mut self, ending: Ending) {
        if let Some(open) = &mut self.open {
            open.ending = Some(ending);
        }
    }

    /// Notes what was asked, once the body was read.
    pub fn on_call(&mut self, call: &Call, tags: Vec<(String, String)>) {
        if let Some(open) = &mut self.open {
            open.read = Instant::now();
            open.prompt = call.envelope.body().clone();
            open.entry.model_asked = Some(ModelName::new(&call.envelope.model));
            open.entry.streamed = call.envelope.stream;
            open.is_refused_more = call.wants_more() && !call.is_continued();
            open.entry.tags = tags;
            open.used = call.prompted.as_ref().map(|used| Arc::clone(&used.prompt));
            open.entry.prompt = open.used.as_ref().map(|used| Arc::clone(&used.name));
        }
    }

    /// Notes the request's part in a rollout.
    pub(in crate::dispatch) fn on_part(&mut self, watched: Box<Watched>) {
        if let Some(open) = &mut self.open {
            open.watched = Some(watched);
        }
    }

    /// Notes that its rollout's candidate is asked the same.
    pub(in crate::dispatch) fn on_pair(&mut self, pair: RequestId) {
        if let Some(watched) = self.open.as_mut().and_then(|open| open.watched.as_mut()) {
            watched.shadow(pair);
        }
    }

    pub(in crate::dispatch) fn on_route(&mut self, route: &Route) {
        if let Some(open) = &mut self.open {
            open.entry.route = Some(route.name.clone());
        }
    }

    /// Notes that the oldest turns of the conversation are left out from now on.
    pub(in crate::dispatch) fn on_reduced(&mut self) {
        if let Some(open) = &mut self.open {
            open.is_reduced = true;
        }
    }

    /// The request's id.
    pub fn request_id(&self) -> &str {
        self.open.as_ref().map_or("", |open| open.entry.request_id.as_str())
    }

    /// Whose stream it is.
    pub(in crate::dispatch) fn named(&self) -> Option<Named> {
        let entry = &self.open.as_ref()?.entry;
        Some(Named { request_id: entry.request_id.clone(), dialect: entry.dialect })
    }

    /// How the answer came about so far.
    pub fn served(&self) -> Served {
        let Some(open) = &self.open else { return Served::default() };
        let mut dropped = open.dropped.clone();
        if open.is_refused_more {
            dropped.add(MIDSTREAM);
        }
        Served {
            by: open.entry.target.clone(),
            attempts: open.entry.attempts,
            hedged: open.hedged,
            degradation: open.entry.degradation,
            dropped,
            cost: None,
            dialect: Some(open.entry.dialect),
            limits: open.standing.clone(),
            overhead: open.overhead(Instant::now()).saturating_sub(open.held),
            from_cache: None,
            prompt: open.used.clone(),
            rollout: open.watched.as_ref().map(|watched| watched.side()),
            coalesced: false,
        }
    }

    /// The event that tells the caller of a committed stream what went wrong. `summary` is what the
    /// caller has of the answer.
    pub(in crate::dispatch) fn error_event(
        &self,
        rejection: &Rejection,
        summary: Option<&StreamSummary>,
    ) -> Bytes {
        let Some(open) = &self.open else { return Bytes::new() };
        let provider = open.entry.provider.as_ref().filter(|_| summary.is_some());
        let broken = StreamBreak {
            rejection,
            request_id: open.entry.request_id.as_str(),
            provider: provider.map(ProviderId::as_str),
            summary,
        };
        open.entry.dialect.codec().encode_stream_error(&broken).into()
    }
}
