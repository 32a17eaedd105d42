//! What verdicts of compatibility runs are good for: how far a rollout may grow, and with which models
//! a prompt counts as tested.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::clock::{WallClock, rfc3339};
use crate::compat::SidePrompt;
use crate::compat::verdict::Verdict;
use crate::config::Snapshot;
use crate::policy::rollout::{Bound, Share};
use crate::prompt::{Prompt, Prompts, Wanted};
use crate::registry::Registry;
use crate::rollout::{Bounding, Subject};
use crate::runs::{GateRequirement, GateSettings, RunRecord, Runs};
use crate::store::StoreError;

/// What verdicts are looked up by.
#[derive(Debug, Clone)]
pub(super) struct Verdicts {
    pub(super) snapshot: Arc<ArcSwap<Snapshot>>,
    pub(super) registry: Registry,
    pub(super) runs: Runs,
    pub(super) clock: Arc<dyn WallClock>,
}

/// How often it is looked which prompts were found compatible with which models.
const LOOK_EVERY: Duration = Duration::from_secs(5);

// === impl Verdicts ===

impl Verdicts {
    /// As rollouts ask it.
    pub(super) fn bounding(self) -> Bounding {
        Box::new(move |subject| {
            let (verdicts, subject) = (self.clone(), subject.clone());
            Box::pin(async move { verdicts.bound(&subject).await })
        })
    }

