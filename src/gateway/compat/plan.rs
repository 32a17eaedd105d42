//! What a run asks: its cases and both sides, as they were when it began.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::compat::suite::{Case, InlinePrompt, Suite};
use crate::compat::{Side, SidePrompt};
use crate::problems::Problems;
use crate::prompt::{Prompt, Prompts, RenderedMessage, Role, Version};
use crate::runs::{RunRecord, SuiteRow};

/// What a run asks.
#[derive(Debug)]
pub(super) struct Plan {
    suite: Suite,
    /// The cases that are asked, by their place in the suite; in an order drawn by the run's seed,
    /// so that what is there when a run ends early is of all kinds.
    chosen: Vec<usize>,
    /// The baseline and the candidate.
    pub(super) sides: [Asked; 2],
    prompts: Arc<Prompts>,
    seed: u64,
}

/// One of the sides, ready to be asked.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) side: Side,
    /// The registered prompt, where it is one.
    prompt: Option<Arc<Prompt>>,
    /// What the prompt says, as one number.
    content: String,
    /// The tools that the model is given.
    pub(super) tools: Vec<Value>,
}

/// A question.
#[derive(Debug)]
pub(super) struct Question {
    /// What is asked, as text.
    pub(super) text: String,
    /// The body of a chat completion.
    pub(super) body: Value,
}

/// What is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Lacks {
    /// A prompt's version that this node may not have heard of yet.
    Version(String),
    /// It never will be there.
    Never(String),
}

// === impl Plan ===

impl Plan {
    /// Reads what a run asks; `text` is what its suite said when it began.
    ///
    /// # Errors
    ///
    /// What is not there.
    pub(super) fn read(
        run: &RunRecord,
        text: String,
        prompts: Arc<Prompts>,
    ) -> Result<Self, Lacks> {
        let row = SuiteRow {
            id: run.suite.clone(),
            prompt: None,
            hash: String::new(),
            text,
            created_ms: 0,
        };
        let mut problems = Problems::default();
        let mut suite = Suite::parse(&row.id, &row.files(), &mut problems).ok_or_else(|| {
            let first = problems.iter().next().map(ToString::to_string).unwrap_or_default();
            Lacks::Never(format!("the suite cannot be read any more: {first}"))
        })?;
        if let Some(only) = &run.only {
            only.leave_in(&mut suite);
        }
        // A copy would count what it fails twice.
        suite.leave_out_same();
        let sides = [
            Asked::find(&run.baseline, &suite, &prompts)?,
            Asked::find(&run.candidate, &suite, &prompts)?,
        ];
        let chosen: Vec<&str> =
            suite.chosen_for(run.depth, &touched(&sides)).iter().map(|case| &*case.id).collect();
        let mut chosen: Vec<usize> = (0..suite.cases.len())
            .filter(|index| suite.cases.get(*index).is_some_and(|case| chosen.contains(&&*case.id)))
            .collect();
        if chosen.is_empty() {
            return Err(Lacks::Never("the suite has no cases at this depth".to_owned()));
        }
        let drawn = |index: &usize| {
            let id = suite.cases.get(*index).map(|case| case.id.as_bytes()).unwrap_or_default();
            let said = [&run.seed.to_be_bytes()[..], id].concat();
            *blake3::hash(&said).as_bytes()
        };
        chosen.sort_by_cached_key(drawn);
        Ok(Self { suite, chosen, sides, prompts, seed: run.seed })
    }

    /// How many cases are asked.
    pub(super) fn len(&self) -> usize {
        self.chosen.len()
    }

    /// The cases that are asked.
    pub(super) fn cases(&self) -> impl Iterator<Item = &Case> {
        self.chosen.iter().filter_map(|index| self.suite.cases.get(*index))
    }

    /// The case at a place.
    pub(super) fn case(&self, place: usize) -> Option<&Case> {
        self.suite.cases.get(*self.chosen.get(place)?)
    }

    /// The prompts that bodies name.
    pub(super) fn prompts(&self) -> &Arc<Prompts> {
        &self.prompts
    }

    /// One of the sides: the candidate, or the baseline.
    pub(super) fn side(&self, is_candidate: bool) -> &Asked {
        let [baseline, candidate] = &self.sides;
        if is_candidate { candidate } else { baseline }
    }

    /// Tells case, side and what the prompt says from any other: the first 16 bytes of a BLAKE3 in
    /// hex.
    pub(super) fn reuse_key(&self, case: &Case, is_candidate: bool) -> String {
        let asked = self.side(is_candidate);
        let said = json!([case.id, case.hash, asked.side.hash(), asked.content]).to_string();
        blake3::hash(said.as_bytes()).to_hex().chars().take(32).collect()
    }

