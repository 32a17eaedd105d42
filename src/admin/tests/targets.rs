//! Tests of targets.

use super::*;

#[tokio::test]
async fn targets_that_were_never_asked_are_listed_and_stay_so() {
    let admin = Admin::new().await;
    let list = admin.get("/targets").await.body;
    assert_eq!(list["route"], Value::Null);
    let targets = list["data"].as_array().unwrap();
    let ids: Vec<_> = targets.iter().map(|target| target["id"].as_str().unwrap()).collect();
    assert!(ids.is_sorted() && ids.contains(&"sim/tide-embed"), "{ids:?}");
    let small = targets.iter().find(|target| target["id"] == "sim/tide-small").unwrap();
    let places: Vec<_> = small["routes"].as_array().unwrap().iter().collect();
    assert_eq!((&places[0]["route"], &places[0]["weight"]), (&json!("smart"), &json!(2)));
    assert_eq!((&places[1]["route"], &places[1]["weight"]), (&json!("small"), &json!(5)));
    assert_eq!(places[1]["expected_share"], 1.0);
    assert_eq!(small["breaker"]["state"], "closed");
    assert_eq!(small["ttft_ms"]["samples"], 0);
    assert!(small.get("score").is_none());
    assert!(admin.state.fleet.targets(Instant::now()).is_empty(), "looking made them");
}

#[tokio::test]
async fn a_route_shows_every_term_for_the_request_that_is_described() {
    let admin = Admin::new().await;
    let list = admin.get("/targets?route=smart&input_tokens=200000&output_tokens=100").await.body;
    assert_eq!(list["route"]["demand"]["input_tokens"], 200_000);
    assert_eq!(list["route"]["demand"]["output_tokens"], 100.0);
    let by_tier = ["sim/tide-small", "sim-anthropic/tide-large", "sim/tide-large"];
    for (target, id) in list["data"].as_array().unwrap().iter().zip(by_tier) {
        assert_eq!(target["id"], id);
        let score = &target["score"];
        let term = |name: &str| score[name].as_f64().unwrap();
        let sum = term("latency_seconds") * term("load_factor")
            + term("money_seconds")
            + term("failure_seconds");
        let total = sum * term("headroom_factor") * term("suspect_factor") / term("sticky_factor");
        assert!((total - term("total_seconds")).abs() < 1e-4, "{id}: {total} {score}");
        assert_eq!(target["score_seconds"], score["total_seconds"]);
        assert_eq!(score["is_assumed"], true);
    }
    // 128,000 tokens are not enough for twice as many.
    let long = admin.get("/targets?route=smart&input_tokens=400000").await.body;
    let small = &long["data"][0];
    assert_eq!(small["excluded"], "incapable");
    assert_eq!(small["score"]["expected_share"], 0.0);
    let lacking = small["score"]["lacking"][0].as_str().unwrap();
    assert_eq!(lacking, "context for 400000 tokens (it has 128000)");
    assert_eq!(long["data"][1]["score"]["expected_share"], 1.0);
    assert_eq!(long["data"][2]["score"]["expected_share"], 0.0);
    assert_eq!(long["data"][2]["score"]["share_of_tier"], 1.0);
}

#[tokio::test]
async fn a_target_is_drained_at_once_and_through_a_reload() {
    let admin = Admin::new().await;
    let route = admin.state.snapshot.load().resolve("smart").unwrap();
    let picks = |route: &Arc<config::Route>| {
        let group = admin.state.fleet.group(route);
        let order = group.order(&crate::fleet::Demand::usual(), Instant::now());
        let ids = order.picks.iter().map(|at| group.target(*at).unwrap().id.to_string());
        ids.collect::<Vec<_>>()
    };
    assert_eq!(picks(&route).len(), 3);
    let path = "/targets/sim%2Ftide-small";
    let before = admin.get(path).await;
    assert_eq!((before.status, &before.headers["etag"]), (200, &HeaderValue::from_static("\"0\"")));
    let drained = admin.call("PATCH", "/targets/sim/tide-small", r#"{"drained": true}"#).await;
    assert_eq!((drained.status, &drained.body["drained"]), (200, &json!(true)));
    assert_eq!(drained.body["excluded"], "drained");
    assert_eq!(drained.headers["etag"], "\"1\"");
    assert_eq!(picks(&route), ["sim-anthropic/tide-large", "sim/tide-large"]);

    let again = admin.call("PATCH", path, r#"{"drained": true}"#).await;
    assert_eq!((again.status, &again.headers["etag"]), (200, &drained.headers["etag"]));
    let stale = request("PATCH", path).header("if-match", "\"0\"");
    let reply = admin.send(stale, r#"{"drained": false}"#).await;
    assert_eq!(reply.problem(), "412 changed_meanwhile");

    let folder = tempfile::tempdir().unwrap();
    admin.state.snapshot.store(snapshot(folder.path()));
    let reloaded = admin.state.snapshot.load().resolve("smart").unwrap();
    assert_eq!(picks(&reloaded).len(), 2);
    assert_eq!(admin.get(path).await.body["drained"], true);

    let fresh = request("PATCH", path).header("if-match", "\"1\"");
    assert_eq!(admin.send(fresh, r#"{"drained": false}"#).await.headers["etag"], "\"2\"");
    assert_eq!(picks(&reloaded).len(), 3);
}
