//! The two that are compared.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// One of the two that are compared: what is asked, of whom, and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Side {
    /// The prompt.
    pub prompt: SidePrompt,
    /// `provider/model`, or a route.
    pub model: String,
    /// Parameters of chat completions that are sent besides the prompt's own, such as
    /// `temperature`.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub parameters: Map<String, Value>,
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SidePrompt {
    /// A version of a registered prompt.
    Registered {
        /// The prompt.
        id: String,
        /// The version, such as `1.2.0`.
        version: String,
    },
    /// A prompt of the suite itself.
    Inline {
        /// Which, from 0.
        index: usize,
        /// What people call it.
        label: String,
    },
}

// === impl Side ===

impl Side {
    /// What it is as one number, apart from what an inline prompt says: the first 16 bytes of the
    /// BLAKE3 in hex.
    pub fn hash(&self) -> String {
        let said = serde_json::to_vec(self).unwrap_or_default();
        blake3::hash(&said).to_hex().chars().take(32).collect()
    }
}

/// `support-reply@1.1.0 on openai/gpt-5`
impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {}", self.prompt, self.model)
    }
}

// === impl SidePrompt ===

/// `support-reply@1.1.0`, or the label of an inline prompt.
impl fmt::Display for SidePrompt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registered { id, version } => write!(f, "{id}@{version}"),
            Self::Inline { label, .. } => f.write_str(label),
        }
    }
}
