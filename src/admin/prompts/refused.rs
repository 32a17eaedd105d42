//! What the registry refuses, as replies.

use http::StatusCode;

use super::super::problem::Problem;
use crate::registry::RegistryError;

impl From<RegistryError> for Problem {
    fn from(error: RegistryError) -> Self {
        use StatusCode as S;
        let detail = error.to_string();
        match error {
            RegistryError::UnknownPrompt { .. } => {
                Self::new(S::NOT_FOUND, "unknown_prompt", detail)
            }
            RegistryError::UnknownVersion { .. } => {
                Self::new(S::NOT_FOUND, "unknown_version", detail)
            }
            RegistryError::UnknownLabel { .. } => Self::new(S::NOT_FOUND, "unknown_label", detail),
            RegistryError::Invalid(problems) => {
                Self::new(S::UNPROCESSABLE_ENTITY, "invalid_prompt", detail).listing(&problems)
            }
            RegistryError::Exists { .. } => Self::new(S::CONFLICT, "version_exists", detail),
            RegistryError::Number(_) => {
                Self::new(S::UNPROCESSABLE_ENTITY, "wrong_version_number", detail)
            }
            RegistryError::Full(_) => Self::new(S::CONFLICT, "registry_full", detail),
            RegistryError::Changed { .. } => {
                Self::new(S::PRECONDITION_FAILED, "changed_meanwhile", detail)
            }
            RegistryError::Protected { .. } => Self::new(S::CONFLICT, "label_protected", detail),
            RegistryError::RollingOut { .. } => Self::new(S::CONFLICT, "rolling_out", detail),
            RegistryError::Field(_) => Self::invalid(detail),
            RegistryError::Store(error) => Self::from(error),
        }
    }
}
