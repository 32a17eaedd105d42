//! Requests that may have only a share of a target, and only while others do not need it: what the
//! gateway asks on its own behalf, in quantity.
//!
//! What is known of a target's limits is divided so:
//!
//! - Of what may be under way at a time, guests have at most their share (one at least), and only
//!   while a tenth of it stays free for the others, one slot at least.
//! - Of each rate limit they get their share of what comes back, from a bucket of their own, and
//!   they take nothing of the limit itself but its uppermost share: where others have used more
//!   than that, guests wait.
//! - They are not sent while the target cools off, and wait in no queue, where they would hold up
//!   those who come later.
//!
//! So a target that others keep at its limit has no guests. One of which nothing is known is
//! limited by nothing here: whoever sends guests has a limit of his own.

use std::time::Duration;

use super::gate::Ask;
use super::group::Group;
use super::health::Health;
use super::member::Member;
use crate::clock::Instant;
use crate::policy::quota::Amounts;
use crate::policy::rank::Exclusion;
use crate::quota::{Bucket, Rate};
use crate::units::{Dimension, Ratio};

/// How long to wait for a slot or a pause to end, where nothing better is known.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// The part of what may be under way at a time that guests leave free.
const LEFT_FREE: f64 = 0.1;
/// A guest's share of a rate may be taken at once for so long.
const BURST_SECONDS: f64 = 5.0;
/// The least that is waited.
const LEAST_WAIT: Duration = Duration::from_millis(10);

/// What guests may still take of a target's rate limits.
#[derive(Debug, Default)]
pub(super) struct Guests {
    buckets: [Option<Bucket>; 4],
}

/// Why a guest has to wait, and for about how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NoRoom {
    pub(super) why: Exclusion,
    pub(super) wait: Duration,
}

// === impl Health ===

impl Health {
    /// Lets a guest in beside those under way, of whom so many are guests, or says why not. Nothing
    /// is taken where `estimate` has to wait.
    pub(super) fn admit_guest(
        &mut self,
        share: Ratio,
        estimate: Amounts,
        (in_flight, guests): (u32, u32),
        now: Instant,
    ) -> Result<(), NoRoom> {
        self.has_room_for_guest(share, estimate, (in_flight, guests), now)?;
        for (dimension, amount) in estimate.each() {
            if let Some(bucket) = self.guest_bucket(dimension, share, now) {
                bucket.take(amount, now);
            }
        }
        Ok(())
    }

    /// Whether there is room for a guest; nothing is taken.
    fn has_room_for_guest(
        &mut self,
        share: Ratio,
        estimate: Amounts,
        (in_flight, guests): (u32, u32),
        now: Instant,
    ) -> Result<(), NoRoom> {
        if !fits_at_a_time(share, self.limit(), (in_flight, guests)) {
            return Err(NoRoom { why: Exclusion::Full, wait: LOOK_AGAIN });
        }
        if self.is_cooling(now) {
            return Err(NoRoom { why: Exclusion::RateLimited, wait: LOOK_AGAIN });
        }
        let mut longest: Option<Duration> = None;
        for (dimension, amount) in estimate.each() {
            let by_level = self.wait_for_level(dimension, amount, share, now);
            let bucket = self.guest_bucket(dimension, share, now);
            let by_rate = bucket.and_then(|bucket| bucket.wait(amount, now));
            longest = longest.max(by_level).max(by_rate);
        }
        match longest {
            Some(wait) => Err(NoRoom { why: Exclusion::RateLimited, wait: wait.max(LEAST_WAIT) }),
            None => Ok(()),
        }
    }

    /// How long until the limit's uppermost share has room for an amount; more than that share
    /// needs all of it.
    fn wait_for_level(
        &self,
        dimension: Dimension,
        amount: u64,
        share: Ratio,
        now: Instant,
    ) -> Option<Duration> {
        let mirror = self.quota.as_ref()?.mirror();
        let (limit, level) = mirror.known(dimension, now)?;
        let (limit, per_second) = (limit as f64, mirror.per_second(dimension)?);
        let uppermost = limit * share.get();
        let needed = limit - uppermost + (amount as f64).min(uppermost);
        let lacking = needed - level;
        let seconds = lacking / per_second.max(f64::MIN_POSITIVE);
        (lacking > 1e-6).then(|| Duration::try_from_secs_f64(seconds).unwrap_or(LOOK_AGAIN))
    }

