//! What went wrong upstream, who is to blame, whether to try again, and when.
//!
//! A [`Failure`] is made only where bytes meet meaning: by the transport and by the codecs. The
//! attempt engine, the breaker, the rank, hedging and the limiter read one classification, the
//! table below, so that they cannot disagree about what happened.

use std::fmt;
use std::time::Duration;

use http::StatusCode;

/// One failed attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What happened.
    pub kind: FailureKind,
    /// The provider's status, where an answer came at all.
    pub status: Option<StatusCode>,
    /// What the provider asked for with `retry-after-ms` or `retry-after`.
    pub retry_after: Option<Duration>,
    /// The provider's own words, for the caller where the caller is to blame, else for the log.
    /// At most [`Failure::MAX_MESSAGE_BYTES`]; never holds our key, see [`Failure::without`].
    pub message: String,
    /// The provider's machine-readable code or type, where it gave one.
    pub code: Option<String>,
    /// The field the provider complained about, where it said so.
    pub param: Option<String>,
}

/// What happened to an attempt. One row of the outcome table each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FailureKind {
    /// No connection, or it broke before the first byte of the answer.
    Transport,
    /// No first token in time.
    SlowStart,
    /// The provider failed: 500, 502, 503, 504, and what its own machinery says with 408, 409, 425
    /// or 499.
    ServerFault,
    /// The provider says it has too much to do: 529, 503 with `retry-after`.
    Overloaded,
    /// The provider limits our rate: 429.
    RateLimited,
    /// The credential's quota or credit is used up: 402, 429 with a quota code.
    HardQuota,
    /// The credential is not accepted: 401, 403.
    AuthFault,
    /// The provider does not have what we asked it for, a model, a deployment or a path: 404, 405,
    /// 501. Our list is wrong or it was withdrawn, so another target may well have it.
    NotServed,
    /// The caller's request is wrong: 400, 413, 422.
    CallerFault,
    /// The prompt is longer than this model takes; another may take it.
    ContextTooLong,
    /// The provider's policy refuses the content.
    Policy,
    /// The stream broke after its first token: error event, end without terminal event, stall, or
    /// a frame that cannot be read.
    MidStream,
    /// A success that is none: an empty completion, or an answer that cannot be read.
    Degenerate,
}

/// What shall happen where an answer breaks off after its first token. The caller says so with
/// `x-tidegate-midstream`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Midstream {
    /// The stream ends with an error event and without its terminal event.
    #[default]
    Terminate,
    /// Another target that serves the same model may go on where the first one stopped.
    Continue,
    /// Any other target may.
    ContinueAnyModel,
}

/// Who can mend it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Blame {
    /// The provider, or the network to it.
    Provider,
    /// Whoever holds the credential: a key, a quota, a rate.
    Credential,
    /// Whoever sent the request.
    Caller,
}

/// Whether another attempt may help, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Retry {
    /// The same target may be tried again after a pause, and others at once.
    SameOrOther,
    /// Others may be tried, this one not within the request.
    Other,
    /// No attempt can help.
    Never,
}

/// How much a failure says of the target's health.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The target does not work: counts in runs and ratios.
    Hard,
    /// The target has too much to do or answers badly: counts in ratios only.
    Soft,
}

/// What there was too much of. Whatever it is, a shorter prompt makes it less.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Excess {
    /// Nothing that is known of.
    Nothing,
    /// Requests or tokens within a time: the provider pushes back.
    Requests,
    /// Time to the first token.
    Time,
    /// Prompt.
    Prompt,
}

/// No credential is shorter; in what is, every word of a message might be found.
const LEAST_CREDENTIAL_BYTES: usize = 8;
/// What stands in the place of a credential.
const CONCEALED: &str = "<key>";

// === impl FailureKind ===

impl FailureKind {
    /// All kinds, in the order of the table.
    pub const ALL: [Self; 13] = [
        Self::Transport,
        Self::SlowStart,
        Self::ServerFault,
        Self::Overloaded,
        Self::RateLimited,
        Self::HardQuota,
        Self::AuthFault,
        Self::NotServed,
        Self::CallerFault,
        Self::ContextTooLong,
        Self::Policy,
        Self::MidStream,
        Self::Degenerate,
    ];

