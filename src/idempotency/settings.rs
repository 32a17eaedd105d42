//! `[idempotency]`.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::{ByteCount, HumanDuration};

/// How requests with an `Idempotency-Key` are kept from being carried out twice.
///
/// ```toml
/// [idempotency]
/// ttl = "24h"
/// max_body = "1MB"
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct IdempotencySettings {
    /// How long after its end an outcome is replayed, from 1m to 30d.
    pub ttl: HumanDuration,
    /// The longest body that is kept to be replayed, at most 16MB. Who asks again for a longer one
    /// is told so with 410; those who asked while it was coming get it.
    pub max_body: ByteCount,
    /// What bodies that are still coming may take of memory, all together, at least 1MB. Beyond it
    /// they are not kept.
    pub max_memory: ByteCount,
    /// Keys that are kept of one caller, 100 to 100000000. Nodes count once a minute; a new key
    /// beyond it is refused with 429.
    #[schemars(range(min = 100, max = 100_000_000))]
    pub max_keys_per_caller: u32,
}

impl Default for IdempotencySettings {
    fn default() -> Self {
        Self {
            ttl: HumanDuration::secs(24 * 60 * 60),
            max_body: ByteCount(1_000_000),
            max_memory: ByteCount(64_000_000),
            max_keys_per_caller: 1_000_000,
        }
    }
}

// === impl IdempotencySettings ===

impl IdempotencySettings {
    /// What the types cannot rule out: keys, and what is wrong with them.
    pub fn problems(&self) -> Vec<(&'static str, &'static str)> {
        let mut problems = Vec::new();
        let ttl = self.ttl.0;
        if ttl < Duration::from_secs(60) || ttl > Duration::from_secs(30 * 24 * 60 * 60) {
            problems.push(("ttl", "must be from 1m to 30d"));
        }
        if self.max_body.0 > 16_000_000 {
            problems.push(("max_body", "must be at most 16MB"));
        }
        if self.max_memory.0 < 1_000_000 {
            problems.push(("max_memory", "must be at least 1MB"));
        }
        if !(100..=100_000_000).contains(&self.max_keys_per_caller) {
            problems.push(("max_keys_per_caller", "must be 100 to 100000000"));
        }
        problems
    }
}
