//! `/admin/v1/compat/suites`: those beside registered prompts, and those that were pushed.

use std::path::PathBuf;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use http::{StatusCode, Uri};
use serde::Deserialize;

use super::view::SuiteView;
use super::{AdminState, By, Page, PageQuery, Problem, page};
use crate::compat::Same;
use crate::compat::report::counted;
use crate::compat::suite::Suite;
use crate::problems::{Problems, nearest};
use crate::prompt::Versions;
use crate::runs::{NewSuite, SuiteRow};

/// A suite, wherever it is from.
#[derive(Debug)]
pub(super) struct FoundSuite {
    pub(super) suite: Arc<Suite>,
    /// The registered prompt it belongs to.
    pub(super) prompt: Option<String>,
    created_ms: Option<u64>,
}

/// A suite that is pushed.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SuiteBody {
    id: String,
    #[serde(default)]
    prompt: Option<String>,
    text: String,
    /// What the file is called where it comes from, for problems.
    #[serde(default)]
    file: Option<String>,
    /// Says what would come of it, and keeps nothing.
    #[serde(default)]
    dry_run: bool,
}

/// More than any suite takes.
const MAX_SUITE_BYTES: usize = 16 << 20;
/// More than any id is long.
const MAX_ID_BYTES: usize = 64;
/// More than any path is long.
const MAX_FILE_BYTES: usize = 1_024;
/// Problems that one refusal names.
const MOST_PROBLEMS: usize = 20;
/// Suites that one refusal names.
const MOST_NAMED: usize = 20;

/// `POST /compat/suites`: what has the id already is replaced; runs keep to what they began with.
pub(super) async fn push(
    State(state): State<AdminState>,
    By(actor): By,
    body: Body,
) -> Result<Response, Problem> {
    let SuiteBody { id, prompt, text, file, dry_run } =
        page::body_within(body, MAX_SUITE_BYTES).await?;
    let file = file.unwrap_or_else(|| format!("{id}.yaml"));
    if file.len() > MAX_FILE_BYTES {
        return Err(Problem::invalid(format!("file: has over {MAX_FILE_BYTES} bytes")));
    }
    let files = vec![(PathBuf::from(file), text)];
    let suite = parsed(&id, &files)?;
    let notes = match &prompt {
        Some(prompt) => askable(&state, prompt, &suite)?,
        None => Vec::new(),
    };
    let notes: Vec<_> = notes.into_iter().chain(Same::in_words(&suite.same())).collect();
    let snapshot = state.snapshot.load_full();
    if dry_run {
        let view = SuiteView::of(&suite, prompt, None, &snapshot).pushed(notes);
        return Ok(Json(view).into_response());
    }
    let row = SuiteRow::of_files(id, prompt, suite.hash.clone(), &files, 0);
    let SuiteRow { id, prompt, hash, text, .. } = row;
    let row = state.runs.push_suite(NewSuite { id, prompt, hash, text }, &actor).await?;
    let view = SuiteView::of(&suite, row.prompt, Some(row.created_ms), &snapshot).pushed(notes);
    Ok(page::created(&view, 1, &format!("/compat/suites/{}", row.id)))
}

/// Holds cases against the versions of their prompt. What the newest cannot be asked is refused,
/// since no run would ever ask it; of older ones it is said.
fn askable(state: &AdminState, prompt: &str, suite: &Suite) -> Result<Vec<String>, Problem> {
    state.registry.versions(prompt)?;
    let prompts = state.registry.prompts();
    let of_prompt = prompts.versions(prompt).into_iter().flat_map(Versions::iter);
    let versions: Vec<_> = of_prompt.filter(|one| one.deprecated.is_none()).cloned().collect();
    if !suite.prompts.is_empty() {
        return Ok(Vec::new());
    }
    let mut notes = Vec::new();
    let newest = versions.iter().max_by_key(|one| one.version);
    for version in &versions {
        let unaskable = suite.unaskable(version);
        let Some((first, why)) = unaskable.first() else { continue };
        if newest.is_some_and(|newest| newest.version == version.version) {
            let told = unaskable.iter().map(|(case, why)| {
                format!("{} cannot be asked of {}: {why}", case.at(), version.name)
            });
            let told = told.chain(suite.misspelled(&versions)).collect();
            return Err(Problem::invalid(format!("text: {}", shown(told))));
        }
        let more = match unaskable.len() {
            1 => String::new(),
            count => format!(" and {}", counted(count as u64 - 1, "more case")),
        };
        notes.push(format!("{}{more} cannot be asked of {}: {why}", first.at(), version.name));
    }
    let mut misspelled = suite.misspelled(&versions);
    misspelled.truncate(MOST_PROBLEMS);
    notes.extend(misspelled);
    Ok(notes)
}

