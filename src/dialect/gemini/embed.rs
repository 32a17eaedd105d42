//! Embeddings: OpenAI's request and answer on one side, `batchEmbedContents` on the other.

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::request::unsupported;
use super::{failure, wire};
use crate::dialect::{RequestTarget, WireRequest, json_bytes};
use crate::failure::{Failure, FailureKind};
use crate::rejection::Rejection;

/// What of an OpenAI embeddings request Gemini can answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmbeddingsRequest {
    /// The texts, in order.
    pub inputs: Vec<String>,
    /// How long the vectors shall be.
    pub dimensions: Option<u64>,
    /// Whether vectors shall be base64 of little-endian 32-bit floats, which is what OpenAI's
    /// Python client asks for without being told.
    pub is_base64: bool,
}

/// Writes OpenAI's embeddings request for Gemini.
///
/// # Errors
///
/// [`Rejection::Invalid`] for a request that is none, [`Rejection::Unsupported`] for inputs of
/// token numbers.
pub fn encode_embeddings(
    body: &[u8],
    target: &RequestTarget<'_>,
) -> Result<(EmbeddingsRequest, WireRequest), Rejection> {
    let request = read_request(body, target)?;
    let model = if target.model.contains('/') {
        target.model.to_owned()
    } else {
        format!("models/{}", target.model)
    };
    let one = |text: &String| {
        let mut one = Map::new();
        one.insert("model".into(), model.as_str().into());
        one.insert("content".into(), json!({ "parts": [{ "text": text }] }));
        if let Some(dimensions) = request.dimensions {
            one.insert("outputDimensionality".into(), dimensions.into());
        }
        Value::Object(one)
    };
    let requests: Vec<_> = request.inputs.iter().map(one).collect();
    let wire = WireRequest {
        path: format!("/{model}:batchEmbedContents"),
        headers: Vec::new(),
        body: Bytes::from(json_bytes(&json!({ "requests": requests }))),
    };
    Ok((request, wire))
}

/// Reads Gemini's answer into OpenAI's, for a model by the name the caller used.
///
/// # Errors
///
/// [`FailureKind::Degenerate`] where the body is no answer, or answers another number of texts.
pub fn decode_embeddings(
    body: &[u8],
    request: &EmbeddingsRequest,
    model: &str,
) -> Result<Value, Failure> {
    let degenerate = |problem: &str| Failure::new(FailureKind::Degenerate, problem);
    let answer: Value = serde_json::from_slice(body)
        .map_err(|error| degenerate(&format!("the answer is not JSON: {error}")))?;
    if answer.get("error").is_some() {
        return Err(failure::from_value(&answer));
    }
    let answer = answer.as_object().ok_or_else(|| degenerate("the answer is no JSON object"))?;
    let vectors: Vec<&Value> = match wire::get(answer, "embedding") {
        Some(one) => vec![one],
        None => wire::array(answer, "embeddings").iter().collect(),
    };
    if vectors.len() != request.inputs.len() {
        return Err(degenerate("the answer has not one embedding for each input"));
    }
    let mut data = Vec::with_capacity(vectors.len());
    for (index, vector) in vectors.into_iter().enumerate() {
        let values = vector.get("values").and_then(Value::as_array);
        let values = values.ok_or_else(|| degenerate("an embedding has no values"))?;
        let embedding = match request.is_base64 {
            true => Value::from(base64_floats(values)),
            false => Value::Array(values.clone()),
        };
        data.push(json!({ "object": "embedding", "index": index, "embedding": embedding }));
    }
    let usage = wire::object(answer, "usageMetadata");
    let tokens = usage.and_then(|usage| wire::count(usage, "promptTokenCount")).unwrap_or_default();
    Ok(json!({
        "object": "list",
        "data": data,
        "model": model,
        "usage": { "prompt_tokens": tokens, "total_tokens": tokens },
    }))
}

fn read_request(body: &[u8], target: &RequestTarget<'_>) -> Result<EmbeddingsRequest, Rejection> {
    let body: Value = serde_json::from_slice(body).map_err(|error| Rejection::Invalid {
        problem: format!("the request is not JSON: {error}"),
        param: None,
    })?;
    let invalid = |param: &str, wanted: &str| {
        Rejection::invalid(param, format!("`{param}` must be {wanted}"))
    };
    let inputs = match body.get("input") {
        Some(Value::String(text)) => vec![text.clone()],
        Some(Value::Array(list)) if list.is_empty() => {
            return Err(invalid("input", "text or a list of at least one"));
        }
        Some(Value::Array(list)) if list.iter().any(|item| item.is_number() || item.is_array()) => {
            return Err(unsupported("input".into(), target, "Gemini embeds text, not tokens"));
        }
        Some(Value::Array(list)) => {
            let texts = list.iter().map(|item| item.as_str().map(str::to_owned));
            let texts: Option<Vec<_>> = texts.collect();
            texts.ok_or_else(|| invalid("input", "text or a list of texts"))?
        }
        _ => return Err(invalid("input", "text or a list of texts")),
    };
    let dimensions = match body.get("dimensions") {
        None | Some(Value::Null) => None,
        Some(value) => {
            let count = value.as_u64().filter(|count| *count > 0);
            Some(count.ok_or_else(|| invalid("dimensions", "a positive whole number"))?)
        }
    };
    let is_base64 = match body.get("encoding_format").and_then(Value::as_str) {
        Some("base64") => true,
        Some("float") | None => false,
        Some(_) => return Err(invalid("encoding_format", "`float` or `base64`")),
    };
    Ok(EmbeddingsRequest { inputs, dimensions, is_base64 })
}

fn base64_floats(values: &[Value]) -> String {
    let mut bytes = Vec::with_capacity(values.len() * 4);
    for value in values {
        let value = value.as_f64().unwrap_or_default() as f32;
        bytes.extend_from_slice(&value.to_le_bytes());
    }
    base64(&bytes)
}

/// Standard base64 with padding.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or_default());
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for at in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * at) & 63) as usize];
            out.push(if at <= group.len() { char::from(letter) } else { '=' });
        }
    }
    out
}
