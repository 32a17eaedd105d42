//! Files and environment to an immutable [`Snapshot`], or to every problem at once.
//!
//! Two stages: a draft (what was read, with the line of each value), then a checked configuration
//! with all references resolved, which is indexed as the [`Snapshot`] that requests use.

mod settings;
mod snapshot;

pub use settings::{
    AuthMode, AuthSettings, DefaultsSettings, JournalSettings, KeepAliveSettings, LogFormat,
    ServerSettings, StoreSettings, TelemetrySettings, TimeoutSettings,
};
pub use snapshot::{Endpoint, KeepAlive, ListedModel, Route, Settings, Snapshot, Target, Timeouts};
