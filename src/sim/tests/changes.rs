//! Behaviour that changes while time passes, and providers that are full.

use std::path::Path;

use super::*;

fn engine(text: &str) -> Engine {
    let scenario = Scenario::parse(Path::new("s.toml"), text).expect("it is right");
    Engine::new(scenario)
}

/// What the model of a host answers at this second: status, and when its head comes.
fn head(engine: &mut Engine, host: &str, second: u64) -> (u16, Duration) {
    let body = br#"{"model":"m","messages":[{"role":"user","content":"Hi"}],"stream":true}"#;
    let request = SimRequest {
        host,
        method: &http::Method::POST,
        path: "/v1/chat/completions",
        headers: &http::HeaderMap::new(),
        body,
    };
    let now = Moment { since_start: Duration::from_secs(second), ..Moment::default() };
    match engine.answer(&request, now).opening {
        Opening::Answer { after, status, .. } => (status.as_u16(), after),
        Opening::Refuse | Opening::Stall => (0, Duration::ZERO),
    }
}

#[test]
fn a_change_begins_at_its_time_and_ends_with_the_recovery() {
    let mut engine = engine(
        r#"
[models."*"]
ttft = "100ms"
[[changes]]
at = "20s"
model = "beta/*"
recover = true
[[changes]]
at = "10s"
model = "beta/*"
error_after = "20ms"
faults = [{ share = 1.0, fault = "status=500" }]
[[changes]]
at = "15s"
model = "beta/*"
faults = []
slower = 3
"#,
    );
    let ms = Duration::from_millis;
    assert_eq!(head(&mut engine, "beta", 9), (200, ms(50)));
    assert_eq!(head(&mut engine, "beta", 10), (500, ms(20)));
    assert_eq!(head(&mut engine, "alpha", 11), (200, ms(50)), "another host's model is as before");
    assert_eq!(head(&mut engine, "beta", 15), (200, ms(150)), "one change builds on the other");
    assert_eq!(head(&mut engine, "beta", 20), (200, ms(50)));
}

#[tokio::test(start_paused = true)]
async fn more_than_the_capacity_is_refused_or_slows_down() {
    for (over, second) in [("refuse", (503, 0)), ("slow", (200, 100))] {
        let text =
            format!("[models.\"*\"]\nttft = \"100ms\"\ncapacity = 1\nover_capacity = \"{over}\"\n");
        let scenario = Scenario::parse(Path::new("s.toml"), &text).expect("it is right");
        let sim = SimTransport::new(scenario);
        let body = br#"{"model":"m","messages":[{"role":"user","content":"Hi"}],"stream":true}"#;
        let request = SimRequest {
            host: "a",
            method: &http::Method::POST,
            path: "/v1/chat/completions",
            headers: &http::HeaderMap::new(),
            body,
        };
        let heads = |played: super::super::play::Played| match &played.opening {
            Opening::Answer { after, status, .. } => (status.as_u16(), after.as_millis()),
            Opening::Refuse | Opening::Stall => (0, 0),
        };
        let first = sim.begin(&request);
        assert_eq!(heads(sim.begin(&request)), second, "{over}: one is being served");
        drop(first);
        assert_eq!(heads(sim.begin(&request)), (200, 50), "{over}: there is room again");
    }
}
