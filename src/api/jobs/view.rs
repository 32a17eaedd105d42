//! A job as callers see it. Times are in seconds since 1970, as in OpenAI's objects.

use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::jobs::{Delivery, Found, Job, JobResult};
use crate::webhook::signature::SigningSecret;

/// A job.
#[derive(Debug, Serialize)]
pub(super) struct JobView {
    id: String,
    object: &'static str,
    status: &'static str,
    endpoint: String,
    priority: u8,
    attempts: u32,
    created_at: u64,
    started_at: Option<u64>,
    ended_at: Option<u64>,
    /// When it expires.
    deadline: u64,
    metadata: Option<Box<RawValue>>,
    /// The reply that its caller would have had.
    result: Option<ResultView>,
    /// Why it has no answer.
    error: Option<ErrorView>,
    webhook: Option<WebhookView>,
}

#[derive(Debug, Serialize)]
struct ResultView {
    status: u16,
    headers: Map<String, Value>,
    body: Body,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Body {
    Json(Box<RawValue>),
    Text(String),
}

#[derive(Debug, Serialize)]
struct ErrorView {
    code: String,
    message: String,
}

/// The webhook that tells of a job.
#[derive(Debug, Default, Serialize)]
struct WebhookView {
    receiver: String,
    /// What webhooks to its receiver are signed with; in the reply that made it up and never again.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delivery: Option<DeliveryView>,
}

#[derive(Debug, Serialize)]
struct DeliveryView {
    id: String,
    status: String,
    attempts: u32,
    next_at: Option<u64>,
    last_status: Option<u16>,
    last_error: Option<String>,
}

// === impl JobView ===

impl JobView {
    pub(super) fn of(job: &Job) -> Self {
        let error = job.error.as_ref();
        Self {
            id: job.id.clone(),
            object: "job",
            status: job.state.as_str(),
            endpoint: job.endpoint.clone(),
            priority: job.priority.level(),
            attempts: job.attempts,
            created_at: job.created_at_ms / 1_000,
            started_at: job.started_at_ms.map(|ms| ms / 1_000),
            ended_at: job.ended_at_ms.map(|ms| ms / 1_000),
            deadline: job.deadline_ms / 1_000,
            metadata: RawValue::from_string(job.metadata.clone()).ok(),
            result: None,
            error: error.map(|error| ErrorView {
                code: error.code.clone(),
                message: error.message.clone(),
            }),
            webhook: job
                .receiver
                .clone()
                .map(|receiver| WebhookView { receiver, ..WebhookView::default() }),
        }
    }

    pub(super) fn of_found(found: &Found) -> Self {
        let mut view = Self::of(&found.job);
        view.result = found.result.as_ref().map(ResultView::of);
        if let (Some(webhook), Some(delivery)) = (&mut view.webhook, &found.delivery) {
            webhook.delivery = Some(DeliveryView::of(delivery));
        }
        view
    }

    pub(super) fn with_secret(mut self, secret: Option<&SigningSecret>) -> Self {
        if let (Some(webhook), Some(secret)) = (&mut self.webhook, secret) {
            webhook.secret = Some(secret.reveal().to_owned());
        }
        self
    }
}

// === impl ResultView ===

impl ResultView {
    fn of(result: &JobResult) -> Self {
        let text = String::from_utf8_lossy(&result.body).into_owned();
        let headers = result.headers.iter();
        Self {
            status: result.status,
            headers: headers.map(|(name, value)| (name.clone(), value.clone().into())).collect(),
            body: match RawValue::from_string(text.clone()) {
                Ok(json) => Body::Json(json),
                Err(_) => Body::Text(text),
            },
        }
    }
}

// === impl DeliveryView ===

impl DeliveryView {
    fn of(delivery: &Delivery) -> Self {
        Self {
            id: delivery.id.clone(),
            status: delivery.state.clone(),
            attempts: delivery.attempts,
            next_at: delivery.next_at_ms.map(|ms| ms / 1_000),
            last_status: delivery.last_status,
            last_error: delivery.last_error.clone(),
        }
    }
}
