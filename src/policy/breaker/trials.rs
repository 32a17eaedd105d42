//! Half open: the leases of trials and their verdicts.

use super::{MAX_TRIALS, Pass, Settings};
use crate::clock::Instant;

/// The trials of one half-open phase.
#[derive(Debug, Clone, Default)]
pub(super) struct Trials {
    leases: [Option<Lease>; MAX_TRIALS as usize],
    issued: u32,
    pub(super) good: u32,
    pub(super) bad: u32,
}

#[derive(Debug, Clone, Copy)]
struct Lease {
    id: LeaseId,
    expires: Instant,
}

/// Which trial; one that expired has no slot any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LeaseId(u32);

// === impl Trials ===

impl Trials {
    /// Trials under way.
    pub(super) fn running(&self, now: Instant) -> u32 {
        self.leases.iter().flatten().map(|lease| u32::from(lease.expires > now)).sum()
    }

    /// Begins a trial, unless all slots are taken.
    pub(super) fn lease(&mut self, settings: &Settings, now: Instant) -> Option<LeaseId> {
        let free = |slot: &&mut Option<Lease>| slot.is_none_or(|lease| lease.expires <= now);
        let slot = self.leases.iter_mut().find(free)?;
        let id = LeaseId(self.issued);
        *slot = Some(Lease { id, expires: now + settings.lease });
        self.issued = self.issued.wrapping_add(1);
        Some(id)
    }

    /// Frees the slot of a trial, unless its lease expired and another has the slot. The verdict of
    /// an expired trial counts all the same: were it lost, a target that always takes longer than a
    /// lease could never recover.
    pub(super) fn end(&mut self, pass: Pass) {
        for slot in &mut self.leases {
            if slot.is_some_and(|lease| Some(lease.id) == pass.lease) {
                *slot = None;
            }
        }
    }
}
