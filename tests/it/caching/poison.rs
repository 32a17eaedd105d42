//! What must never be given: another tenant's answer, an error, half an answer, a refusal, a call,
//! an answer of the day, of another model, or a lesser one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http_body_util::BodyExt;
use serde_json::{Value, json};
use tidegate::audit::Actor;
use tidegate::callers::{KeyChange, TermsChange};
use tidegate::upstream::UpstreamRequest;

use super::{QUESTION, cache, metric, rig, upstream};
use crate::rig::{Ask, End, Rig, read};
use crate::scripted::{CHAT_FINISH, DONE, Reply, chat_chunk, scripted};

/// A key's header; of this team, where one is named.
async fn key(rig: &Rig, name: &str, team: Option<&str>) -> String {
    let callers = &rig.gateway.callers;
    let change = KeyChange {
        name: Some(name.to_owned()),
        team: team.map(|team| Some(team.into())),
        ..KeyChange::default()
    };
    let (_, key) = callers.create_as(&change, &Actor::gateway(), 0).await.unwrap();
    format!("Bearer {}", key.reveal())
}

#[tokio::test]
async fn answers_never_pass_from_one_tenant_to_another() {
    let rig = rig();
    let callers = &rig.gateway.callers;
    callers.load().await.unwrap();
    let (terms, by) = (TermsChange::default(), Actor::gateway());
    let red = callers.create_team("red", &terms, &by, 0).await.unwrap().id;
    let blue = callers.create_team("blue", &terms, &by, 0).await.unwrap().id;
    let mut keys = Vec::new();
    for (name, team) in [
        ("red one", Some(red.as_str())),
        ("red two", Some(red.as_str())),
        ("blue", Some(blue.as_str())),
        ("alone", None),
        ("alone too", None),
    ] {
        keys.push(key(&rig, name, team).await);
    }
    let ask = Ask::chat("faq", QUESTION).whole();
    let by = |key: &str| ask.clone().with("authorization", key);
    let wanted = ["miss", "exact", "miss", "miss", "miss"];
    for (key, wanted) in keys.iter().zip(wanted) {
        assert_eq!(cache(&rig.ask(&by(key)).await), wanted);
    }
    assert_eq!(cache(&rig.ask(&ask).await), "miss", "nor to who has no key");
    for key in &keys {
        assert_eq!(cache(&rig.ask(&by(key)).await), "exact", "each has its own");
    }
    assert_eq!(upstream(&rig), 5);
}

#[tokio::test(start_paused = true)]
async fn users_of_one_key_share_answers_unless_the_route_says_otherwise() {
    let rig = rig();
    let of = |route: &str, user: &str| Ask::chat(route, QUESTION).having("user", user.into());
    assert_eq!(cache(&rig.ask(&of("faq", "a")).await), "miss");
    assert_eq!(cache(&rig.ask(&of("faq", "b")).await), "exact");
    assert_eq!(cache(&rig.ask(&of("personal", "a")).await), "miss");
    assert_eq!(cache(&rig.ask(&of("personal", "b")).await), "miss");
    assert_eq!(cache(&rig.ask(&of("personal", "a")).await), "exact");
    let named = of("personal", "a").with("x-tidegate-user", "c");
    assert_eq!(cache(&rig.ask(&named).await), "miss");
}

