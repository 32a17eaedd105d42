//! The canonical completion: the hub that every dialect translates to and from.
//!
//! N dialects need N codecs and no N × M conversions. The types hold what at least two wires can
//! say; what only one wire knows rides along in `extra` maps and [`Part::Other`], is kept when the
//! same dialect is spoken at the other end, and is refused or reported as dropped otherwise.
//!
//! Nothing here knows a provider or a wire.

mod assemble;
mod part;
mod reduce;
mod reply;
mod request;
mod usage;

pub use assemble::Assembler;
pub use part::{Media, MediaSource, Opaque, OpaqueKind, Part, Role};
pub use reduce::{Reduced, can_reduce, reduce};
pub use reply::{Choice, Completion, Delta, FinishReason, Logprob, TopLogprob};
pub use request::{
    ChatRequest, Effort, Message, Reasoning, ResponseFormat, Sampling, Tool, ToolChoice,
};
pub use usage::Usage;

/// Fields that the canonical types do not model, under their wire names, in their wire order.
pub type Extra = serde_json::Map<String, serde_json::Value>;
