//! A request that panics is a request lost, not a connection and not a process.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;

use axum::response::Response;

use super::error::ApiError;
use crate::dialect::Dialect;
use crate::rejection::Rejection;

/// Runs a handler and turns a panic into a `500`.
pub(super) async fn isolate(handler: impl Future<Output = Response>, dialect: Dialect) -> Response {
    let mut handler = pin!(handler);
    std::future::poll_fn(|cx| {
        // The future is dropped and never polled again after it has panicked, so nobody can see
        // what it left half done.
        match catch_unwind(AssertUnwindSafe(|| handler.as_mut().poll(cx))) {
            Ok(polled) => polled,
            Err(panic) => {
                let detail = format!("panic: {}", words(&*panic));
                Poll::Ready(ApiError::new(Rejection::Internal { detail }, dialect).into_response())
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
    async fn a_panic_becomes_a_500() {
        let handler = async { panic!("on purpose") };
        let response = isolate(handler, Dialect::OpenAiChat).await;
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    }
}