#[tokio::test(start_paused = true)]
async fn what_should_not_be_kept_is_not_and_says_why() {
    let cases = [
        ("It breaks. [[sim:cut_after=2]]", None),
        ("It fails. [[sim:error_event=2]]", None),
        ("It is empty. [[sim:empty]]", None),
        ("A refusal. [[sim:say=I'm sorry, but I can't help with that.]]", Some("refusal")),
        ("The day. [[sim:say=It is Monday at the moment.]]", Some("time_sensitive")),
    ];
    for (text, reason) in cases {
        let rig = rig();
        for ask in [Ask::chat("backward", text), Ask::chat("backward", text).whole()] {
            for _ in 0..2 {
                let got = rig.ask(&ask).await;
                assert_ne!(got.header("x-tidegate-cache"), "exact", "{text}");
            }
        }
        assert_eq!(metric(&rig, "tidegate_cache_kept_total"), 0, "{text}");
        if let Some(reason) = reason {
            let line = format!("tidegate_cache_not_kept_total{{reason=\"{reason}\"}}");
            assert_eq!(metric(&rig, &line), 4, "{text}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_without_an_end_is_not_kept() {
    let rig = rig();
    let ask = Ask::chat("backward", "Nothing ends it. [[sim:no_terminal]]");
    for _ in 0..2 {
        assert_eq!(rig.ask(&ask).await.header("x-tidegate-cache"), "miss");
    }
    assert_eq!(metric(&rig, "tidegate_cache_kept_total"), 0);
}

#[tokio::test(start_paused = true)]
async fn what_should_not_be_asked_of_it_is_not() {
    let tool = json!([{"type": "function", "function": {"name": "f", "parameters": {}}}]);
    let plain = || Ask::chat("backward", "Say something. [[sim:call=f]]");
    let cases = [
        (plain().having("tools", tool), "tools"),
        (plain().having("temperature", json!(0.7)), "temperature"),
        (plain().having("n", json!(2)), "several_choices"),
        (plain().having("store", json!(true)), "stateful"),
        (Ask::chat("backward", "What is the weather today?"), "time_sensitive"),
    ];
    for (ask, reason) in &cases {
        let rig = rig();
        for _ in 0..2 {
            assert_eq!(cache(&rig.ask(ask).await), "miss");
        }
        let line = format!("tidegate_cache_bypassed_total{{reason=\"{reason}\"}}");
        assert_eq!((upstream(&rig), metric(&rig, &line)), (2, 2), "{reason}");
    }
}

#[tokio::test(start_paused = true)]
async fn lesser_answers_are_not_kept() {
    for text in ["[[sim:on=alpha,status=500]]", "[[sim:status=500]]"] {
        let rig = rig();
        for ask in [Ask::chat("tiers", text), Ask::chat("tiers", text).whole()] {
            for _ in 0..2 {
                let got = rig.ask(&ask).await;
                assert_eq!(cache(&got), "miss");
                assert_ne!(got.header("x-tidegate-degradation"), "0");
            }
        }
        assert_eq!(metric(&rig, "tidegate_cache_kept_total"), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_whose_caller_leaves_is_not_kept() {
    let rig = rig();
    let ask = Ask::chat("backward", "Long. [[sim:tokens=50,gap=10ms]]");
    let mut body = rig.open(&ask).await.into_body();
    body.frame().await.unwrap().unwrap();
    drop(body);
    assert_eq!(cache(&rig.ask(&ask).await), "miss");
    assert_eq!(cache(&rig.ask(&ask).await), "exact");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_another_attempt_continued_is_not_kept() {
    let rig = Rig::instant(
        r#"
[providers.go]
dialect = "openai-chat"
base_url = "sim://go/v1"
quirks = { native_prefill = "trailing_turn" }
credentials = [{ none = true }]
models = [{ id = "alpha" }]
[providers.on]
dialect = "anthropic"
base_url = "sim://on/v1"
quirks = { native_prefill = "trailing_turn" }
credentials = [{ none = true }]
models = [{ id = "alpha" }]
[routes.pair]
targets = [{ model = "go/alpha", weight = 1000 }, { model = "on/alpha" }]
cache = { exact = true }
"#,
    );
    let text = "Go on. [[sim:first=1,cut_after=50]] [[sim:tokens=100]]";
    let ask = Ask::chat("pair", text).with("x-tidegate-midstream", "continue");
    let got = rig.ask(&ask).await;
    assert_eq!(metric(&rig, "tidegate_midstream_total{result=\"spliced\"}"), 1, "{got:#?}");
    assert_eq!(got.end(), End::Terminal);
    assert_eq!(metric(&rig, "tidegate_cache_not_kept_total{reason=\"spliced\"}"), 1);
    assert_eq!(cache(&rig.ask(&ask).await), "miss");
}

#[tokio::test(start_paused = true)]
async fn what_a_model_said_that_was_replaced_under_its_name_is_not_given_again() {
    let rig = rig();
    let asked = Arc::new(AtomicU64::new(0));
    let router = rig.over(scripted({
        let asked = Arc::clone(&asked);
        move |request: &UpstreamRequest| {
            asked.fetch_add(1, Ordering::Relaxed);
            let body: Value = serde_json::from_slice(&request.body).unwrap();
            // Its provider has put another model behind the name by then.
            let is_new = body["messages"].to_string().contains("later");
            let model = if is_new { "alpha-2026-12" } else { "alpha-2026-01" };
            let named =
                |chunk: &str| chunk.replace("\"model\":\"m\"", &format!("\"model\":\"{model}\""));
            let said = chat_chunk("Paris.");
            Reply::stream().chunk(named(&said)).chunk(named(CHAT_FINISH)).chunk(DONE)
        }
    }));
    let (one, later) = (Ask::chat("backward", "one"), Ask::chat("backward", "later"));
    assert_eq!(cache(&read(&router, &one).await), "miss");
    assert_eq!(cache(&read(&router, &one).await), "exact");
    assert_eq!(cache(&read(&router, &later).await), "miss");
    assert_eq!(cache(&read(&router, &one).await), "miss");
    assert_eq!(metric(&rig, "tidegate_cache_lookups_total{result=\"other_model\"}"), 1);
    assert_eq!(asked.load(Ordering::Relaxed), 3);
}
