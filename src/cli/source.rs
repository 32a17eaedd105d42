//! Where a command takes its configuration from.

use std::path::PathBuf;

use clap::Args;

use crate::config::{Environment, Source};

/// Options of every command that reads the configuration.
#[derive(Debug, Clone, Default, Args)]
pub struct SourceArgs {
    /// The configuration file. Without one: defaults, and the providers whose keys are in the
    /// environment.
    #[arg(long, value_name = "FILE", env = "TIDEGATE_CONFIG")]
    pub config: Option<PathBuf>,
    /// A folder of provider files that replace built-in ones of the same name, or add to them.
    #[arg(long, value_name = "DIR", env = "TIDEGATE_PROVIDERS")]
    pub providers: Option<PathBuf>,
}

// === impl SourceArgs ===

impl SourceArgs {
    /// The source that the options name.
    pub fn source(&self, environment: Environment) -> Source {
        Source {
            file: self.config.clone(),
            providers: self.providers.clone(),
            listen: None,
            environment,
        }
    }
}
