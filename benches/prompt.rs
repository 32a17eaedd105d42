//! How long it takes to put a registered prompt into a request: `cargo bench --bench prompt`.
//!
//! The template has 2 KB. Beside criterion's mean, the 99th percentile is printed, because that is
//! what the goal is about: 20 us.

#![allow(clippy::unwrap_used, reason = "a benchmark that fails, panics")]
#![expect(clippy::print_stdout, reason = "the figures are for people to read")]
#![expect(missing_docs, reason = "criterion's macros make public items")]

use std::path::Path;

use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use serde_json::{Map, Value, json};
use tidegate::clock::Instant;
use tidegate::dispatch::prompted;
use tidegate::journal::EndpointKind;
use tidegate::problems::Problems;
use tidegate::prompt::{Prompts, Wanted};

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
    let path = Path::new("prompts/help/1.2.0.toml");
    let prompts = Prompts::parse([(path, file.as_str())], None, &mut problems);
    assert!(problems.is_empty(), "{problems}");
    prompts
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
    let prompts = prompts();
    let wanted = Wanted::parse("^1.2").unwrap();
    let body = json!({
        "prompt": {"id": "help", "version": "^1.2", "variables": variables()},
        "messages": [{"role": "user", "content": "And the second one?"}],
    });
    let body = Bytes::from(body.to_string());
    let load = std::fs::read_to_string("/proc/loadavg").unwrap();
    println!("load: {}", load.trim());
    let render = || {
        let prompt = prompts.find("help", &wanted).unwrap();
        prompt.render(variables()).unwrap()
    };
    let whole = || prompted::read(EndpointKind::Chat, body.clone(), &prompts).unwrap();
    percentiles("find and render", || drop(std::hint::black_box(render())));
    percentiles("read, find, render, put in", || drop(std::hint::black_box(whole())));
    criterion.bench_function("find and render", |bencher| bencher.iter(render));
    criterion.bench_function("read, find, render, put in", |bencher| bencher.iter(whole));
}

criterion_group!(benches, prompt);
criterion_main!(benches);
