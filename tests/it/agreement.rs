//! Tokens and money: the journal, the callers and the simulated providers agree on them.
//!
//! A thousand mixed requests in virtual time. The providers keep books of what they have really
//! read and made, whoever left or lost a race by then; the journal has what callers are charged and
//! what was wasted; callers have what they were told.

use std::collections::BTreeMap;
use std::time::Duration;

use http_body_util::BodyExt;
use serde_json::{Value, json};
use tidegate::chat::Usage;
use tidegate::dialect::Dialect;
use tidegate::journal::StoredRequest;
use tidegate::sim::{Bill, Scenario};

use crate::rig::{Ask, Got, Rig, events};

const REQUESTS: usize = 1_000;

/// What an estimate may be off: a quarter of the tokens, and a dozen. The simulated providers take
/// a token for four characters, the gateway's tokenizer is that of OpenAI: no two providers' are
/// nearer to each other than that.
const ERROR_PERCENT: u64 = 25;
const ERROR_TOKENS: u64 = 12;

/// Prices in millionths of a US dollar for a million tokens: of prompts, cached, written to the
/// cache, answers, thinking.
const PRICES: [(&str, [u128; 5]); 3] = [
    ("chat", [155_000, 77_500, 155_000, 612_500, 900_000]),
    ("claude", [3_000_000, 300_000, 3_750_000, 15_000_000, 15_000_000]),
    ("gem", [300_000, 30_000, 300_000, 2_500_000, 3_500_001]),
];

const ROUTES: &str = r#"
[routes.mixed]
hedge = { enabled = true, max_extra_requests = "50%", max_extra_spend = "100%" }
rank = { seconds_per_usd = 0 }
[[routes.mixed.targets]]
model = "chat/alpha"
weight = 1000
usd_per_million = { input = "0.155", cached_input = "0.0775", output = "0.6125", reasoning = "0.9" }
[[routes.mixed.targets]]
model = "claude/beta"
usd_per_million = { input = "3", cached_input = "0.30", cache_write = "3.75", output = "15" }

[routes.claude]
[[routes.claude.targets]]
model = "claude/alpha"
usd_per_million = { input = "3", cached_input = "0.30", cache_write = "3.75", output = "15" }

[routes.chat]
[[routes.chat.targets]]
model = "chat/beta"
usd_per_million = { input = "0.155", cached_input = "0.0775", output = "0.6125", reasoning = "0.9" }

[routes.gem]
[[routes.gem.targets]]
model = "gem/alpha"
usd_per_million = { input = "0.30", cached_input = "0.03", output = "2.5", reasoning = "3.500001" }
"#;

/// How a caller behaves.
#[derive(Debug, Clone, Copy)]
enum Caller {
    /// Reads to the end.
    Reads,
    /// Leaves after so many pieces of the body.
    LeavesAfter(usize),
    /// Leaves at this moment, whatever it has by then.
    LeavesAt(Duration),
}

