//! What a key or a team may do, as options, and lists of records as tables.

use std::io::{self, Write};

use clap::Args;
use serde_json::{Map, Value};

use super::client::{AdminClient, ClientError};
use crate::problems::nearest;
use crate::quota::{Counted, Dimension, LimitSettings};
use crate::units::UsdAmount;

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
            let limits: Result<_, _> = self.limits.iter().map(|text| limit(text)).collect();
            body.insert("limits".to_owned(), Value::Object(limits?));
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
            let tags: Result<_, _> = self.tags.iter().map(|text| tag(text)).collect();
            body.insert("tags".to_owned(), Value::Object(tags?));
        }
        Ok(())
    }
}

/// A limit, by its name. Money is a decimal string, everything else a number.
fn limit(text: &str) -> Result<(String, Value), ClientError> {
    let wrong = |problem: String| ClientError::Usage(format!("--limit {text}: {problem}"));
    let (name, value) = text
        .split_once('=')
        .ok_or_else(|| wrong("write it like NAME=N, such as requests_per_minute=60".to_owned()))?;
    let known = LimitSettings::default().each().map(|(dimension, _)| dimension);
    let Some(dimension) = known.iter().find(|known| known.as_str() == name) else {
        return Err(wrong(match nearest(name, known.map(Dimension::as_str)) {
            Some(near) => format!("there is no limit `{name}`; did you mean `{near}`?"),
            None => format!(
                "there is no limit `{name}`; there are `concurrent`, and `requests`, `tokens`, \
                 `input_tokens`, `output_tokens` and `usd`, each with `_per_minute`, `_per_hour`, \
                 `_per_day` or `_per_month`"
            ),
        }));
    };
    let value = match dimension.counted {
        Counted::Money => {
            let amount: Result<UsdAmount, _> = value.parse();
            amount.map(|_| Value::from(value)).map_err(|error| wrong(error.to_string()))?
        }
        Counted::Requests
        | Counted::Tokens
        | Counted::InputTokens
        | Counted::OutputTokens
        | Counted::Concurrent => {
            let number = value.replace('_', "").parse::<u64>().ok().filter(|number| *number > 0);
            let number = number.ok_or_else(|| {
                wrong(format!("`{value}` is no whole number above 0; write it like {name}=60"))
            })?;
            Value::from(number)
        }
    };
    Ok((name.to_owned(), value))
}

fn tag(text: &str) -> Result<(String, Value), ClientError> {
    let (name, value) = text.split_once('=').ok_or_else(|| {
        ClientError::Usage(format!("--tag {text}: write it like KEY=VALUE, such as env=prod"))
    })?;
    Ok((name.to_owned(), Value::from(value)))
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
    let and = if path.contains('?') { '&' } else { '?' };
    let mut next = format!("{path}{and}limit=100");
    loop {
        let mut page = client.call("GET", &next, None)?;
        if let Some(Value::Array(data)) = page.get_mut("data").map(Value::take) {
            all.extend(data);
        }
        match page.get("next_cursor").and_then(Value::as_str) {
            Some(cursor) => next = format!("{path}{and}limit=100&cursor={cursor}"),
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

/// How much of each of a record's limits is used, as a table; nothing where it has none. The share
/// is that of what may be used at once, because that is what refuses.
pub(super) fn usage(record: &Value, out: &mut dyn Write) -> io::Result<()> {
    let used = record.get(USAGE).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if used.is_empty() {
        return Ok(());
    }
    let heading =
        ["LIMIT", "OF", "ALLOWED", "AT ONCE", "USED", "SHARE", "RESETS"].map(str::to_owned);
    let rows = used.iter().map(|used| {
        let member = |name: &str| used.get(name).map_or_else(|| "-".to_owned(), plain);
        let share = used.get("share").and_then(Value::as_f64).unwrap_or_default();
        [
            member("dimension"),
            member("rule"),
            member("limit"),
            member("at_once"),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_limit_is_named_with_what_would_be_right() {
        for (text, words) in [
            (
                "request_per_minute=5",
                "there is no limit `request_per_minute`; did you mean `requests_per_minute`?",
            ),
            ("moon=5", "there is no limit `moon`; there are `concurrent`, and `requests`"),
            (
                "requests_per_minute=abc",
                "`abc` is no whole number above 0; write it like requests_per_minute=60",
            ),
            ("concurrent=0", "`0` is no whole number above 0"),
            ("tokens_per_day=-1", "`-1` is no whole number above 0"),
            ("usd_per_day=x", "`x` is no amount of money; write US dollars like \"50\""),
            ("usd_per_day=0.1234567", "with at most six decimals"),
            ("lots", "write it like NAME=N, such as requests_per_minute=60"),
        ] {
            let said = limit(text).unwrap_err().to_string();
            assert!(said.starts_with(&format!("--limit {text}: ")), "{said}");
            assert!(said.contains(words), "{said}");
        }
        let of = |text| limit(text).unwrap();
        assert_eq!(of("tokens_per_day=2_000_000"), ("tokens_per_day".to_owned(), 2_000_000.into()));
        assert_eq!(of("usd_per_day=0.5"), ("usd_per_day".to_owned(), "0.5".into()));
    }
}
