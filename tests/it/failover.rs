//! What fails before anything was sent is another target's to answer.

use std::time::Duration;

use serde_json::json;
use tidegate::clock::Instant;
use tidegate::dialect::Dialect;
use tidegate::upstream::UpstreamRequest;

use crate::rig::{Ask, End, Rig, read};
use crate::scripted::{CHAT_FINISH, DONE, Reply, scripted};

const ROUTES: &str = r#"
[routes.pair]
targets = [{ model = "chat/alpha" }, { model = "chat/beta", tier = 1 }]
timeouts = { first_token = "3s", between_tokens = "3s", total = "30s" }
retry = { attempts = 2 }
[routes.claudes]
targets = [{ model = "claude/alpha" }, { model = "claude/beta", tier = 1 }]
timeouts = { first_token = "3s", between_tokens = "3s", total = "30s" }
retry = { attempts = 2 }
[routes.gems]
targets = [{ model = "gem/alpha" }, { model = "gem/beta", tier = 1 }]
timeouts = { first_token = "3s", between_tokens = "3s", total = "30s" }
retry = { attempts = 2 }
[routes.mixed]
targets = [{ model = "claude/alpha" }, { model = "gem/beta", tier = 1 }]
timeouts = { first_token = "3s", between_tokens = "3s", total = "30s" }
retry = { attempts = 2 }
"#;

const PAIRS: [&str; 4] = ["pair", "claudes", "gems", "mixed"];
const CALLERS: [Dialect; 2] = [Dialect::OpenAiChat, Dialect::Anthropic];

/// Faults that another target can make good, of which the caller must see nothing.
const FAULTS: [&str; 17] = [
    "connect_refused",
    "status=500",
    "status=502",
    "html_502",
    "status=503",
    "status=503,retry_after=2s",
    "status=529",
    "status=429,retry_after=1s",
    "status=401",
    "status=402",
    "status=403",
    "status=404",
    "stall_before_head",
    "stall_after_head",
    "cut_after=0",
    "reset_after=0",
    "error_event=0",
];
/// The same, for streams alone.
const STREAM_FAULTS: [&str; 3] = ["malformed_frame=0", "empty_completion", "cut_in_frame=0"];

/// Lets so much time pass that breakers try their targets again and budgets are full: here each
/// request is looked at on its own.
async fn recover() {
    tokio::time::advance(Duration::from_secs(700)).await;
}

fn alpha_fails(fault: &str) -> String {
    format!("[[sim:on=alpha,{fault},say=ALPHA LEAKED]] [[sim:on=beta,say=beta speaks]]")
}

#[tokio::test(start_paused = true)]
async fn what_fails_before_the_first_token_is_answered_by_the_next_target() {
    let rig = Rig::instant(ROUTES);
    for model in PAIRS {
        for dialect in CALLERS {
            for fault in FAULTS.iter().chain(&STREAM_FAULTS) {
                recover().await;
                let ask = Ask::new(dialect, model, &alpha_fails(fault));
                let got = rig.ask(&ask).await;
                let what = format!("{model} {dialect} {fault}: {got:#?}");
                assert_eq!(got.status, 200, "{what}");
                assert_eq!(got.header("x-tidegate-attempts"), "2", "{what}");
                assert!(got.header("x-tidegate-served-by").ends_with("/beta"), "{what}");
                assert_eq!(got.text(), "beta speaks", "{what}");
                assert_eq!(got.end(), End::Terminal, "{what}");
                assert!(!got.body.contains("ALPHA") && !got.body.contains("alpha"), "{what}");
            }
        }
    }
    assert_eq!(rig.gateway.fleet().in_flight(), 0);
    assert_eq!(rig.sim.stats().total.in_flight, 0);
}

