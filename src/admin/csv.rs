//! Tables for spreadsheets: RFC 4180, with cells that no spreadsheet takes for a formula.

/// A table under construction.
#[derive(Debug, Default)]
pub(super) struct Table(String);

// === impl Table ===

impl Table {
    /// Adds a line. A cell that a spreadsheet would run as a formula, because somebody named a tag
    /// so, gets an apostrophe in front, which spreadsheets do not show.
    pub(super) fn line<'c>(&mut self, cells: impl IntoIterator<Item = &'c str>) {
        for (at, cell) in cells.into_iter().enumerate() {
            if at > 0 {
                self.0.push(',');
            }
            self.cell(cell);
        }
        self.0.push_str("\r\n");
    }

    /// The finished text.
    pub(super) fn into_text(self) -> String {
        self.0
    }

    fn cell(&mut self, cell: &str) {
        let guard = if is_formula(cell) { "'" } else { "" };
        let is_plain = !cell.contains(['"', ',', '\r', '\n']) && cell.trim() == cell;
        if is_plain {
            self.0.push_str(guard);
            self.0.push_str(cell);
            return;
        }
        self.0.push('"');
        self.0.push_str(guard);
        self.0.push_str(&cell.replace('"', "\"\""));
        self.0.push('"');
    }
}

/// Whether a spreadsheet may take a text for a formula, by its first character; Excel skips spaces,
/// and knows the wide forms.
fn is_formula(cell: &str) -> bool {
    let first = cell.trim_start_matches(' ').chars().next();
    first.is_some_and(|first| "=+-@\t\r\n\u{ff1d}\u{ff0b}\u{ff0d}\u{ff20}".contains(first))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(cells: &[&str]) -> String {
        let mut table = Table::default();
        table.line(cells.iter().copied());
        table.into_text()
    }

    #[test]
    fn cells_are_quoted_where_they_must_be() {
        assert_eq!(line(&["a", "", "b c", "0.5"]), "a,,b c,0.5\r\n");
        assert_eq!(
            line(&["a,b", "say \"hi\"", "two\r\nlines"]),
            "\"a,b\",\"say \"\"hi\"\"\",\"two\r\nlines\"\r\n"
        );
        assert_eq!(line(&[" a"]), "\" a\"\r\n");
    }

    #[test]
    fn no_cell_is_a_formula() {
        assert_eq!(line(&["=1+1", "+1", "-1", "@sum"]), "'=1+1,'+1,'-1,'@sum\r\n");
        assert_eq!(line(&["=HYPERLINK(\"x\",1)"]), "\"'=HYPERLINK(\"\"x\"\",1)\"\r\n");
        assert_eq!(line(&[" =1", "\t=1", "\u{ff1d}1"]), "\"' =1\",\"'\t=1\",'\u{ff1d}1\r\n");
        assert_eq!(line(&["a=1", "2023-11-15", "openai/gpt-5"]), "a=1,2023-11-15,openai/gpt-5\r\n");
    }
}
