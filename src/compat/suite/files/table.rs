//! Tests as CSV: a column for each variable, and a few whose names begin with `__`
//! (<https://www.promptfoo.dev/docs/configuration/test-cases/#csv-format>).

use serde_json::{Map, Value, json};

use crate::compat::assertion::{Known, known, names};
use crate::compat::suite::MAX_CASES;
use crate::problems::nearest;

/// The threshold of `similar` in a table, where it says none.
const SIMILAR: f64 = 0.8;

/// A row: the line that it begins on and its number, both from 1, and its cells.
type Row = ((u32, usize), Vec<String>);
/// What is wrong: the line, and why.
pub(super) type Wrong = (u32, String);

/// Reads all tests of a table, each with the line that its row begins on; or all that is wrong.
pub(super) fn tests(text: &str) -> Result<Vec<(u32, Value)>, Vec<Wrong>> {
    let mut rows = rows(text).map_err(|why| vec![why])?.into_iter();
    let Some(((line, _), head)) = rows.next() else { return Ok(Vec::new()) };
    check(&head).map_err(|why| vec![(line, why)])?;
    let (mut tests, mut wrong) = (Vec::new(), Vec::new());
    for ((line, number), row) in rows {
        match test(&head, row) {
            Ok(test) => tests.push((line, test)),
            Err(all) => {
                wrong.extend(all.into_iter().map(|why| (line, format!("row {number}: {why}"))));
            }
        }
    }
    if wrong.is_empty() { Ok(tests) } else { Err(wrong) }
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

/// One test, or all that is wrong with its row.
fn test(head: &[String], row: Vec<String>) -> Result<Value, Vec<String>> {
    let mut wrong = Vec::new();
    if row.len() > head.len() {
        wrong.push("it has more columns than the first".to_owned());
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
                    match assertion(cell.trim()) {
                        Ok(assert) => asserts.push(assert),
                        Err(why) => wrong.push(format!("`{expected}`: {why}")),
                    }
                }
            }
            "__description" if cell.trim().is_empty() => {}
            "__description" => test["description"] = json!(cell),
            "__threshold" if cell.trim().is_empty() => {}
            "__threshold" => match cell.trim().parse::<f64>() {
                Ok(threshold) => test["threshold"] = json!(threshold),
                Err(_) => wrong.push(format!("`__threshold` must be a number, found {cell:?}")),
            },
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
                    wrong.push(format!("the column `{other}` is not supported"));
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
    if wrong.is_empty() { Ok(test) } else { Err(wrong) }
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

/// An assertion as one cell has it: `contains: Paris`, `similar(0.8): Hello`, `grade: is polite`,
/// or the very answer. What looks like an assertion and is none is no answer either: it is a slip,
/// and a suite that compares with it word for word would check something else than its author
/// wrote.
fn assertion(cell: &str) -> Result<Value, String> {
    let (head, rest) = cell.split_once(':').unwrap_or((cell, ""));
    let has_colon = head.len() < cell.len();
    let equals = || Ok(json!({ "type": "equals", "value": cell }));
    let (name, number) = match head.strip_suffix(')').and_then(|head| head.split_once('(')) {
        Some((name, number)) => (name.trim(), Some(number.trim())),
        None => (head.trim(), None),
    };
    let name = match name {
        "grade" => "llm-rubric",
        "fn" | "eval" | "javascript" | "python" => {
            return Err(format!("`{name}:` is not supported: suites run no code"));
        }
        name => name,
    };
    let is_known = match known(name) {
        Known::Supported => true,
        Known::Unsupported(why) => return Err(format!("`{name}` is not supported: {why}")),
        Known::Unknown => name == "select-best" && has_colon,
    };
    if !is_known {
        return if has_colon && is_slip(name, number) { Err(unknown(name)) } else { equals() };
    }
    let threshold = match number.map(str::parse::<f64>) {
        Some(Err(_)) if has_colon => {
            let number = number.unwrap_or_default();
            return Err(format!("`{name}({number})`: in brackets is a number, the threshold"));
        }
        // Words about a name, such as `cost (total)`.
        Some(Err(_)) => return equals(),
        Some(Ok(threshold)) => Some(threshold),
        None => None,
    };
    let rest = rest.trim();
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

/// Whether a word that is no assertion is meant as one: it is called almost as one is, has a
/// threshold, or is joined by `-` as theirs are. `Answer: 42` and `https://example.com` are texts.
fn is_slip(name: &str, number: Option<&str>) -> bool {
    let is_letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let is_word =
        name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.chars().all(is_letter);
    is_word && (number.is_some() || name.contains('-') || near(name).is_some())
}

/// The assertion that is called almost so.
fn near(name: &str) -> Option<String> {
    let plain = name.to_ascii_lowercase();
    let (not, plain) = match plain.strip_prefix("not-") {
        Some(rest) => ("not-", rest),
        None => ("", plain.as_str()),
    };
    let found = nearest(plain, names().chain(["grade"]))?;
    Some(format!("{not}{found}"))
}

fn unknown(name: &str) -> String {
    let hint = near(name).map(|near| format!("did you mean `{near}:`? ")).unwrap_or_default();
    format!(
        "`{name}:` is no assertion that is known; {hint}an answer that begins so is `equals: {name}: …`"
    )
}

/// Rows and cells, as RFC 4180 has them: a cell in quotes may hold commas, line ends, and quotes
/// twice.
fn rows(text: &str) -> Result<Vec<Row>, Wrong> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut rows: Vec<Row> = Vec::new();
    let mut row = Vec::new();
    let mut cell = String::new();
    let mut is_quoted = false;
    // The line that is read, and the one that the row began on.
    let (mut line, mut began) = (1_u32, 1_u32);
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        line = line.saturating_add(u32::from(character == '\n'));
        match character {
            '"' if is_quoted && characters.next_if_eq(&'"').is_some() => cell.push('"'),
            '"' if is_quoted => is_quoted = false,
            '"' if cell.is_empty() => is_quoted = true,
            ',' if !is_quoted => row.push(std::mem::take(&mut cell)),
            '\r' if !is_quoted && characters.peek() == Some(&'\n') => {}
            '\n' if !is_quoted => {
                row.push(std::mem::take(&mut cell));
                rows.push(((began, rows.len() + 1), std::mem::take(&mut row)));
                began = line;
            }
            other => cell.push(other),
        }
        if rows.len() > MAX_CASES + 1 {
            return Err((0, format!("has more than {MAX_CASES} rows")));
        }
    }
    if is_quoted {
        return Err((began, "a quotation does not end".to_owned()));
    }
    if !cell.is_empty() || !row.is_empty() {
        row.push(cell);
        rows.push(((began, rows.len() + 1), row));
    }
    rows.retain(|(_, row)| row.iter().any(|cell| !cell.trim().is_empty()));
    Ok(rows)
}
