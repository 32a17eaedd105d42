//! Which side a unit (a conversation, a user, a caller, a request) is on.
//!
//! ```text
//! bucket = floor(hash(salt, unit) * 10,000 / 2^64)        candidate iff bucket < share
//! ```
//!
//! A share is in steps of 0.01 %. Growing it moves units from the control to the candidate only,
//! and shrinking it moves those back that came last, because a unit's bucket never changes. The
//! salt is the rollout's, so that two rollouts divide the same users independently. All nodes agree
//! without sharing anything, and after a restart.

use std::fmt;

use serde::{Deserialize, Serialize};

#[cfg(test)]
mod tests;

/// How much of the traffic the candidate has, in hundredths of a percent: 0 to 10,000.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(try_from = "u16", into = "u16")]
pub struct Share(u16);

/// A share that is none.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("a percentage is from 0 to 100 in steps of 0.01, not {0}")]
pub struct ShareError(pub f64);

/// The two sides of a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Arm {
    /// What is served today.
    Control,
    /// What may take its place.
    Candidate,
}

/// What is assigned as a whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnitKind {
    /// All requests of a conversation.
    Conversation,
    /// All requests of a user.
    #[default]
    User,
    /// All requests of a caller.
    Caller,
    /// Each request by itself: a conversation may see both sides.
    Request,
}

/// What makes a rollout divide units in its own way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Salt(u64);

/// A unit's lot in one rollout: the same at every share, on every node, for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Draw(u64);

/// How many steps make up the whole.
const STEPS: u16 = 10_000;
/// How many bits of a draw tell units apart.
const FINGERPRINT_BITS: u32 = 28;

// === impl Arm ===

impl Arm {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Control, Self::Candidate];

    /// Its name in headers, figures and the journal.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::Candidate => "candidate",
        }
    }
}

// === impl Share ===

impl Share {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// Everything.
    pub const ALL: Self = Self(STEPS);

    /// So many percent, rounded to a step.
    pub fn from_percent(percent: f64) -> Result<Self, ShareError> {
        if !(0.0..=100.0).contains(&percent) {
            return Err(ShareError(percent));
        }
        // From 0 to 10,000, so the cast loses nothing.
        Ok(Self((percent * 100.0).round() as u16))
    }

    /// In percent, from 0 to 100.
    pub fn percent(self) -> f64 {
        f64::from(self.0) / 100.0
    }

    /// As a part of the whole, from 0 to 1.
    pub fn part(self) -> f64 {
        f64::from(self.0) / f64::from(STEPS)
    }
}

impl TryFrom<u16> for Share {
    type Error = ShareError;

    fn try_from(steps: u16) -> Result<Self, ShareError> {
        if steps > STEPS {
            return Err(ShareError(f64::from(steps) / 100.0));
        }
        Ok(Self(steps))
    }
}

impl From<Share> for u16 {
    fn from(share: Share) -> Self {
        share.0
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} %", self.percent())
    }
}

// === impl Salt ===

impl Salt {
    /// The salt of the rollout with this id.
    pub fn of(rollout: &str) -> Self {
        Self(hash(0x7469_6465_6761_7465, rollout.as_bytes()))
    }

    /// The lot of a unit. Costs some nanoseconds; a short name costs less.
    pub fn draw(self, unit: &[u8]) -> Draw {
        Draw(hash(self.0, unit))
    }
}

// === impl Draw ===

impl Draw {
    /// The side that the unit is on at a share.
    pub fn arm(self, share: Share) -> Arm {
        if self.bucket() < share.0 { Arm::Candidate } else { Arm::Control }
    }

    /// What tells the unit from others in the analysis: 28 bits that are independent of its side.
    pub fn fingerprint(self) -> u32 {
        // The mask leaves what a u32 holds.
        (self.0 & ((1 << FINGERPRINT_BITS) - 1)) as u32
    }

    /// Below [`STEPS`]: the upper bits decide.
    fn bucket(self) -> u16 {
        ((u128::from(self.0) * u128::from(STEPS)) >> 64) as u16
    }
}

/// Eight bytes at a time through the finaliser of SplitMix64 (Steele, Lea and Flood, "Fast
/// splittable pseudorandom number generators", 2014), and the length at the end. The same
/// everywhere and for ever. Not for secrets: who picks user names at will can pick their side.
fn hash(seed: u64, bytes: &[u8]) -> u64 {
    let mut state = seed;
    let mut chunks = bytes.chunks_exact(8);
    for chunk in &mut chunks {
        state = mix(state ^ word(chunk));
    }
    state = mix(state ^ word(chunks.remainder()));
    mix(state ^ bytes.len() as u64)
}

/// At most eight bytes as a number, the first the lowest.
fn word(bytes: &[u8]) -> u64 {
    if let Ok(whole) = <[u8; 8]>::try_from(bytes) {
        return u64::from_le_bytes(whole);
    }
    bytes.iter().rev().fold(0, |word, byte| (word << 8) | u64::from(*byte))
}

fn mix(mut bits: u64) -> u64 {
    bits = bits.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}