    /// The guests' bucket of a limit, where that is known.
    fn guest_bucket(
        &mut self,
        dimension: Dimension,
        share: Ratio,
        now: Instant,
    ) -> Option<&mut Bucket> {
        let per_second = self.quota.as_ref()?.mirror().per_second(dimension)? * share.get();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "rates are positive, and casts of floats saturate"
        )]
        let (rate, burst) = {
            let a_quarter_hour = (per_second * 900.0).round() as u64;
            let burst = (per_second * BURST_SECONDS).round() as u64;
            (Rate::new(a_quarter_hour, Duration::from_secs(900)), burst)
        };
        let slot = self.guests.buckets.get_mut(dimension as usize)?;
        let bucket = slot.get_or_insert_with(|| Bucket::new(rate, burst, now));
        bucket.set(rate, burst, now);
        Some(bucket)
    }
}

// === impl Group ===

impl Group {
    /// How long a small guest has to wait for its share, where it has to at every target; about.
    pub fn guest_wait(&self, share: Ratio, now: Instant) -> Option<Duration> {
        let mut shortest = None;
        for member in self.members() {
            let wait = member.guest_wait(share, now)?;
            shortest = Some(shortest.map_or(wait, |shortest: Duration| shortest.min(wait)));
        }
        shortest
    }
}

// === impl Member ===

impl Member {
    fn guest_wait(&self, share: Ratio, now: Instant) -> Option<Duration> {
        let live = &self.live;
        // Any request of theirs: what matters is that it is not one that is let in regardless.
        let ask = Ask { priority: crate::units::Priority::LOWEST.level(), ..Ask::default() };
        if live.gate().is_full(&ask) {
            return Some(LOOK_AGAIN);
        }
        let counts = (live.in_flight(), live.guests());
        let mut health = live.health.lock();
        let room = health.has_room_for_guest(share, Amounts::request(1, 1), counts, now);
        room.err().map(|no_room| no_room.wait)
    }
}

/// Whether one more guest fits where at most `limit` may be under way (0: as many as like), of
/// those `in_flight` and the `guests` among them.
fn fits_at_a_time(share: Ratio, limit: u32, (in_flight, guests): (u32, u32)) -> bool {
    if limit == 0 {
        return true;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "parts of a u32 that is not negative"
    )]
    let part = |part: f64| (f64::from(limit) * part) as u32;
    let theirs = part(share.get()).max(1);
    let free = part(LEFT_FREE).max(1).min(limit - 1);
    guests < theirs && in_flight.saturating_add(1).saturating_add(free) <= limit
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::quota::{Mirror, QuotaSettings, Reading};

    fn reading(remaining: u64, now: Instant) -> Reading {
        Reading {
            dimension: Dimension::Requests,
            limit: 600,
            remaining,
            reset: None,
            request_started: now,
        }
    }

    /// A target that allows 600 requests a minute, of which `remaining` are left.
    fn health(remaining: u64, now: Instant) -> Health {
        let mut mirror = Mirror::new(QuotaSettings::default());
        mirror.on_reading(reading(remaining, now), now);
        let mut health = Health::new(true);
        health.know(mirror);
        health
    }

    fn admit(health: &mut Health, now: Instant) -> Result<(), NoRoom> {
        health.admit_guest(Ratio::percent(20), Amounts::request(10, 10), (0, 0), now)
    }

    #[tokio::test(start_paused = true)]
    async fn guests_get_their_share_of_what_comes_back_and_no_more() {
        let start = Instant::now();
        let mut health = health(600, start);
        let mut admitted = 0;
        for step in 0..6_000_u32 {
            let now = start + Duration::from_millis(10) * step;
            admitted += u32::from(admit(&mut health, now).is_ok());
        }
        // A minute: 20 % of 600.
        assert!((115..=121).contains(&admitted), "{admitted}");
    }

    #[tokio::test(start_paused = true)]
    async fn where_others_use_what_there_is_guests_wait() {
        let now = Instant::now();
        assert!(admit(&mut health(500, now), now).is_ok(), "more than four fifths are left");
        let mut used = health(400, now);
        let refused = admit(&mut used, now).unwrap_err();
        assert_eq!(refused.why, Exclusion::RateLimited);
        // 81 requests come back in 8.1 s.
        assert!((8..=9).contains(&refused.wait.as_secs()), "{refused:?}");
        assert!(admit(&mut used, now + Duration::from_secs(9)).is_ok());
    }

    #[test]
    fn at_a_time_guests_have_their_share_while_some_is_free() {
        let share = Ratio::percent(20);
        for (limit, in_flight, guests, fits) in [
            (0, 1_000, 1_000, true),
            (1, 0, 0, true),
            (1, 1, 0, false),
            (2, 0, 0, true),
            (2, 1, 0, false),
            (20, 4, 4, false),
            (20, 4, 3, true),
            (20, 17, 0, true),
            (20, 18, 0, false),
            (100, 19, 19, true),
            (100, 20, 20, false),
        ] {
            let found = fits_at_a_time(share, limit, (in_flight, guests));
            assert_eq!(found, fits, "{limit} {in_flight} {guests}");
        }
    }
}
