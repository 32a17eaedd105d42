//! Tests of problems and of documents that know their lines.

use serde::Deserialize;

use super::*;

#[derive(Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[derive(Default)]
struct Pond {
    depth: u32,
    name: String,
    fish: Vec<Fish>,
}

#[derive(Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct Fish {
    kind: String,
}

fn read(text: &str) -> (Option<Pond>, String, Document) {
    let mut problems = Problems::new();
    let mut document = Document::parse(Path::new("pond.toml"), text, &mut problems);
    let schema = schemars::schema_for!(Pond).to_value();
    let pond = document.read(&schema, |_, _| None, &mut problems);
    problems.sort();
    (pond, problems.to_string(), document)
}

#[test]
fn what_is_wrong_is_taken_out_and_the_rest_is_read() {
    let (pond, problems, _) = read("depth = \"deep\"\nname = \"Mill\"\n\n[[fish]]\nkid = 1\n");
    let pond = pond.unwrap();
    assert_eq!((pond.depth, pond.name.as_str(), pond.fish.len()), (0, "Mill", 0));
    assert_eq!(
        problems,
        "pond.toml:1: depth: expected a whole number, found \"deep\"\n\
         pond.toml:5: fish[0].kid: unknown key (did you mean `kind`?)"
    );
}

#[test]
fn a_problem_of_meaning_is_not_reported_for_what_was_taken_out() {
    let (_, _, document) = read("[[fish]]\nkid = 1\n");
    let mut problems = Problems::new();
    let fish = KeyPath::root().key("fish");
    document.report(&mut problems, fish.clone(), "too few");
    document.report(&mut problems, fish.index(0).key("kid").key("age"), "too young");
    document.report(&mut problems, KeyPath::root().key("depth"), "too shallow");
    assert_eq!(problems.to_string(), "pond.toml: depth: too shallow");
}

#[test]
fn a_value_without_a_line_has_that_of_what_holds_it() {
    let (pond, _, document) =
        read("name = \"x\"\nfish = [\n  { kind = \"carp\" },\n  { kind = \"pike\" },\n]\n");
    let fish = KeyPath::root().key("fish");
    assert_eq!(pond.unwrap().fish[1].kind, "pike");
    assert_eq!(document.line(&fish), 2);
    assert_eq!(document.line(&fish.index(1)), 4);
    assert_eq!(document.line(&fish.index(1).key("size")), 4);
    assert_eq!(document.line(&KeyPath::root()), 0);
    assert_eq!(document.line(&KeyPath::root().key("depth")), 0);
}

#[test]
fn a_file_that_is_no_toml_is_not_guessed_at() {
    let (pond, problems, _) = read("depth = 1\nname = Mill\nfish = [\n");
    assert!(pond.is_none());
    assert!(problems.starts_with("pond.toml:2: not valid TOML: "), "{problems}");
    assert!(!problems.contains("unknown key"), "{problems}");
}

#[test]
fn numbers_that_no_computer_takes_are_problems() {
    let (_, problems, _) = read("depth = 99999999999999999999\nname = nan\n");
    assert_eq!(
        problems,
        "pond.toml:1: depth: the number is too large\npond.toml:2: name: the number must be finite"
    );
    let (pond, problems, _) = read("depth = 0x_ff\n");
    assert!(pond.is_none(), "{problems}");
    let (pond, problems, _) = read("depth = 0xff_0\n");
    assert_eq!((pond.unwrap().depth, problems.as_str()), (0xff0, ""));
    let (_, problems, _) = read("depth = 5_000_000_000\n");
    assert_eq!(problems, "pond.toml:1: depth: must be at most 4294967295, found 5000000000");
}

/// Takes `a` to `c` only, which no schema says.
#[derive(Debug, Default, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Choosy {
    first: Letter,
    second: Letter,
    nested: Nested,
    depth: u32,
}

#[derive(Debug, Default, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Nested {
    letters: Vec<Letter>,
    pairs: Vec<Pair>,
}

#[derive(Debug, Deserialize, schemars::JsonSchema)]
struct Pair {
    left: Letter,
    #[expect(dead_code, reason = "only read")]
    right: Letter,
}

#[derive(Debug, Default, Deserialize, schemars::JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String")]
struct Letter(String);

impl TryFrom<String> for Letter {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if ["a", "b", "c"].contains(&&*text) { Ok(Self(text)) } else { Err(format!("no {text}")) }
    }
}

#[test]
fn what_only_the_type_refuses_has_its_line_and_hides_nothing() {
    let text = "first = \"x\"\nsecond = \"x\"\ndepth = -1\n[nested]\nletters = [\n  \"a\",\n  \"y\",\n  \
                \"x\",\n]\npairs = [\n  { left = \"a\", right = \"z\" },\n  { left = \"b\", right = \"c\" },\n]\n";
    let mut problems = Problems::new();
    let mut document = Document::parse(Path::new("choosy.toml"), text, &mut problems);
    let schema = schemars::schema_for!(Choosy).to_value();
    let read: Choosy = document.read(&schema, |_, _| None, &mut problems).unwrap();
    problems.sort();
    assert_eq!(
        problems.to_string(),
        "choosy.toml:1: first: no x\n\
         choosy.toml:2: second: no x\n\
         choosy.toml:3: depth: must be at least 0, found -1\n\
         choosy.toml:7: nested.letters[1]: no y\n\
         choosy.toml:8: nested.letters[2]: no x\n\
         choosy.toml:11: nested.pairs[0]: no z"
    );
    // What is left is read.
    assert_eq!((read.first.0.as_str(), read.second.0.as_str(), read.depth), ("", "", 0));
    assert!(read.nested.letters.is_empty() && read.nested.pairs.iter().all(|p| p.left.0 == "b"));
    assert!(document.is_broken(&KeyPath::root().key("first")));

    // What cannot be left out is not read at all.
    #[derive(Debug, Deserialize, schemars::JsonSchema)]
    struct Needed {
        #[expect(dead_code, reason = "only read")]
        letter: Letter,
    }
    let mut problems = Problems::new();
    let mut document = Document::parse(Path::new("n.toml"), "\nletter = \"q\"", &mut problems);
    let schema = schemars::schema_for!(Needed).to_value();
    assert!(document.read::<Needed>(&schema, |_, _| None, &mut problems).is_none());
    assert!(problems.to_string().starts_with("n.toml:2: letter: no q"), "{problems}");
}

#[test]
fn paths_quote_what_is_no_bare_key_and_find_their_parents() {
    let path = KeyPath::root().key("providers").key("a.b[0]").key("models").index(2).key("id");
    assert_eq!(path.as_str(), r#"providers."a.b[0]".models[2].id"#);
    let mut up = Vec::new();
    let mut at = path.parent();
    while let Some(path) = at {
        up.push(path.as_str().to_owned());
        at = path.parent();
    }
    let expected = [
        r#"providers."a.b[0]".models[2]"#,
        r#"providers."a.b[0]".models"#,
        r#"providers."a.b[0]""#,
        "providers",
        "",
    ];
    assert_eq!(up, expected);
    assert!(KeyPath::root().holds(&path));
    assert!(!KeyPath::root().key("provider").holds(&path));
}

#[test]
fn only_near_names_are_suggested() {
    assert_eq!(nearest("opnai", ["openai", "anthropic"]), Some("openai"));
    assert_eq!(nearest("gpt-9000", ["openai", "anthropic"]), None);
}
