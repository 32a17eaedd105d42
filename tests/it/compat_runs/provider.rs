//! A provider on a socket that counts who is asked what, and answers as it is told.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::Bytes;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

/// A question that came.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Call {
    pub(super) model: String,
    /// The number of the case; `None` where the text names none.
    pub(super) case: Option<usize>,
    pub(super) seed: Option<u64>,
    /// All that is asked.
    pub(super) text: String,
}

/// What is said to it.
#[derive(Debug, Clone)]
pub(super) enum Said {
    Text(String),
    /// A status, and what stands in its error.
    Status(u16, &'static str),
    /// Something, with what the provider allows a minute and what is left of it.
    Metered {
        limit: u64,
        left: u64,
    },
    /// 429, and when to come back, in seconds.
    Busy(u32),
}

type Says = dyn Fn(&Call, usize) -> Said + Send + Sync;

/// The provider.
pub(super) struct Counting {
    pub(super) address: SocketAddr,
    calls: Arc<Mutex<Vec<Call>>>,
    most_at_once: Arc<AtomicUsize>,
    serving: JoinHandle<()>,
}

impl Counting {
    /// Answers after `latency_ms` what `says` says, which is told how many calls came before.
    pub(super) async fn new(
        latency_ms: u64,
        says: impl Fn(&Call, usize) -> Said + Send + Sync + 'static,
    ) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let calls: Arc<Mutex<Vec<Call>>> = Arc::default();
        let (at_once, most_at_once) =
            (Arc::new(AtomicUsize::new(0)), Arc::<AtomicUsize>::default());
        let says: Arc<Says> = Arc::new(says);
        let (noted, most) = (Arc::clone(&calls), Arc::clone(&most_at_once));
        let answer = move |body: Bytes| {
            let (calls, says) = (Arc::clone(&noted), Arc::clone(&says));
            let (at_once, most) = (Arc::clone(&at_once), Arc::clone(&most));
            async move {
                let call = Call::read(&body);
                let before = {
                    let mut calls = calls.lock();
                    calls.push(call.clone());
                    calls.len() - 1
                };
                most.fetch_max(at_once.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                tokio::time::sleep(std::time::Duration::from_millis(latency_ms)).await;
                at_once.fetch_sub(1, Ordering::SeqCst);
                says(&call, before).response(&call.model)
            }
        };
        let router = Router::new().fallback(answer);
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, calls, most_at_once, serving }
    }

    /// All that came, in order.
    pub(super) fn calls(&self) -> Vec<Call> {
        self.calls.lock().clone()
    }

    /// How many came.
    pub(super) fn count(&self) -> usize {
        self.calls.lock().len()
    }

    pub(super) fn of(&self, model: &str) -> usize {
        self.calls.lock().iter().filter(|call| call.model == model).count()
    }

    pub(super) fn most_at_once(&self) -> usize {
        self.most_at_once.load(Ordering::SeqCst)
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Call {
    fn read(body: &[u8]) -> Self {
        let body: Value = serde_json::from_slice(body).unwrap();
        let messages = body["messages"].as_array().cloned().unwrap_or_default();
        let text = |message: &Value| message["content"].as_str().unwrap_or_default().to_owned();
        let text = messages.iter().map(text).collect::<Vec<_>>().join("\n");
        let case = text
            .split_once("case ")
            .and_then(|(_, rest)| rest.split_once(';').and_then(|(number, _)| number.parse().ok()));
        let model = body["model"].as_str().unwrap_or_default().to_owned();
        Self { model, case, seed: body["seed"].as_u64(), text }
    }

    /// Uniform in 0..1, the same for the same question to the same model.
    pub(super) fn chance(&self) -> f64 {
        let said = format!("{} {:?} {:?}", self.model, self.case, self.seed);
        let hash = blake3::hash(said.as_bytes());
        let bytes: [u8; 4] = hash.as_bytes()[..4].try_into().unwrap();
        f64::from(u32::from_be_bytes(bytes)) / f64::from(u32::MAX)
    }
}

impl Said {
    pub(super) fn text(text: &str) -> Self {
        Self::Text(text.to_owned())
    }

    fn response(self, model: &str) -> Response {
        let json = [(header::CONTENT_TYPE, "application/json")];
        match self {
            Self::Text(text) => {
                let reply = json!({
                    "id": "c", "object": "chat.completion", "created": 1, "model": model,
                    "choices": [{
                        "index": 0, "finish_reason": "stop",
                        "message": {"role": "assistant", "content": text},
                    }],
                    "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
                });
                (json, reply.to_string()).into_response()
            }
            Self::Metered { limit, left } => {
                let mut response = Self::text("good").response(model);
                for (name, value) in [("limit", limit), ("remaining", left)] {
                    let name = format!("x-ratelimit-{name}-requests");
                    let name = axum::http::HeaderName::try_from(name).unwrap();
                    response.headers_mut().insert(name, value.into());
                }
                response
            }
            Self::Status(status, message) => {
                let error = json!({"error": {"message": message, "type": "x", "code": message}});
                (StatusCode::from_u16(status).unwrap(), json, error.to_string()).into_response()
            }
            Self::Busy(after) => {
                let after = [("retry-after", after.to_string())];
                let error = json!({"error": {"message": "slow down", "type": "rate_limit"}});
                (StatusCode::TOO_MANY_REQUESTS, after, json, error.to_string()).into_response()
            }
        }
    }
}