    /// The table: who is to blame, whether to try again, what it says of the target's health, what
    /// there was too much of, and the word for logs and metrics.
    #[rustfmt::skip] // A table reads best as a table.
    const fn row(self) -> (Blame, Retry, Option<Severity>, Excess, &'static str) {
        const HARD: Option<Severity> = Some(Severity::Hard);
        const SOFT: Option<Severity> = Some(Severity::Soft);
        match self {
            Self::Transport   => (Blame::Provider,   Retry::Other,       HARD, Excess::Nothing,  "transport"),
            Self::SlowStart   => (Blame::Provider,   Retry::Other,       HARD, Excess::Time,     "slow_start"),
            Self::ServerFault => (Blame::Provider,   Retry::SameOrOther, HARD, Excess::Nothing,  "server_fault"),
            Self::Overloaded  => (Blame::Provider,   Retry::Other,       SOFT, Excess::Requests, "overloaded"),
            Self::RateLimited => (Blame::Credential, Retry::SameOrOther, None, Excess::Requests, "rate_limited"),
            Self::HardQuota   => (Blame::Credential, Retry::Other,       None, Excess::Nothing,  "hard_quota"),
            Self::AuthFault   => (Blame::Credential, Retry::Other,       None, Excess::Nothing,  "auth_fault"),
            Self::NotServed   => (Blame::Provider,   Retry::Other,       SOFT, Excess::Nothing,  "not_served"),
            Self::CallerFault => (Blame::Caller,     Retry::Never,       None, Excess::Nothing,  "caller_fault"),
            Self::ContextTooLong => (Blame::Caller,  Retry::Other,       None, Excess::Prompt,   "context_too_long"),
            Self::Policy      => (Blame::Caller,     Retry::Never,       None, Excess::Nothing,  "policy"),
            Self::MidStream   => (Blame::Provider,   Retry::Other,       HARD, Excess::Nothing,  "mid_stream"),
            Self::Degenerate  => (Blame::Provider,   Retry::Other,       SOFT, Excess::Nothing,  "degenerate"),
        }
    }

    /// Who can mend it.
    pub const fn blame(self) -> Blame {
        self.row().0
    }

    /// Whether another attempt may help.
    pub const fn retry(self) -> Retry {
        self.row().1
    }

    /// How much it says of the target's health. `None` where it says nothing: a limit or a key is a
    /// matter of the credential, a wrong request one of the caller.
    pub const fn severity(self) -> Option<Severity> {
        self.row().2
    }

    /// What there was too much of.
    pub const fn excess(self) -> Excess {
        self.row().3
    }

    /// The word for logs, metrics and the journal.
    pub const fn as_str(self) -> &'static str {
        self.row().4
    }

    /// The same for callers: what the provider did, as the end of a sentence.
    pub const fn in_words(self) -> &'static str {
        match self {
            Self::Transport => "it could not be reached",
            Self::SlowStart => "its answer did not begin in time",
            Self::ServerFault => "it answered with an error of its own",
            Self::Overloaded => "it is overloaded",
            Self::RateLimited => "it limits the rate of requests",
            Self::HardQuota | Self::AuthFault => "it did not accept the gateway's credential",
            Self::NotServed => "it does not serve this model",
            Self::CallerFault => "it refused the request",
            Self::ContextTooLong => "the prompt is too long for it",
            Self::Policy => "its policy forbids the request or its answer",
            Self::MidStream => "its answer broke off",
            Self::Degenerate => "its answer was no use",
        }
    }

    /// Whether the credential itself was turned away, so that no pause helps.
    pub fn is_refused_credential(self) -> bool {
        self.blame() == Blame::Credential && self.retry() == Retry::Other
    }

    /// Whether the provider says that it is asked for more than it can or will serve now.
    pub fn is_pushback(self) -> bool {
        self.excess() == Excess::Requests
    }

    /// The kind that an HTTP status alone stands for. Codecs refine it by the body's code.
    pub fn from_status(status: StatusCode, retry_after: Option<Duration>) -> Self {
        match status.as_u16() {
            401 | 403 => Self::AuthFault,
            402 => Self::HardQuota,
            404 | 405 | 501 => Self::NotServed,
            408 | 409 | 425 | 499 => Self::ServerFault,
            429 => Self::RateLimited,
            529 => Self::Overloaded,
            503 if retry_after.is_some() => Self::Overloaded,
            400..=499 => Self::CallerFault,
            _ => Self::ServerFault,
        }
    }
}

// === impl Failure ===

impl Failure {
    /// The most that is kept of a provider's message.
    pub const MAX_MESSAGE_BYTES: usize = 2_000;

