//! Who calls, and in which dialect: what headers say before the body is read.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::Request;
use http::HeaderMap;
use http::header::{AUTHORIZATION, HOST, ORIGIN};
use http::uri::Authority;

use super::Edge;
use crate::callers::{AuthMode, Caller};
use crate::dialect::Dialect;
use crate::ids::CallerId;
use crate::rejection::Rejection;

#[cfg(test)]
mod tests;

/// Why who needs no key is refused all the same.
const FOREIGN: Rejection = Rejection::Unauthorized {
    problem: "as long as there is no key, only this machine may call: by `localhost` or an address \
              in `host`, and by no web page of another host in `origin`; make a key \
              (`tidegate keys create`), or ask for it by `localhost`",
};

/// The key of a request: `authorization: Bearer` as OpenAI's clients send it, or `x-api-key` as
/// Anthropic's do.
pub(super) fn key(headers: &HeaderMap) -> Option<&str> {
    let bearer = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let bearer = bearer.and_then(|value| {
        let (scheme, key) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
    });
    bearer.or_else(|| headers.get("x-api-key").and_then(|value| value.to_str().ok()))
}

/// Says who calls.
pub(super) fn authenticate(edge: &Edge, headers: &HeaderMap) -> Result<Arc<Caller>, Rejection> {
    let mode = edge.gateway.snapshot().settings.auth.mode;
    let caller = edge.gateway.callers.authenticate(key(headers), mode, edge.is_loopback)?;
    // Where it is open because only this machine reaches it, a browser on this machine must not let
    // the rest of the world in.
    if mode == AuthMode::Auto && caller.id == CallerId::anonymous() && !is_from_here(headers) {
        return Err(FOREIGN);
    }
    Ok(caller)
}

/// Whether a request was made by a program of this machine that meant this machine, as far as
/// headers tell. A web page may send requests to any address (`origin` then says whose page it is),
/// and a name of its own may come to stand for 127.0.0.1 after the page was loaded (`host` still
/// says the name).
fn is_from_here(headers: &HeaderMap) -> bool {
    let hosts = headers.get_all(HOST).iter().map(|host| host.to_str().ok());
    let origins = headers.get_all(ORIGIN).iter().map(|origin| {
        let origin = origin.to_str().ok()?;
        origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"))
    });
    hosts.chain(origins).all(|authority| authority.is_some_and(is_here))
}

/// Whether `host:port` can only be this machine or its network: an address, which nobody can make
/// stand for another one, or a name that the internet's name servers have no say in.
fn is_here(authority: &str) -> bool {
    let Ok(authority) = authority.parse::<Authority>() else { return false };
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    let is_of_nobody = !host.is_empty() && !host.contains('.');
    let is_reserved = [".localhost", ".internal"].iter().any(|end| host.ends_with(end));
    is_of_nobody || is_reserved || host.parse::<IpAddr>().is_ok()
}

/// The dialect to answer in where the path does not settle it.
pub(super) fn dialect_of(request: &Request) -> Dialect {
    let anthropic = request.uri().path().starts_with("/v1/messages")
        || request.headers().contains_key("anthropic-version");
    if anthropic { Dialect::Anthropic } else { Dialect::OpenAiChat }
}
