//! Tests that stand in other files: by a bare path, several of them, patterns, tables.

use std::collections::BTreeMap;

use super::*;

/// Files in memory.
struct Held(BTreeMap<&'static str, &'static str>);

impl Files for Held {
    fn read(&mut self, path: &Path) -> io::Result<String> {
        let path = path.to_str().unwrap_or_default().trim_start_matches("./");
        let text = self.0.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok((*text).to_owned())
    }

    fn list(&mut self, folder: &Path) -> io::Result<Vec<(String, bool)>> {
        let folder = folder.to_str().unwrap_or_default();
        let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        let mut names = BTreeMap::new();
        for rest in self.0.keys().filter_map(|path| path.strip_prefix(&*prefix)) {
            let (name, is_folder) =
                rest.split_once('/').map_or((rest, false), |(one, _)| (one, true));
            names.insert(name.to_owned(), is_folder);
        }
        match names.is_empty() {
            true => Err(io::Error::from(io::ErrorKind::NotFound)),
            false => Ok(names.into_iter().collect()),
        }
    }
}

fn held() -> Held {
    Held(BTreeMap::from([
        ("t.csv", "q,__metadata:id,__expected\nWhat?,from-csv,contains: it\n"),
        ("t2.csv", "q,__metadata:id,__expected,__metric\nWhy?,two,similar: so,tone\n"),
        (
            "more.yaml",
            "- {metadata: {id: more-1}, vars: {q: a}}\n- {metadata: {id: more-2}, vars: {q: b}}\n",
        ),
        ("one.yaml", "metadata: {id: alone}\nvars: {q: c}\n"),
        ("tests/b.yaml", "- {metadata: {id: b}, vars: {q: b}}\n"),
        ("tests/a.yaml", "- {metadata: {id: a}, vars: {q: a}}\n"),
        ("tests/c.json", "[{\"metadata\": {\"id\": \"c\"}, \"vars\": {\"q\": \"c\"}}]"),
        ("tests/.hidden.yaml", "- {metadata: {id: hidden}}\n"),
        ("tests/deep/er/d.yaml", "- {metadata: {id: d}, vars: {q: d}}\n"),
        ("prompts/one.txt", "First {{q}}"),
        ("prompts/two.txt", "Second {{q}}"),
        (
            "lines.jsonl",
            "{\"metadata\": {\"id\": \"l1\"}, \"vars\": {\"q\": \"file://prompts/one.txt\"}}\n",
        ),
        ("notes.txt", "no tests"),
    ]))
}

/// The ids of the cases of a suite with these files, or what is wrong.
fn cases(text: &str) -> Result<Vec<String>, String> {
    let whole = inline_files(text, &mut held()).map_err(|error| error.to_string())?;
    let suite = read(&whole)?;
    Ok(suite.cases.iter().map(|case| case.id.clone()).collect())
}

#[test]
fn tests_are_a_path_several_paths_or_a_pattern() {
    for (text, wanted) in [
        ("tests: t.csv", "from-csv"),
        ("tests: file://t.csv", "from-csv"),
        ("tests: ./more.yaml", "more-1 more-2"),
        ("tests: one.yaml", "alone"),
        ("tests: lines.jsonl", "l1"),
        ("tests: tests/*.yaml", "a b"),
        ("tests: file://tests/*.{yaml,json}", "a b c"),
        ("tests: '**/?.yaml'", "a b d"),
        ("tests: tests/**/*.yaml", "a b d"),
        ("tests: [file://t2.csv, file://more.yaml]", "two more-1 more-2"),
        ("tests:\n  - t.csv\n  - {metadata: {id: own}, vars: {q: x}}\n  - tests/[ab]*", "`*`"),
        (
            "tests:\n  - t.csv\n  - {metadata: {id: own}, vars: {q: x}}\n  - tests/a*",
            "from-csv own a",
        ),
        ("[one.yaml, {metadata: {id: own}}]", "alone own"),
        ("prompts: file://prompts/*.txt\ntests: [tests/a.yaml]", "a"),
    ] {
        match cases(text) {
            Ok(ids) => assert_eq!(ids.join(" "), wanted, "{text}"),
            Err(why) => assert!(why.contains(wanted), "{text}: {why}"),
        }
    }
    let whole = inline_files("prompts: file://prompts/*.txt\ntests: t.csv", &mut held());
    let suite = read(&whole.expect("files")).expect("a suite");
    let labels: Vec<_> = suite.prompts.iter().map(|prompt| prompt.label.as_str()).collect();
    assert_eq!(labels, ["First {{q}}", "Second {{q}}"]);
}

#[test]
fn what_is_no_file_of_tests_is_refused_by_name_and_line() {
    for (text, wanted) in [
        ("tests: none.yaml", "line 1: tests: cannot read \"none.yaml\""),
        ("x: 1\ntests:\n  - t.csv\n  - none/*.yaml", "line 4: tests[1]: no file is like"),
        ("tests: make.py", "tests: \"make.py\" is code"),
        ("tests: [tests.js:make]", "tests[0]: \"tests.js:make\" is code"),
        ("\ntests: t.xlsx#Sheet2", "suite.yaml:2: tests: \"t.xlsx#Sheet2\" is no text"),
        ("tests: notes.txt", "suite.yaml:1: tests: \"notes.txt\" holds no tests"),
        ("tests: huggingface://datasets/a/b", "`huggingface://` is not supported"),
        ("tests: https://docs.google.com/spreadsheets/x", "`https://` is not supported"),
        ("tests: {path: t.csv, config: {}}", "tests: `path` is for tests that code makes"),
        ("tests: [{vars: {q: file://prompts/*.txt}}]", "which only tests and prompts may be"),
    ] {
        let told = cases(text).expect_err(text);
        assert!(told.contains(wanted), "{text}: {told}");
    }
}

fn table(text: &'static str) -> Result<Suite, String> {
    let mut files = Held(BTreeMap::from([("t.csv", text)]));
    let whole = inline_files("tests: t.csv", &mut files).map_err(|error| error.to_string())?;
    read(&whole)
}

#[test]
fn a_tables_columns_are_variables_assertions_and_what_is_known_of_a_test() {
    let suite = table(
        "__metric,q,__expected1,__expected2,__description,__prefix\n\
         tone,Where?,contains-any: here,\"icontains: NOW\",Says where,\n",
    );
    let suite = suite.expect("a suite");
    let case = &suite.cases[0];
    assert_eq!((case.id.as_str(), case.description.as_str()), ("says-where", "Says where"));
    assert_eq!(case.vars.keys().collect::<Vec<_>>(), ["q"]);
    for (text, wanted) in [
        ("q,__expected\na,javascript: true", "t.csv: row 2: `javascript:` is not supported"),
        ("q,__expected\na,file://check.py", "is code"),
        ("q,__prefix\na,Please: ", "t.csv: row 2: the column `__prefix` is not supported"),
        ("q,_expected\na,b", "the column `_expected` is not known; did you mean `__expected`?"),
        ("q,__threshold\na,much", "row 2: `__threshold` must be a number"),
        ("q\na,b", "row 2 has more columns"),
    ] {
        let told = table(text).expect_err(text);
        assert!(told.contains(wanted), "{text}: {told}");
    }
}
