//! Vectors of texts that were asked for lately, and those that are being asked for.
//!
//! A text has a place. Who comes to an empty one embeds, and whoever comes meanwhile waits beside
//! it; if the one who embeds leaves, one of those who wait goes on in their stead. A failure is
//! told to those who wait and not remembered: the place is given up before anybody learns of it.
//!
//! moka keeps the places and no more. Its own way of letting one make what many want panics in
//! whoever has seen 200 others leave, and callers decide when they leave.

use std::fmt;
use std::sync::Arc;

use blake3::Hasher;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use tokio::sync::OnceCell;

use super::{EmbedError, Embedding};
use crate::units::MicroUsd;

/// The most texts that are remembered.
const MAX_TEXTS: usize = 4_096;
/// The most bytes that their vectors take: fewer texts are remembered where vectors are long.
const MAX_BYTES: usize = 16 << 20;

/// One text of one tenant.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key([u8; 32]);

type Place = OnceCell<Result<Embedding, EmbedError>>;

/// The vectors of texts that were asked for lately.
pub(super) struct Memo {
    places: Cache<Key, Arc<Place>>,
}

// === impl Key ===

impl Key {
    pub(super) fn of(tenant: &[u8], text: &str) -> Self {
        let mut hash = Hasher::new();
        // So that no tenant's name with the start of a text is another's.
        hash.update(&(tenant.len() as u64).to_le_bytes());
        hash.update(tenant);
        hash.update(text.as_bytes());
        Self(hash.finalize().into())
    }
}

// === impl Memo ===

impl Memo {
    /// For vectors of so many dimensions.
    pub(super) fn new(dimensions: usize) -> Self {
        let room = MAX_BYTES / (dimensions.max(1) * size_of::<f32>());
        let places = Cache::builder()
            .max_capacity(room.clamp(1, MAX_TEXTS) as u64)
            // The other policy may turn a newcomer away, with others waiting for it.
            .eviction_policy(EvictionPolicy::lru())
            .build();
        Self { places }
    }

    /// The vector that is remembered, or what `embed` comes to, which is polled by one at a time of
    /// those who ask for the same. What it cost is told to that one, and the others pay nothing.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops `embed`; another who waits begins with its own.
    pub(super) async fn get_or(
        &self,
        key: Key,
        embed: impl Future<Output = Result<(Embedding, MicroUsd), EmbedError>>,
    ) -> Result<(Embedding, MicroUsd), EmbedError> {
        let place = self.places.get_with(key, Arc::default);
        let mut paid = MicroUsd::default();
        let fill = async {
            match embed.await {
                Ok((embedding, cost)) => {
                    paid = cost;
                    Ok(embedding)
                }
                Err(error) => {
                    self.places.invalidate(&key);
                    Err(error)
                }
            }
        };
        let embedding = place.get_or_init(|| fill).await.clone()?;
        Ok((embedding, paid))
    }

    /// How many texts are remembered, once what was put off is done.
    #[cfg(test)]
    pub(super) fn len(&self) -> u64 {
        self.places.run_pending_tasks();
        self.places.entry_count()
    }
}

impl fmt::Debug for Memo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memo").field("texts", &self.places.entry_count()).finish()
    }
}