/// A kind of request: its name, its wire, its route, whether it is streamed, what it wishes of the
/// providers, and what its caller does.
type Kind = (&'static str, Dialect, &'static str, bool, &'static str, Caller);

const KINDS: [Kind; 20] = {
    use Caller::{LeavesAfter, LeavesAt, Reads};
    use Dialect::{Anthropic, OpenAiChat};
    [
        ("stream, same wire", OpenAiChat, "mixed", true, "", Reads),
        ("stream, same wire", OpenAiChat, "chat", true, "", Reads),
        ("stream, same wire", Anthropic, "claude", true, "", Reads),
        ("stream, translated", Anthropic, "mixed", true, "", Reads),
        ("stream, translated", OpenAiChat, "claude", true, "", Reads),
        ("stream, translated", OpenAiChat, "gem", true, "", Reads),
        ("whole, same wire", OpenAiChat, "chat", false, "", Reads),
        ("whole, translated", Anthropic, "gem", false, "", Reads),
        ("whole, raced", OpenAiChat, "mixed", false, "", Reads),
        ("caller leaves", OpenAiChat, "chat", true, "", LeavesAfter(9)),
        ("caller leaves", Anthropic, "claude", true, "", LeavesAfter(14)),
        ("caller leaves", OpenAiChat, "gem", true, "", LeavesAfter(25)),
        ("caller leaves early", OpenAiChat, "chat", true, "", LeavesAt(Duration::from_millis(100))),
        ("hedge", OpenAiChat, "mixed", true, "[[sim:on=alpha,ttft=20s]]", Reads),
        ("hedge", OpenAiChat, "mixed", false, "[[sim:on=alpha,ttft=20s]]", Reads),
        (
            "caller leaves a race",
            OpenAiChat,
            "mixed",
            true,
            "[[sim:ttft=20s]]",
            LeavesAt(Duration::from_secs(10)),
        ),
        ("fallback, refused", OpenAiChat, "mixed", true, "[[sim:on=alpha,status=503]]", Reads),
        ("fallback, cut", OpenAiChat, "mixed", true, "[[sim:on=alpha,cut_after=3]]", Reads),
        ("fallback, empty", OpenAiChat, "mixed", true, "[[sim:on=alpha,empty_completion]]", Reads),
        ("cut for the caller", OpenAiChat, "claude", true, "[[sim:reset_after=20]]", Reads),
    ]
};

/// What a caller was told.
#[derive(Debug, Default)]
struct Told {
    tokens: Option<(u64, u64)>,
    cost_usd: Option<String>,
}

fn ask(n: usize) -> Ask {
    let (_, dialect, route, stream, wish, _) = KINDS[n % KINDS.len()];
    // Prompts of many lengths; some so long and so alike that providers have them in their caches.
    let topic = "The tide comes in and goes out twice a day, and the harbour lives by it. ";
    let length = if n.is_multiple_of(7) { 80 } else { 6 + n % 11 };
    let text = format!(
        "{}Tell me about the sea. [[sim:label={n},ttft=200ms,gap=20ms,tokens={}]]{wish}",
        topic.repeat(length),
        40 + n % 50
    );
    let mut ask = Ask::new(dialect, route, &text).with("x-tidegate-tags", format!("n={n}"));
    ask.stream = stream;
    if dialect == Dialect::OpenAiChat {
        if stream {
            ask = ask.having("stream_options", json!({ "include_usage": true }));
        }
        if n.is_multiple_of(3) && wish.is_empty() {
            ask = ask.having("reasoning_effort", json!("low"));
        }
    } else if n.is_multiple_of(7) {
        let marked =
            json!([{ "type": "text", "text": text, "cache_control": { "type": "ephemeral" } }]);
        ask = ask.having("messages", json!([{ "role": "user", "content": marked }]));
    }
    ask
}

/// Asks as a caller of this kind does, and returns what it was told.
async fn carry_out(rig: &Rig, n: usize) -> Told {
    let (_, dialect, _, stream, _, caller) = KINDS[n % KINDS.len()];
    let ask = ask(n);
    match caller {
        Caller::Reads => told(dialect, stream, &rig.ask(&ask).await),
        Caller::LeavesAfter(pieces) => {
            let mut body = rig.open(&ask).await.into_body();
            for _ in 0..pieces {
                assert!(body.frame().await.is_some(), "{n}: the answer is longer");
            }
            Told::default()
        }
        Caller::LeavesAt(moment) => {
            let left = tokio::time::timeout(moment, rig.ask(&ask)).await;
            assert!(left.is_err(), "{n}: it was still waiting");
            Told::default()
        }
    }
}

fn told(dialect: Dialect, stream: bool, got: &Got) -> Told {
    let mut all: Vec<Value> = match stream {
        false => vec![got.json()],
        true => {
            let data = events(&got.body).into_iter();
            data.filter_map(|(_, data)| serde_json::from_str(&data).ok()).collect()
        }
    };
    let last = all.iter_mut().rfind(|event| event["usage"].is_object()).map(Value::take);
    let Some(last) = last else { return Told::default() };
    let (usage, cost) = (&last["usage"], &last["tidegate"]["cost_usd"]);
    let count = |name: &str| usage[name].as_u64().unwrap_or_default();
    let tokens = match dialect {
        Dialect::Anthropic => {
            let names = ["input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"];
            (names.into_iter().map(count).sum(), count("output_tokens"))
        }
        Dialect::OpenAiChat | Dialect::Gemini => {
            (count("prompt_tokens"), count("completion_tokens"))
        }
    };
    let cost = match stream {
        true => cost.as_str().map(str::to_owned),
        false => Some(got.header("x-tidegate-cost-usd").to_owned()),
    };
    Told { tokens: Some(tokens), cost_usd: cost }
}

/// What a provider asks for this, in millionths of a dollar, half up: reckoned anew.
fn price(host: &str, usage: &Usage) -> u64 {
    let prices = PRICES.iter().find(|(name, _)| *name == host).expect("a price").1;
    let counts =
        [usage.input, usage.cached_input, usage.cache_write, usage.output, usage.reasoning];
    let sum: u128 = prices.iter().zip(counts).map(|(price, n)| price * u128::from(n)).sum();
    u64::try_from((sum + 500_000) / 1_000_000).expect("money")
}

fn within_error(estimated: u64, billed: u64) -> bool {
    estimated.abs_diff(billed) <= billed * ERROR_PERCENT / 100 + ERROR_TOKENS
}

/// One line of the table.
#[derive(Debug, Default)]
struct Line {
    requests: u64,
    exact: u64,
    billed: (u64, u64),
    charged: (u64, u64),
    wasted: (u64, u64),
    billed_usd: u64,
    charged_usd: u64,
    wasted_usd: u64,
}

// === impl Line ===

impl Line {
    fn add(&mut self, row: &StoredRequest, bills: &[&Bill]) {
        self.requests += 1;
        self.exact += u64::from(!row.usage_estimated && !row.waste.is_estimated);
        for bill in bills {
            self.billed.0 += bill.usage.total_input();
            self.billed.1 += bill.usage.total_output();
            self.billed_usd += price(&bill.host, &bill.usage);
        }
        self.charged.0 += row.usage.total_input();
        self.charged.1 += row.usage.total_output();
        self.wasted.0 += row.waste.input;
        self.wasted.1 += row.waste.output;
        self.charged_usd += row.cost.0;
        self.wasted_usd += row.waste.cost.0;
    }

    fn print(&self, name: &str) {
        let Self { requests, exact, billed, charged, wasted, .. } = self;
        let written = self.charged_usd + self.wasted_usd;
        let off = 100.0 * (written as f64 / self.billed_usd.max(1) as f64 - 1.0);
        println!(
            "{name:22} {requests:5} {exact:5}  {:7} {:6}  {:7} {:6}  {:6} {:5}  {:8} {:8} {:7} {off:+6.2} %",
            billed.0,
            billed.1,
            charged.0,
            charged.1,
            wasted.0,
            wasted.1,
            self.billed_usd,
            self.charged_usd,
            self.wasted_usd,
        );
    }
}

/// Whether an attempt was left of which nobody knows that its provider was about to refuse it.
fn is_doubtful(row: &StoredRequest, bills: &[&Bill]) -> bool {
    row.waste.is_estimated && row.attempts > bills.len() as u64
}

/// Holds one row to its bills and to what its caller was told.
fn check(n: usize, row: &StoredRequest, bills: &[&Bill], told: &Told) {
    let case = || format!("request {n}: {row:#?}\n{bills:#?}\n{told:?}");
    // The attempt that gave the answer is the last one of its target.
    let target = format!("{}/", row.provider.as_deref().unwrap_or_default());
    let is_served = |bill: &&&Bill| {
        row.target.as_deref() == Some(format!("{}{}", target, bill.model).as_str())
            && format!("{}/", bill.host) == target
    };
    let served = bills.iter().rfind(is_served);
    let nothing = Usage::default();
    let usage = served.map_or(&nothing, |bill| &bill.usage);
    let others = bills.iter().filter(|bill| !served.is_some_and(|s| std::ptr::eq(*s, **bill)));
    let others: Vec<_> = others.collect();
    let (input, output) = (usage.total_input(), usage.total_output());
    if row.usage_estimated {
        let written = (row.usage.total_input(), row.usage.total_output());
        assert!(within_error(written.0, input) && within_error(written.1, output), "{}", case());
    } else {
        let counts = |usage: &Usage| {
            (usage.input, usage.cached_input, usage.cache_write, usage.total_output())
        };
        assert_eq!(counts(&row.usage), counts(usage), "{}", case());
        assert_eq!(row.cost.0, served.map_or(0, |bill| price(&bill.host, usage)), "{}", case());
    }
    let wasted_input: u64 = others.iter().map(|bill| bill.usage.total_input()).sum();
    let wasted_output: u64 = others.iter().map(|bill| bill.usage.total_output()).sum();
    let wasted_usd: u64 = others.iter().map(|bill| price(&bill.host, &bill.usage)).sum();
    if row.waste.is_estimated {
        // Who loses a race before its provider has refused it counts as one that was billed.
        let prompts = u64::from(is_doubtful(row, bills)) * input;
        let is_near = |of: u64| within_error(row.waste.input, of);
        assert!(is_near(wasted_input) || is_near(wasted_input + prompts), "{}", case());
        assert!(within_error(row.waste.output, wasted_output), "{}", case());
    } else {
        let waste = (row.waste.input, row.waste.output, row.waste.cost.0);
        assert_eq!(waste, (wasted_input, wasted_output, wasted_usd), "{}", case());
    }
    if row.route.as_deref() == Some("chat") && row.outcome == "complete" {
        assert_eq!(row.overhead_us, 0, "waiting for the provider is no overhead: {}", case());
    }
    if let Some(tokens) = told.tokens {
        assert_eq!(tokens, (row.usage.total_input(), row.usage.total_output()), "{}", case());
        assert_eq!(told.cost_usd, Some(row.cost.to_usd_string()), "{}", case());
    }
}

#[tokio::test(start_paused = true)]
async fn the_journal_the_callers_and_the_providers_agree_on_tokens_and_money() {
    let rig = Rig::new(Scenario::instant(), ROUTES);
    let mut told = Vec::new();
    for n in 0..REQUESTS {
        told.push(carry_out(&rig, n).await);
    }
    let sim = rig.sim.clone();
    sim.idle().await;
    let bills = sim.bills();
    let metrics = std::sync::Arc::clone(&rig.gateway);
    let rows = rig.journal().await;
    assert_eq!(rows.len(), REQUESTS);
    let mut lines: BTreeMap<&str, Line> = BTreeMap::new();
    let mut all = Line::default();
    let mut doubtful = 0;
    for row in &rows {
        let tags: Value = serde_json::from_str(row.tags.as_deref().expect("tags")).unwrap();
        let n: usize = tags["n"].as_str().unwrap().parse().unwrap();
        let label = n.to_string();
        let bills: Vec<_> = bills.iter().filter(|bill| bill.label == label).collect();
        check(n, row, &bills, &told[n]);
        lines.entry(KINDS[n % KINDS.len()].0).or_default().add(row, &bills);
        all.add(row, &bills);
        doubtful += u64::from(is_doubtful(row, &bills));
    }
    println!(
        "{:22} {:>5} {:>5}  {:>7} {:>6}  {:>7} {:>6}  {:>6} {:>5}  {:>8} {:>8} {:>7} {:>8}",
        "",
        "",
        "exact",
        "billed",
        "out",
        "charged",
        "out",
        "wasted",
        "out",
        "µ$ billed",
        "charged",
        "wasted",
        "off"
    );
    lines.iter().for_each(|(name, line)| line.print(name));
    all.print("all");
    println!("left before they were refused: {doubtful}");
    assert!(doubtful * 20 <= REQUESTS as u64, "{doubtful}");
    // What is counted on the way is what the journal has.
    let rendered = metrics.metrics.render();
    let of = |name: &str| -> u64 {
        let lines = rendered.lines().filter(|line| line.starts_with(name));
        lines.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
    };
    assert_eq!(of("tidegate_waste_micro_usd_total{"), all.wasted_usd);
    assert_eq!(of("tidegate_cost_micro_usd_total{"), all.charged_usd + all.wasted_usd);
    // The mixture has what it is to have.
    assert!(lines["hedge"].wasted.0 > 0 && lines["caller leaves a race"].wasted.0 > 0);
    assert!(lines["fallback, cut"].wasted.1 > 0 && lines["fallback, empty"].wasted.0 > 0);
    assert!(lines["fallback, refused"].exact > 20, "who refuses bills nothing");
    assert!(all.exact * 10 >= all.requests * 4, "{} of {}", all.exact, all.requests);
}
