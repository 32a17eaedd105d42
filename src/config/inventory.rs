//! Which models are used and by what, and what to do about those that are taken out of service.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

use jiff::civil::Date;

use super::snapshot::Snapshot;
use crate::catalog::{Model, ProposedBy, Retirement};
use crate::ids::{ModelName, ProviderId, RouteName};
use crate::prompt::{Prompt, Versions, Wanted};

/// A model that routes or prompts use.
#[derive(Debug, Clone)]
pub struct UsedModel {
    /// Its provider.
    pub provider: ProviderId,
    /// The model.
    pub model: Arc<Model>,
    /// Routes that have it as a target, each with the best tier, from 0.
    pub routes: Vec<(RouteName, u32)>,
    /// Versions of prompts that name it: the newest of each prompt, and those with a label.
    pub prompts: Vec<PromptUse>,
}

/// How a version of a prompt uses a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PromptUse {
    /// The version, `id@version`.
    pub name: Arc<str>,
    /// Whether it was written for the model (`target_model`), and not just tested with it.
    pub is_target: bool,
}

/// What to use in the place of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replacement {
    /// `provider/model`.
    pub name: String,
    /// Who says so.
    pub by: ProposedBy,
}

/// A model in use that is gone, or goes soon.
#[derive(Debug, Clone)]
pub struct Retiring {
    /// The model and what uses it.
    pub used: UsedModel,
    /// When.
    pub retirement: Retirement,
    /// What to use instead, where anything is known.
    pub replacement: Option<Replacement>,
}

/// How many names of replacements are followed, each in the place of the one before.
const MAX_STEPS: usize = 8;

/// Models in use, as they are collected.
type Uses = BTreeMap<(ProviderId, ModelName), UsedModel>;

// === impl Snapshot ===

impl Snapshot {
    /// All models that routes or prompts use, by name. Those that could be asked for by their own
    /// name, and are in no route, are not among them.
    pub fn used_models(&self) -> Vec<UsedModel> {
        let mut uses = Uses::new();
        for (_, route) in self.routes().filter(|(listed, _)| listed.is_route()) {
            for target in route.tiers.iter().flatten() {
                let used = entry(&mut uses, &target.endpoint.provider, &target.model);
                if !used.routes.iter().any(|(name, _)| *name == route.name) {
                    used.routes.push((route.name.clone(), target.tier));
                }
            }
        }
        for prompt in self.prompts.iter().flat_map(|(_, versions)| in_use(versions)) {
            self.add_prompt(prompt, &mut uses);
        }
        uses.into_values().collect()
    }

    fn add_prompt(&self, prompt: &Prompt, uses: &mut Uses) {
        let target = prompt.target_model.iter().map(|name| (name, true));
        let tested = prompt.tested_models.iter().map(|name| (name, false));
        for (name, is_target) in target.chain(tested) {
            // One that cannot be asked for here is told of elsewhere.
            let Ok(route) = self.resolve(name) else { continue };
            for target in route.tiers.iter().flatten() {
                let used = entry(uses, &target.endpoint.provider, &target.model);
                if !used.prompts.iter().any(|known| known.name == prompt.name) {
                    used.prompts.push(PromptUse { name: Arc::clone(&prompt.name), is_target });
                }
            }
        }
    }

    /// Models in use that are gone or go soon, seen from a day; the soonest first.
    pub fn retiring(&self, today: Date) -> Vec<Retiring> {
        let near = self.used_models().into_iter().filter_map(|used| {
            let retirement = used.model.retirement(today).filter(|it| it.is_near())?;
            let replacement = self.replacement_of(&used.provider, &used.model, today);
            Some(Retiring { used, retirement, replacement })
        });
        let mut near: Vec<_> = near.collect();
        near.sort_by_key(|retiring| retiring.retirement.on);
        near
    }

    /// What to use in the place of a model: what its provider's file names, or that one's
    /// replacement where it goes as well; else the nearest of the same provider.
    pub fn replacement_of(
        &self,
        provider: &ProviderId,
        model: &Model,
        today: Date,
    ) -> Option<Replacement> {
        self.named_for(provider, model, today).or_else(|| {
            let nearest = model.nearest_of(self.models_of(provider), today)?;
            let name = format!("{provider}/{}", nearest.name);
            Some(Replacement { name, by: ProposedBy::Nearest })
        })
    }

    fn named_for(&self, provider: &ProviderId, model: &Model, today: Date) -> Option<Replacement> {
        let mut next = (provider.clone(), model.replacement.clone()?);
        for _ in 0..MAX_STEPS {
            let (provider, found) = self.find(&next.0, &next.1)?;
            if found.outlives(model, today) {
                let name = format!("{provider}/{}", found.name);
                return Some(Replacement { name, by: ProposedBy::Catalog });
            }
            next = (provider, found.replacement.clone()?);
        }
        None
    }

