//! What a model can do, as a small set.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One thing a model may be able to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
#[repr(u16)]
pub enum Feature {
    /// Answers piece by piece.
    Stream = 1,
    /// Calls tools.
    Tools = 1 << 1,
    /// Answers in JSON when told to.
    Json = 1 << 2,
    /// Answers in JSON that follows a schema.
    JsonSchema = 1 << 3,
    /// Reads images.
    Vision = 1 << 4,
    /// Hears audio.
    Audio = 1 << 5,
    /// Reads files such as PDF.
    Files = 1 << 6,
    /// Thinks before it answers.
    Reasoning = 1 << 7,
    /// Gives log probabilities.
    Logprobs = 1 << 8,
    /// Has a prefix cache that is paid for separately.
    Cache = 1 << 9,
}

/// A set of [`Feature`]s.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Features(u16);

// === impl Feature ===

impl Feature {
    /// All features in the order of the provider file format.
    pub const ALL: [Self; 10] = [
        Self::Stream,
        Self::Tools,
        Self::Json,
        Self::JsonSchema,
        Self::Vision,
        Self::Audio,
        Self::Files,
        Self::Reasoning,
        Self::Logprobs,
        Self::Cache,
    ];

    /// Its name in files.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stream => "stream",
            Self::Tools => "tools",
            Self::Json => "json",
            Self::JsonSchema => "json_schema",
            Self::Vision => "vision",
            Self::Audio => "audio",
            Self::Files => "files",
            Self::Reasoning => "reasoning",
            Self::Logprobs => "logprobs",
            Self::Cache => "cache",
        }
    }
}

// === impl Features ===

impl Features {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// Everything; what is assumed of a model that is not listed.
    pub const ALL: Self = Self((1 << Feature::ALL.len()) - 1);

    /// Whether `feature` is among them.
    pub const fn has(self, feature: Feature) -> bool {
        self.0 & feature as u16 != 0
    }

    /// The same and `feature`.
    #[must_use]
    pub const fn with(self, feature: Feature) -> Self {
        Self(self.0 | feature as u16)
    }

    /// Those that are in the set, in the order of [`Feature::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Feature> {
        Feature::ALL.into_iter().filter(move |feature| self.has(*feature))
    }
}

impl FromIterator<Feature> for Features {
    fn from_iter<T: IntoIterator<Item = Feature>>(features: T) -> Self {
        features.into_iter().fold(Self::NONE, Self::with)
    }
}

impl fmt::Debug for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(Feature::as_str)).finish()
    }
}
