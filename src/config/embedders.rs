//! `[embedders]`: what turns texts into vectors.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::check::Checking;
use super::providers::Enabled;
use crate::catalog::ModelKind;
use crate::ids::ProviderId;
use crate::problems::{KeyPath, nearest};
use crate::units::HumanDuration;

/// Files without which a folder holds no model.
const MODEL_FILES: [&str; 2] = ["model.safetensors", "tokenizer.json"];
/// The most threads of a local embedder.
const MAX_THREADS: u32 = 64;
/// The most numbers of a vector.
const MAX_DIMENSIONS: u32 = 8_192;
/// The longest that anybody may be made to wait for a vector.
const MAX_TIMEOUT: Duration = Duration::from_secs(60);

/// What turns texts into vectors, for caches that know a question in other words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EmbedderSettings {
    /// Where it runs.
    #[schemars(extend("examples" = ["local"]))]
    pub kind: EmbedderKind,
    /// For `local`: the folder of the model, as `tidegate models fetch` makes it.
    #[schemars(extend("examples" = ["models/all-MiniLM-L6-v2"]))]
    pub folder: Option<PathBuf>,
    /// For `local`: how many threads it has, 1 to 64. Absent: 1.
    #[schemars(extend("examples" = [1]))]
    pub threads: Option<u32>,
    /// For `provider`: the embedding model of a provider that is on.
    #[schemars(extend("examples" = ["openai/text-embedding-3-small"]))]
    pub model: Option<String>,
    /// For `provider`: how many numbers its vectors have; sent with each request.
    #[schemars(extend("examples" = [1536]))]
    pub dimensions: Option<u32>,
    /// How long a vector may take. What asked for it goes on without one.
    #[schemars(extend("examples" = ["1s"]))]
    pub timeout: HumanDuration,
}

impl Default for EmbedderSettings {
    fn default() -> Self {
        Self {
            kind: EmbedderKind::Local,
            folder: None,
            threads: None,
            model: None,
            dimensions: None,
            timeout: HumanDuration::secs(1),
        }
    }
}

/// Where an embedder runs.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum EmbedderKind {
    /// On threads of this process.
    #[default]
    Local,
    /// At a provider.
    Provider,
}

/// Reports what is wrong with embedders.
pub(super) fn check(
    embedders: &BTreeMap<String, EmbedderSettings>,
    providers: &BTreeMap<ProviderId, Enabled>,
    checking: &mut Checking<'_>,
) {
    for (name, settings) in embedders {
        let at = KeyPath::root().key("embedders").key(name);
        if settings.timeout.0.is_zero() || settings.timeout.0 > MAX_TIMEOUT {
            checking.report(at.key("timeout"), "must be more than 0s and at most 60s");
        }
        match settings.kind {
            EmbedderKind::Local => local(settings, &at, checking),
            EmbedderKind::Provider => provider(settings, &at, providers, checking),
        }
    }
}

fn local(settings: &EmbedderSettings, at: &KeyPath, checking: &mut Checking<'_>) {
    if !cfg!(feature = "local-embeddings") {
        let message = "this program was built without the feature `local-embeddings`; \
                       use kind = \"provider\"";
        checking.report(at.key("kind"), message);
    }
    let foreign =
        [("model", settings.model.is_some()), ("dimensions", settings.dimensions.is_some())];
    without(&foreign, "provider", at, checking);
    if settings.threads.is_some_and(|threads| threads == 0 || threads > MAX_THREADS) {
        checking.report(at.key("threads"), "must be 1 to 64");
    }
    let Some(folder) = &settings.folder else {
        let message = "a local embedder needs a `folder`; `tidegate models fetch` makes one";
        checking.document.report_whole(checking.problems, at.clone(), message);
        return;
    };
    let missing = MODEL_FILES.iter().find(|file| !folder.join(file).is_file());
    if let Some(file) = missing {
        let folder = folder.display();
        let message =
            format!("{folder} has no {file}; `tidegate models fetch` makes such a folder");
        checking.report(at.key("folder"), message);
    }
}

fn provider(
    settings: &EmbedderSettings,
    at: &KeyPath,
    providers: &BTreeMap<ProviderId, Enabled>,
    checking: &mut Checking<'_>,
) {
    let foreign = [("folder", settings.folder.is_some()), ("threads", settings.threads.is_some())];
    without(&foreign, "local", at, checking);
    match settings.dimensions {
        None => {
            let message = "an embedder at a provider needs `dimensions`: how many numbers its \
                           vectors have";
            checking.document.report_whole(checking.problems, at.clone(), message);
        }
        Some(dimensions) if dimensions == 0 || dimensions > MAX_DIMENSIONS => {
            checking.report(at.key("dimensions"), "must be 1 to 8192");
        }
        Some(_) => {}
    }
    match &settings.model {
        None => {
            let message = "an embedder at a provider needs a `model`, such as \
                           \"openai/text-embedding-3-small\"";
            checking.document.report_whole(checking.problems, at.clone(), message);
        }
        Some(model) => {
            if let Some(problem) = problem_with(model, providers) {
                checking.report(at.key("model"), problem);
            }
        }
    }
}

