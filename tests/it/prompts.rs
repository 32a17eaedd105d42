//! Registered prompts, from their files to the answer, the journal and the cache.

use serde_json::{Value, json};
use tidegate::cache::Purge;
use tidegate::config::{Environment, Source, load, load_prompts};
use tidegate::dialect::Dialect;
use tidegate::prompt::{Prompts, Wanted};

use crate::rig::{Ask, Rig};
use crate::support::{package, run};

mod pushed;

const ROUTES: &str = r#"
[routes.kept]
targets = [{ model = "chat/alpha" }]
cache = { exact = true, ttl = "10m" }
[routes.crossed]
targets = [{ model = "claude/alpha" }]
"#;

/// Says what the model shall answer, so that the answer shows what was rendered.
const V1: &str = r#"
target_model = "chat/alpha"
tested_models = ["chat/alpha"]
[[messages]]
role = "user"
content = "[[sim:say=Hello {{ name }}, from {{ company }}.]]"
[parameters]
temperature = 0
max_tokens = 200
[variables]
required = ["name"]
[variables.properties]
name = { type = "string", maxLength = 40 }
company = { type = "string", default = "us" }
"#;

fn files() -> [(&'static str, String); 4] {
    [
        ("prompts/greet/1.0.0.toml", V1.to_owned()),
        ("prompts/greet/1.1.0.toml", V1.replace("Hello", "Good day")),
        (
            "prompts/greet/2.0.0.toml",
            format!(
                "deprecated_at = 2026-11-02\ndeprecation_reason = 'too curt'\n{}",
                V1.replace("Hello", "Hi")
            ),
        ),
        ("prompts/greet/labels.toml", "production = '1.0.0'\nstaging = '1.1.0'".to_owned()),
    ]
}

fn rig() -> Rig {
    let files = files();
    Rig::with_files(ROUTES, &files.each_ref().map(|(name, text)| (*name, text.as_str())))
}

/// A request that says nothing but which prompt it wants.
fn ask(version: Option<&str>) -> Ask {
    let mut prompt = json!({"id": "greet", "variables": {"name": "Ada"}});
    if let Some(version) = version {
        prompt["version"] = version.into();
    }
    let ask = Ask::chat("", "").whole().having("prompt", prompt);
    ask.having("model", Value::Null).having("messages", json!([])).having("max_tokens", Value::Null)
}

fn said(body: &Value) -> &str {
    let places = ["/choices/0/message/content", "/content/0/text"];
    places.iter().find_map(|at| body.pointer(at)?.as_str()).unwrap_or_default()
}

#[tokio::test(start_paused = true)]
async fn a_request_gets_the_version_it_wants_and_is_told_which() {
    let rig = rig();
    for (version, name, words) in [
        (None, "greet@1.0.0", "Hello Ada, from us."),
        (Some("^1"), "greet@1.1.0", "Good day Ada, from us."),
        (Some("staging"), "greet@1.1.0", "Good day Ada, from us."),
        (Some("1.0.0"), "greet@1.0.0", "Hello Ada, from us."),
        (Some("^2"), "greet@2.0.0", "Hi Ada, from us."),
    ] {
        let got = rig.ask(&ask(version)).await;
        assert_eq!(got.status, 200, "{}", got.body);
        assert_eq!(said(&got.json()), words);
        assert_eq!(got.header("x-tidegate-prompt"), name);
        assert_eq!(got.header("x-tidegate-served-by"), "chat/alpha");
        let warning =
            if version == Some("^2") { "deprecated since 2026-11-02: too curt" } else { "" };
        assert_eq!(got.header("x-tidegate-prompt-warning"), warning);
    }
    let streamed = rig.ask(&Ask { stream: true, ..ask(None) }).await;
    assert_eq!(streamed.text(), "Hello Ada, from us.");
    assert_eq!(streamed.header("x-tidegate-prompt"), "greet@1.0.0");
    let plain = rig.ask(&Ask::chat("chat/alpha", "Hello").whole()).await;
    assert_eq!(plain.header("x-tidegate-prompt"), "");
}

#[tokio::test(start_paused = true)]
async fn a_model_it_was_not_tested_with_is_a_warning_and_is_counted() {
    let rig = rig();
    for model in ["chat/beta", "crossed"] {
        let got = rig.ask(&ask(None).having("model", json!(model))).await;
        let served = got.header("x-tidegate-served-by").to_owned();
        assert_eq!(got.header("x-tidegate-prompt-warning"), format!("untested for {served}"));
        assert_eq!(said(&got.json()), "Hello Ada, from us.");
    }
    rig.ask(&ask(None)).await;
    let metrics = rig.gateway.render_metrics();
    for (tested, count) in [("no", 2), ("yes", 1)] {
        let line = format!(
            "tidegate_prompt_requests_total{{outcome=\"complete\",prompt=\"greet@1.0.0\",tested=\"{tested}\"}} {count}"
        );
        assert!(metrics.contains(&line), "{line}\n{metrics}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_model_it_was_not_tested_with_is_refused_where_the_operator_says_so() {
    let files = files();
    let files = files.each_ref().map(|(name, text)| (*name, text.as_str()));
    let rig = Rig::with_files(&format!("{ROUTES}\n[prompts]\nuntested = \"refuse\""), &files);
    for model in ["chat/beta", "crossed"] {
        let got = rig.ask(&ask(None).having("model", json!(model))).await;
        assert_eq!(got.status, 400, "{}", got.body);
        let error = &got.json()["error"];
        assert_eq!(error["param"], "model");
        let words = error["message"].as_str().unwrap();
        assert!(words.starts_with("the prompt `greet@1.0.0` was not tested with `"), "{words}");
        assert!(words.ends_with("it was tested with `chat/alpha`"), "{words}");
    }
    assert_eq!(rig.ask(&ask(None)).await.status, 200);
    let plain = rig.ask(&Ask::chat("chat/beta", "Hello").whole()).await;
    assert_eq!(plain.status, 200, "without a prompt there is nothing to test");
}

#[tokio::test(start_paused = true)]
async fn what_a_request_adds_comes_after_the_prompt() {
    let rig = rig();
    let more = json!([{"role": "user", "content": "[[sim:say=The last word.]]"}]);
    let got = rig.ask(&ask(None).having("messages", more)).await;
    assert!(got.body.contains("The last word."), "{}", got.body);
    let messages = Ask { dialect: Dialect::Anthropic, ..ask(None) };
    let got = rig.ask(&messages).await;
    assert_eq!(said(&got.json()), "Hello Ada, from us.", "{}", got.body);
    assert_eq!(got.header("x-tidegate-prompt"), "greet@1.0.0");
}

#[tokio::test(start_paused = true)]
async fn errors_keep_the_dialect_and_name_the_field() {
    let rig = rig();
    for (prompt, status, param) in [
        (json!({"id": "greet"}), 400, "prompt.variables.name"),
        (json!({"id": "greet", "variables": {"nmae": "x"}}), 400, "prompt.variables.nmae"),
        (json!({"id": "gret"}), 404, "prompt.id"),
        (json!({"id": "greet", "version": "9.9.9"}), 404, "prompt.version"),
        (json!({"id": "greet", "version": "9"}), 400, "prompt.version"),
    ] {
        let got = rig.ask(&ask(None).having("prompt", prompt.clone())).await;
        assert_eq!(got.status, status, "{prompt}: {}", got.body);
        assert_eq!(got.json()["error"]["param"], param, "{prompt}: {}", got.body);
        let anthropic = Ask { dialect: Dialect::Anthropic, ..ask(None) };
        let got = rig.ask(&anthropic.having("prompt", prompt.clone())).await;
        assert_eq!((got.status.as_u16(), &got.json()["type"]), (status, &json!("error")));
    }
    let journal = rig.journal().await;
    assert!(journal.iter().all(|entry| entry.outcome == "rejected" && entry.prompt.is_none()));
}

#[tokio::test]
async fn the_journal_says_which_prompt_produced_an_answer() {
    let rig = rig();
    for version in [None, Some("^1"), Some("2.0.0")] {
        rig.ask(&ask(version)).await;
    }
    rig.ask(&Ask::chat("chat/alpha", "Hello").whole()).await;
    let all = rig.journal_on_a_running_clock().await;
    let prompts: Vec<_> = all.iter().map(|entry| entry.prompt.as_deref()).collect();
    let named = ["greet@1.0.0", "greet@1.1.0", "greet@2.0.0"].map(Some);
    assert_eq!(prompts, [&named[..], &[None]].concat());
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_kept_for_its_version_and_purged_by_prompt() {
    let rig = rig();
    let ask = |version| ask(version).having("model", json!("kept"));
    let how = async |version| rig.ask(&ask(version)).await.header("x-tidegate-cache").to_owned();
    assert_eq!(how(None).await, "miss");
    assert_eq!(how(Some("1.0.0")).await, "exact", "the same version by another name");
    assert_eq!(how(Some("^1")).await, "miss");
    let purge = |prompt: &str| Purge { prompt: Some(prompt.to_owned()), ..Purge::default() };
    assert_eq!(rig.gateway.cache().purge(&purge("greet@1.0.0")), 1);
    assert_eq!(how(Some("^1")).await, "exact");
    assert_eq!(how(None).await, "miss");
    assert_eq!(rig.gateway.cache().purge(&purge("greet")), 2);
    assert_eq!(how(Some("^1")).await, "miss");
}

#[tokio::test]
async fn a_request_that_is_sent_again_is_the_same_by_what_was_sent() {
    let rig = rig();
    let keyed = ask(None).with("idempotency-key", "one");
    let first = rig.ask(&keyed).await;
    let again = rig.ask(&keyed).await;
    assert_eq!(again.header("idempotent-replayed"), "true", "{}", again.body);
    assert_eq!(first.body, again.body);
}

/// A folder with these prompts and a configuration that has a provider.
fn folder(files: &[(&str, String)]) -> (tempfile::TempDir, Source) {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let file = folder.path().join("tidegate.toml");
    std::fs::write(&file, "").unwrap();
    let source = Source { file: Some(file), ..Source::environment(Environment::fixed([])) };
    (folder, source)
}

#[test]
fn a_version_that_was_changed_is_a_problem_and_the_old_one_goes_on() {
    let (folder, source) = folder(&files());
    let before = load(&source, None).unwrap();
    assert_eq!(before.prompts.iter().count(), 1);
    let file = folder.path().join("prompts/greet/1.0.0.toml");
    std::fs::write(&file, V1.replace("Hello", "Hey")).unwrap();
    let problems = load(&source, Some(&before)).unwrap_err().to_string();
    assert!(
        problems.contains("1.0.0.toml") && problems.contains("a version never changes"),
        "{problems}"
    );
    std::fs::write(&file, V1).unwrap();
    std::fs::write(folder.path().join("prompts/greet/1.1.1.toml"), V1.replace("Hello", "Hey"))
        .unwrap();
    let after = load(&source, Some(&before)).unwrap();
    assert_ne!(before.revision, after.revision);
    let newest = after.prompts.find("greet", &Wanted::parse("^1").unwrap()).unwrap();
    assert_eq!(newest.version.to_string(), "1.1.1");
}

#[test]
fn problems_of_prompts_are_those_of_the_configuration() {
    let (folder, source) = folder(&[
        ("prompts/greet/1.0.0.toml", V1.replace("{{ name }}", "{{ nme }}")),
        ("prompts/stray.toml", V1.to_owned()),
        ("prompts/greet/notes.md", "no prompt".to_owned()),
        ("prompts/.hidden/1.0.0.toml", "not read".to_owned()),
    ]);
    let problems = load(&source, None).unwrap_err().to_string();
    let problems = problems.replace(&format!("{}/", folder.path().display()), "");
    assert_eq!(
        problems,
        "prompts/greet/1.0.0.toml:6: messages[0].content: the template uses `nme`, which is not one of \
         `variables.properties` (did you mean `name`?)\n\
         prompts/greet/1.0.0.toml:13: variables.properties.name: no message uses it; use it or leave it out\n\
         prompts/stray.toml: belongs into a folder that is named like the prompt"
    );
    let missing = Source { prompts: Some(folder.path().join("nowhere")), ..source };
    assert!(load(&missing, None).unwrap_err().to_string().contains("cannot be read"));
}

// What ships.

fn shipped() -> Prompts {
    let prompts = Some(package().join("prompts"));
    let source = Source { prompts, ..Source::environment(Environment::fixed([])) };
    load_prompts(&source).unwrap_or_else(|problems| panic!("{problems}"))
}

fn rendered(id: &str, version: &str, variables: Value) -> Vec<String> {
    let prompts = shipped();
    let prompt = prompts.find(id, &Wanted::parse(version).unwrap()).unwrap();
    let rendered = prompt.render(variables.as_object().unwrap().clone());
    let rendered = rendered.unwrap_or_else(|error| panic!("{id}: {error}"));
    rendered.messages.into_iter().map(|message| message.text).collect()
}

#[test]
fn the_prompts_that_ship_render_with_much_and_with_little() {
    let little = json!({"company": "Acme", "message": "Where is it?"});
    let much = json!({
        "company": "Acme", "message": "Where is it?", "customer_name": "Ada",
        "facts": ["It left on Monday.", "It takes three days."],
    });
    let [system, user] = &rendered("support-reply", "1.0.0", little)[..] else { panic!() };
    assert!(
        system.contains("Facts:\n- (none)\n") && user == "Message:\nWhere is it?",
        "{system}\n{user}"
    );
    let [system, user] = &rendered("support-reply", "1.0.0", much.clone())[..] else { panic!() };
    assert!(system.contains("Facts:\n- It left on Monday.\n- It takes three days.\n"), "{system}");
    assert_eq!(user, "Customer: Ada\nMessage:\nWhere is it?");
    let mut formal = much;
    formal["tone"] = "formal".into();
    formal["language"] = "German".into();
    let [system, _] = &rendered("support-reply", "^1.1", formal)[..] else { panic!() };
    assert!(
        system.contains("Be formal:") && system.contains("in this language: German."),
        "{system}"
    );
    let [system, user] = &rendered("extract-invoice", "^1", json!({"text": "Invoice 7"}))[..]
    else {
        panic!()
    };
    assert!(system.contains("the day comes before the month.") && user == "Invoice 7", "{system}");
    let few = json!({"text": "Long.", "sentences": 1, "focus": "dates"});
    let [system, _] = &rendered("summarise", "^1", few)[..] else { panic!() };
    assert!(system.contains("at most 1 sentence, about this above all: dates."), "{system}");
    for text in rendered("summarise", "^1", json!({"text": "Long."})) {
        assert!(!text.contains("{{") && !text.contains("{%"), "{text}");
    }
}

#[test]
fn the_command_line_lists_shows_and_renders() {
    let folder = package().join("prompts");
    let prompts = |arguments: &[&str]| {
        let output =
            run([&["prompts"], arguments, &["--prompts", folder.to_str().unwrap()]].concat());
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let (code, out, _) = prompts(&["list"]);
    assert_eq!(code, Some(0));
    for id in ["support-reply", "extract-invoice", "summarise"] {
        assert!(out.contains(id), "{out}");
    }
    assert!(out.contains("1.0.0    production"), "{out}");
    let (_, out, _) = prompts(&["list", "--json"]);
    let listed: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(listed["data"].as_array().unwrap().len(), 4, "{out}");
    let (code, out, _) = prompts(&["show", "support-reply", "^1"]);
    assert!(
        code == Some(0) && out.contains("version: 1.1.0") && out.contains("--- system"),
        "{out}"
    );
    let vars = ["--var", "text=Long.", "--var", "sentences=2"];
    let (code, out, _) = prompts(&[&["render", "summarise"], &vars[..]].concat());
    assert!(code == Some(0) && out.contains("at most 2 sentences"), "{out}");
    let (code, _, said) = prompts(&["render", "summarise", "--var", "sentences=many"]);
    assert_eq!(code, Some(1));
    assert!(said.contains("`text` is missing") && said.contains("must be an integer"), "{said}");
    let (code, _, said) = prompts(&["show", "sumarise"]);
    assert!(code == Some(1) && said.contains("did you mean `summarise`?"), "{said}");
    let (code, _, said) = prompts(&["show", "summarise", "9.0.0"]);
    assert!(code == Some(1) && said.contains("it has `1.0.0`"), "{said}");
}
