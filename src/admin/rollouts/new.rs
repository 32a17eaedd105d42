//! What begins a rollout: the body of `POST /rollouts`, checked against prompts and configuration.

use http::StatusCode;
use serde::Deserialize;

use super::share;
use crate::admin::problem::Problem;
use crate::config::Snapshot;
use crate::ids::{PromptId, RouteName};
use crate::policy::rollout::{Guardrail, Guardrails, Margin, Plan, Rule, Share, Stage, UnitKind};
use crate::prompt::{Prompt, Prompts, Version, Wanted};
use crate::rollout::{NewRollout, Record, ShadowSettings, Subject, phase_name};
use crate::units::{HumanDuration, MicroUsd, UsdAmount};

/// What is asked for.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct NewBody {
    prompt: Option<String>,
    route: Option<String>,
    from: Option<String>,
    to: Option<String>,
    percent: Option<f64>,
    unit: Option<UnitKind>,
    stages: Option<Vec<StageBody>>,
    shadow: Option<ShadowBody>,
    guardrails: Option<Vec<RuleBody>>,
    longest_hold: Option<HumanDuration>,
    quarantine: Option<HumanDuration>,
    force: bool,
    /// The rollout that was rolled back and is tried again.
    pub(super) after: Option<String>,
    /// In small steps, after a shadow.
    gradual: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct StageBody {
    percent: f64,
    #[serde(default)]
    min_requests: u64,
    #[serde(default)]
    min_time: HumanDuration,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ShadowBody {
    /// Percent of the units.
    sample: f64,
    usd: UsdAmount,
    min_requests: u64,
    min_time: HumanDuration,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleBody {
    guardrail: Guardrail,
    margin: Option<Margin>,
    weight: Option<f64>,
}

/// What is rolled out, in the words of the request.
#[derive(Debug)]
pub(super) struct Side {
    is_prompt: bool,
    name: String,
    from: String,
    to: String,
}

/// The shares of a second try, in percent.
const GRADUAL: [u16; 9] = [1, 2, 5, 10, 20, 35, 50, 75, 100];
/// Targets that an error lists.
const MAX_LISTED: usize = 8;

impl Default for ShadowBody {
    /// One request in ten for ten minutes and a hundred answers, within five dollars.
    fn default() -> Self {
        Self {
            sample: 10.0,
            usd: UsdAmount(MicroUsd(5_000_000)),
            min_requests: 100,
            min_time: HumanDuration::secs(600),
        }
    }
}

// === impl NewBody ===

impl NewBody {
    /// Whether it is about a prompt, or may be.
    pub(super) fn is_of_prompt(&self) -> bool {
        self.route.is_none()
    }

    /// What is rolled out. What the body does not say is as in the rollout that is tried again.
    pub(super) fn side(&self, earlier: Option<&Record>) -> Result<Side, Problem> {
        if let Some(record) = earlier.filter(|record| record.is_live) {
            let phase = phase_name(record.rollout.phase());
            let detail = format!("after: rollout {} was not rolled back: it is {phase}", record.id);
            return Err(Problem::new(StatusCode::CONFLICT, "not_rolled_back", detail));
        }
        if self.prompt.is_some() && self.route.is_some() {
            return Err(Problem::invalid("prompt, route: one of the two, not both"));
        }
        let subject = earlier.map(|record| &record.subject);
        let sides = subject.map(Subject::sides).unzip();
        let named = self.prompt.as_ref().map(|name| (true, name.clone()));
        let named = named.or_else(|| self.route.as_ref().map(|name| (false, name.clone())));
        let of_earlier = || subject.map(|it| (it.kind() == "prompt", it.name().to_owned()));
        let (is_prompt, name) = named.or_else(of_earlier).ok_or_else(|| Side::missing("prompt"))?;
        let from = self.from.clone().or(sides.0).ok_or_else(|| Side::missing("from"))?;
        let to = self.to.clone().or(sides.1).ok_or_else(|| Side::missing("to"))?;
        Ok(Side { is_prompt, name, from, to })
    }

    /// The rollout that is asked for.
    pub(super) fn new_rollout(
        self,
        subject: Subject,
        content: String,
    ) -> Result<NewRollout, Problem> {
        let mut plan = Plan::default();
        plan.unit = self.unit.unwrap_or(plan.unit);
        plan.longest_hold = self.longest_hold.unwrap_or(plan.longest_hold);
        plan.quarantine = self.quarantine.unwrap_or(plan.quarantine);
        if let Some(rules) = &self.guardrails {
            plan.guardrails = Guardrails(rules.iter().map(RuleBody::rule).collect());
        }
        plan.stages = self.stages(std::mem::take(&mut plan.stages))?;
        let begins_in_shadow = plan.stages.first().is_some_and(|stage| stage.share == Share::NONE);
        let asked = self.shadow.unwrap_or_default();
        let shadow = begins_in_shadow.then(|| asked.settings()).transpose()?;
        Ok(NewRollout { subject, content, plan, shadow, force: self.force, after: self.after })
    }

    /// The stages that are given, or the usual ones: first a shadow where one is asked for, then
    /// the percentage that is given, then those that serve more.
    fn stages(&self, usual: Vec<Stage>) -> Result<Vec<Stage>, Problem> {
        let mut stages = match &self.stages {
            Some(given) => given.iter().map(StageBody::stage).collect::<Result<_, _>>()?,
            None if self.gradual => gradual(),
            None => usual.clone(),
        };
        if let Some(percent) = self.percent {
            let first = share("percent", percent)?;
            let like = usual.iter().rev().find(|stage| stage.share <= first).or(usual.first());
            let is_given = stages.iter().any(|stage| stage.share == first);
            stages.retain(|stage| stage.share >= first);
            if let Some(like) = like.filter(|_| !is_given) {
                stages.insert(0, Stage { share: first, ..*like });
            }
        }
        let has_shadow = stages.first().is_some_and(|stage| stage.share == Share::NONE);
        if (self.shadow.is_some() || self.gradual) && !has_shadow {
            let shadow = self.shadow.as_ref();
            let ShadowBody { min_requests, min_time, .. } =
                shadow.map_or_else(ShadowBody::default, |shadow| ShadowBody { ..*shadow });
            stages.insert(0, Stage { share: Share::NONE, min_time, min_requests });
        }
        Ok(stages)
    }
}

/// Small steps: twice the usual time in each.
fn gradual() -> Vec<Stage> {
    let stage = |percent: u16| Stage {
        share: Share::try_from(percent * 100).unwrap_or(Share::ALL),
        min_time: HumanDuration::secs(1_800),
        min_requests: u64::from(percent.min(50)) * 100,
    };
    GRADUAL.into_iter().map(stage).collect()
}

// === impl StageBody ===

impl StageBody {
    fn stage(&self) -> Result<Stage, Problem> {
        let share = share("stages.percent", self.percent)?;
        Ok(Stage { share, min_time: self.min_time, min_requests: self.min_requests })
    }
}

// === impl ShadowBody ===

impl ShadowBody {
    fn settings(&self) -> Result<ShadowSettings, Problem> {
        Ok(ShadowSettings { sample: share("shadow.sample", self.sample)?, usd: self.usd.0 })
    }
}

// === impl RuleBody ===

impl RuleBody {
    fn rule(&self) -> Rule {
        let usual = self.guardrail.default_rule();
        let (margin, weight) =
            (self.margin.unwrap_or(usual.margin), self.weight.unwrap_or(usual.weight));
        Rule { guardrail: self.guardrail, margin, weight }
    }
}

/// Makes sure that both sides are there. What comes back besides is what a quarantine is about.
pub(super) fn check_subject(
    side: &Side,
    snapshot: &Snapshot,
    prompts: &Prompts,
) -> Result<(Subject, String), Problem> {
    if side.from == side.to {
        return Err(Problem::invalid("to: is the same as `from`"));
    }
    if side.is_prompt { check_prompt(side, prompts) } else { check_route(side, snapshot) }
}

fn check_prompt(side: &Side, prompts: &Prompts) -> Result<(Subject, String), Problem> {
    let find = |parameter: &str, text: &str| -> Result<&Prompt, Problem> {
        let version: Version = text.parse().map_err(|()| {
            let text: String = text.chars().take(40).collect();
            Problem::invalid(format!("{parameter}: `{text}` is no version such as 1.2.0"))
        })?;
        prompts.find(&side.name, &Wanted::Exact(version)).map(|prompt| &**prompt).map_err(
            |unfound| {
                let code =
                    if unfound.param == "prompt.id" { "unknown_prompt" } else { "unknown_version" };
                Problem::new(
                    StatusCode::NOT_FOUND,
                    code,
                    format!("{parameter}: {}", unfound.problem),
                )
            },
        )
    };
    let (from, to) = (find("from", &side.from)?, find("to", &side.to)?);
    let id = PromptId::new(&side.name);
    let content = format!("prompt {id} {}", to.hash);
    Ok((Subject::Prompt { id, from: from.version, to: to.version }, content))
}

fn check_route(side: &Side, snapshot: &Snapshot) -> Result<(Subject, String), Problem> {
    let unknown = |code, detail| Problem::new(StatusCode::NOT_FOUND, code, detail);
    let route = snapshot
        .resolve(&side.name)
        .map_err(|rejection| unknown("unknown_route", format!("route: {rejection}")))?;
    let is_route = snapshot.models().any(|one| one.is_route() && one.id == route.name.as_str());
    if !is_route {
        let detail =
            format!("route: {} is a model and no route; make a route of it first", route.name);
        return Err(unknown("unknown_route", detail));
    }
    if !snapshot.route_has(route.name.as_str(), &side.from) {
        let targets = route.tiers.iter().flatten().map(|target| target.name_without_credential());
        let mut targets: Vec<_> = targets.map(|target| format!("`{target}`")).collect();
        targets.dedup();
        targets.truncate(MAX_LISTED);
        let from: String = side.from.chars().take(80).collect();
        let detail = format!(
            "from: the route {} has no `{from}`; it has {}",
            route.name,
            targets.join(", ")
        );
        return Err(unknown("unknown_model", detail));
    }
    let found = snapshot
        .resolve(&side.to)
        .map_err(|rejection| unknown("unknown_model", format!("to: {rejection}")))?;
    let is_route = snapshot.models().any(|one| one.is_route() && one.id == found.name.as_str());
    let target = found.tiers.iter().flatten().next().filter(|_| !is_route);
    let Some(target) = target else {
        return Err(Problem::invalid("to: is a route; name a model as provider/model"));
    };
    let (name, to) = (RouteName::new(&side.name), target.name_without_credential().to_owned());
    let content = format!("route {name} {to}");
    Ok((Subject::Route { name, from: side.from.clone(), to }, content))
}
