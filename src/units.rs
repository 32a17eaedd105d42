//! Quantities with their unit in the type: durations, sizes, money, priorities; and what limits
//! count.

use std::fmt;
use std::ops::Add;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

mod spoken;

pub use spoken::Spoken;

/// A duration as people write it: `500ms`, `2s`, `1.5s`, `15m`, `1h`, `7d`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct HumanDuration(pub Duration);

/// A size as people write it: `512KB`, `20MB`, `1GiB`, or plain bytes. KB is 1,000 bytes, KiB
/// 1,024.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteCount(pub u64);

/// Money in millionths of a US dollar.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct MicroUsd(pub u64);

/// A price in US dollars per million tokens, written as a decimal string such as `"0.59"`, which
/// keeps it exact. Held in millionths of a micro-dollar (1e-12 USD) per token.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct UsdPerMillion {
    pico_usd_per_token: u64,
}

/// An amount of money as people write it: US dollars as a decimal string such as `"50"` or
/// `"0.25"`, which keeps it exact. At most `"1000000000"`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct UsdAmount(pub MicroUsd);

/// A part of a whole as people write it: `5%`, `0.5%`. From 0 to 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, PartialOrd)]
pub struct Ratio(f64);

/// How much a request matters where not all can be served; a smaller number matters more.
///
/// | | meant for |
/// |---|---|
/// | 0 | probes, health checks, operators |
/// | 1 | people who wait, and pay for it |
/// | 2 | people who wait |
/// | 3 | jobs in the background |
/// | 4 | batches, evaluations, shadow traffic, warming of caches |
///
/// The order is that of the numbers, so the less urgent of two is their `max`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u8")]
pub struct Priority(u8);

/// What a provider's rate limits count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dimension {
    /// Requests.
    Requests,
    /// Tokens of prompt and answer together.
    Tokens,
    /// Tokens of prompts.
    InputTokens,
    /// Tokens of answers.
    OutputTokens,
}

/// Why a quantity could not be read; says what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UnitError(String);

// === impl HumanDuration ===

impl HumanDuration {
    /// Whole milliseconds.
    pub const fn millis(ms: u64) -> Self {
        Self(Duration::from_millis(ms))
    }

    /// Whole seconds.
    pub const fn secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }
}

impl From<HumanDuration> for Duration {
    fn from(duration: HumanDuration) -> Self {
        duration.0
    }
}

impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0.as_millis();
        match ms {
            0 => f.write_str("0s"),
            _ if ms.is_multiple_of(86_400_000) => write!(f, "{}d", ms / 86_400_000),
            _ if ms.is_multiple_of(3_600_000) => write!(f, "{}h", ms / 3_600_000),
            _ if ms.is_multiple_of(60_000) && ms >= 120_000 => write!(f, "{}m", ms / 60_000),
            _ if ms.is_multiple_of(1_000) => write!(f, "{}s", ms / 1_000),
            _ => write!(f, "{ms}ms"),
        }
    }
}

impl FromStr for HumanDuration {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let wrong = || {
            UnitError(format!(
                "`{text}` is no duration; write it like `500ms`, `20s`, `15m`, `1h` or `7d`"
            ))
        };
        let (number, unit) = split_unit(text).ok_or_else(wrong)?;
        let unit_ms = match unit {
            "ms" => 1.0,
            "s" => 1_000.0,
            "m" => 60_000.0,
            "h" => 3_600_000.0,
            "d" => 86_400_000.0,
            _ => return Err(wrong()),
        };
        let number: f64 = number.parse().map_err(|_| wrong())?;
        Duration::try_from_secs_f64(number * unit_ms / 1_000.0).map(Self).map_err(|_| wrong())
    }
}

// === impl ByteCount ===

impl fmt::Display for ByteCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u64, &str); 6] = [
            (1 << 30, "GiB"),
            (1_000_000_000, "GB"),
            (1 << 20, "MiB"),
            (1_000_000, "MB"),
            (1 << 10, "KiB"),
            (1_000, "KB"),
        ];
        match UNITS.iter().find(|(size, _)| self.0 > 0 && self.0.is_multiple_of(*size)) {
            Some((size, unit)) => write!(f, "{}{unit}", self.0 / size),
            None => write!(f, "{}B", self.0),
        }
    }
}

impl FromStr for ByteCount {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let wrong =
            || UnitError(format!("`{text}` is no size; write it like `512KB`, `20MB` or `1GiB`"));
        let (number, unit) = split_unit(text).ok_or_else(wrong)?;
        let size = match unit {
            "" | "B" => 1,
            "KB" => 1_000,
            "MB" => 1_000_000,
            "GB" => 1_000_000_000,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            _ => return Err(wrong()),
        };
        let number: u64 = number.parse().map_err(|_| wrong())?;
        number.checked_mul(size).map(Self).ok_or_else(wrong)
    }
}

// === impl Ratio ===

impl Ratio {
    /// So many hundredths, at most 100.
    pub const fn percent(percent: u8) -> Self {
        Self(if percent > 100 { 1.0 } else { percent as f64 / 100.0 })
    }

    /// The part, from 0 to 1.
    pub const fn get(self) -> f64 {
        self.0
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Rounded where binary fractions cannot say what was written.
        write!(f, "{}%", (self.0 * 1e6).round() / 1e4)
    }
}

impl FromStr for Ratio {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let wrong = || UnitError(format!("`{text}` is no share; write it like `5%` or `0.5%`"));
        let percent = text.trim().strip_suffix('%').ok_or_else(wrong)?;
        let percent: f64 = percent.trim().parse().map_err(|_| wrong())?;
        match percent {
            0.0..=100.0 => Ok(Self(percent / 100.0)),
            _ => Err(UnitError(format!("`{text}` is not between `0%` and `100%`"))),
        }
    }
}

