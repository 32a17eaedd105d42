//! `/admin/v1/prompts`: registered prompts and their versions. They are read from memory, so that
//! they can be seen while the store is away.

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::{MethodFilter, MethodRouter, on};
use http::{HeaderMap, StatusCode, Uri};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::AdminState;
use super::actor::By;
use super::page::{self, Page, PageQuery};
use super::problem::Problem;
use crate::callers::present;
use crate::clock::rfc3339;
use crate::prompt::{Deprecation, Difference, Prompt, Version, Wanted};
use crate::registry::{DeprecationChange, RegistryError, VersionRecord};

mod labels;
mod refused;
mod view;

use view::{PromptView, VersionSummary, VersionView};

/// A version that is pushed: its number, and what its file would say.
#[derive(Debug, Deserialize)]
struct PushBody {
    version: String,
    #[serde(flatten)]
    content: Map<String, Value>,
}

/// What is changed of a version.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct VersionBody {
    #[serde(deserialize_with = "present")]
    deprecated_at: Option<Option<String>>,
    deprecation_reason: Option<String>,
}

/// Which two versions are compared.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DiffQuery {
    from: String,
    to: String,
}

/// What differs between two versions.
#[derive(Debug, Serialize)]
struct DiffView {
    prompt: String,
    from: String,
    to: String,
    /// The least step of the number that says it: `no`, `PATCH`, `MINOR` or `MAJOR`.
    change: &'static str,
    what: Vec<String>,
    lines: String,
}

/// More than any version takes, and its number.
const MAX_PUSH_BYTES: usize = Prompt::MAX_CONTENT_BYTES + 1_024;

/// Every route: its method, its path, and who answers.
pub(super) fn routes() -> Vec<(MethodFilter, &'static str, MethodRouter<AdminState>)> {
    use MethodFilter as M;
    let (versions, version) = ("/prompts/{id}/versions", "/prompts/{id}/versions/{version}");
    let label = "/prompts/{id}/labels/{label}";
    vec![
        (M::GET, "/prompts", on(M::GET, list)),
        (M::GET, versions, on(M::GET, list_versions)),
        (M::POST, versions, on(M::POST, push)),
        (M::GET, version, on(M::GET, show)),
        (M::PATCH, version, on(M::PATCH, change)),
        (M::GET, "/prompts/{id}/diff", on(M::GET, diff)),
        (M::GET, "/prompts/{id}/labels", on(M::GET, labels::list)),
        (M::GET, label, on(M::GET, labels::show)),
        (M::PUT, label, on(M::PUT, labels::set)),
        (M::DELETE, label, on(M::DELETE, labels::delete)),
        (M::GET, "/prompts/{id}/labels/{label}/history", on(M::GET, labels::history)),
    ]
}

/// `GET /prompts`: by id.
async fn list(
    State(state): State<AdminState>,
    uri: Uri,
) -> Result<Json<Page<PromptView>>, Problem> {
    let (query, limit) = PageQuery::of(&uri)?;
    let prompts = state.registry.prompts();
    let after = |id: &str| query.cursor.as_deref().is_none_or(|cursor| id > cursor);
    let views = prompts
        .iter()
        .filter(|(id, _)| after(id.as_str()))
        .take(limit as usize)
        .map(|(id, versions)| PromptView::of(id, versions));
    Ok(Json(Page::of(views.collect(), limit, |view: &PromptView| &view.id)))
}

/// `GET /prompts/{id}/versions`: newest first.
async fn list_versions(
    State(state): State<AdminState>,
    Path(id): Path<String>,
    uri: Uri,
) -> Result<Json<Page<VersionSummary>>, Problem> {
    let (query, limit) = PageQuery::of(&uri)?;
    let below = query.cursor.as_deref().map(parsed).transpose()?;
    let records = state.registry.versions(&id)?;
    let views = records
        .iter()
        .filter(|record| below.is_none_or(|below| record.prompt.version < below))
        .take(limit as usize)
        .map(VersionSummary::of);
    Ok(Json(Page::of(views.collect(), limit, |view: &VersionSummary| &view.version)))
}

