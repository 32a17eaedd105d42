//! Prefix caches of providers: what is sent so that they can be used, where it is sent, and what it
//! costs.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Value, json};
use tidegate::chat::Usage;
use tidegate::dialect::Dialect;
use tidegate::sim::{Behaviour, Change, Fault, FaultRule, Latency, PrefixCache, Scenario};
use tokio::time::sleep;

use crate::rig::{Ask, Rig, read};
use crate::scripted::{CHAT_FINISH, DONE, Reply, scripted};

const ONE_CLAUDE: &str = r#"
[auth]
mode = "open"
[providers.paid]
dialect = "anthropic"
base_url = "sim://paid/v1"
credentials = [{ none = true }]
models = [{ id = "m", cache_min_tokens = 1024, usd_per_million = { input = "3", cached_input = "0.30", cache_write = "3.75", output = "15" } }]
[routes.off]
targets = [{ model = "paid/m" }]
prefix_cache = { breakpoints = false }
"#;

const ONE_KEYED: &str = r#"
[auth]
mode = "open"
[providers.keyed]
dialect = "openai-chat"
base_url = "sim://keyed/v1"
credentials = [{ none = true }]
models = [{ id = "m" }]
quirks = { prompt_cache_key = true }
[providers.plain]
dialect = "openai-chat"
base_url = "sim://plain/v1"
credentials = [{ none = true }]
models = [{ id = "m" }]
[routes.off]
targets = [{ model = "keyed/m" }]
prefix_cache = { cache_key = false }
"#;

const FOUR: &str = r#"
[auth]
mode = "open"
[routes.smart]
targets = [{ model = "one/m" }, { model = "two/m" }, { model = "three/m" }, { model = "four/m" }]
[routes.warm]
targets = [{ model = "one/m" }, { model = "two/m" }, { model = "three/m" }, { model = "four/m" }]
prefix_cache = { warm_first = true }
"#;

fn four() -> String {
    let provider = |name| {
        format!(
            "[providers.{name}]\ndialect = \"openai-chat\"\nbase_url = \"sim://{name}/v1\"\n\
             credentials = [{{ none = true }}]\nmodels = [{{ id = \"m\" }}]\n"
        )
    };
    format!("{FOUR}{}", ["one", "two", "three", "four"].map(provider).concat())
}

/// About so many tokens, unlike those of another name.
fn words(name: &str, tokens: usize) -> String {
    format!("{name}:{}", " abc".repeat(tokens))
}

fn user(text: String) -> Value {
    json!({ "role": "user", "content": text })
}

/// A turn of a conversation, counted from 0, with so many tokens in each.
fn turn(name: &str, turn: usize, tokens: usize) -> Value {
    let mut messages = Vec::new();
    for before in 0..turn {
        messages.push(user(words(&format!("{name}{before}"), tokens)));
        messages.push(json!({ "role": "assistant", "content": format!("{name} says {before}") }));
    }
    messages.push(user(words(&format!("{name}{turn}"), tokens)));
    messages.into()
}

fn ask(dialect: Dialect, model: &str, system: &str, messages: Value) -> Ask {
    let ask = Ask::new(dialect, model, "").whole();
    match dialect {
        Dialect::Anthropic => ask.having("system", json!(system)).having("messages", messages),
        Dialect::OpenAiChat | Dialect::Gemini => {
            let mut all = vec![json!({ "role": "system", "content": system })];
            all.extend(messages.as_array().unwrap().clone());
            ask.having("messages", all.into())
        }
    }
}

/// A gateway of this configuration whose providers refuse every request, and the bodies that they
/// got.
async fn sent(config: &str, asks: &[(Duration, Ask)]) -> Vec<String> {
    let rig = Rig::of(Scenario::instant(), config);
    let bodies: Arc<Mutex<Vec<String>>> = Arc::default();
    let kept = Arc::clone(&bodies);
    let router = rig.over(scripted(move |request| {
        kept.lock().push(String::from_utf8(request.body.to_vec()).unwrap());
        Reply::status(400).chunk("{}")
    }));
    for (pause, ask) in asks {
        sleep(*pause).await;
        assert_eq!(read(&router, ask).await.status, 400);
    }
    let bodies = bodies.lock().clone();
    assert_eq!(bodies.len(), asks.len());
    bodies
}

const AT_ONCE: Duration = Duration::ZERO;
const SOON: Duration = Duration::from_secs(20);
const TOO_LATE: Duration = Duration::from_secs(301);

