//! What verdicts of compatibility runs are good for: how far a rollout may grow, and with which
//! models a prompt counts as tested.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::clock::{WallClock, rfc3339};
use crate::compat::report::PairRuns;
use crate::compat::verdict::Verdict;
use crate::compat::{Depth, SidePrompt};
use crate::config::Snapshot;
use crate::policy::rollout::{Bound, Share};
use crate::prompt::{Change, Prompt, Prompts, Wanted};
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
            let key = (tested.prompt, tested.version);
            proven.entry(key).or_default().push((tested.suite, tested.model));
        }
        let (snapshot, prompts) = (self.snapshot.load_full(), self.registry.prompts());
        let suites = self.suites_of_prompts(&snapshot).await?;
        for prompt in prompts.iter().flat_map(|(_, versions)| versions.iter()) {
            let key = (prompt.id.to_string(), prompt.version.to_string());
            let own = suites.get(&key.0).map(|suite| &suite.id);
            let found = proven.remove(&key).unwrap_or_default().into_iter();
            let of_own = found.filter(|(suite, _)| Some(suite) == own);
            prompt.set_proven(of_own.map(|(_, model)| model).collect());
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
        let mut questions = questions(subject, &prompts);
        if questions.is_empty() {
            return Ok(Bound::NONE);
        }
        let mut suites = self.suites_of_prompts(&snapshot).await?;
        let mut bound = Bound::NONE;
        for question in &mut questions {
            // A verdict on the model that the version was written for, where that can be asked
            // here.
            question.model = question.model.filter(|model| snapshot.resolve(model).is_ok());
            question.suite = suites.remove(question.prompt.id.as_str());
            let verdicts = match &question.suite {
                None if settings.require == GateRequirement::WithCases => continue,
                None => Vec::new(),
                Some(suite) => {
                    let (before, after) = (question.baseline(), question.candidate());
                    let runs = &self.runs;
                    runs.verdicts(&suite.id, before.as_ref(), &after, question.model).await?
                }
            };
            let says = says(settings, question, &verdicts, self.clock.unix_ms());
            if says.most < bound.most {
                bound = says;
            }
        }
        Ok(bound)
    }

    /// The one suite of each prompt that says whether it is compatible: that of the cases beside
    /// it, else the first that was pushed for it. Others may be run and decide nothing.
    async fn suites_of_prompts(
        &self,
        snapshot: &Snapshot,
    ) -> Result<BTreeMap<String, OwnSuite>, StoreError> {
        let mut suites = BTreeMap::new();
        for (id, one) in &snapshot.suites {
            let own = OwnSuite { id: id.clone(), hash: one.row.hash.clone() };
            suites.insert(id.clone(), own);
        }
        for row in self.runs.suites().await? {
            if let Some(prompt) = row.prompt {
                suites.entry(prompt).or_insert(OwnSuite { id: row.id, hash: row.hash });
            }
        }
        Ok(suites)
    }
}

/// The suite that says whether a prompt is compatible.
#[derive(Debug, Clone)]
struct OwnSuite {
    id: String,
    /// What it says now. A verdict on other cases is none on these.
    hash: String,
}

/// What has to be known of a candidate.
struct Question<'a> {
    /// The version that is or will be served.
    prompt: &'a Prompt,
    /// The one that is served today, where versions are compared.
    instead_of: Option<&'a Prompt>,
    model: Option<&'a str>,
    /// The suite that would say it.
    suite: Option<OwnSuite>,
}

// === impl Question ===