/// `POST /prompts/{id}/versions`
async fn push(
    State(state): State<AdminState>,
    Path(id): Path<String>,
    By(actor): By,
    body: Body,
) -> Result<Response, Problem> {
    let PushBody { version, content } = page::body_within(body, MAX_PUSH_BYTES).await?;
    let id = Prompt::checked_id(&id).map_err(Problem::invalid)?;
    let number = parsed(&version)?;
    let prompt = Prompt::of_json(&id, number, Value::Object(content));
    let prompt = prompt.map_err(RegistryError::Invalid)?;
    let pushed = state.registry.push(&prompt, &actor, state.clock.unix_ms()).await?;
    let (record, is_new) = pushed;
    let view = VersionView::of(&record);
    Ok(match is_new {
        true => page::created(&view, record.changed, &format!("/prompts/{id}/versions/{number}")),
        false => page::versioned(StatusCode::OK, &view, record.changed),
    })
}

/// `GET /prompts/{id}/versions/{version}`: a version, or what a range or a label means now.
async fn show(
    State(state): State<AdminState>,
    Path((id, version)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let record = found(&state, &id, &version)?;
    Ok(page::versioned(StatusCode::OK, &VersionView::of(&record), record.changed))
}

/// `PATCH /prompts/{id}/versions/{version}`: that it should not be used any more.
async fn change(
    State(state): State<AdminState>,
    Path((id, version)): Path<(String, String)>,
    By(actor): By,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let body: VersionBody = page::body(body).await?;
    let version = parsed(&version)?;
    let if_changed = page::if_match(&headers)?;
    let now_ms = state.clock.unix_ms();
    let change = DeprecationChange { to: body.deprecation(now_ms)?, if_changed };
    let record = state.registry.deprecate(&id, version, &change, &actor, now_ms).await?;
    Ok(page::versioned(StatusCode::OK, &VersionView::of(&record), record.changed))
}

/// `GET /prompts/{id}/diff`
async fn diff(
    State(state): State<AdminState>,
    Path(id): Path<String>,
    uri: Uri,
) -> Result<Json<DiffView>, Problem> {
    let DiffQuery { from, to } = page::query(&uri)?;
    let (from, to) = (found(&state, &id, &from)?.prompt, found(&state, &id, &to)?.prompt);
    let Difference { change, what, lines } = Difference::between(&from, &to);
    let (from, to) = (from.version.to_string(), to.version.to_string());
    Ok(Json(DiffView { prompt: id, from, to, change: change.as_str(), what, lines }))
}

fn found(state: &AdminState, id: &str, version: &str) -> Result<VersionRecord, Problem> {
    let wanted = Wanted::parse(version)
        .map_err(|problem| Problem::invalid(format!("version: {problem}")))?;
    let prompts = state.registry.prompts();
    let prompt = prompts.find(id, &wanted).map_err(|unfound| {
        let code =
            if prompts.versions(id).is_some() { "unknown_version" } else { "unknown_prompt" };
        Problem::new(StatusCode::NOT_FOUND, code, unfound.problem)
    })?;
    Ok(state.registry.version(id, prompt.version)?)
}

/// A whole version of three numbers.
fn parsed(text: &str) -> Result<Version, Problem> {
    text.parse().map_err(|()| {
        let shown: String = text.chars().take(40).collect();
        Problem::invalid(format!("version: {shown:?} is no version; write one like 1.2.0"))
    })
}

// === impl VersionBody ===

impl VersionBody {
    fn deprecation(self, now_ms: u64) -> Result<Option<Deprecation>, Problem> {
        let today = || rfc3339(now_ms).chars().take("2026-11-02".len()).collect();
        let reason = self.deprecation_reason;
        let at = match (self.deprecated_at, &reason) {
            (Some(None), None) => return Ok(None),
            (Some(None), Some(_)) => {
                return Err(Problem::invalid("deprecation_reason: of what is not deprecated"));
            }
            (None, None) => {
                return Err(Problem::invalid(
                    "deprecated_at: missing; that a version is deprecated is all that changes of it",
                ));
            }
            (Some(Some(at)), _) => at,
            (None, Some(_)) => today(),
        };
        Deprecation::new(&at, &reason.unwrap_or_default()).map(Some).map_err(Problem::invalid)
    }
}
