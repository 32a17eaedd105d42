//! What begins a run: the body of `POST /compat/runs`, and what it leaves to be guessed.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::Map;

use super::suites::FoundSuite;
use super::{AdminState, Problem};
use crate::callers::Caller;
use crate::compat::suite::{Suite, SuiteModel};
use crate::compat::{Depth, Only, Side, SidePrompt};
use crate::prompt::{Change, Prompt, Prompts, Version, Versions, Wanted};
use crate::runs::{NewRun, RunKind};
use crate::units::UsdAmount;

/// What is asked for. What is not said is guessed as the documentation says.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct NewBody {
    pub(super) suite: String,
    /// A version, range or label; a number or label of the suite's own prompts.
    from: Option<String>,
    to: Option<String>,
    from_model: Option<String>,
    to_model: Option<String>,
    depth: Option<Depth>,
    /// `incidents`, a tag or an incident: only these cases are asked.
    only: Option<String>,
    samples: Option<u32>,
    seed: Option<u64>,
    max_cost_usd: Option<UsdAmount>,
}

/// The label of what is served today.
const PRODUCTION: &str = "production";
/// Tags that a refusal names.
const MOST_NAMES: usize = 20;

// === impl NewBody ===

impl NewBody {
    /// The run that is meant.
    pub(super) fn run(&self, state: &AdminState, found: &FoundSuite) -> Result<NewRun, Problem> {
        let snapshot = state.snapshot.load_full();
        let settings = &snapshot.settings.compat;
        let prompts = state.registry.prompts();
        let (baseline, candidate, depth) = match &found.prompt {
            Some(id) if found.suite.prompts.is_empty() => self.of_versions(id, &prompts)?,
            Some(_) | None => self.of_suite(&found.suite)?,
        };
        if baseline == candidate {
            return Err(Problem::invalid(format!(
                "from, to: both are {baseline}, and there is nothing to compare; say which version \
                 (`to`) or which model (`to_model`) may take its place"
            )));
        }
        let asked = [
            (&baseline, "from_model", self.from_model.is_some()),
            (&candidate, "to_model", self.to_model.is_some()),
        ];
        for (side, parameter, is_named) in asked {
            let asks = snapshot.resolve_for(&Caller::gateway(), &side.model);
            asks.map_err(|rejection| {
                let (model, why) = (&side.model, rejection.to_string());
                Problem::invalid(match is_named {
                    true => format!("{parameter}: `{model}` cannot be asked: {why}"),
                    false => format!(
                        "{parameter}: `{model}`, which {side} was written for, cannot be asked: {why}; \
                         from_model and to_model name others, and --model of the command line both"
                    ),
                })
            })?;
        }
        if self.samples.is_some_and(|samples| !(1..=100).contains(&samples)) {
            return Err(Problem::invalid("samples: must be from 1 to 100"));
        }
        if self.max_cost_usd.is_some_and(|usd| usd.0.0 == 0) {
            return Err(Problem::invalid("max_cost_usd: must be more than 0"));
        }
        let only = self.only(&found.suite)?;
        Ok(NewRun {
            kind: RunKind::Asked,
            suite: self.suite.clone(),
            baseline,
            candidate,
            // Of some cases all are asked, unless it is said otherwise.
            depth: self.depth.unwrap_or(if only.is_some() { Depth::Full } else { depth }),
            only,
            samples: self.samples.unwrap_or(settings.samples),
            seed: self.seed.unwrap_or_else(|| u64::from(rand::random::<u32>())),
            max_cost_micro_usd: self.max_cost_usd.map(|amount| amount.0.0),
        })
    }

