//! Runs of simulated models, which need nothing but this program: where nobody else is named, the
//! simulator judges and embeds, too.
//!
//! What it says counts without labels. People's labels tell how far a judge is to be believed about
//! people's texts; of simulated answers there is nothing to find out.

use std::sync::Arc;
use std::time::Duration;

use crate::dispatch::Lane;
use crate::embed::Embedder;
use crate::gateway::{Gateway, RemoteEmbedder};

/// How the simulator's models begin.
const PROVIDER: &str = "sim/";
/// Who judges.
pub(super) const JUDGE: &str = "sim/moon-judge";
/// Who embeds, and into how many numbers.
const EMBEDDER: &str = "sim/tide-embed";
const DIMENSIONS: usize = 1_024;
const TIMEOUT: Duration = Duration::from_secs(30);

/// Whether only simulated models may answer.
pub(super) fn are_all(models: &[String]) -> bool {
    !models.is_empty() && models.iter().all(|model| model.starts_with(PROVIDER))
}

/// The simulator's embedder.
pub(super) fn embedder(gateway: &Gateway, lane: Lane) -> Embedder {
    let remote = RemoteEmbedder::new(gateway, lane, EMBEDDER, DIMENSIONS, TIMEOUT);
    Embedder::new("sim", TIMEOUT, Arc::new(remote))
}
