//! Where decisions take their chances from.

use std::sync::OnceLock;

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Numbers uniform in 0..1: unpredictable, or the same in every run where a rehearsal wants that.
#[derive(Debug, Default)]
pub(super) struct Chance {
    seeded: OnceLock<Mutex<StdRng>>,
}

// === impl Chance ===

impl Chance {
    /// From now on the numbers are those of this seed. Only the first call counts.
    pub(super) fn seed(&self, seed: u64) {
        let _ = self.seeded.set(Mutex::new(StdRng::seed_from_u64(seed)));
    }

    /// The next number.
    pub(super) fn draw(&self) -> f64 {
        match self.seeded.get() {
            None => rand::random(),
            Some(seeded) => seeded.lock().random(),
        }
    }
}
