//! Those that wait: by priority, then by caller in deficit round robin, then by age.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use super::{PRIORITIES, ShedSettings, Ticket};
use crate::clock::Instant;

#[derive(Debug)]
pub(super) struct Queue {
    settings: ShedSettings,
    levels: [Level; PRIORITIES],
    waiting: HashMap<u64, Waiting>,
    /// Counts arrivals, and thereby orders them.
    arrivals: u64,
}

/// There is no place for one more of this caller and priority.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full;

#[derive(Debug, Clone, Copy)]
struct Waiting {
    level: usize,
    caller: u64,
    arrival: u64,
    since: Instant,
}

#[derive(Debug, Default)]
struct Level {
    /// Ids by arrival.
    by_age: BTreeMap<u64, u64>,
    flows: HashMap<u64, Flow>,
    /// The callers in the order of their turns. Those that no longer wait are taken out when their
    /// turn comes.
    turns: VecDeque<u64>,
    /// Since when somebody waits here without a break.
    stands_since: Option<Instant>,
}

/// What a caller has waiting at a priority.
#[derive(Debug, Default)]
struct Flow {
    /// Ids and costs by arrival.
    tickets: BTreeMap<u64, (u64, u64)>,
    /// The cost that may still be spent in this turn.
    deficit: u64,
}

// === impl Queue ===

impl Queue {
    pub(super) fn new(settings: ShedSettings) -> Self {
        Self { settings, levels: Default::default(), waiting: HashMap::new(), arrivals: 0 }
    }

    pub(super) fn set_max_wait(&mut self, max_wait: Duration) {
        self.settings.max_wait = max_wait;
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Since when somebody waits without a break, at any priority.
    pub(super) fn stands_since(&self) -> Option<Instant> {
        self.levels.iter().filter_map(|level| level.stands_since).min()
    }

    /// Whether a caller may queue one more: as many as are free once its own are there. Lower
    /// priorities count as free, because they are displaced.
    pub(super) fn has_room(&self, level: usize, caller: u64) -> bool {
        let kept: usize = self.levels.iter().take(level + 1).map(|level| level.by_age.len()).sum();
        let free = self.settings.max_queued.saturating_sub(kept);
        let flow = self.levels.get(level).and_then(|level| level.flows.get(&caller));
        flow.map_or(0, |flow| flow.tickets.len()) < free
    }

    /// Queues a ticket; yields the one that lost its place, if one did: the newest of the lowest
    /// priority.
    pub(super) fn push(
        &mut self,
        at: usize,
        ticket: Ticket,
        now: Instant,
    ) -> Result<Option<u64>, Full> {
        if !self.has_room(at, ticket.caller) || self.waiting.contains_key(&ticket.id) {
            return Err(Full);
        }
        let displaced = if self.len() < self.settings.max_queued {
            None
        } else {
            let below = self.levels.iter().skip(at + 1).rev();
            let newest = below.filter_map(|level| level.by_age.last_key_value()).next();
            newest.map(|(_, id)| *id)
        };
        if let Some(id) = displaced {
            self.remove(id);
        }
        let Some(level) = self.levels.get_mut(at) else { return Err(Full) };
        self.arrivals += 1;
        let arrival = self.arrivals;
        level.push(ticket, arrival, now);
        level.forget_idle(self.settings.max_queued);
        let waiting = Waiting { level: at, caller: ticket.caller, arrival, since: now };
        self.waiting.insert(ticket.id, waiting);
        Ok(displaced)
    }

    /// Takes out the one whose turn it is, with when it came.
    pub(super) fn pop(&mut self, now: Instant) -> Option<(u64, Instant)> {
        let settings = self.settings;
        let level = self.levels.iter_mut().find(|level| !level.by_age.is_empty())?;
        let is_newest_first = level.stands(settings.drain_within, now);
        let id = level.turn(settings.quantum.max(1), is_newest_first)?;
        let since = self.waiting.get(&id)?.since;
        self.remove(id);
        Some((id, since))
    }

    /// Takes out one that has waited too long, with when it came.
    pub(super) fn expire(&mut self, now: Instant) -> Option<(u64, Instant)> {
        let (id, since) = self.levels.iter().find_map(|level| {
            let (_, id) = level.by_age.first_key_value()?;
            let since = self.waiting.get(id)?.since;
            (self.give_up(level, since)? <= now).then_some((*id, since))
        })?;
        self.remove(id);
        Some((id, since))
    }

    /// When this one will have waited too long. That changes only with the settings: since when the
    /// queue stands does not change while it waits.
    pub(super) fn deadline_of(&self, id: u64) -> Option<Instant> {
        let waiting = self.waiting.get(&id)?;
        self.give_up(self.levels.get(waiting.level)?, waiting.since)
    }

    /// When the next one will have waited too long.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let deadlines = self.levels.iter().filter_map(|level| {
            let (_, id) = level.by_age.first_key_value()?;
            self.give_up(level, self.waiting.get(id)?.since)
        });
        deadlines.min()
    }

    /// When one that came at `since` has waited too long, as things stand.
    fn give_up(&self, level: &Level, since: Instant) -> Option<Instant> {
        let settings = &self.settings;
        let standing_from = level.stands_since? + settings.drain_within;
        Some((since + settings.max_wait).min(standing_from.max(since + settings.short_wait)))
    }

    pub(super) fn remove(&mut self, id: u64) -> bool {
        let Some(waiting) = self.waiting.remove(&id) else { return false };
        if let Some(level) = self.levels.get_mut(waiting.level) {
            level.by_age.remove(&waiting.arrival);
            if let Some(flow) = level.flows.get_mut(&waiting.caller) {
                flow.tickets.remove(&waiting.arrival);
            }
            if level.by_age.is_empty() {
                level.clear();
            }
        }
        true
    }
}

