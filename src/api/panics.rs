//! A request that panics is a request lost, not a connection and not a process.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;

use axum::response::Response;

use super::error::ApiError;
use crate::dialect::Dialect;
use crate::dispatch::Served;
use crate::ids::RequestId;
use crate::rejection::Rejection;

/// Runs a handler and turns a panic into a `500`.
pub(super) async fn isolate(
    handler: impl Future<Output = Response>,
    dialect: Dialect,
    request_id: &RequestId,
) -> Response {
    let mut handler = pin!(handler);
    std::future::poll_fn(|cx| {
        // The future is dropped and never polled again after it has panicked, so nobody can see
        // what it left half done.
        match catch_unwind(AssertUnwindSafe(|| handler.as_mut().poll(cx))) {
            Ok(polled) => polled,
            Err(panic) => {
                let detail = format!("panic: {}", words(&*panic));
                let rejection = Rejection::Internal { detail };
                let (id, served) = (request_id.as_str(), Served::default());
                Poll::Ready(ApiError::of(rejection, dialect, id, served).into_response())
            }
        }
    })
    .await
}

fn words(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::StatusCode;

    #[tokio::test]
    async fn a_panic_becomes_a_500_of_the_same_request() {
        let handler = async { panic!("on purpose") };
        let id = RequestId::new("req_1");
        let response = isolate(handler, Dialect::OpenAiChat, &id).await;
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(response.headers()["x-request-id"], "req_1");
    }
}
