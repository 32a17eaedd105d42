//! Vectors from an embedding model of a provider, asked for as a caller's request is: over the same
//! credentials, breakers and prices. The journal has an entry of the caller `gateway` for each.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::HeaderMap;
use serde::{Deserialize, Serialize};

use super::Gateway;
use super::jobs::new_request_id;
use crate::cache::CacheWish;
use crate::callers::Caller;
use crate::clock::Instant;
use crate::config::Snapshot;
use crate::dialect::Envelope;
use crate::dispatch::{Answer, Call, Lane, Refused};
use crate::embed::{EmbedError, EmbedFuture, Embedding, Embeds};
use crate::failure::Midstream;
use crate::journal::EndpointKind;
use crate::rejection::Rejection;
use crate::units::Priority;

/// The tag of requests that the gateway makes on its own behalf.
const TAG: (&str, &str) = ("tidegate", "embedding");

/// Embeds with a model of a provider.
#[derive(Debug)]
pub struct RemoteEmbedder {
    snapshot: Arc<ArcSwap<Snapshot>>,
    lane: Lane,
    caller: Arc<Caller>,
    model: String,
    dimensions: usize,
    timeout: Duration,
    space: String,
}

/// What OpenAI's `/v1/embeddings` takes.
#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    input: &'a [String],
    dimensions: usize,
    encoding_format: &'static str,
}

/// What it answers, as far as it matters.
#[derive(Deserialize)]
struct Reply {
    data: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    index: usize,
    embedding: Vec<f32>,
}

// === impl RemoteEmbedder ===

impl RemoteEmbedder {
    /// Embeds over `lane` with `model`, written `provider/model`, into vectors of so many
    /// `dimensions`. Attempts end after `timeout`.
    pub fn new(
        gateway: &Gateway,
        lane: Lane,
        model: &str,
        dimensions: usize,
        timeout: Duration,
    ) -> Self {
        Self {
            snapshot: Arc::clone(&gateway.snapshot),
            lane,
            caller: Arc::new(Caller::gateway()),
            model: model.to_owned(),
            dimensions,
            timeout,
            space: format!("{model}-{dimensions}"),
        }
    }

    async fn ask(&self, texts: Vec<String>) -> Result<Vec<Embedding>, EmbedError> {
        let (model, dimensions) = (self.model.as_str(), self.dimensions);
        let body = Body { model, input: &texts, dimensions, encoding_format: "float" };
        let body = serde_json::to_vec(&body).map_err(|error| failed(error.to_string()))?;
        let envelope =
            Envelope::read(body.into()).map_err(|rejection| failed(rejection.loggable()))?;
        let (request_id, kind) = (new_request_id(), EndpointKind::Embeddings);
        let mut account = self.lane.ledger.open(
            request_id.clone(),
            &self.caller,
            kind,
            kind.dialect(),
            Instant::now(),
        );
        let call = Call {
            request_id,
            caller: Arc::clone(&self.caller),
            kind,
            dialect: kind.dialect(),
            envelope,
            timeout: Some(self.timeout),
            priority: Priority::default(),
            cache: CacheWish::default(),
            midstream: Midstream::Terminate,
            sticky: None,
            client_retries: 0,
            resumable: false,
            may_be_cut: false,
            stale: None,
            forwarded: HeaderMap::new(),
            snapshot: self.snapshot.load_full(),
        };
        account.on_call(&call, vec![(TAG.0.to_owned(), TAG.1.to_owned())]);
        match self.lane.complete(call, account).await {
            Ok(Answer::Whole(body, _)) => read(&body, texts.len()),
            Ok(Answer::Stream(..)) => Err(failed("its answer came as a stream".to_owned())),
            Err(refused) => Err(reason(&refused)),
        }
    }
}

impl Embeds for RemoteEmbedder {
    fn embed(&self, texts: Vec<String>) -> EmbedFuture<'_> {
        Box::pin(self.ask(texts))
    }

    fn dimensions(&self) -> usize {
        self.dimensions
    }

    fn space(&self) -> &str {
        &self.space
    }
}

fn failed(detail: String) -> EmbedError {
    EmbedError::Failed { detail }
}

fn reason(refused: &Refused) -> EmbedError {
    let rejection = &refused.rejection;
    if matches!(rejection, Rejection::DeadlinePassed { .. } | Rejection::Overloaded { .. }) {
        return EmbedError::Busy;
    }
    failed(rejection.loggable())
}

/// The vectors of an answer, in the order of what was asked.
fn read(body: &[u8], asked: usize) -> Result<Vec<Embedding>, EmbedError> {
    let reply: Reply =
        serde_json::from_slice(body).map_err(|error| failed(format!("its answer: {error}")))?;
    let mut embeddings = vec![None; asked];
    for Row { index, embedding } in reply.data {
        if let Some(place) = embeddings.get_mut(index) {
            *place = Embedding::towards(embedding);
        }
    }
    let all: Option<Vec<Embedding>> = embeddings.into_iter().collect();
    all.ok_or_else(|| failed("its answer lacks a vector".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_come_in_the_order_of_the_texts() {
        let body = br#"{"data":[{"index":1,"embedding":[0,2]},{"index":0,"embedding":[3,0]}]}"#;
        let found = read(body, 2).expect("vectors");
        assert_eq!(found[0].values(), [1.0, 0.0]);
        assert_eq!(found[1].values(), [0.0, 1.0]);
    }

    #[test]
    fn an_answer_without_a_direction_for_each_text_is_an_error() {
        for body in [
            r#"{"data":[{"index":0,"embedding":[3,0]}]}"#,
            r#"{"data":[{"index":0,"embedding":[3,0]},{"index":1,"embedding":[0,0]}]}"#,
            r#"{"data":[{"index":0,"embedding":[3,0]},{"index":7,"embedding":[1,0]}]}"#,
            r#"{"data":"no"}"#,
            "",
        ] {
            let found = read(body.as_bytes(), 2);
            assert!(matches!(found, Err(EmbedError::Failed { .. })), "{body}: {found:?}");
        }
    }
}
