//! Every provider of a configuration, answered by the simulator.

use std::sync::Arc;

use http::{HeaderName, HeaderValue};

use crate::catalog::{BaseUrl, Origin};
use crate::config::Snapshot;
use crate::sim::HOST_HEADER;
use crate::upstream::{SendFuture, Transport, UpstreamRequest};

/// Sends what is meant for any provider to the simulator, with the provider's id as the host.
#[derive(Debug)]
pub(super) struct Redirect {
    endpoints: Vec<Endpoint>,
    simulator: Arc<dyn Transport>,
    /// Where the simulator listens; `None` in process.
    socket: Option<Origin>,
}

/// How a request for a provider is known.
#[derive(Debug)]
struct Endpoint {
    provider: Arc<str>,
    base: BaseUrl,
    auth: Option<(HeaderName, HeaderValue)>,
}

// === impl Redirect ===

impl Redirect {
    /// For all providers that are on in `snapshot`.
    pub(super) fn new(
        snapshot: &Snapshot,
        simulator: Arc<dyn Transport>,
        socket: Option<Origin>,
    ) -> Self {
        let mut endpoints: Vec<Endpoint> = snapshot
            .endpoints()
            .map(|endpoint| Endpoint {
                provider: Arc::from(endpoint.provider.as_str()),
                base: endpoint.base.clone(),
                auth: endpoint.auth_header.clone(),
            })
            .collect();
        // The longest path first, and who sends a key before who sends none: the most exact wins.
        endpoints.sort_by_key(|endpoint| {
            std::cmp::Reverse((endpoint.base.path.len(), endpoint.auth.is_some()))
        });
        Self { endpoints, simulator, socket }
    }

    fn provider_of(&self, request: &UpstreamRequest) -> Option<&Arc<str>> {
        let found = self.endpoints.iter().find(|endpoint| endpoint.is_meant(request));
        found.map(|endpoint| &endpoint.provider)
    }
}

impl Transport for Redirect {
    fn send(&self, mut request: UpstreamRequest) -> SendFuture<'_> {
        let provider = self.provider_of(&request).unwrap_or(&request.origin.host);
        let provider = Arc::clone(provider);
        match &self.socket {
            None => {
                request.origin = Origin { https: false, host: provider, port: 80, sim: true };
            }
            Some(socket) => {
                if let Ok(value) = HeaderValue::from_str(&provider) {
                    request.headers.insert(HeaderName::from_static(HOST_HEADER), value);
                }
                request.origin = socket.clone();
            }
        }
        self.simulator.send(request)
    }
}

// === impl Endpoint ===

impl Endpoint {
    fn is_meant(&self, request: &UpstreamRequest) -> bool {
        self.base.origin == request.origin
            && request.path.starts_with(&*self.base.path)
            && self.auth.as_ref().is_none_or(|(name, key)| request.headers.get(name) == Some(key))
    }
}