/// `GET /compat/suites`: by id.
pub(super) async fn list(
    State(state): State<AdminState>,
    uri: Uri,
) -> Result<Json<Page<SuiteView>>, Problem> {
    let (query, limit) = PageQuery::of(&uri)?;
    let snapshot = state.snapshot.load_full();
    let mut views = Vec::new();
    for row in state.runs.suites().await? {
        let suite = parsed(&row.id, &row.files())?;
        let created_ms = Some(row.created_ms).filter(|at_ms| *at_ms > 0);
        views.push(SuiteView::of(&suite, row.prompt, created_ms, &snapshot));
    }
    views.sort_by(|a, b| a.id.cmp(&b.id));
    let after = |view: &SuiteView| query.cursor.as_ref().is_none_or(|cursor| view.id > *cursor);
    let views = views.into_iter().filter(after).take(limit as usize).collect();
    Ok(Json(Page::of(views, limit, |view: &SuiteView| &view.id)))
}

/// `GET /compat/suites/{id}`
pub(super) async fn show(
    State(state): State<AdminState>,
    Path(id): Path<String>,
) -> Result<Json<SuiteView>, Problem> {
    let found = find(&state, &id).await?;
    let snapshot = state.snapshot.load_full();
    Ok(Json(SuiteView::of(&found.suite, found.prompt, found.created_ms, &snapshot)))
}

/// A suite by its id.
pub(super) async fn find(state: &AdminState, id: &str) -> Result<FoundSuite, Problem> {
    let snapshot = state.snapshot.load_full();
    if let Some(found) = snapshot.suites.get(id) {
        let (suite, prompt) = (Arc::clone(&found.suite), Some(id.to_owned()));
        return Ok(FoundSuite { suite, prompt, created_ms: None });
    }
    let Some(row) = state.runs.suite(id).await? else { return Err(unknown(state, id).await?) };
    let suite = Arc::new(parsed(id, &row.files())?);
    Ok(FoundSuite { suite, prompt: row.prompt, created_ms: Some(row.created_ms) })
}

/// That no suite has an id, and which there are.
async fn unknown(state: &AdminState, id: &str) -> Result<Problem, Problem> {
    let id: String = id.chars().take(MAX_ID_BYTES).collect();
    let rows = state.runs.suites().await?;
    let known: Vec<&str> = rows.iter().map(|row| row.id.as_str()).collect();
    let near = nearest(&id, known.iter().copied());
    let hint = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
    let more = match known.len().saturating_sub(MOST_NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let named: Vec<_> = known.iter().take(MOST_NAMED).map(|id| format!("`{id}`")).collect();
    let there_are = match named.is_empty() {
        true => "there are none yet".to_owned(),
        false => format!("there are {}{more}", named.join(", ")),
    };
    let detail = format!(
        "no suite has the id `{id}`{hint} ({there_are}); put cases into prompts/<id>/cases/*.yaml, or \
         push a file by `tidegate compat push`"
    );
    Ok(Problem::new(StatusCode::NOT_FOUND, "not_found", detail))
}

fn parsed(id: &str, files: &[(PathBuf, String)]) -> Result<Suite, Problem> {
    let mut problems = Problems::new();
    Suite::parse(id, files, &mut problems).ok_or_else(|| {
        Problem::invalid(format!(
            "text: {}",
            shown(problems.iter().map(ToString::to_string).collect())
        ))
    })
}

/// Problems in lines, and how many more there are.
fn shown(all: Vec<String>) -> String {
    let more = match all.len().saturating_sub(MOST_PROBLEMS) {
        0 => String::new(),
        more => format!("\nand {more} more"),
    };
    let shown = all.get(..MOST_PROBLEMS).unwrap_or(&all).join("\n");
    format!("{shown}{more}")
}
