//! Tests as CSV: a column for each variable, and a few whose names begin with `__`
//! (<https://www.promptfoo.dev/docs/configuration/test-cases/#csv-format>).

use serde_json::{Map, Value, json};

use crate::compat::suite::MAX_CASES;

/// The threshold of `similar` in a table, where it says none.
const SIMILAR: f64 = 0.8;

/// Reads all tests of a table.
pub(super) fn tests(text: &str) -> Result<Vec<Value>, String> {
    let mut rows = rows(text)?.into_iter();
    let Some(head) = rows.next() else { return Ok(Vec::new()) };
    check(&head)?;
    rows.enumerate().map(|(number, row)| test(&head, row, number + 2)).collect()
}

/// Names of columns that begin with two underscores in promptfoo.
const OWN: [&str; 7] =
    ["expected", "description", "metadata", "metric", "prefix", "suffix", "threshold"];

/// Reports columns that would be variables by mistake.
fn check(head: &[String]) -> Result<(), String> {
    for name in head.iter().map(|name| name.trim()) {
        let is_near =
            |own: &&str| name.strip_prefix('_').is_some_and(|rest| rest.starts_with(*own));
        if OWN.iter().any(is_near) {
            return Err(format!("the column `{name}` is not known; did you mean `_{name}`?"));
        }
    }
    Ok(())
}

fn test(head: &[String], row: Vec<String>, number: usize) -> Result<Value, String> {
    if row.len() > head.len() {
        return Err(format!("row {number} has more columns than the first"));
    }
    let mut test = super::test(Map::new());
    let mut asserts = Vec::new();
    let mut metric = None;
    let mut vars = Map::new();
    let mut metadata = Map::new();
    for (name, cell) in head.iter().zip(row) {
        match name.trim() {
            expected if is_expected(expected) => {
                if !cell.trim().is_empty() {
                    asserts.push(
                        assertion(cell.trim()).map_err(|why| format!("row {number}: {why}"))?,
                    );
                }
            }
            "__description" if cell.trim().is_empty() => {}
            "__description" => test["description"] = json!(cell),
            "__threshold" if cell.trim().is_empty() => {}
            "__threshold" => {
                let threshold: f64 = cell.trim().parse().map_err(|_| {
                    format!("row {number}: `__threshold` must be a number, found {cell:?}")
                })?;
                test["threshold"] = json!(threshold);
            }
            // It is that of all of them, wherever its column stands.
            "__metric" => metric = Some(cell).filter(|cell| !cell.trim().is_empty()),
            other if other.starts_with("__metadata:") => {
                let name = other.trim_start_matches("__metadata:");
                let (name, value) = match name.strip_suffix("[]") {
                    Some(name) => (name, json!(listed(&cell))),
                    None => (name, scalar(&cell)),
                };
                if !cell.is_empty() {
                    metadata.insert(name.to_owned(), value);
                }
            }
            other if other.starts_with("__") => {
                if !cell.trim().is_empty() {
                    return Err(format!("row {number}: the column `{other}` is not supported"));
                }
            }
            other => _ = vars.insert(other.to_owned(), json!(cell)),
        }
    }
    test["vars"] = Value::Object(vars);
    for assert in &mut asserts {
        if let Some(metric) = &metric {
            assert["metric"] = json!(metric);
        }
    }
    if !asserts.is_empty() {
        test["assert"] = Value::Array(asserts);
    }
    if !metadata.is_empty() {
        test["metadata"] = Value::Object(metadata);
    }
    Ok(test)
}

/// `__expected`, `__expected1`, …
fn is_expected(name: &str) -> bool {
    let number = name.strip_prefix("__expected");
    number.is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
}

fn scalar(cell: &str) -> Value {
    match cell {
        "true" => json!(true),
        "false" => json!(false),
        text => json!(text),
    }
}

/// Values with commas between them; a comma within one has a backslash before it.
fn listed(cell: &str) -> Vec<String> {
    let marked = cell.replace("\\,", "\u{1}");
    marked.split(',').map(|item| item.trim().replace('\u{1}', ",")).collect()
}

/// An assertion as one cell has it: `contains: Paris`, `similar(0.8): Hello`, `grade: is polite`, or
/// the very answer.
fn assertion(cell: &str) -> Result<Value, String> {
    let (head, rest) = cell.split_once(':').unwrap_or((cell, ""));
    let rest = rest.trim();
    let (name, threshold) = match head.strip_suffix(')').and_then(|head| head.split_once('(')) {
        Some((name, number)) => match number.trim().parse::<f64>() {
            Ok(number) => (name.trim(), Some(number)),
            Err(_) => return Ok(json!({ "type": "equals", "value": cell })),
        },
        None => (head.trim(), None),
    };
    let name = match name {
        "grade" => "llm-rubric",
        "fn" | "eval" | "javascript" | "python" => {
            return Err(format!("`{name}:` is not supported: suites run no code"));
        }
        name => name,
    };
    let kind = crate::compat::assertion::known(name);
    if kind == crate::compat::assertion::Known::Unknown {
        return Ok(json!({ "type": "equals", "value": cell }));
    }
    let mut assert = json!({ "type": name });
    if !rest.is_empty() {
        assert["value"] = json!(rest);
    }
    // In a table `similar` asks for more than elsewhere.
    let is_similar = ["similar", "not-similar"].contains(&name);
    if let Some(threshold) = threshold.or(is_similar.then_some(SIMILAR)) {
        assert["threshold"] = json!(threshold);
    }
    Ok(assert)
}

/// Rows and cells, as RFC 4180 has them: a cell in quotes may hold commas, line ends, and quotes twice.
fn rows(text: &str) -> Result<Vec<Vec<String>>, String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut rows = Vec::new();
    let mut row = Vec::new();
    let mut cell = String::new();
    let mut is_quoted = false;
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '"' if is_quoted && characters.next_if_eq(&'"').is_some() => cell.push('"'),
            '"' if is_quoted => is_quoted = false,
            '"' if cell.is_empty() => is_quoted = true,
            ',' if !is_quoted => row.push(std::mem::take(&mut cell)),
            '\r' if !is_quoted && characters.peek() == Some(&'\n') => {}
            '\n' if !is_quoted => {
                row.push(std::mem::take(&mut cell));
                rows.push(std::mem::take(&mut row));
            }
            other => cell.push(other),
        }
        if rows.len() > MAX_CASES + 1 {
            return Err(format!("has more than {MAX_CASES} rows"));
        }
    }
    if is_quoted {
        return Err("a quotation does not end".to_owned());
    }
    if !cell.is_empty() || !row.is_empty() {
        row.push(cell);
        rows.push(row);
    }
    rows.retain(|row| row.iter().any(|cell| !cell.trim().is_empty()));
    Ok(rows)
}
