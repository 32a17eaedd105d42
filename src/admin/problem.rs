//! Errors of the admin API: problem details (RFC 9457).

use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{HeaderName, StatusCode};
use serde_json::{Value, json};

use crate::callers::KeyError;
use crate::policy::rollout::Refusal;
use crate::problems::Problems;
use crate::rejection::Rejection;
use crate::rollout::RolloutError;
use crate::runs::RunsError;
use crate::store::StoreError;

/// Why a request was refused. `code` is for programs, `detail` for people.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: String,
    /// Further members of the reply.
    more: Vec<(&'static str, Value)>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

// === impl Problem ===

impl Problem {
    pub(super) fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into(), more: Vec::new(), headers: Vec::new() }
    }

    /// Something is wrong with what was sent.
    pub(super) fn invalid(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request", detail)
    }

    /// The same in the words of the data plane.
    pub(super) fn from_rejection(rejection: &Rejection) -> Self {
        let face = rejection.face();
        let mut problem = Self::new(face.status, face.code, rejection.to_string());
        if let Some(after) = rejection.retry_after() {
            problem.headers.push((RETRY_AFTER, HeaderValue::from(after.as_secs().max(1))));
        }
        problem
    }

    /// A configuration that was not taken.
    pub(super) fn from_problems(problems: &Problems) -> Self {
        let detail = "the configuration has problems; the old one stays";
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_config", detail).listing(problems)
    }

    /// Adds each of several problems, with its place.
    pub(super) fn listing(mut self, problems: &Problems) -> Self {
        let list: Vec<_> = problems
            .iter()
            .map(|one| {
                json!({
                    "file": one.file.display().to_string(),
                    "line": one.line,
                    "key": one.key.as_str(),
                    "message": one.message,
                })
            })
            .collect();
        self.more.push(("problems", Value::from(list)));
        self
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        // The whole chain goes to the log; operators see it in `/health` as well.
        tracing::error!(error = %error.chain(), "admin request failed");
        let mut problem =
            Self::new(StatusCode::SERVICE_UNAVAILABLE, "store_unavailable", error.to_string());
        problem.headers.push((RETRY_AFTER, HeaderValue::from(1)));
        problem
    }
}

impl From<KeyError> for Problem {
    fn from(error: KeyError) -> Self {
        let detail = error.to_string();
        match error {
            KeyError::Unknown { .. } => Self::new(StatusCode::NOT_FOUND, "unknown_key", detail),
            KeyError::UnknownTeam { .. } => {
                Self::new(StatusCode::NOT_FOUND, "unknown_team", detail)
            }
            KeyError::TeamInUse { .. } => Self::new(StatusCode::CONFLICT, "team_in_use", detail),
            KeyError::Revoked => Self::new(StatusCode::CONFLICT, "key_revoked", detail),
            KeyError::Terms(_) => Self::invalid(detail),
            KeyError::Changed { .. } => {
                Self::new(StatusCode::PRECONDITION_FAILED, "changed_meanwhile", detail)
            }
            KeyError::Name(_) => Self::invalid(format!("name: {detail}")),
            KeyError::Store(error) => Self::from(error),
        }
    }
}

impl From<RolloutError> for Problem {
    fn from(error: RolloutError) -> Self {
        let detail = error.to_string();
        let conflict = |code| Self::new(StatusCode::CONFLICT, code, detail.clone());
        match error {
            RolloutError::Unknown { .. } => {
                Self::new(StatusCode::NOT_FOUND, "unknown_rollout", detail)
            }
            RolloutError::Changed { .. } => {
                Self::new(StatusCode::PRECONDITION_FAILED, "changed_meanwhile", detail)
            }
            RolloutError::Busy { .. } => conflict("rollout_busy"),
            RolloutError::Meets { .. } => conflict("rollouts_meet"),
            RolloutError::Quarantined { .. } => conflict("quarantined"),
            RolloutError::FreezeWindow { .. } => conflict("frozen"),
            RolloutError::Incompatible { .. } | RolloutError::Bounded { .. } => {
                conflict("incompatible")
            }
            RolloutError::Refused(refusal) => match refusal {
                Refusal::Over => conflict("rollout_over"),
                Refusal::Frozen => conflict("frozen"),
                Refusal::Bounded => conflict("incompatible"),
                Refusal::NotPaused => conflict("not_paused"),
                Refusal::Paused => conflict("paused"),
            },
            RolloutError::Contended => conflict("contended"),
            RolloutError::Plan(_) => Self::invalid(detail),
            RolloutError::Store(error) => Self::from(error),
        }
    }
}

impl From<RunsError> for Problem {
    fn from(error: RunsError) -> Self {
        let detail = error.to_string();
        let conflict = |code| Self::new(StatusCode::CONFLICT, code, detail.clone());
        match error {
            RunsError::UnknownRun(_) => Self::new(StatusCode::NOT_FOUND, "unknown_run", detail),
            RunsError::UnknownSuite(_) => Self::new(StatusCode::NOT_FOUND, "unknown_suite", detail),
            RunsError::UnknownRecording(_) => {
                Self::new(StatusCode::NOT_FOUND, "unknown_recording", detail)
            }
            RunsError::Recorded(_) => conflict("already_recorded"),
            RunsError::SuiteOfFiles(_) => conflict("suite_of_files"),
            RunsError::Over(_) => conflict("run_over"),
            RunsError::TooMany { .. } => conflict("too_many_runs"),
            RunsError::Invalid { .. } => Self::invalid(detail),
            RunsError::NoJudge => {
                let mut problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, "no_judge", detail);
                problem.headers.push((RETRY_AFTER, HeaderValue::from(1)));
                problem
            }
            RunsError::Store(error) => Self::from(error),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut body = json!({
            // No page describes each problem, and then this is what the RFC asks for.
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or("Error"),
            "status": self.status.as_u16(),
            "detail": self.detail,
            "code": self.code,
        });
        if let Some(members) = body.as_object_mut() {
            members.extend(self.more.into_iter().map(|(name, value)| (name.to_owned(), value)));
        }
        let mut response = (self.status, body.to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.extend(self.headers);
        response
    }
}
