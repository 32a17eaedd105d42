//! Files and environment to an immutable [`Snapshot`], or to every problem at once.
//!
//! Two stages: a draft (what was read, with the line of each value), then a checked configuration
//! with all references resolved, which is indexed as the [`Snapshot`] that requests use.
//!
//! A file that names providers switches on exactly those. Where there is no file, or it names no
//! provider, those are on whose keys are in the environment, and the simulated one where there is
//! no key at all; the route `default` then stands for the cheapest capable model of each.
//!
//! This is the only module that opens configuration files and reads environment variables.

use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use crate::problems::Problems;
use crate::prompt::Prompts;

mod advice;
mod check;
mod conduct;
mod credentials;
mod draft;
mod embedders;
mod environment;
mod inventory;
mod limits;
mod patch;
mod prompts;
mod providers;
mod reference;
mod routes;
mod secret;
mod sections;
mod semantic;
mod settings;
mod snapshot;
mod suites;
mod watch;

#[cfg(test)]
mod tests;

pub use check::may_listen;
pub use conduct::{
    Conduct, DegradeSettings, Hedge, HedgeSettings, HoldBack, HoldBackSettings,
    PrefixCacheSettings, Rank, RankSettings, RetrySettings,
};
pub use draft::Source;
pub use embedders::{EmbedderKind, EmbedderSettings};
pub use environment::Environment;
pub use inventory::{PromptUse, Replacement, Retiring, UsedModel, date_of};
pub use patch::Patch;
pub use prompts::PromptSettings;
pub use reference::{reference_toml, schema_json};
pub use secret::Secret;
pub use settings::{
    AdmissionSettings, AuthSettings, DefaultsSettings, KeepAliveSettings, LogFormat,
    ServerSettings, StoreSettings, TelemetrySettings, TimeoutSettings,
};
pub use snapshot::{Endpoint, KeepAlive, ListedModel, Route, Settings, Snapshot, Target, Timeouts};
pub(crate) use suites::names_in;
pub use suites::{FileSuite, FileSuites};
pub use watch::{Current, ReloadCause, ReloadFailure, ReloadStatus, Reloaded, Watcher, reloading};

/// Reads the prompts of a source and nothing else of it.
///
/// # Errors
///
/// Every problem there is, in the order of files and lines.
pub fn load_prompts(source: &Source) -> Result<Prompts, Problems> {
    let mut problems = Problems::new();
    let prompts = source.read_prompts(None, &mut Sha256::new(), &mut problems);
    if problems.is_empty() {
        return Ok(prompts);
    }
    problems.sort();
    Err(problems)
}

/// Reads, checks and indexes a configuration. `previous` lends endpoints that did not change.
///
/// # Errors
///
/// Every problem there is, in the order of files and lines.
pub fn load(source: &Source, previous: Option<&Snapshot>) -> Result<Arc<Snapshot>, Problems> {
    let prompts = previous.map(|previous| &*previous.prompts);
    check::Config::read(source, prompts).map(|config| Arc::new(Snapshot::build(config, previous)))
}