#[tokio::test(start_paused = true)]
async fn a_prompt_is_marked_once_its_reuse_pays_from_any_wire() {
    for dialect in [Dialect::Anthropic, Dialect::OpenAiChat] {
        let system = words("rules", 2_000);
        let asks: Vec<_> =
            (0..4).map(|n| (SOON, ask(dialect, "paid/m", &system, turn("a", n, 100)))).collect();
        let bodies = sent(ONE_CLAUDE, &asks).await;
        let marks: Vec<usize> =
            bodies.iter().map(|body| body.matches("cache_control").count()).collect();
        // The first is not known to come back. From its third turn on the conversation does, too.
        assert_eq!(marks, [0, 1, 2, 2], "{dialect:?}");
        let last: Value = serde_json::from_str(&bodies[3]).unwrap();
        assert_eq!(last["system"][0]["cache_control"], json!({ "type": "ephemeral" }));
        assert_eq!(last["messages"][4]["content"][0]["cache_control"]["type"], "ephemeral");
        assert_eq!(last["messages"].as_array().unwrap().len(), 7);
    }
}

#[tokio::test(start_paused = true)]
async fn what_does_not_pay_or_is_too_short_or_is_marked_by_its_caller_is_left_alone() {
    let long = words("rules", 2_000);
    let of = |model, system: &str, n| ask(Dialect::Anthropic, model, system, turn("a", n, 10));
    let is_marked = |body: &String| body.contains("cache_control");
    let slow = (0..4).map(|n| (TOO_LATE, of("paid/m", &long, n))).collect::<Vec<_>>();
    assert!(!sent(ONE_CLAUDE, &slow).await.iter().any(is_marked), "it is gone by then");
    let short = (0..4).map(|n| (SOON, of("paid/m", &words("rules", 500), n))).collect::<Vec<_>>();
    assert!(!sent(ONE_CLAUDE, &short).await.iter().any(is_marked), "it is not cached");
    let off = (0..4).map(|n| (SOON, of("off", &long, n))).collect::<Vec<_>>();
    assert!(!sent(ONE_CLAUDE, &off).await.iter().any(is_marked), "the route does not want it");
    let own = json!([{ "type": "text", "text": long, "cache_control": { "type": "ephemeral", "ttl": "1h" } }]);
    let own = (0..4).map(|n| (SOON, of("paid/m", "", n).having("system", own.clone())));
    let bodies = sent(ONE_CLAUDE, &own.collect::<Vec<_>>()).await;
    assert!(bodies.iter().all(|body| body.matches("cache_control").count() == 1));
}

#[tokio::test(start_paused = true)]
async fn what_a_later_turn_has_in_common_with_an_earlier_one_is_sent_in_the_same_bytes() {
    let tools = |dialect| match dialect {
        Dialect::Anthropic => {
            json!([{ "name": "z", "input_schema": { "type": "object", "properties": {
            "b": { "type": "string" }, "a": { "type": "integer" } } } }])
        }
        Dialect::OpenAiChat | Dialect::Gemini => {
            json!([{ "type": "function", "function": { "name": "z", "parameters": { "type": "object",
                "properties": { "b": { "type": "string" }, "a": { "type": "integer" } } } } }])
        }
    };
    let configs = [(ONE_CLAUDE, "paid/m"), (ONE_KEYED, "keyed/m")];
    for (config, model) in configs {
        for dialect in [Dialect::Anthropic, Dialect::OpenAiChat] {
            let asks: Vec<_> = (0..5)
                .map(|n| {
                    let ask = ask(dialect, model, &words("rules", 2_000), turn("a", n, 100));
                    (SOON, ask.having("tools", tools(dialect)))
                })
                .collect();
            let bodies = sent(config, &asks).await;
            let prompts: Vec<String> = bodies.iter().map(|body| prompt(body)).collect();
            for pair in prompts.windows(2) {
                assert!(pair[1].starts_with(&pair[0]), "{dialect:?} to {model}: {pair:#?}");
            }
            // Nothing that is the request's own: the same request once more is the same bytes, and
            // only marks come and go.
            let again = sent(config, &[asks[2].clone(), asks[2].clone()]).await;
            assert_eq!(prompt(&again[0]), prompt(&again[1]));
            assert_eq!(prompt(&again[0]), prompts[2]);
        }
    }
}

/// What a model reads of a request, member by member as they are written, less marks.
fn prompt(body: &str) -> String {
    let object: serde_json::Map<String, Value> = serde_json::from_str(body).unwrap();
    let mut out = String::new();
    for key in ["tools", "system", "messages"] {
        let Some(mut value) = object.get(key).cloned() else { continue };
        unmark(&mut value);
        let text = value.to_string();
        out.push_str(text.strip_suffix(']').unwrap_or(&text));
    }
    out
}

