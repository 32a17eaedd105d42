//! How a provider is told to go on from the beginning of an answer.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The last part of the path of chat completions.
const CHAT_PATH: &str = "/chat/completions";

/// How a model goes on from an answer that was begun: the conversation ends with the assistant's
/// turn, and what comes continues it. Most models do not: they begin anew, or refuse.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum NativePrefill {
    /// It does not, or nobody knows.
    #[default]
    None,
    /// A last turn of the assistant is all it takes.
    TrailingTurn,
    /// The turn has `"prefix": true`, as Mistral wants it.
    Prefix,
    /// As `prefix`, at `/beta` below the base URL, as DeepSeek wants it.
    BetaPrefix,
    /// The request has `"continue_final_message": true` and `"add_generation_prompt": false`, as
    /// vLLM wants it.
    ContinueFinalMessage,
}

// === impl NativePrefill ===

impl NativePrefill {
    /// Whether there is a way at all.
    pub fn is_known(self) -> bool {
        self != Self::None
    }

    /// Marks a request whose conversation ends with the assistant's turn. Leaves a body alone that
    /// is not a JSON object.
    pub fn mark(self, path: &mut String, body: &mut Bytes) {
        match self {
            Self::None | Self::TrailingTurn => return,
            Self::Prefix | Self::ContinueFinalMessage => {}
            Self::BetaPrefix => {
                if let Some(base) = path.strip_suffix(CHAT_PATH) {
                    *path = format!("{base}/beta{CHAT_PATH}");
                }
            }
        }
        let Ok(Value::Object(mut request)) = serde_json::from_slice(body) else { return };
        if self == Self::ContinueFinalMessage {
            request.insert("continue_final_message".to_owned(), true.into());
            request.insert("add_generation_prompt".to_owned(), false.into());
        } else {
            let messages = request.get_mut("messages").and_then(Value::as_array_mut);
            let last = messages.and_then(|messages| messages.last_mut());
            if let Some(last) = last.and_then(Value::as_object_mut) {
                last.insert("prefix".to_owned(), true.into());
            }
        }
        *body = Value::Object(request).to_string().into();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn marked(how: NativePrefill) -> (String, Value) {
        let body = json!({ "messages": [{ "role": "user" }, { "role": "assistant" }] });
        let (mut path, mut body) = ("/v1/chat/completions".to_owned(), body.to_string().into());
        how.mark(&mut path, &mut body);
        (path, serde_json::from_slice(&body).unwrap())
    }

    #[test]
    fn each_provider_is_told_in_its_own_words() {
        let (plain, beta) = ("/v1/chat/completions", "/v1/beta/chat/completions");
        let turns = json!([{ "role": "user" }, { "role": "assistant" }]);
        let prefixed = json!([{ "role": "user" }, { "role": "assistant", "prefix": true }]);
        let vllm = json!({
            "messages": turns, "continue_final_message": true, "add_generation_prompt": false,
        });
        for (how, path, body) in [
            (NativePrefill::TrailingTurn, plain, json!({ "messages": turns })),
            (NativePrefill::Prefix, plain, json!({ "messages": prefixed })),
            (NativePrefill::BetaPrefix, beta, json!({ "messages": prefixed })),
            (NativePrefill::ContinueFinalMessage, plain, vllm),
        ] {
            assert_eq!(marked(how), (path.to_owned(), body), "{how:?}");
        }
    }
}