impl Question<'_> {
    fn candidate(&self) -> SidePrompt {
        side(self.prompt)
    }

    fn baseline(&self) -> Option<SidePrompt> {
        self.instead_of.map(side)
    }

    /// How many of the cases have to be asked: as the numbers say; all, of another model.
    fn depth(&self) -> Depth {
        let change =
            self.instead_of.map(|from| Change::of_numbers(from.version, self.prompt.version));
        match change {
            Some(Change::Patch) => Depth::Smoke,
            Some(Change::Minor) => Depth::Targeted,
            Some(Change::Nothing | Change::Major) | None => Depth::Full,
        }
    }

    /// The command that would answer it.
    fn command(&self) -> String {
        let to = self.prompt.version;
        let Some(OwnSuite { id, .. }) = &self.suite else {
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

/// What has to be known: of a prompt's new version, that it does what the old one does; of a
/// route's new model, that the prompts that are written for the route work on it.
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

/// What runs say, the newest first. Only those count that asked what the suite says now. What was
/// found incompatible stays so until a run that asked as many cases finds otherwise; what could not
/// be decided takes nothing back.
fn says(
    settings: &GateSettings,
    question: &Question<'_>,
    runs: &[RunRecord],
    now_ms: u64,
) -> Bound {
    let canary = Share::from_percent(settings.canary.get() * 100.0).unwrap_or(Share::NONE);
    let (name, command) = (&question.prompt.name, question.command());
    let hash = question.suite.as_ref().map(|suite| &suite.hash);
    let runs: Vec<_> = runs.iter().filter(|run| Some(&run.suite_hash) == hash).collect();
    if let Some(run) = refuting(&runs) {
        let (id, reason, again) = (&run.id, reason(run), again(run, &runs));
        let why = format!("run {id} has found `{name}` incompatible: {reason}{again}");
        return Bound { most: Share::NONE, why };
    }
    // Some of the cases are no verdict on all.
    let runs: Vec<_> = runs.into_iter().filter(|run| run.only.is_none()).collect();
    let up_to_canary = |why: String| Bound { most: canary, why };
    let oldest_ms = now_ms.saturating_sub(settings.max_age.0.as_millis() as u64);
    let ended_ms = |run: &RunRecord| run.ended_ms.unwrap_or(run.created_ms);
    let is_enough = |run: &RunRecord| {
        verdict(run) == Some(Verdict::Compatible) && run.depth >= question.depth()
    };
    let newest_enough = runs.iter().find(|run| is_enough(run));
    match (newest_enough, runs.first()) {
        (Some(run), _) if is_outvoted(run, &runs, question.depth()) => up_to_canary(format!(
            "run {} has found `{name}` compatible, but more runs of the same pair have found the \
             opposite{}: for more than {canary} it takes as many that find it compatible",
            run.id,
            again(run, &runs)
        )),
        (Some(run), _) if ended_ms(run) >= oldest_ms => Bound::NONE,
        (Some(run), _) => up_to_canary(format!(
            "the verdict of run {} on `{name}` is from {} and too old for more than {canary}: run \
             `{command}`",
            run.id,
            rfc3339(ended_ms(run))
        )),
        (None, Some(run)) if verdict(run) == Some(Verdict::Compatible) => up_to_canary(format!(
            "run {} has asked too few cases of `{name}` for more than {canary}: run `{command}`",
            run.id
        )),
        (None, Some(run)) => up_to_canary(format!(
            "run {} could not decide on `{name}`, so that it may serve {canary} at most: {}{}",
            run.id,
            reason(run),
            again(run, &runs)
        )),
        (None, None) => up_to_canary(format!(
            "beyond {canary} there has to be a verdict on `{name}` by the cases as they are, and there \
             is none: run `{command}`"
        )),
    }
}

/// The run that has found a candidate incompatible and was not cleared by one after it that asked
/// as many cases, or the same ones. The newest come first.
fn refuting<'a>(runs: &[&'a RunRecord]) -> Option<&'a RunRecord> {
    // Some of the cases may be any of them: then it takes all.
    let depth = |run: &RunRecord| if run.only.is_some() { Depth::Full } else { run.depth };
    let mut cleared: Vec<&RunRecord> = Vec::new();
    for run in runs {
        match verdict(run) {
            Some(Verdict::Compatible) => cleared.push(run),
            Some(Verdict::Incompatible) => {
                let clears = |by: &&&RunRecord| match &by.only {
                    None => by.depth >= depth(run),
                    only @ Some(_) => *only == run.only,
                };
                if !cleared.iter().any(|by| clears(&by)) {
                    return Some(run);
                }
            }
            Some(Verdict::Inconclusive) | None => {}
        }
    }
    None
}

fn verdict(run: &RunRecord) -> Option<Verdict> {
    run.verdict()
}

/// Whether the same versions on the same models were found incompatible more often than compatible,
/// by runs that asked as many cases. Each run of a candidate that is worse has its own chance to be
/// found compatible: who runs it again until it is must not get there by that.
fn is_outvoted(run: &RunRecord, runs: &[&RunRecord], depth: Depth) -> bool {
    let count = |wanted| {
        let pair = of_pair(run, runs).filter(|other| other.depth >= depth);
        pair.filter(|other| verdict(other) == Some(wanted)).count()
    };
    count(Verdict::Incompatible) > count(Verdict::Compatible)
}

/// How often this pair was compared by now, where that is more than once: what to think of the
/// verdict.
fn again(run: &RunRecord, runs: &[&RunRecord]) -> String {
    let until = (run.ended_ms, &run.id);
    let before = || of_pair(run, runs).filter(|other| (other.ended_ms, &other.id) <= until);
    let compatible = |other: &&&RunRecord| verdict(other) == Some(Verdict::Compatible);
    let number = before().count();
    let pair = PairRuns {
        number: number as u64,
        not_compatible: (number - before().filter(compatible).count()) as u64,
    };
    pair.in_words().map(|words| format!(" ({words})")).unwrap_or_default()
}

/// Runs that have compared the same versions on the same models; those of other cases are left out
/// by who asks.
fn of_pair<'a>(
    run: &RunRecord,
    runs: &'a [&'a RunRecord],
) -> impl Iterator<Item = &'a &'a RunRecord> {
    let (baseline, candidate) = (run.baseline.clone(), run.candidate.clone());
    runs.iter().filter(move |other| {
        other.baseline == baseline && other.candidate == candidate && other.has_pairs()
    })
}

/// The weightiest reason of a verdict.
fn reason(run: &RunRecord) -> &str {
    let reason = run.judgement.as_ref().and_then(|one| one.pointer("/reasons/0")?.as_str());
    reason.unwrap_or("see its report")
}

#[cfg(test)]
mod tests;
