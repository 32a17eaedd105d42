//! Places of targets in the tiers of a route.

/// A place in the tiers of a route.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Place {
    /// The tier, from 0.
    pub tier: usize,
    /// The target within the tier, from 0.
    pub index: usize,
}
