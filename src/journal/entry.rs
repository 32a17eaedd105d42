//! What the journal keeps of one request.

use std::sync::Arc;
use std::time::Duration;

use crate::chat::Usage;
use crate::dialect::Dialect;
use crate::failure::FailureKind;
use crate::ids::{CallerId, ModelName, ProviderId, RequestId, RouteName, TargetId};
use crate::policy::rollout::{Arm, Share, Traits};
use crate::units::{MicroUsd, Priority};

/// One request, written once, when it has ended.
///
/// Cheap to build on the request path: names are shared strings, and nothing is formatted before
/// the writer formats it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The id the caller saw in `x-request-id`.
    pub request_id: RequestId,
    /// When it was admitted, in milliseconds since 1970.
    pub started_at_ms: u64,
    /// Whose key it came with.
    pub caller: CallerId,
    /// What was called.
    pub endpoint: EndpointKind,
    /// The wire the caller spoke.
    pub dialect: Dialect,
    /// What the caller sent as `model`, where it could be read.
    pub model_asked: Option<ModelName>,
    /// The registered prompt that it was made with, `id@version`.
    pub prompt: Option<Arc<str>>,
    /// How much it matters, once its headers were read.
    pub priority: Option<Priority>,
    /// The route that this name stands for, where it is one.
    pub route: Option<RouteName>,
    /// Who served it, or was tried last.
    pub target: Option<TargetId>,
    /// The provider of that target.
    pub provider: Option<ProviderId>,
    /// The model as the provider names it.
    pub model_served: Option<ModelName>,
    /// Whether the answer was asked for as a stream.
    pub streamed: bool,
    /// How it ended.
    pub outcome: Outcome,
    /// What the last attempt failed of, where one failed.
    pub failure: Option<FailureKind>,
    /// The error code that the caller saw ([`Face::code`](crate::rejection::Face)), if any.
    pub error_code: Option<&'static str>,
    /// The HTTP status that was sent, or would have been where the caller was gone before.
    pub status: u16,
    /// Attempts made; 0 where the request was refused before the first.
    pub attempts: u32,
    /// How far the answer was degraded, 0 to 4: [`Level::number`](crate::policy::degrade::Level).
    pub degradation: u8,
    /// Tokens of the attempt that gave the answer, or the part of one.
    pub usage: Usage,
    /// Whether `usage` was counted by us because the provider did not say.
    pub usage_estimated: bool,
    /// What the caller is charged: `usage`, at the prices of the target that served it.
    pub cost: MicroUsd,
    /// What other attempts took, which the caller does not pay for.
    pub waste: Waste,
    /// What the answer would have cost that was given from the cache.
    pub saved: MicroUsd,
    /// From admission to the end.
    pub latency: Duration,
    /// From admission to the first token, where one came.
    pub first_token: Option<Duration>,
    /// The part of `latency` that the gateway itself spent.
    pub overhead: Duration,
    /// What the caller sent as `x-tidegate-tags`. More than [`Entry::MAX_TAGS_BYTES`] are left out.
    pub tags: Vec<(String, String)>,
    /// Where the reply is that of another request: how so. Attempts, tokens and cost are that
    /// one's; who served it is told of an answer from the cache.
    pub reuse: Option<Reuse>,
    /// Its part in a rollout, if it has one.
    pub part: Option<Box<Part>>,
}

/// A request's part in a rollout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The rollout's id.
    pub rollout: Arc<str>,
    /// The side that serves it.
    pub arm: Arm,
    /// The candidate's share when the side was drawn.
    pub share: Share,
    /// What tells its unit from others; `None` where each request is its own.
    pub unit: Option<u32>,
    /// Which parts of the traffic it belongs to. Not kept.
    pub traits: Traits,
    /// The request that is asked of both sides, where this is one of a pair. Not kept.
    pub pair: Option<RequestId>,
    /// Its part in the rollout of its route's model, where this is that of its prompt. Not kept.
    pub beside: Option<Box<Self>>,
    /// Whether the model or a filter refused. Not kept.
    pub is_refused: bool,
    /// Whether what was asked for in a form came in another; `None` where no form was asked for.
    /// Not kept.
    pub is_invalid: Option<bool>,
}

/// How a request got the reply of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reuse {
    /// It came while the other one was being carried out, and shared in the reply.
    Coalesced,
    /// The reply was repeated from the store.
    Replayed,
    /// The answer to the same request was given from the cache.
    Exact,
    /// The answer to the same in other words was given from the cache.
    Semantic,
}

/// What a request's attempts took that its caller does not pay for: losers of races, attempts that
/// failed after their provider had begun, empty answers in whose place another was sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Waste {
    /// Tokens of prompts, cached ones among them.
    pub input: u64,
    /// Generated tokens, those of thinking among them.
    pub output: u64,
    /// What they cost, at the prices of their targets.
    pub cost: MicroUsd,
    /// Whether any of it was counted by us because the provider did not say.
    pub is_estimated: bool,
}