    /// A failure of a kind in our own or the provider's words.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        let mut message = message.into();
        truncate_on_char(&mut message, Self::MAX_MESSAGE_BYTES);
        Self { kind, status: None, retry_after: None, message, code: None, param: None }
    }

    /// The same with the provider's status.
    #[must_use]
    pub fn with_status(mut self, status: StatusCode) -> Self {
        self.status = Some(status);
        self
    }

    /// The same without a credential in it: a provider that refuses a key may repeat it. One that
    /// is too short to be one is left, and so is the text.
    #[must_use]
    pub fn without(mut self, credential: &str) -> Self {
        if credential.len() >= LEAST_CREDENTIAL_BYTES {
            let words = [Some(&mut self.message), self.code.as_mut(), self.param.as_mut()];
            words.into_iter().flatten().for_each(|word| conceal(word, credential));
        }
        self
    }

    /// Whether it says that too much runs at once on the target.
    pub fn is_for_load(&self) -> bool {
        match self.kind.excess() {
            Excess::Time => true,
            Excess::Requests => self.kind.blame() == Blame::Provider || self.is_for_concurrency(),
            // Some say it with a bare 503; one that is down says that too, and gets less then.
            Excess::Nothing => {
                self.kind == FailureKind::ServerFault
                    && self.status == Some(StatusCode::SERVICE_UNAVAILABLE)
            }
            Excess::Prompt => false,
        }
    }

    /// Whether a rate limit is about what runs at once and not about a rate. Providers have one
    /// status for both and say it in words.
    pub fn is_for_concurrency(&self) -> bool {
        let says = |text: &str| {
            text.as_bytes().windows(9).any(|word| word.eq_ignore_ascii_case(b"concurren"))
        };
        says(&self.message) || self.code.as_deref().is_some_and(says)
    }

    /// The words for the log. What a provider says of the caller's own request may quote it, and
    /// prompts are not logged.
    pub fn loggable(&self) -> String {
        if self.kind.blame() == Blame::Caller {
            return Self { message: String::new(), ..self.clone() }.to_string();
        }
        self.to_string()
    }

    /// What a caller may read of a failure that is not the caller's own: what kind it is, and the
    /// status. A provider's words can name its accounts, addresses and keys; they are for the log.
    pub fn in_public(&self) -> String {
        match self.status {
            Some(status) => format!("{} (status {})", self.kind.in_words(), status.as_u16()),
            None => self.kind.in_words().to_owned(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.as_str())?;
        if let Some(status) = self.status {
            write!(f, " ({})", status.as_u16())?;
        }
        if !self.message.is_empty() {
            write!(f, ": {}", self.message)?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

/// Puts `<key>` in the place of a credential, and of the beginning of one at a text's end, where it
/// was cut.
fn conceal(text: &mut String, credential: &str) {
    if text.contains(credential) {
        *text = text.replace(credential, CONCEALED);
    }
    let cut = (LEAST_CREDENTIAL_BYTES..credential.len())
        .rev()
        .filter_map(|length| credential.get(..length))
        .find(|start| text.ends_with(start));
    if let Some(start) = cut {
        text.truncate(text.len() - start.len());
        text.push_str(CONCEALED);
    }
}

fn truncate_on_char(text: &mut String, max_bytes: usize) {
    if text.len() > max_bytes {
        let cut = (0..=max_bytes).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(cut);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_provider_that_repeats_our_key_is_not_quoted_in_full() {
        let key = "sk-live-0123456789";
        let said = |message: &str| {
            let mut failure = Failure::new(FailureKind::AuthFault, message);
            failure.code = Some(format!("wrong:{key}"));
            failure.without(key)
        };
        let failure = said(&format!("Incorrect API key: {key}. Not {key}!"));
        assert_eq!(failure.message, "Incorrect API key: <key>. Not <key>!");
        assert_eq!(failure.code.as_deref(), Some("wrong:<key>"));
        // Where the message was cut within it.
        assert_eq!(said("Incorrect API key: sk-live-01234").message, "Incorrect API key: <key>");
        let long = format!("{}{key}", "x".repeat(Failure::MAX_MESSAGE_BYTES - 12));
        assert!(!said(&long).message.contains("sk-live"));
        // Nothing that any message may hold.
        let plain = Failure::new(FailureKind::AuthFault, "the key is wrong");
        assert_eq!(plain.clone().without("key"), plain);
        assert_eq!(plain.clone().without(""), plain);
    }
}
