//! The cases beside the prompts that come with the program.

use super::*;
use crate::prompt::{Prompts, Version};

fn texts(folder: &Path, end: &str) -> Vec<(PathBuf, String)> {
    let mut files: Vec<_> = fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.to_string_lossy().ends_with(end))
        .collect();
    files.sort();
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).expect("a file");
        (path, text)
    };
    files.into_iter().map(read).collect()
}

#[test]
fn they_are_of_all_categories_and_can_be_asked_of_every_version() {
    let prompts = Path::new(env!("CARGO_MANIFEST_DIR")).join("prompts");
    for id in ["support-reply", "summarise", "extract-invoice"] {
        let mut problems = Problems::new();
        let files = texts(&prompts.join(id).join("cases"), ".yaml");
        let suite = Suite::parse(id, &files, &mut problems);
        let suite = suite.unwrap_or_else(|| panic!("{problems}"));
        assert!((10..=20).contains(&suite.cases.len()), "{id}: {}", suite.cases.len());
        assert_eq!(suite.left_out, Vec::<String>::new());
        for category in
            [Category::Functional, Category::Semantic, Category::Edge, Category::Performance]
        {
            assert!(suite.cases.iter().any(|case| case.category == category), "{id}: {category:?}");
        }
        assert!(suite.cases.iter().any(|case| case.is_critical));
        assert!(suite.cases.iter().any(|case| case.is_smoke));
        let smoke = suite.chosen(Depth::Smoke).len();
        assert!(smoke < suite.cases.len(), "{id}: {smoke} of {}", suite.cases.len());

        let versions = texts(&prompts.join(id), ".toml");
        let versions = versions.iter().map(|(path, text)| (path.as_path(), text.as_str()));
        let versions = Prompts::parse(versions, None, &mut problems);
        assert!(problems.is_empty(), "{problems}");
        let versions = versions.versions(id).expect("versions");
        let mut known = std::collections::BTreeSet::new();
        for prompt in versions.iter() {
            let unaskable: Vec<_> = suite
                .unaskable(prompt)
                .iter()
                .map(|(case, why)| format!("{}: {why}", case.id))
                .collect();
            assert_eq!(unaskable, Vec::<String>::new(), "{}", prompt.name);
            for case in &suite.cases {
                known.extend(case.vars_for(prompt).into_iter().map(|(name, _)| name));
            }
        }
        // What no version knows is for other variables and for assertions.
        let others = suite.cases.iter().flat_map(|case| case.vars.keys());
        let others: Vec<_> = others.filter(|name| !known.contains(*name)).collect();
        let wanted: &[&str] = match id {
            "summarise" => &["paragraph"],
            "extract-invoice" => &["lines"],
            _ => &[],
        };
        assert_eq!(others, wanted, "{id}");
    }
}

#[test]
fn a_version_gets_the_variables_that_it_knows_and_a_case_it_cannot_take_is_named() {
    let text = |property: &str| {
        format!(
            "[[messages]]\nrole = \"user\"\ncontent = \"{{{{ q }}}}\"\n[variables.properties.q]\n{property}\n"
        )
    };
    let file = text("type = \"string\"\nmaxLength = 3");
    let mut problems = Problems::new();
    let prompts = Prompts::parse([(Path::new("p/1.0.0.toml"), file.as_str())], None, &mut problems);
    let version: Version = "1.0.0".parse().expect("a version");
    let prompt = prompts.version("p", version).unwrap_or_else(|| panic!("{problems}"));
    let suite = read(
        "tests:\n  - {metadata: {id: ok}, vars: {q: abc, wanted: x}}\n  - {metadata: {id: long}, vars: {q: abcd}}\n  \
         - {metadata: {id: lacks}, vars: {wanted: x}}\n",
    )
    .expect("a suite");
    assert_eq!(Value::Object(suite.cases[0].vars_for(prompt)), json!({"q": "abc"}));
    let unaskable = suite.unaskable(prompt);
    let told: Vec<_> =
        unaskable.iter().map(|(case, why)| format!("{}: {why}", case.at())).collect();
    let [long, lacks] = told.as_slice() else { panic!("{told:?}") };
    assert!(long.starts_with("suite.yaml:3: case `long`: "), "{long}");
    assert!(lacks.starts_with("suite.yaml:4: case `lacks`: ") && lacks.contains("`q`"), "{lacks}");
    let near = read("tests: [{metadata: {id: x}, vars: {qq: abc, answer: b}}]").expect("a suite");
    let misspelled = near.misspelled(&[Arc::clone(prompt)]);
    let wanted = "suite.yaml:1: case `x`: no version takes the variable `qq`; did you mean `q`?";
    assert_eq!(misspelled, [wanted]);
}
