//! How a request ended, for whoever keeps its reply to repeat it.

use std::sync::Arc;
use std::sync::OnceLock;

use crate::failure::FailureKind;
use crate::journal::Outcome;
use crate::policy::degrade::Level;
use crate::rejection::Rejection;

/// Whether a reply stands, told when the request's account is settled. Clones tell the same.
///
/// A reply stands if asking again could only give the same, or would be paid for again:
///
/// - an answer, but not the route's own words where no model answered, nor one past its time;
/// - an error that is the request's own fault, once a provider has said so;
/// - whatever else a provider counted tokens for: an answer that broke off, an error after an
///   answer that was of no use.
///
/// Everything else (a refusal before any attempt, a rate limit, a provider's fault) may be asked
/// again.
#[derive(Debug, Clone, Default)]
pub struct Ending(Arc<OnceLock<bool>>);

// === impl Ending ===

impl Ending {
    /// Whether the reply stands; `None` while the request has not ended, or where it never had an
    /// account.
    pub fn stands(&self) -> Option<bool> {
        self.0.get().copied()
    }

    /// Tells it. Only the first call counts.
    pub(super) fn tell(&self, stands: bool) {
        let _ = self.0.set(stands);
    }
}

/// Whether the reply of a request that ended so stands. `spent` says whether a provider counted
/// tokens, `is_callers` whether the request itself was at fault.
pub(super) fn stands(outcome: Outcome, degradation: u8, spent: bool, is_callers: bool) -> bool {
    match outcome {
        Outcome::Complete | Outcome::Spliced => spent || degradation < Level::StaleAnswer.number(),
        Outcome::Failed | Outcome::Rejected => spent || is_callers,
        Outcome::Cut | Outcome::ClientGone => spent,
    }
}

/// Whether a provider found fault with the request itself, so that asking again is of no use.
pub(super) fn is_callers(rejection: &Rejection) -> bool {
    let Rejection::AttemptsFailed { failure, .. } = rejection else { return false };
    let status = rejection.face().status;
    // Conflicts and time-outs pass.
    let may_pass = matches!(status.as_u16(), 401 | 402 | 403 | 408 | 409 | 425 | 429);
    status.is_client_error()
        && !may_pass
        && matches!(
            failure.kind,
            FailureKind::CallerFault | FailureKind::ContextTooLong | FailureKind::Policy
        )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Failure;
    use http::StatusCode;

    #[test]
    fn answers_and_what_was_paid_for_stand() {
        let (free, paid) = (false, true);
        let cases = [
            (Outcome::Complete, 0, free, true),
            (Outcome::Complete, 2, free, true),
            // Past its time, or fixed words, because nobody answered.
            (Outcome::Complete, 3, free, false),
            (Outcome::Complete, 4, free, false),
            (Outcome::Complete, 4, paid, true),
            (Outcome::Cut, 0, paid, true),
            (Outcome::Cut, 0, free, false),
            (Outcome::Failed, 0, free, false),
            (Outcome::Failed, 0, paid, true),
            (Outcome::Rejected, 0, free, false),
            (Outcome::ClientGone, 0, free, false),
        ];
        for (outcome, degradation, spent, wanted) in cases {
            let got = stands(outcome, degradation, spent, false);
            assert_eq!(got, wanted, "{outcome:?} {degradation} {spent}");
        }
        assert!(stands(Outcome::Failed, 0, free, true));
    }

    #[test]
    fn only_the_requests_own_faults_are_the_callers() {
        let failed = |kind, status: u16| {
            let mut failure = Failure::new(kind, "no");
            failure.status = StatusCode::from_u16(status).ok();
            is_callers(&Rejection::AttemptsFailed { attempts: 1, failure, is_futile: false })
        };
        assert!(failed(FailureKind::CallerFault, 400));
        assert!(failed(FailureKind::CallerFault, 422));
        assert!(failed(FailureKind::ContextTooLong, 413));
        assert!(failed(FailureKind::Policy, 400));
        for status in [402, 403, 408, 409, 429] {
            assert!(!failed(FailureKind::CallerFault, status), "{status}");
        }
        // Which models there are is the operator's business.
        assert!(!failed(FailureKind::NotServed, 404));
        assert!(!failed(FailureKind::RateLimited, 429));
        assert!(!failed(FailureKind::ServerFault, 500));
        assert!(!is_callers(&Rejection::invalid("model", "no")));
    }
}
