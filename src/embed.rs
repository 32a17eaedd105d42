//! Texts to vectors.
//!
//! An [`Embedder`] is a name, a time limit and something that embeds: the local model of
//! [`local`], or an endpoint of a provider, which goes through dispatch and therefore lives in
//! `gateway`. Whoever asks must be able to do without an answer: an embedder that is busy, slow or
//! gone is an [`EmbedError`], and never waits longer than its time limit.

use std::fmt::Debug;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

pub use crate::vectors::Embedding;

#[cfg(feature = "local-embeddings")]
pub mod local;
mod rows;

pub use rows::{Change, Cursor, Entry, EntryId, Rows, Selection};

/// The vectors of some texts, as they will be.
pub type EmbedFuture<'a> =
    Pin<Box<dyn Future<Output = Result<Vec<Embedding>, EmbedError>> + Send + 'a>>;

/// Something that embeds.
pub trait Embeds: Debug + Send + Sync {
    /// One vector a text, in their order.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future abandons the work that has not begun.
    fn embed(&self, texts: Vec<String>) -> EmbedFuture<'_>;

    /// How many numbers a vector has.
    fn dimensions(&self) -> usize;

    /// What the vectors can be compared with: those of the same space and no others. It changes when
    /// the model does.
    fn space(&self) -> &str;
}

/// Why there are no vectors.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EmbedError {
    /// There is too much to do: the queue is full, or the time ran out.
    #[error("the embedder has too much to do")]
    Busy,
    /// A text has more than the model reads. Cutting it would make texts with the same beginning
    /// the same.
    #[error("the text is longer than the {limit} word pieces that the embedder reads")]
    TooLong {
        /// The most word pieces of a text, its two marks included.
        limit: usize,
    },
    /// It did not work.
    #[error("the embedder failed: {detail}")]
    Failed {
        /// Why, for the log.
        detail: String,
    },
}

/// An embedder of the configuration. Clones are the same embedder.
#[derive(Debug, Clone)]
pub struct Embedder {
    name: Arc<str>,
    timeout: Duration,
    embeds: Arc<dyn Embeds>,
}

// === impl Embedder ===

impl Embedder {
    /// An embedder that is called `name` and answers within `timeout` or not at all.
    pub fn new(name: &str, timeout: Duration, embeds: Arc<dyn Embeds>) -> Self {
        Self { name: name.into(), timeout, embeds }
    }

    /// One vector a text, in their order.
    ///
    /// # Errors
    ///
    /// [`EmbedError::Busy`] where there is too much to do or the time limit passed, and whatever
    /// else kept it from embedding.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future abandons the work that has not begun.
    pub async fn embed(&self, texts: Vec<String>) -> Result<Vec<Embedding>, EmbedError> {
        let (expected, dimensions) = (texts.len(), self.dimensions());
        let in_time = tokio::time::timeout(self.timeout, self.embeds.embed(texts)).await;
        let embeddings = in_time.map_err(|_| EmbedError::Busy)??;
        let fits = |embedding: &Embedding| embedding.dimensions() == dimensions;
        if embeddings.len() != expected || !embeddings.iter().all(fits) {
            let detail = format!("not {expected} vectors of {dimensions} dimensions");
            return Err(EmbedError::Failed { detail });
        }
        Ok(embeddings)
    }

    /// How many numbers a vector has.
    pub fn dimensions(&self) -> usize {
        self.embeds.dimensions()
    }

    /// Its name in the configuration.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the vectors can be compared with, see [`Embeds::space`].
    pub fn space(&self) -> &str {
        self.embeds.space()
    }
}
