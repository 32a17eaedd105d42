//! The command line, one file a command.

pub mod check;
pub mod explain;
pub mod sim;
mod source;

pub use source::SourceArgs;
