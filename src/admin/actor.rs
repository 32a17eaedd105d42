//! Who makes a change, for the audit log.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use http::header::USER_AGENT;
use http::request::Parts;
use rand::RngExt;

use crate::audit::Actor;
use crate::control::peer;
use crate::ids::RequestId;

/// Who makes a change. There is one admin key; what comes from a terminal says so itself.
pub(super) struct By(pub(super) Actor);

/// How `tidegate` names itself when it speaks to a gateway.
const CLI: &str = "tidegate-cli/";

/// The id of an admin request.
pub(super) fn new_request_id() -> RequestId {
    RequestId::new(format!("adm_{:032x}", rand::rng().random::<u128>()))
}

impl<S: Sync> FromRequestParts<S> for By {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let agent = parts.headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok());
        let name = if agent.is_some_and(|agent| agent.starts_with(CLI)) { "cli" } else { "admin" };
        Ok(Self(Actor {
            name: name.to_owned(),
            address: peer::current().map(|address| address.to_string()),
            request_id: parts.extensions.get::<RequestId>().map(ToString::to_string),
        }))
    }
}
