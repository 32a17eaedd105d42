//! Unit vectors that stand for texts, and what finds the nearest of them.

use std::fmt;
use std::sync::Arc;

mod index;

pub use index::Index;

/// What a text means, as a vector of length 1: texts that mean about the same have a cosine near 1.
///
/// Only vectors of the same embedder can be compared. Clones share the numbers.
#[derive(Clone, PartialEq)]
pub struct Embedding(Arc<[f32]>);

// === impl Embedding ===

impl Embedding {
    /// The vector of length 1 in the direction of `values`. `None` where there is no direction: no
    /// values, all of them 0, or one that is not finite.
    pub fn towards(mut values: Vec<f32>) -> Option<Self> {
        // Squares of what an f32 holds fit into an f64.
        let squares: f64 = values.iter().map(|value| f64::from(*value).powi(2)).sum();
        let length = squares.sqrt();
        if !length.is_finite() || length == 0.0 {
            return None;
        }
        for value in &mut values {
            *value = (f64::from(*value) / length) as f32;
        }
        Some(Self(values.into()))
    }

    /// The numbers.
    pub fn values(&self) -> &[f32] {
        &self.0
    }

    /// How many numbers there are; at least 1.
    pub fn dimensions(&self) -> usize {
        self.0.len()
    }

    /// The cosine of the angle between both, -1 to 1. Where the dimensions differ, the vectors are
    /// not comparable and the cosine is that of strangers, 0.
    pub fn cosine(&self, other: &Self) -> f32 {
        if self.dimensions() != other.dimensions() {
            return 0.0;
        }
        self.0.iter().zip(&*other.0).map(|(a, b)| a * b).sum::<f32>().clamp(-1.0, 1.0)
    }
}

impl fmt::Debug for Embedding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Embedding({} dimensions)", self.dimensions())
    }
}
