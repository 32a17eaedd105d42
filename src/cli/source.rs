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
    /// The folder of registered prompts. Without one: `prompts` beside the configuration file;
    /// where there is no such file, `prompts` here.
    #[arg(long, value_name = "DIR", env = "TIDEGATE_PROMPTS")]
    pub prompts: Option<PathBuf>,
}

// === impl SourceArgs ===

impl SourceArgs {
    /// The source that the options name.
    pub fn source(&self, environment: Environment) -> Source {
        let mut source = Source {
            file: self.config.clone(),
            providers: self.providers.clone(),
            prompts: self.prompts.clone(),
            listen: None,
            environment,
            without_keys: false,
        };
        let here = PathBuf::from("prompts");
        if source.file.is_none() && source.prompts.is_none() && here.is_dir() {
            source.prompts = Some(here);
        }
        source
    }
}
