//! What was taken for one request, until it is known what it used.

use std::fmt;
use std::sync::Arc;

use super::standing::Standing;
use super::subjects::{self, lock};
use super::{Limits, tell};
use crate::catalog::Model;
use crate::chat::Usage;
use crate::ids::RouteName;
use crate::quota::{Amounts, Moment, OnStreamCap};

/// Whether an answer may go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Flow {
    /// It may.
    GoOn,
    /// A limit is reached that ends streams.
    Stop,
}

/// What was taken for one request. Dropped, it gives everything back.
#[must_use = "a reservation that is dropped gives everything back"]
pub struct Reservation {
    limits: Arc<Limits>,
    subjects: Vec<Arc<subjects::Subject>>,
    since: Moment,
    reserved: Amounts,
    /// What a further piece of the answer comes to.
    step: Amounts,
    /// Pieces of the answer so far: about its tokens.
    said: u64,
    route: RouteName,
    standing: Standing,
    /// Whether its place among those at a time was given back.
    is_released: bool,
    is_settled: bool,
}

// === impl Reservation ===

impl Reservation {
    /// How many tokens a running answer is topped up by.
    pub const STEP_TOKENS: u64 = 256;

    pub(super) fn new(
        limits: Arc<Limits>,
        subjects: Vec<Arc<subjects::Subject>>,
        (since, reserved, step): (Moment, Amounts, Amounts),
        (route, standing): (RouteName, Standing),
    ) -> Self {
        Self {
            limits,
            subjects,
            since,
            reserved,
            step,
            said: 0,
            route,
            standing,
            is_released: false,
            is_settled: false,
        }
    }

    /// What was left once it was taken.
    pub fn standing(&self) -> Standing {
        self.standing
    }

    /// Whether one of its limits ends streams that get there.
    pub fn ends_streams(&self) -> bool {
        let moment = self.limits.moment();
        let locked = lock(&self.subjects, moment);
        locked.iter().any(|subject| subject.live().rule.on_stream_cap == OnStreamCap::Length)
    }

    /// So many more pieces of the answer came. Where they are more than was taken for them, more is
    /// taken.
    pub fn on_tokens(&mut self, tokens: u32) -> Flow {
        self.said = self.said.saturating_add(u64::from(tokens));
        while self.said > self.reserved.output_tokens {
            if self.top_up() == Flow::Stop {
                return Flow::Stop;
            }
        }
        Flow::GoOn
    }

    /// Takes a step more from all limits. Where one has no more it is owed, or the answer stops.
    fn top_up(&mut self) -> Flow {
        let moment = self.limits.moment();
        let mut locked = lock(&self.subjects, moment);
        let mut lacking = Vec::new();
        for (index, subject) in locked.iter_mut().enumerate() {
            if subject.top_up(&self.step, self.since, moment).is_some() {
                lacking.push(index);
            }
        }
        let stops = |index: &usize| {
            let subject = locked.get(*index);
            subject.is_some_and(|subject| subject.live().rule.on_stream_cap == OnStreamCap::Length)
        };
        let stop = lacking.iter().any(stops);
        for (index, subject) in locked.iter_mut().enumerate() {
            match (lacking.contains(&index), stop) {
                (false, true) => subject.give_back(&self.step, self.since, moment),
                (true, false) => subject.book(&self.step, self.since, moment),
                (false, false) | (true, true) => {}
            }
        }
        if stop {
            return Flow::Stop;
        }
        let reserved = &mut self.reserved;
        reserved.output_tokens = reserved.output_tokens.saturating_add(self.step.output_tokens);
        reserved.micro_usd = reserved.micro_usd.saturating_add(self.step.micro_usd);
        Flow::GoOn
    }

    /// Gives its place among those at a time back: the request has ended, though it may not be
    /// known yet what it used.
    pub fn release(&mut self) {
        if std::mem::replace(&mut self.is_released, true) {
            return;
        }
        let moment = self.limits.moment();
        for subject in &mut lock(&self.subjects, moment) {
            subject.release(self.since, moment);
        }
    }

    /// The request used so many tokens of `model`.
    pub fn settle(self, usage: &Usage, model: &Model) {
        let used = Amounts {
            input_tokens: usage.input.saturating_add(usage.cache_write),
            cached_tokens: usage.cached_input,
            output_tokens: usage.total_output(),
            micro_usd: model.cost(usage).0,
        };
        let moment = self.limits.moment();
        self.limits.observe(&self.route, used.output_tokens, moment.now);
        self.close(Some(&used));
    }

    /// A provider was asked and nothing came of it that anybody pays for: it counts as a request.
    pub fn settle_unanswered(self) {
        self.close(Some(&Amounts::default()));
    }

    /// The request never got to a provider.
    pub fn refund(self) {
        self.close(None);
    }

    fn close(mut self, used: Option<&Amounts>) {
        self.put(used);
    }

    fn put(&mut self, used: Option<&Amounts>) {
        self.release();
        if std::mem::replace(&mut self.is_settled, true) {
            return;
        }
        let moment = self.limits.moment();
        self.limits.authority.look_after(&self.subjects);
        for subject in &mut lock(&self.subjects, moment) {
            for crossing in subject.settle(&self.reserved, used, self.since, moment) {
                tell(&self.limits.metrics, subject, crossing);
            }
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.put(None);
    }
}

impl fmt::Debug for Reservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reservation").field("reserved", &self.reserved).finish_non_exhaustive()
    }
}
