//! How likely a target is to turn a request away, so that some are not even sent.
//!
//! The client-side throttling of "Site Reliability Engineering" (Beyer et al., 2016, chapter 21,
//! "Handling Overload"). Two rules keep it right for long streams: requests count when they are
//! sent, not when they end, and an accepted one counts at its first token.
//!
//! What is sent but not yet answered counts as a request that was not accepted. A target's first
//! burst would therefore throttle itself, so a probability above zero also needs some rejections.

use std::time::Duration;

use crate::clock::Instant;

/// When throttling sets in.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ThrottleSettings {
    /// How far back requests count.
    pub window: Duration,
    /// How many requests an accepted one allows; at 2 about half of what is rejected is still sent,
    /// which shows when the target recovers.
    pub sent_per_accept: f64,
    /// Rejections that the window must hold before anything is throttled.
    pub min_rejects: u32,
}

/// The counters of one target.
#[derive(Debug, Clone)]
pub struct Throttle {
    settings: ThrottleSettings,
    slots: [Slot; SLOTS],
    started: Instant,
    /// The number of the slot time that is counted now.
    current: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    requests: u32,
    accepts: u32,
    rejects: u32,
}

const SLOTS: usize = 12;

impl Default for ThrottleSettings {
    /// Over 120 s, two requests for each accepted one, from three rejections on.
    fn default() -> Self {
        Self { window: Duration::from_secs(120), sent_per_accept: 2.0, min_rejects: 3 }
    }
}

// === impl Throttle ===

impl Throttle {
    /// Counters at zero.
    pub fn new(settings: ThrottleSettings, now: Instant) -> Self {
        Self { settings, slots: [Slot::default(); SLOTS], started: now, current: 0 }
    }

    /// A request goes out.
    pub fn on_send(&mut self, now: Instant) {
        if let Some(slot) = self.slot(now, now) {
            slot.requests = slot.requests.saturating_add(1);
        }
    }

    /// The first token of a request came.
    pub fn on_accept(&mut self, now: Instant) {
        if let Some(slot) = self.slot(now, now) {
            slot.accepts = slot.accepts.saturating_add(1);
        }
    }

    /// The target was overloaded, or no first token came in time.
    pub fn on_reject(&mut self, now: Instant) {
        if let Some(slot) = self.slot(now, now) {
            slot.rejects = slot.rejects.saturating_add(1);
        }
    }

    /// A request sent at `sent` ended before its first token for another reason than load: it
    /// counts neither way.
    pub fn on_neutral(&mut self, sent: Instant, now: Instant) {
        if let Some(slot) = self.slot(sent, now) {
            slot.requests = slot.requests.saturating_sub(1);
        }
    }

    /// The probability, in 0..1, with which the next request should go elsewhere.
    pub fn reject_probability(&mut self, now: Instant) -> f64 {
        self.roll(now);
        let (mut requests, mut accepts, mut rejects) = (0.0, 0.0, 0_u32);
        for slot in &self.slots {
            requests += f64::from(slot.requests);
            accepts += f64::from(slot.accepts);
            rejects = rejects.saturating_add(slot.rejects);
        }
        if rejects < self.settings.min_rejects {
            return 0.0;
        }
        ((requests - self.settings.sent_per_accept * accepts) / (requests + 1.0)).max(0.0)
    }

    /// The slot of a time, unless that has left the window.
    fn slot(&mut self, at: Instant, now: Instant) -> Option<&mut Slot> {
        self.roll(now);
        let number = self.number(at);
        if number + SLOTS as u64 <= self.current {
            return None;
        }
        self.slots.get_mut((number % SLOTS as u64) as usize)
    }

    fn roll(&mut self, now: Instant) {
        let number = self.number(now);
        for passed in (self.current + 1..=number).take(SLOTS) {
            // After a long pause every slot is cleared, whichever numbers they are.
            if let Some(slot) = self.slots.get_mut((passed % SLOTS as u64) as usize) {
                *slot = Slot::default();
            }
        }
        self.current = self.current.max(number);
    }

    fn number(&self, at: Instant) -> u64 {
        let slot = (self.settings.window / SLOTS as u32).max(Duration::from_millis(1));
        let passed = at.saturating_duration_since(self.started).as_nanos() / slot.as_nanos();
        u64::try_from(passed).unwrap_or(u64::MAX)
    }
}
