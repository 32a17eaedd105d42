//! Puts a registered prompt into the request that names it.
//!
//! `"prompt": {"id", "version", "variables"}` is the shape of OpenAI's Responses API. The prompt's
//! messages go before the request's own: they say what the conversation is about, and what callers
//! add (a history, pictures) continues it. On Anthropic's wire its system messages go before the
//! request's own `system`. Everything else of the prompt holds where the request says nothing: the
//! model, parameters, tools, the form of the answer. A request with tools of its own gets none of
//! the prompt's, nor its `tool_choice`.
//!
//! From here on the request is one that its caller could have written; only [`Prompted`] remembers
//! what it was.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::rolled::{Rolled, Whose};
use crate::dialect::{Envelope, Splice};
use crate::journal::EndpointKind;
use crate::policy::rollout::Arm;
use crate::prompt::{Prompt, Prompts, Rendered, RenderedMessage, Role, Wanted};
use crate::rejection::Rejection;
use crate::rollout::{Rollouts, Subject};

#[cfg(test)]
mod tests;

/// The prompt that a request was made with.
#[derive(Debug)]
pub struct Prompted {
    /// The version.
    pub prompt: Arc<Prompt>,
    /// The body as the caller sent it.
    pub sent: Bytes,
    /// The side of the prompt's rollout that the request is on.
    pub side: Option<Rolled>,
}

/// Where versions of prompts are looked up, and for whom.
#[derive(Clone, Copy)]
pub struct Lookup<'a> {
    /// All of them; asked for only where a request names a prompt.
    pub prompts: &'a dyn Fn() -> Arc<Prompts>,
    /// What is rolled out.
    pub rollouts: &'a Rollouts,
    /// Whose the request is.
    pub whose: Whose<'a>,
}

/// What a request says of the prompt it wants.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Reference {
    id: String,
    #[serde(default)]
    version: Option<String>,
    #[serde(default)]
    variables: Option<Map<String, Value>>,
}

/// Bytes of a prompt's messages, about.
const USUAL_PROMPT: usize = 1_024;

/// Why a prompt cannot be said on Anthropic's wire.
const NO_FIELD: &str = "the Messages API has no such field; use the prompt on /v1/chat/completions";

/// Reads the body of a request and, where it names a registered prompt, puts that in. Only then
/// `prompts` is asked.
///
/// # Errors
///
/// [`Rejection::Invalid`] and [`Rejection::UnknownPrompt`], each with the field that is to blame.
pub fn read(
    kind: EndpointKind,
    body: Bytes,
    lookup: Lookup<'_>,
) -> Result<(Envelope, Option<Box<Prompted>>), Rejection> {
    let envelope = Envelope::read(body)?;
    if !envelope.names_prompt() {
        return Ok((envelope, None));
    }
    match kind {
        EndpointKind::Chat | EndpointKind::Messages | EndpointKind::CountTokens => {}
        // Theirs is another `prompt`.
        EndpointKind::Completions | EndpointKind::Embeddings => {
            let problem = "a registered prompt has messages; use it on /v1/chat/completions";
            return Err(Rejection::invalid("prompt", problem));
        }
    }
    let Chosen { prompt, rendered, side } = choose(&envelope, lookup)?;
    let mut splice = Splice::new(&envelope);
    splice.remove("prompt");
    match (&prompt.target_model, envelope.has("model")) {
        (_, true) => {}
        (Some(model), false) => splice.set_text("model", model),
        (None, false) => {
            let problem = format!("`model` is missing, and `{}` names none either", prompt.name);
            return Err(Rejection::invalid("model", problem));
        }
    }
    match kind {
        EndpointKind::Messages | EndpointKind::CountTokens => {
            Anthropic { prompt: &prompt, envelope: &envelope }.write(
                kind,
                &rendered,
                &mut splice,
            )?;
        }
        EndpointKind::Chat | EndpointKind::Completions | EndpointKind::Embeddings => {
            write_chat(&prompt, &rendered, &envelope, &mut splice);
        }
    }
    let filled = splice.into_envelope()?;
    let sent = envelope.body().clone();
    Ok((filled, Some(Box::new(Prompted { prompt, sent, side }))))
}

/// The version that a request gets, with its variables filled in.
struct Chosen {
    prompt: Arc<Prompt>,
    rendered: Rendered,
    side: Option<Rolled>,
}

