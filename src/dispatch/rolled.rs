//! Which side of a rollout a request is on, and what the rollout learns of it.
//!
//! A side is drawn once, when the request is read, from what tells its unit: the conversation, the
//! user, the caller. No state is asked, so that all nodes agree, and after a restart. Where nothing
//! is rolled out, this costs one look at an empty table.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use serde_json::value::RawValue;

use super::shadow::Shadows;
use super::{Account, Call, Lane};
use crate::config::{Route, Snapshot};
use crate::dialect::Envelope;
use crate::ids::CallerId;
use crate::journal::{EndpointKind, Entry, Part};
use crate::policy::rollout::{Arm, Share, UnitKind};
use crate::rollout::{Note, Noted, Rollouts, Steered, Steering, Subject};
use crate::units::MicroUsd;

mod language;
mod observe;
#[cfg(test)]
mod tests;

pub(super) use observe::Watched;

/// Whose a request is, for the draw.
#[derive(Debug, Clone, Copy)]
pub struct Whose<'a> {
    /// The user, as a header names them.
    pub user: Option<&'a str>,
    /// Whose key it came with.
    pub caller: &'a CallerId,
    /// The request's id.
    pub request: &'a str,
}

/// The side of a rollout that a request is on.
#[derive(Debug, Clone)]
pub struct Rolled {
    /// The rollout.
    pub steered: Arc<Steered>,
    /// The side.
    pub arm: Arm,
    /// What tells its unit from others; `None` where each request is its own.
    pub unit: Option<u32>,
    /// Whether the candidate is to be asked beside the control.
    pub is_shadowed: bool,
}

/// A side, and the route that serves it in place of the configured one.
#[derive(Debug)]
pub struct RolledRoute {
    side: Rolled,
    /// `None` on the control's side.
    route: Option<Arc<Route>>,
    /// Whether the candidate was found to do harm while the request waited for it.
    is_left: AtomicBool,
    /// Whether nobody waits for it.
    is_shadow: bool,
}

/// All that requests need to take part in rollouts. Clones share it.
#[derive(Debug, Clone)]
pub struct Rolling {
    /// What is rolled out.
    pub rollouts: Rollouts,
    /// Requests that wait to be asked again.
    pub shadows: Shadows,
    /// Routes with a candidate in them.
    candidates: Candidates,
}

/// The most of a name that makes a draw; the rest does not count.
const MAX_UNIT_BYTES: usize = 512;

// === impl Rolled ===

impl Rolled {
    /// Draws a request's side.
    pub fn draw(steered: &Arc<Steered>, whose: Whose<'_>, envelope: &Envelope) -> Self {
        let (unit, is_own) = match steered.unit {
            UnitKind::Conversation => (whose.conversation(envelope), false),
            UnitKind::User => (whose.user(envelope), false),
            UnitKind::Caller => (whose.caller.as_str().to_owned(), false),
            UnitKind::Request => (whose.request.to_owned(), true),
        };
        let draw = steered.draw(cut(&unit));
        let is_shadowed = steered
            .shadow
            .is_some_and(|shadow| shadow.left.0 > 0 && draw.arm(shadow.sample) == Arm::Candidate);
        Self {
            arm: steered.arm(draw),
            unit: (!is_own).then(|| draw.fingerprint()),
            steered: Arc::clone(steered),
            is_shadowed,
        }
    }

    /// The candidate's share when the side was drawn.
    pub fn share(&self) -> Share {
        self.steered.share
    }
}

// === impl Whose ===

impl Whose<'_> {
    /// The user: as the header names them, else as the body does, else the caller.
    fn user(self, envelope: &Envelope) -> String {
        let named = self.user.map(str::to_owned);
        let of_body = || envelope.text("user").or_else(|| envelope.text("safety_identifier"));
        let of_metadata = || metadata(envelope, &["user_id"]);
        let user = named.or_else(of_body).or_else(of_metadata).filter(|user| !user.is_empty());
        user.unwrap_or_else(|| self.caller.as_str().to_owned())
    }

    /// The conversation: as `metadata` names it, else told by its first message, which all its
    /// turns begin with; else the user.
    fn conversation(self, envelope: &Envelope) -> String {
        let named = metadata(envelope, &["conversation_id", "session_id", "thread_id"]);
        let first = || {
            let messages: Vec<&RawValue> =
                serde_json::from_slice(envelope.raw("messages")?).ok()?;
            let is_users = |message: &&&RawValue| message.get().contains("\"user\"");
            let first = messages.iter().find(is_users)?;
            Some(format!("{}\n{}", self.user(envelope), cut(first.get())))
        };
        named.or_else(first).unwrap_or_else(|| self.user(envelope))
    }
}

