//! Where log lines go and how they look.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

use crate::config::{LogFormat, TelemetrySettings};

/// Sends log lines to standard error, as the settings say, or of what `log` says where it is given.
/// Standard output is for answers.
pub(super) fn start(settings: &TelemetrySettings, log: Option<String>, colour: bool) {
    let log = log.as_deref().unwrap_or(&settings.log);
    let filter = EnvFilter::builder().parse_lossy(log);
    let terminal = io::stderr().is_terminal();
    let json = match settings.log_format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !terminal,
    };
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_span_events(FmtSpan::NONE)
        .with_ansi(terminal && colour)
        .with_writer(io::stderr);
    // A second start, as in a test, keeps the first.
    let _ = if json { lines.json().flatten_event(true).try_init() } else { lines.try_init() };
}