#[tokio::test(start_paused = true)]
async fn whole_answers_fail_over_too() {
    let rig = Rig::instant(ROUTES);
    for model in PAIRS {
        for dialect in CALLERS {
            // A whole answer may take as long as the request has, so a stall is no reason to leave.
            for fault in FAULTS.iter().filter(|fault| !fault.starts_with("stall")) {
                recover().await;
                let ask = Ask::new(dialect, model, &alpha_fails(fault)).whole();
                let got = rig.ask(&ask).await;
                let what = format!("{model} {dialect} {fault}: {got:#?}");
                assert_eq!(got.status, 200, "{what}");
                assert_eq!(got.header("x-tidegate-attempts"), "2", "{what}");
                assert!(got.body.contains("beta speaks") && !got.body.contains("ALPHA"), "{what}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_callers_own_mistakes_are_not_tried_elsewhere() {
    let rig = Rig::instant(ROUTES);
    for model in ["pair", "claudes", "gems"] {
        for dialect in CALLERS {
            for stream in [true, false] {
                for (status, words) in [
                    (400, "The request was refused."),
                    (413, "The request is too large."),
                    (422, "The request could not be processed."),
                ] {
                    let text = alpha_fails(&format!("status={status}"));
                    let ask = Ask { stream, ..Ask::new(dialect, model, &text) };
                    let got = rig.ask(&ask).await;
                    let what = format!("{model} {dialect} {status}: {got:#?}");
                    assert_eq!(got.status, status, "{what}");
                    assert_eq!(got.header("x-tidegate-attempts"), "1", "{what}");
                    assert_eq!(got.header("content-type"), "application/json", "{what}");
                    let message = got.json()["error"]["message"].as_str().unwrap().to_owned();
                    assert!(message.contains(words), "{what}");
                    assert_eq!(got.json()["type"] == "error", dialect == Dialect::Anthropic);
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn when_all_fail_the_status_says_what_can_be_done() {
    let rig = Rig::instant(ROUTES);
    for (fault, status, code) in [
        ("connect_refused", 502, "upstream_failed"),
        ("status=500", 502, "upstream_failed"),
        ("html_502", 502, "upstream_failed"),
        ("error_event=0", 502, "upstream_failed"),
        ("cut_after=0", 502, "upstream_failed"),
        ("status=404", 404, "model_not_found"),
        ("status=529", 503, "overloaded"),
        ("status=503,retry_after=7s", 503, "overloaded"),
        ("status=429,retry_after=7s", 429, "rate_limit_exceeded"),
        ("status=401", 503, "provider_credential"),
        ("status=402", 503, "provider_credential"),
        ("stall_before_head", 504, "first_token_timeout"),
    ] {
        for dialect in CALLERS {
            recover().await;
            let ask = Ask::new(dialect, "pair", &format!("[[sim:{fault}]]"));
            let got = rig.ask(&ask).await;
            let what = format!("{dialect} {fault}: {got:#?}");
            assert_eq!(got.status, status, "{what}");
            assert_eq!(got.header("x-tidegate-attempts"), "2", "{what}");
            let error = got.json();
            match dialect {
                Dialect::Anthropic => assert_eq!(error["type"], "error", "{what}"),
                Dialect::OpenAiChat | Dialect::Gemini => {
                    assert_eq!(error["error"]["code"], code, "{what}")
                }
            }
            if fault.contains("retry_after") {
                assert_eq!(got.header("retry-after"), "7", "{what}");
                assert_eq!(got.header("retry-after-ms"), "7000", "{what}");
            }
            let hopeless = code == "provider_credential";
            assert_eq!(got.header("x-should-retry") == "false", hopeless, "{what}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn failed_attempts_are_in_the_journal_and_cost_nothing() {
    let rig = Rig::instant(ROUTES);
    rig.ask(&Ask::chat("pair", &alpha_fails("status=500"))).await;
    rig.ask(&Ask::chat("pair", "[[sim:status=500]]")).await;
    rig.ask(&Ask::chat("nobody", "hello")).await;
    let health = rig.gateway.journal.health();
    assert_eq!(health.accepted, 3);
    let [served, failed, refused] = rig.journal().await.try_into().unwrap();
    assert_eq!((served.outcome.as_str(), served.attempts), ("complete", 2));
    assert_eq!(served.target.as_deref(), Some("chat/beta"));
    assert!(!served.usage_estimated && served.usage.output > 0, "{served:?}");
    assert_eq!((failed.outcome.as_str(), failed.attempts, failed.status), ("failed", 2, 502));
    assert_eq!(failed.failure.as_deref(), Some("server_fault"));
    assert_eq!((failed.usage.total(), failed.cost.0), (0, 0));
    assert_eq!((refused.outcome.as_str(), refused.attempts), ("rejected", 0));
}

#[tokio::test(start_paused = true)]
async fn an_error_whose_body_never_comes_goes_by_its_status() {
    let rig = Rig::instant(ROUTES);
    let router = rig.over(scripted(|_| Reply::status(400).stalls()));
    for stream in [true, false] {
        let ask = Ask { stream, ..Ask::chat("pair", "hello") };
        let got = read(&router, &ask).await;
        assert_eq!(got.status, 400, "{got:#?}");
        assert_eq!(got.header("x-tidegate-attempts"), "1");
        assert!(got.end_after <= Duration::from_secs(3), "{:?}", got.end_after);
    }
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_never_comes_to_the_point_is_left() {
    let rig = Rig::instant(ROUTES);
    // Pings without end, each with a megabyte of padding.
    let ping = format!(": {}\n\n", "p".repeat(1 << 20));
    let router = rig.over(scripted(move |request| {
        if request.body.as_ref().windows(5).any(|word| word == b"alpha") {
            (0..200).fold(Reply::stream(), |reply, _| reply.chunk(ping.clone())).stalls()
        } else {
            Reply::stream().says("beta speaks").chunk(CHAT_FINISH).chunk(DONE)
        }
    }));
    let got = read(&router, &Ask::chat("pair", "hello")).await;
    assert_eq!(
        (got.text().as_str(), got.end()),
        ("beta speaks", End::Terminal),
        "{:?}",
        got.headers
    );
    assert!(got.body.len() < 10_000, "{} bytes of the first were kept", got.body.len());
    assert!(got.head_after < Duration::from_secs(3), "it was not waited for: {:?}", got.head_after);
}

#[tokio::test(start_paused = true)]
async fn what_may_pass_is_told_rather_than_what_will_not() {
    let rig = Rig::instant(ROUTES);
    for (alpha, beta, status) in [
        ("status=429", "status=401", 429),
        ("status=401", "status=429", 429),
        ("status=401", "status=500", 502),
        ("status=500", "status=402", 502),
        ("status=500", "status=400", 400),
    ] {
        recover().await;
        let text = format!("[[sim:on=alpha,{alpha}]] [[sim:on=beta,{beta}]]");
        let got = rig.ask(&Ask::chat("pair", &text)).await;
        assert_eq!(got.status, status, "{alpha}, {beta}: {got:#?}");
        assert_eq!(got.header("x-should-retry"), "", "{got:#?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_retry_after_that_lies_does_no_harm() {
    let rig = Rig::instant(ROUTES);
    for (said, told) in [
        ("", "1"),
        (",retry_after=3s", "3"),
        (",retry_after=0", "0"),
        (",retry_after=-5", "1"),
        (",retry_after=soon", "1"),
        (",retry_after=NaN", "1"),
        (",retry_after=1e400", "1"),
    ] {
        for status in [429, 529] {
            recover().await;
            let text = format!("[[sim:status={status}{said}]]");
            let got = rig.ask(&Ask::chat("pair", &text)).await;
            assert_eq!(got.header("retry-after"), told, "{said}: {got:#?}");
            assert!(got.end_after < Duration::from_secs(1), "it was obeyed: {got:#?}");
        }
    }
    let got = rig.ask(&Ask::chat("pair", "[[sim:status=429,retry_after=99999999999999]]")).await;
    assert_eq!(got.status, 429, "{got:#?}");
}

#[tokio::test(start_paused = true)]
async fn an_error_inside_a_success_is_an_error() {
    let rig = Rig::instant(ROUTES);
    let server = r#"{"error":{"message":"out of order","type":"server_error","code":500}}"#;
    let caller = r#"{"error":{"message":"too long","type":"invalid_request_error","code":400}}"#;
    for stream in [true, false] {
        for (body, status, attempts) in [
            (server, 502, "2"),
            (caller, 400, "1"),
            ("{}", 502, "2"),
            ("", 502, "2"),
            ("<html>", 502, "2"),
        ] {
            for event in [false, true] {
                recover().await;
                let router = rig.over(scripted(move |_| match event {
                    true => Reply::stream().chunk(format!("data: {body}\n\n")),
                    false => Reply::status(200).chunk(body),
                }));
                if event && !stream {
                    continue;
                }
                let got = read(&router, &Ask { stream, ..Ask::chat("pair", "hello") }).await;
                let what = format!("{body} stream {stream} event {event}: {got:#?}");
                assert_eq!(got.status, status, "{what}");
                assert_eq!(got.header("x-tidegate-attempts"), attempts, "{what}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_costs_one_request_and_is_our_own_fault() {
    let rig = Rig::instant(ROUTES);
    let router = rig.over(scripted(|_| panic!("on purpose")));
    let got = read(&router, &Ask::chat("pair", "hello")).await;
    assert_eq!(got.status, 500, "{got:#?}");
    assert_eq!(rig.ask(&Ask::chat("pair", "hello")).await.status, 200);
    assert_eq!(rig.gateway.fleet().in_flight(), 0);
    let mut journal = rig.journal().await;
    journal.sort_by_key(|entry| entry.status);
    let outcomes: Vec<_> = journal.iter().map(|entry| (entry.status, &*entry.outcome)).collect();
    assert_eq!(outcomes, [(200, "complete"), (500, "failed")]);
}

/// An answer with nothing in it, whole or as a stream, with its usage.
fn says_nothing(stream: bool, prompt_tokens: u64) -> Reply {
    let usage = json!({ "prompt_tokens": prompt_tokens, "completion_tokens": 1,
        "total_tokens": prompt_tokens + 1 });
    if stream {
        let counted = json!({ "id": "c", "model": "m", "choices": [], "usage": usage });
        // The connection stays open after the end.
        Reply::stream().chunk(CHAT_FINISH).chunk(format!("data: {counted}\n\n{DONE}")).stalls()
    } else {
        let message = json!({ "role": "assistant", "content": "" });
        let choice = json!({ "index": 0, "message": message, "finish_reason": "stop" });
        let whole = json!({ "id": "c", "object": "chat.completion", "created": 1, "model": "m",
            "choices": [choice], "usage": usage });
        Reply::status(200).chunk(whole.to_string())
    }
}

fn is_for(request: &UpstreamRequest, model: &str) -> bool {
    request.body.as_ref().windows(model.len()).any(|word| word == model.as_bytes())
}

const PRICED: &str = r#"
[providers.paid]
dialect = "openai-chat"
base_url = "sim://paid/v1"
credentials = [{ none = true }]
models = [
  { id = "alpha", usd_per_million = { input = "1", output = "1" } },
  { id = "beta", usd_per_million = { input = "1", output = "1" } },
  { id = "gamma", usd_per_million = { input = "1", output = "1" } },
]
[routes.one]
targets = [{ model = "paid/alpha" }]
[routes.three]
targets = [
  { model = "paid/alpha" }, { model = "paid/beta", tier = 1 }, { model = "paid/gamma", tier = 2 },
]
"#;

#[tokio::test(start_paused = true)]
async fn an_empty_answer_is_delivered_where_no_other_is_to_be_had() {
    for (beta, attempts, served_by, tokens, waste) in [
        // The only target; the other is empty as well; the other fails.
        (None, "1", "paid/alpha", 101, 0),
        (Some("empty"), "2", "paid/beta", 201, 101),
        (Some("fails"), "2", "paid/alpha", 101, 0),
    ] {
        let rig = Rig::instant(PRICED);
        for dialect in CALLERS {
            for stream in [true, false] {
                let router = rig.over(scripted(move |request| match beta {
                    _ if is_for(request, "alpha") => says_nothing(stream, 100),
                    _ if is_for(request, "gamma") => panic!("a third was asked"),
                    Some("empty") => says_nothing(stream, 200),
                    _ => Reply::status(500),
                }));
                let model = if beta.is_some() { "three" } else { "one" };
                let ask = Ask { stream, ..Ask::new(dialect, model, "hello") };
                let got = read(&router, &ask).await;
                let what = format!("{beta:?} {dialect} stream {stream}: {got:#?}");
                assert_eq!(got.status, 200, "{what}");
                assert_eq!(got.header("x-tidegate-attempts"), attempts, "{what}");
                assert_eq!(got.header("x-tidegate-served-by"), served_by, "{what}");
                assert!(got.end_after < Duration::from_secs(1), "{what}");
                if stream {
                    assert_eq!((got.text().as_str(), got.end()), ("", End::Terminal), "{what}");
                } else {
                    assert!(got.json().get("error").is_none(), "{what}");
                }
            }
        }
        assert_eq!(rig.gateway.fleet().in_flight(), 0);
        let journal = rig.journal().await;
        assert_eq!(journal.len(), 4);
        for entry in journal {
            assert_eq!((entry.outcome.as_str(), entry.status), ("complete", 200), "{entry:?}");
            assert_eq!(entry.target.as_deref(), Some(served_by), "{entry:?}");
            assert_eq!((entry.usage.total(), entry.cost.0), (tokens, tokens), "{entry:?}");
            assert_eq!((entry.waste.cost.0, entry.waste.is_estimated), (waste, false), "{entry:?}");
            assert!(!entry.usage_estimated, "{entry:?}");
        }
        // Reading the journal started the clock.
        tokio::time::pause();
    }
}

#[tokio::test(start_paused = true)]
async fn empty_answers_are_doubted_once_on_every_wire() {
    let rig = Rig::instant(ROUTES);
    for model in PAIRS {
        for dialect in CALLERS {
            for stream in [true, false] {
                recover().await;
                let ask = |text| Ask { stream, ..Ask::new(dialect, model, text) };
                let got = rig.ask(&ask("[[sim:empty_completion]]")).await;
                let what = format!("{model} {dialect} stream {stream}: {got:#?}");
                assert_eq!(got.status, 200, "{what}");
                assert_eq!(got.header("x-tidegate-attempts"), "2", "{what}");
                assert!(!stream || got.end() == End::Terminal, "{what}");
                let got = rig.ask(&ask(&alpha_fails("empty_completion"))).await;
                let what = format!("{model} {dialect} stream {stream}: {got:#?}");
                assert_eq!(got.header("x-tidegate-attempts"), "2", "{what}");
                assert!(got.body.contains("beta"), "{what}");
            }
        }
    }
    assert_eq!(rig.gateway.fleet().in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_empty_answer_that_another_makes_good_is_waste() {
    let rig = Rig::instant(PRICED);
    for stream in [true, false] {
        let router = rig.over(scripted(move |request| match stream {
            _ if is_for(request, "alpha") => says_nothing(stream, 100),
            true => {
                let counted = r#"{"id":"c","model":"m","choices":[],"usage":{"prompt_tokens":5,"completion_tokens":2}}"#;
                let reply = Reply::stream().says("beta speaks").chunk(CHAT_FINISH);
                reply.chunk(format!("data: {counted}\n\n{DONE}"))
            }
            false => Reply::status(200).chunk(
                r#"{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,
                "message":{"role":"assistant","content":"beta speaks"},"finish_reason":"stop"}],
                "usage":{"prompt_tokens":5,"completion_tokens":2}}"#,
            ),
        }));
        let got = read(&router, &Ask { stream, ..Ask::chat("three", "hello") }).await;
        assert_eq!(got.status, 200, "{got:#?}");
        assert!(got.body.contains("beta speaks"), "{got:#?}");
    }
    let targets = rig.gateway.fleet().targets(Instant::now());
    let failures: Vec<_> =
        targets.iter().map(|target| (target.id.as_str(), target.failures)).collect();
    assert_eq!(failures, [("paid/alpha", 2), ("paid/beta", 0), ("paid/gamma", 0)]);
    let metrics = rig.gateway.metrics.render();
    for (model, cost) in [("alpha", 202), ("beta", 14)] {
        let mut lines = metrics.lines().filter(|line| line.contains(&format!("\"{model}\"")));
        let is_cost = |line: &str| line.starts_with("tidegate_cost_micro_usd_total");
        assert!(
            lines.any(|line| is_cost(line) && line.ends_with(&format!(" {cost}"))),
            "{metrics}"
        );
    }
    for entry in rig.journal().await {
        assert_eq!((entry.usage.total(), entry.cost.0), (7, 7), "{entry:?}");
        assert_eq!((entry.waste.input, entry.waste.output, entry.waste.cost.0), (100, 1, 101));
        assert_eq!(entry.target.as_deref(), Some("paid/beta"), "{entry:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_model_is_asked_only_for_what_it_can_do() {
    let rig = Rig::instant(ROUTES);
    for (path, model, says) in [
        ("/v1/chat/completions", "chat/vectors", "/v1/embeddings"),
        ("/v1/completions", "chat/vectors", "/v1/embeddings"),
        ("/v1/messages", "chat/vectors", "/v1/embeddings"),
        ("/v1/embeddings", "chat/alpha", "no embeddings"),
        ("/v1/embeddings", "gem/alpha", "no embeddings"),
    ] {
        let body = json!({ "model": model, "max_tokens": 9, "input": "hello", "prompt": "hello",
            "messages": [{ "role": "user", "content": "hello" }] });
        let request = http::Request::post(path).body(axum::body::Body::from(body.to_string()));
        let answer =
            tower::ServiceExt::oneshot(rig.router.clone(), request.unwrap()).await.unwrap();
        assert_eq!(answer.status(), 400, "{path}: {answer:?}");
        assert_eq!(answer.headers()["x-tidegate-attempts"], "0", "{path}: {answer:?}");
        let bytes = http_body_util::BodyExt::collect(answer.into_body()).await.unwrap().to_bytes();
        let error: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        let message = error["error"]["message"].as_str().unwrap();
        assert!(message.contains(model) && message.contains(says), "{path}: {error}");
        if path != "/v1/messages" {
            assert_eq!(error["error"]["param"], "model", "{error}");
        }
    }
    assert!(rig.gateway.fleet().targets(Instant::now()).is_empty(), "somebody was asked");
}

/// Each of the two can be zero, and then the first token goes out alone: what breaks after it is a
/// cut answer and no longer another target's.
#[tokio::test(start_paused = true)]
async fn nothing_is_held_back_beyond_the_first_token_where_tokens_or_time_are_zero() {
    const FAULT: &str = "gap=50ms,cut_after=2,say=one two three";
    let say = format!("[[sim:on=alpha,{FAULT}]] [[sim:on=beta,say=beta speaks]]");
    for (held_back, served_by, end) in [
        ("", "chat/beta", End::Terminal),
        ("hold_back = { tokens = 0 }", "chat/alpha", End::Error),
        ("hold_back = { tokens = 1 }", "chat/alpha", End::Error),
        ("hold_back = { time = \"0s\" }", "chat/alpha", End::Error),
    ] {
        let rig = Rig::instant(&format!(
            "[routes.held]\ntargets = [{{ model = \"chat/alpha\" }}, \
             {{ model = \"chat/beta\", tier = 1 }}]\n{held_back}"
        ));
        let got = rig.ask(&Ask::chat("held", &say)).await;
        assert_eq!(got.status, 200, "{held_back}: {got:#?}");
        assert_eq!(got.header("x-tidegate-served-by"), served_by, "{held_back}: {got:#?}");
        assert_eq!(got.end(), end, "{held_back}: {got:#?}");
        assert_eq!(got.text().starts_with("one"), served_by == "chat/alpha", "{held_back}");
    }
}
