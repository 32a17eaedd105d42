//! Closed: what the last attempts say, and whether that is reason to open.

use std::time::Duration;

use super::{Reason, Settings};
use crate::clock::Instant;
use crate::failure::Severity;
use crate::policy::window::Window;

/// The attempts of the last 60 s.
#[derive(Debug, Clone)]
pub(super) struct History {
    recent: Window<10, 4>,
    long: Window<60, 4>,
    /// Hard failures since the last success.
    run: u32,
}

/// What an attempt adds.
#[derive(Debug, Clone, Copy)]
pub(super) enum Event {
    Good,
    Slow,
    Failed(Severity),
    /// A success that was told and turned out to be none.
    TakenBack,
}

// === impl History ===

impl History {
    pub(super) fn new() -> Self {
        let width = Duration::from_secs(1);
        Self { recent: Window::new(width), long: Window::new(width), run: 0 }
    }

    pub(super) fn add(&mut self, event: Event, now: Instant) {
        let counts = match event {
            Event::Good => [1, 0, 0, 0],
            Event::Failed(_) => [0, 1, 0, 0],
            Event::Slow => [0, 0, 1, 0],
            Event::TakenBack => [0, 0, 0, 1],
        };
        self.recent.add(counts, now);
        self.long.add(counts, now);
        match event {
            Event::Good | Event::Slow => self.run = 0,
            Event::Failed(Severity::Hard) => self.run = self.run.saturating_add(1),
            Event::Failed(Severity::Soft) | Event::TakenBack => {}
        }
    }

    /// Ends a run, whatever phase begins.
    pub(super) fn forget_run(&mut self) {
        self.run = 0;
    }

    pub(super) fn clear(&mut self) {
        *self = Self::new();
    }

    /// Why the breaker must open now, if it must.
    pub(super) fn reason_to_open(&mut self, settings: &Settings, now: Instant) -> Option<Reason> {
        let [ok, failed, slow, taken_back] = self.recent.sums(now);
        let [long_ok, long_failed, long_slow, long_taken_back] = self.long.sums(now);
        let ok = ok.saturating_sub(taken_back);
        let long_ok = long_ok.saturating_sub(long_taken_back);
        let (recent, long) = (ok + failed + slow, long_ok + long_failed + long_slow);
        let over = |part: u32, all: u32, share: f64| f64::from(part) >= share * f64::from(all);

        let usual_in_10_s = (long_ok + long_slow) / 6;
        let longest_run =
            (settings.max_run + usual_in_10_s.isqrt()).saturating_sub(2).max(settings.max_run);
        if self.run >= longest_run {
            Some(Reason::Run)
        } else if recent >= settings.min_attempts {
            if over(failed, recent, settings.max_failed) {
                Some(Reason::Failed)
            } else {
                over(slow, recent, settings.max_slow).then_some(Reason::Slow)
            }
        } else {
            // A busy target whose traffic has just begun is not quiet: ten attempts say little.
            let quiet = long >= settings.quiet_min_attempts && long > recent;
            (quiet && over(long_failed, long, settings.max_failed)).then_some(Reason::QuietFailed)
        }
    }

    #[cfg(test)]
    pub(super) fn sums(&mut self, now: Instant) -> ([u32; 4], [u32; 4]) {
        (self.recent.sums(now), self.long.sums(now))
    }
}
