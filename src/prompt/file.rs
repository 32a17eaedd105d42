//! The format of `prompts/<id>/<version>.toml`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::LazyLock;

use serde::Serialize;
use serde_json::{Value, json};

use super::template::{MAX_TEMPLATE_BYTES, TemplateProblem, Templates};
use super::variables::{self, Variables, missing_in};
use super::written::{
    FormatKind, FormatSettings, MessageSettings, Parameters, PromptFile, ToolSettings,
};
use super::{ContentHash, Deprecation, Prompt, Version, quoted};
use crate::ids::PromptId;
use crate::problems::{Document, KeyPath, Problems, nearest};

/// More messages than any prompt has.
const MAX_MESSAGES: usize = 64;
/// More tools than any provider takes.
const MAX_TOOLS: usize = 128;
/// The longest name of a prompt.
const MAX_ID_BYTES: usize = 64;
/// What is wrong with a text that is no time.
pub(super) const NO_TIME: &str =
    "must be a day like 2026-11-02 or a time like 2026-11-02T10:00:00Z";

/// What a file may say; derived once, because there are many files.
static SCHEMA: LazyLock<Value> = LazyLock::new(|| schemars::schema_for!(PromptFile).to_value());

/// Where things are reported.
struct Checking<'a> {
    document: &'a Document,
    problems: &'a mut Problems,
}

/// Reads the text of one version. Reports everything that is wrong with it; none where it cannot be
/// used.
pub(super) fn parse(file: &Path, text: &str, problems: &mut Problems) -> Option<Prompt> {
    let before = problems.len();
    let (id, version) = named(file, problems);
    let document = Document::parse(file, text, problems);
    let prompt = read(document, (id, version), problems);
    prompt.filter(|_| problems.len() == before)
}

/// Reads one version that was written as JSON, under the same names.
pub(super) fn parse_json(
    (id, version): (&PromptId, Version),
    content: Value,
    problems: &mut Problems,
) -> Option<Prompt> {
    let before = problems.len();
    let file = Path::new(id.as_str()).join(format!("{version}.json"));
    let document = Document::of(&file, content);
    let prompt = read(document, (Some(id.clone()), Some(version)), problems);
    prompt.filter(|_| problems.len() == before)
}

fn read(
    mut document: Document,
    (id, version): (Option<PromptId>, Option<Version>),
    problems: &mut Problems,
) -> Option<Prompt> {
    let read: PromptFile = document.read(&SCHEMA, |_, _| None, problems)?;
    Checking { document: &document, problems }.prompt(read, id, version)
}

/// Whether a text may be the name of a prompt.
pub(super) fn is_id(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    text.len() <= MAX_ID_BYTES
        && text.bytes().next().is_some_and(is_plain)
        && text.bytes().all(|byte| is_plain(byte) || matches!(byte, b'-' | b'_' | b'.'))
}

/// Whether a text is a day or a time.
pub(super) fn is_time(text: &str) -> bool {
    text.parse::<jiff::civil::Date>().is_ok() && text.len() == "2026-11-02".len()
        || text.parse::<jiff::Timestamp>().is_ok()
}

/// What is no name of a prompt, in words.
pub(super) fn no_id(text: &str) -> String {
    format!(
        "{text:?} is no name of a prompt: up to {MAX_ID_BYTES} of `a-z`, `0-9`, `-`, `_` and `.`, a \
         letter or digit first"
    )
}

/// The prompt and the version that a path names.
fn named(file: &Path, problems: &mut Problems) -> (Option<PromptId>, Option<Version>) {
    let text =
        |part: Option<&std::ffi::OsStr>| part.and_then(|part| part.to_str()).map(str::to_owned);
    let mut report = |message: String| problems.add(file, 0, KeyPath::root(), message);
    let id = text(file.parent().and_then(Path::file_name)).unwrap_or_default();
    let is_id = is_id(&id);
    if !is_id {
        report(no_id(&id));
    }
    let stem = text(file.file_stem()).unwrap_or_default();
    let version = stem.parse().ok();
    if version.is_none() {
        report(format!(
            "{stem:?} is no version; name the file like `1.2.0.toml` (labels go to `labels.toml`)"
        ));
    }
    (is_id.then(|| PromptId::new(id)), version)
}

// === impl Checking ===

