//! What a key or a team may do, as options, and lists of records as tables.

use std::io::{self, Write};

use clap::Args;
use serde_json::{Map, Value};

use super::client::{AdminClient, ClientError};

/// What it may do. What is not given stays as it is.
#[derive(Debug, Clone, Default, Args)]
pub struct TermsArgs {
    /// A limit, such as `requests_per_minute=60`, `tokens_per_day=2000000` or `usd_per_day=5`. All
    /// limits are replaced by those given.
    #[arg(long = "limit", value_name = "NAME=N")]
    pub limits: Vec<String>,
    /// Takes all limits away.
    #[arg(long, conflicts_with = "limits")]
    pub no_limits: bool,
    /// A route that may be asked for; where any route or model is given, nothing else may. A `*` at
    /// the end stands for any end.
    #[arg(long = "route", value_name = "NAME")]
    pub routes: Vec<String>,
    /// A model that may be asked for by its own name, such as `openai/gpt-5` or `openai/*`.
    #[arg(long = "model", value_name = "NAME")]
    pub models: Vec<String>,
    /// Lets everything be asked for again.
    #[arg(long, conflicts_with_all = ["routes", "models"])]
    pub any_model: bool,
    /// A tag of every request. All tags are replaced by those given.
    #[arg(long = "tag", value_name = "KEY=VALUE")]
    pub tags: Vec<String>,
}

// === impl TermsArgs ===

impl TermsArgs {
    /// Adds what was given to a request's body.
    pub(super) fn add_to(&self, body: &mut Map<String, Value>) -> Result<(), ClientError> {
        if !self.limits.is_empty() || self.no_limits {
            let limits = pairs(&self.limits, "limit", |name, value| {
                // Money is a decimal string, everything else a number.
                match value.replace('_', "").parse::<u64>() {
                    Ok(number) if !name.starts_with("usd_") => Value::from(number),
                    Ok(_) | Err(_) => Value::from(value),
                }
            })?;
            body.insert("limits".to_owned(), Value::Object(limits));
        }
        if self.any_model {
            body.insert("routes".to_owned(), Value::Null);
            body.insert("models".to_owned(), Value::Null);
        }
        for (member, names) in [("routes", &self.routes), ("models", &self.models)] {
            if !names.is_empty() {
                body.insert(member.to_owned(), Value::from(names.clone()));
            }
        }
        if !self.tags.is_empty() {
            let tags = pairs(&self.tags, "tag", |_, value| Value::from(value))?;
            body.insert("tags".to_owned(), Value::Object(tags));
        }
        Ok(())
    }
}

fn pairs(
    texts: &[String],
    option: &str,
    value_of: impl Fn(&str, &str) -> Value,
) -> Result<Map<String, Value>, ClientError> {
    texts
        .iter()
        .map(|text| {
            let (name, value) = text.split_once('=').ok_or_else(|| {
                ClientError::Usage(format!("--{option} {text}: write it like NAME=VALUE"))
            })?;
            Ok((name.to_owned(), value_of(name, value)))
        })
        .collect()
}

/// An id that becomes part of a path.
pub(super) fn checked_id<'a>(id: &'a str, what: &str, list: &str) -> Result<&'a str, ClientError> {
    if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        return Err(ClientError::Usage(format!(
            "`{id}` is no id of a {what}; `tidegate {list} list` shows them, such as \
             {what}_Ab3dE6gH9jK2"
        )));
    }
    Ok(id)
}

/// All pages as one list.
pub(super) fn every_page(client: &AdminClient, path: &str) -> Result<Value, ClientError> {
    let mut all = Vec::new();
    let mut next = format!("{path}?limit=100");
    loop {
        let mut page = client.call("GET", &next, None)?;
        if let Some(Value::Array(data)) = page.get_mut("data").map(Value::take) {
            all.extend(data);
        }
        match page.get("next_cursor").and_then(Value::as_str) {
            Some(cursor) => next = format!("{path}?limit=100&cursor={cursor}"),
            None => return Ok(Value::Array(all)),
        }
    }
}

/// Writes rows in columns; the first row is the heading.
pub(super) fn table<const N: usize>(rows: &[[String; N]], out: &mut dyn Write) -> io::Result<()> {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    for row in rows {
        let cells: Vec<_> =
            row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        writeln!(out, "{}", cells.join("  ").trim_end())?;
    }
    Ok(())
}

/// Every member of a record that is not empty, one a line.
pub(super) fn record(record: &Value, out: &mut dyn Write) -> io::Result<()> {
    for (name, value) in record.as_object().into_iter().flatten() {
        match value {
            Value::Null => {}
            Value::Array(list) if list.iter().any(Value::is_object) => {}
            Value::Array(list) if name == USAGE && list.is_empty() => {}
            Value::Array(list) => {
                let list: Vec<_> = list.iter().filter_map(Value::as_str).collect();
                writeln!(out, "{name}: {}", list.join(", "))?;
            }
            Value::Object(members) if members.is_empty() => {}
            Value::Object(members) => {
                let members: Vec<_> = members
                    .iter()
                    .map(|(name, value)| format!("{name}={}", plain(value)))
                    .collect();
                writeln!(out, "{name}: {}", members.join(", "))?;
            }
            Value::String(_) | Value::Number(_) | Value::Bool(_) => {
                writeln!(out, "{name}: {}", plain(value))?;
            }
        }
    }
    Ok(())
}

/// The member that says how much of each limit is used.
const USAGE: &str = "usage";

/// How much of each of a record's limits is used, as a table; nothing where it has none.
pub(super) fn usage(record: &Value, out: &mut dyn Write) -> io::Result<()> {
    let used = record.get(USAGE).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if used.is_empty() {
        return Ok(());
    }
    let heading = ["LIMIT", "OF", "ALLOWED", "USED", "SHARE", "RESETS"].map(str::to_owned);
    let rows = used.iter().map(|used| {
        let member = |name: &str| used.get(name).map_or_else(|| "-".to_owned(), plain);
        let share = used.get("share").and_then(Value::as_f64).unwrap_or_default();
        [
            member("dimension"),
            member("rule"),
            member("limit"),
            member("used"),
            format!("{:.0} %", share * 100.0),
            text(used, "resets_at"),
        ]
    });
    let rows: Vec<_> = std::iter::once(heading).chain(rows).collect();
    writeln!(out)?;
    table(&rows, out)
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// A member as text; `-` where there is none.
pub(super) fn text(object: &Value, member: &str) -> String {
    object.get(member).and_then(Value::as_str).unwrap_or("-").to_owned()
}

/// Writes an answer, in JSON where that is wanted; the exit code.
pub(super) fn answered(
    answer: Result<Value, ClientError>,
    json: bool,
    (out, err): (&mut dyn Write, &mut dyn Write),
    in_words: impl FnOnce(&Value, &mut dyn Write) -> io::Result<()>,
) -> io::Result<u8> {
    match answer {
        Ok(answer) if json => writeln!(out, "{answer:#}").map(|()| 0),
        Ok(answer) => in_words(&answer, out).map(|()| 0),
        Err(error) => {
            if json {
                writeln!(out, "{:#}", serde_json::json!({ "error": error.to_string() }))?;
            } else {
                writeln!(err, "{error}")?;
            }
            Ok(error.exit_code())
        }
    }
}
