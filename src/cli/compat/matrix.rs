//! What is known of a prompt: its versions in rows, models in columns, the newest verdict in each
//! cell.

use std::io::{self, Write};

use serde_json::Value;

use crate::cli::terms::text;

/// Lines of a cell: the verdict, the day, the run.
const CELL_LINES: usize = 3;

/// Writes the matrix as a table.
pub(super) fn show(matrix: &Value, out: &mut dyn Write) -> io::Result<()> {
    let names = |member: &str| -> Vec<String> {
        let said = matrix.get(member).and_then(Value::as_array).map(Vec::as_slice);
        let said = said.unwrap_or_default().iter().filter_map(Value::as_str);
        said.map(str::to_owned).collect()
    };
    let (prompt, versions, models) = (text(matrix, "prompt"), names("versions"), names("models"));
    if models.is_empty() {
        return writeln!(out, "{prompt}: no run yet; `tidegate compat run {prompt}` makes one");
    }
    let cells = matrix.get("cells").and_then(Value::as_array).map(Vec::as_slice);
    let cell = |version: &str, model: &str| {
        let is_it = |one: &&Value| text(one, "version") == version && text(one, "model") == model;
        lines(cells.unwrap_or_default().iter().find(is_it))
    };
    let mut rows: Vec<Vec<String>> =
        vec![std::iter::once(prompt.clone()).chain(models.iter().cloned()).collect()];
    for version in &versions {
        let columns: Vec<_> = models.iter().map(|model| cell(version, model)).collect();
        for line in 0..CELL_LINES {
            let first = if line == 0 { version.clone() } else { String::new() };
            let said = columns.iter().map(|cell| cell.get(line).cloned().unwrap_or_default());
            let row: Vec<String> = std::iter::once(first).chain(said).collect();
            if row.iter().any(|cell| !cell.is_empty()) {
                rows.push(row);
            }
        }
    }
    let columns = models.len() + 1;
    let width = |row: &Vec<String>, at: usize| row.get(at).map_or(0, |cell| cell.chars().count());
    let widest = |at: usize| rows.iter().map(|row| width(row, at)).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(widest).collect();
    for row in &rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        writeln!(out, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    Ok(())
}

/// What a cell says. Of a verdict that asked fewer cases, the depth is said, too.
fn lines(cell: Option<&Value>) -> Vec<String> {
    let Some(cell) = cell else { return vec!["-".to_owned()] };
    let verdict = match text(cell, "depth").as_str() {
        "full" => text(cell, "verdict"),
        depth => format!("{} ({depth})", text(cell, "verdict")),
    };
    let day: String = text(cell, "at").chars().take("2026-11-21".len()).collect();
    vec![verdict, day, text(cell, "run")]
}
