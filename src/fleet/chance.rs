//! Where decisions take their chances from.

use std::sync::OnceLock;

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Numbers uniform in 0..1: unpredictable, or the same in every run where a rehearsal wants that.
#[derive(Debug, Default)]
pub(super) struct Chance {
    seeded: OnceLock<Seeded>,
}

/// Gates and ids have numbers of their own, so that how full gates are and how many requests come
/// does not change what is drawn of targets.
#[derive(Debug)]
struct Seeded {
    targets: Mutex<StdRng>,
    gates: Mutex<StdRng>,
    ids: Mutex<StdRng>,
}

// === impl Chance ===

impl Chance {
    /// From now on the numbers are those of this seed. Only the first call counts.
    pub(super) fn seed(&self, seed: u64) {
        let of = |seed| Mutex::new(StdRng::seed_from_u64(seed));
        let (targets, gates, ids) = (of(seed), of(!seed), of(seed.wrapping_add(1)));
        let _ = self.seeded.set(Seeded { targets, gates, ids });
    }

    /// The next number.
    pub(super) fn draw(&self) -> f64 {
        match self.seeded.get() {
            None => rand::random(),
            Some(seeded) => seeded.targets.lock().random(),
        }
    }

    /// The next number of gates.
    pub(super) fn draw_at_gate(&self) -> f64 {
        match self.seeded.get() {
            None => rand::random(),
            Some(seeded) => seeded.gates.lock().random(),
        }
    }

    /// What callers' slots at a gate are mixed with.
    pub(super) fn salt(&self) -> u64 {
        match self.seeded.get() {
            None => rand::random(),
            Some(seeded) => seeded.gates.lock().random(),
        }
    }

    /// What makes an id unlike any other.
    pub(super) fn for_id(&self) -> u128 {
        match self.seeded.get() {
            None => rand::random(),
            Some(seeded) => seeded.ids.lock().random(),
        }
    }
}
