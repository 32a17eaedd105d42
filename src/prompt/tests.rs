//! Versions as files, what is wrong with them, and what they render to.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::*;
use crate::problems::Problems;

mod properties;

/// A version that is as small as may be.
const SMALL: &str = r#"
target_model = "openai/gpt-5-mini"
[[messages]]
role = "system"
content = "You help {{ company }}."
[variables.properties.company]
type = "string"
"#;

/// Reads one file, and says what is wrong with it.
fn read_at(file: &str, text: &str) -> (Prompts, Vec<String>) {
    let mut problems = Problems::new();
    let prompts = Prompts::parse([(Path::new(file), text)], None, &mut problems);
    (prompts, problems.iter().map(ToString::to_string).collect())
}

fn problems_of(text: &str) -> Vec<String> {
    read_at("prompts/help/1.0.0.toml", text).1
}

/// The one version in a text that is right.
fn prompt(text: &str) -> Arc<Prompt> {
    let (prompts, problems) = read_at("prompts/help/1.0.0.toml", text);
    assert!(problems.is_empty(), "{problems:#?}");
    Arc::clone(prompts.find("help", &Wanted::Unsaid).unwrap())
}

fn object(value: Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap()
}

/// Several files of the prompt `help`.
fn family(files: &[(&str, String)], previous: Option<&Prompts>) -> (Prompts, Vec<String>) {
    let mut problems = Problems::new();
    let paths: Vec<_> =
        files.iter().map(|(name, text)| (format!("prompts/help/{name}"), text)).collect();
    let texts = paths.iter().map(|(path, text)| (Path::new(path), text.as_str()));
    let prompts = Prompts::parse(texts, previous, &mut problems);
    (prompts, problems.iter().map(ToString::to_string).collect())
}

