//! What can be limited, and the settings that say how far.

use serde::{Deserialize, Serialize};

use super::window::Period;
use crate::units::UsdAmount;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Counted {
    /// Requests.
    Requests,
    /// Tokens of prompts and answers.
    Tokens,
    /// Tokens of prompts.
    InputTokens,
    /// Tokens of answers.
    OutputTokens,
    /// Money, in millionths of a US dollar.
    Money,
    /// Requests that run at the same time.
    Concurrent,
}

/// What is limited: what is counted, and in which time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Dimension {
    /// What is counted.
    pub counted: Counted,
    /// In which time; `None` for what runs at the same time.
    pub period: Option<Period>,
}

/// What becomes of a stream that gets to a limit while it runs.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum OnStreamCap {
    /// It goes on. What it uses is owed: the next requests wait for it.
    #[default]
    Continue,
    /// It ends there, as if the model had come to its `max_tokens`.
    Length,
}

/// Defines a settings struct with a key for each thing that can be limited, after its own keys.
/// They are written once, because `serde(flatten)` would let unknown keys pass.
macro_rules! with_limits {
    ($(#[$meta:meta])* $vis:vis struct $name:ident { $($own:tt)* }) => {
        $(#[$meta])*
        $vis struct $name {
            $($own)*
            /// Requests a minute; it flows, and at most `burst` is used at once.
            #[schemars(extend("examples" = [60]), range(min = 1, max = 1_000_000_000_000_i64))]
            $vis requests_per_minute: Option<u64>,
            /// Requests a calendar hour, in UTC.
            #[schemars(extend("examples" = [3600]), range(min = 1, max = 1_000_000_000_000_i64))]
            $vis requests_per_hour: Option<u64>,
            /// Requests a calendar day, in UTC.
            #[schemars(extend("examples" = [60000]), range(min = 1, max = 1_000_000_000_000_i64))]
            $vis requests_per_day: Option<u64>,
            /// Requests a calendar month, in UTC.
            #[schemars(extend("examples" = [1200000]), range(min = 1, max = 1_000_000_000_000_i64))]
            $vis requests_per_month: Option<u64>,
            /// Tokens of prompts and answers a minute; it flows, and at most `burst` is used at
            /// once.
            #[schemars(extend("examples" = [20000]), range(min = 1, max = 1_000_000_000_000_i64))]
            $vis tokens_per_minute: Option<u64>,
            /// Tokens of prompts and answers a calendar hour, in UTC.
            #[schemars(extend("examples" = [1200000]), range(min = 1, max = 1_000_000_000_000_i64))]
            $vis tokens_per_hour: Option<u64>,
            /// Tokens of prompts and answers a calendar day, in UTC.
            #[schemars(extend("examples" = [20000000]), range(min = 1, max = 1_000_000_000_000_i64))]
            $vis tokens_per_day: Option<u64>,
            /// Tokens of prompts and answers a calendar month, in UTC.
            #[schemars(extend("examples" = [400000000]), range(min = 1, max = 1_000_000_000_000_i64))]
            $vis tokens_per_month: Option<u64>,
            /// Tokens of prompts a minute; it flows, and at most `burst` is used at once.
            #[schemars(extend("examples" = [15000]), range(min = 1, max = 1_000_000_000_000_i64))]
            $vis input_tokens_per_minute: Option<u64>,
            /// Tokens of prompts a calendar hour, in UTC.
            #[schemars(extend("examples" = [900000]), range(min = 1, max = 1_000_000_000_000_i64))]
            $vis input_tokens_per_hour: Option<u64>,
            /// Tokens of prompts a calendar day, in UTC.
            #[schemars(extend("examples" = [15000000]), range(min = 1, max = 1_000_000_000_000_i64))]
            $vis input_tokens_per_day: Option<u64>,
            /// Tokens of prompts a calendar month, in UTC.
            #[schemars(extend("examples" = [300000000]), range(min = 1, max = 1_000_000_000_000_i64))]
            $vis input_tokens_per_month: Option<u64>,
            /// Tokens of answers a minute; it flows, and at most `burst` is used at once.
            #[schemars(extend("examples" = [5000]), range(min = 1, max = 1_000_000_000_000_i64))]
            $vis output_tokens_per_minute: Option<u64>,
            /// Tokens of answers a calendar hour, in UTC.
            #[schemars(extend("examples" = [300000]), range(min = 1, max = 1_000_000_000_000_i64))]
            $vis output_tokens_per_hour: Option<u64>,
            /// Tokens of answers a calendar day, in UTC.
            #[schemars(extend("examples" = [5000000]), range(min = 1, max = 1_000_000_000_000_i64))]
            $vis output_tokens_per_day: Option<u64>,
            /// Tokens of answers a calendar month, in UTC.
            #[schemars(extend("examples" = [100000000]), range(min = 1, max = 1_000_000_000_000_i64))]
            $vis output_tokens_per_month: Option<u64>,
            /// US dollars a calendar minute, in UTC.
            #[schemars(extend("examples" = ["0.5"]))]
            $vis usd_per_minute: Option<$crate::units::UsdAmount>,
            /// US dollars a calendar hour, in UTC.
            #[schemars(extend("examples" = ["5"]))]
            $vis usd_per_hour: Option<$crate::units::UsdAmount>,
            /// US dollars a calendar day, in UTC.
            #[schemars(extend("examples" = ["50"]))]
            $vis usd_per_day: Option<$crate::units::UsdAmount>,
            /// US dollars a calendar month, in UTC.
            #[schemars(extend("examples" = ["500"]))]
            $vis usd_per_month: Option<$crate::units::UsdAmount>,
            /// Requests at the same time.
            #[schemars(extend("examples" = [64]), range(min = 1, max = 1_000_000))]
            $vis concurrent: Option<u64>,
        }

        impl $name {
            /// What is limited.
            $vis fn limits(&self) -> $crate::quota::LimitSettings {
                $crate::quota::LimitSettings {
                    requests_per_minute: self.requests_per_minute,
                    requests_per_hour: self.requests_per_hour,
                    requests_per_day: self.requests_per_day,
                    requests_per_month: self.requests_per_month,
                    tokens_per_minute: self.tokens_per_minute,
                    tokens_per_hour: self.tokens_per_hour,
                    tokens_per_day: self.tokens_per_day,
                    tokens_per_month: self.tokens_per_month,
                    input_tokens_per_minute: self.input_tokens_per_minute,
                    input_tokens_per_hour: self.input_tokens_per_hour,
                    input_tokens_per_day: self.input_tokens_per_day,
                    input_tokens_per_month: self.input_tokens_per_month,
                    output_tokens_per_minute: self.output_tokens_per_minute,
                    output_tokens_per_hour: self.output_tokens_per_hour,
                    output_tokens_per_day: self.output_tokens_per_day,
                    output_tokens_per_month: self.output_tokens_per_month,
                    usd_per_minute: self.usd_per_minute,
                    usd_per_hour: self.usd_per_hour,
                    usd_per_day: self.usd_per_day,
                    usd_per_month: self.usd_per_month,
                    concurrent: self.concurrent,
                }
            }
        }
    };
}

pub(crate) use with_limits;

with_limits! {
    /// What may be used. What is not said is not limited.
    #[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
    #[serde(deny_unknown_fields, default)]
    pub struct LimitSettings {}
}

// === impl Counted ===

impl Counted {
    /// Whether a request counts once, however long it is.
    pub const fn is_per_request(self) -> bool {
        match self {
            Self::Requests | Self::Concurrent => true,
            Self::Tokens | Self::InputTokens | Self::OutputTokens | Self::Money => false,
        }
    }
}

// === impl Dimension ===

impl Dimension {
    /// What runs at the same time.
    pub const CONCURRENT: Self = Self { counted: Counted::Concurrent, period: None };

    /// So much in a time.
    pub const fn of(counted: Counted, period: Period) -> Self {
        Self { counted, period: Some(period) }
    }

    /// The name of its key in a configuration, such as `requests_per_minute`.
    pub const fn as_str(self) -> &'static str {
        match (self.counted, self.period) {
            (Counted::Requests, Some(Period::Minute)) => "requests_per_minute",
            (Counted::Requests, Some(Period::Hour)) => "requests_per_hour",
            (Counted::Requests, Some(Period::Day)) => "requests_per_day",
            (Counted::Requests, Some(Period::Month)) => "requests_per_month",
            (Counted::Tokens, Some(Period::Minute)) => "tokens_per_minute",
            (Counted::Tokens, Some(Period::Hour)) => "tokens_per_hour",
            (Counted::Tokens, Some(Period::Day)) => "tokens_per_day",
            (Counted::Tokens, Some(Period::Month)) => "tokens_per_month",
            (Counted::InputTokens, Some(Period::Minute)) => "input_tokens_per_minute",
            (Counted::InputTokens, Some(Period::Hour)) => "input_tokens_per_hour",
            (Counted::InputTokens, Some(Period::Day)) => "input_tokens_per_day",
            (Counted::InputTokens, Some(Period::Month)) => "input_tokens_per_month",
            (Counted::OutputTokens, Some(Period::Minute)) => "output_tokens_per_minute",
            (Counted::OutputTokens, Some(Period::Hour)) => "output_tokens_per_hour",
            (Counted::OutputTokens, Some(Period::Day)) => "output_tokens_per_day",
            (Counted::OutputTokens, Some(Period::Month)) => "output_tokens_per_month",
            (Counted::Money, Some(Period::Minute)) => "usd_per_minute",
            (Counted::Money, Some(Period::Hour)) => "usd_per_hour",
            (Counted::Money, Some(Period::Day)) => "usd_per_day",
            (Counted::Money, Some(Period::Month)) => "usd_per_month",
            (_, None) | (Counted::Concurrent, Some(_)) => "concurrent",
        }
    }

    /// Whether it flows, and is kept by a bucket.
    pub const fn flows(self) -> bool {
        matches!(
            (self.counted, self.period),
            (
                Counted::Requests | Counted::Tokens | Counted::InputTokens | Counted::OutputTokens,
                Some(Period::Minute)
            )
        )
    }
}

// === impl LimitSettings ===

impl LimitSettings {
    /// What can be limited, each with its limit where it has one: in requests, tokens and
    /// millionths of a US dollar.
    pub fn each(&self) -> [(Dimension, Option<u64>); 21] {
        let usd = |amount: Option<UsdAmount>| amount.map(|amount| amount.0.0);
        [
            (Dimension::of(Counted::Requests, Period::Minute), self.requests_per_minute),
            (Dimension::of(Counted::Requests, Period::Hour), self.requests_per_hour),
            (Dimension::of(Counted::Requests, Period::Day), self.requests_per_day),
            (Dimension::of(Counted::Requests, Period::Month), self.requests_per_month),
            (Dimension::of(Counted::Tokens, Period::Minute), self.tokens_per_minute),
            (Dimension::of(Counted::Tokens, Period::Hour), self.tokens_per_hour),
            (Dimension::of(Counted::Tokens, Period::Day), self.tokens_per_day),
            (Dimension::of(Counted::Tokens, Period::Month), self.tokens_per_month),
            (Dimension::of(Counted::InputTokens, Period::Minute), self.input_tokens_per_minute),
            (Dimension::of(Counted::InputTokens, Period::Hour), self.input_tokens_per_hour),
            (Dimension::of(Counted::InputTokens, Period::Day), self.input_tokens_per_day),
            (Dimension::of(Counted::InputTokens, Period::Month), self.input_tokens_per_month),
            (Dimension::of(Counted::OutputTokens, Period::Minute), self.output_tokens_per_minute),
            (Dimension::of(Counted::OutputTokens, Period::Hour), self.output_tokens_per_hour),
            (Dimension::of(Counted::OutputTokens, Period::Day), self.output_tokens_per_day),
            (Dimension::of(Counted::OutputTokens, Period::Month), self.output_tokens_per_month),
            (Dimension::of(Counted::Money, Period::Minute), usd(self.usd_per_minute)),
            (Dimension::of(Counted::Money, Period::Hour), usd(self.usd_per_hour)),
            (Dimension::of(Counted::Money, Period::Day), usd(self.usd_per_day)),
            (Dimension::of(Counted::Money, Period::Month), usd(self.usd_per_month)),
            (Dimension::CONCURRENT, self.concurrent),
        ]
    }

    /// What is limited.
    pub fn dimensions(&self) -> impl Iterator<Item = (Dimension, u64)> {
        self.each().into_iter().filter_map(|(dimension, limit)| Some((dimension, limit?)))
    }

    /// Whether nothing is.
    pub fn is_empty(&self) -> bool {
        self.dimensions().next().is_none()
    }
}
