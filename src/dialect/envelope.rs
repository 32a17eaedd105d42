//! What routing needs of a request, without decoding it.

/// Placeholder.
#[derive(Debug)]
pub struct Envelope;
/// Placeholder.
#[derive(Debug)]
pub struct Splice;