/// The first of these fields of the request's metadata that is a text.
fn metadata(envelope: &Envelope, names: &[&str]) -> Option<String> {
    let metadata: serde_json::Value = serde_json::from_slice(envelope.raw("metadata")?).ok()?;
    names.iter().find_map(|name| Some(metadata.get(name)?.as_str()?.to_owned()))
}

fn cut(text: &str) -> &str {
    let end = (0..=MAX_UNIT_BYTES.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    text.get(..end.unwrap_or(0)).unwrap_or_default()
}

// === impl RolledRoute ===

impl RolledRoute {
    /// The side.
    pub fn side(&self) -> &Rolled {
        &self.side
    }

    /// The route that serves the request; `None` where the configured one does.
    pub fn route(&self) -> Option<&Arc<Route>> {
        self.route.as_ref().filter(|_| !self.is_left.load(Ordering::Relaxed))
    }

    /// Whether it may be left for the control: a caller waits.
    pub(super) fn may_be_left(&self) -> bool {
        self.route().is_some() && !self.is_shadow
    }

    /// Serves the request by the configured route from now on.
    pub(super) fn leave(&self) {
        self.is_left.store(true, Ordering::Relaxed);
    }
}

// === impl Rolling ===

impl Rolling {
    /// Takes part in these.
    pub fn new(rollouts: Rollouts) -> Self {
        Self { rollouts, shadows: Shadows::new(), candidates: Candidates::default() }
    }

    /// Tells the rollout of a request that has ended what it says of its side.
    pub(super) fn on_ended(&self, entry: &Entry) {
        let mut part = entry.part.as_deref();
        while let Some(one) = part {
            self.on_part_ended(entry, one);
            part = one.beside.as_deref();
        }
    }

    fn on_part_ended(&self, entry: &Entry, part: &Part) {
        let is_shadow = part.pair.is_some() && part.arm == Arm::Candidate;
        if is_shadow && entry.cost > MicroUsd::default() {
            let rollout = Arc::clone(&part.rollout);
            self.rollouts.note(Note { rollout, noted: Noted::Spent(entry.cost) });
        }
        let note = match &part.pair {
            None => observe::observation(entry, part),
            Some(pair) => {
                let readings = observe::comparable(entry, part);
                let pair = self.shadows.ended(pair, (part.arm, part.unit), readings);
                let rollout = Arc::clone(&part.rollout);
                pair.map(|pair| Note { rollout, noted: Noted::Compared(pair) })
            }
        };
        if let Some(note) = note {
            self.rollouts.note(note);
        }
    }
}

// === impl Lane ===

impl Lane {
    /// Draws the call's side of a rollout of its route's model, and notes for each rollout it is in
    /// that it is served by this side. What the gateway asks for itself is in none.
    pub(super) fn roll(&self, call: &mut Call, account: &mut Account) {
        // To count tokens asks nothing of a side.
        if call.caller.id == CallerId::gateway() || call.kind == EndpointKind::CountTokens {
            return;
        }
        let steering = self.rolling.rollouts.steering();
        if !steering.routes.is_empty() {
            call.rolled = self.rolled_route(call, &steering).map(Box::new);
        }
        let of_prompt = call.prompted.as_ref().and_then(|prompted| prompted.side.as_ref());
        let of_route = call.rolled.as_ref().map(|rolled| &rolled.side);
        for side in of_prompt.into_iter().chain(of_route) {
            let (arm, share, unit) = (side.arm, side.share(), side.unit);
            let rollout = Arc::clone(&side.steered.id);
            let exposed = Noted::Exposed { arm, share, unit };
            self.rolling.rollouts.note(Note { rollout, noted: exposed });
        }
        let beside = of_prompt.and(of_route).map(|side| Box::new(Watched::new(side, call, None)));
        if let Some(side) = of_prompt.or(of_route) {
            account.on_part(Box::new(Watched::new(side, call, None).with(beside)));
        }
    }

    /// Has the candidate asked as well, where the call's side is in its shadow and no answer was
    /// kept.
    pub(super) fn roll_shadow(&self, call: &Call, account: &mut Account) {
        let of_prompt = call.prompted.as_ref().and_then(|prompted| prompted.side.as_ref());
        let side = of_prompt.or(call.rolled.as_ref().map(|rolled| &rolled.side));
        if let Some(side) = side.filter(|side| side.is_shadowed)
            && call.caller.id != CallerId::gateway()
            && let Some(pair) = self.rolling.shadows.ask(call, side)
        {
            account.on_pair(pair);
        }
    }

    /// The side of the call in a rollout of its route's model.
    fn rolled_route(&self, call: &Call, steering: &Steering) -> Option<RolledRoute> {
        let configured = call.route().ok()?;
        let steered = steering.routes.get(&configured.name)?;
        // A configuration that does not have the model any more takes no part.
        let candidate = self.candidate(&configured, steered, &call.snapshot)?;
        let whose = Whose {
            user: call.sticky.as_deref(),
            caller: &call.caller.id,
            request: call.request_id.as_str(),
        };
        let side = Rolled::draw(steered, whose, &call.envelope);
        let route = (side.arm == Arm::Candidate).then_some(candidate);
        Some(RolledRoute { side, route, is_left: AtomicBool::new(false), is_shadow: false })
    }

    /// The call on the candidate's side, if a route's model is rolled out.
    pub(super) fn on_candidate(&self, call: &Call, side: Rolled) -> Option<RolledRoute> {
        let route = self.candidate(&call.route().ok()?, &side.steered, &call.snapshot)?;
        let is_left = AtomicBool::new(false);
        Some(RolledRoute { side, route: Some(route), is_left, is_shadow: true })
    }

    fn candidate(
        &self,
        configured: &Arc<Route>,
        steered: &Steered,
        snapshot: &Snapshot,
    ) -> Option<Arc<Route>> {
        let Subject::Route { from, to, .. } = &steered.subject else { return None };
        self.rolling.candidates.of(steered, snapshot, configured, (from, to))
    }
}

/// Routes with a candidate in the place of its control, made when they are first needed.
#[derive(Debug, Clone, Default)]
struct Candidates {
    made: Arc<ArcSwap<Vec<Made>>>,
}

#[derive(Debug, Clone)]
struct Made {
    rollout: Arc<str>,
    /// The route that it was made from.
    configured: Arc<Route>,
    route: Arc<Route>,
}

/// More than that many rollouts of routes at a time would make one route again and again.
const MOST_MADE: usize = 64;

// === impl Candidates ===

impl Candidates {
    /// The route with the candidate in it. `None` where the route does not have the control, or
    /// nobody serves the candidate.
    fn of(
        &self,
        steered: &Steered,
        snapshot: &Snapshot,
        configured: &Arc<Route>,
        (from, to): (&str, &str),
    ) -> Option<Arc<Route>> {
        let is_it =
            |made: &&Made| made.rollout == steered.id && Arc::ptr_eq(&made.configured, configured);
        if let Some(made) = self.made.load().iter().find(is_it) {
            return Some(Arc::clone(&made.route));
        }
        let route = Arc::new(snapshot.with_candidate(configured, from, to, &steered.id)?);
        let made = Made {
            rollout: Arc::clone(&steered.id),
            configured: Arc::clone(configured),
            route: Arc::clone(&route),
        };
        self.made.rcu(|before| {
            let others = before.iter().filter(|other| other.rollout != steered.id).cloned();
            let mut all: Vec<Made> = others.collect();
            all.truncate(MOST_MADE - 1);
            all.push(made.clone());
            all
        });
        Some(route)
    }
}