    /// Lets prompts know for ever with which models runs have found them compatible.
    pub(super) async fn keep_proven(self) {
        let mut is_away = false;
        loop {
            match self.prove().await {
                Ok(()) => is_away = false,
                Err(error) if is_away => {
                    tracing::debug!(error = %error.chain(), "tested models cannot be read");
                }
                Err(error) => {
                    tracing::warn!(error = %error.chain(), "tested models cannot be read");
                    is_away = true;
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn prove(&self) -> Result<(), StoreError> {
        let mut proven: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for tested in self.runs.tested().await? {
            proven.entry((tested.prompt, tested.version)).or_default().push(tested.model);
        }
        let prompts = self.registry.prompts();
        for prompt in prompts.iter().flat_map(|(_, versions)| versions.iter()) {
            let key = (prompt.id.to_string(), prompt.version.to_string());
            prompt.set_proven(proven.remove(&key).unwrap_or_default());
        }
        Ok(())
    }

    /// How far a candidate may grow.
    async fn bound(&self, subject: &Subject) -> Result<Bound, StoreError> {
        let snapshot = self.snapshot.load_full();
        let settings = &snapshot.settings.compat.gate;
        if settings.require == GateRequirement::Never {
            return Ok(Bound::NONE);
        }
        let prompts = self.registry.prompts();
        let mut bound = Bound::NONE;
        for mut question in questions(subject, &prompts) {
            // A verdict on the model that the version was written for, where that can be asked here.
            question.model = question.model.filter(|model| snapshot.resolve(model).is_ok());
            question.suite = self.suite_of(&snapshot, question.prompt.id.as_str()).await?;
            if settings.require == GateRequirement::WithCases && question.suite.is_none() {
                continue;
            }
            let newest = self
                .runs
                .newest_verdict(question.baseline().as_ref(), &question.candidate(), question.model)
                .await?;
            let says = says(settings, &question, newest.as_ref(), self.clock.unix_ms());
            if says.most < bound.most {
                bound = says;
            }
        }
        Ok(bound)
    }

    /// The cases of a prompt: those beside it, else the first that were pushed for it.
    async fn suite_of(
        &self,
        snapshot: &Snapshot,
        prompt: &str,
    ) -> Result<Option<String>, StoreError> {
        if snapshot.suites.contains_key(prompt) {
            return Ok(Some(prompt.to_owned()));
        }
        let pushed = self.runs.suites().await?.into_iter();
        let mut of_prompt = pushed.filter(|suite| suite.prompt.as_deref() == Some(prompt));
        Ok(of_prompt.next().map(|suite| suite.id))
    }
}

/// What has to be known of a candidate.
struct Question<'a> {
    /// The version that is or will be served.
    prompt: &'a Prompt,
    /// The one that is served today, where versions are compared.
    instead_of: Option<&'a Prompt>,
    model: Option<&'a str>,
    /// The suite that would say it.
    suite: Option<String>,
}

// === impl Question ===

impl Question<'_> {
    fn candidate(&self) -> SidePrompt {
        side(self.prompt)
    }

    fn baseline(&self) -> Option<SidePrompt> {
        self.instead_of.map(side)
    }

    /// The command that would answer it.
    fn command(&self) -> String {
        let to = self.prompt.version;
        let Some(id) = &self.suite else {
            let id = &self.prompt.id;
            return format!(
                "tidegate compat push CASES.yaml --prompt {id}`, then `tidegate compat run"
            );
        };
        match (self.instead_of, self.model) {
            (Some(from), _) => {
                format!("tidegate compat run {id} --from {} --to {to}", from.version)
            }
            (None, Some(model)) => format!("tidegate compat run {id} --to {to} --to-model {model}"),
            (None, None) => format!("tidegate compat run {id} --to {to}"),
        }
    }
}

fn side(prompt: &Prompt) -> SidePrompt {
    SidePrompt::Registered { id: prompt.id.to_string(), version: prompt.version.to_string() }
}

/// What has to be known: of a prompt's new version, that it does what the old one does; of a route's
/// new model, that the prompts that are written for the route work on it.
fn questions<'a>(subject: &'a Subject, prompts: &'a Prompts) -> Vec<Question<'a>> {
    match subject {
        Subject::Prompt { id, from, to } => {
            let find = |version| prompts.version(id.as_str(), version).map(|prompt| &**prompt);
            let Some(prompt) = find(*to) else { return Vec::new() };
            let model = prompt.target_model.as_deref();
            vec![Question { prompt, instead_of: find(*from), model, suite: None }]
        }
        Subject::Route { name, to, .. } => {
            let served = prompts.iter().filter_map(|(id, _)| {
                let prompt = prompts.find(id.as_str(), &Wanted::Unsaid).ok()?;
                (prompt.target_model.as_deref() == Some(name.as_str())).then_some(&**prompt)
            });
            let model = Some(to.as_str());
            let question = |prompt| Question { prompt, instead_of: None, model, suite: None };
            served.map(question).collect()
        }
    }
}

fn says(
    settings: &GateSettings,
    question: &Question<'_>,
    newest: Option<&RunRecord>,
    now_ms: u64,
) -> Bound {
    let canary = Share::from_percent(settings.canary.get() * 100.0).unwrap_or(Share::NONE);
    let (name, command) = (&question.prompt.name, question.command());
    let up_to_canary = |why: String| Bound { most: canary, why };
    let Some(run) = newest else {
        return up_to_canary(format!(
            "beyond {canary} there has to be a verdict on `{name}`, and there is none: run `{command}`"
        ));
    };
    let judgement = run.judgement.as_ref();
    let first_reason = judgement.and_then(|one| one.pointer("/reasons/0")?.as_str());
    let reason = first_reason.unwrap_or("see its report");
    let (id, ended_ms) = (&run.id, run.ended_ms.unwrap_or(run.created_ms));
    let verdict = judgement.and_then(|one| one.get("verdict"));
    let verdict = verdict.and_then(|one| serde_json::from_value::<Verdict>(one.clone()).ok());
    let oldest_ms = now_ms.saturating_sub(settings.max_age.0.as_millis() as u64);
    match verdict {
        Some(Verdict::Incompatible) => Bound {
            most: Share::NONE,
            why: format!("run {id} has found `{name}` incompatible: {reason}"),
        },
        Some(Verdict::Compatible) if ended_ms >= oldest_ms => Bound::NONE,
        Some(Verdict::Compatible) => up_to_canary(format!(
            "the verdict of run {id} on `{name}` is from {} and too old for more than {canary}: run \
             `{command}`",
            rfc3339(ended_ms)
        )),
        Some(Verdict::Inconclusive) | None => up_to_canary(format!(
            "run {id} could not decide on `{name}`, so that it may serve {canary} at most: {reason}"
        )),
    }
}

#[cfg(test)]
mod tests;
