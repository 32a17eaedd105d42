//! What rejections say, to callers and to the log.

use std::time::Duration;

use super::{NobodyWhy, Rejection};
use crate::failure::{Failure, FailureKind};
use crate::units::Spoken;

const CREDENTIAL: &str = "the provider did not accept the gateway's credential; ask the operator";

// === impl Rejection ===

impl Rejection {
    /// The words for the log, which must not quote the request: prompts are not logged.
    pub fn loggable(&self) -> String {
        if let Self::Invalid { .. } = self {
            return "the request is not valid".to_owned();
        }
        // The log gets the provider's own words, which the caller does not.
        if let Self::AttemptsFailed { failure, .. } | Self::StreamFailed { failure } = self {
            return failure.loggable();
        }
        if let Self::NobodyReady { targets, why, .. } = self
            && *why != NobodyWhy::Busy
        {
            return format!("{self} ({})", targets.join(", "));
        }
        self.to_string()
    }
}

/// What a caller is told whose job has no room to wait in.
pub(super) fn too_large_to_wait(of_all: bool, bytes: u64, limit_bytes: u64) -> String {
    let (whose, key) = if of_all {
        ("the jobs of all callers that are waiting", "jobs.max_total_waiting_size")
    } else {
        ("your jobs that are waiting", "jobs.max_waiting_size")
    };
    format!(
        "this job's request takes {bytes} bytes, and with it {whose} would take more than the \
         {limit_bytes} bytes they may (`{key}`); try again when some are done, or with a smaller one"
    )
}

pub(super) fn nobody_ready(route: &str, targets: &[String], why: NobodyWhy) -> String {
    match why {
        NobodyWhy::Busy => {
            format!("no target of `{route}` is ready at the moment ({})", targets.join(", "))
        }
        NobodyWhy::RateLimited => {
            format!("the providers of `{route}` limit the rate of requests; try again later")
        }
        NobodyWhy::Credential => CREDENTIAL.to_owned(),
    }
}

pub(super) fn attempts_failed(attempts: u32, failure: &Failure) -> String {
    match failure.kind {
        // The provider's words are about the caller's own request: pass them on untouched.
        FailureKind::CallerFault | FailureKind::ContextTooLong | FailureKind::Policy => {
            failure.message.clone()
        }
        FailureKind::NotServed => {
            format!("no provider serves this model at the moment (attempts: {attempts})")
        }
        FailureKind::HardQuota | FailureKind::AuthFault => CREDENTIAL.to_owned(),
        // Where a provider is, the caller need not know; the log says it.
        FailureKind::Transport => {
            format!("no provider could be reached (attempts: {attempts}); try again")
        }
        FailureKind::SlowStart
        | FailureKind::ServerFault
        | FailureKind::Overloaded
        | FailureKind::RateLimited
        | FailureKind::MidStream
        | FailureKind::Degenerate => {
            let what = failure.in_public();
            match attempts {
                1 => format!("the provider failed: {what}"),
                _ => format!("all {attempts} attempts failed; the last provider: {what}"),
            }
        }
    }
}

pub(super) fn limit_reached(limit: &str, dimension: &str, retry_after: Option<Duration>) -> String {
    match retry_after {
        Some(after) => {
            format!("{limit} is reached: {dimension}; try again in {}", Spoken(after))
        }
        None => format!(
            "the request needs more than {limit} ever allows: {dimension}; ask for less, for instance with a lower token cap"
        ),
    }
}

pub(super) fn suggestion(near: &[String]) -> String {
    match near {
        [] => "; GET /v1/models lists what does".to_owned(),
        [one] => format!("; did you mean `{one}`?"),
        [first, rest @ ..] => {
            let rest: Vec<_> = rest.iter().map(|name| format!("`{name}`")).collect();
            format!("; did you mean `{first}` or {}?", rest.join(" or "))
        }
    }
}
