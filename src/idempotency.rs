//! Requests that must not be carried out twice: what an `Idempotency-Key` stands for, what is known
//! of it in the store, and what follows from that.
//!
//! ```text
//!             ┌──── nothing ────┐ claim
//!             │                 ▼
//!   forget ───┤            in progress ◀──┐ take over, once the lease has run out: token + 1
//!  (may be    │    renew ◀─┤     │  └─────┘
//!   asked     └────────────┘     │ finish
//!   again)                       ▼
//!                              done ──────▶ replayed until it expires
//! ```
//!
//! A row belongs to whoever claimed it last. Every later write names the claim's *token*, and does
//! nothing where the row has another: an owner that was away for longer than its lease cannot
//! overwrite the outcome of the one that took over.
//!
//! Times are by the clock of the store, so that nodes whose clocks differ agree on who is late.

mod fingerprint;
mod key;
mod row;
mod rows;
mod settings;

pub use fingerprint::Fingerprint;
pub use key::{IdempotencyKey, RowId, Scope};
pub use row::{Decision, Kept, Progress, Row, decide};
pub use rows::{Claim, Claimed, Fence, Owner, Rows};
pub use settings::IdempotencySettings;
