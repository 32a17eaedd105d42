//! All callers at once, for what is counted beside the request path.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Caller, CallerTable, Callers, CallersSource};

/// All callers as they were known at some time, those included that may not call any more: what
/// they have used counts for their teams.
#[derive(Debug, Clone)]
pub struct Roster {
    /// Which change of callers it is of, and where that was read.
    pub revision: (i64, CallersSource),
    /// When they were read, in milliseconds since 1970.
    pub read_at_ms: u64,
    callers: HashMap<String, Caller>,
}

// === impl Callers ===

impl Callers {
    /// Which change of callers is known, and where that was read; `None` before any was.
    pub fn revision(&self) -> Option<(i64, CallersSource)> {
        self.shared.table.load().as_deref().map(|table| (table.revision, table.source))
    }

    /// All callers; `None` before they were read. This goes through all of them.
    pub fn roster(&self) -> Option<Roster> {
        self.shared.table.load().as_deref().map(Roster::of)
    }
}

// === impl Roster ===

impl Roster {
    fn of(table: &CallerTable) -> Self {
        let teams = table.teams.iter().map(|team| (team.id.as_str(), (team.shared(), &team.terms)));
        let teams: HashMap<&str, (Arc<_>, &_)> = teams.collect();
        let keys = table.keys.iter().map(|key| Caller::of(key, &teams));
        let callers = keys.chain([Caller::anonymous()]);
        Self {
            revision: (table.revision, table.source),
            read_at_ms: table.read_at_ms,
            callers: callers.map(|caller| (caller.id.to_string(), caller)).collect(),
        }
    }

    /// The caller with this id.
    pub fn find(&self, id: &str) -> Option<&Caller> {
        self.callers.get(id)
    }

    /// All of them, in no order.
    pub fn all(&self) -> impl Iterator<Item = &Caller> {
        self.callers.values()
    }
}
