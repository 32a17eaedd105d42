//! The gateway as its clients reach it without a socket.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use http::{Method, Request};
use http_body::Body as _;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;

use crate::failure::{Failure, FailureKind};
use crate::upstream::{SendFuture, Transport, UpstreamBody, UpstreamReply, UpstreamRequest};

/// Calls the router as a connection would.
pub(super) struct Front(TowerToHyperService<Router>);

#[derive(Debug)]
struct FrontBody(Body);

// === impl Front ===

impl Front {
    pub(super) fn new(router: Router) -> Self {
        Self(TowerToHyperService::new(router))
    }
}

impl fmt::Debug for Front {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Front")
    }
}

impl Transport for Front {
    fn send(&self, request: UpstreamRequest) -> SendFuture<'_> {
        Box::pin(async move {
            let method = if request.body.is_empty() { Method::GET } else { Method::POST };
            let mut asked = Request::new(Body::from(request.body));
            *asked.method_mut() = method;
            *asked.uri_mut() = request.path.parse().unwrap_or_default();
            *asked.headers_mut() = request.headers;
            let answered = self.0.call(asked).await;
            let (head, body) = answered.map_err(|never| match never {})?.into_parts();
            let body = Box::new(FrontBody(body));
            Ok(UpstreamReply { status: head.status, headers: head.headers, body })
        })
    }
}

impl UpstreamBody for FrontBody {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Failure>>> {
        loop {
            let frame = ready!(Pin::new(&mut self.0).poll_frame(cx));
            match frame {
                None => return Poll::Ready(None),
                Some(Err(error)) => {
                    let failure = Failure::new(FailureKind::MidStream, error.to_string());
                    return Poll::Ready(Some(Err(failure)));
                }
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Poll::Ready(Some(Ok(data)));
                    }
                }
            }
        }
    }
}
