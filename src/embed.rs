//! Texts to vectors.
//!
//! An [`Embedder`] is a name, a time limit and something that embeds: the local model of
//! [`local`], or an endpoint of a provider, which goes through dispatch and therefore lives in
//! `gateway`. Whoever asks must be able to do without an answer: an embedder that is busy, slow or
//! gone is an [`EmbedError`], and nobody waits longer than its time limit. After three failures in
//! a row it is left alone for a while and the error comes at once; see `rest`. Texts that were
//! asked for lately, or are being asked for, are not embedded again; see `memo`.

use std::fmt::Debug;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::Instant;
use crate::units::MicroUsd;
pub use crate::vectors::Embedding;

#[cfg(feature = "local-embeddings")]
pub mod local;
mod memo;
mod rest;
mod rows;
#[cfg(test)]
mod tests;

use memo::{Key, Memo};
use rest::{End, Permit, Rest};
pub use rows::{Change, Cursor, Entry, EntryId, Rows};

/// The vectors of some texts, as they will be.
pub type EmbedFuture<'a> = Pin<Box<dyn Future<Output = Result<Embedded, EmbedError>> + Send + 'a>>;

/// The longest time limit that counts.
const MAX_TIMEOUT: Duration = Duration::from_secs(24 * 3_600);

/// The vectors of some texts.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedded {
    /// One a text, in their order.
    pub vectors: Vec<Embedding>,
    /// What a provider asks for them. What is computed here costs nothing.
    pub cost: MicroUsd,
}

/// Something that embeds.
pub trait Embeds: Debug + Send + Sync {
    /// One vector a text, in their order, and what they cost.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future abandons the work that has not begun.
    fn embed(&self, texts: Vec<String>) -> EmbedFuture<'_>;

    /// How many numbers a vector has.
    fn dimensions(&self) -> usize;

    /// What the vectors can be compared with: those of the same space and no others. It changes
    /// when the model does.
    fn space(&self) -> &str;
}

/// Why there are no vectors.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EmbedError {
    /// There is too much to do: the queue is full, or the time ran out.
    #[error("the embedder has too much to do")]
    Busy,
    /// It failed several times in a row and is not asked for some seconds.
    #[error("the embedder rests after failures")]
    Resting,
    /// A text has more than the model reads. Cutting it would make texts with the same beginning
    /// the same.
    #[error("the text is longer than the {limit} word pieces that the embedder reads")]
    TooLong {
        /// The most word pieces of a text, its two marks included.
        limit: usize,
    },
    /// Its provider does not take this text: it is too long for the model, or against a policy.
    #[error("the embedder does not take the text: {detail}")]
    Refused {
        /// Why, for the log.
        detail: String,
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
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    name: String,
    timeout: Duration,
    embeds: Arc<dyn Embeds>,
    memo: Memo,
    rest: Mutex<Rest>,
}

/// One time that the embedder is asked. Whatever becomes of it, [`Rest`] learns of it.
struct Attempt<'a> {
    rest: &'a Mutex<Rest>,
    permit: Permit,
    deadline: Instant,
    end: Option<End>,
}

// === impl EmbedError ===

impl EmbedError {
    /// One word for metrics.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::Resting => "resting",
            Self::TooLong { .. } => "too_long",
            Self::Refused { .. } => "refused",
            Self::Failed { .. } => "failed",
        }
    }

    /// What it says of the embedder.
    const fn end(&self) -> End {
        match self {
            Self::Busy | Self::Failed { .. } => End::Failure,
            // Another text may be taken.
            Self::Resting | Self::TooLong { .. } | Self::Refused { .. } => End::Neither,
        }
    }
}

// === impl Embedder ===

impl Embedder {
    /// An embedder that is called `name` and answers within `timeout` or not at all.
    pub fn new(name: &str, timeout: Duration, embeds: Arc<dyn Embeds>) -> Self {
        let (memo, timeout) = (Memo::new(embeds.dimensions()), timeout.min(MAX_TIMEOUT));
        let (name, rest) = (name.to_owned(), Mutex::default());
        Self { inner: Arc::new(Inner { name, timeout, embeds, memo, rest }) }
    }

