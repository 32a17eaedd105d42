//! `/admin/v1/compat/matrix/{prompt}`: what is known of each version on each model.

use std::collections::BTreeSet;

use axum::Json;
use axum::extract::{Path, State};
use serde::Serialize;

use super::{AdminState, Problem};
use crate::clock::rfc3339;
use crate::compat::{Depth, SidePrompt};
use crate::runs::{RunKind, RunRecord};

/// Versions by models.
#[derive(Debug, Serialize)]
pub(super) struct MatrixView {
    prompt: String,
    /// All that are registered, the newest first, and those of runs that are not any more.
    versions: Vec<String>,
    /// Models of runs, of `[[compat.matrix]]`, and those that versions are written for.
    models: Vec<String>,
    cells: Vec<CellView>,
}

/// The newest verdict of a version on a model; one that decided something, if there is such.
#[derive(Debug, Serialize)]
struct CellView {
    version: String,
    model: String,
    verdict: serde_json::Value,
    at: String,
    run: String,
    suite: String,
    depth: Depth,
    kind: RunKind,
    /// What it was held against, in words.
    against: String,
}

/// `GET /compat/matrix/{prompt}`
pub(super) async fn show(
    State(state): State<AdminState>,
    Path(prompt): Path<String>,
) -> Result<Json<MatrixView>, Problem> {
    let registered = state.registry.versions(&prompt)?;
    let runs = state.runs.newest_verdicts(&prompt).await?;
    let cells: Vec<_> = runs.iter().filter_map(CellView::of).collect();
    let mut versions: Vec<_> =
        registered.iter().map(|record| record.prompt.version.to_string()).collect();
    let mut models: BTreeSet<String> =
        registered.iter().filter_map(|record| record.prompt.target_model.clone()).collect();
    for cell in &cells {
        if !versions.contains(&cell.version) {
            versions.push(cell.version.clone());
        }
        models.insert(cell.model.clone());
    }
    let settings = state.runs.settings();
    let matrix = settings.matrix.iter().filter(|one| one.prompt == prompt);
    models.extend(matrix.flat_map(|one| one.models.iter().cloned()));
    let models = models.into_iter().collect();
    Ok(Json(MatrixView { prompt, versions, models, cells }))
}

// === impl CellView ===

impl CellView {
    fn of(run: &RunRecord) -> Option<Self> {
        let SidePrompt::Registered { version, .. } = &run.candidate.prompt else { return None };
        Some(Self {
            version: version.clone(),
            model: run.candidate.model.clone(),
            verdict: run.judgement.as_ref()?.get("verdict")?.clone(),
            at: rfc3339(run.ended_ms?),
            run: run.id.clone(),
            suite: run.suite.clone(),
            depth: run.depth,
            kind: run.kind,
            against: run.baseline.to_string(),
        })
    }
}
