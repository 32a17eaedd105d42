//! `x-tidegate-midstream: continue`: a stream that breaks is continued by another target, or ends
//! with an error event, and never silently.

use std::collections::HashSet;
use std::time::Duration;

use serde_json::{Value, json};
use tidegate::dialect::Dialect;
use tidegate::journal::StoredRequest;

use crate::process::{Program, post};
use crate::rig::{Ask, End, Got, Rig, end_of, events, read};
use crate::scripted::{CHAT_FINISH, DONE, Reply, scripted};

const CALLERS: [Dialect; 2] = [Dialect::OpenAiChat, Dialect::Anthropic];

/// Targets of every wire that can continue, and some that cannot.
const ROUTES: &str = r#"
[providers.go]
dialect = "openai-chat"
base_url = "sim://go/v1"
quirks = { native_prefill = "trailing_turn" }
credentials = [{ none = true }]
models = [{ id = "alpha", usd_per_million = { input = "1", output = "10" } }, { id = "beta" }]

[providers.on]
dialect = "anthropic"
base_url = "sim://on/v1"
quirks = { native_prefill = "trailing_turn" }
credentials = [{ none = true }]
models = [{ id = "alpha", usd_per_million = { input = "1", output = "10" } }, { id = "narrow", context_tokens = 300, native_prefill = "trailing_turn" }]

[providers.dear]
dialect = "openai-chat"
base_url = "sim://dear/v1"
credentials = [{ none = true }]
models = [{ id = "alpha", usd_per_million = { input = "1", output = "10" } }, { id = "narrow" }]

[routes.paid]
targets = [{ model = "dear/alpha" }, { model = "go/alpha", tier = 1 }]
[routes.chat-go]
targets = [{ model = "chat/alpha" }, { model = "go/alpha", tier = 1 }]
[routes.chat-on]
targets = [{ model = "chat/alpha" }, { model = "on/alpha", tier = 1 }]
[routes.claude-go]
targets = [{ model = "claude/alpha" }, { model = "go/alpha", tier = 1 }]
[routes.claude-on]
targets = [{ model = "claude/alpha" }, { model = "on/alpha", tier = 1 }]
[routes.gem-go]
targets = [{ model = "gem/alpha" }, { model = "go/alpha", tier = 1 }]
[routes.gem-on]
targets = [{ model = "gem/alpha" }, { model = "on/alpha", tier = 1 }]
[routes.other]
targets = [{ model = "chat/alpha" }, { model = "go/beta", tier = 1 }]
[routes.narrow]
targets = [{ model = "dear/narrow" }, { model = "on/narrow", tier = 1 }]
[routes.cannot]
targets = [{ model = "chat/alpha" }, { model = "claude/alpha", tier = 1 }]
[routes.half]
targets = [{ model = "go/alpha" }, { model = "chat/alpha", tier = 1 }]
"#;

const PAIRS: [&str; 6] = ["chat-go", "chat-on", "claude-go", "claude-on", "gem-go", "gem-on"];

/// A hundred and twenty words, none of them twice.
fn words() -> String {
    (0..120).map(|n| format!("word{n}")).collect::<Vec<_>>().join(" ")
}

/// An answer of all words that breaks after so many of them, the first time it is asked for.
fn cut(after: usize) -> String {
    format!("[[sim:first=1,cut_after={after}]][[sim:say={}]]", words())
}

fn continued(dialect: Dialect, route: &str, text: &str) -> Ask {
    let ask = Ask::new(dialect, route, text).with("x-tidegate-midstream", "continue");
    if dialect == Dialect::Anthropic {
        return ask;
    }
    ask.having("stream_options", json!({ "include_usage": true }))
}

fn comments(got: &Got) -> Vec<&str> {
    got.body.lines().filter(|line| line.starts_with(": tidegate spliced")).collect()
}

/// What came of broken streams, as the metrics tell it.
fn results(rig: &Rig) -> Vec<String> {
    let metrics = rig.gateway.metrics.render();
    let lines = metrics.lines().filter_map(|line| line.strip_prefix("tidegate_midstream_total"));
    lines.map(str::to_owned).collect()
}