/// Reports keys that are for the other kind.
fn without(keys: &[(&str, bool)], kind: &str, at: &KeyPath, checking: &mut Checking<'_>) {
    for (key, _) in keys.iter().filter(|(_, is_there)| *is_there) {
        checking.report(at.key(key), format!("is for kind = {kind:?}; leave it out"));
    }
}

/// Why a model cannot embed, if it cannot.
fn problem_with(model: &str, providers: &BTreeMap<ProviderId, Enabled>) -> Option<String> {
    let Some((provider, name)) = model.split_once('/') else {
        return Some(format!("{model:?} names no provider; write it as \"provider/model\""));
    };
    let Some(enabled) = providers.get(provider) else {
        return Some(format!("provider {provider:?} is not on; add [providers.{provider}]"));
    };
    let kind = match enabled.provider.model(name) {
        Some(model) => model.kind,
        // Nothing is known of a model that is not listed.
        None if enabled.provider.open_models && !name.is_empty() => return None,
        None => {
            let models = enabled.provider.models.iter();
            let embedding = models.filter(|model| model.kind == ModelKind::Embedding);
            let hint = nearest(name, embedding.map(|model| model.name.as_str()))
                .map_or_else(String::new, |near| format!(" (did you mean \"{provider}/{near}\"?)"));
            return Some(format!("unknown model {name:?} of provider {provider:?}{hint}"));
        }
    };
    match kind {
        ModelKind::Embedding => None,
        ModelKind::Chat | ModelKind::Completion => {
            Some(format!("{model:?} makes text, not vectors"))
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Environment, Source, load};

    const PROVIDERS: &str = "[providers.chat]\ndialect = \"openai-chat\"\nbase_url = \"sim://chat/v1\"\n\
        credentials = [{ none = true }]\nmodels = [{ id = \"words\" }, { id = \"vectors\", kind = \
        \"embedding\" }]\n";

    /// The problems of a configuration with this embedder, without file and line.
    fn problems(embedder: &str) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let (half, whole) = (folder.path().join("half"), folder.path().join("whole"));
        for (model, files) in [(&half, 1), (&whole, 2)] {
            std::fs::create_dir(model).unwrap();
            for file in &super::MODEL_FILES[..files] {
                std::fs::write(model.join(file), "").unwrap();
            }
        }
        let file = folder.path().join("tidegate.toml");
        let embedder = embedder.replace("FOLDER", &folder.path().display().to_string());
        std::fs::write(&file, format!("{PROVIDERS}[embedders.small]\n{embedder}\n")).unwrap();
        let source = Source {
            file: Some(file),
            ..Source::environment(Environment::fixed([("NO", "thing")]))
        };
        match load(&source, None) {
            Ok(_) => Vec::new(),
            Err(problems) => problems
                .iter()
                .map(|problem| format!("{}: {}", problem.key.as_str(), problem.message))
                .collect(),
        }
    }

    #[test]
    fn embedders_that_can_run_are_no_problem() {
        let local = "folder = \"FOLDER/whole\"\nthreads = 2";
        assert_eq!(problems(local).is_empty(), cfg!(feature = "local-embeddings"));
        let provider = "kind = \"provider\"\nmodel = \"chat/vectors\"\ndimensions = 64";
        assert_eq!(problems(provider), Vec::<String>::new());
    }

    #[test]
    fn embedders_that_cannot_run_are_told_what_is_wrong() {
        for (embedder, words) in [
            ("", "embedders.small: a local embedder needs a `folder`"),
            ("folder = \"FOLDER/half\"", "has no tokenizer.json; `tidegate models fetch`"),
            ("folder = \"FOLDER/whole\"\nthreads = 0", "threads: must be 1 to 64"),
            ("folder = \"FOLDER/whole\"\ntimeout = \"0s\"", "timeout: must be more than 0s"),
            (
                "folder = \"FOLDER/whole\"\nmodel = \"chat/vectors\"",
                "model: is for kind = \"provider\"",
            ),
            ("kind = \"provider\"\nmodel = \"chat/vectors\"", "needs `dimensions`"),
            ("kind = \"provider\"\ndimensions = 64", "needs a `model`"),
            ("kind = \"provider\"\ndimensions = 0\nmodel = \"chat/vectors\"", "must be 1 to 8192"),
            ("kind = \"provider\"\ndimensions = 64\nmodel = \"vectors\"", "names no provider"),
            ("kind = \"provider\"\ndimensions = 64\nmodel = \"other/vectors\"", "is not on; add"),
            (
                "kind = \"provider\"\ndimensions = 64\nmodel = \"chat/words\"",
                "makes text, not vectors",
            ),
            (
                "kind = \"provider\"\ndimensions = 64\nmodel = \"chat/vector\"",
                "(did you mean \"chat/vectors\"?)",
            ),
        ] {
            let found = problems(embedder);
            assert!(found.iter().any(|problem| problem.contains(words)), "{embedder}: {found:?}");
        }
    }
}