    /// The model that a replacement names: one of the same provider, or `provider/model`.
    fn find(&self, provider: &ProviderId, name: &str) -> Option<(ProviderId, Arc<Model>)> {
        let of = |provider: &str, name: &str| {
            let in_use = self.resolve(&format!("{provider}/{name}")).ok();
            let in_use = in_use.and_then(|route| {
                let target = route.tiers.iter().flatten().next()?;
                let is_it = target.model.name.as_str() == name;
                is_it.then(|| Arc::clone(&target.model))
            });
            let known = self.catalog.providers.get(provider);
            let model = in_use.or_else(|| known?.model(name).map(Arc::clone))?;
            Some((ProviderId::new(provider), model))
        };
        let (other, rest) = name.split_once('/').unwrap_or_default();
        let listed = |(_, model): &(ProviderId, Arc<Model>)| model.listed;
        of(provider.as_str(), name).filter(listed).or_else(|| of(other, rest))
    }

    /// The models of a provider that can be asked for.
    fn models_of<'a>(&'a self, provider: &'a ProviderId) -> impl Iterator<Item = &'a Arc<Model>> {
        let listed = self.routes().filter(|(listed, _)| !listed.is_route());
        let own = listed.filter(move |(listed, _)| listed.owned_by == provider.as_str());
        own.filter_map(|(_, route)| Some(&route.tiers.first()?.first()?.model))
    }
}

/// The day of a moment, in UTC.
pub fn date_of(unix_ms: u64) -> Date {
    let ms = i64::try_from(unix_ms).unwrap_or(i64::MAX);
    let time = jiff::Timestamp::from_millisecond(ms).unwrap_or(jiff::Timestamp::MAX);
    jiff::tz::Offset::UTC.to_datetime(time).date()
}

fn entry<'a>(uses: &'a mut Uses, provider: &ProviderId, model: &Arc<Model>) -> &'a mut UsedModel {
    uses.entry((provider.clone(), model.name.clone())).or_insert_with(|| UsedModel {
        provider: provider.clone(),
        model: Arc::clone(model),
        routes: Vec::new(),
        prompts: Vec::new(),
    })
}

/// The versions of a prompt that requests get without asking for exactly them.
fn in_use(versions: &Versions) -> Vec<&Arc<Prompt>> {
    let labelled: BTreeSet<_> = versions.labels().map(|(_, version)| version).collect();
    let labelled =
        labelled.into_iter().filter_map(|version| versions.find(&Wanted::Exact(version)));
    let mut found: Vec<_> = labelled.chain(versions.find(&Wanted::Unsaid)).collect();
    found.extend(versions.iter().last());
    found.sort_by_key(|prompt| prompt.version);
    found.dedup_by_key(|prompt| prompt.version);
    found
}

// === impl UsedModel ===

impl UsedModel {
    /// `provider/model`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.provider, self.model.name)
    }

    /// What uses it, in words.
    fn uses(&self) -> String {
        let routes = self.routes.iter().map(|(name, tier)| match tier {
            0 => format!("`{name}`"),
            tier => format!("`{name}` (tier {tier})"),
        });
        let prompts = self.prompts.iter().map(|prompt| {
            let how = if prompt.is_target { "written for it" } else { "tested with it" };
            format!("{} ({how})", prompt.name)
        });
        let parts = [("route", routes.collect::<Vec<_>>()), ("prompt", prompts.collect())];
        let parts = parts.iter().filter(|(_, names)| !names.is_empty()).map(|(what, names)| {
            let plural = if names.len() == 1 { "" } else { "s" };
            format!("the {what}{plural} {}", names.join(", "))
        });
        parts.collect::<Vec<_>>().join(" and ")
    }
}

// === impl Retiring ===

impl Retiring {
    /// All of it as one sentence for operators.
    pub fn note(&self) -> String {
        let mut note =
            format!("{} {}; used by {}; ", self.used.name(), self.retirement, self.used.uses());
        // Writing to a string cannot fail.
        let _ = match &self.replacement {
            Some(Replacement { name, by: ProposedBy::Catalog }) => {
                write!(note, "proposed replacement: {name}, which its provider names")
            }
            Some(Replacement { name, by: ProposedBy::Nearest }) => write!(
                note,
                "proposed replacement: {name}, the nearest in price of its provider's models with \
                 as large a window and the same features; compare the two first"
            ),
            None => write!(note, "no replacement is known"),
        };
        note
    }
}
