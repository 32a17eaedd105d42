//! Prompts of a running gateway, by way of the admin API.

use std::io::{self, Write};

use serde_json::{Map, Value, json};

use super::super::client::{AdminArgs, AdminClient, ClientError, encoded};
use super::super::terms::{answered, every_page, table, text};
use super::{LabelArgs, PromptsArgs, PromptsCommand, words};
use crate::ids::PromptId;
use crate::prompt::{Prompt, Version};

/// Members of a version that are its content, as its file would say it.
const CONTENT: [&str; 11] = [
    "description",
    "target_model",
    "tested_models",
    "created_at",
    "deprecated_at",
    "deprecation_reason",
    "variables",
    "messages",
    "parameters",
    "tools",
    "response_format",
];

/// Runs a command that a gateway answers.
pub(super) fn run(
    args: &PromptsArgs,
    admin: &AdminArgs,
    out: &mut dyn Write,
    complaints: &mut dyn Write,
) -> anyhow::Result<u8> {
    let answer = admin.client().and_then(|client| ask(&client, &args.command));
    if let (Ok(version), PromptsCommand::Render { vars, variables, .. }) = (&answer, &args.command)
    {
        let prompt = compiled(version)?;
        let given = words::given(vars, variables.as_deref())?;
        return words::render(&prompt, given, args.json, (out, complaints));
    }
    Ok(answered(answer, args.json, (out, complaints), |answer, out| {
        in_words(&args.command, answer, out)
    })?)
}

fn ask(client: &AdminClient, command: &PromptsCommand) -> Result<Value, ClientError> {
    use PromptsCommand as C;
    match command {
        C::List => {
            let mut all = Vec::new();
            for prompt in every_page(client, "/prompts")?.as_array().into_iter().flatten() {
                let path = format!("/prompts/{}/versions", encoded(&text(prompt, "id")));
                let versions = every_page(client, &path)?;
                all.extend(versions.as_array().into_iter().flatten().rev().cloned());
            }
            Ok(json!({ "data": all }))
        }
        C::Show { id, version } | C::Render { id, version, .. } => {
            let version = match version {
                Some(version) => version.clone(),
                None => usual(client, id)?,
            };
            let path = format!("/prompts/{}/versions/{}", encoded(id), encoded(&version));
            client.call("GET", &path, None)
        }
        C::Diff { id, from, to } => {
            let (from, to) = (encoded(from), encoded(to));
            client.call("GET", &format!("/prompts/{}/diff?from={from}&to={to}", encoded(id)), None)
        }
        C::Label(label) => ask_label(client, label),
        C::Deprecate { id, version, reason, at, undo } => {
            let mut body = Map::new();
            if *undo {
                body.insert("deprecated_at".to_owned(), Value::Null);
            }
            for (member, value) in [("deprecated_at", at), ("deprecation_reason", reason)] {
                if let Some(value) = value {
                    body.insert(member.to_owned(), Value::from(value.as_str()));
                }
            }
            let path = format!("/prompts/{}/versions/{}", encoded(id), encoded(version));
            client.call("PATCH", &path, Some(&Value::Object(body)))
        }
        C::Push { .. } => Err(ClientError::Usage("`push` is done elsewhere".to_owned())),
    }
}

/// What a request without a version gets: `production`, else the newest that is not deprecated.
fn usual(client: &AdminClient, id: &str) -> Result<String, ClientError> {
    let versions = every_page(client, &format!("/prompts/{}/versions", encoded(id)))?;
    let versions = versions.as_array().map(Vec::as_slice).unwrap_or_default();
    let is_labelled = |version: &&Value| {
        let labels = version.get("labels").and_then(Value::as_array);
        labels.is_some_and(|labels| labels.iter().any(|label| label == "production"))
    };
    let is_good = |version: &&Value| version.get("deprecated_at").is_none_or(Value::is_null);
    let found = versions.iter().find(is_labelled).or_else(|| versions.iter().find(is_good));
    let found = found.or(versions.first());
    Ok(found.map(|version| text(version, "version")).unwrap_or_default())
}

fn ask_label(client: &AdminClient, args: &LabelArgs) -> Result<Value, ClientError> {
    let labels = format!("/prompts/{}/labels", encoded(&args.id));
    let Some(label) = &args.label else { return client.call("GET", &labels, None) };
    let path = format!("{labels}/{}", encoded(label));
    if args.delete {
        let path = format!("{path}?force={}", args.force);
        client.call_matching("DELETE", &path, None, args.if_match)?;
        return Ok(json!({ "label": label, "deleted": true }));
    }
    let Some(version) = &args.version else {
        return client.call("GET", &format!("{path}/history"), None);
    };
    let mut body = json!({ "version": version, "force": args.force });
    if args.protect || args.unprotect {
        body["protected"] = json!(args.protect);
    }
    client.call_matching("PUT", &path, Some(&body), args.if_match).map(|(_, answer)| answer)
}

/// A version as the gateway tells it, compiled here.
fn compiled(version: &Value) -> anyhow::Result<Prompt> {
    let id = PromptId::new(text(version, "prompt"));
    let number: Result<Version, ()> = text(version, "version").parse();
    let number = number.map_err(|()| anyhow::anyhow!("the gateway's answer names no version"))?;
    let members = CONTENT.into_iter().filter_map(|name| {
        let value = version.get(name).filter(|value| !value.is_null())?;
        Some((name.to_owned(), value.clone()))
    });
    let prompt = Prompt::of_json(&id, number, Value::Object(members.collect()));
    prompt.map_err(|problems| anyhow::anyhow!("the gateway's answer cannot be used: {problems}"))
}

fn in_words(command: &PromptsCommand, answer: &Value, out: &mut dyn Write) -> io::Result<()> {
    use PromptsCommand as C;
    let data =
        || answer.get("data").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    match command {
        C::List => words::list(data(), false, out),
        C::Show { .. } | C::Render { .. } => words::show(answer, false, out),
        C::Diff { .. } => words::diff(answer, false, out),
        C::Deprecate { id, version, undo, .. } => {
            let not = if *undo { "no longer " } else { "" };
            writeln!(out, "{id}@{version} is {not}deprecated")
        }
        C::Label(LabelArgs { id, label: Some(label), version, delete, .. }) => {
            match (version, delete) {
                (_, true) => writeln!(out, "{id} has no label {label} any more"),
                (Some(version), false) => writeln!(
                    out,
                    "{label} of {id} stands for {version} (etag {})",
                    text(answer, "etag")
                ),
                (None, false) => labels(data(), out),
            }
        }
        C::Label(LabelArgs { label: None, .. }) => labels(data(), out),
        C::Push { .. } => Ok(()),
    }
}

fn labels(labels: &[Value], out: &mut dyn Write) -> io::Result<()> {
    let heading = ["LABEL", "VERSION", "PROTECTED", "ETAG", "CHANGED", "BY"].map(str::to_owned);
    let rows = labels.iter().map(|label| {
        let is = |member: &str| label.get(member).and_then(Value::as_bool).unwrap_or(false);
        let protected = match (is("protected"), is("forced")) {
            (true, true) => "yes, forced",
            (true, false) => "yes",
            (false, true) => "no, forced",
            (false, false) => "no",
        };
        let [name, version, etag, at, by] =
            ["label", "version", "etag", "changed_at", "changed_by"].map(|name| text(label, name));
        [name, version, protected.to_owned(), etag.trim_matches('"').to_owned(), at, by]
    });
    table(&std::iter::once(heading).chain(rows).collect::<Vec<_>>(), out)
}
