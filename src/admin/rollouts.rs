//! `/admin/v1/rollouts`: a prompt version or a route's model that takes another one's place step by
//! step.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::Response;
use http::{HeaderMap, StatusCode, Uri};
use serde::Deserialize;

use super::AdminState;
use super::actor::By;
use super::page::{self, Page, PageQuery};
use super::problem::Problem;
use crate::journal::RequestFilter;
use crate::policy::rollout::{Event, Share};
use crate::prompt::Prompts;
use crate::rollout::{Command, FreezeWindow, Record, Subject};

mod new;
mod view;

use new::{NewBody, Side, check_subject};
use view::{RolloutView, Serving, SummaryView, Traffic};

/// What the candidate shall serve.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SetBody {
    percent: f64,
    #[serde(default)]
    reason: Option<String>,
}

/// Why something is done.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ReasonBody {
    reason: Option<String>,
}

/// Decisions that a view has.
const DECISIONS: u32 = 50;
/// How far back traffic is counted, in milliseconds.
const HOUR_MS: u64 = 3_600_000;
/// The longest reason.
const MAX_REASON_CHARS: usize = 500;
/// What can be done with a rollout.
const VERBS: [&str; 6] = ["pause", "resume", "promote", "rollback", "freeze", "thaw"];

/// `POST /rollouts`
pub(super) async fn create(
    State(state): State<AdminState>,
    By(actor): By,
    body: Body,
) -> Result<Response, Problem> {
    let body: NewBody = page::body(body).await?;
    let earlier = match &body.after {
        Some(id) => Some(state.rollouts.find(id).await?),
        None => None,
    };
    let snapshot = state.snapshot.load_full();
    if body.is_of_prompt() {
        // A version that was pushed to another node a moment ago. A store that is away says so
        // below.
        let _ = state.registry.load().await;
    }
    let prompts = prompts(&state);
    let (subject, content) = check_subject(&body.side(earlier.as_ref())?, &snapshot, &prompts)?;
    let new = body.new_rollout(subject.clone(), content)?;
    let meets = |other: &Subject| may_meet(&subject, other, &prompts);
    let record = state.rollouts.begin(new, freeze(&state), &actor, meets).await?;
    let view = full_view(&state, &record).await?;
    let path = format!("/rollouts/{}", record.id);
    Ok(page::created(&view, record.rollout.revision(), &path))
}

/// `GET /rollouts`
pub(super) async fn list(
    State(state): State<AdminState>,
    uri: Uri,
) -> Result<Json<Page<SummaryView>>, Problem> {
    let (query, limit) = PageQuery::of(&uri)?;
    let standing = state.rollouts.list(query.cursor.as_deref(), limit).await?;
    let views = standing.iter().map(SummaryView::of).collect();
    Ok(Json(Page::of(views, limit, SummaryView::id)))
}

/// `GET /rollouts/{id}`
pub(super) async fn show(
    State(state): State<AdminState>,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let record = state.rollouts.find(&id).await?;
    let view = full_view(&state, &record).await?;
    Ok(page::versioned(StatusCode::OK, &view, record.rollout.revision()))
}

/// `PATCH /rollouts/{id}`: sets what the candidate serves.
pub(super) async fn set(
    State(state): State<AdminState>,
    Path(id): Path<String>,
    By(actor): By,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let SetBody { percent, reason } = page::body(body).await?;
    let event = Event::SetShare(share("percent", percent)?);
    let command = Command { event, if_revision: page::if_match(&headers)?, reason: said(reason)? };
    let record = state.rollouts.command(&id, &command, freeze(&state), &actor).await?;
    let view = full_view(&state, &record).await?;
    Ok(page::versioned(StatusCode::OK, &view, record.rollout.revision()))
}

/// `POST /rollouts/{id}/{verb}`: `pause`, `resume`, `promote`, `rollback`, `freeze` or `thaw`.
pub(super) async fn act(
    State(state): State<AdminState>,
    Path((id, verb)): Path<(String, String)>,
    By(actor): By,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let reason = said(page::optional_body::<ReasonBody>(body).await?.reason)?;
    let event = match verb.as_str() {
        "pause" => Event::Pause,
        "resume" => Event::Resume,
        "promote" => Event::Promote,
        "rollback" => {
            Event::RollBack(reason.clone().unwrap_or_else(|| "no reason given".to_owned()))
        }
        "freeze" => Event::Freeze,
        "thaw" => Event::Thaw,
        other => {
            let other: String = other.chars().take(40).collect();
            let detail = format!("`{other}` cannot be done; there is {}", VERBS.join(", "));
            return Err(Problem::new(StatusCode::NOT_FOUND, "not_found", detail));
        }
    };
    let command = Command { event, if_revision: page::if_match(&headers)?, reason };
    let record = state.rollouts.command(&id, &command, freeze(&state), &actor).await?;
    let view = full_view(&state, &record).await?;
    Ok(page::versioned(StatusCode::OK, &view, record.rollout.revision()))
}

