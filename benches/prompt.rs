//! How long it takes to put a registered prompt into a request: `cargo bench --bench prompt`.
//!
//! The template has 2 KB. Beside criterion's mean, the 99th percentile is printed, because that is
//! what the goal is about: 20 us.

#![allow(clippy::unwrap_used, reason = "a benchmark that fails, panics")]
#![expect(clippy::print_stdout, reason = "the figures are for people to read")]

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use serde_json::{Map, Value, json};
use tidegate::clock::Instant;
use tidegate::dialect::Envelope;
use tidegate::dispatch::Whose;
use tidegate::dispatch::prompted::{self, Lookup};
use tidegate::ids::{CallerId, PromptId};
use tidegate::journal::EndpointKind;
use tidegate::policy::rollout::{Salt, Share, UnitKind};
use tidegate::problems::Problems;
use tidegate::prompt::{Prompts, Wanted};
use tidegate::rollout::{Rollouts, Steered, Steering, Subject};

/// As the gateway has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const RUNS: usize = 100_000;

fn prompts() -> Prompts {
    let words = "Answer with what is known and with nothing else, in plain words. ".repeat(29);
    let file = format!(
        r#"
target_model = "openai/gpt-5-mini"
[[messages]]
role = "system"
content = """You help the customers of {{{{ company }}}}.
{words}
{{% for fact in facts %}}- {{{{ fact }}}}
{{% endfor %}}"""
[[messages]]
role = "user"
content = "{{% if name is defined %}}{{{{ name }}}} asks: {{% endif %}}{{{{ question }}}}"
[variables]
required = ["company", "question"]
[variables.properties]
company = {{ type = "string", maxLength = 100 }}
name = {{ type = "string" }}
question = {{ type = "string", minLength = 1 }}
facts = {{ type = "array", default = [], items = {{ type = "string" }} }}
"#
    );
    let mut problems = Problems::new();
    let next = file.replace("plain words", "short words");
    let files = [
        ("prompts/help/1.2.0.toml", file.as_str()),
        ("prompts/help/1.2.1.toml", next.as_str()),
        ("prompts/help/labels.toml", "production = \"1.2.0\""),
    ];
    let files = files.iter().map(|(path, text)| (Path::new(*path), *text));
    let prompts = Prompts::parse(files, None, &mut problems);
    assert!(problems.is_empty(), "{problems}");
    prompts
}

/// The newer version at a quarter of the users.
fn rollouts() -> Rollouts {
    let id = PromptId::new("help");
    let version = |text: &str| text.parse().unwrap();
    let steered = Steered {
        id: "ro_1".into(),
        subject: Subject::Prompt { id: id.clone(), from: version("1.2.0"), to: version("1.2.1") },
        salt: Salt::of("ro_1"),
        unit: UnitKind::User,
        share: Share::from_percent(25.0).unwrap(),
        shadow: None,
        revision: 1,
    };
    let rollouts = Rollouts::new();
    let prompts = [(id, Arc::new(steered))].into();
    rollouts.steer(Steering { prompts, ..Steering::default() });
    rollouts
}

fn variables() -> Map<String, Value> {
    let variables = json!({
        "company": "Acme", "name": "Ada", "question": "Where is my order?",
        "facts": ["Orders leave within a day.", "Parcels take three days.", "Returns are free."],
    });
    variables.as_object().cloned().unwrap()
}

fn percentiles(name: &str, mut run: impl FnMut()) {
    let mut took: Vec<_> = (0..RUNS)
        .map(|_| {
            let started = Instant::now();
            run();
            started.elapsed()
        })
        .collect();
    took.sort_unstable();
    let at = |share: usize| took[RUNS * share / 1_000];
    println!("{name}: p50 {:?}, p99 {:?}, p99.9 {:?}", at(500), at(990), at(999));
}

fn prompt(criterion: &mut Criterion) {
    let prompts = Arc::new(prompts());
    let known = || Arc::clone(&prompts);
    let wanted = Wanted::Unsaid;
    let body = json!({
        "prompt": {"id": "help", "variables": variables()},
        "user": "user-17",
        "messages": [{"role": "user", "content": "And the second one?"}],
    });
    let body = Bytes::from(body.to_string());
    let without =
        json!({"model": "smart", "messages": [{"role": "user", "content": "And the second?"}]});
    let without = Bytes::from(without.to_string());
    let load = std::fs::read_to_string("/proc/loadavg").unwrap();
    println!("load: {}", load.trim());
    let render = || {
        let prompt = prompts.find("help", &wanted).unwrap();
        prompt.render(variables()).unwrap()
    };
    let (idle, rollouts, caller) = (Rollouts::new(), rollouts(), CallerId::anonymous());
    let whose = Whose { user: None, caller: &caller, request: "req_1" };
    let read = |rollouts: &Rollouts| {
        let lookup = Lookup { prompts: &known, rollouts, whose };
        prompted::read(EndpointKind::Chat, body.clone(), lookup).unwrap()
    };
    let whole = || read(&idle);
    let assigned = || read(&rollouts);
    let plain = || {
        let lookup = Lookup { prompts: &known, rollouts: &rollouts, whose };
        prompted::read(EndpointKind::Chat, without.clone(), lookup).unwrap()
    };
    let envelope = || Envelope::read(without.clone()).unwrap();
    percentiles("find and render", || drop(std::hint::black_box(render())));
    percentiles("read, find, render, put in", || drop(std::hint::black_box(whole())));
    percentiles("read, find, assign, render, put in", || drop(std::hint::black_box(assigned())));
    percentiles("read a request without a prompt", || drop(std::hint::black_box(plain())));
    percentiles("the same before there were prompts", || drop(std::hint::black_box(envelope())));
    criterion.bench_function("find and render", |bencher| bencher.iter(render));
    criterion.bench_function("read, find, render, put in", |bencher| bencher.iter(whole));
}

criterion_group!(benches, prompt);
criterion_main!(benches);