    /// The cases that alone are asked, of which there must be some.
    fn only(&self, suite: &Suite) -> Result<Option<Only>, Problem> {
        let Some(text) = &self.only else { return Ok(None) };
        let only = Only::parse(text).map_err(|why| Problem::invalid(format!("only: {why}")))?;
        if suite.cases.iter().any(|case| only.takes(case)) {
            return Ok(Some(only));
        }
        let id = &suite.id;
        let mut names: Vec<_> = suite.cases.iter().flat_map(|case| &case.tags).collect();
        names.sort();
        names.dedup();
        let names: Vec<_> =
            names.into_iter().take(MOST_NAMES).map(|tag| format!("`{tag}`")).collect();
        let tags = match names.is_empty() {
            true => "it has no tags".to_owned(),
            false => format!("it has the tags {}", names.join(", ")),
        };
        Err(Problem::invalid(match only.is_of_incidents() {
            true => format!(
                "only: no case of `{id}` has `metadata.incident`; `tidegate compat cases RUN --failing` \
                 makes such cases of a run"
            ),
            false => {
                format!("only: no case of `{id}` has the tag or the incident `{only}`; {tags}")
            }
        }))
    }

    /// Two versions of a registered prompt, or one on two models.
    fn of_versions(&self, id: &str, prompts: &Prompts) -> Result<(Side, Side, Depth), Problem> {
        let versions = prompts.versions(id).ok_or_else(|| {
            Problem::invalid(format!("suite: there is no registered prompt `{id}` any more"))
        })?;
        let newest = || newest(versions);
        let to = match &self.to {
            Some(wanted) => Some(find(prompts, (id, "to"), wanted)?),
            None if self.to_model.is_some() && self.from.is_some() => None,
            None => newest(),
        };
        let from = match &self.from {
            Some(wanted) => Some(find(prompts, (id, "from"), wanted)?),
            None => served(versions, to.as_ref(), self.to_model.is_some()),
        };
        let to = to.or_else(|| from.clone());
        let (Some(from), Some(to)) = (from, to) else {
            return Err(Problem::invalid(format!("suite: `{id}` has no version to compare")));
        };
        let side = |prompt: &Prompt, model: &Option<String>, parameter: &str| {
            let model = model.clone().or_else(|| prompt.target_model.clone()).ok_or_else(|| {
                let name = &prompt.name;
                Problem::invalid(format!(
                    "{parameter}: `{name}` names no model; say which is asked"
                ))
            })?;
            let (id, version) = (prompt.id.to_string(), prompt.version.to_string());
            let prompt = SidePrompt::Registered { id, version };
            Ok::<_, Problem>(Side { prompt, model, parameters: Map::new() })
        };
        // Who names a model for one side alone compares models: the other is what it is today.
        let from_model = self.from_model.clone();
        let to_model = self.to_model.clone();
        let (baseline, candidate) =
            (side(&from, &from_model, "from_model")?, side(&to, &to_model, "to_model")?);
        let depth = match Change::of_numbers(from.version, to.version) {
            _ if baseline.model != candidate.model => Depth::Full,
            Change::Nothing | Change::Major => Depth::Full,
            Change::Minor => Depth::Targeted,
            Change::Patch => Depth::Smoke,
        };
        Ok((baseline, candidate, depth))
    }