// === impl MicroUsd ===

impl MicroUsd {
    /// As a decimal of US dollars with six places, such as `0.000123`.
    pub fn to_usd_string(self) -> String {
        format!("{}.{:06}", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}

impl Add for MicroUsd {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl fmt::Display for MicroUsd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "${}", self.to_usd_string())
    }
}

// === impl Priority ===

impl Priority {
    /// What matters most: 0, for operators' own requests.
    pub const HIGHEST: Self = Self(0);
    /// The best that a caller without a key may ask for: 1.
    pub const BEST_WITHOUT_KEY: Self = Self(1);
    /// What matters least: 4.
    pub const LOWEST: Self = Self(4);

    /// The number, from 0 to 4.
    pub const fn level(self) -> u8 {
        self.0
    }
}

impl Default for Priority {
    /// People who wait: 2.
    fn default() -> Self {
        Self(2)
    }
}

impl From<Priority> for u8 {
    fn from(priority: Priority) -> Self {
        priority.0
    }
}

impl TryFrom<u64> for Priority {
    type Error = UnitError;

    fn try_from(level: u64) -> Result<Self, UnitError> {
        match u8::try_from(level) {
            Ok(level @ 0..=4) => Ok(Self(level)),
            Ok(_) | Err(_) => Err(UnitError(format!(
                "`{level}` is no priority; write a whole number from 0 (highest) to 4"
            ))),
        }
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for Priority {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        match *text.as_bytes() {
            [level @ b'0'..=b'4'] => Ok(Self(level - b'0')),
            _ => Err(UnitError(format!(
                "`{text}` is no priority; write a whole number from 0 (highest) to 4"
            ))),
        }
    }
}

// === impl UsdPerMillion ===

impl UsdPerMillion {
    /// What `tokens` cost, in 1e-12 US dollars, so that parts can be added before they are rounded.
    pub fn pico_usd(self, tokens: u64) -> u128 {
        u128::from(self.pico_usd_per_token) * u128::from(tokens)
    }

    /// Rounds a sum of [`UsdPerMillion::pico_usd`] to the nearest micro-dollar, half up.
    pub fn round(pico_usd: u128) -> MicroUsd {
        MicroUsd(u64::try_from((pico_usd + 500_000) / 1_000_000).unwrap_or(u64::MAX))
    }
}

impl fmt::Display for UsdPerMillion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!(
            "{}.{:06}",
            self.pico_usd_per_token / 1_000_000,
            self.pico_usd_per_token % 1_000_000
        );
        let text = text.trim_end_matches('0');
        f.write_str(text.strip_suffix('.').unwrap_or(text))
    }
}

impl FromStr for UsdPerMillion {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let wrong = || {
            UnitError(format!(
                "`{text}` is no price; write US dollars per million tokens like \"0.59\", with at most six decimals"
            ))
        };
        let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole) || !digits(fraction) || fraction.len() > 6 {
            return Err(wrong());
        }
        let whole: u64 = whole.parse().map_err(|_| wrong())?;
        let micro: u64 = format!("{fraction:0<6}").parse().map_err(|_| wrong())?;
        whole
            .checked_mul(1_000_000)
            .and_then(|pico| pico.checked_add(micro))
            .map(|pico_usd_per_token| Self { pico_usd_per_token })
            .ok_or_else(wrong)
    }
}

// === impl UsdAmount ===

impl UsdAmount {
    /// A thousand million dollars.
    const MAX_MICRO_USD: u64 = 1_000_000_000_000_000;
}

impl fmt::Display for UsdAmount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_usd_string();
        let text = text.trim_end_matches('0');
        f.write_str(text.strip_suffix('.').unwrap_or(text))
    }
}

impl FromStr for UsdAmount {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let wrong = || {
            UnitError(format!(
                "`{text}` is no amount of money; write US dollars like \"50\" or \"0.25\", with at most six decimals"
            ))
        };
        // A price per million tokens is written the same way.
        let price: UsdPerMillion = text.parse().map_err(|_| wrong())?;
        if price.pico_usd_per_token > Self::MAX_MICRO_USD {
            return Err(UnitError(format!("`{text}` is more than 1000000000 dollars")));
        }
        Ok(Self(MicroUsd(price.pico_usd_per_token)))
    }
}

fn split_unit(text: &str) -> Option<(&str, &str)> {
    let at = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(at)?;
    (!number.is_empty()).then_some((number, unit.trim()))
}

// === impl Dimension ===

impl Dimension {
    /// All of them.
    pub const ALL: [Self; 4] =
        [Self::Requests, Self::Tokens, Self::InputTokens, Self::OutputTokens];

    /// The word for logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Tokens => "tokens",
            Self::InputTokens => "input_tokens",
            Self::OutputTokens => "output_tokens",
        }
    }
}

/// Units travel as text in files and replies.
macro_rules! as_text {
    ($($unit:ty, $format:literal, $example:literal, $doc:literal;)*) => {$(
        impl Serialize for $unit {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $unit {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }

        impl schemars::JsonSchema for $unit {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($unit).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({
                    "type": "string", "format": $format, "description": $doc,
                    "examples": [$example]
                })
            }
        }
    )*};
}

as_text! {
    HumanDuration, "human-duration", "20s", "a duration such as 500ms, 20s, 15m, 1h or 7d";
    ByteCount, "byte-count", "20MB", "a size such as 512KB, 20MB or 1GiB";
    Ratio, "ratio", "5%", "a share such as 5% or 0.5%";
    UsdAmount, "usd-amount", "50", "US dollars as a decimal string";
    UsdPerMillion, "usd-per-million", "0.59", "US dollars per million tokens as a decimal string";
}