/// The journal of a gateway that is done, on a clock that is paused again.
async fn journal(rig: Rig) -> Vec<StoredRequest> {
    let entries = rig.journal().await;
    tokio::time::pause();
    entries
}

/// What continuing has cost beside what callers pay.
const SPLICE_WASTE: &str = "tidegate_waste_micro_usd_total{reason=\"splice\"}";

#[tokio::test(start_paused = true)]
async fn a_broken_stream_is_continued_where_it_stopped() {
    for dialect in CALLERS {
        for route in PAIRS {
            for after in [9, 60, 119, 120] {
                let rig = Rig::instant(ROUTES);
                let ask = continued(dialect, route, &cut(after));
                let got = rig.ask(&ask).await;
                let what = format!("{dialect} {route} {after} {got:#?}");
                assert_eq!(got.text(), words(), "{what}");
                assert_eq!((got.end(), got.header("x-tidegate-dropped")), (End::Terminal, ""));
                let (from, to) = route.split_once('-').unwrap();
                let [comment] = comments(&got).try_into().expect(&what);
                assert!(comment.contains(&format!("from={from}/alpha to=")), "{what}");
                assert!(comment.ends_with("model_changed=false"), "{what}");
                assert_eq!(results(&rig), ["{result=\"spliced\"} 1"], "{what}");
                assert_eq!(rig.sim.stats().total.in_flight, 0);
                let [entry] = journal(rig).await.try_into().unwrap();
                assert_eq!((entry.outcome.as_str(), entry.attempts), ("spliced", 2), "{entry:?}");
                assert_eq!(entry.failure.as_deref(), Some("mid_stream"), "{entry:?}");
                assert_eq!(entry.target.unwrap(), format!("{to}/alpha"));
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_seam_does_not_show_in_the_wire() {
    for (dialect, route) in CALLERS.into_iter().zip(["chat-on", "claude-go"]) {
        let rig = Rig::instant(ROUTES);
        let ask = continued(dialect, route, &cut(50));
        let got = rig.ask(&ask).await;
        let all: Vec<(String, Value)> = events(&got.body)
            .into_iter()
            .filter_map(|(name, data)| Some((name, serde_json::from_str(&data).ok()?)))
            .collect();
        let names = |wanted: &str| all.iter().filter(|(name, _)| name == wanted).count();
        let ids: HashSet<&str> = all.iter().filter_map(|(_, data)| data["id"].as_str()).collect();
        if dialect == Dialect::OpenAiChat {
            assert_eq!(ids.len(), 1, "{got:#?}");
            let roles = all.iter().filter(|(_, d)| d["choices"][0]["delta"]["role"].is_string());
            assert_eq!(roles.count(), 1, "{got:#?}");
        } else {
            assert_eq!((names("message_start"), names("message_stop")), (1, 1), "{got:#?}");
            assert_eq!((names("content_block_start"), names("content_block_stop")), (1, 1));
            let mut blocks = all.iter().filter(|(name, _)| name == "content_block_delta");
            assert!(blocks.all(|(_, data)| data["index"] == 0), "{got:#?}");
        }
        let told = all.iter().find_map(|(_, data)| data.get("tidegate")).expect("usage has it");
        assert_eq!(told["spliced"]["model_changed"], false, "{told}");
        assert_eq!(told["spliced"]["at_char"], words().match_indices(' ').nth(49).unwrap().0);
    }
}

#[tokio::test(start_paused = true)]
async fn the_caller_pays_for_what_was_delivered_once_and_the_rest_is_waste() {
    let ask = |text: &str| continued(Dialect::OpenAiChat, "paid", text);
    let rig = Rig::instant(ROUTES);
    rig.ask(&ask(&format!("[[sim:say={}]]", words()))).await;
    let whole = journal(rig).await.pop().unwrap();
    assert_eq!(whole.outcome, "complete");
    let rig = Rig::instant(ROUTES);
    let got = rig.ask(&ask(&cut(60))).await;
    assert_eq!(got.text(), words());
    let metrics = rig.gateway.metrics.render();
    let entry = journal(rig).await.pop().unwrap();
    assert!(entry.usage_estimated, "what the first attempt said was counted by us: {entry:?}");
    // A word of the simulator is one token to it and two to a tokenizer, and half of them were
    // counted by us.
    let times = |found: u64, of: u64| found as f64 / of as f64;
    assert!((0.8..1.2).contains(&times(entry.usage.input, whole.usage.input)), "{entry:?}");
    assert!((1.0..2.0).contains(&times(entry.usage.output, whole.usage.output)), "{entry:?}");
    assert!((1.0..2.0).contains(&times(entry.cost.0, whole.cost.0)), "{entry:?} {whole:?}");
    let waste = metrics.lines().find(|line| line.starts_with(SPLICE_WASTE));
    let waste: u64 = waste.unwrap().rsplit(' ').next().unwrap().parse().unwrap();
    assert_eq!((entry.waste.cost.0, entry.waste.is_estimated), (waste, true), "{entry:?}");
    // Nothing of what both attempts cost is lost, and nothing is written twice.
    let costs = metrics.lines().filter(|line| line.starts_with("tidegate_cost_micro_usd_total"));
    let costs = costs.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap());
    assert_eq!(entry.cost.0 + waste, costs.sum::<u64>(), "{entry:?}");
    assert!(entry.waste.input > 0 && waste > 0, "{entry:?}");
}

#[tokio::test(start_paused = true)]
async fn whatever_stands_in_the_way_ends_the_stream_with_an_error_event() {
    let tool = json!([{ "type": "function", "function": { "name": "f", "parameters": {} } }]);
    let plain = |route: &str| continued(Dialect::OpenAiChat, route, &cut(20));
    let long = |ask: Ask| ask.having("response_format", json!({ "type": "json_object" }));
    let cases = [
        (
            "structured",
            Ask { text: "[[sim:first=1,cut_after=5]] go on".repeat(40), ..long(plain("chat-go")) },
        ),
        (
            "tool_call",
            Ask {
                text: "[[sim:first=1,cut_after=1]][[sim:call=f]]".to_owned(),
                ..plain("chat-go")
            }
            .having("tools", tool),
        ),
        ("alternatives", plain("chat-go").having("n", 2.into())),
        ("logprobs", plain("chat-go").having("logprobs", true.into())),
        ("reasoning", plain("chat-go").having("reasoning_effort", "low".into())),
        ("other_model", plain("other")),
        ("too_long", continued(Dialect::OpenAiChat, "narrow", &cut(100))),
        ("no_time_left", plain("chat-go").with("x-tidegate-timeout-ms", 1_900)),
        ("no_prefill", plain("half")),
    ];
    for (why, ask) in cases {
        let routes =
            format!("{ROUTES}\n[defaults]\nhold_back = {{ tokens = 0, time = \"0ms\" }}\n");
        let rig = Rig::instant(&routes);
        let got = rig.ask(&ask).await;
        assert_eq!((got.end(), comments(&got).len()), (End::Error, 0), "{why} {got:#?}");
        assert_eq!(results(&rig), [format!("{{result=\"{why}\"}} 1")], "{got:#?}");
        assert_eq!(got.header("x-tidegate-dropped"), "", "the route can continue others: {why}");
        let [entry] = journal(rig).await.try_into().unwrap();
        assert_eq!((entry.outcome.as_str(), entry.attempts), ("cut", 1), "{why} {entry:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn another_model_continues_where_the_caller_allows_that() {
    let rig = Rig::instant(ROUTES);
    let text = format!("[[sim:on=alpha,cut_after=20]][[sim:say={}]]", words());
    let ask = continued(Dialect::OpenAiChat, "other", &text)
        .with("x-tidegate-midstream-allow-model-change", true);
    let got = rig.ask(&ask).await;
    assert_eq!((got.text(), got.end()), (words(), End::Terminal), "{got:#?}");
    assert!(comments(&got)[0].ends_with("model_changed=true"), "{got:#?}");
}

#[tokio::test(start_paused = true)]
async fn routes_and_endpoints_that_can_continue_nothing_say_so_beforehand() {
    let rig = Rig::instant(ROUTES);
    for (route, after) in [("cannot", 20), ("go/alpha", 21)] {
        let got = rig.ask(&continued(Dialect::OpenAiChat, route, &cut(after))).await;
        assert_eq!((got.end(), got.header("x-tidegate-dropped")), (End::Error, "midstream"));
        assert_eq!(results(&rig), Vec::<String>::new());
    }
    let whole = rig.ask(&continued(Dialect::OpenAiChat, "cannot", "hello").whole()).await;
    assert_eq!(whole.header("x-tidegate-dropped"), "", "a whole answer is failed over");
    let unasked = rig.ask(&Ask::chat("chat-go", &cut(22))).await;
    assert_eq!((unasked.end(), comments(&unasked).len()), (End::Error, 0));
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_continued_once_and_a_route_continues_one_in_a_hundred() {
    let rig = Rig::instant(ROUTES);
    // Both targets break: the second break is the end.
    let text = format!("[[sim:first=2,cut_after=30]][[sim:say={}]]", words());
    let got = rig.ask(&continued(Dialect::OpenAiChat, "chat-go", &text)).await;
    assert_eq!((got.end(), comments(&got).len()), (End::Error, 1), "{got:#?}");
    assert!(words().starts_with(got.text().trim_end()), "{got:#?}");
    // The budget of this minute is spent.
    let got = rig.ask(&continued(Dialect::OpenAiChat, "chat-go", &cut(40))).await;
    assert_eq!((got.end(), comments(&got).len()), (End::Error, 0), "{got:#?}");
    tokio::time::sleep(Duration::from_secs(61)).await;
    let got = rig.ask(&continued(Dialect::OpenAiChat, "chat-go", &cut(41))).await;
    assert_eq!((got.end(), got.text()), (End::Terminal, words()), "{got:#?}");
    let counts = ["already_spliced", "over_budget", "spliced"];
    let lines = results(&rig);
    for (line, (result, count)) in lines.iter().zip(counts.into_iter().zip([1, 1, 2])) {
        assert_eq!(*line, format!("{{result=\"{result}\"}} {count}"));
    }
    let mut outcomes: Vec<String> = journal(rig).await.into_iter().map(|e| e.outcome).collect();
    outcomes.sort();
    assert_eq!(outcomes, ["cut", "cut", "spliced"]);
}

/// A few letters, unlike those of any other number.
fn boat(n: u64) -> String {
    format!("{:x}, ", n.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15))
}

/// What the second target says, after a first one that broke off in the middle of `beginning`.
async fn joined(beginning: &str, second: Reply) -> (Got, Vec<String>, String) {
    let rig = Rig::instant(ROUTES);
    let beginning = beginning.to_owned();
    let router = rig.over(scripted(move |request| {
        let body = String::from_utf8_lossy(&request.body).into_owned();
        if body.contains("assistant") {
            return second.clone();
        }
        let pieces = beginning.split_inclusive(' ');
        pieces.fold(Reply::stream(), |reply, piece| reply.says(piece)).resets()
    }));
    let routes = continued(Dialect::OpenAiChat, "chat-go", "Count.");
    let got = read(&router, &routes.with("x-tidegate-timeout-ms", 30_000)).await;
    let results = results(&rig);
    let [entry] = journal(rig).await.try_into().unwrap();
    (got, results, entry.outcome)
}

#[tokio::test(start_paused = true)]
async fn what_the_second_target_says_again_is_left_out_and_a_new_beginning_is_refused() {
    let beginning: String = (0..60).map(boat).collect();
    let ends = |reply: Reply| reply.chunk(CHAT_FINISH).chunk(DONE);
    // It repeats its last words.
    let tail: String = (55..70).map(boat).collect();
    let (got, results, outcome) = joined(&beginning, ends(Reply::stream().says(&tail))).await;
    let whole: String = (0..70).map(boat).collect();
    assert_eq!((got.text(), got.end()), (whole, End::Terminal), "{got:#?}");
    assert_eq!((results, outcome.as_str()), (vec!["{result=\"spliced\"} 1".to_owned()], "spliced"));
    // It begins again.
    let again: String = (0..20).map(boat).collect();
    let (got, _, outcome) = joined(&beginning, ends(Reply::stream().says(&again))).await;
    assert_eq!((got.text(), got.end()), (beginning.clone(), End::Error), "{got:#?}");
    assert_eq!((comments(&got).len(), outcome.as_str()), (0, "cut"), "{got:#?}");
    // It has nothing to add.
    let (got, _, outcome) = joined(&beginning, ends(Reply::stream())).await;
    assert_eq!((got.text(), got.end()), (beginning.clone(), End::Terminal), "{got:#?}");
    assert_eq!(outcome, "spliced");
    // It refuses, or breaks before its first word.
    for second in [Reply::status(400), Reply::status(500), Reply::stream().resets()] {
        let (got, results, outcome) = joined(&beginning, second).await;
        assert_eq!((got.text(), got.end()), (beginning.clone(), End::Error), "{got:#?}");
        assert_eq!(results, ["{result=\"nobody_answered\"} 1"]);
        assert_eq!(outcome, "cut");
    }
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_leaves_while_the_rest_is_looked_for_leaves_nothing_behind() {
    let rig = Rig::instant(ROUTES);
    let text = format!("{}[[sim:ttft=5s]]", cut(20));
    let ask = continued(Dialect::OpenAiChat, "chat-go", &text);
    let response = rig.open(&ask).await;
    let mut body = response.into_body();
    let reading = async {
        while let Some(frame) = http_body_util::BodyExt::frame(&mut body).await {
            frame.unwrap();
        }
    };
    let left = tokio::time::timeout(Duration::from_secs(2), reading).await;
    assert!(left.is_err(), "the second target is still silent");
    assert_eq!(rig.sim.stats().total.in_flight, 1);
    drop(body);
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(rig.sim.stats().total.in_flight, 0);
    assert!(
        rig.gateway
            .fleet()
            .targets(tidegate::clock::Instant::now())
            .iter()
            .all(|t| t.in_flight == 0)
    );
    let [entry] = journal(rig).await.try_into().unwrap();
    assert_eq!(
        (entry.outcome.as_str(), entry.target.as_deref()),
        ("client_gone", Some("chat/alpha"))
    );
    assert!(entry.usage.output > 10, "what was delivered is counted: {entry:?}");
}

#[tokio::test]
async fn on_real_sockets_a_broken_stream_is_continued() {
    let sim = Program::sim("");
    let provider = |id: &str, dialect: &str, more: &str| {
        format!(
            "[providers.{id}]\ndialect = \"{dialect}\"\nbase_url = \"http://{}/v1\"\n{more}\
             credentials = [{{ none = true }}]\nmodels = [{{ id = \"alpha\" }}]\n",
            sim.address
        )
    };
    let prefill = "quirks = { native_prefill = \"trailing_turn\" }\n";
    let gate = Program::serve(&format!(
        "{}{}[routes.smart]\ntargets = [{{ model = \"chat/alpha\" }}, {{ model = \"on/alpha\", tier = 1 }}]\n",
        provider("chat", "openai-chat", ""),
        provider("on", "anthropic", prefill),
    ));
    // A reset, and no clean end: the provider's connection breaks.
    let text =
        format!("[[sim:first=1,reset_after=60]][[sim:ttft=1ms,gap=1ms]][[sim:say={}]]", words());
    let ask = Ask::chat("smart", &text);
    let request = String::from_utf8(post(ask.path(), ask.body().to_string().as_bytes())).unwrap();
    let request = request.replacen("\r\n\r\n", "\r\nx-tidegate-midstream: continue\r\n\r\n", 1);
    let answer = gate.send(request).await;
    assert!(answer.is_whole, "{answer:?}");
    let said = events(&answer.body).into_iter().filter_map(|(_, data)| {
        let data: Value = serde_json::from_str(&data).ok()?;
        data["choices"][0]["delta"]["content"].as_str().map(str::to_owned)
    });
    assert_eq!(said.collect::<String>(), words());
    assert_eq!(end_of(&answer.body), End::Terminal, "{answer:?}");
    assert_eq!(answer.body.matches(": tidegate spliced from=chat/alpha to=on/alpha").count(), 1);
    let spliced = "tidegate_midstream_total{result=\"spliced\"}";
    assert_eq!(gate.metric(spliced).await, 1.0);
}