fn with_words(words: &str) -> String {
    SMALL.replace("You help", words)
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn what_is_wrong_with_a_file_is_said_with_line_and_key() {
    let more = |text: &str| format!("{text}\n{SMALL}");
    let end = |text: &str| format!("{SMALL}\n{text}");
    for (text, said) in [
        (more("targt_model = 'x'"), "1: targt_model: unknown key (did you mean `target_model`?)"),
        (more("tested_models = ['a', 'a']"), "1: tested_models[1]: \"a\" comes twice"),
        (more("created_at = 'May'"), "1: created_at: must be a day like 2026-11-02"),
        (more("deprecation_reason = 'old'"), "has no effect without `deprecated_at`"),
        (SMALL.replace("system", "sytem"), "(did you mean \"system\"?)"),
        (
            SMALL.replace("company }}", "compny }}"),
            "`compny`, which is not one of `variables.properties` (did you mean `company`?)",
        ),
        (
            SMALL.replace("{{ company }}", "{% if company %}"),
            "messages[0].content: line 1 of the template",
        ),
        (SMALL.replace("{{ company }}", "{{ company | shout }}"), "unknown filter"),
        (
            SMALL.replace("{{ company }}", "{% include 'x' %}{{ company }}"),
            "line 1 of the template",
        ),
        (SMALL.replace("{{ company }}", "us"), "variables.properties.company: no message uses it"),
        (SMALL.replace("\"string\"", "\"strng\""), "is no JSON Schema"),
        (
            SMALL.replace("type = \"string\"", "\"$ref\" = \"https://example.com/s.json\""),
            "remote references are not followed",
        ),
        (
            SMALL.replace("type = \"string\"", "type = \"string\"\ndefault = 5"),
            "variables.properties.company.default: must be a string, found a number",
        ),
        (end("oops"), "not valid TOML"),
        (
            SMALL.replace("[variables.prop", "[variables]\nrequired = ['x']\n[variables.prop"),
            "variables.required: \"x\" is not one of `properties`",
        ),
        (end("[parameters]\ntemperature = 3"), "parameters.temperature: must be 0 to 2"),
        (end("[parameters]\nmax_tokens = 0"), "parameters.max_tokens: must be at least 1"),
        (end("[parameters]\nmodel = 'x'"), "parameters.model: unknown key"),
        (end("[parameters]\ntemprature = 1"), "(did you mean `temperature`?)"),
        (
            end("[[tools]]\ntype = 'function'\nfunction = { name = 'a b' }"),
            "tools[0].function.name: must be 1 to 64",
        ),
        (
            end(
                "[[tools]]\ntype = 'function'\nfunction = { name = 'a' }\n[[tools]]\ntype = 'function'\nfunction = { name = 'a' }",
            ),
            "\"a\" is the name of tools[0], too",
        ),
        (
            end(
                "[[tools]]\ntype = 'function'\nfunction = { name = 'a', parameters = { type = 'x' } }",
            ),
            "is no JSON Schema",
        ),
        (end("[response_format]\ntype = 'json_schema'"), "response_format.json_schema: missing"),
        (
            end(
                "[response_format]\ntype = 'json_object'\njson_schema = { name = 'x', schema = {} }",
            ),
            "has no effect without `type = \"json_schema\"`",
        ),
        ("messages = []".to_owned(), "messages: needs at least one message"),
        ("target_model = 'x'".to_owned(), "messages: missing"),
    ] {
        let problems = problems_of(&text);
        assert!(
            problems.iter().any(|problem| problem.contains(said)),
            "{said}: {problems:#?}\n{text}"
        );
        assert!(problems.iter().all(|problem| problem.starts_with("prompts/help/1.0.0.toml:")));
    }
}

#[test]
fn every_problem_of_a_file_is_reported_at_once() {
    let text = SMALL.replace("company }}", "compny }}") + "[parameters]\ntop_p = 7\n";
    let problems = problems_of(&text);
    assert_eq!(problems.len(), 3, "{problems:#?}");
}

#[test]
fn the_path_names_prompt_and_version() {
    for (file, said) in [
        ("prompts/Help/1.0.0.toml", "\"Help\" is no name of a prompt"),
        ("prompts/help/1.0.toml", "\"1.0\" is no version"),
        ("prompts/help/01.0.0.toml", "\"01.0.0\" is no version"),
        ("prompts/help/v1.0.0.toml", "\"v1.0.0\" is no version"),
    ] {
        let (prompts, problems) = read_at(file, SMALL);
        assert!(problems.iter().any(|problem| problem.contains(said)), "{said}: {problems:?}");
        assert!(prompts.is_empty());
    }
}

#[test]
fn a_wrong_variable_is_named_with_what_would_be_right() {
    let text = r#"
[[messages]]
role = "user"
content = "{{ name }} {{ items }} {{ kind }} {% if note is defined %}{{ note }}{% endif %}"
[variables]
required = ["name"]
[variables.properties]
name = { type = "string", description = "who it is for", maxLength = 5 }
note = { type = "string" }
kind = { enum = ["a", "b"], default = "a" }
items = { type = "array", default = [], items = { type = "object", properties = { price = { type = "number" } } } }
"#;
    let prompt = prompt(text);
    for (given, param, said) in [
        (json!({}), "prompt.variables.name", "`name` is missing; it is a string: who it is for"),
        (json!({"name": 5}), "prompt.variables.name", "`name`: must be a string, found a number"),
        (
            json!({"name": "x", "nme": 1}),
            "prompt.variables.nme",
            "`nme` is not a variable of this prompt; did you mean `name`?",
        ),
        (
            json!({"name": "x", "qqqqq": 1}),
            "prompt.variables.qqqqq",
            "it has `items`, `kind`, `name`, `note`",
        ),
        (
            json!({"name": "abcdef"}),
            "prompt.variables.name",
            "`name`: what was given is longer than 5 characters",
        ),
        (json!({"name": "x", "kind": "c"}), "prompt.variables.kind", "is not one of"),
        (
            json!({"name": "x", "items": [{"price": "2"}]}),
            "prompt.variables.items[0].price",
            "`items[0].price`: must be a number, found a string",
        ),
        (
            json!({"name": "x", "note": null}),
            "prompt.variables.note",
            "must be a string, found null",
        ),
    ] {
        let error = prompt.render(object(given.clone())).unwrap_err();
        assert_eq!(error.param(), param, "{given}: {error}");
        assert!(error.to_string().contains(said), "{given}: {error}");
    }
    let both = prompt.render(object(json!({"nme": "x"}))).unwrap_err().to_string();
    assert!(both.contains("`name` is missing") && both.contains("`nme` is not"), "{both}");
    let rendered = prompt.render(object(json!({"name": "x"}))).unwrap();
    assert_eq!(
        rendered.messages,
        [RenderedMessage { role: Role::User, text: "x [] a ".to_owned() }]
    );
}

#[test]
fn a_variable_that_was_left_out_is_an_error_where_the_template_counts_on_it() {
    let prompt = prompt(
        "[[messages]]\nrole = 'user'\ncontent = \"\"\"\nDear\n{{ name }}\"\"\"\n\
         [variables]\nrequired = []\nproperties = { name = { type = 'string' } }",
    );
    let error = prompt.render(Map::new()).unwrap_err();
    let RenderError::Template { message, line, .. } = error else { panic!("{error:?}") };
    assert_eq!((message, line), (0, 2));
    assert!(error.to_string().contains("may be left out are `name`"), "{error}");
}

#[test]
fn nothing_is_escaped_and_nothing_is_run() {
    let prompt = prompt(SMALL);
    let words = "<b>&amp;\"{{ 1 + 1 }}{% for %}\n\u{0}";
    let rendered = prompt.render(object(json!({"company": words}))).unwrap();
    assert_eq!(rendered.messages[0].text, format!("You help {words}."));
}

#[test]
fn json_is_written_as_it_is() {
    let text = "[[messages]]\nrole = 'user'\ncontent = '{{ rows | tojson }}'\n[variables.properties.rows]\ntype = 'array'";
    let rendered = prompt(text).render(object(json!({"rows": [{"b": "<x>", "a": 1}]}))).unwrap();
    let text: Value = serde_json::from_str(&rendered.messages[0].text).unwrap();
    assert_eq!(text, json!([{"b": "<x>", "a": 1}]));
    assert!(rendered.messages[0].text.contains("<x>"));
}

#[test]
fn what_comes_out_is_bounded_and_so_is_the_work() {
    let text = "[[messages]]\nrole = 'user'\ncontent = '{% for i in range(n) %}{{ word }}{% endfor %}'\n\
                [variables.properties]\nn = { type = 'integer' }\nword = { type = 'string' }";
    let prompt = prompt(text);
    let long = "x".repeat(200_000);
    let error = prompt.render(object(json!({"n": 6, "word": long}))).unwrap_err();
    assert_eq!(error, RenderError::TooLong);
    assert!(error.to_string().contains("1048576 bytes"), "{error}");
    let nested = "[[messages]]\nrole = 'user'\ncontent = '{% for i in range(n) %}{% for j in range(n) %}{% endfor %}{% endfor %}'\n\
                  [variables.properties]\nn = { type = 'integer' }";
    let error = super::tests::prompt(nested).render(object(json!({"n": 5000}))).unwrap_err();
    assert!(error.to_string().contains("too many steps"), "{error}");
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn a_number_that_does_not_say_what_changed_is_refused_with_the_reason() {
    let system_and_user = format!("{SMALL}\n")
        .replace("[variables.", "[[messages]]\nrole = \"user\"\ncontent = \"Go.\"\n[variables.");
    for (number, text, said) in [
        ("1.0.1", with_words("Please help"), None),
        ("1.0.1", SMALL.to_owned(), Some("says the same as 1.0.0")),
        (
            "1.0.1",
            SMALL.replace("system", "user"),
            Some(
                "the roles of messages changed, which is a MINOR change: number it 1.1.0 or higher",
            ),
        ),
        ("1.0.1", system_and_user.clone(), Some("the number of messages changed")),
        ("1.1.0", system_and_user, None),
        (
            "1.0.1",
            SMALL.replace("\"string\"", "\"string\"\nmaxLength = 9"),
            Some("`variables` changed"),
        ),
        (
            "1.0.1",
            format!("{SMALL}[response_format]\ntype = 'json_object'"),
            Some("`response_format` changed"),
        ),
        (
            "1.0.1",
            format!("{SMALL}[[tools]]\ntype = 'function'\nfunction = {{ name = 'a' }}"),
            Some("`tools` changed"),
        ),
        ("1.0.1", format!("{SMALL}[parameters]\ntemperature = 1"), None),
        (
            "1.0.1",
            SMALL.replace("gpt-5-mini", "gpt-5"),
            Some("`target_model` changed, which is a MINOR change"),
        ),
        (
            "1.0.1",
            SMALL.replace("openai/", "azure-openai/"),
            Some("`target_model` changed, which is a MINOR change"),
        ),
        ("1.1.0", SMALL.replace("gpt-5-mini", "gpt-5"), None),
        (
            "1.1.0",
            SMALL.replace("openai/gpt-5-mini", "anthropic/claude-sonnet-4-6"),
            Some(
                "the model family of `target_model` changed, which is a MAJOR change: number it 2.0.0 or higher",
            ),
        ),
        ("2.0.0", SMALL.replace("openai/gpt-5-mini", "anthropic/claude-sonnet-4-6"), None),
        ("2.0.0", with_words("Please help"), None),
    ] {
        let (_, problems) =
            family(&[("1.0.0.toml", SMALL.to_owned()), (&format!("{number}.toml"), text)], None);
        match said {
            None => assert!(problems.is_empty(), "{number}: {problems:?}"),
            Some(said) => {
                assert!(
                    problems.iter().any(|problem| problem.contains(said)),
                    "{said}: {problems:?}"
                );
                assert!(problems[0].contains(&format!("{number}.toml")));
            }
        }
    }
}

#[test]
fn a_version_never_changes() {
    let (first, _) = family(&[("1.0.0.toml", SMALL.to_owned())], None);
    let (_, same) = family(&[("1.0.0.toml", format!("# A word.\n{SMALL}"))], Some(&first));
    assert!(same.is_empty(), "{same:?}");
    let about = format!("tested_models = ['openai/gpt-5']\ndeprecated_at = 2026-11-02\n{SMALL}");
    let (_, about) = family(&[("1.0.0.toml", about)], Some(&first));
    assert!(about.is_empty(), "what is only about it may change: {about:?}");
    let (_, other) = family(&[("1.0.0.toml", with_words("We help"))], Some(&first));
    assert!(other[0].contains("1.0.0 is in use and says something else"), "{other:?}");
}

#[test]
fn a_request_gets_the_version_it_wants() {
    let old = format!("deprecated_at = 2026-11-02\n{}", with_words("D"));
    let files = |labels: &str| {
        vec![
            ("1.0.0.toml", SMALL.to_owned()),
            ("1.2.0.toml", with_words("A")),
            ("1.2.3.toml", with_words("B")),
            ("1.10.0.toml", with_words("C")),
            ("2.0.0.toml", old.clone()),
            ("labels.toml", labels.to_owned()),
        ]
    };
    let (prompts, problems) = family(&files("staging = '1.2.0'"), None);
    assert!(problems.is_empty(), "{problems:?}");
    let found = |prompts: &Prompts, wanted: &str| {
        let wanted =
            if wanted.is_empty() { Wanted::Unsaid } else { Wanted::parse(wanted).unwrap() };
        match prompts.find("help", &wanted) {
            Ok(prompt) => prompt.version.to_string(),
            Err(unfound) => unfound.problem,
        }
    };
    for (wanted, version) in [
        ("", "1.10.0"),
        ("1.2.0", "1.2.0"),
        ("^1.2", "1.10.0"),
        ("~1.2", "1.2.3"),
        ("~1.2.1", "1.2.3"),
        ("^1", "1.10.0"),
        ("2.0.0", "2.0.0"),
        ("^2", "2.0.0"),
        ("staging", "1.2.0"),
        (
            "^3",
            "the prompt `help` has no version from 3.0.0 to below 4.0.0; it has `2.0.0`, `1.10.0`, `1.2.3`, `1.2.0`, `1.0.0`, `staging`",
        ),
        (
            "production",
            "the prompt `help` has no label `production`; it has `2.0.0`, `1.10.0`, `1.2.3`, `1.2.0`, `1.0.0`, `staging`",
        ),
    ] {
        assert_eq!(found(&prompts, wanted), version, "{wanted}");
    }
    let (prompts, _) = family(&files("production = '1.0.0'"), None);
    assert_eq!(found(&prompts, ""), "1.0.0");
    let unfound = prompts.find("hlp", &Wanted::Unsaid).unwrap_err();
    assert_eq!(unfound.problem, "the prompt `hlp` does not exist; did you mean `help`?");
    for wrong in ["", "1.2", "^", "^1.2.3.4", "v1", "^01", "Production", "^4294967295"] {
        if wrong != "v1" {
            assert!(Wanted::parse(wrong).is_err(), "{wrong}");
        }
    }
}

#[test]
fn labels_stand_for_versions_that_are_there() {
    for (labels, said) in [
        ("production = '9.0.0'", "1: production: there is no version 9.0.0; there is `1.0.0`"),
        ("production = 1", "must be a version in quotes"),
        ("Production = '1.0.0'", "a label is up to 40"),
    ] {
        let files = [("1.0.0.toml", SMALL.to_owned()), ("labels.toml", labels.to_owned())];
        let (_, problems) = family(&files, None);
        assert!(problems.len() == 1 && problems[0].contains(said), "{problems:?}");
    }
    let (_, problems) = family(&[("labels.toml", "production = '1.0.0'".to_owned())], None);
    assert!(problems[0].contains("no version beside it"), "{problems:?}");
}

#[test]
fn tested_models_are_named_with_or_without_their_provider() {
    let untold = prompt(SMALL);
    assert_eq!(untold.is_tested_with("openai", "gpt-5"), None);
    let told = prompt(&format!("tested_models = ['anthropic/claude-x', 'llama']\n{SMALL}"));
    assert_eq!(told.is_tested_with("anthropic", "claude-x"), Some(true));
    assert_eq!(told.is_tested_with("bedrock", "claude-x"), Some(false));
    assert_eq!(told.is_tested_with("anywhere", "llama"), Some(true));
    assert_eq!(told.is_tested_with("openai", "gpt-5-mini"), Some(true), "it was written for it");
}