/// What was called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EndpointKind {
    /// `/v1/chat/completions`
    Chat,
    /// `/v1/completions`
    Completions,
    /// `/v1/embeddings`
    Embeddings,
    /// `/v1/messages`
    Messages,
    /// `/v1/messages/count_tokens`
    CountTokens,
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The whole answer was sent.
    Complete,
    /// The whole answer was sent; it broke off within, and another attempt continued it.
    Spliced,
    /// Attempts were made and none succeeded; the caller got an error instead of an answer.
    Failed,
    /// The answer broke off after it had begun; the caller got an error event.
    Cut,
    /// The caller left before the end.
    ClientGone,
    /// Refused before any attempt.
    Rejected,
}

/// What stands for a NUL in what callers choose.
const REPLACED: &str = "\u{fffd}";

// === impl Entry ===

impl Entry {
    /// The longest `model_asked` that is kept; it comes from the network.
    pub const MAX_MODEL_BYTES: usize = 256;
    /// The most bytes of tags that are kept; they come from the network.
    pub const MAX_TAGS_BYTES: usize = 1_024;

    /// A request of which nothing is known but what was called, and whose key it came with. It
    /// counts as abandoned until more is.
    pub fn begin(
        request_id: RequestId,
        caller: CallerId,
        endpoint: EndpointKind,
        dialect: Dialect,
    ) -> Self {
        Self {
            request_id,
            started_at_ms: 0,
            caller,
            endpoint,
            dialect,
            model_asked: None,
            prompt: None,
            priority: None,
            route: None,
            target: None,
            provider: None,
            model_served: None,
            streamed: false,
            outcome: Outcome::ClientGone,
            failure: None,
            error_code: None,
            status: 0,
            attempts: 0,
            degradation: 0,
            usage: Usage::default(),
            usage_estimated: false,
            cost: MicroUsd::default(),
            waste: Waste::default(),
            saved: MicroUsd::default(),
            latency: Duration::ZERO,
            first_token: None,
            overhead: Duration::ZERO,
            tags: Vec::new(),
            reuse: None,
            part: None,
        }
    }

    /// Cuts what callers choose to a size at which a full queue has a known size. Costs two
    /// comparisons when there is nothing to cut.
    pub(super) fn bound(&mut self) {
        if let Some(model) = &self.model_asked
            && model.as_str().len() > Self::MAX_MODEL_BYTES
        {
            let fits = model.as_str().char_indices().map(|(at, c)| at + c.len_utf8());
            let end = fits.take_while(|end| *end <= Self::MAX_MODEL_BYTES).last().unwrap_or(0);
            self.model_asked = model.as_str().get(..end).map(ModelName::new);
        }
        // PostgreSQL takes no text with a NUL, and a row it refuses would hold up all after it.
        let names = [&mut self.model_asked, &mut self.model_served];
        for name in names.into_iter().flatten() {
            if memchr::memchr(0, name.as_str().as_bytes()).is_some() {
                *name = ModelName::new(name.as_str().replace('\0', REPLACED));
            }
        }
        for word in self.tags.iter_mut().flat_map(|(key, value)| [key, value]) {
            if memchr::memchr(0, word.as_bytes()).is_some() {
                *word = word.replace('\0', REPLACED);
            }
        }
        let mut bytes = 0;
        if let Some(first_over) = self.tags.iter().position(|(key, value)| {
            bytes += key.len() + value.len();
            bytes > Self::MAX_TAGS_BYTES
        }) {
            self.tags.truncate(first_over);
        }
    }
}

// === impl Reuse ===

impl Reuse {
    /// The word for metrics and the journal.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Coalesced => "coalesced",
            Self::Replayed => "replayed",
            Self::Exact => "exact",
            Self::Semantic => "semantic",
        }
    }
}

// === impl EndpointKind ===

impl EndpointKind {
    /// All kinds.
    pub const ALL: [Self; 5] =
        [Self::Chat, Self::Completions, Self::Embeddings, Self::Messages, Self::CountTokens];

    /// Where it is.
    pub const fn path(self) -> &'static str {
        match self {
            Self::Chat => "/v1/chat/completions",
            Self::Completions => "/v1/completions",
            Self::Embeddings => "/v1/embeddings",
            Self::Messages => "/v1/messages",
            Self::CountTokens => "/v1/messages/count_tokens",
        }
    }

    /// What is at a path.
    pub fn at(path: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.path() == path)
    }

    /// The wire that its callers speak.
    pub const fn dialect(self) -> Dialect {
        match self {
            Self::Chat | Self::Completions | Self::Embeddings => Dialect::OpenAiChat,
            Self::Messages | Self::CountTokens => Dialect::Anthropic,
        }
    }

    /// The word for logs, metrics and the journal.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Completions => "completions",
            Self::Embeddings => "embeddings",
            Self::Messages => "messages",
            Self::CountTokens => "count_tokens",
        }
    }
}

// === impl Outcome ===

impl Outcome {
    /// All outcomes.
    pub const ALL: [Self; 6] =
        [Self::Complete, Self::Spliced, Self::Failed, Self::Cut, Self::ClientGone, Self::Rejected];

    /// The word for logs, metrics and the journal.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Spliced => "spliced",
            Self::Failed => "failed",
            Self::Cut => "cut",
            Self::ClientGone => "client_gone",
            Self::Rejected => "rejected",
        }
    }
}
