//! A request that asks for a slot, as far as its headers tell.

use crate::ids::CallerId;
use crate::policy::rank;
use crate::units::Priority;

/// A request that asks for a slot.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Ask {
    /// 0, never shed, to 4, shed first.
    pub priority: u8,
    /// A hash of who asks.
    pub caller: u64,
    /// What it costs, in tokens, as far as that is known.
    pub cost: u64,
    /// Uniform in 0..1, and the same however often the request asks: one that was let through by
    /// its headers is not drawn for again.
    pub draw: f64,
}

// === impl Ask ===

impl Ask {
    /// The request of a caller.
    pub fn new(caller: &CallerId, request: &str, priority: Priority, cost: u64) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "the upper 53 bits are exact")]
        let draw = (rank::hash(request.as_bytes()) >> 11) as f64 / (1_u64 << 53) as f64;
        let caller = rank::hash(caller.as_str().as_bytes());
        Self { priority: priority.level(), caller, cost, draw }
    }

    /// Whether it gets a slot even where there is none.
    pub(super) fn is_never_shed(&self) -> bool {
        self.priority == 0
    }
}