    /// What is asked of a side, the given number of times before.
    ///
    /// # Errors
    ///
    /// Why it cannot be asked.
    pub(super) fn question(
        &self,
        case: &Case,
        is_candidate: bool,
        sample: u32,
    ) -> Result<Question, String> {
        let asked = self.side(is_candidate);
        let mut body = Map::new();
        body.insert("model".to_owned(), Value::from(asked.side.model.as_str()));
        let messages = match (&asked.side.prompt, &asked.prompt) {
            (SidePrompt::Registered { id, version }, Some(prompt)) => {
                let vars = case.vars_for(prompt);
                let prompt_of = json!({"id": id, "version": version, "variables": vars});
                body.insert("prompt".to_owned(), prompt_of);
                prompt.render(vars).map_err(|error| error.to_string())?.messages
            }
            (SidePrompt::Inline { index, .. }, _) => {
                let messages = self.suite.question(*index, &case.vars)?;
                let said = |message: &RenderedMessage| json!({"role": message.role.as_str(), "content": message.text});
                body.insert("messages".to_owned(), messages.iter().map(said).collect());
                messages
            }
            (SidePrompt::Registered { .. }, None) => return Err("the prompt is gone".to_owned()),
        };
        // Not more than 31 bits: some providers read it as a signed number.
        let seed = self.seed.wrapping_add(u64::from(sample)) & 0x7fff_ffff;
        body.insert("seed".to_owned(), Value::from(seed));
        body.extend(asked.side.parameters.clone());
        Ok(Question { text: as_text(&messages), body: Value::Object(body) })
    }
}

// === impl Asked ===

impl Asked {
    fn find(side: &Side, suite: &Suite, prompts: &Prompts) -> Result<Self, Lacks> {
        let (prompt, content) = match &side.prompt {
            SidePrompt::Registered { id, version } => {
                let number: Version = version
                    .parse()
                    .map_err(|()| Lacks::Never(format!("{version:?} is no version")))?;
                let found = prompts.version(id, number).ok_or_else(|| {
                    Lacks::Version(format!("the prompt {id}@{version} is not there any more"))
                })?;
                (Some(Arc::clone(found)), found.hash.to_string())
            }
            SidePrompt::Inline { index, label } => {
                let found = suite.prompts.get(*index).ok_or_else(|| {
                    Lacks::Never(format!("the suite has no prompt {label:?} any more"))
                })?;
                (None, said(found))
            }
        };
        let given = side.parameters.get("tools").and_then(Value::as_array).cloned();
        let own = || prompt.as_ref().map(|prompt| prompt.tools.clone()).unwrap_or_default();
        let tools = given.unwrap_or_else(own);
        Ok(Self { side: side.clone(), prompt, content, tools })
    }

    /// The most tokens of an answer, where that is asked for.
    pub(super) fn most_tokens(&self) -> Option<u64> {
        let of_prompt = self.prompt.as_ref().map(|prompt| &prompt.parameters);
        let parameters = [Some(&self.side.parameters), of_prompt];
        parameters.into_iter().flatten().find_map(|parameters| {
            let keys = ["max_tokens", "max_completion_tokens"];
            keys.iter().find_map(|key| parameters.get(*key)?.as_u64())
        })
    }
}

/// The variables and tools in which the sides differ: cases about them are asked, too.
fn touched(sides: &[Asked; 2]) -> Vec<String> {
    let [baseline, candidate] = sides;
    let (Some(before), Some(after)) = (&baseline.prompt, &candidate.prompt) else {
        return Vec::new();
    };
    let variables = |prompt: &Prompt| {
        let known = prompt.variables().get("properties").and_then(Value::as_object);
        known.cloned().unwrap_or_default()
    };
    let tools = |prompt: &Prompt| -> Map<String, Value> {
        let named = |tool: &Value| {
            Some((tool.pointer("/function/name")?.as_str()?.to_owned(), tool.clone()))
        };
        prompt.tools.iter().filter_map(named).collect()
    };
    let mut touched = differing(&variables(before), &variables(after));
    touched.extend(differing(&tools(before), &tools(after)));
    touched
}

/// The names whose values are not the same in both.
fn differing(one: &Map<String, Value>, other: &Map<String, Value>) -> Vec<String> {
    let names = one.keys().chain(other.keys().filter(|name| !one.contains_key(*name)));
    names.filter(|name| one.get(*name) != other.get(*name)).cloned().collect()
}

/// What an inline prompt says, as one number.
fn said(prompt: &InlinePrompt) -> String {
    let messages = prompt.messages.iter();
    let said: Value =
        messages.map(|message| json!([message.role.as_str(), message.content])).collect();
    blake3::hash(said.to_string().as_bytes()).to_hex().to_string()
}

/// What is asked, as text: the message of a user who says one thing, else all with who says them.
fn as_text(messages: &[RenderedMessage]) -> String {
    match messages {
        [only] if only.role == Role::User => only.text.clone(),
        messages => {
            let said =
                |message: &RenderedMessage| format!("{}: {}", message.role.as_str(), message.text);
            messages.iter().map(said).collect::<Vec<_>>().join("\n\n")
        }
    }
}
