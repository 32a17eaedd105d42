//! The part of each caller's requests that is let through, set once a second.

use std::time::Duration;

use super::{PRIORITIES, ShedSettings};
use crate::clock::Instant;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);
/// Hash slots that the callers of a priority share.
const SLOTS: usize = 64;

#[derive(Debug)]
pub(super) struct Cursor {
    settings: ShedSettings,
    salt: u64,
    salted_at: Instant,
    window_start: Instant,
    /// What came in this window, by priority and hash slot.
    incoming: [[f32; SLOTS]; PRIORITIES],
    /// The smoothed rate at which it comes, a second.
    rate: [[f32; SLOTS]; PRIORITIES],
    /// The part of each that is let through.
    part: [[f32; SLOTS]; PRIORITIES],
    /// Requests of priorities that can be shed, let through in this window.
    passed: u32,
    /// What may pass a second; `None` while nothing is shed.
    allowed: Option<f64>,
    waits: f64,
    waited: u32,
    releases: u32,
    releases_per_second: f64,
}

// === impl Cursor ===

impl Cursor {
    pub(super) fn new(settings: ShedSettings, salt: u64, now: Instant) -> Self {
        Self {
            settings,
            salt,
            salted_at: now,
            window_start: now,
            incoming: [[0.0; SLOTS]; PRIORITIES],
            rate: [[0.0; SLOTS]; PRIORITIES],
            part: [[1.0; SLOTS]; PRIORITIES],
            passed: 0,
            allowed: None,
            waits: 0.0,
            waited: 0,
            releases: 0,
            releases_per_second: 0.0,
        }
    }

    /// Counts a request and decides on it.
    pub(super) fn lets_through(&mut self, level: usize, caller: u64, u: f64) -> bool {
        if level == 0 {
            return true;
        }
        let slot = self.slot(caller);
        let count = self.incoming.get_mut(level).and_then(|slots| slots.get_mut(slot));
        if let Some(count) = count {
            *count += 1.0;
        }
        let passes = self.would_let_through(level, caller, u);
        self.passed = self.passed.saturating_add(u32::from(passes));
        passes
    }

    /// Decides on a request without counting it.
    pub(super) fn would_let_through(&self, level: usize, caller: u64, u: f64) -> bool {
        let part = self.part.get(level).and_then(|slots| slots.get(self.slot(caller)));
        level == 0 || u < f64::from(part.copied().unwrap_or(1.0))
    }

    /// Whether less is let through than comes.
    pub(super) fn is_shedding(&self) -> bool {
        self.allowed.is_some()
    }

    fn slot(&self, caller: u64) -> usize {
        (mix(caller ^ self.salt) % SLOTS as u64) as usize
    }

    /// A request got its slot, or gave up, after waiting so long.
    pub(super) fn on_wait(&mut self, wait: Duration) {
        self.waits += wait.as_secs_f64();
        self.waited = self.waited.saturating_add(1);
    }

    pub(super) fn on_releases(&mut self, count: u32) {
        self.releases = self.releases.saturating_add(count);
    }

    pub(super) fn releases_per_second(&self) -> f64 {
        self.releases_per_second
    }

    pub(super) fn let_through(&self) -> [f64; PRIORITIES] {
        let mut parts = [1.0; PRIORITIES];
        for (part, (rates, shares)) in parts.iter_mut().zip(self.rate.iter().zip(&self.part)) {
            let (mut all, mut passed) = (0.0, 0.0);
            for (rate, share) in rates.iter().zip(shares) {
                all += f64::from(*rate);
                passed += f64::from(rate * share);
            }
            if all > 0.0 {
                *part = passed / all;
            }
        }
        parts
    }