    /// Two prompts of the suite's own, or one on two models that it names.
    fn of_suite(&self, suite: &Suite) -> Result<(Side, Side, Depth), Problem> {
        let prompt = |wanted: Option<&str>, or: usize, parameter| match wanted {
            None => Ok(or.min(suite.prompts.len().saturating_sub(1))),
            Some(wanted) => own_prompt(suite, wanted, parameter),
        };
        let (from, from_model) = meant(suite, &self.from, &self.from_model);
        let (to, to_model) = meant(suite, &self.to, &self.to_model);
        let is_of_models = to_model != self.to_model.as_deref();
        let from = prompt(from, 0, "from")?;
        let to = prompt(to, from + usize::from(!is_of_models), "to")?;
        let model = |said: Option<&str>, at: usize, parameter| {
            let named = suite.models.get(at).or(suite.models.first());
            match (said, named) {
                (Some(said), _) => {
                    // One model may stand there twice, with other parameters: labels tell them
                    // apart.
                    let by = |of: fn(&SuiteModel) -> &str| {
                        suite.models.iter().find(|known| of(known) == said)
                    };
                    let known = by(|known| &known.label).or_else(|| by(|known| &known.model));
                    let known = known.map(|known| (known.model.clone(), known.parameters.clone()));
                    Ok(known.unwrap_or_else(|| (said.to_owned(), Map::new())))
                }
                (None, Some(named)) => Ok((named.model.clone(), named.parameters.clone())),
                (None, None) => Err(Problem::invalid(format!(
                    "{parameter}: the suite names no model (`providers`); say which is asked"
                ))),
            }
        };
        let (from_model, from_parameters) = model(from_model, 0, "from_model")?;
        // With one prompt its models are compared; with several, the prompts on the first model.
        let at = usize::from(from == to);
        let (to_model, to_parameters) = model(to_model, at, "to_model")?;
        let side = |index: usize, model, parameters| {
            let label = suite.prompts.get(index).map(|prompt| prompt.label.clone());
            let label = label.ok_or_else(|| {
                Problem::invalid("suite: it has no prompts, and belongs to no registered one")
            })?;
            Ok::<_, Problem>(Side {
                prompt: SidePrompt::Inline { index, label },
                model,
                parameters,
            })
        };
        let baseline = side(from, from_model, from_parameters)?;
        let candidate = side(to, to_model, to_parameters)?;
        Ok((baseline, candidate, Depth::Full))
    }
}

fn find(
    prompts: &Prompts,
    (id, parameter): (&str, &str),
    wanted: &str,
) -> Result<Arc<Prompt>, Problem> {
    let wrong = |problem: String| Problem::invalid(format!("{parameter}: {problem}"));
    let wanted = Wanted::parse(wanted).map_err(wrong)?;
    prompts.find(id, &wanted).cloned().map_err(|unfound| wrong(unfound.problem))
}

/// The newest version that is not deprecated.
fn newest(versions: &Versions) -> Option<Arc<Prompt>> {
    let current = versions.iter().filter(|prompt| prompt.deprecated.is_none());
    current.max_by_key(|prompt| prompt.version).cloned()
}

/// What is served today: what is labelled so, else, where versions are compared, the newest before
/// the other.
fn served(
    versions: &Versions,
    to: Option<&Arc<Prompt>>,
    is_of_models: bool,
) -> Option<Arc<Prompt>> {
    let labelled = versions.label(PRODUCTION);
    let of = |version: Version| versions.iter().find(|prompt| prompt.version == version).cloned();
    if let Some(prompt) = labelled.and_then(of) {
        return Some(prompt);
    }
    if is_of_models {
        return to.cloned();
    }
    let before = |prompt: &&Arc<Prompt>| to.is_none_or(|to| prompt.version < to.version);
    versions.iter().filter(before).max_by_key(|prompt| prompt.version).or(to).cloned()
}

/// The prompt and the model that are meant: what is no prompt of the suite's but the label of one
/// of its models names that.
fn meant<'a>(
    suite: &Suite,
    prompt: &'a Option<String>,
    model: &'a Option<String>,
) -> (Option<&'a str>, Option<&'a str>) {
    let (prompt, model) = (prompt.as_deref(), model.as_deref());
    let is_label = |word: &str| suite.models.iter().any(|known| known.label == word);
    match (prompt, model) {
        (Some(word), None) if is_label(word) && own_prompt(suite, word, "").is_err() => {
            (None, Some(word))
        }
        (prompt, model) => (prompt, model),
    }
}

/// A prompt of a suite by its number from 0, or by its label.
fn own_prompt(suite: &Suite, wanted: &str, parameter: &str) -> Result<usize, Problem> {
    let labels = suite.prompts.iter().map(|prompt| prompt.label.as_str());
    let by_label = labels.clone().position(|label| label == wanted);
    let by_number = wanted.parse().ok().filter(|number| *number < suite.prompts.len());
    by_label.or(by_number).ok_or_else(|| {
        let labels: Vec<_> = labels.map(|label| format!("{label:?}")).collect();
        Problem::invalid(format!(
            "{parameter}: the suite has no prompt {wanted:?}; there are {}, or their numbers from 0",
            labels.join(", ")
        ))
    })
}
