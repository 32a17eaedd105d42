//! `/admin/v1/compat/runs/{id}/cases`: the cases of a run, to be kept as incidents.

use std::collections::HashSet;

use axum::Json;
use axum::extract::{Path, State};
use http::Uri;
use serde::{Deserialize, Serialize};
use serde_json::{Map, json};

use super::report::{Frozen, each_case};
use super::{AdminState, Problem, page};
use crate::compat::report::CaseAnswers;
use crate::compat::suite::{Case, NewCase, write_cases};
use crate::runs::RunRecord;

/// Which cases are wanted.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct CasesQuery {
    /// Only those that the candidate mostly fails.
    failing: bool,
    /// What the incident is called.
    incident: Option<String>,
}

/// Cases as a file.
#[derive(Debug, Serialize)]
pub(super) struct CasesView {
    run: String,
    suite: String,
    cases: usize,
    /// Those that are incidents already.
    left_out: usize,
    /// In promptfoo's YAML.
    text: String,
}

/// What the ids of incidents end with, so that they may stand beside the cases that they were.
const SUFFIX: &str = "-incident";
/// The longest that stands before it.
const MAX_ID_CHARS: usize = 70;
/// The longest name of an incident.
const MAX_INCIDENT_BYTES: usize = 256;

/// `GET /compat/runs/{id}/cases`
pub(super) async fn list(
    State(state): State<AdminState>,
    Path(id): Path<String>,
    uri: Uri,
) -> Result<Json<CasesView>, Problem> {
    let query: CasesQuery = page::query(&uri)?;
    if query.incident.as_ref().is_some_and(|name| !(1..=MAX_INCIDENT_BYTES).contains(&name.len())) {
        let problem = format!("incident: must have 1 to {MAX_INCIDENT_BYTES} bytes");
        return Err(Problem::invalid(problem));
    }
    let record = state.runs.find(&id).await?;
    let frozen = Frozen::read(&state, &record).await?;
    let mut asked = HashSet::new();
    each_case(&state, &record, &frozen, |case, _| {
        if !query.failing || is_failed(&case) {
            asked.insert(case.id);
        }
    })
    .await?;
    let all = frozen.suite.iter().flat_map(|suite| &suite.cases);
    let wanted: Vec<&Case> = all.clone().filter(|case| asked.contains(&case.id)).collect();
    let known: HashSet<&str> = all.map(|case| case.id.as_str()).collect();
    let is_new = |case: &&&Case| case.incident.is_none() && !known.contains(id_of(case).as_str());
    let cases: Vec<NewCase> = wanted
        .iter()
        .filter(is_new)
        .map(|case| incident(case, &record, query.incident.as_deref()))
        .collect();
    Ok(Json(CasesView {
        left_out: wanted.len() - cases.len(),
        cases: cases.len(),
        text: write_cases(&cases),
        run: record.id,
        suite: record.suite,
    }))
}

/// Whether the candidate passes it in half of its answers at most.
fn is_failed(case: &CaseAnswers) -> bool {
    let grades = || case.candidate.iter().filter_map(|one| one.grade.as_ref());
    let passed = grades().filter(|grade| grade.passed).count();
    let count = grades().count();
    count > 0 && 2 * passed <= count
}

fn id_of(case: &Case) -> String {
    let start: String = case.id.chars().take(MAX_ID_CHARS).collect();
    format!("{start}{SUFFIX}")
}

fn incident(case: &Case, record: &RunRecord, name: Option<&str>) -> NewCase {
    let candidate = &record.candidate;
    let mut metadata = Map::new();
    metadata.insert("run".to_owned(), json!(record.id));
    metadata.insert("failed_by".to_owned(), json!(candidate.to_string()));
    if let Some(reference) = &case.reference {
        metadata.insert("reference".to_owned(), json!(reference));
    }
    let named = || format!("failed by {candidate}");
    NewCase {
        id: id_of(case),
        description: case.description.clone(),
        category: case.category,
        is_critical: case.is_critical,
        incident: Some(name.map_or_else(named, str::to_owned)),
        tags: case.tags.clone(),
        metadata,
        vars: case.vars.clone(),
        asserts: case.asserts(),
        threshold: case.threshold(),
    }
}
