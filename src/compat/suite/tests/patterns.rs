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
    let whole = put_in(text, &mut held())?;
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
    let whole = put_in("prompts: file://prompts/*.txt\ntests: t.csv", &mut held());
    let suite = read(&whole.expect("files")).expect("a suite");
    let labels: Vec<_> = suite.prompts.iter().map(|prompt| prompt.label.as_str()).collect();
    assert_eq!(labels, ["First {{q}}", "Second {{q}}"]);
}

#[test]
fn what_is_no_file_of_tests_is_refused_by_name_and_line() {
    for (text, wanted) in [
        ("tests: none.yaml", "suite.yaml:1: tests: cannot read \"none.yaml\""),
        ("x: 1\ntests:\n  - t.csv\n  - none/*.yaml", "suite.yaml:4: tests[1]: no file is like"),
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
    let whole = put_in("tests: t.csv", &mut files)?;
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
        (
            "q,__expected\na,javascript: true",
            "t.csv:2: row 2: `__expected`: `javascript:` is not supported",
        ),
        ("q,__expected\na,file://check.py", "is code"),
        ("q,__prefix\na,Please: ", "t.csv:2: row 2: the column `__prefix` is not supported"),
        ("q,_expected\na,b", "the column `_expected` is not known; did you mean `__expected`?"),
        ("q,__threshold\na,much", "row 2: `__threshold` must be a number"),
        ("q\na,b", "t.csv:2: row 2: it has more columns"),
    ] {
        let told = table(text).expect_err(text);
        assert!(told.contains(wanted), "{text}: {told}");
    }
}

#[test]
fn what_looks_like_an_assertion_and_is_none_is_told_with_the_nearest_one() {
    let cell = |cell: &str| {
        let text = format!("q,__expected\na,\"{}\"\n", cell.replace('"', "\"\""));
        table(Box::leak(text.into_boxed_str()))
    };
    for (text, wanted) in [
        ("contain: 1", "`contain:` is no assertion that is known; did you mean `contains:`?"),
        ("contain:1", "did you mean `contains:`?"),
        ("Contains: 1", "did you mean `contains:`?"),
        ("not-contain: 1", "did you mean `not-contains:`?"),
        ("simlar(0.8): Hello", "did you mean `similar:`?"),
        ("grad: is polite", "did you mean `grade:`?"),
        ("assert-set: x", "an answer that begins so is `equals: assert-set: …`"),
        ("similar(high): x", "`similar(high)`: in brackets is a number"),
        ("moderation: x", "`moderation` is not supported"),
    ] {
        let told = cell(text).expect_err(text);
        assert!(told.contains("t.csv:2: row 2: `__expected`: "), "{text}: {told}");
        assert!(told.contains(wanted), "{text}: {told}");
    }
    // What is plain text is the very answer, as in promptfoo.
    for text in [
        "Paris",
        "https://example.com/a:b",
        "12:30",
        "{\"a\": 1}",
        "In short: yes",
        "equals: Answer: 42",
        "cost (total)",
        "Answer: 42",
    ] {
        let suite = cell(text).unwrap_or_else(|why| panic!("{text}: {why}"));
        let asserts = suite.cases[0].asserts();
        assert_eq!(asserts[0]["type"], "equals", "{text}");
        assert_eq!(asserts[0]["value"], text.strip_prefix("equals: ").unwrap_or(text));
    }
    let suite = cell("select-best: is short").expect("a suite");
    assert_eq!(suite.cases[0].prefer.as_deref(), Some("is short"));
}

