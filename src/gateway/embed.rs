//! Vectors from an embedding model of a provider, asked for as a caller's request is: over the same
//! credentials, breakers and prices. The journal has an entry of the caller `gateway` for each.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Gateway;
use super::own::{Errand, Own};
use crate::cache::CacheWish;
use crate::dispatch::Lane;
use crate::embed::{EmbedError, EmbedFuture, Embedded, Embedding, Embeds};
use crate::failure::FailureKind;
use crate::journal::EndpointKind;
use crate::rejection::Rejection;
use crate::units::Priority;

/// Embeds with a model of a provider.
#[derive(Debug)]
pub struct RemoteEmbedder {
    own: Own,
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
        let cache = CacheWish::default();
        Self {
            own: Own::new(gateway, lane, "embedding", Priority::default(), cache),
            model: model.to_owned(),
            dimensions,
            timeout,
            space: format!("{model}-{dimensions}"),
        }
    }

    async fn ask(&self, texts: Vec<String>) -> Result<Embedded, EmbedError> {
        let (model, dimensions) = (self.model.as_str(), self.dimensions);
        let body = Body { model, input: &texts, dimensions, encoding_format: "float" };
        let body = serde_json::to_vec(&body).map_err(|error| failed(error.to_string()))?;
        let (kind, timeout) = (EndpointKind::Embeddings, self.timeout);
        let came = self.own.ask(Errand { kind, body, timeout, prompts: None, share: None }).await;
        let body = came.body.map_err(|rejection| reason(&rejection))?;
        Ok(Embedded { vectors: read(&body, texts.len())?, cost: came.cost })
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

fn reason(rejection: &Rejection) -> EmbedError {
    if matches!(rejection, Rejection::DeadlinePassed { .. } | Rejection::Overloaded { .. }) {
        return EmbedError::Busy;
    }
    let detail = rejection.loggable();
    if let Rejection::AttemptsFailed { failure, .. } = rejection
        && matches!(failure.kind, FailureKind::ContextTooLong | FailureKind::Policy)
    {
        return EmbedError::Refused { detail };
    }
    failed(detail)
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
