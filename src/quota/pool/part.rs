//! A node's part of a common window: what the node itself has used, and what it knows of the
//! others.
//!
//! # What is told
//!
//! The authority keeps what each node has had of the window by node ([`Part::held`]: what is used
//! and reserved here, and the stock). A node tells that number with every question, so an answer
//! that was lost, or was never sent, changes nothing for longer than until the next question, and
//! nothing is counted twice. When the authority has lost its memory each node tells its own number
//! again, and their sum is what it was.
//!
//! # What others used
//!
//! Of others a node knows what the authority last told it, and what the journal told it when it
//! started. Both are only the least that can have been used: the larger one counts.

use std::num::NonZeroU32;
use std::time::Duration;

use super::Common;
use crate::clock::Instant;
use crate::quota::Moment;
use crate::quota::meter::Lack;
use crate::quota::window::Window;

/// When to ask again where only a part of what is left is this node's.
const LEFT_TO_OTHERS: Duration = Duration::from_secs(1);
/// While the authority has no memory, which is a matter of two seconds, a node goes on with so many
/// hundredths of the limit, and only where so many are left: what others use now is not known yet.
/// What is more waits until it is.
const UNSETTLED_PERCENT: u128 = 5;
const UNSETTLED_LEFT_PERCENT: u128 = 20;

/// A node's part of a common window.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part {
    /// What this node uses of it.
    pub(super) window: Window,
    /// When the window began that the rest is about.
    start_ms: u64,
    /// What others had had, as the authority last told it.
    elsewhere: u64,
    /// What this node had had then.
    held_then: u64,
    /// What was used before this node counted, by the journal.
    before: u64,
    /// Whether that was before there was the limit: what any node has had comes on top.
    is_beside: bool,
    /// Until when the authority grants nothing because it has lost its memory, and how many nodes
    /// there are.
    unsettled: Option<(Instant, NonZeroU32)>,
}

// === impl Part ===

impl Part {
    pub(super) fn new(window: Window) -> Self {
        Self {
            window,
            start_ms: 0,
            elsewhere: 0,
            held_then: 0,
            before: 0,
            is_beside: false,
            unsettled: None,
        }
    }

    /// What this node has had, with a stock of so much.
    pub(super) fn held(&self, stock: i64, unix_ms: u64) -> u64 {
        let stock = u64::try_from(stock).unwrap_or_default();
        self.window.in_use(unix_ms).saturating_add(stock)
    }

    /// What all nodes have used, as far as this one knows: what the others hold counts as used.
    pub(super) fn used_by_all(&self, unix_ms: u64) -> u64 {
        let others = self.elsewhere.max(self.before);
        self.window.in_use(unix_ms).saturating_add(others)
    }

    /// What the authority has to know.
    pub(super) fn common(&self, stock: i64, unix_ms: u64) -> Common {
        let (start_ms, end_ms) = self.window.span(unix_ms);
        let held = self.held(stock, unix_ms);
        let (limit, before, is_beside) = (self.window.limit(), self.before, self.is_beside);
        let heard = held.saturating_add(self.elsewhere);
        Common::Window { limit, start_ms, end_ms, held, heard, before, is_beside }
    }

    /// The authority answered a question with which `held` was told: all have had `had` now, and
    /// this node `granted` more.
    pub(super) fn on_answer(&mut self, held: u64, granted: u64, had: u64) {
        self.held_then = held.saturating_add(granted);
        self.elsewhere = had.saturating_sub(self.held_then);
        self.unsettled = None;
    }

    /// The authority has lost its memory, and grants nothing before `until`.
    pub(super) fn on_unsettled(&mut self, until: Instant, nodes: NonZeroU32) {
        self.unsettled = Some((until, nodes));
    }

    /// How many nodes there are while this one goes by its part of the window.
    pub(super) fn alone_of(&self, moment: Moment) -> Option<NonZeroU32> {
        moment.alone_of.or(self.unsettled_of(moment.now))
    }

    fn unsettled_of(&self, now: Instant) -> Option<NonZeroU32> {
        self.unsettled.filter(|(until, _)| *until > now).map(|(_, nodes)| nodes)
    }

    /// Why `amount` cannot be taken by one of `nodes` without their authority: of what was left
    /// when it was last heard of, each takes its part.
    pub(super) fn lacks_alone(
        &self,
        amount: u64,
        nodes: NonZeroU32,
        moment: Moment,
    ) -> Option<Lack> {
        let (limit, unix_ms) = (self.window.limit(), moment.unix_ms);
        if amount > limit {
            return Some(Lack::TooLarge);
        }
        let had = self.held_then.saturating_add(self.elsewhere.max(self.before));
        let left = limit.saturating_sub(had);
        // A limit that is smaller than the number of nodes still lets each do something, once.
        let least = if had == 0 { left.min(1) } else { 0 };
        let mut mine = (left / u64::from(nodes.get())).max(least);
        if self.unsettled_of(moment.now).is_some() {
            let percent = |percent: u128| (u128::from(limit) * percent).div_ceil(100);
            let may_go_on = u128::from(left) >= percent(UNSETTLED_LEFT_PERCENT);
            let most = u64::try_from(percent(UNSETTLED_PERCENT)).unwrap_or(limit);
            mine = if may_go_on { mine.min(most) } else { 0 };
        }
        let may_use = self.held_then.saturating_add(mine);
        if self.window.in_use(unix_ms).saturating_add(amount) <= may_use {
            return None;
        }
        let knows_soon = self.unsettled.filter(|_| moment.alone_of.is_none() && amount <= left);
        if let Some((until, _)) = knows_soon {
            return Some(Lack::Unsettled(until.saturating_duration_since(moment.now)));
        }
        let ends_in = self.window.ends_in(unix_ms);
        Some(Lack::For(if left == 0 { ends_in } else { ends_in.min(LEFT_TO_OTHERS) }))
    }

    /// Counts what was used before `before_ms` of the window that was open at `at_ms`, by all
    /// nodes. `is_news`: the limit came in while the process ran.
    pub(super) fn add_earlier(
        &mut self,
        amount: u64,
        (before_ms, at_ms): (u64, u64),
        is_news: bool,
        unix_ms: u64,
    ) {
        if let Some(is_all_after) = self.window.note_earlier(before_ms, at_ms, unix_ms) {
            self.before = self.before.max(amount);
            self.is_beside = is_news && is_all_after;
        }
    }

    /// Whether nothing is lost with it.
    pub(super) fn is_unused(&self, unix_ms: u64) -> bool {
        self.window.is_unused(unix_ms) && (self.before == 0 || self.is_past(unix_ms))
    }

    /// Whether the rest is about a window that has passed.
    pub(super) fn is_past(&self, unix_ms: u64) -> bool {
        self.window.span(unix_ms).0 != self.start_ms
    }

    /// Whether an answer to this question is about a window that has passed.
    pub(super) fn is_another(&self, common: &Common) -> bool {
        matches!(common, Common::Window { start_ms, .. } if *start_ms != self.start_ms)
    }

    /// Lets go of what it knows of a window that has passed. Whether there was anything.
    pub(super) fn roll(&mut self, unix_ms: u64) -> bool {
        let is_past = self.is_past(unix_ms);
        if is_past {
            let start_ms = self.window.span(unix_ms).0;
            *self = Self { start_ms, ..Self::new(self.window) };
        }
        is_past
    }

    /// Takes over what was used of `before`, which had another limit.
    pub(super) fn take_over(&mut self, before: &Self) {
        let limit = self.window.limit();
        *self = *before;
        self.window.set_limit(limit);
    }
}
