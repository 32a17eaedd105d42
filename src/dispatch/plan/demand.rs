//! What a call asks of a target.

use crate::catalog::{Feature, Model, ModelKind};
use crate::config::Route;
use crate::dispatch::{Call, collect, prefix};
use crate::fleet::{Ask, Demand};
use crate::journal::EndpointKind;
use crate::policy::rank;
use crate::rejection::Rejection;

/// The least urgent priority for which somebody is taken to wait.
const LEAST_INTERACTIVE: u8 = 2;
/// Bytes of a body for one token of its prompt.
const BYTES_A_TOKEN: u64 = 4;
/// What a prompt with pictures is taken for, whose length in bytes says nothing.
const TOKENS_WITH_PICTURES: u64 = 2_000;

/// What the call asks of a target. Where there is only one target, nothing hangs on most of it.
pub(in crate::dispatch) fn demand(call: &Call, route: &Route, targets: usize) -> Demand {
    let envelope = &call.envelope;
    let mut demand = Demand {
        ask: Ask::new(&call.caller.id, call.request_id.as_str(), call.priority, 1),
        input_tokens: envelope.body().len() as u64 / BYTES_A_TOKEN,
        max_output: envelope.max_tokens,
        share: call.share,
        streamed: envelope.stream || collect::is_collected(call, route),
        is_interactive: call.priority.level() <= LEAST_INTERACTIVE,
        choices: u32::try_from(envelope.n.unwrap_or(1)).unwrap_or(u32::MAX),
        ..Demand::default()
    };
    demand.prefix = prefix::chain(call, route);
    if targets < 2 {
        return demand;
    }
    let needs = envelope.needs();
    let features = [
        (needs.tools, Feature::Tools),
        (needs.json_schema, Feature::JsonSchema),
        (needs.images, Feature::Vision),
    ];
    demand.features.extend(features.iter().filter(|(needed, _)| *needed).map(|(_, f)| *f));
    if needs.images {
        demand.input_tokens = demand.input_tokens.min(TOKENS_WITH_PICTURES);
    }
    let is_true = |key: &str| envelope.raw(key) == Some(b"true");
    demand.has_server_state =
        is_true("store") || is_true("background") || envelope.has("previous_response_id");
    if route.sticky {
        demand.sticky = Some(rank::hash(sticky_unit(call).as_bytes()));
    }
    demand
}

/// Whose requests stick together.
fn sticky_unit(call: &Call) -> String {
    call.sticky
        .clone()
        .or_else(|| call.envelope.text("safety_identifier"))
        .or_else(|| call.envelope.text("user"))
        .unwrap_or_else(|| call.caller.id.to_string())
}

/// Whether a model is of the kind that is called. Nothing is known of one that is not listed.
pub(super) fn can_serve(model: &Model, kind: EndpointKind) -> bool {
    match (model.kind, kind) {
        _ if !model.listed => true,
        (ModelKind::Embedding, kind) => kind == EndpointKind::Embeddings,
        (ModelKind::Chat | ModelKind::Completion, kind) => kind != EndpointKind::Embeddings,
    }
}

/// The rejection where none of a route's models is of the kind that is called.
pub(super) fn wrong_kind(call: &Call, route: &Route) -> Rejection {
    let asked = &call.envelope.model;
    let other = route.tiers.iter().flatten().next();
    let problem = match other.map(|target| target.model.kind) {
        Some(ModelKind::Embedding) => {
            format!("`{asked}` turns texts into embeddings; ask it at /v1/embeddings")
        }
        Some(ModelKind::Chat | ModelKind::Completion) => {
            format!("`{asked}` answers in words and has no embeddings; `/v1/models` lists models")
        }
        None => format!("`{asked}` has no targets"),
    };
    Rejection::invalid("model", problem)
}