    /// Ends the window when its second is over. `stands_since` is since when requests have waited
    /// without a break.
    pub(super) fn roll(&mut self, stands_since: Option<Instant>, now: Instant) {
        let passed = now.saturating_duration_since(self.window_start);
        if passed < SECOND {
            return;
        }
        let seconds = passed.as_secs_f64();
        self.measure(seconds);
        let mean_wait = self.waits / f64::from(self.waited.max(1));
        let is_standing = stands_since.is_some_and(|since| since <= self.window_start);
        if is_standing && mean_wait > self.settings.target_wait.as_secs_f64() {
            // While requests wait, every slot is busy, so what is served is what can be.
            let passed = f64::from(self.passed) / seconds;
            let tightened = passed * (1.0 - self.settings.tighten);
            self.allowed = Some(tightened.max(self.releases_per_second).max(1.0));
        } else if let Some(allowed) = self.allowed {
            // After a pause, each second of it counts.
            let factor = (1.0 + self.settings.loosen).powf(seconds.min(600.0));
            self.allowed = Some(allowed * factor);
        }
        self.share();
        if now.saturating_duration_since(self.salted_at) >= HOUR {
            self.resalt(now);
        }
        self.window_start = now;
        self.passed = 0;
        (self.waits, self.waited) = (0.0, 0);
    }

    fn measure(&mut self, seconds: f64) {
        // An idle pause leaves nothing of what was before it.
        let keep = if seconds < 2.0 { 0.5 } else { 0.0 };
        let slots = self.rate.iter_mut().flatten().zip(self.incoming.iter_mut().flatten());
        for (rate, count) in slots {
            let fresh = *count / seconds as f32;
            *rate = if *rate > 0.0 { *rate * keep + fresh * (1.0 - keep) } else { fresh };
            *count = 0.0;
        }
        let fresh = f64::from(self.releases) / seconds;
        let before = self.releases_per_second;
        self.releases_per_second = if before > 0.0 { before * 0.5 + fresh * 0.5 } else { fresh };
        self.releases = 0;
    }

    /// Divides what is allowed: the higher priority first, and evenly between hash slots.
    fn share(&mut self) {
        let Some(allowed) = self.allowed else { return };
        let mut left = allowed;
        let mut is_shedding = false;
        for (rates, parts) in self.rate.iter().zip(&mut self.part).skip(1) {
            let wanted: f64 = rates.iter().map(|rate| f64::from(*rate)).sum();
            if wanted <= left && !is_shedding {
                left -= wanted;
                parts.fill(1.0);
                continue;
            }
            is_shedding = true;
            let even = even_share(rates, left);
            for (rate, part) in rates.iter().zip(parts) {
                // A slot nobody used gets through while this priority has anything.
                let share = if *rate > 0.0 { even / f64::from(*rate) } else { even };
                *part = share.clamp(0.0, 1.0) as f32;
            }
            left = 0.0;
        }
        if !is_shedding {
            self.allowed = None;
        }
    }

    pub(super) fn set_salt(&mut self, salt: u64) {
        self.salt = salt;
    }

    fn resalt(&mut self, now: Instant) {
        self.salt = mix(self.salt);
        self.salted_at = now;
        // The rates belong to the old slots; until the next window each priority is as a whole.
        let parts = self.let_through();
        for (slots, part) in self.part.iter_mut().zip(parts) {
            slots.fill(part as f32);
        }
        self.rate = [[0.0; SLOTS]; PRIORITIES];
    }
}

/// The share that each gets so that together they get `total`: `Σ min(rate, share) = total`.
fn even_share(rates: &[f32; SLOTS], total: f64) -> f64 {
    let mut share = 0.0;
    let mut settled = 0.0;
    // Each round settles those that want less than the share; at most one round for each.
    for _ in 0..SLOTS {
        let above = rates.iter().filter(|rate| f64::from(**rate) > share).count();
        if above == 0 {
            break;
        }
        let next = (total - settled) / above as f64;
        if next <= share {
            break;
        }
        share = next;
        settled = rates.iter().map(|rate| f64::from(*rate)).filter(|rate| *rate <= share).sum();
    }
    share
}

/// The finaliser of SplitMix64.
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}