impl Checking<'_> {
    fn report(&mut self, key: KeyPath, message: impl Into<String>) {
        self.document.report(self.problems, key, message);
    }

    fn prompt(
        mut self,
        read: PromptFile,
        id: Option<PromptId>,
        version: Option<Version>,
    ) -> Option<Prompt> {
        let root = KeyPath::root();
        let deprecated = self.deprecation(&read);
        if let Some(at) = &read.created_at {
            self.time(at, root.key("created_at"));
        }
        self.models(&read);
        self.parameters(&read.parameters, &root.key("parameters"));
        self.tools(&read.tools, &root.key("tools"));
        self.format(read.response_format.as_ref(), &root.key("response_format"));
        let variables = self.variables(read.variables.as_ref());
        let templates = self.templates(&read.messages, variables.as_ref());
        let parameters = plain(&read.parameters).as_object().cloned().unwrap_or_default();
        let tools: Vec<Value> = read.tools.iter().map(plain).collect();
        let response_format = read.response_format.as_ref().map(plain);
        let messages = plain(&read.messages);
        let (variables, id, version) = (variables?, id?, version?);
        let hash = ContentHash::of(&json!({
            "target_model": read.target_model,
            "messages": messages,
            "variables": variables.schema(),
            "parameters": parameters,
            "tools": tools,
            "response_format": response_format,
        }));
        Some(Prompt {
            name: format!("{id}@{version}").into(),
            id,
            version,
            file: self.document.file().to_owned(),
            hash,
            description: read.description,
            target_model: read.target_model,
            tested_models: read.tested_models,
            created_at: read.created_at,
            deprecated,
            parameters,
            tools,
            response_format,
            roles: read.messages.iter().map(|message| message.role).collect(),
            sources: read.messages.into_iter().map(|message| message.content).collect(),
            templates,
            variables,
            proven: super::Proven::default(),
        })
    }

    fn deprecation(&mut self, read: &PromptFile) -> Option<Deprecation> {
        let root = KeyPath::root();
        let reason = read.deprecation_reason.clone();
        match &read.deprecated_at {
            Some(at) => {
                self.time(at, root.key("deprecated_at"));
                Some(Deprecation { at: at.clone(), reason: reason.unwrap_or_default() })
            }
            None => {
                if reason.is_some() {
                    let message = "has no effect without `deprecated_at`";
                    self.report(root.key("deprecation_reason"), message);
                }
                None
            }
        }
    }

    fn time(&mut self, text: &str, at: KeyPath) {
        if !is_time(text) {
            self.report(at, NO_TIME);
        }
    }

    fn models(&mut self, read: &PromptFile) {
        let root = KeyPath::root();
        if read.target_model.as_ref().is_some_and(|model| model.trim().is_empty()) {
            self.report(root.key("target_model"), "must not be empty");
        }
        let mut seen = BTreeSet::new();
        for (index, model) in read.tested_models.iter().enumerate() {
            let at = root.key("tested_models").index(index);
            if model.trim().is_empty() {
                self.report(at, "must not be empty");
            } else if !seen.insert(model) {
                self.report(at, format!("{model:?} comes twice"));
            }
        }
    }

    fn parameters(&mut self, parameters: &Parameters, at: &KeyPath) {
        let ranges = [
            ("temperature", parameters.temperature, 0.0, 2.0),
            ("top_p", parameters.top_p, 0.0, 1.0),
            ("frequency_penalty", parameters.frequency_penalty, -2.0, 2.0),
            ("presence_penalty", parameters.presence_penalty, -2.0, 2.0),
        ];
        for (name, value, least, most) in ranges {
            if value.is_some_and(|value| !(least..=most).contains(&value)) {
                self.report(at.key(name), format!("must be {least} to {most}"));
            }
        }
        if parameters.max_tokens == Some(0) {
            self.report(at.key("max_tokens"), "must be at least 1");
        }
    }

    fn tools(&mut self, tools: &[ToolSettings], at: &KeyPath) {
        if tools.len() > MAX_TOOLS {
            self.report(at.clone(), format!("has more than {MAX_TOOLS} tools"));
        }
        let mut seen = BTreeMap::new();
        for (index, tool) in tools.iter().enumerate() {
            let at = at.index(index).key("function");
            let function = &tool.function;
            self.function_name(&function.name, at.key("name"));
            if let Some(first) = seen.insert(&function.name, index) {
                let message = format!("{:?} is the name of tools[{first}], too", function.name);
                self.report(at.key("name"), message);
            }
            if let Some(parameters) = &function.parameters {
                self.schema(parameters, at.key("parameters"));
            }
        }
    }

    fn function_name(&mut self, name: &str, at: KeyPath) {
        let of_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if name.is_empty() || name.len() > 64 || !name.bytes().all(of_name) {
            self.report(at, "must be 1 to 64 of `a-z`, `A-Z`, `0-9`, `_` and `-`");
        }
    }

    fn schema(&mut self, schema: &Value, at: KeyPath) {
        if !schema.is_object() {
            self.report(at, "must be a table: a JSON Schema");
        } else if let Err(problem) = variables::compile(schema) {
            self.report(at, problem);
        }
    }

    fn format(&mut self, format: Option<&FormatSettings>, at: &KeyPath) {
        let Some(format) = format else { return };
        match (format.r#type, &format.json_schema) {
            (FormatKind::JsonSchema, None) => self.report(at.key("json_schema"), "missing"),
            (FormatKind::JsonSchema, Some(schema)) => {
                let at = at.key("json_schema");
                self.function_name(&schema.name, at.key("name"));
                self.schema(&schema.schema, at.key("schema"));
            }
            (FormatKind::Text | FormatKind::JsonObject, Some(_)) => {
                let message = "has no effect without `type = \"json_schema\"`";
                self.report(at.key("json_schema"), message);
            }
            (FormatKind::Text | FormatKind::JsonObject, None) => {}
        }
    }

    fn variables(&mut self, written: Option<&Value>) -> Option<Variables> {
        let none = json!({});
        match Variables::compile(written.unwrap_or(&none)) {
            Ok(variables) => Some(variables),
            Err((keys, problem)) => {
                let at = keys.iter().fold(KeyPath::root().key("variables"), |at, key| at.key(key));
                self.report(at, problem);
                None
            }
        }
    }

    /// Compiles the templates and holds what they use against what there is.
    fn templates(
        &mut self,
        messages: &[MessageSettings],
        variables: Option<&Variables>,
    ) -> Templates {
        let at = KeyPath::root().key("messages");
        if messages.is_empty() {
            self.report(at.clone(), "needs at least one message");
        }
        if messages.len() > MAX_MESSAGES {
            self.report(at.clone(), format!("has more than {MAX_MESSAGES} messages"));
        }
        let mut templates = Templates::new();
        let mut used = BTreeSet::new();
        let mut is_whole = true;
        for (index, message) in messages.iter().enumerate() {
            let at = at.index(index).key("content");
            if message.content.len() > MAX_TEMPLATE_BYTES {
                self.report(at, format!("is longer than {MAX_TEMPLATE_BYTES} bytes"));
                is_whole = false;
                continue;
            }
            match templates.add(&message.content) {
                Ok(names) => {
                    let known = variables.map(Variables::known);
                    for name in known.map(|known| missing_in(&names, known)).unwrap_or_default() {
                        let message = unknown(&name, known.unwrap_or_default());
                        self.report(at.clone(), message);
                    }
                    used.extend(names);
                }
                Err(TemplateProblem { line, problem }) => {
                    is_whole = false;
                    self.report(at, format!("line {line} of the template: {problem}"));
                }
            }
        }
        if let Some(variables) = variables.filter(|_| is_whole) {
            for (index, TemplateProblem { line, problem }) in
                templates.unknown_words(variables.sample())
            {
                let at = at.index(index).key("content");
                self.report(at, format!("line {line} of the template: {problem}"));
            }
        }
        let unused = |name: &&String| is_whole && !used.contains(*name);
        for name in variables.map(Variables::known).unwrap_or_default().iter().filter(unused) {
            let at = KeyPath::root().key("variables").key("properties").key(name);
            self.report(at, "no message uses it; use it or leave it out");
        }
        templates
    }
}

fn unknown(name: &str, known: &[String]) -> String {
    let hint = match nearest(name, known.iter().map(String::as_str)) {
        Some(near) => format!("did you mean `{near}`?"),
        None if known.is_empty() => "there are none".to_owned(),
        None => format!("there are {}", quoted(known)),
    };
    format!("the template uses `{name}`, which is not one of `variables.properties` ({hint})")
}

/// A setting as JSON. All of them can be.
fn plain(setting: &impl Serialize) -> Value {
    serde_json::to_value(setting).unwrap_or_default()
}
