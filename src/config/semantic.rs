//! `routes.*.cache` with `semantic`: what it needs beside itself.

use std::collections::BTreeMap;

use super::check::Checking;
use super::providers::Enabled;
use super::sections::FileSettings;
use crate::cache::RouteCacheSettings;
use crate::catalog::ModelKind;
use crate::ids::ProviderId;
use crate::problems::{KeyPath, nearest};

/// Reports what a semantic cache lacks, and fills in the embedder where there is only one.
pub(super) fn resolve(
    cache: &RouteCacheSettings,
    file: &FileSettings,
    providers: &BTreeMap<ProviderId, Enabled>,
    at: &KeyPath,
    checking: &mut Checking<'_>,
) -> RouteCacheSettings {
    if !cache.semantic {
        return cache.clone();
    }
    let embedder = match embedder(cache.embedder.as_deref(), file) {
        Ok(name) => Some(name.to_owned()),
        Err(message) => {
            let key = if cache.embedder.is_some() { "embedder" } else { "semantic" };
            checking.report(at.key(key), message);
            None
        }
    };
    match &cache.judge {
        None => {
            let message = "needs a `judge`: the model that says whether two answers say the same, \
                           such as judge = \"openai/gpt-5-mini\"";
            checking.report(at.key("semantic"), message);
        }
        Some(judge) => {
            if let Some(problem) = problem_with(judge, file, providers) {
                checking.report(at.key("judge"), problem);
            }
        }
    }
    RouteCacheSettings { embedder, ..cache.clone() }
}

/// The embedder of a route, or why there is none.
fn embedder<'a>(named: Option<&'a str>, file: &'a FileSettings) -> Result<&'a str, String> {
    let mut names = file.embedders.keys();
    match (named, names.next(), names.next()) {
        (None, None, _) => {
            Err(format!("needs something that turns questions into vectors; {}", add("small")))
        }
        (Some(name), None, _) => Err(format!("there is no [embedders.{name}]; {}", add(name))),
        (None, Some(only), None) => Ok(only),
        (None, Some(_), Some(_)) => {
            Err("needs `embedder`, because there are several in [embedders]".to_owned())
        }
        (Some(name), ..) if file.embedders.contains_key(name) => Ok(name),
        (Some(name), ..) => {
            let hint = nearest(name, file.embedders.keys().map(String::as_str))
                .map_or_else(String::new, |near| format!(" (did you mean {near:?}?)"));
            Err(format!("there is no [embedders.{name}]{hint}"))
        }
    }
}

/// How to come by the first embedder.
fn add(name: &str) -> String {
    format!(
        "add [embedders.{name}] with folder = \"models/all-MiniLM-L6-v2\", which `tidegate models \
         fetch` makes"
    )
}

/// Why a judge cannot be asked, if it cannot.
fn problem_with(
    judge: &str,
    file: &FileSettings,
    providers: &BTreeMap<ProviderId, Enabled>,
) -> Option<String> {
    if file.routes.contains_key(judge) {
        return None;
    }
    let Some((provider, name)) = judge.split_once('/') else {
        let hint = nearest(judge, file.routes.keys().map(String::as_str))
            .map_or_else(String::new, |near| format!(" (did you mean {near:?}?)"));
        return Some(format!("there is no route {judge:?}, and it names no provider{hint}"));
    };
    let Some(enabled) = providers.get(provider) else {
        return Some(format!("provider {provider:?} is not on; add [providers.{provider}]"));
    };
    match enabled.provider.model(name).map(|model| model.kind) {
        Some(ModelKind::Chat) => None,
        Some(ModelKind::Embedding | ModelKind::Completion) => {
            Some(format!("{judge:?} holds no conversations"))
        }
        None if enabled.provider.open_models && !name.is_empty() => None,
        None => {
            let models = enabled.provider.models.iter();
            let talking = models.filter(|model| model.kind == ModelKind::Chat);
            let hint = nearest(name, talking.map(|model| model.name.as_str()))
                .map_or_else(String::new, |near| format!(" (did you mean \"{provider}/{near}\"?)"));
            Some(format!("unknown model {name:?} of provider {provider:?}{hint}"))
        }
    }
}
