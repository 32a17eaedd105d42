//! What can go wrong, and how it is asked for in text: `status=503,retry_after=2s`.
//!
//! One grammar serves scenario files, the `x-sim-fault` header and directives inside messages.

use http::StatusCode;

/// Something that goes wrong with an answer. Token counts say after how many tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Another status than 200, with the dialect's own error body.
    Status {
        /// The status.
        status: StatusCode,
        /// The value of `retry-after`, verbatim, so that it may lie or be no number at all.
        retry_after: Option<String>,
    },
    /// A proxy's page: status 502, `text/html`.
    Html,
    /// The right answer under `text/html`.
    WrongContentType,
    /// No connection.
    ConnectRefused,
    /// A connection, and nothing ever.
    StallBeforeHead,
    /// A head with status 200, and nothing ever.
    StallAfterHead,
    /// Tokens, then nothing ever.
    StallAfter(u64),
    /// Tokens, then the body ends as if complete, in the middle of the answer.
    CutAfter(u64),
    /// Tokens, half a frame, then the body ends as if complete.
    CutInFrame(u64),
    /// Tokens, then the connection is reset.
    ResetAfter(u64),
    /// All tokens, then the body ends without finish reason, usage or marker.
    NoTerminal,
    /// All but the wire's last marker (`[DONE]`, `message_stop`).
    NoDoneMarker,
    /// One frame after so many tokens is no JSON; the rest follows.
    MalformedFrame(u64),
    /// A multi-byte character is split over two chunks.
    SplitUtf8,
    /// Tokens, then the wire's error event.
    ErrorEvent(u64),
    /// A complete answer without content.
    Empty,
}

/// One `key` or `key=value`.
pub(super) type Setting<'a> = (&'a str, Option<&'a str>);

// === impl Fault ===

impl Fault {
    /// The keys of the grammar, for error messages.
    pub const KEYS: [&'static str; 17] = [
        "status",
        "retry_after",
        "html_502",
        "wrong_content_type",
        "connect_refused",
        "stall_before_head",
        "stall_after_head",
        "stall_after",
        "cut_after",
        "cut_in_frame",
        "reset_after",
        "no_terminal",
        "no_done_marker",
        "malformed_frame",
        "split_utf8",
        "error_event",
        "empty_completion",
    ];

    /// Reads one fault, such as `cut_after=5` or `status=429,retry_after=2s`.
    ///
    /// # Errors
    ///
    /// Says which key or value is wrong and what would be right.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut fault = None;
        for (key, value) in settings(text) {
            if !Self::apply(&mut fault, key, value)? {
                let near = crate::problems::nearest(key, Self::KEYS).map_or_else(
                    || format!("use one of {}", Self::KEYS.join(", ")),
                    |near| format!("did you mean `{near}`?"),
                );
                return Err(format!("unknown fault `{key}`; {near}"));
            }
        }
        fault.ok_or_else(|| format!("no fault named; use one of {}", Self::KEYS.join(", ")))
    }

    /// Takes one setting into `fault` and says whether it is one of this grammar.
    pub(super) fn apply(
        fault: &mut Option<Self>,
        key: &str,
        value: Option<&str>,
    ) -> Result<bool, String> {
        let count = || match value {
            None => Ok(0),
            Some(text) => text
                .parse::<u64>()
                .map_err(|_| format!("`{key}` wants a count of tokens, not `{text}`")),
        };
        let next = match key {
            "status" => {
                let status = value
                    .and_then(|text| StatusCode::from_bytes(text.as_bytes()).ok())
                    .filter(|status| status.as_u16() >= 400)
                    .ok_or("`status` wants a number from 400 to 999")?;
                Self::Status { status, retry_after: None }
            }
            "retry_after" => {
                let Some(Self::Status { retry_after, .. }) = fault else {
                    return Err("`retry_after` goes after a `status`".to_owned());
                };
                *retry_after = value.map(retry_after_value);
                return Ok(true);
            }
            "html_502" => Self::Html,
            "wrong_content_type" => Self::WrongContentType,
            "connect_refused" => Self::ConnectRefused,
            "stall_before_head" => Self::StallBeforeHead,
            "stall_after_head" => Self::StallAfterHead,
            "stall_after" => Self::StallAfter(count()?),
            "cut_after" => Self::CutAfter(count()?),
            "cut_in_frame" => Self::CutInFrame(count()?),
            "reset_after" => Self::ResetAfter(count()?),
            "no_terminal" => Self::NoTerminal,
            "no_done_marker" => Self::NoDoneMarker,
            "malformed_frame" => Self::MalformedFrame(count()?),
            "split_utf8" => Self::SplitUtf8,
            "error_event" => Self::ErrorEvent(count()?),
            "empty_completion" => Self::Empty,
            _ => return Ok(false),
        };
        if fault.is_some() {
            return Err(format!("`{key}` is a second fault; one answer can have one"));
        }
        *fault = Some(next);
        Ok(true)
    }
}

/// A duration becomes whole seconds, everything else stays as it is.
fn retry_after_value(text: &str) -> String {
    match text.parse::<crate::units::HumanDuration>() {
        Ok(duration) => duration.0.as_secs_f64().ceil().to_string(),
        Err(_) => text.to_owned(),
    }
}

/// The settings of `a=1,b,c=2`.
pub(super) fn settings(text: &str) -> impl Iterator<Item = Setting<'_>> {
    text.split(',').map(str::trim).filter(|setting| !setting.is_empty()).map(
        |setting| match setting.split_once('=') {
            Some((key, value)) => (key.trim(), Some(value.trim())),
            None => (setting, None),
        },
    )
}
