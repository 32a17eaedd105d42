//! So many at a time.

/// Places for what runs at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slots {
    limit: u64,
    in_use: u64,
}

// === impl Slots ===

impl Slots {
    /// So many free places.
    pub const fn new(limit: u64) -> Self {
        Self { limit, in_use: 0 }
    }

    /// Changes how many there are; who has one keeps it.
    pub fn set_limit(&mut self, limit: u64) {
        self.limit = limit;
    }

    /// Whether `amount` places are free.
    pub const fn has_room(&self, amount: u64) -> bool {
        self.in_use.saturating_add(amount) <= self.limit
    }

    /// Takes `amount` places, whether or not they are free.
    pub fn take(&mut self, amount: u64) {
        self.in_use = self.in_use.saturating_add(amount);
    }

    /// Gives `amount` places back.
    pub fn give_back(&mut self, amount: u64) {
        self.in_use = self.in_use.saturating_sub(amount);
    }

    /// How many there are.
    pub const fn limit(&self) -> u64 {
        self.limit
    }

    /// How many are taken.
    pub const fn in_use(&self) -> u64 {
        self.in_use
    }

    /// How many are free.
    pub const fn free(&self) -> u64 {
        self.limit.saturating_sub(self.in_use)
    }
}