/// A block of nothing but text says the same as the text.
fn unmark(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.shift_remove("cache_control");
            members.values_mut().for_each(unmark);
        }
        Value::Array(items) => {
            items.iter_mut().for_each(unmark);
            if let [Value::Object(only)] = &items[..]
                && only.get("type") == Some(&json!("text"))
                && only.len() == 2
            {
                *value = only["text"].clone();
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[tokio::test(start_paused = true)]
async fn a_cache_key_says_whose_it_is_and_splits_with_the_rate() {
    let of = |model: &str, name: &str, n| {
        ask(Dialect::OpenAiChat, model, &words("rules", 500), turn(name, n, 50))
    };
    let key = |body: &String| -> Option<String> {
        let body: Value = serde_json::from_str(body).unwrap();
        Some(body["prompt_cache_key"].as_str()?.to_owned())
    };
    let own = of("keyed/m", "a", 0).having("prompt_cache_key", json!("mine"));
    let anthropic = ask(Dialect::Anthropic, "keyed/m", &words("rules", 500), turn("a", 0, 50));
    let asks = [
        of("keyed/m", "a", 0),
        of("keyed/m", "b", 1),
        own,
        of("plain/m", "a", 0),
        of("off", "a", 0),
        anthropic,
    ];
    let keys: Vec<_> =
        sent(ONE_KEYED, &asks.map(|ask| (SOON, ask))).await.iter().map(key).collect();
    let first = keys[0].clone().unwrap();
    assert!(first.starts_with("tg-") && first.ends_with("-0"), "{first}");
    assert_eq!(keys[1..], [Some(first.clone()), Some("mine".to_owned()), None, None, Some(first)]);
    // More than fifteen a minute are several shards. A conversation stays in its own; where one
    // shard comes to it, only those move that go there.
    let warm_up = (0..90).map(|n| (AT_ONCE, of("keyed/m", &format!("w{n}"), 0)));
    let turns = (0..3).flat_map(|n| ["a", "b", "c"].map(|name| (AT_ONCE, of("keyed/m", name, n))));
    let bodies = sent(ONE_KEYED, &warm_up.chain(turns).collect::<Vec<_>>()).await;
    let keys: Vec<String> = bodies.iter().filter_map(key).collect();
    let mut distinct = keys.clone();
    distinct.sort();
    distinct.dedup();
    assert!((3..=7).contains(&distinct.len()), "{distinct:?}");
    let stays =
        |name: &usize| keys[90 + name] == keys[93 + name] && keys[93 + name] == keys[96 + name];
    assert!((0..3).filter(stays).count() >= 2, "{:?}", &keys[90..]);
}

#[tokio::test(start_paused = true)]
async fn cached_and_written_tokens_are_billed_at_their_own_prices() {
    let rig = Rig::of(Scenario::instant(), ONE_CLAUDE);
    let system = words("rules", 3_000);
    let mut costs = Vec::new();
    for n in 0..4 {
        sleep(SOON).await;
        let got = rig.ask(&ask(Dialect::Anthropic, "paid/m", &system, turn("a", n, 50))).await;
        assert_eq!(got.status, 200);
        costs.push(got.header("x-tidegate-cost-usd").parse::<f64>().unwrap());
    }
    let bills: Vec<Usage> = rig.sim.bills().iter().map(|bill| bill.usage).collect();
    for (usage, cost) in bills.iter().zip(&costs) {
        let tokens = |count: u64, usd: f64| count as f64 * usd * 1e-6;
        let owed = tokens(usage.input, 3.0)
            + tokens(usage.cached_input, 0.3)
            + tokens(usage.cache_write, 3.75)
            + tokens(usage.total_output(), 15.0);
        assert!((cost - owed).abs() < 2e-6, "{cost} instead of {owed}: {usage:?}");
    }
    assert_eq!((bills[0].cache_write, bills[0].cached_input), (0, 0), "not marked yet");
    assert!(bills[1].cache_write > 2_000, "{:?}", bills[1]);
    assert!(bills[2].cached_input > 2_000 && bills[2].cache_write < 1_000, "{:?}", bills[2]);
    assert!(bills[3].cached_input >= bills[2].cached_input);
    let journal = rig.journal().await;
    let cached: Vec<u64> = journal.iter().map(|stored| stored.usage.cached_input).collect();
    assert_eq!(cached, bills.iter().map(|usage| usage.cached_input).collect::<Vec<_>>());
}

/// Servers of one's own that take 200 ms for a thousand tokens.
fn servers() -> Scenario {
    Scenario::uniform(Behaviour {
        ttft: Latency::constant(Duration::from_millis(100)),
        token_gap: Latency::constant(Duration::from_millis(1)),
        tokens: Some((2, 3)),
        prefix_cache: Some(PrefixCache { tokens: 1_000_000, prefill: Duration::from_millis(200) }),
        ..Behaviour::default()
    })
}

#[tokio::test(start_paused = true)]
async fn a_conversation_stays_where_it_is_cached() {
    let rig = Rig::of(servers(), &four());
    let mut at_home = 0;
    for name in 0..20 {
        let mut before = String::new();
        for n in 0..4 {
            let ask = ask(Dialect::OpenAiChat, "smart", "Hi.", turn(&format!("c{name}-"), n, 500));
            let ask = Ask { stream: true, ..ask };
            let served = rig.ask(&ask).await.header("x-tidegate-served-by").to_owned();
            at_home += usize::from(served == before);
            before = served;
        }
    }
    // At random one turn in four stays.
    assert!(at_home >= 52, "{at_home} of 60 turns");
    let (all, cached) = rig.sim.bills().iter().fold((0, 0), |(all, cached), bill| {
        (all + bill.usage.total_input(), cached + bill.usage.cached_input)
    });
    assert!(cached * 20 > all * 9, "{cached} of {all}; 60 % is all there can be");
}

#[tokio::test(start_paused = true)]
async fn a_home_that_fails_is_left() {
    let refuse = FaultRule {
        share: 1.0,
        on_requests: Vec::new(),
        fault: Fault::parse("connect_refused").unwrap(),
    };
    let mut scenario = servers();
    let (_, well) = scenario.models[0].clone();
    for name in ["one", "two"] {
        let behaviour = Behaviour { faults: vec![refuse.clone()], ..well.clone() };
        let (at, model) = (Duration::from_secs(600), format!("{name}/*"));
        scenario.changes.push(Change { at, model, behaviour });
    }
    let rig = Rig::of(scenario, &four());
    let mut served = [0, 0];
    for n in 0..3 {
        if n == 2 {
            sleep(Duration::from_secs(601)).await;
        }
        for name in 0..12 {
            let messages = turn(&format!("c{name}-"), n, 500);
            let ask = ask(Dialect::OpenAiChat, "smart", "Hi.", messages);
            let got = rig.ask(&Ask { stream: true, ..ask }).await;
            assert_eq!(got.status, 200);
            let by = got.header("x-tidegate-served-by");
            served[n / 2] += usize::from(by == "one/m" || by == "two/m");
        }
    }
    assert!(served[0] > 4, "half of them were at home there: {served:?}");
    assert_eq!(served[1], 0);
}

#[tokio::test(start_paused = true)]
async fn a_burst_waits_for_the_first_that_begins_alike_where_the_route_wants_that() {
    let mut cached = Vec::new();
    for route in ["smart", "warm"] {
        let rig = Rig::of(servers(), &four());
        let system = words("a long document", 2_000);
        let asks: Vec<Ask> = (0..6)
            .map(|n| ask(Dialect::OpenAiChat, route, &system, turn(&format!("q{n}"), 0, 20)))
            .map(|ask| Ask { stream: true, ..ask })
            .collect();
        let mut waiting: Vec<_> = asks.iter().map(|ask| Box::pin(rig.ask(ask))).collect();
        let mut got = Vec::new();
        // All at once: each is polled before any is answered.
        std::future::poll_fn(|cx| {
            waiting.retain_mut(|one| match one.as_mut().poll(cx) {
                std::task::Poll::Ready(done) => {
                    got.push(done.status.as_u16());
                    false
                }
                std::task::Poll::Pending => true,
            });
            if waiting.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        })
        .await;
        assert_eq!(got, [200; 6], "{route}");
        cached.push(rig.sim.bills().iter().map(|bill| bill.usage.cached_input).sum::<u64>());
    }
    assert_eq!(cached[0], 0, "all read the document at the same time");
    // Two may be there at a time before others must stand in.
    assert!(cached[1] >= 3_900, "{cached:?}");
}

#[tokio::test(start_paused = true)]
async fn those_who_wait_for_a_first_request_go_on_when_it_fails_or_leaves() {
    let rig = Rig::of(servers(), &four());
    let system = words("a long document", 2_000);
    let of = |name: &str| Ask {
        stream: true,
        ..ask(Dialect::OpenAiChat, "warm", &system, turn(name, 0, 20))
    };
    let (first, second) = (of("leaves"), of("stays"));
    let leaving = tokio::time::timeout(Duration::from_millis(300), rig.ask(&first));
    let started = tidegate::clock::Instant::now();
    let (left, stayed) = tokio::join!(leaving, rig.ask(&second));
    assert!(left.is_err());
    assert_eq!(stayed.status, 200);
    // 300 ms until the first has left, then 100 ms and some 400 ms for its own reading; a second if
    // it had waited as long as it may.
    assert!(started.elapsed() < Duration::from_millis(1_000), "{:?}", started.elapsed());
    let script = scripted(|_| Reply::stream().says("x").chunk(CHAT_FINISH).chunk(DONE));
    assert_eq!(read(&rig.over(script), &of("later")).await.status, 200);
}
