//! What becomes of the body of a request that names a prompt.

use std::path::Path;

use super::*;
use crate::ids::{CallerId, PromptId};
use crate::policy::rollout::{Salt, Share, UnitKind};
use crate::problems::Problems;
use crate::rollout::{Steered, Steering};

const FILE: &str = r#"
target_model = "openai/gpt-5-mini"
[[messages]]
role = "system"
content = "You help {{ company }}."
[[messages]]
role = "user"
content = "Hello."
[variables.properties.company]
type = "string"
[parameters]
temperature = 0.5
max_tokens = 100
stop = ["END"]
tool_choice = "required"
[[tools]]
type = "function"
function = { name = "look", description = "looks", parameters = { type = "object" } }
[response_format]
type = "json_schema"
json_schema = { name = "answer", schema = { type = "object" } }
"#;

fn prompts(text: &str) -> Prompts {
    let mut problems = Problems::new();
    let path = Path::new("prompts/help/1.0.0.toml");
    let prompts = Prompts::parse([(path, text)], None, &mut problems);
    assert!(problems.is_empty(), "{problems}");
    prompts
}

/// For a request of nobody in particular.
fn lookup<'a>(
    prompts: &'a dyn Fn() -> Arc<Prompts>,
    rollouts: &'a Rollouts,
    caller: &'a CallerId,
) -> Lookup<'a> {
    Lookup { prompts, rollouts, whose: Whose { user: None, caller, request: "req_1" } }
}

/// The body of a request with the prompt put in.
fn filled(kind: EndpointKind, text: &str, body: &Value) -> Result<Value, Rejection> {
    let (envelope, prompted) = read(
        kind,
        body.to_string().into(),
        lookup(&|| Arc::new(prompts(text)), &Rollouts::new(), &CallerId::anonymous()),
    )?;
    let prompted = prompted.expect("it names one");
    assert_eq!(*prompted.prompt.name, *"help@1.0.0");
    assert_eq!(serde_json::from_slice::<Value>(&prompted.sent).unwrap(), *body);
    Ok(serde_json::from_slice(envelope.body()).unwrap())
}