    /// One vector a text, in their order, and what they cost. Nothing is remembered.
    ///
    /// # Errors
    ///
    /// [`EmbedError::Busy`] where there is too much to do or the time limit passed,
    /// [`EmbedError::Resting`] after failures, and whatever else kept it from embedding.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future abandons the work that has not begun.
    pub async fn embed(&self, texts: Vec<String>) -> Result<Embedded, EmbedError> {
        self.embed_by(texts, Instant::now() + self.inner.timeout).await
    }

    /// The vector of one text, and what it cost: nothing where the same `tenant` asked for the same
    /// text lately, or is asking for it. However many do so at once, it is embedded once, and one
    /// of them is told what it cost.
    ///
    /// `tenant` is whatever tells tenants apart. They share nothing, because how long a vector
    /// takes would tell one what another has asked.
    ///
    /// # Errors
    ///
    /// As [`Self::embed`]. Those who wait for the same text share an error, the next to come does
    /// not.
    ///
    /// # Cancel safety
    ///
    /// As [`Self::embed`]; others who wait for the same text go on.
    pub async fn embed_one(
        &self,
        tenant: &[u8],
        text: &str,
    ) -> Result<(Embedding, MicroUsd), EmbedError> {
        let deadline = Instant::now() + self.inner.timeout;
        let embed = async {
            let Embedded { vectors, cost } = self.embed_by(vec![text.to_owned()], deadline).await?;
            let only = vectors.into_iter().next().ok_or_else(|| self.wrong_vectors(1))?;
            Ok((only, cost))
        };
        let found = self.inner.memo.get_or(Key::of(tenant, text), embed);
        // Who waits for another's vector has a time limit, too.
        tokio::time::timeout_at(deadline, found).await.map_err(|_| EmbedError::Busy)?
    }

    async fn embed_by(
        &self,
        texts: Vec<String>,
        deadline: Instant,
    ) -> Result<Embedded, EmbedError> {
        let mut attempt = Attempt::begin(&self.inner.rest, deadline)?;
        let result = self.ask(texts, deadline).await;
        attempt.end = Some(result.as_ref().err().map_or(End::Success, EmbedError::end));
        result
    }

    async fn ask(&self, texts: Vec<String>, deadline: Instant) -> Result<Embedded, EmbedError> {
        let expected = texts.len();
        let in_time = tokio::time::timeout_at(deadline, self.inner.embeds.embed(texts)).await;
        let embedded = in_time.map_err(|_| EmbedError::Busy)??;
        let fits = |embedding: &Embedding| embedding.dimensions() == self.dimensions();
        if embedded.vectors.len() != expected || !embedded.vectors.iter().all(fits) {
            return Err(self.wrong_vectors(expected));
        }
        Ok(embedded)
    }

    fn wrong_vectors(&self, expected: usize) -> EmbedError {
        let detail = format!("not {expected} vectors of {} dimensions", self.dimensions());
        EmbedError::Failed { detail }
    }

    /// How many numbers a vector has.
    pub fn dimensions(&self) -> usize {
        self.inner.embeds.dimensions()
    }

    /// Its name in the configuration.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// What the vectors can be compared with, see [`Embeds::space`].
    pub fn space(&self) -> &str {
        self.inner.embeds.space()
    }
}

// === impl Attempt ===

impl<'a> Attempt<'a> {
    fn begin(rest: &'a Mutex<Rest>, deadline: Instant) -> Result<Self, EmbedError> {
        let permit = rest.lock().permit(Instant::now()).ok_or(EmbedError::Resting)?;
        Ok(Self { rest, permit, deadline, end: None })
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        let now = Instant::now();
        // Who asked for one text has a timer beside this one, which may be the first to be seen.
        let unsettled = if self.deadline <= now { End::Failure } else { End::Neither };
        self.rest.lock().on_end(self.permit, self.end.unwrap_or(unsettled), now);
    }
}
