//! Which targets each caller's requests could have gone to lately.
//!
//! A request's headers do not say which targets it is for, but those of its caller's last requests
//! are known. Only where every one of them would turn it away, it is turned away unread, so an
//! overloaded provider costs nothing to requests for another.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::Ask;
use crate::clock::Instant;
use crate::fleet::TargetLive;

/// How many callers are remembered. Of two that share a place the last one is.
const CALLERS: u64 = 1_024;
/// The most targets of a caller; who uses more is not turned away unread.
const TARGETS: usize = 4;
/// How long a use is remembered.
const REMEMBERED: Duration = Duration::from_secs(5);

/// What the last requests of callers were for.
pub(crate) struct Recent {
    callers: Box<[Mutex<Uses>]>,
}

#[derive(Default)]
struct Uses {
    caller: u64,
    targets: [Option<(Arc<TargetLive>, Instant)>; TARGETS],
    /// When there was last one target too many.
    overflowed: Option<Instant>,
}

// === impl Recent ===

impl Recent {
    /// Notes that a caller's request could go to each of these targets.
    pub(crate) fn note<'a>(
        &self,
        caller: u64,
        targets: impl Iterator<Item = &'a Arc<TargetLive>>,
        now: Instant,
    ) {
        let Some(place) = self.place(caller) else { return };
        let mut uses = place.lock();
        if uses.caller != caller {
            *uses = Uses { caller, ..Uses::default() };
        }
        for target in targets {
            uses.note(target, now);
        }
    }

    /// Whether a request is turned away by what its headers tell, and when to try again.
    pub(crate) fn turns_away(&self, ask: &Ask, now: Instant) -> Option<Duration> {
        let uses = self.place(ask.caller)?.lock();
        if uses.caller != ask.caller || uses.overflowed.is_some_and(|at| is_recent(at, now)) {
            return None;
        }
        let recent = || uses.targets.iter().flatten().filter(|(_, at)| is_recent(*at, now));
        let mut soonest: Option<Duration> = None;
        for (target, _) in recent() {
            let after = target.gate.would_turn_away(ask, now)?;
            soonest = Some(soonest.map_or(after, |soonest| soonest.min(after)));
        }
        if let (Some((last, _)), Some(_)) = (recent().max_by_key(|(_, at)| *at), soonest) {
            last.gate.count_turned_away(ask, now);
        }
        soonest
    }

    fn place(&self, caller: u64) -> Option<&Mutex<Uses>> {
        self.callers.get(usize::try_from(caller % CALLERS).ok()?)
    }
}

impl Default for Recent {
    fn default() -> Self {
        Self { callers: (0..CALLERS).map(|_| Mutex::default()).collect() }
    }
}

impl fmt::Debug for Recent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recent").finish_non_exhaustive()
    }
}

// === impl Uses ===

impl Uses {
    fn note(&mut self, target: &Arc<TargetLive>, now: Instant) {
        let known = self.targets.iter_mut().flatten().find(|(known, _)| Arc::ptr_eq(known, target));
        if let Some((_, at)) = known {
            *at = now;
            return;
        }
        let is_free = |place: &&mut Option<(Arc<TargetLive>, Instant)>| {
            place.as_ref().is_none_or(|(_, at)| !is_recent(*at, now))
        };
        match self.targets.iter_mut().find(is_free) {
            Some(place) => *place = Some((Arc::clone(target), now)),
            None => self.overflowed = Some(now),
        }
    }
}

fn is_recent(at: Instant, now: Instant) -> bool {
    now.saturating_duration_since(at) <= REMEMBERED
}