fn named(more: Value) -> Value {
    let mut body = json!({"prompt": {"id": "help", "variables": {"company": "Acme"}}});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

fn refused(kind: EndpointKind, text: &str, body: &Value) -> (u16, Option<String>, String) {
    let rejection = filled(kind, text, body).unwrap_err();
    let param = rejection.param().map(str::to_owned);
    (rejection.face().status.as_u16(), param, rejection.to_string())
}

#[test]
fn what_the_request_does_not_say_the_prompt_says() {
    let format = json!({"type": "json_schema", "json_schema": {"name": "answer", "schema": {"type": "object"}}});
    let body = filled(EndpointKind::Chat, FILE, &named(json!({}))).unwrap();
    assert_eq!(
        body,
        json!({
            "model": "openai/gpt-5-mini",
            "messages": [
                {"role": "system", "content": "You help Acme."},
                {"role": "user", "content": "Hello."},
            ],
            "tools": [{"type": "function", "function": {
                "name": "look", "description": "looks", "parameters": {"type": "object"},
            }}],
            "temperature": 0.5,
            "max_tokens": 100,
            "stop": ["END"],
            "tool_choice": "required",
            "response_format": format,
        })
    );
}

#[test]
fn what_the_request_says_holds_and_its_messages_come_after() {
    let own = json!({
        "model": "m", "temperature": 1, "max_completion_tokens": 7, "tools": [],
        "response_format": {"type": "text"}, "stop": null, "user": "u",
        "messages": [{"role": "user", "content": "[1, 2]"}],
    });
    let body = filled(EndpointKind::Chat, FILE, &named(own)).unwrap();
    assert_eq!(
        body,
        json!({
            "model": "m", "temperature": 1, "max_completion_tokens": 7, "tools": [],
            "response_format": {"type": "text"}, "stop": ["END"], "user": "u",
            "messages": [
                {"role": "system", "content": "You help Acme."},
                {"role": "user", "content": "Hello."},
                {"role": "user", "content": "[1, 2]"},
            ],
        })
    );
}

#[test]
fn on_anthropics_wire_it_is_said_in_its_words() {
    let blocks = |own: &str| json!([{"type": "text", "text": "You help Acme."}, {"type": "text", "text": own}]);
    let own = json!({"model": "m", "system": "Be kind.", "messages": [{"role": "user", "content": "Go."}]});
    let body = filled(EndpointKind::Messages, FILE, &named(own)).unwrap();
    assert_eq!(
        body,
        json!({
            "model": "m",
            "system": blocks("Be kind."),
            "messages": [{"role": "user", "content": "Hello."}, {"role": "user", "content": "Go."}],
            "tools": [{"name": "look", "description": "looks", "input_schema": {"type": "object"}}],
            "temperature": 0.5,
            "max_tokens": 100,
            "stop_sequences": ["END"],
            "tool_choice": {"type": "any"},
            "output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}},
        })
    );
    let own = json!({"max_tokens": 5, "system": [{"type": "text", "text": "B"}], "messages": []});
    let body = filled(EndpointKind::Messages, FILE, &named(own.clone())).unwrap();
    assert_eq!(body["system"], blocks("B"));
    assert_eq!((&body["max_tokens"], &body["model"]), (&json!(5), &json!("openai/gpt-5-mini")));
    let counted = filled(EndpointKind::CountTokens, FILE, &named(json!({}))).unwrap();
    assert!(counted.get("max_tokens").is_none() && counted.get("tools").is_some(), "{counted}");
}

#[test]
fn what_anthropics_wire_cannot_say_is_refused() {
    let seeded = FILE.replace("temperature = 0.5", "seed = 5");
    let (status, param, said) = refused(EndpointKind::Messages, &seeded, &named(json!({})));
    assert_eq!((status, param.as_deref()), (400, Some("prompt")));
    assert!(said.contains("`help@1.0.0` sets `seed`"), "{said}");
    let json = FILE.split("[response_format]").next().unwrap().to_owned()
        + "[response_format]\ntype = 'json_object'";
    let (_, _, said) = refused(EndpointKind::Messages, &json, &named(json!({})));
    assert!(said.contains("knows JSON only with a schema"), "{said}");
}

#[test]
fn what_is_wrong_with_a_prompt_names_the_field() {
    let long = "x".repeat(600 * 1024);
    for (prompt, status, param, said) in [
        (json!({}), 400, "prompt", "missing field `id`"),
        (json!({"id": 5}), 400, "prompt", "expected a string"),
        (json!({"id": "help", "vars": {}}), 400, "prompt", "unknown field `vars`"),
        (json!({"id": "help", "variables": []}), 400, "prompt", "`prompt` must be an object"),
        (
            json!({"id": "hlp"}),
            404,
            "prompt.id",
            "the prompt `hlp` does not exist; did you mean `help`?",
        ),
        (json!({"id": "help", "version": "newest!"}), 400, "prompt.version", "is no version"),
        (json!({"id": "help", "version": "2.0.0"}), 404, "prompt.version", "it has `1.0.0`"),
        (json!({"id": "help", "version": "staging"}), 404, "prompt.version", "no label `staging`"),
        (
            json!({"id": "help"}),
            400,
            "prompt.variables.company",
            "`company` is missing; it is a string",
        ),
        (
            json!({"id": "help", "variables": {"company": 1}}),
            400,
            "prompt.variables.company",
            "must be a string",
        ),
        (
            json!({"id": "help", "variables": {"company": "x", "c": 1}}),
            400,
            "prompt.variables.c",
            "is not a variable",
        ),
        (
            json!({"id": "help", "variables": {"company": long}}),
            400,
            "prompt.variables",
            "more than the 524288",
        ),
    ] {
        let shown: String = prompt.to_string().chars().take(60).collect();
        let found = refused(EndpointKind::Chat, FILE, &json!({ "prompt": prompt }));
        assert_eq!((found.0, found.1.as_deref()), (status, Some(param)), "{shown}: {}", found.2);
        assert!(found.2.contains(said), "{shown}: {}", found.2);
        assert!(found.2.len() < 400, "{shown}");
    }
    let untargeted = FILE.replace("target_model", "#");
    let (status, param, said) = refused(EndpointKind::Chat, &untargeted, &named(json!({})));
    assert_eq!((status, param.as_deref()), (400, Some("model")), "{said}");
    let (status, param, _) =
        refused(EndpointKind::Completions, FILE, &named(json!({"model": "m"})));
    assert_eq!((status, param.as_deref()), (400, Some("prompt")));
}

#[test]
fn a_request_without_a_prompt_stays_as_it_is() {
    for body in [r#"{"model":"m","messages":[ ]}"#, r#"{"model":"m", "prompt":"words"}"#] {
        let sent = Bytes::from_static(body.as_bytes());
        let (envelope, prompted) = read(
            EndpointKind::Chat,
            sent.clone(),
            lookup(&Arc::default, &Rollouts::new(), &CallerId::anonymous()),
        )
        .unwrap();
        assert!(prompted.is_none());
        assert_eq!(envelope.body().as_ptr(), sent.as_ptr(), "not even copied");
    }
    let rejection = read(
        EndpointKind::Chat,
        Bytes::from_static(b"{}"),
        lookup(&Arc::default, &Rollouts::new(), &CallerId::anonymous()),
    );
    assert_eq!(rejection.unwrap_err().param(), Some("model"));
}

/// Two versions, of which the newer one is rolled out to a share of users.
fn rolled(percent: f64) -> (Arc<Prompts>, Rollouts) {
    let text = |words: &str| format!("[[messages]]\nrole = \"system\"\ncontent = \"{words}\"\n");
    let (old, new, labels) = (text("Be brief."), text("Be short."), "production = \"1.2.0\"\n");
    let files = [
        ("prompts/help/1.2.0.toml", old.as_str()),
        ("prompts/help/1.2.1.toml", new.as_str()),
        ("prompts/help/labels.toml", labels),
    ];
    let mut problems = Problems::new();
    let files = files.iter().map(|(path, text)| (Path::new(*path), *text));
    let prompts = Prompts::parse(files, None, &mut problems);
    assert!(problems.is_empty(), "{problems}");
    let (id, version) = (PromptId::new("help"), |text: &str| text.parse().unwrap());
    let steered = Steered {
        id: "ro_1".into(),
        subject: Subject::Prompt { id: id.clone(), from: version("1.2.0"), to: version("1.2.1") },
        salt: Salt::of("ro_1"),
        unit: UnitKind::User,
        share: Share::from_percent(percent).unwrap(),
        shadow: None,
        revision: 1,
    };
    let rollouts = Rollouts::new();
    let prompts_of = [(id, Arc::new(steered))].into();
    rollouts.steer(Steering { prompts: prompts_of, ..Steering::default() });
    (Arc::new(prompts), rollouts)
}

/// The version that a user gets.
fn version_of(
    user: &str,
    version: Option<&str>,
    (prompts, rollouts): &(Arc<Prompts>, Rollouts),
) -> String {
    let mut prompt = json!({"id": "help"});
    if let Some(version) = version {
        prompt["version"] = version.into();
    }
    let body = json!({"model": "smart", "prompt": prompt, "user": user, "messages": []});
    let anonymous = CallerId::anonymous();
    let prompts = || Arc::clone(prompts);
    let lookup = lookup(&prompts, rollouts, &anonymous);
    let (_, prompted) = read(EndpointKind::Chat, body.to_string().into(), lookup).unwrap();
    let prompted = prompted.unwrap();
    if let Some(side) = &prompted.side {
        let is_candidate = side.arm == Arm::Candidate;
        assert_eq!(is_candidate, prompted.prompt.version.to_string() == "1.2.1");
    }
    prompted.prompt.version.to_string()
}

#[test]
fn a_share_of_users_gets_the_candidate_and_each_the_same_always() {
    let few = rolled(25.0);
    let users: Vec<String> = (0..20_000).map(|user| format!("user-{user}")).collect();
    let candidates = |of: &(Arc<Prompts>, Rollouts)| -> Vec<bool> {
        users.iter().map(|user| version_of(user, None, of) == "1.2.1").collect()
    };
    let at_25 = candidates(&few);
    let share = at_25.iter().filter(|is| **is).count() as f64 / 20_000.0;
    assert!((share - 0.25).abs() < 0.01, "{share}");
    assert_eq!(at_25, candidates(&few), "the same again");
    let at_60 = candidates(&rolled(60.0));
    assert!(at_25.iter().zip(&at_60).all(|(few, more)| !few || *more), "growth takes nobody back");
    assert!(candidates(&rolled(0.0)).iter().all(|is| !is));
    assert!(candidates(&rolled(100.0)).iter().all(|is| *is));
}

#[test]
fn a_pin_another_label_and_a_range_without_the_candidate_are_not_rolled_out() {
    let all = rolled(100.0);
    assert_eq!(version_of("u", Some("1.2.0"), &all), "1.2.0", "pinned");
    assert_eq!(version_of("u", Some("production"), &all), "1.2.1");
    assert_eq!(version_of("u", None, &all), "1.2.1");
    // The range finds the newest by itself, which is not the control.
    assert_eq!(version_of("u", Some("^1.2"), &rolled(0.0)), "1.2.1");
}