/// Finds the version: the one that is pinned; else, where the one that is found by label or range
/// is the control of a rollout, that of the request's side; else that one.
fn choose(envelope: &Envelope, lookup: Lookup<'_>) -> Result<Chosen, Rejection> {
    let raw = envelope.raw("prompt").unwrap_or_default();
    if raw.len() > Prompt::MAX_VARIABLES_BYTES {
        let problem = format!(
            "`prompt` takes {} bytes, more than the {} that it may",
            raw.len(),
            Prompt::MAX_VARIABLES_BYTES
        );
        return Err(Rejection::invalid("prompt.variables", problem));
    }
    let Reference { id, version, variables } = serde_json::from_slice(raw).map_err(|error| {
        let problem = format!(
            "`prompt` must be an object of `id`, `version` and `variables`, of which only `id` is \
             needed: {error}"
        );
        Rejection::invalid("prompt", problem)
    })?;
    let wanted = version.as_deref().map_or(Ok(Wanted::Unsaid), Wanted::parse);
    let wanted = wanted.map_err(|problem| {
        Rejection::invalid("prompt.version", format!("`prompt.version`: {problem}"))
    })?;
    let prompts = (lookup.prompts)();
    let found = prompts.find(&id, &wanted).map_err(|unfound| Rejection::UnknownPrompt {
        problem: unfound.problem,
        param: unfound.param,
    })?;
    let rolled = lookup.side(envelope, (&prompts, found), &wanted);
    let (prompt, side) = match rolled {
        Some((prompt, side)) => (prompt, Some(side)),
        None => (Arc::clone(found), None),
    };
    let rendered = prompt.render(variables.unwrap_or_default()).map_err(|error| {
        Rejection::invalid(error.param(), format!("the prompt `{}`: {error}", prompt.name))
    })?;
    Ok(Chosen { prompt, rendered, side })
}

// === impl Lookup ===

impl fmt::Debug for Lookup<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lookup").field("whose", &self.whose).finish_non_exhaustive()
    }
}

impl Lookup<'_> {
    /// The request's side of a rollout of this prompt, and that side's version. `None` where the
    /// version is pinned, or the rollout is not about the version that was found.
    fn side(
        self,
        envelope: &Envelope,
        (prompts, found): (&Prompts, &Arc<Prompt>),
        wanted: &Wanted,
    ) -> Option<(Arc<Prompt>, Rolled)> {
        if self.rollouts.is_idle() {
            return None;
        }
        let steering = self.rollouts.steering();
        let steered = steering.prompts.get(&found.id)?;
        let Subject::Prompt { from, to, .. } = &steered.subject else { return None };
        let may_be_candidate = match wanted {
            Wanted::Exact(_) => false,
            Wanted::Within(..) => wanted.takes(*to),
            Wanted::Label(_) | Wanted::Unsaid => true,
        };
        if *from != found.version || !may_be_candidate {
            return None;
        }
        // A node that has not heard of the candidate yet serves the control, and says nothing of
        // it.
        let candidate = prompts.version(found.id.as_str(), *to)?;
        let side = Rolled::draw(steered, self.whose, envelope);
        let prompt = match side.arm {
            Arm::Control => found,
            Arm::Candidate => candidate,
        };
        Some((Arc::clone(prompt), side))
    }
}

/// On the wire of chat completions, which is the prompt's own.
fn write_chat(prompt: &Prompt, rendered: &Rendered, envelope: &Envelope, splice: &mut Splice<'_>) {
    let messages: Vec<Said<'_>> = rendered.messages.iter().map(Said::of).collect();
    splice.set("messages", before(&messages, envelope.raw("messages")));
    let own_tools = envelope.has("tools");
    if !own_tools && !prompt.tools.is_empty() {
        splice.set("tools", bytes_of(&Value::from(prompt.tools.clone())));
    }
    for (name, value) in &prompt.parameters {
        let is_said = match name.as_str() {
            "max_tokens" => envelope.has("max_tokens") || envelope.has("max_completion_tokens"),
            "tool_choice" | "parallel_tool_calls" => own_tools || envelope.has(name),
            _ => envelope.has(name),
        };
        if !is_said {
            splice.set(name, bytes_of(value));
        }
    }
    if let Some(format) = &prompt.response_format
        && !envelope.has("response_format")
    {
        splice.set("response_format", bytes_of(format));
    }
}

/// On Anthropic's wire.
struct Anthropic<'a> {
    prompt: &'a Prompt,
    envelope: &'a Envelope,
}

// === impl Anthropic ===