// === impl Level ===

impl Level {
    fn push(&mut self, ticket: Ticket, arrival: u64, now: Instant) {
        self.stands_since.get_or_insert(now);
        self.by_age.insert(arrival, ticket.id);
        let flow = self.flows.entry(ticket.caller).or_insert_with(|| {
            self.turns.push_back(ticket.caller);
            Flow::default()
        });
        flow.tickets.insert(arrival, (ticket.id, ticket.cost.max(1)));
    }

    fn stands(&self, drain_within: Duration, now: Instant) -> bool {
        self.stands_since.is_some_and(|since| now.saturating_duration_since(since) >= drain_within)
    }

    /// Whose turn it is. Somebody waits.
    fn turn(&mut self, quantum: u64, is_newest_first: bool) -> Option<u64> {
        let mut turns = 0;
        loop {
            let caller = *self.turns.front()?;
            let flow = self.flows.get_mut(&caller)?;
            let Some((id, cost)) = flow.front(is_newest_first) else {
                self.flows.remove(&caller);
                self.turns.pop_front();
                continue;
            };
            if let Some(left) = flow.deficit.checked_sub(cost) {
                flow.deficit = left;
                return Some(id);
            }
            flow.deficit = flow.deficit.saturating_add(quantum);
            self.turns.rotate_left(1);
            turns += 1;
            if turns == self.turns.len() {
                self.skip_rounds(quantum, is_newest_first);
            }
        }
    }

    /// After a round in which nobody could afford its request: as many rounds at once as it takes
    /// until one can.
    fn skip_rounds(&mut self, quantum: u64, is_newest_first: bool) {
        let lacking = self.flows.values().filter_map(|flow| {
            flow.front(is_newest_first).map(|(_, cost)| cost.saturating_sub(flow.deficit))
        });
        let rounds = lacking.min().unwrap_or(0).div_ceil(quantum);
        for flow in self.flows.values_mut() {
            flow.deficit = flow.deficit.saturating_add(rounds.saturating_mul(quantum));
        }
    }

    /// Forgets callers that no longer wait, once there are more than there can be tickets.
    fn forget_idle(&mut self, max_queued: usize) {
        if self.turns.len() > max_queued.saturating_mul(2) {
            self.flows.retain(|_, flow| !flow.tickets.is_empty());
            self.turns.retain(|caller| self.flows.contains_key(caller));
        }
    }

    fn clear(&mut self) {
        self.flows.clear();
        self.turns.clear();
        self.stands_since = None;
    }
}

// === impl Flow ===

impl Flow {
    fn front(&self, is_newest_first: bool) -> Option<(u64, u64)> {
        let mut tickets = self.tickets.values();
        if is_newest_first { tickets.next_back() } else { tickets.next() }.copied()
    }
}
