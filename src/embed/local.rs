//! The local embedder: a sentence model on threads of its own.
//!
//! Requests wait in a bounded queue. One thread takes what is there, up to a batch, and never waits
//! for a batch to fill: while one is computed the next one gathers, so that batches grow with the
//! load and a lone request pays nothing for them. A request whose caller has left is not computed.
//! The arithmetic runs in a pool of as many threads as the operator gives it, and nowhere else.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};
use tokio::sync::oneshot;

use super::{EmbedError, EmbedFuture, Embedded, Embedding, Embeds};
use crate::units::MicroUsd;

mod model;
#[cfg(test)]
mod tests;

pub use model::{FILES, MAX_TOKENS, ModelError};
use model::{Model, Tokens};

/// Requests that may wait. At a few milliseconds each, more would wait longer than an answer from
/// a cache is worth.
const MAX_WAITING: usize = 256;
/// The most texts of a batch.
const MAX_BATCH: usize = 32;
/// The most tokens of a batch. Above about 100 a token costs the same in any batch, and those who
/// came first would wait for those who came last.
const BATCH_TOKENS: usize = MAX_TOKENS;

/// A sentence model that runs on threads of this process. They end when the last clone is dropped.
#[derive(Debug, Clone)]
pub struct LocalEmbedder {
    waiting: SyncSender<Request>,
    model: Arc<Model>,
}

/// Texts of one caller.
#[derive(Debug)]
struct Request {
    texts: Vec<String>,
    reply: oneshot::Sender<Result<Vec<Embedding>, EmbedError>>,
}

/// A request whose texts were taken apart.
struct Taken {
    texts: Vec<Tokens>,
    reply: oneshot::Sender<Result<Vec<Embedding>, EmbedError>>,
}

/// Why there is no local embedder.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder holds no model.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// No thread is to be had.
    #[error("cannot start a thread for embeddings")]
    Thread(#[source] std::io::Error),
    /// No threads are to be had.
    #[error("cannot start the threads of the model")]
    Pool(#[source] ThreadPoolBuildError),
}

// === impl LocalEmbedder ===

impl LocalEmbedder {
    /// Reads the model of `folder`, which takes a while, and computes with `threads`, at least one.
    ///
    /// # Errors
    ///
    /// Where the folder holds no model or no thread is to be had.
    pub fn open(folder: &Path, threads: usize) -> Result<Self, OpenError> {
        let model = Arc::new(Model::open(folder)?);
        let pool = ThreadPoolBuilder::new()
            .num_threads(threads.max(1))
            .thread_name(|index| format!("embed-{index}"))
            .build()
            .map_err(OpenError::Pool)?;
        let (waiting, queue) = sync_channel(MAX_WAITING);
        let of_thread = Arc::clone(&model);
        std::thread::Builder::new()
            .name("embed".to_owned())
            .spawn(move || work(&of_thread, &pool, &queue))
            .map_err(OpenError::Thread)?;
        Ok(Self { waiting, model })
    }

    /// The most word pieces of a text, its two marks included.
    pub fn max_tokens(&self) -> usize {
        self.model.max_tokens()
    }
}

impl Embeds for LocalEmbedder {
    fn embed(&self, texts: Vec<String>) -> EmbedFuture<'_> {
        let (reply, embeddings) = oneshot::channel();
        let sent = self.waiting.try_send(Request { texts, reply });
        Box::pin(async move {
            sent.map_err(|error| match error {
                TrySendError::Full(_) => EmbedError::Busy,
                TrySendError::Disconnected(_) => ended(),
            })?;
            let vectors = embeddings.await.map_err(|_| ended())??;
            Ok(Embedded { vectors, cost: MicroUsd::default() })
        })
    }

    fn dimensions(&self) -> usize {
        self.model.dimensions()
    }

    fn space(&self) -> &str {
        self.model.space()
    }
}

fn ended() -> EmbedError {
    EmbedError::Failed { detail: "its threads have ended".to_owned() }
}

/// Serves requests until nobody can send any.
fn work(model: &Model, pool: &ThreadPool, queue: &Receiver<Request>) {
    while let Some(batch) = next_batch(model, queue) {
        // A bug in a model must not take all later requests with it: the callers of this batch are
        // told by their dropped replies.
        let served = AssertUnwindSafe(|| pool.install(|| serve(model, batch)));
        if catch_unwind(served).is_err() {
            tracing::error!("the local embedder failed at a batch");
        }
    }
}

/// Waits for a request and takes those that are there as well. `None` where no more can come.
fn next_batch(model: &Model, queue: &Receiver<Request>) -> Option<Vec<Taken>> {
    let mut batch = Vec::new();
    let (mut texts, mut tokens) = (0, 0);
    let mut next = Some(queue.recv().ok()?);
    while let Some(request) = next {
        if let Some(taken) = take(model, request) {
            texts += taken.texts.len();
            tokens += taken.texts.iter().map(Tokens::len).sum::<usize>();
            batch.push(taken);
        }
        let is_full = texts >= MAX_BATCH || tokens >= BATCH_TOKENS;
        next = if is_full { None } else { queue.try_recv().ok() };
    }
    Some(batch)
}

/// Takes the texts apart, unless the caller has left or a text is too long.
fn take(model: &Model, request: Request) -> Option<Taken> {
    let Request { texts, reply } = request;
    if reply.is_closed() {
        return None;
    }
    match texts.iter().map(|text| model.tokens(text)).collect() {
        Ok(texts) => Some(Taken { texts, reply }),
        Err(error) => {
            // A caller who has left needs no answer, here and below.
            let _ = reply.send(Err(error));
            None
        }
    }
}

fn serve(model: &Model, batch: Vec<Taken>) {
    let texts: Vec<&Tokens> = batch.iter().flat_map(|taken| &taken.texts).collect();
    let mut embeddings: Vec<Result<Embedding, EmbedError>> = vec![Err(ended()); texts.len()];
    // Texts of a length together: what is beside a longer one is padded.
    let mut order: Vec<usize> = (0..texts.len()).collect();
    let length = |at: &usize| texts.get(*at).map_or(0, |text| text.len());
    order.sort_by_key(length);
    let mut rest = &*order;
    while !rest.is_empty() {
        let (now, later) = rest.split_at(part(rest.iter().map(length)));
        let together: Vec<&Tokens> = now.iter().filter_map(|at| texts.get(*at).copied()).collect();
        match model.embed(&together) {
            Ok(found) => {
                for (at, embedding) in now.iter().zip(found) {
                    if let Some(place) = embeddings.get_mut(*at) {
                        *place = Ok(embedding);
                    }
                }
            }
            Err(error) => {
                for place in now.iter() {
                    if let Some(place) = embeddings.get_mut(*place) {
                        *place = Err(error.clone());
                    }
                }
            }
        }
        rest = later;
    }
    let mut embeddings = embeddings.into_iter();
    for Taken { texts, reply } in batch {
        // A caller who has left needs no answer.
        let _ = reply.send(embeddings.by_ref().take(texts.len()).collect());
    }
}

/// How many texts of these lengths, the shortest first and at least one, are computed at once.
fn part(lengths: impl Iterator<Item = usize>) -> usize {
    let mut texts = 0;
    let fits = |length: &usize| {
        texts += 1;
        texts * length <= BATCH_TOKENS
    };
    lengths.take(MAX_BATCH).take_while(fits).count().max(1)
}
