//! Which requests a question is about: parameters that `/requests` and `/usage` have in common.

use http::Uri;

use super::problem::Problem;
use super::{page, requests};
use crate::journal::{EndpointKind, RequestFilter};
use crate::units::Priority;

/// A query taken apart: which requests, and what else was asked.
#[derive(Debug, Default)]
pub(super) struct Question {
    pub(super) filter: RequestFilter,
    own: Vec<(String, String)>,
}

/// More tags than anybody filters by; each is another condition.
const MAX_TAGS: usize = 8;

// === impl Question ===

impl Question {
    /// Reads a query string. Beside the common parameters it may have those that are `own`; each is
    /// given at most once.
    pub(super) fn of(uri: &Uri, own: &[&str]) -> Result<Self, Problem> {
        let pairs: Vec<(String, String)> = page::query(uri)?;
        let mut question = Self::default();
        for (at, (name, value)) in pairs.iter().enumerate() {
            if pairs.iter().take(at).any(|(before, _)| before == name) {
                return Err(Problem::invalid(format!("query: duplicate field `{name}`")));
            }
            if own.contains(&name.as_str()) {
                question.own.push((name.clone(), value.clone()));
            } else {
                question.restrict(name, value)?;
            }
        }
        Ok(question)
    }

    /// The value of a parameter of one's own.
    pub(super) fn own(&self, name: &str) -> Option<&str> {
        self.own.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    fn restrict(&mut self, name: &str, value: &str) -> Result<(), Problem> {
        let filter = &mut self.filter;
        let text = Some(value.to_owned());
        match name {
            "caller" | "key" => filter.caller = text,
            "team" => filter.team = text,
            "route" => filter.route = text,
            "prompt" => filter.prompt = text,
            "rollout" => filter.rollout = text,
            "arm" => filter.arm = Some(requests::arm(value)?.as_str().to_owned()),
            "target" => filter.target = text,
            "provider" => filter.provider = text,
            "model" => filter.model = text,
            "endpoint" => filter.endpoint = Some(endpoint(value)?),
            "outcome" => filter.outcome = Some(requests::outcome(value)?),
            "priority" => filter.priority = Some(priority(value)?),
            "since" => filter.since_ms = page::time_ms("since", Some(value))?,
            "until" => filter.until_ms = page::time_ms("until", Some(value))?,
            _ => match name.strip_prefix("tag:").filter(|tag| !tag.is_empty()) {
                Some(_) if filter.tags.len() == MAX_TAGS => {
                    return Err(Problem::invalid(format!("query: more than {MAX_TAGS} tags")));
                }
                Some(tag) => filter.tags.push((tag.to_owned(), value.to_owned())),
                None => return Err(Problem::invalid(format!("query: unknown field `{name}`"))),
            },
        }
        Ok(())
    }
}

fn priority(text: &str) -> Result<Priority, Problem> {
    let level = text.parse::<u64>().ok().and_then(|level| Priority::try_from(level).ok());
    level.ok_or_else(|| Problem::invalid(format!("priority: `{text}` is no number from 0 to 4")))
}

fn endpoint(name: &str) -> Result<String, Problem> {
    let known = EndpointKind::ALL.into_iter().find(|kind| kind.as_str() == name);
    known.map(|kind| kind.as_str().to_owned()).ok_or_else(|| {
        let all = EndpointKind::ALL.map(EndpointKind::as_str).join(", ");
        Problem::invalid(format!("endpoint: `{name}` is none of {all}"))
    })
}