impl Anthropic<'_> {
    fn write(
        &self,
        kind: EndpointKind,
        rendered: &Rendered,
        splice: &mut Splice<'_>,
    ) -> Result<(), Rejection> {
        let mut system = Vec::new();
        let mut messages = Vec::new();
        for message in &rendered.messages {
            match message.role {
                Role::System | Role::Developer => {
                    system.push(json!({"type": "text", "text": message.text}));
                }
                Role::User | Role::Assistant => {
                    messages.push(Said::of(message));
                }
            }
        }
        splice.set("messages", before(&messages, self.envelope.raw("messages")));
        if !system.is_empty() {
            splice.set("system", self.system(system));
        }
        let own_tools = self.envelope.has("tools");
        if !own_tools && !self.prompt.tools.is_empty() {
            let tools: Vec<Value> = self.prompt.tools.iter().map(tool).collect();
            splice.set("tools", bytes_of(&Value::from(tools)));
        }
        if kind == EndpointKind::CountTokens {
            return Ok(());
        }
        for (name, value) in &self.prompt.parameters {
            self.parameter(name, value, splice)?;
        }
        self.format(splice)
    }

    /// The prompt's system messages and then the request's own.
    fn system(&self, blocks: Vec<Value>) -> Vec<u8> {
        match self.envelope.text("system") {
            Some(own) => {
                let own = [json!({"type": "text", "text": own})];
                bytes_of(&Value::Array(blocks.into_iter().chain(own).collect()))
            }
            None => before(&blocks, self.envelope.raw("system")),
        }
    }

    fn parameter(
        &self,
        name: &str,
        value: &Value,
        splice: &mut Splice<'_>,
    ) -> Result<(), Rejection> {
        let (field, value) = match name {
            "temperature" | "top_p" | "max_tokens" => (name, value.clone()),
            "stop" => ("stop_sequences", value.clone()),
            "tool_choice" if self.envelope.has("tools") => return Ok(()),
            "tool_choice" => {
                let kind = if value == "required" { json!("any") } else { value.clone() };
                ("tool_choice", json!({"type": kind}))
            }
            _ => return Err(self.cannot(name, NO_FIELD)),
        };
        if !self.envelope.has(field) {
            splice.set(field, bytes_of(&value));
        }
        Ok(())
    }

    fn format(&self, splice: &mut Splice<'_>) -> Result<(), Rejection> {
        let Some(format) = &self.prompt.response_format else { return Ok(()) };
        let is_said = ["output_config", "output_format"].iter().any(|key| self.envelope.has(key));
        let schema = format.pointer("/json_schema/schema");
        match (schema, is_said) {
            (_, true) => Ok(()),
            (Some(schema), false) => {
                let format = json!({"format": {"type": "json_schema", "schema": schema}});
                splice.set("output_config", bytes_of(&format));
                Ok(())
            }
            (None, false) if format.get("type").is_some_and(|kind| kind == "text") => Ok(()),
            (None, false) => {
                let problem = "the Messages API knows JSON only with a schema; use `json_schema`, \
                               or the prompt on /v1/chat/completions";
                Err(self.cannot("response_format", problem))
            }
        }
    }

    fn cannot(&self, field: &str, problem: &str) -> Rejection {
        let problem = format!("the prompt `{}` sets `{field}`: {problem}", self.prompt.name);
        Rejection::invalid("prompt", problem)
    }
}

/// A tool in the words of Anthropic's wire.
fn tool(tool: &Value) -> Value {
    let function = tool.get("function").and_then(Value::as_object);
    let mut written = Map::new();
    for (from, to) in [("name", "name"), ("description", "description"), ("strict", "strict")] {
        if let Some(value) = function.and_then(|function| function.get(from)) {
            written.insert(to.to_owned(), value.clone());
        }
    }
    let schema = function.and_then(|function| function.get("parameters"));
    let schema = schema.cloned().unwrap_or_else(|| json!({"type": "object", "properties": {}}));
    written.insert("input_schema".to_owned(), schema);
    Value::Object(written)
}

/// A message of the prompt.
#[derive(Serialize)]
struct Said<'a> {
    role: &'static str,
    content: &'a str,
}

impl<'a> Said<'a> {
    fn of(message: &'a RenderedMessage) -> Self {
        Self { role: message.role.as_str(), content: &message.text }
    }
}

/// A JSON array of these and then of what another holds.
fn before<T: Serialize>(first: &[T], rest: Option<&[u8]>) -> Vec<u8> {
    let mut array = Vec::with_capacity(rest.map_or(0, <[u8]>::len) + USUAL_PROMPT);
    // Writing plain data into memory cannot fail.
    let written = serde_json::to_writer(&mut array, first);
    debug_assert!(written.is_ok(), "a prompt is plain data");
    let rest = rest.and_then(|rest| rest.strip_prefix(b"[")?.strip_suffix(b"]"));
    let rest = rest.unwrap_or_default().trim_ascii();
    if !rest.is_empty() {
        array.pop();
        if array.len() > 1 {
            array.push(b',');
        }
        array.extend_from_slice(rest);
        array.push(b']');
    }
    array
}

fn bytes_of(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}
