//! Calls of tools in an answer.

use std::collections::BTreeSet;

use serde_json::Value;

use super::found::{Found, Seen, quoted};
use super::json::first_misfit;
use super::test::{Spec, Wrong};
use super::text;
use crate::compat::Call;
use crate::prompt::compile_schema;

/// How many calls there must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CallForm {
    /// At least one: `is-valid-openai-tools-call`.
    Some,
    /// Exactly one: `is-valid-function-call`.
    One,
}

/// Names that `tool-call-f1` expects: a list, or a text with commas.
pub(super) fn expected(spec: &Spec<'_>) -> Result<Vec<String>, Wrong> {
    let names = match spec.value {
        Some(Value::String(list)) => text::separated(list),
        Some(_) | None => spec.texts()?,
    };
    match names.is_empty() {
        true => Err(Wrong::value("must name at least one tool")),
        false => Ok(names),
    }
}

/// Whether all calls are of tools that there are, with arguments that fit.
pub(super) fn calls(form: CallForm, seen: &Seen<'_>) -> Found {
    let calls = &seen.answer.calls;
    let is_right_number = match form {
        CallForm::Some => !calls.is_empty(),
        CallForm::One => calls.len() == 1,
    };
    if !is_right_number {
        return Found::is(false, format!("calls {} tools", calls.len()));
    }
    match calls.iter().find_map(|call| misfit(call, seen.tools)) {
        Some(misfit) => Found::is(false, misfit),
        None => Found::is(true, "all calls fit their tools"),
    }
}

/// Why a call is wrong.
fn misfit(call: &Call, tools: &[Value]) -> Option<String> {
    let name = quoted(&call.name);
    let of = |tool: &&Value| {
        let function = tool.get("function").unwrap_or(tool);
        function.get("name").and_then(Value::as_str) == Some(call.name.as_str())
    };
    let Some(tool) = tools.iter().find(of) else {
        return Some(format!("calls {name}, which is no tool that it was given"));
    };
    let arguments: Value = match serde_json::from_str(&call.arguments) {
        Ok(arguments) => arguments,
        Err(error) => return Some(format!("the arguments of {name} are no JSON: {error}")),
    };
    if !arguments.is_object() {
        return Some(format!("the arguments of {name} are no object"));
    }
    let function = tool.get("function").unwrap_or(tool);
    let schema = function.get("parameters")?;
    match compile_schema(schema) {
        Ok(schema) => first_misfit(&schema, &arguments)
            .map(|misfit| format!("the arguments of {name} do not fit: {misfit}")),
        Err(problem) => Some(format!("the parameters of the tool {name}: {problem}")),
    }
}

/// The F1 of the names of tools that are called, each once, whatever their order.
pub(super) fn names(expected: &[String], threshold: f64, calls: &[Call]) -> Found {
    let expected: BTreeSet<&str> = expected.iter().map(String::as_str).collect();
    let called: BTreeSet<&str> = calls.iter().map(|call| call.name.as_str()).collect();
    let both = expected.intersection(&called).count();
    let f1 = 2.0 * both as f64 / (expected.len() + called.len()).max(1) as f64;
    Found::scored(f1, threshold, "F1 of tools")
}