/// Registered prompts as they are now.
fn prompts(state: &AdminState) -> Arc<Prompts> {
    state.registry.prompts()
}

/// The freeze of the configuration that holds now.
fn freeze(state: &AdminState) -> Option<FreezeWindow> {
    let snapshot = state.snapshot.load();
    let freeze = snapshot.settings.rollouts.freeze_at(state.clock.unix_ms())?;
    Some((freeze.to.clone(), freeze.why.clone()))
}

/// A percentage of a body.
fn share(parameter: &str, percent: f64) -> Result<Share, Problem> {
    let share = Share::from_percent(percent)
        .map_err(|error| Problem::invalid(format!("{parameter}: {error}")))?;
    if (share.percent() - percent).abs() > 1e-9 {
        let detail =
            format!("{parameter}: a percentage is from 0 to 100 in steps of 0.01, not {percent}");
        return Err(Problem::invalid(detail));
    }
    Ok(share)
}

fn said(reason: Option<String>) -> Result<Option<String>, Problem> {
    match reason {
        Some(reason) if reason.chars().count() > MAX_REASON_CHARS => {
            Err(Problem::invalid(format!("reason: is longer than {MAX_REASON_CHARS} characters")))
        }
        Some(reason) => Ok(Some(reason.trim().to_owned()).filter(|reason| !reason.is_empty())),
        None => Ok(None),
    }
}

/// Whether two rollouts may be about the same requests, so that nobody could tell whose doing a
/// regression is: a prompt's and a route's, unless both versions of the prompt say that they go
/// elsewhere.
fn may_meet(one: &Subject, other: &Subject, prompts: &Prompts) -> bool {
    let (prompt, route) = match (one, other) {
        (Subject::Prompt { .. }, Subject::Route { name, .. }) => (one, name),
        (Subject::Route { name, .. }, Subject::Prompt { .. }) => (other, name),
        (Subject::Prompt { .. }, Subject::Prompt { .. })
        | (Subject::Route { .. }, Subject::Route { .. }) => return false,
    };
    let Subject::Prompt { id, from, to } = prompt else { return false };
    let goes_elsewhere = |version| {
        let found = prompts.find(id.as_str(), &crate::prompt::Wanted::Exact(version));
        let target = found.ok().and_then(|prompt| prompt.target_model.as_deref());
        target.is_some_and(|target| target != route.as_str())
    };
    !(goes_elsewhere(*from) && goes_elsewhere(*to))
}

/// A rollout with all there is to say about it.
async fn full_view(state: &AdminState, record: &Record) -> Result<RolloutView, Problem> {
    let decisions = state.rollouts.decisions(&record.id, DECISIONS).await?;
    let nodes = state.rollouts.nodes(&record.id).await?;
    let steering = state.rollouts.rollouts().steering();
    let steered = match &record.subject {
        Subject::Prompt { id, .. } => steering.prompts.get(id),
        Subject::Route { name, .. } => steering.routes.get(name),
    };
    let steered = steered.filter(|steered| *steered.id == record.id).map(Arc::clone);
    let now_ms = state.clock.unix_ms();
    let (route, prompt) = match &record.subject {
        Subject::Prompt { id, .. } => (None, Some(id.to_string())),
        Subject::Route { name, .. } => (Some(name.to_string()), None),
    };
    let since_ms = Some(now_ms.saturating_sub(HOUR_MS));
    let filter = RequestFilter { route, prompt, since_ms, ..RequestFilter::default() };
    let sums = state.journal.usage(&filter, &[], 1).await?;
    let traffic = Traffic { last_hour: sums.first().map_or(0, |sum| sum.requests) };
    let serving = Serving { steered, nodes };
    let view = RolloutView::of(record, &decisions, serving, traffic, freeze(state));
    Ok(view.gated(&state.rollouts.bound_now(record).await?))
}

impl Side {
    /// Neither side is given.
    fn missing(what: &'static str) -> Problem {
        Problem::invalid(format!(
            "{what}: say what is rolled out: \"prompt\" or \"route\", \"from\" and \"to\""
        ))
    }
}