#[test]
fn all_that_is_wrong_with_a_table_is_told_at_once_by_row_and_line() {
    let told = table(
        "q,__expected,__threshold\n\"two\nlines\",contain: a,much\n\nb,fine,\nc,icontain: x,\nd,e,f,g\n",
    );
    let told = told.expect_err("faults");
    let lines: Vec<_> = told.lines().collect();
    assert_eq!(lines.len(), 5, "{told}");
    for (line, wanted) in lines.iter().zip([
        "t.csv:2: row 2: `__expected`: `contain:`",
        "t.csv:2: row 2: `__threshold` must be a number, found \"much\"",
        "t.csv:6: row 5: `__expected`: `icontain:`",
        "t.csv:7: row 6: it has more columns",
        "t.csv:7: row 6: `__threshold` must be a number",
    ]) {
        assert!(line.starts_with(wanted), "{line}: {wanted}");
    }
}

#[test]
fn what_is_wrong_with_included_tests_is_told_where_they_stand() {
    let mut files = Held(BTreeMap::from([
        ("cases/t.csv", "q,__metadata:category\na,functional\nb,functoinal\n"),
        ("cases/m.yaml", "- vars: {q: c}\n- vars: {q: d}\n  assert:\n    - {type: contians}\n"),
        (
            "cases/l.jsonl",
            "{\"vars\": {\"q\": \"e\"}}\n\n{\"vars\": {\"q\": \"f\"}, \"asert\": []}\n",
        ),
    ]));
    let text = "tests:\n  - cases/t.csv\n  - cases/m.yaml\n  - cases/l.jsonl\n  - {vars: 1}\n";
    let whole = put_in(text, &mut files).expect("files");
    let told = refused(&whole);
    for wanted in [
        "cases/t.csv:3: tests[0][1].metadata.category: must be one of",
        "cases/m.yaml:4: tests[1][1].assert[0].type: `contians`",
        "cases/l.jsonl:3: tests[2][1].asert: `asert` is not known",
        "suite.yaml:5: tests[3].vars: must be a table",
    ] {
        assert!(told.contains(wanted), "{told}");
    }
    // What is right stands where it stands, too, and holds nothing of its place.
    let whole =
        put_in("tests: cases/t.csv\n", &mut Held(BTreeMap::from([("cases/t.csv", "q\na\nb\n")])));
    let suite = read(&whole.expect("files")).expect("a suite");
    assert_eq!(suite.cases[1].place, (Arc::from(Path::new("cases/t.csv")), 3));
    assert_eq!(suite.cases[1].vars.keys().collect::<Vec<_>>(), ["q"]);
}

#[test]
fn all_files_that_cannot_be_put_in_are_told_and_what_else_is_wrong() {
    let text = "tests:\n  - none.yaml\n  - t.csv\n  - nothing.csv\n  - {var: {}}\n";
    let whole = inline_files(text, &mut held());
    let (file, mut problems) = (Path::new("suite.yaml"), Problems::new());
    whole.tell(file, &mut problems);
    assert_eq!(problems.len(), 2, "{problems}");
    let mut found = Problems::new();
    let files = [(file.to_owned(), whole.text.clone())];
    assert!(Suite::parse("suite", &files, &mut found).is_none());
    whole.leave_out_of(file, &mut found);
    problems.extend(found);
    let told = problems.to_string();
    assert_eq!(problems.len(), 3, "{told}");
    for wanted in
        ["cannot read \"none.yaml\"", "cannot read \"nothing.csv\"", "suite.yaml:5: tests[3].var: "]
    {
        assert!(told.contains(wanted), "{told}");
    }
}

#[test]
fn a_variable_that_a_prompt_needs_and_a_case_lacks_is_named() {
    let told = refused(
        "prompts: ['Hello {{name}} of {{city}}']\ntests: [{vars: {name: Ada}, metadata: {id: a}}]",
    );
    assert!(told.contains("for the case `a` (suite.yaml:2): "), "{told}");
    assert!(told.contains("there is no variable `city`"), "{told}");
    let told = refused("prompts: ['{{x}}{{y}}']\ntests: [{vars: {name: Ada}, metadata: {id: a}}]");
    assert!(told.contains("there are no variables `x`, `y`"), "{told}");
}
